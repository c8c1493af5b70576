/* Reserves ports without waiting for them: told by an event, by a routine, and as a service provider
 * is told. Only ports that automatic choice could pick take any time: for those a keeper is asked.
 *
 *     overlapped 40000 4
 */
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2spi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct request {
    WSAOVERLAPPED overlapped; /* first, so that the routine finds the rest */
    INET_PORT_RESERVATION_INSTANCE block;
    int is_done;
    DWORD error;
};

static int failed(const char *what, int error)
{
    printf("%s: error %d: %s\n", what, error, portpool_wsa_strerror(error));
    return 1;
}

static int show(const char *how, const struct request *request)
{
    if (request->error != 0)
        return failed(how, (int)request->error);
    printf("%s: %u ports from %u\n", how, request->block.NumberOfPorts, ntohs(request->block.StartPort));
    return 0;
}

static void CALLBACK done(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags)
{
    struct request *request = (struct request *)overlapped;
    (void)bytes;
    (void)flags;
    request->error = error;
    request->is_done = 1;
}

/* 0 if it is done or under way; the caller is told in either case. */
static int started(int answer, int error)
{
    return answer == 0 || error == WSA_IO_PENDING ? 0 : error;
}

static int by_event(SOCKET s, INET_PORT_RANGE range)
{
    struct request request;
    DWORD bytes, flags;
    int answer, error;
    memset(&request, 0, sizeof request);
    request.overlapped.hEvent = WSACreateEvent();
    answer = WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, sizeof range, &request.block,
                      sizeof request.block, &bytes, &request.overlapped, NULL);
    error = started(answer, WSAGetLastError());
    if (error != 0)
        return failed("acquire", error);
    WSAWaitForMultipleEvents(1, &request.overlapped.hEvent, FALSE, WSA_INFINITE, FALSE);
    if (!WSAGetOverlappedResult(s, &request.overlapped, &bytes, FALSE, &flags))
        request.error = (DWORD)WSAGetLastError();
    WSACloseEvent(request.overlapped.hEvent);
    return show("by event", &request);
}

static int by_routine(SOCKET s, INET_PORT_RANGE range)
{
    struct request request;
    DWORD bytes;
    int answer, error;
    memset(&request, 0, sizeof request);
    answer = WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, sizeof range, &request.block,
                      sizeof request.block, &bytes, &request.overlapped, done);
    error = started(answer, WSAGetLastError());
    if (error != 0)
        return failed("acquire", error);
    while (!request.is_done)
        SleepEx(INFINITE, TRUE);
    return show("by routine", &request);
}

static int by_provider(SOCKET s, INET_PORT_RANGE range)
{
    struct request request;
    WSPDATA data;
    WSPPROC_TABLE table;
    WSPUPCALLTABLE upcalls;
    WSAPROTOCOL_INFOW info;
    WSATHREADID thread;
    DWORD bytes;
    int answer, error = 0;
    memset(&request, 0, sizeof request);
    memset(&info, 0, sizeof info);
    memset(&upcalls, 0, sizeof upcalls);
    if (WSPStartup(MAKEWORD(2, 2), &data, &info, upcalls, &table) != 0 ||
        WPUOpenCurrentThread(&thread, &error) != 0)
        return failed("provider", error);
    answer = table.lpWSPIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, sizeof range, &request.block,
                              sizeof request.block, &bytes, &request.overlapped, done, &thread, &error);
    error = started(answer, error);
    while (error == 0 && !request.is_done)
        SleepEx(INFINITE, TRUE);
    WPUCloseThread(&thread, &answer);
    table.lpWSPCleanup(&answer);
    return error != 0 ? failed("acquire", error) : show("by provider", &request);
}

int main(int argc, char **argv)
{
    static int (*const ways[])(SOCKET, INET_PORT_RANGE) = {by_event, by_routine, by_provider};
    WSADATA data;
    INET_PORT_RANGE range;
    int i, failures = 0;
    if (argc != 3) {
        printf("usage: %s FIRST-PORT NUMBER-OF-PORTS\n", argv[0]);
        return 2;
    }
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0)
        return 1;
    range.StartPort = htons((USHORT)atoi(argv[1]));
    range.NumberOfPorts = (USHORT)atoi(argv[2]);
    for (i = 0; i < 3; i++) {
        /* The end of the socket is the end of the reservation. */
        SOCKET s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
        failures += ways[i](s, range);
        closesocket(s);
    }
    WSACleanup();
    return failures != 0;
}
