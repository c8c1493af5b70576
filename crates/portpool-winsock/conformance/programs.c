/* Cases 126 to 130: whole programs, and two processes that do anything. */
#include "suite.h"

#include <stdint.h>

/* Runs a sample that was built beside the suite, with its arguments. */
static void run_sample(const char *name, const char *arguments, char *printed, size_t size) {
    const char *folder = getenv("PORTPOOL_CONFORMANCE_SAMPLES");
    const char *argument[12];
    char path[512], copy[64];
    size_t count = 0;
    char *word;
    int status;
    if (folder == NULL) fail(__FILE__, __LINE__, "the samples were not built for the suite");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(copy, sizeof copy, "%s", arguments);
    argument[count++] = path;
    for (word = strtok(copy, " "); word != NULL && count < 11; word = strtok(NULL, " "))
        argument[count++] = word;
    argument[count] = NULL;
    status = run_program(path, argument, printed, size);
    if (status != 0) fail(__FILE__, __LINE__, "%s ended with %d: %s", name, status, printed);
}

/* The first number in a text after some words. */
static unsigned number_after(const char *text, const char *words) {
    const char *at = strstr(text, words);
    if (at == NULL) fail(__FILE__, __LINE__, "\"%s\" is not in what was printed: %s", words, text);
    at += strlen(words);
    while (*at != 0 && (*at < '0' || *at > '9')) at++;
    return (unsigned)atoi(at);
}

static int is_inside_5000(unsigned port) { return port >= 5000 && port <= 5019; }

void case_126(void) {
    char printed[4096];
    unsigned port;
    run_sample("persistent", "5000 20", printed, sizeof printed);
    port = number_after(printed, "bound to port");
    detail("port %u", port);
    EXPECT(is_inside_5000(port));
    EXPECT(strstr(printed, "deleted") != NULL);
    EXPECT_EQUAL(ask("bind 4 tcp loopback 5000 plain").code, 0);
}

void case_127(void) {
    char printed[4096];
    unsigned port;
    run_sample("acquire", "2 2 17 5000 20", printed, sizeof printed);
    port = number_after(printed, "bound to port");
    detail("port %u", port);
    EXPECT(is_inside_5000(port));
    EXPECT(strstr(printed, "released") != NULL);
}

void case_128(void) {
    char printed[4096];
    run_sample("release", "2 2 17 5000 20", printed, sizeof printed);
    EXPECT_EQUAL(number_after(printed, "bytes of ACQUIRE"), 16);
    EXPECT_EQUAL(number_after(printed, "bytes of RELEASE"), 0);
    detail("16 bytes, then 0");
}

void case_129(void) {
    char printed[4096];
    unsigned port;
    run_sample("release", "2 1 6 0 20", printed, sizeof printed);
    port = number_after(printed, "first port");
    detail("first port %u", port);
    EXPECT(port != 0);
    EXPECT_EQUAL(number_after(printed, "bytes of RELEASE"), 0);
}

/* ---- Case 130: who owns which port is written down where both processes see it ----------------- */

enum { PORTS = 65536, BLOCKS = 6, SOCKETS = 8, RANDOM_STEPS = 1000, PROCESSES = 2 };

struct random_block {
    struct reserved block;
    int type;
    int is_live;
};

struct random_socket {
    SOCKET socket;
    int type;
    unsigned port;
    int is_live;
};

static unsigned *owners;
static unsigned self;
static uint64_t chance;
static unsigned refusals;

static unsigned below(unsigned bound) {
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((chance >> 33) % bound);
}

static unsigned *owner_of(int type, unsigned port) {
    return &owners[(type == SOCK_DGRAM ? PORTS : 0) + port];
}

/* Port 0 is nobody's: its word counts who is ready, so that all begin together. */
static void wait_for_the_others(void) {
    unsigned long long deadline = milliseconds() + 20000;
    __atomic_fetch_add(&owners[0], 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&owners[0], __ATOMIC_SEQ_CST) < PROCESSES) EXPECT(milliseconds() < deadline);
}

/* Between being granted a port and writing it down nobody else can have it, nor can we have given it
 * back before it was struck out. */
static void write_down(int type, unsigned port) {
    unsigned before = __atomic_exchange_n(owner_of(type, port), self, __ATOMIC_SEQ_CST);
    if (before != 0)
        fail(__FILE__, __LINE__, "port %u is owned by process %u and by %u", port, before, self);
}

static void strike_out(int type, unsigned port) {
    EXPECT_EQUAL(__atomic_exchange_n(owner_of(type, port), 0, __ATOMIC_SEQ_CST), self);
}

static void step_acquire(struct random_block *slot) {
    INET_PORT_RESERVATION_INSTANCE instance;
    unsigned start = below(3) == 0 ? 0 : 62000 + below(40), index;
    int code;
    if (slot->is_live) return;
    slot->type = below(2) ? SOCK_STREAM : SOCK_DGRAM;
    slot->block.owner = new_socket(AF_INET, slot->type);
    code = acquire(slot->block.owner, start, 1 + below(6), &instance);
    if (code != 0) {
        EXPECT_EQUAL(code, WSAEADDRINUSE);
        refusals++;
        EXPECT_EQUAL(closesocket(slot->block.owner), 0);
        return;
    }
    slot->block.port = START_OF(instance);
    slot->block.count = COUNT_OF(instance);
    slot->block.token = TOKEN_OF(instance);
    slot->is_live = 1;
    for (index = 0; index < slot->block.count; index++) write_down(slot->type, slot->block.port + index);
}

/* Ends a block; ports of sockets bound from it stay written down until those are closed. */
static void step_end(struct random_block *slot, struct random_socket *sockets) {
    unsigned index, other;
    if (!slot->is_live) return;
    for (index = 0; index < slot->block.count; index++) {
        int is_bound = 0;
        for (other = 0; other < SOCKETS; other++)
            is_bound |= sockets[other].is_live && sockets[other].type == slot->type &&
                        sockets[other].port == slot->block.port + index;
        if (!is_bound) strike_out(slot->type, slot->block.port + index);
    }
    slot->is_live = 0;
    if (below(2)) EXPECT_EQUAL(release(slot->block.owner, slot->block.token), 0);
    EXPECT_EQUAL(closesocket(slot->block.owner), 0);
}

static void step_consume(struct random_block *slot, struct random_socket *place) {
    int code;
    if (!slot->is_live || place->is_live) return;
    place->type = slot->type;
    place->socket = new_socket(AF_INET, slot->type);
    EXPECT_EQUAL(associate(place->socket, slot->block.token), 0);
    code = bind_to(place->socket, below(2) ? 0 : slot->block.port + below(slot->block.count));
    if (code != 0) {
        EXPECT(code == WSAENOBUFS || code == WSAEADDRINUSE);
        EXPECT_EQUAL(closesocket(place->socket), 0);
        return;
    }
    place->port = port_of(place->socket);
    place->is_live = 1;
    EXPECT(is_inside(slot->block, place->port));
    EXPECT_EQUAL(__atomic_load_n(owner_of(place->type, place->port), __ATOMIC_SEQ_CST), self);
}

static void step_close(struct random_block *blocks, struct random_socket *place) {
    int index, is_reserved = 0;
    if (!place->is_live) return;
    for (index = 0; index < BLOCKS; index++)
        is_reserved |= blocks[index].is_live && blocks[index].type == place->type &&
                       is_inside(blocks[index].block, place->port);
    if (!is_reserved) strike_out(place->type, place->port);
    place->is_live = 0;
    EXPECT_EQUAL(closesocket(place->socket), 0);
}

/* A plain bind in the busy ports: what it gets, nobody may own. */
static void step_plain(void) {
    int type = below(2) ? SOCK_STREAM : SOCK_DGRAM, code;
    SOCKET made = new_socket(AF_INET, type);
    unsigned port = 62000 + below(46);
    code = bind_to(made, port);
    if (code == 0) {
        write_down(type, port);
        strike_out(type, port);
    } else {
        EXPECT(code == WSAEACCES || code == WSAEADDRINUSE);
    }
    EXPECT_EQUAL(closesocket(made), 0);
}

int random_steps(unsigned seed, unsigned steps, const char *file) {
    struct random_block blocks[BLOCKS];
    struct random_socket sockets[SOCKETS];
    unsigned step, index;
    memset(blocks, 0, sizeof blocks);
    memset(sockets, 0, sizeof sockets);
    owners = shared_words(file, 2 * PORTS);
    self = own_pid();
    chance = seed;
    wait_for_the_others();
    for (step = 0; step < steps; step++) {
        struct random_block *slot = &blocks[below(BLOCKS)];
        struct random_socket *place = &sockets[below(SOCKETS)];
        switch (below(5)) {
            case 0: step_acquire(slot); break;
            case 1: step_end(slot, sockets); break;
            case 2: step_consume(slot, place); break;
            case 3: step_close(blocks, place); break;
            default: step_plain(); break;
        }
    }
    for (index = 0; index < SOCKETS; index++) step_close(blocks, &sockets[index]);
    for (index = 0; index < BLOCKS; index++) step_end(&blocks[index], sockets);
    return 0;
}

static void *ask_in_thread(void *order) {
    static struct answer answer;
    answer = ask("%s", (const char *)order);
    return &answer;
}

void case_130(void) {
    const char *seed_text = getenv("PORTPOOL_SEED");
    unsigned seed = seed_text == NULL ? 20260101u : (unsigned)strtoul(seed_text, NULL, 10), index;
    const char *directory = getenv("PORTPOOL_CONFORMANCE_SAMPLES");
    char file[160], order[220];
    struct answer *other;
    thread_name thread;
    EXPECT(directory != NULL);
    EXPECT((size_t)snprintf(file, sizeof file, "%s/owners-%u", directory, own_pid()) < sizeof file);
    owners = shared_words(file, 2 * PORTS);
    snprintf(order, sizeof order, "random %u %d %s", seed, RANDOM_STEPS, file);
    thread = start_thread(ask_in_thread, order);
    EXPECT_EQUAL(random_steps(seed + 1, RANDOM_STEPS, file), 0);
    other = (struct answer *)join_thread(thread);
    remove(file);
    EXPECT_EQUAL(other->code, 0);
    EXPECT_EQUAL(other->status, 0);
    for (index = 1; index < 2 * PORTS; index++) EXPECT_EQUAL(owners[index], 0);
    detail("seed %u, %d steps each, %u refusals here, nothing left", seed, RANDOM_STEPS, refusals);
}
