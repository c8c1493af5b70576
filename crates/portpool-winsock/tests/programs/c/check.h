/* What the programs beside it share: a check that says where it failed. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("%s:%d: %s (last error %d)\n", __FILE__, __LINE__, #what, WSAGetLastError());   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The call fails, with this error. */
#define FAILS(call, error)                                                                         \
    do {                                                                                           \
        WSASetLastError(0);                                                                        \
        int answer_of_call = (int)(call);                                                          \
        if (answer_of_call != SOCKET_ERROR || WSAGetLastError() != (error)) {                      \
            printf("%s:%d: %s answered %d, error %d, not %s\n", __FILE__, __LINE__, #call,         \
                   answer_of_call, WSAGetLastError(), #error);                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static __inline__ void start(void)
{
    WSADATA data;
    CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
    CHECK(data.wVersion == 0x0202 && data.wHighVersion == 0x0202);
}

static __inline__ int acquire(SOCKET s, USHORT first, USHORT count, INET_PORT_RESERVATION_INSTANCE *out)
{
    INET_PORT_RANGE range;
    DWORD bytes = 0xdeadbeef;
    int answer;
    range.StartPort = htons(first);
    range.NumberOfPorts = count;
    answer = WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, sizeof range, out, sizeof *out, &bytes,
                      NULL, NULL);
    CHECK(bytes == (answer == 0 ? 16 : 0));
    return answer;
}

static __inline__ int token_code(SOCKET s, DWORD code, ULONG64 token)
{
    INET_PORT_RESERVATION_TOKEN in;
    DWORD bytes = 0xdeadbeef;
    int answer;
    in.Token = token;
    answer = WSAIoctl(s, code, &in, sizeof in, NULL, 0, &bytes, NULL, NULL);
    CHECK(bytes == 0);
    return answer;
}

static __inline__ int associate(SOCKET s, ULONG64 token)
{
    return token_code(s, SIO_ASSOCIATE_PORT_RESERVATION, token);
}

static __inline__ int release(SOCKET s, ULONG64 token)
{
    return token_code(s, SIO_RELEASE_PORT_RESERVATION, token);
}

static __inline__ ULONG64 token_of(const INET_PORT_RESERVATION_INSTANCE *instance)
{
    ULONG64 token;
    memcpy(&token, &instance->Token, sizeof token);
    return token;
}

static __inline__ int bind_to(SOCKET s, ULONG address, USHORT port)
{
    struct sockaddr_in name;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(address);
    name.sin_port = htons(port);
    return bind(s, (struct sockaddr *)&name, sizeof name);
}

static __inline__ USHORT port_of(SOCKET s)
{
    struct sockaddr_storage name;
    int len = sizeof name;
    CHECK(getsockname(s, (struct sockaddr *)&name, &len) == 0);
    return ntohs(((struct sockaddr_in *)&name)->sin_port);
}

#endif
