/* Cases 106 to 125: persistent reservations. Each case deletes what it makes. */
#include "suite.h"

static ULONG create(unsigned port, unsigned count, ULONG64 *token) {
    return CreatePersistentTcpPortReservation(htons((USHORT)port), (USHORT)count, token);
}

static ULONG lookup(unsigned port, unsigned count, ULONG64 *token) {
    return LookupPersistentTcpPortReservation(htons((USHORT)port), (USHORT)count, token);
}

static ULONG delete_(unsigned port, unsigned count) {
    return DeletePersistentTcpPortReservation(htons((USHORT)port), (USHORT)count);
}

/* A persistent block of 4 TCP ports. */
static struct reserved persist(void) {
    struct reserved block;
    memset(&block, 0, sizeof block);
    block.port = free_block(SOCK_STREAM, 4);
    block.count = 4;
    EXPECT_EQUAL(create(block.port, 4, &block.token), NO_ERROR);
    EXPECT(block.token != 0);
    return block;
}

static void drop(struct reserved block) { EXPECT_EQUAL(delete_(block.port, 4), NO_ERROR); }

void case_106(void) {
    struct reserved block = persist();
    detail("%u-%u token %llx", block.port, block.port + 3, (unsigned long long)block.token);
    drop(block);
}

void case_107(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    struct reserved block = persist();
    EXPECT_EQUAL(ask_as(NOBODY, "create tcp %u 4", port).code, ERROR_ACCESS_DENIED);
    EXPECT_EQUAL(ask_as(NOBODY, "delete tcp %u 4", block.port).code, ERROR_ACCESS_DENIED);
    drop(block);
    detail("%d for Create and Delete", ERROR_ACCESS_DENIED);
}

void case_108(void) {
    ULONG64 token = 77;
    EXPECT_EQUAL(create(0, 4, &token), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(create(30000, 0, &token), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(lookup(0, 4, &token), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(lookup(30000, 0, &token), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(delete_(0, 4), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(delete_(30000, 0), ERROR_INVALID_PARAMETER);
    /* Parameters go before privilege. */
    EXPECT_EQUAL(ask_as(NOBODY, "create tcp 0 4").code, ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(token, 77);
    detail("%d six times", ERROR_INVALID_PARAMETER);
}

void case_109(void) {
    ULONG64 token = 77;
    ULONG code = create(65530, 10, &token);
    detail("%u", (unsigned)code);
    EXPECT_EQUAL(code, ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(token, 77);
}

void case_110(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    ULONG64 token = 77;
    SOCKET busy = tcp();
    ULONG code;
    EXPECT_EQUAL(bind_to(busy, port + 2), 0);
    code = create(port, 4, &token);
    detail("%u", (unsigned)code);
    EXPECT_EQUAL(code, ERROR_SHARING_VIOLATION);
    EXPECT_EQUAL(token, 77);
}

void case_111(void) {
    struct reserved block = persist();
    ULONG64 token = 77;
    EXPECT_EQUAL(create(block.port, 4, &token), ERROR_SHARING_VIOLATION);
    EXPECT_EQUAL(create(block.port + 3, 2, &token), ERROR_SHARING_VIOLATION);
    EXPECT_EQUAL(create(block.port - 1, 6, &token), ERROR_SHARING_VIOLATION);
    EXPECT_EQUAL(create(block.port + 1, 2, &token), ERROR_SHARING_VIOLATION);
    EXPECT_EQUAL(token, 77);
    drop(block);
    detail("%d for equal, overlapping, containing, inside", ERROR_SHARING_VIOLATION);
}

void case_112(void) {
    struct reserved block = persist();
    ULONG64 token = 0;
    EXPECT_EQUAL(lookup(block.port, 4, &token), NO_ERROR);
    detail("token %llx", (unsigned long long)token);
    EXPECT_EQUAL(token, block.token);
    drop(block);
}

void case_113(void) {
    struct reserved block = persist();
    ULONG64 token = 77;
    EXPECT_EQUAL(lookup(block.port, 3, &token), ERROR_NOT_FOUND);
    EXPECT_EQUAL(lookup(block.port + 1, 3, &token), ERROR_NOT_FOUND);
    EXPECT_EQUAL(lookup(block.port, 5, &token), ERROR_NOT_FOUND);
    EXPECT_EQUAL(token, 77);
    drop(block);
    detail("%d", ERROR_NOT_FOUND);
}

void case_114(void) {
    struct reserved block = persist();
    struct answer answer = ask_as(NOBODY, "lookup tcp %u 4", block.port);
    detail("%d, token %llx", answer.code, answer.token);
    EXPECT_EQUAL(answer.code, NO_ERROR);
    EXPECT_EQUAL(answer.token, block.token);
    drop(block);
}

void case_115(void) {
    struct reserved block = persist();
    EXPECT_EQUAL(delete_(block.port, 4), NO_ERROR);
    EXPECT_EQUAL(delete_(block.port, 4), ERROR_NOT_FOUND);
    detail("0, then %d", ERROR_NOT_FOUND);
}

void case_116(void) {
    struct reserved block = persist();
    USHORT start = htons((USHORT)block.port);
    ULONG64 token = 77;
    EXPECT_EQUAL(LookupPersistentUdpPortReservation(start, 4, &token), ERROR_NOT_FOUND);
    EXPECT_EQUAL(DeletePersistentUdpPortReservation(start, 4), ERROR_NOT_FOUND);
    EXPECT_EQUAL(CreatePersistentUdpPortReservation(start, 4, &token), NO_ERROR);
    EXPECT_EQUAL(DeletePersistentUdpPortReservation(start, 4), NO_ERROR);
    drop(block);
    detail("%d, and the same ports of UDP are free", ERROR_NOT_FOUND);
}

/* Whoever runs the suite says how the service, or the machine, is restarted. */
static void restart(const char *what) {
    const char *command = getenv(what);
    const char *arguments[] = {"/bin/sh", "-c", command, NULL};
    char printed[512];
    if (command == NULL) fail(__FILE__, __LINE__, "nobody said how to restart the service");
    EXPECT_EQUAL(run_program("/bin/sh", arguments, printed, sizeof printed), 0);
}

#define SERVICE "PORTPOOL_CONFORMANCE_RESTART"
#define MACHINE "PORTPOOL_CONFORMANCE_REBOOT"

void case_117(void) {
    struct reserved block = persist();
    ULONG64 token = 0;
    restart(SERVICE);
    EXPECT_EQUAL(lookup(block.port, 4, &token), NO_ERROR);
    EXPECT(token != 0);
    drop(block);
    detail("token %llx, before %llx", (unsigned long long)token, (unsigned long long)block.token);
}

void case_118(void) {
    struct reserved block = persist();
    ULONG64 token = 0;
    int code;
    restart(MACHINE);
    EXPECT_EQUAL(lookup(block.port, 4, &token), NO_ERROR);
    code = associate(tcp(), block.token);
    drop(block);
    detail("%d, token %s", code, token == block.token ? "unchanged" : "changed");
    EXPECT(token != block.token);
    EXPECT_EQUAL(code, WSAEINVAL);
}

void case_119(void) {
    struct reserved block = persist();
    struct answer answer = ask("consume tcp %llx 0", (unsigned long long)block.token);
    drop(block);
    detail("%d, port %u", answer.code, answer.port);
    EXPECT_EQUAL(answer.code, 0);
    EXPECT(is_inside(block, answer.port));
}

void case_120(void) {
    struct reserved block = persist();
    struct answer answer = ask_as(NOBODY, "associate tcp %llx", (unsigned long long)block.token);
    drop(block);
    detail("%d", answer.code);
    EXPECT_EQUAL(answer.code, WSAEACCES);
}

void case_121(void) {
    struct reserved block = persist();
    int own = bind_to(tcp(), block.port), other = ask("bind 4 tcp any %u plain", block.port + 1).code;
    drop(block);
    detail("%d and %d", own, other);
    EXPECT_EQUAL(own, WSAEACCES);
    EXPECT_EQUAL(other, WSAEACCES);
}

void case_122(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    ULONG64 token = 77;
    ULONG code = create(block.port, 1, &token);
    detail("%u", (unsigned)code);
    EXPECT_EQUAL(code, ERROR_SHARING_VIOLATION);
}

void case_123(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    ULONG64 token = 77;
    EXPECT_EQUAL(create(port, 4, NULL), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(lookup(port, 4, NULL), ERROR_INVALID_PARAMETER);
    EXPECT_EQUAL(lookup(port, 4, &token), ERROR_NOT_FOUND);
    detail("%d, nothing created", ERROR_INVALID_PARAMETER);
}

void case_124(void) {
    struct reserved block = persist();
    SOCKET made = bound_in(block);
    unsigned port = port_of(made);
    EXPECT_EQUAL(delete_(block.port, 4), NO_ERROR);
    EXPECT_EQUAL(listen(made, 1), 0);
    EXPECT_EQUAL(port_of(made), port);
    EXPECT_EQUAL(associate(tcp(), block.token), WSAEINVAL);
    detail("keeps %u, the token is %d", port, WSAEINVAL);
}

void case_125(void) {
    ULONG64 token = 0;
    EXPECT_EQUAL(CreatePersistentTcpPortReservation(5000, 1, &token), NO_ERROR);
    EXPECT_EQUAL(ask("bind 4 tcp loopback 34835 plain").code, WSAEACCES);
    EXPECT_EQUAL(ask("bind 4 tcp loopback 5000 plain").code, 0);
    EXPECT_EQUAL(DeletePersistentTcpPortReservation(5000, 1), NO_ERROR);
    detail("5000 in host order reserved 34835");
}
