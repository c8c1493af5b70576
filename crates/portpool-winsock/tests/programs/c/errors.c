/* The errors of the control codes, and which of two faults is answered. */
#include <winsock2.h>
#include <mstcpip.h>

#include "check.h"

#define ACQUIRE SIO_ACQUIRE_PORT_RESERVATION
#define ASSOCIATE SIO_ASSOCIATE_PORT_RESERVATION
#define RELEASE SIO_RELEASE_PORT_RESERVATION

static DWORD bytes;

/* The call fails with this error and stores 0. */
#define REFUSED(s, code, in, in_len, out, out_len, error)                                          \
    do {                                                                                           \
        bytes = 0xdeadbeef;                                                                        \
        FAILS(WSAIoctl(s, code, in, in_len, out, out_len, &bytes, NULL, NULL), error);             \
        CHECK(bytes == 0);                                                                         \
    } while (0)

int main(void)
{
    INET_PORT_RANGE range = {htons(25000), 1};
    INET_PORT_RESERVATION_INSTANCE out;
    INET_PORT_RESERVATION_TOKEN token = {1234567};
    INET_PORT_RANGE none = {htons(25000), 0}, past = {htons(65535), 2}, any = {0, 60000};
    struct {
        INET_PORT_RESERVATION_INSTANCE instance;
        char tail[16];
    } large;
    SOCKET tcp, udp, raw, local;
    ULONG64 kept;

    FAILS(WSAIoctl(77, ACQUIRE, NULL, 0, NULL, 0, NULL, NULL, NULL), WSANOTINITIALISED);
    FAILS(socket(AF_INET, SOCK_STREAM, 0), WSANOTINITIALISED);
    start();
    tcp = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    udp = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    local = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(tcp != INVALID_SOCKET && udp != INVALID_SOCKET);
    CHECK(raw != INVALID_SOCKET && local != INVALID_SOCKET);

    FAILS(WSAIoctl(0, ACQUIRE, NULL, 0, NULL, 0, NULL, NULL, NULL), WSAENOTSOCK);
    FAILS(WSAIoctl(INVALID_SOCKET, ACQUIRE, NULL, 0, NULL, 0, NULL, NULL, NULL), WSAENOTSOCK);
    FAILS(WSAIoctl(tcp, 0x98000067, NULL, 0, NULL, 0, NULL, NULL, NULL), WSAEFAULT);
    FAILS(WSAIoctl(tcp, ACQUIRE, NULL, 0, NULL, 0, NULL, NULL, NULL), WSAEFAULT);
    REFUSED(raw, 0x98000067, NULL, 0, NULL, 0, WSAEOPNOTSUPP);
    REFUSED(tcp, 0xd8000065, &token, 8, NULL, 0, WSAEOPNOTSUPP);
    REFUSED(raw, ACQUIRE, NULL, 0, NULL, 0, WSAEOPNOTSUPP);
    REFUSED(local, RELEASE, NULL, 0, NULL, 0, WSAEOPNOTSUPP);

    /* Sizes before pointers: NULL with 0 is too small. */
    REFUSED(tcp, ACQUIRE, NULL, 0, NULL, 0, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, &range, 3, &out, 16, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, &range, 4, &out, 15, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, NULL, 4, &out, 15, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, NULL, 4, &out, 16, WSAEFAULT);
    REFUSED(tcp, ACQUIRE, &range, 4, NULL, 16, WSAEFAULT);
    REFUSED(tcp, ASSOCIATE, &token, 7, NULL, 0, WSAEINVAL);
    REFUSED(tcp, ASSOCIATE, NULL, 8, NULL, 0, WSAEFAULT);
    REFUSED(tcp, ASSOCIATE, &token, 8, &out, 8, WSAEINVAL);
    REFUSED(tcp, RELEASE, NULL, 8, NULL, 0, WSAEFAULT);
    REFUSED(tcp, RELEASE, &token, 8, NULL, 1, WSAEINVAL);
    REFUSED(tcp, RELEASE, &token, 8, NULL, 0, WSAEINVAL);

    REFUSED(tcp, ACQUIRE, &none, 4, &out, 16, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, &past, 4, &out, 16, WSAEINVAL);
    REFUSED(tcp, ACQUIRE, &any, 4, &out, 16, WSAENOBUFS);
    REFUSED(tcp, ASSOCIATE, &token, 8, NULL, 0, WSAEINVAL);
    CHECK(acquire(tcp, 65535, 1, &out) == 0);
    CHECK(release(tcp, token_of(&out)) == 0);

    memset(&large, 0x5a, sizeof large);
    CHECK(WSAIoctl(tcp, ACQUIRE, &range, 4, &large, sizeof large, &bytes, NULL, NULL) == 0);
    CHECK(bytes == 16 && large.tail[0] == 0x5a && large.tail[15] == 0x5a);
    kept = token_of(&large.instance);
    CHECK(acquire(udp, 25000, 1, &out) == 0);
    FAILS(associate(udp, kept), WSAEINVAL);
    FAILS(release(udp, kept), WSAEINVAL);
    FAILS(associate(tcp, 0), WSAEINVAL);

    /* The state of the socket before the token, the token before who may use it. */
    CHECK(associate(tcp, kept) == 0);
    CHECK(bind_to(tcp, INADDR_ANY, 0) == 0);
    FAILS(associate(tcp, 0), WSAEINVAL);
    CHECK(acquire(tcp, 25004, 2, &out) == 0);

    CHECK(closesocket(tcp) == 0);
    FAILS(closesocket(tcp), WSAENOTSOCK);
    REFUSED(tcp, ACQUIRE, &range, 4, &out, 16, WSAENOTSOCK);
    CHECK(WSACleanup() == 0);
    return 0;
}
