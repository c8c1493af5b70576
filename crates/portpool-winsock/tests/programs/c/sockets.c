/* The calls around reservations: options, waiting for sockets, names, texts. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"

static SOCKET pair[2];

static void connect_pair(int family)
{
    SOCKET listener = socket(family, SOCK_STREAM, 0);
    struct sockaddr_storage name;
    int len = sizeof name;
    u_long on = 1;
    fd_set readable, writable;
    struct timeval time = {10, 0}, none = {0, 0};
    WSAPOLLFD poll[2];
    memset(&name, 0, sizeof name);
    name.ss_family = (ADDRESS_FAMILY)family;
    if (family == AF_INET6)
        ((struct sockaddr_in6 *)&name)->sin6_addr = in6addr_loopback;
    else
        ((struct sockaddr_in *)&name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&name, sizeof name) == 0);
    FAILS(bind(listener, (struct sockaddr *)&name, sizeof name), WSAEINVAL);
    CHECK(listen(listener, 5) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    CHECK(name.ss_family == family && len == (family == AF_INET6 ? 28 : 16));

    CHECK(ioctlsocket(listener, FIONBIO, &on) == 0);
    FAILS(accept(listener, NULL, NULL), WSAEWOULDBLOCK);
    FD_ZERO(&readable);
    FD_SET(listener, &readable);
    CHECK(select(0, &readable, NULL, NULL, &none) == 0 && readable.fd_count == 0);

    pair[0] = socket(family, SOCK_STREAM, IPPROTO_TCP);
    CHECK(connect(pair[0], (struct sockaddr *)&name, len) == 0);
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(listener, &readable);
    FD_SET(listener, &readable);
    FD_SET(pair[0], &readable);
    FD_SET(pair[0], &writable);
    CHECK(readable.fd_count == 2);
    CHECK(select(0, &readable, &writable, NULL, &time) >= 1);
    CHECK(FD_ISSET(pair[0], &writable) && !FD_ISSET(pair[0], &readable));
    len = sizeof name;
    pair[1] = accept(listener, (struct sockaddr *)&name, &len);
    CHECK(pair[1] != INVALID_SOCKET && name.ss_family == family);
    len = sizeof name;
    CHECK(getpeername(pair[1], (struct sockaddr *)&name, &len) == 0 && name.ss_family == family);
    /* It is non-blocking as its listener is. */
    {
        char byte;
        FAILS(recv(pair[1], &byte, 1, 0), WSAEWOULDBLOCK);
    }
    CHECK(send(pair[0], "abc", 3, 0) == 3);
    poll[0].fd = pair[1];
    poll[0].events = POLLIN;
    poll[1].fd = pair[0];
    poll[1].events = POLLOUT | POLLIN;
    CHECK(WSAPoll(poll, 2, 10000) == 2);
    CHECK(poll[0].revents == POLLRDNORM && poll[1].revents == POLLOUT);
    on = 0;
    CHECK(ioctlsocket(pair[1], FIONREAD, &on) == 0 && on == 3);
    poll[1].fd = 4000;
    CHECK(WSAPoll(poll, 2, -1) == 2 && poll[1].revents == POLLNVAL);
    CHECK(shutdown(pair[0], SD_SEND) == 0);
    FAILS(send(pair[0], "x", 1, 0), WSAESHUTDOWN);
    CHECK(closesocket(pair[0]) == 0 && closesocket(pair[1]) == 0 && closesocket(listener) == 0);
}

static int option(SOCKET s, int level, int name)
{
    int value = -1, len = sizeof value;
    CHECK(getsockopt(s, level, name, (char *)&value, &len) == 0 && len == 4);
    return value;
}

static void options(void)
{
    SOCKET s = socket(AF_INET6, SOCK_STREAM, 0);
    int on = 1, off = 0, len;
    DWORD time = 1500;
    struct linger linger = {1, 3};
    CHECK(option(s, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
    CHECK(setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, (char *)&off, sizeof off) == 0);
    CHECK(option(s, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
    CHECK(option(s, SOL_SOCKET, SO_EXCLUSIVEADDRUSE) == 1);
    CHECK(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, (char *)&on, sizeof on) == 0);
    CHECK(option(s, SOL_SOCKET, SO_REUSEADDR) == 1);
    CHECK(setsockopt(s, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (char *)&on, sizeof on) == 0);
    CHECK(option(s, SOL_SOCKET, SO_REUSEADDR) == 0);
    CHECK(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, (char *)&on, 1) == 0);
    CHECK(option(s, IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, (char *)&time, sizeof time) == 0);
    time = 0;
    len = sizeof time;
    CHECK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, (char *)&time, &len) == 0);
    CHECK(time >= 1500 && time < 1600);
    CHECK(setsockopt(s, SOL_SOCKET, SO_LINGER, (char *)&linger, sizeof linger) == 0);
    memset(&linger, 0, sizeof linger);
    len = sizeof linger;
    CHECK(getsockopt(s, SOL_SOCKET, SO_LINGER, (char *)&linger, &len) == 0);
    CHECK(len == 4 && linger.l_onoff == 1 && linger.l_linger == 3);
    CHECK(option(s, SOL_SOCKET, SO_TYPE) == SOCK_STREAM && option(s, SOL_SOCKET, SO_ERROR) == 0);
    FAILS(setsockopt(s, SOL_SOCKET, 0x7777, (char *)&on, sizeof on), WSAENOPROTOOPT);
    FAILS(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, NULL, sizeof on), WSAEFAULT);
    CHECK(closesocket(s) == 0);
}

static void datagrams(void)
{
    SOCKET a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, 0, IPPROTO_UDP);
    struct sockaddr_in to, from;
    int len = sizeof to;
    char text[4];
    CHECK(bind_to(a, INADDR_LOOPBACK, 0) == 0 && bind_to(b, INADDR_LOOPBACK, 0) == 0);
    CHECK(getsockname(b, (struct sockaddr *)&to, &len) == 0);
    CHECK(sendto(a, "12345", 5, 0, (struct sockaddr *)&to, len) == 5);
    CHECK(sendto(a, "xyz", 3, 0, (struct sockaddr *)&to, len) == 3);
    FAILS(recvfrom(b, text, 4, 0, NULL, NULL), WSAEMSGSIZE);
    len = sizeof from;
    CHECK(recvfrom(b, text, 4, 0, (struct sockaddr *)&from, &len) == 3 && memcmp(text, "xyz", 3) == 0);
    CHECK(len == sizeof from && ntohs(from.sin_port) == port_of(a));
    FAILS(recv(b, text, 4, 0x4000), WSAEOPNOTSUPP);
    CHECK(closesocket(a) == 0 && closesocket(b) == 0);
}

static void names(void)
{
    struct addrinfo hints, *list;
    struct in_addr four;
    struct in6_addr six;
    char text[INET6_ADDRSTRLEN], service[8];
    u_short network = 0;
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_INET6;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    CHECK(getaddrinfo("::1", "80", &hints, &list) == 0);
    CHECK(list->ai_family == AF_INET6 && list->ai_addrlen == 28 && list->ai_next == NULL);
    CHECK(list->ai_addr->sa_family == AF_INET6 && list->ai_canonname == NULL);
    CHECK(ntohs(((struct sockaddr_in6 *)list->ai_addr)->sin6_port) == 80);
    CHECK(getnameinfo(list->ai_addr, (int)list->ai_addrlen, text, sizeof text, service, sizeof service,
                      NI_NUMERICHOST | NI_NUMERICSERV) == 0);
    CHECK(strcmp(text, "::1") == 0 && strcmp(service, "80") == 0);
    freeaddrinfo(list);
    CHECK(getaddrinfo("no address", "80", &hints, &list) == WSAHOST_NOT_FOUND);
    CHECK(WSAGetLastError() == WSAHOST_NOT_FOUND);
    CHECK(getaddrinfo("::1", "80", &hints, NULL) == WSAEFAULT);
    hints.ai_family = 10;
    CHECK(getaddrinfo("::1", "80", &hints, &list) == WSAEAFNOSUPPORT);

    CHECK(inet_pton(AF_INET, "127.0.0.1", &four) == 1 && four.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(inet_pton(AF_INET6, "::1", &six) == 1 && memcmp(&six, &in6addr_loopback, 16) == 0);
    CHECK(inet_pton(AF_INET, "127.0.0", &four) == 0);
    FAILS(inet_pton(10, "::1", &six), WSAEAFNOSUPPORT);
    CHECK(inet_ntop(AF_INET6, &six, text, sizeof text) == text && strcmp(text, "::1") == 0);
    CHECK(inet_ntop(AF_INET, &four, text, 3) == NULL);
    CHECK(inet_addr("1.2.3.4") == htonl(0x01020304) && inet_addr("x") == INADDR_NONE);
    CHECK(strcmp(inet_ntoa(four), "127.0.0.1") == 0);
    CHECK(WSAHtons(s, 0x1234, &network) == 0 && network == htons(0x1234));
    FAILS(WSAHtons(s, 0x1234, NULL), WSAEFAULT);
    FAILS(WSANtohs(4000, 0x1234, &network), WSAENOTSOCK);
    CHECK(closesocket(s) == 0);
}

static void texts(void)
{
    char text[256], *own = NULL;
    WCHAR wide[256];
    DWORD len = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL,
                               WSAEADDRINUSE, 0, text, sizeof text, NULL);
    CHECK(len > 10 && strlen(text) == len && strcmp(text + len - 2, "\r\n") == 0);
    CHECK(strncmp(text, portpool_wsa_strerror(WSAEADDRINUSE), len - 2) == 0);
    CHECK(FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_ALLOCATE_BUFFER, NULL,
                         WSAEADDRINUSE, 0, (LPSTR)&own, 0, NULL) == len);
    CHECK(strcmp(own, text) == 0);
    CHECK(LocalFree(own) == NULL);
    CHECK(FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM, NULL, WSAEADDRINUSE, 0, wide, 256, NULL) == len);
    CHECK(wide[0] == (WCHAR)text[0] && wide[len] == 0 && wide[len - 1] == '\n');
    CHECK(FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM, NULL, 123456, 0, text, sizeof text, NULL) == 0);
    CHECK(FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM, NULL, WSAEADDRINUSE, 0, text, 5, NULL) == 0);
    CHECK(GetLastError() == ERROR_INSUFFICIENT_BUFFER);
    CHECK(portpool_wsa_strerror(-1) != NULL);
}

static void *receive(void *socket)
{
    char data[4];
    recv(*(SOCKET *)socket, data, sizeof data, 0);
    return NULL;
}

static void *wait_for_a_peer(void *socket)
{
    CHECK(accept(*(SOCKET *)socket, NULL, NULL) == INVALID_SOCKET);
    return NULL;
}

/* Who waits on a socket waits no longer than until it is closed. */
static void closing(void)
{
    static void *(*const WAITS[2])(void *) = {receive, wait_for_a_peer};
    static const int TYPES[2] = {SOCK_DGRAM, SOCK_STREAM};
    int i;
    alarm(20);
    for (i = 0; i < 2; i++) {
        SOCKET s = socket(AF_INET, TYPES[i], 0);
        pthread_t thread;
        CHECK(bind_to(s, INADDR_LOOPBACK, 0) == 0 && (i == 0 || listen(s, 1) == 0));
        CHECK(pthread_create(&thread, NULL, WAITS[i], &s) == 0);
        usleep(100000);
        CHECK(closesocket(s) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    alarm(0);
}

int main(void)
{
    WSADATA data;
    CHECK(WSAStartup(0, &data) == WSAVERNOTSUPPORTED && data.wHighVersion == 0x0202);
    CHECK(WSAStartup(MAKEWORD(9, 9), &data) == 0 && data.wVersion == 0x0202);
    start();
    CHECK(WSACleanup() == 0);
    FAILS(socket(5, SOCK_STREAM, 0), WSAEAFNOSUPPORT);
    FAILS(socket(AF_INET, 99, 0), WSAESOCKTNOSUPPORT);
    FAILS(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), WSAEPROTONOSUPPORT);
    connect_pair(AF_INET);
    connect_pair(AF_INET6);
    options();
    datagrams();
    names();
    texts();
    closing();
    CHECK(WSACleanup() == 0);
    return 0;
}
