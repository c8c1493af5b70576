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

#endif
