/*
 * Many threads use the same pool and the same reservation of portpool.h at once, and make and end others
 * meanwhile: `threads POOL ROUNDS`, where POOL is `kernel` or `embedded`.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 32, SHARED_PORTS = 64 };

static struct portpool *pool;
static struct portpool_reservation *shared;
static unsigned long rounds;

static struct sockaddr_in loopback(unsigned port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

#define ADDRESS(name) (const struct sockaddr *)&(name), (uint32_t)sizeof(name)

static struct portpool_block block_of(const struct portpool_reservation *reservation, uint32_t transport) {
    struct portpool_block block;
    CHECK_EQUAL(portpool_block(reservation, transport, &block), 0);
    return block;
}

static unsigned port_of(int socket) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    CHECK(getsockname(socket, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.sin_port);
}

static struct portpool_reservation *reserve(uint32_t transports, uint16_t count) {
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_reservation *reservation = NULL;
    request.transports = transports;
    request.count = count;
    request.timeout_ms = 60000;
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), 0);
    return reservation;
}

/* A port of the block that all share: there are more than threads, so each finds one. */
static void use_what_all_share(unsigned long round) {
    struct portpool_block block = block_of(shared, PORTPOOL_TCP);
    struct sockaddr_in any_port = loopback(0);
    int made;
    unsigned port;
    if (round % 2 == 0) {
        made = portpool_tcp_listener(shared, ADDRESS(any_port));
    } else {
        made = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQUAL(portpool_bind(shared, made, ADDRESS(any_port)), 0);
    }
    CHECK(made >= 0);
    port = port_of(made);
    CHECK(port >= block.first && port < (unsigned)block.first + block.count);
    close(made);
}

static void look_at(struct portpool_block block) {
    struct portpool_port state = PORTPOOL_PORT_INIT;
    struct portpool_list *list = NULL;
    size_t index;
    int is_there = 0;
    CHECK_EQUAL(portpool_look(pool, block.transport, block.first, &state), 0);
    CHECK(state.flags & PORTPOOL_PORT_RESERVED);
    CHECK_EQUAL(portpool_list(pool, &list), 0);
    for (index = 0; index < portpool_list_count(list); index++)
        is_there |= portpool_list_entry(list, index)->token == block.token;
    CHECK(is_there);
    portpool_list_free(list);
}

static void use_what_is_its_own(unsigned long round) {
    uint32_t transport = round % 3 == 0 ? PORTPOOL_UDP : PORTPOOL_TCP;
    struct portpool_reservation *own = reserve(transport, (uint16_t)(1 + round % 4)), *second = NULL;
    struct portpool_block block = block_of(own, transport);
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct sockaddr_in any_port = loopback(0);
    int made = transport == PORTPOOL_UDP ? portpool_udp_socket(own, ADDRESS(any_port))
                                         : portpool_tcp_listener(own, ADDRESS(any_port));
    CHECK(made >= 0);
    CHECK_EQUAL(port_of(made), block.first);
    request.transports = transport;
    request.first = block.first;
    request.count = 1;
    CHECK_EQUAL(portpool_acquire(pool, &request, &second), -EADDRINUSE);
    CHECK_EQUAL(portpool_last_refusal(), PORTPOOL_REFUSAL_IN_USE);
    if (round % 8 == 0) look_at(block);
    close(made);
    CHECK_EQUAL(portpool_release(own), 0);
}

static void *work(void *argument) {
    unsigned long round, first = (unsigned long)(size_t)argument;
    for (round = first; round < first + rounds; round++) {
        use_what_all_share(round);
        use_what_is_its_own(round);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct portpool_options options = PORTPOOL_OPTIONS_INIT;
    pthread_t threads[THREADS];
    size_t index;
    if (argc != 3) return 2;
    alarm(3000);
    options.kind = strcmp(argv[1], "kernel") == 0 ? PORTPOOL_KIND_KERNEL : PORTPOOL_KIND_EMBEDDED;
    rounds = strtoul(argv[2], NULL, 10);
    CHECK_EQUAL(portpool_open(&options, &pool), 0);
    shared = reserve(PORTPOOL_TCP, SHARED_PORTS);
    for (index = 0; index < THREADS; index++)
        CHECK_EQUAL(pthread_create(&threads[index], NULL, work, (void *)index), 0);
    for (index = 0; index < THREADS; index++) CHECK_EQUAL(pthread_join(threads[index], NULL), 0);
    CHECK_EQUAL(portpool_release(shared), 0);
    portpool_close(pool);
    printf("%s: %d threads, %lu rounds each\n", argv[1], THREADS, rounds);
    return 0;
}
