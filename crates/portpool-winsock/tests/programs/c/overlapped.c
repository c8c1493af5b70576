/* Overlapped calls that complete at once: told like those that do not. */
#include <winsock2.h>
#include <mstcpip.h>
#include <pthread.h>
#include <ws2spi.h>

#include "check.h"

static int routine_count;
static DWORD routine_error, routine_bytes, routine_flags;
static LPWSAOVERLAPPED routine_overlapped;
static pthread_t routine_thread;

static void CALLBACK routine(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags)
{
    routine_count++;
    routine_error = error;
    routine_bytes = bytes;
    routine_overlapped = overlapped;
    routine_flags = flags;
    routine_thread = pthread_self();
}

static void with_event(void)
{
    SOCKET s = socket(AF_INET, SOCK_DGRAM, 0);
    INET_PORT_RANGE range = {0, 2};
    INET_PORT_RESERVATION_INSTANCE out;
    WSAOVERLAPPED overlapped;
    DWORD bytes = 0xdeadbeef, transferred = 7, flags = 7;
    memset(&overlapped, 0, sizeof overlapped);
    overlapped.hEvent = WSACreateEvent();
    CHECK(overlapped.hEvent != WSA_INVALID_EVENT);
    CHECK(WSAWaitForMultipleEvents(1, &overlapped.hEvent, FALSE, 0, FALSE) == WSA_WAIT_TIMEOUT);
    CHECK(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, NULL) == 0);
    CHECK(bytes == 16 && HasOverlappedIoCompleted(&overlapped));
    CHECK(WSAWaitForMultipleEvents(1, &overlapped.hEvent, TRUE, WSA_INFINITE, FALSE) == WSA_WAIT_EVENT_0);
    CHECK(WSAGetOverlappedResult(s, &overlapped, &transferred, FALSE, &flags));
    CHECK(transferred == 16 && flags == 0);
    CHECK(WSAGetOverlappedResult(s, &overlapped, &transferred, TRUE, &flags));
    CHECK(token_of(&out) != 0);

    /* A failure that is found at once is answered directly. */
    CHECK(WSAResetEvent(overlapped.hEvent));
    range.StartPort = out.Reservation.StartPort;
    FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, NULL), WSAEADDRINUSE);
    CHECK(WSAWaitForMultipleEvents(1, &overlapped.hEvent, FALSE, 0, FALSE) == WSA_WAIT_TIMEOUT);
    CHECK(WSACloseEvent(overlapped.hEvent));
    CHECK(!WSACloseEvent(overlapped.hEvent) && WSAGetLastError() == WSA_INVALID_HANDLE);
    CHECK(!WSASetEvent(overlapped.hEvent) && WSAGetLastError() == WSA_INVALID_HANDLE);
    CHECK(WSAWaitForMultipleEvents(1, &overlapped.hEvent, FALSE, 0, FALSE) == WSA_WAIT_FAILED);
    CHECK(closesocket(s) == 0);
}

static void with_routine(void)
{
    SOCKET s = socket(AF_INET, SOCK_DGRAM, 0), plain;
    INET_PORT_RANGE range = {0, 2};
    INET_PORT_RESERVATION_INSTANCE out;
    INET_PORT_RESERVATION_TOKEN token;
    WSAOVERLAPPED overlapped;
    DWORD bytes = 7;
    int i;
    memset(&overlapped, 0, sizeof overlapped);
    overlapped.hEvent = (HANDLE)0x1234567;
    CHECK(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine) == 0);
    CHECK(bytes == 16 && routine_count == 0);
    CHECK(SleepEx(0, FALSE) == 0 && routine_count == 0);
    CHECK(SleepEx(10000, TRUE) == WAIT_IO_COMPLETION && routine_count == 1);
    CHECK(routine_error == 0 && routine_bytes == 16 && routine_flags == 0);
    CHECK(routine_overlapped == &overlapped && overlapped.hEvent == (HANDLE)0x1234567);
    CHECK(pthread_equal(routine_thread, pthread_self()));
    CHECK(SleepEx(0, TRUE) == 0 && routine_count == 1);

    token.Token = token_of(&out);
    CHECK(WSAIoctl(s, SIO_ASSOCIATE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes, &overlapped, routine) == 0);
    {
        /* A signalled event goes before a routine. */
        HANDLE event = CreateEvent(NULL, FALSE, TRUE, NULL);
        CHECK(WaitForSingleObjectEx(event, INFINITE, TRUE) == WAIT_OBJECT_0 && routine_count == 1);
        CHECK(WaitForSingleObjectEx(event, INFINITE, TRUE) == WAIT_IO_COMPLETION);
        CHECK(routine_count == 2 && routine_bytes == 0);
        CHECK(CloseHandle(event));
    }

    /* Without a structure, or on a socket that is not overlapped, the routine is ignored. */
    CHECK(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, NULL, routine) == 0);
    plain = WSASocketW(AF_INET, SOCK_DGRAM, 0, NULL, 0, 0);
    overlapped.Internal = 77;
    CHECK(WSAIoctl(plain, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine) == 0);
    CHECK(SleepEx(0, TRUE) == 0 && routine_count == 2 && overlapped.Internal == 77);

    for (i = 0; i < 3; i++)
        CHECK(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine) == 0);
    CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && routine_count == 5);
    FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, (LPWSAOVERLAPPED)8, routine), WSAEFAULT);
    FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, NULL, &overlapped, routine), WSAEFAULT);
    CHECK(WSAIoctl(s, SIO_FLUSH, NULL, 0, NULL, 0, &bytes, NULL, NULL) == 0 && bytes == 0);
    CHECK(!CancelIoEx((HANDLE)s, NULL) && GetLastError() == ERROR_NOT_FOUND);
    CHECK(CancelIo((HANDLE)s));
    CHECK(closesocket(s) == 0 && closesocket(plain) == 0);
}

static void *set_later(void *events)
{
    CHECK(SleepEx(20, FALSE) == 0);
    CHECK(SetEvent(((HANDLE *)events)[0]) && SetEvent(((HANDLE *)events)[1]));
    return NULL;
}

static void events(void)
{
    HANDLE both[2], many[65];
    pthread_t thread;
    int i;
    both[0] = CreateEvent(NULL, FALSE, FALSE, NULL);
    both[1] = WSACreateEvent();
    for (i = 0; i < 65; i++)
        many[i] = both[1];
    CHECK(SetEvent(both[1]));
    CHECK(WaitForMultipleObjects(2, both, FALSE, INFINITE) == WAIT_OBJECT_0 + 1);
    CHECK(WaitForMultipleObjects(2, both, TRUE, 5) == WAIT_TIMEOUT);
    CHECK(ResetEvent(both[1]));
    CHECK(pthread_create(&thread, NULL, set_later, both) == 0);
    CHECK(WSAWaitForMultipleEvents(2, both, TRUE, WSA_INFINITE, TRUE) == WSA_WAIT_EVENT_0);
    CHECK(pthread_join(thread, NULL) == 0);
    /* The one resets by itself, the other does not. */
    CHECK(WaitForSingleObject(both[0], 0) == WAIT_TIMEOUT);
    CHECK(WaitForSingleObject(both[1], 0) == WAIT_OBJECT_0);
    CHECK(WaitForMultipleObjects(64, many, TRUE, 0) == WAIT_OBJECT_0);
    CHECK(WSAWaitForMultipleEvents(65, many, FALSE, 0, FALSE) == WSA_WAIT_FAILED);
    CHECK(WSAGetLastError() == WSA_INVALID_PARAMETER);
    CHECK(WSAWaitForMultipleEvents(0, many, FALSE, 0, FALSE) == WSA_WAIT_FAILED);
    CHECK(CreateEventA(NULL, TRUE, TRUE, "named") == NULL && GetLastError() == ERROR_NOT_SUPPORTED);
    CHECK(CloseHandle(both[0]) && CloseHandle(both[1]) && !CloseHandle(both[0]));
    CHECK(GetLastError() == ERROR_INVALID_HANDLE);
}

static void *other_thread(void *thread)
{
    int error = 0;
    CHECK(WPUQueueApc((LPWSATHREADID)thread, (LPWSAUSERAPC)exit, 9, NULL) == SOCKET_ERROR);
    CHECK(WPUOpenCurrentThread((LPWSATHREADID)thread, &error) == 0);
    return NULL;
}

static int apc_sum;

static void CALLBACK apc(DWORD_PTR context)
{
    apc_sum += (int)context;
}

static int upcall_count;

static int WSPAPI upcall(LPWSATHREADID thread, LPWSAUSERAPC function, DWORD_PTR context, LPINT error)
{
    upcall_count++;
    return WPUQueueApc(thread, function, context, error);
}

static void provider(void)
{
    WSPDATA data;
    WSPPROC_TABLE table;
    WSPUPCALLTABLE upcalls;
    WSAPROTOCOL_INFOW info;
    WSATHREADID thread, ended;
    INET_PORT_RANGE range = {0, 2};
    INET_PORT_RESERVATION_INSTANCE out;
    WSAOVERLAPPED overlapped;
    DWORD bytes = 7;
    int error = 0;
    pthread_t other;
    SOCKET s;
    memset(&upcalls, 0, sizeof upcalls);
    memset(&info, 0, sizeof info);
    memset(&overlapped, 0, sizeof overlapped);
    CHECK(WSPStartup(MAKEWORD(2, 2), &data, &info, upcalls, &table) == 0);
    CHECK(data.wVersion == 0x0202 && table.lpWSPIoctl == WSPIoctl && table.lpWSPAccept == NULL);
    s = table.lpWSPSocket(AF_INET, SOCK_STREAM, 0, NULL, 0, WSA_FLAG_OVERLAPPED, &error);
    CHECK(s != INVALID_SOCKET);

    WSASetLastError(4711);
    CHECK(table.lpWSPIoctl(s, 1, NULL, 0, NULL, 0, &bytes, NULL, NULL, NULL, &error) == SOCKET_ERROR);
    CHECK(error == WSAEOPNOTSUPP && WSAGetLastError() == 4711);
    CHECK(WSPIoctl(s, 1, NULL, 0, NULL, 0, &bytes, NULL, NULL, NULL, NULL) == SOCKET_ERROR);

    CHECK(WPUOpenCurrentThread(&thread, &error) == 0);
    CHECK(WPUQueueApc(&thread, apc, 5, &error) == 0 && WPUQueueApc(&thread, apc, 6, &error) == 0);
    CHECK(apc_sum == 0 && SleepEx(0, TRUE) == WAIT_IO_COMPLETION && apc_sum == 11);

    CHECK(WSPIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine, NULL, &error) == SOCKET_ERROR);
    CHECK(error == WSAEFAULT);
    CHECK(WSPIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine, &thread, &error) == 0);
    CHECK(SleepEx(0, TRUE) == WAIT_IO_COMPLETION && routine_count == 6);

    upcalls.lpWPUQueueApc = upcall;
    CHECK(WSPStartup(MAKEWORD(2, 2), &data, &info, upcalls, &table) == 0);
    CHECK(WSPIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, &bytes, &overlapped, routine, &thread, &error) == 0);
    CHECK(upcall_count == 1 && routine_count == 6);
    CHECK(SleepEx(0, TRUE) == WAIT_IO_COMPLETION && routine_count == 7);
    CHECK(table.lpWSPCleanup(&error) == 0);

    memset(&ended, 0, sizeof ended);
    CHECK(pthread_create(&other, NULL, other_thread, &ended) == 0 && pthread_join(other, NULL) == 0);
    CHECK(WPUQueueApc(&ended, apc, 1, &error) == SOCKET_ERROR && error == WSAEFAULT);
    CHECK(WPUCloseThread(&ended, &error) == 0);
    CHECK(WPUCloseThread(&thread, &error) == 0);
    CHECK(WPUQueueApc(&thread, apc, 1, &error) == SOCKET_ERROR && error == WSAEFAULT);
    CHECK(table.lpWSPCloseSocket(s, &error) == 0);
    CHECK(table.lpWSPCleanup(&error) == 0);
}

int main(void)
{
    start();
    events();
    with_event();
    with_routine();
    provider();
    CHECK(WSACleanup() == 0);
    CHECK(!WSAGetOverlappedResult(3, NULL, NULL, FALSE, NULL) && WSAGetLastError() == WSANOTINITIALISED);
    return 0;
}
