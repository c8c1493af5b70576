/* Beside the keeper itself, with the part that is to be played as the argument. */
#include <winsock2.h>
#include <iphlpapi.h>
#include <mstcpip.h>
#include <unistd.h>

#include "check.h"

#define ACQUIRE SIO_ACQUIRE_PORT_RESERVATION

/* One transport: its functions and a socket of it. */
struct persistent {
    ULONG(WINAPI *create)(USHORT, USHORT, PULONG64);
    ULONG(WINAPI *lookup)(USHORT, USHORT, PULONG64);
    ULONG(WINAPI *destroy)(USHORT, USHORT);
    int type;
};

static const struct persistent TRANSPORTS[2] = {
    {CreatePersistentTcpPortReservation, LookupPersistentTcpPortReservation,
     DeletePersistentTcpPortReservation, SOCK_STREAM},
    {CreatePersistentUdpPortReservation, LookupPersistentUdpPortReservation,
     DeletePersistentUdpPortReservation, SOCK_DGRAM},
};

/* Creates blocks of both transports outside and inside of where automatic choice picks, uses them, and
 * leaves the last one. */
static void administrator(void)
{
    static const USHORT FIRSTS[2] = {25000, 45000};
    int which, place;
    for (place = 0; place < 2; place++) {
        for (which = 0; which < 2; which++) {
            const struct persistent *it = &TRANSPORTS[which];
            USHORT first = FIRSTS[place];
            ULONG64 token = 0, found = 0;
            SOCKET s = socket(AF_INET, it->type, 0), plain = socket(AF_INET, it->type, 0);
            CHECK(it->lookup(htons(first), 4, &found) == ERROR_NOT_FOUND);
            CHECK(it->create(htons(first), 4, &token) == NO_ERROR && token != 0);
            CHECK(it->create(htons(first + 3), 1, &found) == ERROR_SHARING_VIOLATION);
            CHECK(it->lookup(htons(first), 4, &found) == NO_ERROR && found == token);
            CHECK(it->lookup(htons(first), 3, &found) == ERROR_NOT_FOUND);
            CHECK(it->destroy(htons(first), 3) == ERROR_NOT_FOUND);
            FAILS(bind_to(plain, INADDR_LOOPBACK, first), WSAEACCES);
            CHECK(associate(s, token) == 0 && bind_to(s, INADDR_LOOPBACK, 0) == 0);
            CHECK(port_of(s) >= first && port_of(s) < first + 4);
            CHECK(closesocket(s) == 0 && closesocket(plain) == 0);
            if (place == 1 && which == 1)
                break;
            CHECK(it->destroy(htons(first), 4) == NO_ERROR);
            CHECK(it->lookup(htons(first), 4, &found) == ERROR_NOT_FOUND);
        }
    }
}

/* Neither an administrator nor in a group of them; beside what the administrator left. */
static void stranger(void)
{
    int which;
    ULONG64 token = 7, found = 0;
    for (which = 0; which < 2; which++) {
        CHECK(TRANSPORTS[which].create(htons(25000), 4, &token) == ERROR_ACCESS_DENIED);
        CHECK(TRANSPORTS[which].destroy(htons(45000), 4) == ERROR_ACCESS_DENIED);
    }
    CHECK(token == 7);
    CHECK(LookupPersistentUdpPortReservation(htons(45000), 4, &found) == NO_ERROR && found != 0);
    FAILS(associate(socket(AF_INET, SOCK_DGRAM, 0), found), WSAEACCES);
}

/* In the group of the keeper, and without root. */
static void member(void)
{
    ULONG64 token = 0, found = 0;
    CHECK(CreatePersistentTcpPortReservation(htons(25000), 4, &token) == NO_ERROR);
    CHECK(LookupPersistentTcpPortReservation(htons(25000), 4, &found) == NO_ERROR && found == token);
    CHECK(DeletePersistentTcpPortReservation(htons(25000), 4) == NO_ERROR);
    CHECK(DeletePersistentUdpPortReservation(htons(45000), 4) == NO_ERROR);
}

struct operation {
    INET_PORT_RANGE range;
    INET_PORT_RESERVATION_INSTANCE out;
    WSAOVERLAPPED overlapped;
};

static void issue(SOCKET s, struct operation *op, USHORT first)
{
    DWORD bytes = 0xdeadbeef;
    memset(op, 0, sizeof *op);
    op->range.StartPort = htons(first);
    op->range.NumberOfPorts = 4;
    op->overlapped.hEvent = WSACreateEvent();
    FAILS(WSAIoctl(s, ACQUIRE, &op->range, 4, &op->out, 16, &bytes, &op->overlapped, NULL),
          WSA_IO_PENDING);
    CHECK(bytes == 0xdeadbeef);
}

static void completes(struct operation *op)
{
    CHECK(WSAWaitForMultipleEvents(1, &op->overlapped.hEvent, FALSE, WSA_INFINITE, FALSE) ==
          WSA_WAIT_EVENT_0);
    CHECK(HasOverlappedIoCompleted(&op->overlapped));
    CHECK(WSACloseEvent(op->overlapped.hEvent));
}

static void pending(void)
{
    struct operation op;
    DWORD transferred = 77, flags = 77;
    SOCKET owner = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
    SOCKET plain = socket(AF_INET, SOCK_STREAM, 0);
    issue(owner, &op, 46000);
    completes(&op);
    CHECK(WSAGetOverlappedResult(owner, &op.overlapped, &transferred, FALSE, &flags));
    CHECK(transferred == 16 && flags == 0);
    CHECK(op.out.Reservation.StartPort == htons(46000) && op.out.Reservation.NumberOfPorts == 4);
    FAILS(bind_to(plain, INADDR_LOOPBACK, 46001), WSAEACCES);
    CHECK(associate(s, token_of(&op.out)) == 0 && bind_to(s, INADDR_LOOPBACK, 46001) == 0);
    /* A port in use: the operation has the code. */
    CHECK(bind_to(plain, INADDR_LOOPBACK, 46013) == 0);
    issue(owner, &op, 46010);
    completes(&op);
    CHECK(!WSAGetOverlappedResult(owner, &op.overlapped, &transferred, FALSE, &flags));
    CHECK(WSAGetLastError() == WSAEADDRINUSE);
    CHECK(closesocket(owner) == 0);
}

static void close_pending(USHORT first)
{
    struct operation op;
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    issue(s, &op, first);
    CHECK(closesocket(s) == 0);
    completes(&op);
    CHECK(op.overlapped.Internal == WSA_OPERATION_ABORTED || op.overlapped.Internal == 0);
}

/* Once the keeper has noticed that nobody waits for its answers any more. */
static void becomes_free(USHORT first, USHORT count)
{
    INET_PORT_RESERVATION_INSTANCE out;
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    int tries;
    for (tries = 0; acquire(s, first, count, &out) != 0; tries++) {
        CHECK(WSAGetLastError() == WSAEADDRINUSE && tries < 20000);
        usleep(1000);
    }
    CHECK(closesocket(s) == 0);
}

/* The keeper stands still until there is a line to read. */
static void closed(void)
{
    struct operation op;
    SOCKET s = socket(AF_INET, SOCK_STREAM, 0);
    issue(s, &op, 46100);
    CHECK(!HasOverlappedIoCompleted(&op.overlapped));
    CHECK(closesocket(s) == 0);
    completes(&op);
    CHECK(op.overlapped.Internal == WSA_OPERATION_ABORTED);
    CHECK(puts("closed") >= 0 && fflush(stdout) == 0);
    CHECK(getchar() == '\n');
    becomes_free(46100, 4);
}

/* Closing comes before, while or after the keeper grants. */
static void race(void)
{
    int round, count = atoi(getenv("ROUND_COUNT"));
    for (round = 0; round < count; round++) {
        close_pending((USHORT)(46200 + 4 * round));
    }
    becomes_free(46200, (USHORT)(4 * count));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*play)(void);
    } PARTS[] = {{"administrator", administrator}, {"stranger", stranger}, {"member", member},
                 {"pending", pending},             {"closed", closed},     {"race", race}};
    size_t at;
    start();
    CHECK(argc == 2);
    for (at = 0; at < sizeof PARTS / sizeof *PARTS; at++) {
        if (strcmp(PARTS[at].name, argv[1]) == 0) {
            PARTS[at].play();
            CHECK(WSACleanup() == 0);
            return 0;
        }
    }
    CHECK(!"a part");
}
