/* Operations that wait for a keeper, which does what files in its directory say. */
#include <winsock2.h>
#include <mstcpip.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ws2spi.h>

#include "check.h"

#define ACQUIRE SIO_ACQUIRE_PORT_RESERVATION

static char *file_name(const char *what, int port)
{
    static __thread char name[512];
    snprintf(name, sizeof name, "%s/%s-%d", getenv("PORTPOOL_RUN_DIR"), what, port);
    return name;
}

static void tell(const char *what, int port)
{
    FILE *file = fopen(file_name(what, port), "w");
    CHECK(file != NULL && fclose(file) == 0);
}

static void await_file(const char *what, int port)
{
    int tries;
    for (tries = 0; access(file_name(what, port), F_OK) != 0; tries++) {
        CHECK(tries < 20000);
        usleep(1000);
    }
}

static SOCKET tcp(void)
{
    SOCKET s = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    CHECK(s != INVALID_SOCKET);
    return s;
}

struct operation {
    INET_PORT_RANGE range;
    INET_PORT_RESERVATION_INSTANCE out;
    WSAOVERLAPPED overlapped;
    DWORD bytes;
    int routine_count;
    DWORD error, transferred, flags;
    pthread_t thread;
};

static void CALLBACK routine(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags)
{
    struct operation *op =
        (struct operation *)((char *)overlapped - offsetof(struct operation, overlapped));
    op->routine_count++;
    op->error = error;
    op->transferred = bytes;
    op->flags = flags;
    op->thread = pthread_self();
}

static void prepare(struct operation *op, USHORT port)
{
    memset(op, 0, sizeof *op);
    op->range.StartPort = htons(port);
    op->range.NumberOfPorts = 2;
    op->bytes = 0xdeadbeef;
}

static void issue(SOCKET s, struct operation *op, LPWSAOVERLAPPED_COMPLETION_ROUTINE done)
{
    USHORT port = ntohs(op->range.StartPort);
    FAILS(WSAIoctl(s, ACQUIRE, &op->range, 4, &op->out, 16, &op->bytes, &op->overlapped, done),
          WSA_IO_PENDING);
    CHECK(op->bytes == 0xdeadbeef && !HasOverlappedIoCompleted(&op->overlapped));
    /* The memory of the input is free again at once. */
    memset(&op->range, 0xff, sizeof op->range);
    await_file("asked", port);
}

static DWORD wait_event(struct operation *op, DWORD time)
{
    return WSAWaitForMultipleEvents(1, &op->overlapped.hEvent, FALSE, time, FALSE);
}

static void *grant_soon(void *port)
{
    await_file("asked", (int)(long)port);
    tell("grant", (int)(long)port);
    return NULL;
}

static void with_event(void)
{
    struct operation op;
    DWORD transferred = 77, flags = 77;
    SOCKET s = tcp(), other = tcp();
    pthread_t thread;
    prepare(&op, 40100);
    op.overlapped.hEvent = WSACreateEvent();
    CHECK(WSASetEvent(op.overlapped.hEvent));
    issue(s, &op, NULL);
    CHECK(wait_event(&op, 0) == WSA_WAIT_TIMEOUT);
    CHECK(!WSAGetOverlappedResult(s, &op.overlapped, &transferred, FALSE, &flags));
    CHECK(WSAGetLastError() == WSA_IO_INCOMPLETE && transferred == 77);
    tell("grant", 40100);
    CHECK(wait_event(&op, WSA_INFINITE) == WSA_WAIT_EVENT_0);
    CHECK(HasOverlappedIoCompleted(&op.overlapped) && op.overlapped.InternalHigh == 16);
    CHECK(WSAGetOverlappedResult(s, &op.overlapped, &transferred, FALSE, &flags));
    CHECK(transferred == 16 && flags == 0 && op.bytes == 0xdeadbeef);
    CHECK(op.out.Reservation.StartPort == htons(40100) && op.out.Reservation.NumberOfPorts == 2);
    CHECK(associate(other, token_of(&op.out)) == 0 && bind_to(other, INADDR_LOOPBACK, 0) == 0);
    CHECK(port_of(other) == 40100);

    /* Waiting blocks until it is done. */
    prepare(&op, 40110);
    op.overlapped.hEvent = WSACreateEvent();
    CHECK(pthread_create(&thread, NULL, grant_soon, (void *)40110L) == 0);
    issue(s, &op, NULL);
    CHECK(WSAGetOverlappedResult(s, &op.overlapped, &transferred, TRUE, &flags));
    CHECK(pthread_join(thread, NULL) == 0);

    /* Refused later: the operation has the code, and not the call. */
    prepare(&op, 40120);
    op.overlapped.hEvent = WSACreateEvent();
    issue(s, &op, NULL);
    tell("refuse", 40120);
    CHECK(wait_event(&op, WSA_INFINITE) == WSA_WAIT_EVENT_0);
    transferred = 77;
    CHECK(!WSAGetOverlappedResult(s, &op.overlapped, &transferred, TRUE, &flags));
    CHECK(WSAGetLastError() == WSAEADDRINUSE && transferred == 77);

    /* No event that could be waited for. */
    prepare(&op, 40130);
    op.overlapped.hEvent = (HANDLE)0x5554;
    issue(s, &op, NULL);
    CHECK(!WSAGetOverlappedResult(s, &op.overlapped, &transferred, TRUE, &flags));
    CHECK(WSAGetLastError() == WSA_INVALID_HANDLE);
    tell("grant", 40130);
    while (!WSAGetOverlappedResult(s, &op.overlapped, &transferred, FALSE, &flags))
        CHECK(WSAGetLastError() == WSA_IO_INCOMPLETE && usleep(1000) == 0);
}

static void with_routine(void)
{
    struct operation one, two;
    DWORD transferred, flags;
    SOCKET s = tcp();
    prepare(&one, 40200);
    prepare(&two, 40210);
    one.overlapped.hEvent = (HANDLE)0x77777777;
    issue(s, &one, routine);
    issue(s, &two, routine);
    CHECK(SleepEx(0, TRUE) == 0);
    tell("grant", 40200);
    /* It waits for the operation, and runs no routine meanwhile. */
    CHECK(WSAGetOverlappedResult(s, &one.overlapped, &transferred, TRUE, &flags));
    CHECK(transferred == 16 && one.routine_count == 0);
    CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && one.routine_count == 1);
    CHECK(one.error == 0 && one.transferred == 16 && one.flags == 0);
    CHECK(one.overlapped.hEvent == (HANDLE)0x77777777 && two.routine_count == 0);
    tell("refuse", 40210);
    CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && two.routine_count == 1);
    CHECK(two.error == WSAEADDRINUSE && two.transferred == 0);
}

static void *issue_and_end(void *operation)
{
    struct operation *op = (struct operation *)operation;
    issue((SOCKET)op->flags, op, NULL);
    return NULL;
}

static void cancelled(SOCKET s, struct operation *op, int port)
{
    DWORD transferred = 77, flags;
    CHECK(wait_event(op, WSA_INFINITE) == WSA_WAIT_EVENT_0);
    CHECK(!WSAGetOverlappedResult(s, &op->overlapped, &transferred, FALSE, &flags));
    CHECK(WSAGetLastError() == WSA_OPERATION_ABORTED && transferred == 77);
    await_file("gone", port);
}

static void cancel(void)
{
    struct operation op, kept;
    INET_PORT_RESERVATION_INSTANCE out;
    SOCKET s = tcp(), other = tcp();
    pthread_t thread;
    DWORD bytes;
    HANDLE event = WSACreateEvent();
#define PREPARE(port)                                                                              \
    prepare(&op, port);                                                                            \
    op.overlapped.hEvent = event

    prepare(&kept, 40300);
    kept.overlapped.hEvent = WSACreateEvent();
    issue(other, &kept, NULL);

    PREPARE(40310);
    issue(s, &op, NULL);
    CHECK(WSAIoctl(s, SIO_FLUSH, NULL, 0, NULL, 0, &bytes, NULL, NULL) == 0);
    cancelled(s, &op, 40310);

    PREPARE(40320);
    issue(s, &op, NULL);
    CHECK(!CancelIoEx((HANDLE)s, &kept.overlapped) && GetLastError() == ERROR_NOT_FOUND);
    CHECK(CancelIoEx((HANDLE)s, &op.overlapped));
    cancelled(s, &op, 40320);

    PREPARE(40330);
    issue(s, &op, NULL);
    CHECK(CancelIo((HANDLE)s));
    cancelled(s, &op, 40330);

    PREPARE(40340);
    op.flags = (DWORD)s;
    CHECK(pthread_create(&thread, NULL, issue_and_end, &op) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    cancelled(s, &op, 40340);

    PREPARE(40350);
    issue(s, &op, NULL);
    CHECK(closesocket(s) == 0);
    CHECK(wait_event(&op, WSA_INFINITE) == WSA_WAIT_EVENT_0);
    CHECK(op.overlapped.Internal == WSA_OPERATION_ABORTED);
    await_file("gone", 40350);

    s = tcp();
    prepare(&op, 40360);
    issue(s, &op, routine);
    CHECK(closesocket(s) == 0 && op.routine_count == 0);
    CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && op.routine_count == 1);
    CHECK(op.error == WSA_OPERATION_ABORTED && op.transferred == 0);

    /* Those of another socket were left alone, and nothing is reserved by what was cancelled. */
    CHECK(!HasOverlappedIoCompleted(&kept.overlapped));
    tell("grant", 40300);
    CHECK(wait_event(&kept, WSA_INFINITE) == WSA_WAIT_EVENT_0 && kept.overlapped.Internal == 0);
    tell("grant", 40310);
    CHECK(acquire(other, 40310, 2, &out) == 0);
}

static void *close_soon(void *socket)
{
    await_file("asked", 40410);
    CHECK(closesocket((SOCKET)(size_t)socket) == 0);
    return NULL;
}

static void synchronous(void)
{
    INET_PORT_RESERVATION_INSTANCE out;
    WSAOVERLAPPED overlapped;
    INET_PORT_RANGE range = {htons(40420), 2};
    SOCKET s = tcp(), plain = WSASocketA(AF_INET, SOCK_STREAM, 0, NULL, 0, 0);
    u_long on = 1;
    DWORD bytes = 0;
    pthread_t thread;
    CHECK(ioctlsocket(s, FIONBIO, &on) == 0);
    CHECK(pthread_create(&thread, NULL, grant_soon, (void *)40400L) == 0);
    CHECK(acquire(s, 40400, 2, &out) == 0 && out.Reservation.StartPort == htons(40400));
    CHECK(pthread_join(thread, NULL) == 0);

    CHECK(pthread_create(&thread, NULL, close_soon, (void *)(size_t)s) == 0);
    FAILS(acquire(s, 40410, 2, &out), WSAEINTR);
    CHECK(pthread_join(thread, NULL) == 0);
    await_file("gone", 40410);

    memset(&overlapped, 0x11, sizeof overlapped);
    CHECK(pthread_create(&thread, NULL, grant_soon, (void *)40420L) == 0);
    CHECK(WSAIoctl(plain, ACQUIRE, &range, 4, &out, 16, &bytes, &overlapped, routine) == 0);
    CHECK(bytes == 16 && overlapped.Internal == 0x1111111111111111ULL);
    CHECK(pthread_join(thread, NULL) == 0 && SleepEx(0, TRUE) == 0);
}

static int upcall_count;

static int WSPAPI upcall(LPWSATHREADID thread, LPWSAUSERAPC function, DWORD_PTR context, LPINT error)
{
    upcall_count++;
    return WPUQueueApc(thread, function, context, error);
}

static void provider(void)
{
    struct operation op;
    WSPDATA data;
    WSPPROC_TABLE table;
    WSPUPCALLTABLE upcalls;
    WSAPROTOCOL_INFOW info;
    WSATHREADID thread, copy;
    int error = 0, round;
    SOCKET s = tcp();
    memset(&info, 0, sizeof info);
    memset(&upcalls, 0, sizeof upcalls);
    CHECK(WPUOpenCurrentThread(&thread, &error) == 0);
    for (round = 0; round < 2; round++) {
        int port = 40500 + round * 10;
        if (round == 1)
            upcalls.lpWPUQueueApc = upcall;
        CHECK(WSPStartup(MAKEWORD(2, 2), &data, &info, upcalls, &table) == 0);
        copy = thread;
        prepare(&op, (USHORT)port);
        WSASetLastError(99);
        CHECK(table.lpWSPIoctl(s, ACQUIRE, &op.range, 4, &op.out, 16, &op.bytes, &op.overlapped,
                               routine, &copy, &error) == SOCKET_ERROR);
        CHECK(error == WSA_IO_PENDING && WSAGetLastError() == 99 && op.bytes == 0xdeadbeef);
        memset(&copy, 0xee, sizeof copy);
        await_file("asked", port);
        tell("grant", port);
        CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && op.routine_count == 1);
        CHECK(pthread_equal(op.thread, pthread_self()) && op.transferred == 16);
        CHECK(upcall_count == round);
    }
}

#define THREAD_COUNT 32
static int round_count;

static void *close_many(void *sockets)
{
    int round;
    for (round = 0; round < round_count; round++) {
        SOCKET s;
        while ((s = __atomic_exchange_n((SOCKET *)sockets, (SOCKET)0, __ATOMIC_SEQ_CST)) == 0)
            sched_yield();
        CHECK(closesocket(s) == 0);
    }
    return NULL;
}

/* Every operation completes exactly once, whoever closes its socket. */
static void *issue_many(void *number)
{
    static SOCKET handed[THREAD_COUNT];
    SOCKET *mine = &handed[(long)number];
    struct operation op;
    pthread_t closer;
    int round, is_routine;
    CHECK(pthread_create(&closer, NULL, close_many, mine) == 0);
    for (round = 0; round < round_count; round++) {
        SOCKET s = tcp();
        LPWSAOVERLAPPED_COMPLETION_ROUTINE done;
        is_routine = round % 2;
        done = is_routine ? routine : NULL;
        prepare(&op, (USHORT)(41000 + (long)number * 2));
        if (!is_routine)
            op.overlapped.hEvent = WSACreateEvent();
        if (round % 4 < 2)
            __atomic_store_n(mine, s, __ATOMIC_SEQ_CST);
        if (WSAIoctl(s, ACQUIRE, &op.range, 4, &op.out, 16, &op.bytes, &op.overlapped, done) == 0) {
            CHECK(!"granted by nobody");
        } else if (WSAGetLastError() == WSA_IO_PENDING) {
            if (round % 4 >= 2)
                __atomic_store_n(mine, s, __ATOMIC_SEQ_CST);
            if (is_routine)
                CHECK(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION && op.routine_count == 1);
            else
                CHECK(wait_event(&op, WSA_INFINITE) == WSA_WAIT_EVENT_0);
            CHECK(op.overlapped.Internal == WSA_OPERATION_ABORTED);
        } else {
            int error = WSAGetLastError();
            CHECK(round % 4 < 2 && (error == WSAENOTSOCK || error == WSAEINTR));
        }
        if (!is_routine)
            CHECK(WSACloseEvent(op.overlapped.hEvent));
    }
    CHECK(SleepEx(0, TRUE) == 0);
    CHECK(pthread_join(closer, NULL) == 0);
    return NULL;
}

static void stress(void)
{
    pthread_t threads[THREAD_COUNT];
    long i;
    round_count = atoi(getenv("ROUND_COUNT"));
    CHECK(round_count > 0);
    for (i = 0; i < THREAD_COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, issue_many, (void *)i) == 0);
    for (i = 0; i < THREAD_COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A child has none of its parent's operations, and does not harm them. */
static void forked(void)
{
    struct operation op;
    DWORD transferred = 77, flags = 77;
    SOCKET s = tcp();
    pid_t child;
    int status;
    prepare(&op, 40700);
    op.overlapped.hEvent = WSACreateEvent();
    issue(s, &op, NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        CHECK(!WSAGetOverlappedResult(s, &op.overlapped, &transferred, TRUE, &flags));
        CHECK(WSAGetLastError() == WSA_INVALID_PARAMETER && transferred == 77);
        CHECK(!CancelIoEx((HANDLE)s, NULL) && GetLastError() == ERROR_NOT_FOUND);
        CHECK(closesocket(s) == 0);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!HasOverlappedIoCompleted(&op.overlapped));
    tell("grant", 40700);
    CHECK(WSAGetOverlappedResult(s, &op.overlapped, &transferred, TRUE, &flags) && transferred == 16);
}

/* Nothing in the loop could change the state, as far as the compiler knows. */
static void spin(void)
{
    struct operation op;
    SOCKET s = tcp();
    prepare(&op, 40800);
    issue(s, &op, NULL);
    tell("grant", 40800);
    alarm(60);
    while (!HasOverlappedIoCompleted(&op.overlapped)) {
    }
    CHECK(op.overlapped.Internal == 0 && op.out.Reservation.StartPort == htons(40800));
}

static void nobody(void)
{
    struct operation op;
    INET_PORT_RESERVATION_INSTANCE out;
    SOCKET s = tcp();
    FAILS(acquire(s, 40600, 2, &out), WSAENETDOWN);
    prepare(&op, 40600);
    op.overlapped.hEvent = WSACreateEvent();
    FAILS(WSAIoctl(s, ACQUIRE, &op.range, 4, &op.out, 16, &op.bytes, &op.overlapped, NULL), WSAENETDOWN);
    CHECK(op.bytes == 0 && wait_event(&op, 0) == WSA_WAIT_TIMEOUT);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"event", with_event}, {"routine", with_routine}, {"cancel", cancel},
                 {"synchronous", synchronous}, {"provider", provider}, {"stress", stress},
                 {"fork", forked}, {"spin", spin}, {"nobody", nobody}};
    size_t i;
    CHECK(argc == 2);
    start();
    for (i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) == 0) {
            parts[i].run();
            while (WSACleanup() == 0) {
            }
            return 0;
        }
    }
    printf("no part %s\n", argv[1]);
    return 1;
}
