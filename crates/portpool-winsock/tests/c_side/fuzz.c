/*
 * WSAIoctl with arguments of every kind, good and bad, mixed by chance: `fuzz SEED CALLS`. The answer must
 * be the one of the table of errors, in its order; nothing outside the buffers may change; and no call may
 * crash or leave a reservation behind that was not granted.
 */
#include "../../conformance/suite.h"

#include <portpool.h>

#include <stdint.h>

enum { CANARY = 0xa5, STATUS_PENDING_ = 0x103 };

static uint64_t chance;
static int is_root;

static unsigned below(unsigned bound) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (unsigned)((chance >> 20) % bound);
}

/* ---- Memory: what lies where, and how much of it can be used ------------------------------------ */

static unsigned char *writable, *read_only, *unmapped;
static size_t page;

struct place {
    void *at;
    size_t readable; /* bytes from `at` on */
    size_t writable;
};

static struct place place_of(void *at, size_t readable, size_t can_write) {
    struct place place;
    place.at = at;
    place.readable = readable;
    place.writable = can_write;
    return place;
}

/* `half` keeps the arguments of one call apart from each other. */
static struct place any_place(size_t half, size_t wanted) {
    size_t start = half * (page / 4);
    switch (below(12)) {
        case 0: return place_of(NULL, 0, 0);
        case 1: return place_of(unmapped + below(64), 0, 0);
        case 2: return place_of(read_only + below(64), page - 64, 0);
        case 3: { /* Ends before the last byte that is wanted. */
            size_t length = wanted == 0 ? 0 : below((unsigned)wanted);
            return place_of(writable + page - length, length, length);
        }
        case 4: return place_of((void *)(uintptr_t)0xffff800000000000u, 0, 0);
        case 5: return place_of((void *)(uintptr_t)0x0dead00000000000u, 0, 0);
        case 6: return place_of((void *)(uintptr_t)(1 + below(4000)), 0, 0);
        case 7: return place_of((void *)(uintptr_t)(UINTPTR_MAX - below(16)), 0, 0);
        default: return place_of(writable + start + 64 + below(9), page / 8, page / 8);
    }
}

/* ---- The arguments of one call --------------------------------------------------------------------- */

enum socket_kind { TCP, UDP, BOUND, RAW, CLOSED, GARBAGE, SOCKET_KINDS };

struct call {
    enum socket_kind kind;
    SOCKET socket;
    DWORD code, in_size, out_size;
    struct place in, out, count, overlapped;
    unsigned start, ports;
    ULONG64 token;
    int is_overlapped;
};

static int has_raw_sockets(void) {
    SOCKET raw = socket(AF_INET, SOCK_RAW, 253);
    return raw != INVALID_SOCKET && closesocket(raw) == 0;
}

static SOCKET make(enum socket_kind kind) {
    SOCKET made;
    switch (kind) {
        case TCP: return tcp();
        case UDP: return udp();
        case BOUND:
            made = tcp();
            EXPECT_EQUAL(bind_to(made, 0), 0);
            return made;
        case RAW:
            made = socket(AF_INET, SOCK_RAW, 253);
            EXPECT(made != INVALID_SOCKET);
            return made;
        case CLOSED:
            made = tcp();
            EXPECT_EQUAL(closesocket(made), 0);
            return made;
        default: return below(2) ? INVALID_SOCKET : (SOCKET)below(3);
    }
}

static DWORD any_code(void) {
    DWORD known[] = RESERVATION_CODES;
    switch (below(8)) {
        case 0: return known[below(3)] ^ (1u << below(32));
        case 1: return (DWORD)chance;
        default: return known[below(3)];
    }
}

static DWORD any_size(DWORD right) {
    switch (below(6)) {
        case 0: return below(40);
        case 1: return right == 0 ? 1 + below(40) : below((unsigned)right);
        case 2: return below(2) ? 0xffffffffu : (DWORD)chance;
        default: return right;
    }
}

static int is_known(DWORD code) {
    DWORD known[] = RESERVATION_CODES;
    return code == known[0] || code == known[1] || code == known[2];
}

static struct call any_call(struct reserved block) {
    struct call call;
    int is_acquire;
    memset(&call, 0, sizeof call);
    call.kind = (enum socket_kind)(below(3) == 0 ? below(SOCKET_KINDS) : TCP);
    /* Only root has raw sockets. */
    if (call.kind == RAW && !is_root) call.kind = UDP;
    call.code = any_code();
    is_acquire = call.code == SIO_ACQUIRE_PORT_RESERVATION;
    call.in_size = any_size(is_acquire ? 4 : 8);
    call.out_size = any_size(is_acquire ? 16 : 0);
    call.in = below(2) ? any_place(0, is_acquire ? 4 : 8) : place_of(writable + 64, page / 8, page / 8);
    call.out = below(2) ? any_place(1, 16) : place_of(writable + page / 4 + 64, page / 8, page / 8);
    call.count = below(3) == 0 ? any_place(2, 4)
                               : place_of(writable + page / 2 + 64, page / 8, page / 8);
    call.is_overlapped = below(5) == 0;
    call.overlapped = below(3) == 0 ? any_place(3, 32)
                                    : place_of(writable + 3 * (page / 4) + 64, page / 8, page / 8);
    if (!call.is_overlapped || call.overlapped.at == NULL) call.overlapped = place_of(NULL, 32, 32);
    call.start = below(3) == 0 ? below(65536) : 0;
    call.ports = below(3) == 0 ? below(65536) : 1 + below(4);
    call.token = below(2) ? block.token : chance;
    return call;
}

/* ---- What the answer must be ------------------------------------------------------------------------ */

struct verdict {
    int code;         /* this one, if it is not 0 */
    int alternative;  /* or this one, where two rows of the table apply */
    int is_any;       /* anything but WSAEFAULT: the arguments are good as far as memory goes */
};

static struct verdict verdict_of(const struct call *call) {
    struct verdict verdict = {0, 0, 0};
    int is_acquire = call->code == SIO_ACQUIRE_PORT_RESERVATION;
    size_t in_needed = is_acquire ? 4 : 8;
    int is_count_bad = call->count.writable < 4;
    if (call->kind == CLOSED || call->kind == GARBAGE) {
        verdict.code = WSAENOTSOCK;
        return verdict;
    }
    if (is_count_bad) verdict.alternative = WSAEFAULT;
    if (call->count.at == NULL)
        verdict.code = WSAEFAULT;
    else if (!is_known(call->code) || call->kind == RAW)
        verdict.code = WSAEOPNOTSUPP;
    else if (call->in_size < in_needed || (is_acquire ? call->out_size < 16 : call->out_size != 0))
        verdict.code = WSAEINVAL;
    else if (call->in.readable < in_needed || (is_acquire && call->out.writable < 16) || is_count_bad ||
             call->overlapped.writable < 32)
        verdict.code = WSAEFAULT;
    else
        verdict.is_any = 1;
    return verdict;
}

static int is_answer(int code) {
    return code == 0 || code == WSAEINVAL || code == WSAEACCES || code == WSAEADDRINUSE ||
           code == WSAENOBUFS || code == WSAENETDOWN || code == WSA_IO_PENDING;
}

static void await(volatile WSAOVERLAPPED *overlapped) {
    unsigned long long deadline = milliseconds() + 20000;
    while (overlapped->Internal == STATUS_PENDING_) EXPECT(milliseconds() < deadline);
}

static void prepare(const struct call *call) {
    memset(writable, CANARY, page);
    if (call->in.writable >= 8) {
        if (call->code == SIO_ACQUIRE_PORT_RESERVATION) {
            INET_PORT_RANGE range;
            range.StartPort = htons((USHORT)call->start);
            range.NumberOfPorts = (USHORT)call->ports;
            memcpy(call->in.at, &range, sizeof range);
        } else {
            memcpy(call->in.at, &call->token, 8);
        }
    }
    if (call->overlapped.at != NULL && call->overlapped.writable >= 32) memset(call->overlapped.at, 0, 32);
}

/* Nothing but what was pointed to may have changed. */
static void look_for_damage(const struct call *call, int code) {
    size_t index;
    for (index = 0; index < page; index++) {
        unsigned char *byte = writable + index;
        int is_in = call->in.writable >= 8 && byte >= (unsigned char *)call->in.at &&
                    byte < (unsigned char *)call->in.at + 8;
        int is_out = code == 0 || code == WSA_IO_PENDING
                         ? byte >= (unsigned char *)call->out.at && byte < (unsigned char *)call->out.at + 16
                         : 0;
        int is_count = byte >= (unsigned char *)call->count.at && byte < (unsigned char *)call->count.at + 4;
        int is_overlapped = call->overlapped.at != NULL && call->overlapped.writable >= 32 &&
                            byte >= (unsigned char *)call->overlapped.at &&
                            byte < (unsigned char *)call->overlapped.at + 32;
        if (!is_in && !is_out && !is_count && !is_overlapped && *byte != CANARY)
            fail(__FILE__, __LINE__, "byte %zu of the page changed to 0x%02x", index, *byte);
    }
}

/* The one reservation that there is, the fixture; what the other calls were granted ended with its socket. */
static void look_for_reservations(struct portpool *pool) {
    struct portpool_list *list;
    EXPECT_EQUAL(portpool_list(pool, &list), 0);
    EXPECT_EQUAL(portpool_list_count(list), 1);
    portpool_list_free(list);
}

static unsigned answers[7];

static void tell_apart(int code) {
    int known[] = {0, WSAENOTSOCK, WSAEFAULT, WSAEINVAL, WSAEOPNOTSUPP, WSAEACCES};
    size_t index;
    for (index = 0; index < 6 && code != known[index]; index++) {}
    answers[index]++;
}

static void one_call(struct reserved block, struct portpool *pool) {
    struct call call = any_call(block);
    struct verdict verdict;
    int code;
    call.socket = make(call.kind);
    /* The fixture must not end: a call that would release it goes to another token. */
    if (call.code == SIO_RELEASE_PORT_RESERVATION) call.token = chance | 1;
    verdict = verdict_of(&call);
    prepare(&call);
    WSASetLastError(0);
    code = code_of(WSAIoctl(call.socket, call.code, call.in.at, call.in_size, call.out.at, call.out_size,
                            (LPDWORD)call.count.at, (LPWSAOVERLAPPED)call.overlapped.at, NULL));
    if (code == WSA_IO_PENDING) await((volatile WSAOVERLAPPED *)call.overlapped.at);
    detail("socket %d code 0x%08x in %p/%u out %p/%u count %p overlapped %p answered %d", (int)call.kind,
           (unsigned)call.code, call.in.at, (unsigned)call.in_size, call.out.at, (unsigned)call.out_size,
           call.count.at, call.overlapped.at, code);
    if (verdict.is_any) {
        if (!is_answer(code)) fail(__FILE__, __LINE__, "no such answer to good memory");
    } else if (code != verdict.code && (verdict.alternative == 0 || code != verdict.alternative)) {
        fail(__FILE__, __LINE__, "not %d", verdict.code);
    }
    look_for_damage(&call, code);
    if (code != 0 && below(16) == 0) look_for_reservations(pool);
    tell_apart(code);
    if (call.kind != CLOSED && call.kind != GARBAGE) EXPECT_EQUAL(closesocket(call.socket), 0);
}

/* A text is read no further than its end, which a sanitizer knows where it was allocated so. */
static void read_texts(void) {
    const char address[] = "127.0.0.1";
    char *text = (char *)malloc(sizeof address);
    struct addrinfo *list = NULL;
    struct in_addr parsed;
    EXPECT(text != NULL);
    memcpy(text, address, sizeof address);
    EXPECT_EQUAL(inet_pton(AF_INET, text, &parsed), 1);
    EXPECT_EQUAL(getaddrinfo(text, NULL, NULL, &list), 0);
    freeaddrinfo(list);
    free(text);
}

int main(int argc, char **argv) {
    unsigned long seed, calls, index;
    struct reserved block;
    struct portpool *pool;
    WSADATA data;
    if (argc != 3) return 2;
    seed = strtoul(argv[1], NULL, 10);
    calls = strtoul(argv[2], NULL, 10);
    chance = seed * 0x9e3779b97f4a7c15u | 1;
    limit_time(3000);
    EXPECT_EQUAL(WSAStartup(MAKEWORD(2, 2), &data), 0);
    page = page_size();
    is_root = has_raw_sockets();
    writable = (unsigned char *)writable_page_before_unmapped();
    read_only = (unsigned char *)read_only_pages(1);
    unmapped = (unsigned char *)unmapped_pages(1);
    block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(portpool_open(NULL, &pool), 0);
    read_texts();
    for (index = 0; index < calls; index++) one_call(block, pool);
    EXPECT_EQUAL(release(block.owner, block.token), 0);
    portpool_close(pool);
    printf("seed %lu: %lu calls: %u ok, %u not a socket, %u fault, %u invalid, %u not supported, %u access, "
           "%u other\n", seed, calls, answers[0], answers[1], answers[2], answers[3], answers[4], answers[5],
           answers[6]);
    return 0;
}
