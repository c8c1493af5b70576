/* Persistent port reservations; own text, no part of an SDK. */
#ifndef PORTPOOL_WS_IPHLPAPI_H
#define PORTPOOL_WS_IPHLPAPI_H

#include "portpool_ws/errors.h"
#include "portpool_ws/types.h"

PORTPOOL_WS_BEGIN

/* StartPort is in network byte order, NumberOfPorts in that of the host. The answer is the error. */
ULONG WINAPI CreatePersistentTcpPortReservation(USHORT StartPort, USHORT NumberOfPorts,
                                                PULONG64 Token);
ULONG WINAPI CreatePersistentUdpPortReservation(USHORT StartPort, USHORT NumberOfPorts,
                                                PULONG64 Token);
ULONG WINAPI LookupPersistentTcpPortReservation(USHORT StartPort, USHORT NumberOfPorts,
                                                PULONG64 Token);
ULONG WINAPI LookupPersistentUdpPortReservation(USHORT StartPort, USHORT NumberOfPorts,
                                                PULONG64 Token);
ULONG WINAPI DeletePersistentTcpPortReservation(USHORT StartPort, USHORT NumberOfPorts);
ULONG WINAPI DeletePersistentUdpPortReservation(USHORT StartPort, USHORT NumberOfPorts);

PORTPOOL_WS_END

#ifdef __cplusplus
/* On Windows uint64_t is ULONG64. Here it is another type of the same width, which C++ tells apart. A
 * template, for NULL to stay what it is. */
extern "C++" {
template <typename Word> struct portpool_ws_word;
template <> struct portpool_ws_word<unsigned long> {
    typedef ULONG answer;
};
#define PORTPOOL_WS_ANY_WORD(function)                                                             \
    template <typename Word>                                                                       \
    inline typename portpool_ws_word<Word>::answer function(USHORT StartPort,                      \
                                                            USHORT NumberOfPorts, Word *Token)     \
    {                                                                                              \
        return function(StartPort, NumberOfPorts, reinterpret_cast<PULONG64>(Token));              \
    }
PORTPOOL_WS_ANY_WORD(CreatePersistentTcpPortReservation)
PORTPOOL_WS_ANY_WORD(CreatePersistentUdpPortReservation)
PORTPOOL_WS_ANY_WORD(LookupPersistentTcpPortReservation)
PORTPOOL_WS_ANY_WORD(LookupPersistentUdpPortReservation)
#undef PORTPOOL_WS_ANY_WORD
}
#endif

#endif
