/* Reserves four TCP ports, listens on one of them and gives them back. */
#include <winsock2.h>
#include <mstcpip.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what)
{
    int error = WSAGetLastError();
    printf("%s: error %d: %s\n", what, error, portpool_wsa_strerror(error));
    return 1;
}

int main(void)
{
    WSADATA data;
    INET_PORT_RANGE any = {0, 4};
    INET_PORT_RESERVATION_INSTANCE block;
    INET_PORT_RESERVATION_TOKEN token;
    struct sockaddr_in name;
    int len = sizeof name;
    DWORD bytes;
    SOCKET owner, listener;

    if (WSAStartup(MAKEWORD(2, 2), &data) != 0)
        return 1;
    /* The reservation lives as long as this socket. */
    owner = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (owner == INVALID_SOCKET)
        return failed("socket");
    if (WSAIoctl(owner, SIO_ACQUIRE_PORT_RESERVATION, &any, sizeof any, &block, sizeof block, &bytes,
                 NULL, NULL) != 0)
        return failed("acquire");
    printf("reserved %u ports from %u\n", block.NumberOfPorts, ntohs(block.StartPort));

    listener = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    token.Token = block.Token;
    if (WSAIoctl(listener, SIO_ASSOCIATE_PORT_RESERVATION, &token, sizeof token, NULL, 0, &bytes, NULL,
                 NULL) != 0)
        return failed("associate");
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&name, sizeof name) != 0)
        return failed("bind");
    if (listen(listener, SOMAXCONN) != 0)
        return failed("listen");
    if (getsockname(listener, (struct sockaddr *)&name, &len) != 0)
        return failed("getsockname");
    printf("listening on port %u\n", ntohs(name.sin_port));

    if (WSAIoctl(owner, SIO_RELEASE_PORT_RESERVATION, &token, sizeof token, NULL, 0, &bytes, NULL,
                 NULL) != 0)
        return failed("release");
    printf("released; the listener keeps its port\n");
    closesocket(listener);
    closesocket(owner);
    WSACleanup();
    return 0;
}
