/*
 * Many threads issue overlapped control codes while others close their sockets: `storm SEED ROUNDS`. Every
 * operation that started ends, every routine runs once, on its own thread; what is left in the pool is for
 * the caller to count.
 */
#include "../../conformance/overlapped.h"

#include <stdint.h>

enum { THREADS = 32, SLOTS = 48, OPERATIONS = 8 };

/* Sockets that any thread may close at any moment. */
static SOCKET slots[SLOTS];

struct worker {
    uint64_t chance;
    unsigned long rounds;
    thread_name thread;
    SOCKET own; /* nobody closes it */
    unsigned started, pending, refused, routines_due, routines_run;
    struct operation operations[OPERATIONS]; /* outlive the thread: some may be pending at its end */
    WSAEVENT events[OPERATIONS];
    int is_started[OPERATIONS];
};

static struct worker workers[THREADS];

static unsigned below(struct worker *worker, unsigned bound) {
    worker->chance ^= worker->chance << 13;
    worker->chance ^= worker->chance >> 7;
    worker->chance ^= worker->chance << 17;
    return (unsigned)((worker->chance >> 20) % bound);
}

/* Which worker an operation belongs to is where its memory lies. */
static void CALLBACK count_routine(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags) {
    size_t index;
    EXPECT_EQUAL(flags, 0);
    EXPECT_EQUAL(bytes, error == 0 ? 16 : 0);
    for (index = 0; index < THREADS; index++) {
        struct worker *worker = &workers[index];
        char *at = (char *)overlapped, *first = (char *)worker->operations;
        if (at < first || at >= first + sizeof worker->operations) continue;
        EXPECT_EQUAL(this_thread(), worker->thread);
        worker->routines_run++;
        return;
    }
    fail(__FILE__, __LINE__, "a routine for nobody's operation");
}

static void await(struct worker *worker, struct operation *operation) {
    unsigned long long deadline = milliseconds() + 60000;
    while (!has_completed(operation)) {
        SleepEx(0, TRUE);
        EXPECT(milliseconds() < deadline);
    }
    /* Also tells the thread sanitizer, which does not know that a look at the state may be enough. */
    EXPECT(!CancelIoEx((HANDLE)worker->own, &operation->overlapped));
    EXPECT_EQUAL(GetLastError(), ERROR_NOT_FOUND);
}

static void put_up_for_closing(struct worker *worker, SOCKET socket) {
    SOCKET before = __atomic_exchange_n(&slots[below(worker, SLOTS)], socket, __ATOMIC_SEQ_CST);
    if (before != INVALID_SOCKET) EXPECT_EQUAL(closesocket(before), 0);
}

static unsigned any_port(struct worker *worker) {
    /* Only the keeper can grant these, which takes it some time. */
    if (below(worker, 40) == 0) return EPHEMERAL_PORT + 1000 + below(worker, 20);
    return below(worker, 4) == 0 ? 0 : 62000 + below(worker, 300);
}

static void use_what_was_granted(struct worker *worker, struct operation *operation) {
    DWORD bytes = 0, flags = 0, count = 0;
    int code;
    if (below(worker, 2) &&
        WSAGetOverlappedResult(operation->socket, &operation->overlapped, &bytes, FALSE, &flags)) {
        SOCKET made = tcp();
        code = associate(made, TOKEN_OF(operation->instance));
        if (code == 0) code = bind_to(made, 0);
        EXPECT(code == 0 || code == WSAEINVAL || code == WSAENOBUFS || code == WSAEADDRINUSE);
        EXPECT_EQUAL(closesocket(made), 0);
    }
    if (below(worker, 8) == 0) {
        SOCKET other = __atomic_load_n(&slots[below(worker, SLOTS)], __ATOMIC_SEQ_CST);
        code = control(other, SIO_FLUSH, NULL, 0, NULL, 0, &count);
        EXPECT(code == 0 || code == WSAENOTSOCK);
    }
}

static void one_round(struct worker *worker) {
    unsigned index = below(worker, OPERATIONS);
    struct operation *operation = &worker->operations[index];
    LPWSAOVERLAPPED_COMPLETION_ROUTINE routine = below(worker, 3) == 0 ? count_routine : NULL;
    WSAEVENT event = below(worker, 2) ? worker->events[index] : NULL;
    SOCKET socket;
    /* Its memory is free again when the operation before has ended. */
    if (worker->is_started[index]) await(worker, operation);
    while (worker->routines_run < worker->routines_due) SleepEx(1, TRUE);
    socket = new_socket(AF_INET, below(worker, 3) ? SOCK_STREAM : SOCK_DGRAM);
    start(operation, socket, any_port(worker), 1 + below(worker, 8), event, routine);
    put_up_for_closing(worker, socket);
    worker->is_started[index] = operation->code == 0 || operation->code == WSA_IO_PENDING;
    if (worker->is_started[index]) {
        worker->started++;
        if (operation->code == WSA_IO_PENDING) worker->pending++;
        if (routine != NULL) worker->routines_due++;
        use_what_was_granted(worker, operation);
    } else {
        worker->refused++;
        EXPECT(operation->code == WSAEADDRINUSE || operation->code == WSAENETDOWN ||
               operation->code == WSAENOBUFS);
    }
    if (below(worker, 3) == 0) SleepEx(0, TRUE);
    if (event != NULL && routine == NULL && worker->is_started[index] && below(worker, 2))
        EXPECT_EQUAL(WSAWaitForMultipleEvents(1, &event, TRUE, 30000, FALSE), WSA_WAIT_EVENT_0);
}

static void *work(void *argument) {
    struct worker *worker = (struct worker *)argument;
    unsigned long round;
    worker->thread = this_thread();
    for (round = 0; round < worker->rounds; round++) one_round(worker);
    /* Half of the threads end with what is pending. */
    if (worker->rounds % 2 == 0) {
        size_t index;
        for (index = 0; index < OPERATIONS; index++)
            if (worker->is_started[index]) await(worker, &worker->operations[index]);
        while (worker->routines_run < worker->routines_due) SleepEx(1, TRUE);
        EXPECT_EQUAL(worker->routines_run, worker->routines_due);
    }
    return NULL;
}

int main(int argc, char **argv) {
    unsigned started = 0, pending = 0, refused = 0, routines = 0;
    unsigned long seed, rounds;
    thread_name threads[THREADS];
    size_t index, other;
    WSADATA data;
    if (argc != 3) return 2;
    seed = strtoul(argv[1], NULL, 10);
    rounds = strtoul(argv[2], NULL, 10);
    limit_time(3000);
    EXPECT_EQUAL(WSAStartup(MAKEWORD(2, 2), &data), 0);
    for (index = 0; index < SLOTS; index++) slots[index] = INVALID_SOCKET;
    for (index = 0; index < THREADS; index++) {
        workers[index].chance = (seed * THREADS + index) * 0x9e3779b97f4a7c15u | 1;
        workers[index].rounds = rounds + index % 2;
        workers[index].own = tcp();
        for (other = 0; other < OPERATIONS; other++) workers[index].events[other] = new_event();
    }
    for (index = 0; index < THREADS; index++) threads[index] = start_thread(work, &workers[index]);
    for (index = 0; index < THREADS; index++) join_thread(threads[index]);
    /* Sockets that nobody closed are closed now, and with them goes whatever was pending. */
    EXPECT_EQUAL(WSACleanup(), 0);
    for (index = 0; index < THREADS; index++) {
        struct worker *worker = &workers[index];
        for (other = 0; other < OPERATIONS; other++)
            EXPECT(!worker->is_started[other] || has_completed(&worker->operations[other]));
        EXPECT(worker->routines_run <= worker->routines_due);
        started += worker->started;
        pending += worker->pending;
        refused += worker->refused;
        routines += worker->routines_run;
    }
    printf("seed %lu: %d threads, %u started, %u of them pending, %u refused, %u routines run\n", seed, THREADS,
           started, pending, refused, routines);
    return 0;
}
