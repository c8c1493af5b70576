/* Cases 101 to 105: the service provider's side. */
#include "overlapped.h"

static WSPPROC_TABLE provider(void) {
    WSPPROC_TABLE table;
    WSPUPCALLTABLE upcalls;
    WSAPROTOCOL_INFOW protocol;
    WSPDATA data;
    memset(&table, 0, sizeof table);
    memset(&upcalls, 0, sizeof upcalls);
    memset(&protocol, 0, sizeof protocol);
    EXPECT_EQUAL(WSPStartup(MAKEWORD(2, 2), &data, &protocol, upcalls, &table), 0);
    EXPECT(table.lpWSPIoctl != NULL);
    return table;
}

/* 0 or the code that was stored. */
static int provider_control(LPWSPIOCTL ioctl, SOCKET socket, DWORD code, void *in, DWORD in_size,
                            void *out, DWORD out_size) {
    DWORD bytes = 0;
    int error = 0, result;
    WSASetLastError(4711);
    result = ioctl(socket, code, in, in_size, out, out_size, &bytes, NULL, NULL, NULL, &error);
    EXPECT_EQUAL(WSAGetLastError(), 4711);
    return result == 0 ? 0 : error;
}

void case_101(void) {
    INET_PORT_RESERVATION_TOKEN token;
    int error = 0;
    DWORD bytes = 0xdeadbeef;
    token.Token = 1;
    WSASetLastError(4711);
    EXPECT_EQUAL(WSPIoctl(tcp(), SIO_RELEASE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes, NULL, NULL,
                          NULL, &error), SOCKET_ERROR);
    detail("%d stored, last error %d unchanged", error, WSAGetLastError());
    EXPECT_EQUAL(error, WSAEINVAL);
    EXPECT_EQUAL(WSAGetLastError(), 4711);
    EXPECT_EQUAL(bytes, 0);
}

void case_102(void) {
    static struct operation pending;
    WSATHREADID thread;
    int error = 0, result;
    if (!has_keeper()) fail(__FILE__, __LINE__, "no keeper runs beside the suite");
    EXPECT_EQUAL(WPUOpenCurrentThread(&thread, &error), 0);
    memset(&pending, 0, sizeof pending);
    pending.range.StartPort = htons(EPHEMERAL_PORT + 90);
    pending.range.NumberOfPorts = 4;
    pending.socket = tcp();
    stop_keeper();
    result = WSPIoctl(pending.socket, SIO_ACQUIRE_PORT_RESERVATION, &pending.range, 4, &pending.instance,
                      16, &pending.bytes, &pending.overlapped, record_completion, &thread, &error);
    if (result == 0 || error != WSA_IO_PENDING) continue_keeper();
    EXPECT_EQUAL(result, SOCKET_ERROR);
    EXPECT_EQUAL(error, WSA_IO_PENDING);
    memset(&thread, 0xff, sizeof thread);
    continue_keeper();
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.calls, 1);
    EXPECT_EQUAL(completion.error, 0);
    EXPECT_EQUAL(completion.thread, this_thread());
    detail("the routine ran on the issuing thread");
}

void case_103(void) {
    LPWSPIOCTL ioctl = provider().lpWSPIoctl;
    INET_PORT_RESERVATION_INSTANCE instance;
    INET_PORT_RESERVATION_TOKEN token;
    INET_PORT_RANGE range;
    unsigned port = free_block(SOCK_STREAM, 4), bound;
    SOCKET owner = tcp(), made = tcp();
    range.StartPort = htons((USHORT)port);
    range.NumberOfPorts = 4;
    EXPECT_EQUAL(provider_control(ioctl, owner, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &instance, 16), 0);
    EXPECT_EQUAL(START_OF(instance), port);
    token.Token = TOKEN_OF(instance);
    EXPECT_EQUAL(provider_control(ioctl, made, SIO_ASSOCIATE_PORT_RESERVATION, &token, 8, NULL, 0), 0);
    EXPECT_EQUAL(bind_to(made, 0), 0);
    bound = port_of(made);
    EXPECT(bound >= port && bound < port + 4);
    EXPECT_EQUAL(provider_control(ioctl, owner, SIO_RELEASE_PORT_RESERVATION, &token, 8, NULL, 0), 0);
    EXPECT_EQUAL(provider_control(ioctl, owner, SIO_RELEASE_PORT_RESERVATION, &token, 8, NULL, 0),
                 WSAEINVAL);
    detail("acquired %u, bound %u, released", port, bound);
}

static void CALLBACK do_nothing(DWORD_PTR context) { (void)context; }

void case_104(void) {
    WSATHREADID thread;
    int error = 0;
    memset(&thread, 0, sizeof thread);
    EXPECT_EQUAL(WPUQueueApc(&thread, do_nothing, 0, &error), SOCKET_ERROR);
    EXPECT_EQUAL(error, WSAEFAULT);
    memset(&thread, 0xff, sizeof thread);
    error = 0;
    EXPECT_EQUAL(WPUQueueApc(&thread, do_nothing, 0, &error), SOCKET_ERROR);
    EXPECT_EQUAL(error, WSAEFAULT);
    detail("%d for zeros and for ones", error);
}

void case_105(void) {
    INET_PORT_RESERVATION_TOKEN token;
    DWORD bytes;
    token.Token = 1;
    EXPECT_EQUAL(WSPIoctl(tcp(), SIO_RELEASE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes, NULL, NULL,
                          NULL, NULL), SOCKET_ERROR);
    EXPECT_EQUAL(WSPIoctl(INVALID_SOCKET, SIO_RELEASE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes, NULL,
                          NULL, NULL, NULL), SOCKET_ERROR);
    detail("SOCKET_ERROR twice");
}
