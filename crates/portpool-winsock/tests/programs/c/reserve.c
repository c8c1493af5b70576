/* Acquire, associate, bind and release, of TCP and UDP, and what is left after each. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>

#include "check.h"

static int is_embedded(void)
{
    const char *kind = getenv("PORTPOOL_POOL");
    return kind != NULL && strcmp(kind, "embedded") == 0;
}

static void flow(int type, int protocol)
{
    INET_PORT_RESERVATION_INSTANCE block, again;
    SOCKET owner = socket(AF_INET6, type, protocol);
    SOCKET sockets[5];
    USHORT first;
    int i;
    CHECK(owner != INVALID_SOCKET);
    CHECK(acquire(owner, 0, 4, &block) == 0);
    first = ntohs(block.Reservation.StartPort);
    CHECK(first != 0 && block.Reservation.NumberOfPorts == 4 && token_of(&block) != 0);

    FAILS(acquire(owner, first + 3, 2, &again), WSAEADDRINUSE);
    FAILS(bind_to(owner, INADDR_LOOPBACK, first), WSAEFAULT);

    for (i = 0; i < 5; i++) {
        sockets[i] = socket(AF_INET, type, protocol);
        CHECK(associate(sockets[i], token_of(&block)) == 0);
    }
    for (i = 0; i < 4; i++) {
        CHECK(bind_to(sockets[i], INADDR_LOOPBACK, 0) == 0);
        CHECK(port_of(sockets[i]) == first + i);
    }
    FAILS(bind_to(sockets[4], INADDR_LOOPBACK, 0), WSAENOBUFS);
    FAILS(bind_to(sockets[4], INADDR_LOOPBACK, first + 4), WSAEADDRNOTAVAIL);
    FAILS(associate(sockets[0], token_of(&block)), WSAEINVAL);
    CHECK(closesocket(sockets[2]) == 0);
    CHECK(bind_to(sockets[4], INADDR_LOOPBACK, 0) == 0);
    CHECK(port_of(sockets[4]) == first + 2);

    sockets[2] = socket(AF_INET, type, protocol);
    FAILS(bind_to(sockets[2], INADDR_LOOPBACK, first), is_embedded() ? WSAEADDRINUSE : WSAEACCES);
    CHECK(closesocket(sockets[4]) == 0);
    FAILS(bind_to(sockets[2], INADDR_ANY, first + 2), is_embedded() ? WSAEADDRINUSE : WSAEACCES);

    CHECK(associate(sockets[2], token_of(&block)) == 0);
    CHECK(release(sockets[0], token_of(&block)) == 0);
    FAILS(bind_to(sockets[2], INADDR_LOOPBACK, 0), WSAENOBUFS);
    FAILS(release(owner, token_of(&block)), WSAEINVAL);
    CHECK(port_of(sockets[0]) == first);
    for (i = 0; i < 4; i++)
        CHECK(closesocket(sockets[i]) == 0);
    CHECK(acquire(owner, first, 4, &block) == 0);

    /* The end of the owner socket is the end of what it owns. */
    CHECK(acquire(owner, 0, 2, &again) == 0);
    CHECK(closesocket(owner) == 0);
    owner = socket(AF_INET, type, protocol);
    CHECK(acquire(owner, first, 4, &block) == 0);
    CHECK(acquire(owner, ntohs(again.Reservation.StartPort), 2, &again) == 0);
    CHECK(closesocket(owner) == 0);
}

/* A socket that is not bound takes a port of the block when it sends or connects. */
static void implicit(void)
{
    INET_PORT_RESERVATION_INSTANCE tcp, udp;
    SOCKET owner = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);
    SOCKET other = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
    SOCKET accepted;
    struct sockaddr_in peer;
    int len = sizeof peer;
    char text[8];
    CHECK(bind_to(listener, INADDR_LOOPBACK, 0) == 0);
    CHECK(listen(listener, SOMAXCONN) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&peer, &len) == 0);
    CHECK(len == sizeof peer && peer.sin_family == AF_INET);

    CHECK(acquire(owner, 0, 2, &tcp) == 0);
    CHECK(associate(owner, token_of(&tcp)) == 0);
    FAILS(getsockname(owner, (struct sockaddr *)&peer, &len), WSAEINVAL);
    FAILS(listen(owner, 1), WSAEINVAL);
    CHECK(connect(owner, (struct sockaddr *)&peer, sizeof peer) == 0);
    CHECK((USHORT)(port_of(owner) - ntohs(tcp.Reservation.StartPort)) < 2);
    accepted = accept(listener, (struct sockaddr *)&peer, &len);
    CHECK(accepted != INVALID_SOCKET && ntohs(peer.sin_port) == port_of(owner));
    CHECK(send(accepted, "hello", 6, 0) == 6);
    CHECK(recv(owner, text, sizeof text, 0) == 6 && strcmp(text, "hello") == 0);

    CHECK(acquire(other, 0, 2, &udp) == 0);
    CHECK(associate(other, token_of(&udp)) == 0);
    CHECK(sendto(other, "x", 1, 0, (struct sockaddr *)&peer, sizeof peer) == 1);
    CHECK((USHORT)(port_of(other) - ntohs(udp.Reservation.StartPort)) < 2);
    CHECK(closesocket(accepted) == 0 && closesocket(listener) == 0);
    CHECK(closesocket(owner) == 0 && closesocket(other) == 0);
}

int main(void)
{
    start();
    flow(SOCK_STREAM, IPPROTO_TCP);
    flow(SOCK_DGRAM, IPPROTO_UDP);
    implicit();
    CHECK(WSACleanup() == 0);
    FAILS(WSACleanup(), WSANOTINITIALISED);
    printf("done, %s\n", is_embedded() ? "embedded" : "kernel");
    return 0;
}
