/* What the cases of the conformance suite stand on. */
#ifndef CONFORMANCE_SUITE_H
#define CONFORMANCE_SUITE_H

#include <winsock2.h>
#include <mstcpip.h>
#include <ws2tcpip.h>
#include <ws2spi.h>
#include <iphlpapi.h>
#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process.h"

#ifdef __cplusplus
#define LANGUAGE "C++"
#define TOKEN_OF(instance) ((instance).Token.Token)
#else
#define LANGUAGE "C"
#define TOKEN_OF(instance) ((instance).Token)
#endif
#define START_OF(instance) (ntohs((instance).Reservation.StartPort))
#define COUNT_OF(instance) ((instance).Reservation.NumberOfPorts)

/* Ends the case as failed, with what was seen. */
void fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* What was seen, for the report. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *what_was_seen(void);

#define EXPECT(what)                                                                               \
    do {                                                                                           \
        if (!(what)) fail(__FILE__, __LINE__, "not so: %s", #what);                                \
    } while (0)

#define EXPECT_EQUAL(seen, wanted)                                                                 \
    do {                                                                                           \
        long long seen_ = (long long)(seen), wanted_ = (long long)(wanted);                        \
        if (seen_ != wanted_)                                                                      \
            fail(__FILE__, __LINE__, "%s is %lld, not %s (%lld)", #seen, seen_, #wanted, wanted_); \
    } while (0)

/* The calls of the suite answer 0 or the Winsock code. */
int code_of(int result);
int acquire(SOCKET socket, unsigned start, unsigned count, INET_PORT_RESERVATION_INSTANCE *out);
int associate(SOCKET socket, ULONG64 token);
int release(SOCKET socket, ULONG64 token);
int control(SOCKET socket, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size,
            DWORD *count);
int bind_to(SOCKET socket, unsigned port); /* 127.0.0.1 */
int bind_at(SOCKET socket, int family, int is_any, unsigned port);

SOCKET new_socket(int family, int type);
SOCKET tcp(void);
SOCKET udp(void);
unsigned port_of(SOCKET socket);

/* A runtime reservation, as the checklist has it. */
struct reserved {
    SOCKET owner;
    unsigned port;
    unsigned count;
    ULONG64 token;
};
struct reserved reserve(int type, unsigned count);
int is_inside(struct reserved block, unsigned port);

/* The first of `count` ports that nobody has at the moment, of a transport. */
unsigned free_block(int type, unsigned count);

/* A socket of the block's process, associated; and one bound to port 0, too. */
SOCKET associated(struct reserved block);
SOCKET bound_in(struct reserved block);

/* The administered exclusion that was set up for the suite: 0 if there is none. */
unsigned excluded_port(void);

#define RESERVATION_CODES                                                                          \
    { SIO_ACQUIRE_PORT_RESERVATION, SIO_ASSOCIATE_PORT_RESERVATION, SIO_RELEASE_PORT_RESERVATION }

int peer_main(unsigned uid, const char *order);

#endif
