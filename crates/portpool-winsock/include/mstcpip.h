/* Control codes and layouts of port reservations; own text, no part of an SDK. */
#ifndef PORTPOOL_WS_MSTCPIP_H
#define PORTPOOL_WS_MSTCPIP_H

#include "portpool_ws/sockets.h"
#include "portpool_ws/types.h"

#define SIO_ACQUIRE_PORT_RESERVATION _WSAIOW(IOC_VENDOR, 100)
#define SIO_RELEASE_PORT_RESERVATION _WSAIOW(IOC_VENDOR, 101)
#define SIO_ASSOCIATE_PORT_RESERVATION _WSAIOW(IOC_VENDOR, 102)

/* StartPort is in network byte order, NumberOfPorts in that of the host. */
typedef struct _INET_PORT_RANGE {
    USHORT StartPort;
    USHORT NumberOfPorts;
} INET_PORT_RANGE, *PINET_PORT_RANGE;

typedef INET_PORT_RANGE INET_PORT_RESERVATION, *PINET_PORT_RESERVATION;

typedef struct {
    ULONG64 Token;
} INET_PORT_RESERVATION_TOKEN, *PINET_PORT_RESERVATION_TOKEN;

#define INVALID_PORT_RESERVATION_TOKEN ((ULONG64)0)

/* In C the members of the parts are those of the whole, in C++ the parts have names. Both have the
 * one layout. */
#ifdef __cplusplus
typedef struct {
    INET_PORT_RESERVATION Reservation;
    INET_PORT_RESERVATION_TOKEN Token;
} INET_PORT_RESERVATION_INSTANCE, *PINET_PORT_RESERVATION_INSTANCE;
#else
typedef struct {
    __extension__ union {
        INET_PORT_RESERVATION Reservation;
        __extension__ struct {
            USHORT StartPort;
            USHORT NumberOfPorts;
        };
    };
    ULONG64 Token;
} INET_PORT_RESERVATION_INSTANCE, *PINET_PORT_RESERVATION_INSTANCE;
#endif

typedef struct {
    ULONG OwningPid;
} INET_PORT_RESERVATION_INFORMATION, *PINET_PORT_RESERVATION_INFORMATION;

PORTPOOL_WS_STATIC_ASSERT(SIO_ACQUIRE_PORT_RESERVATION == 0x98000064, "control code");
PORTPOOL_WS_STATIC_ASSERT(SIO_RELEASE_PORT_RESERVATION == 0x98000065, "control code");
PORTPOOL_WS_STATIC_ASSERT(SIO_ASSOCIATE_PORT_RESERVATION == 0x98000066, "control code");
PORTPOOL_WS_LAYOUT(INET_PORT_RANGE, 4, 2);
PORTPOOL_WS_LAYOUT(INET_PORT_RESERVATION, 4, 2);
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RANGE, StartPort) == 0, "layout of INET_PORT_RANGE");
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RANGE, NumberOfPorts) == 2,
                          "layout of INET_PORT_RANGE");
PORTPOOL_WS_LAYOUT(INET_PORT_RESERVATION_TOKEN, 8, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RESERVATION_TOKEN, Token) == 0,
                          "layout of INET_PORT_RESERVATION_TOKEN");
PORTPOOL_WS_LAYOUT(INET_PORT_RESERVATION_INSTANCE, 16, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RESERVATION_INSTANCE, Reservation) == 0,
                          "layout of INET_PORT_RESERVATION_INSTANCE");
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RESERVATION_INSTANCE, Token) == 8,
                          "layout of INET_PORT_RESERVATION_INSTANCE");
PORTPOOL_WS_LAYOUT(INET_PORT_RESERVATION_INFORMATION, 4, 4);
PORTPOOL_WS_STATIC_ASSERT(offsetof(INET_PORT_RESERVATION_INFORMATION, OwningPid) == 0,
                          "layout of INET_PORT_RESERVATION_INFORMATION");

#endif
