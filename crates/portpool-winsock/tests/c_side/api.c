/*
 * Every function of portpool.h, against the pool that the first argument names: `kernel`, `embedded`, or
 * `auto-kernel` and `auto-embedded`, where the library chooses and the test knows what. Also C++.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static int is_kernel;

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

#define ADDRESS(name) (const struct sockaddr *)&(name), (uint32_t)sizeof(name)

static int port_of(int socket) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    CHECK(getsockname(socket, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.sin_port);
}

static int is_in(int port, struct portpool_block block) {
    return port >= block.first && port < block.first + block.count;
}

/* What a process without a right sees. */
static int stranger_errno(int type, int port) {
    int stranger = socket(AF_INET, type, 0), seen;
    struct sockaddr_in address = loopback((uint16_t)port);
    CHECK(stranger >= 0);
    seen = bind(stranger, ADDRESS(address)) == 0 ? 0 : errno;
    close(stranger);
    return seen;
}

static int refused_to_strangers(void) { return is_kernel ? EACCES : EADDRINUSE; }

static struct portpool_reservation *reserve(struct portpool *pool, uint32_t transports, uint16_t count) {
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_reservation *reservation = NULL;
    request.transports = transports;
    request.count = count;
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), 0);
    CHECK(reservation != NULL);
    return reservation;
}

static struct portpool_block block_of(const struct portpool_reservation *reservation, uint32_t transport) {
    struct portpool_block block;
    CHECK_EQUAL(portpool_block(reservation, transport, &block), 0);
    CHECK_EQUAL(block.transport, transport);
    CHECK(block.token != 0);
    return block;
}

static void a_wildcard_block_is_what_was_asked(struct portpool *pool) {
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_reservation *reservation = NULL;
    struct portpool_block tcp, udp;
    request.transports = PORTPOOL_BOTH;
    request.count = 6;
    request.align = 2;
    request.within_first = 21000;
    request.within_count = 2000;
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), 0);
    tcp = block_of(reservation, PORTPOOL_TCP);
    udp = block_of(reservation, PORTPOOL_UDP);
    CHECK_EQUAL(tcp.first, udp.first);
    CHECK_EQUAL(tcp.count, 6);
    CHECK_EQUAL(tcp.first % 2, 0);
    CHECK(tcp.first >= 21000 && tcp.first + 6 <= 23000);
    CHECK_EQUAL(stranger_errno(SOCK_STREAM, tcp.first + 5), refused_to_strangers());
    CHECK_EQUAL(stranger_errno(SOCK_DGRAM, tcp.first), refused_to_strangers());
    CHECK_EQUAL(portpool_release(reservation), 0);
    CHECK_EQUAL(stranger_errno(SOCK_STREAM, tcp.first + 5), 0);
}

static void a_specific_block_is_granted_whole_or_not_at_all(struct portpool *pool) {
    struct portpool_reservation *first = reserve(pool, PORTPOOL_TCP, 4), *second = NULL;
    struct portpool_block block = block_of(first, PORTPOOL_TCP);
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    request.transports = PORTPOOL_TCP;
    request.first = block.first;
    request.count = 4;
    CHECK_EQUAL(portpool_acquire(pool, &request, &second), -EADDRINUSE);
    CHECK(second == NULL);
    CHECK_EQUAL(portpool_last_refusal(), PORTPOOL_REFUSAL_IN_USE);
    CHECK(strstr(portpool_last_error(), "bound or reserved") != NULL);
    request.timeout_ms = 20;
    CHECK_EQUAL(portpool_acquire(pool, &request, &second), -EADDRINUSE);
    CHECK_EQUAL(portpool_release(first), 0);
    CHECK_EQUAL(portpool_acquire(pool, &request, &second), 0);
    CHECK_EQUAL(block_of(second, PORTPOOL_TCP).first, block.first);
    CHECK_EQUAL(portpool_block(second, PORTPOOL_UDP, &block), -ENOENT);
    CHECK_EQUAL(portpool_release(second), 0);
}

static void sockets_of_a_block_serve(struct portpool *pool) {
    struct portpool_reservation *reservation = reserve(pool, PORTPOOL_BOTH, 3);
    struct portpool_block block = block_of(reservation, PORTPOOL_TCP);
    struct sockaddr_in any_port = loopback(0), server;
    int listener, client, accepted, peer, own;
    char byte = 0;
    listener = portpool_tcp_listener(reservation, ADDRESS(any_port));
    CHECK(listener >= 0);
    CHECK_EQUAL(port_of(listener), block.first);
    server = loopback((uint16_t)port_of(listener));
    client = portpool_connect(reservation, ADDRESS(server));
    CHECK(client >= 0);
    CHECK(is_in(port_of(client), block) && port_of(client) != port_of(listener));
    accepted = accept(listener, NULL, NULL);
    CHECK(accepted >= 0 && write(client, "x", 1) == 1);
    CHECK(read(accepted, &byte, 1) == 1 && byte == 'x');

    peer = portpool_udp_socket(reservation, ADDRESS(any_port));
    CHECK(peer >= 0 && is_in(port_of(peer), block));
    own = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_EQUAL(portpool_associate(reservation, own), 0);
    server = loopback((uint16_t)port_of(peer));
    CHECK_EQUAL(portpool_send_to(reservation, own, "yz", 2, ADDRESS(server)), 2);
    CHECK(is_in(port_of(own), block) && port_of(own) != port_of(peer));
    CHECK(recv(peer, &byte, 1, 0) == 1 && byte == 'y');
    CHECK_EQUAL(portpool_release(reservation), 0);
    CHECK_EQUAL(stranger_errno(SOCK_DGRAM, port_of(peer)), EADDRINUSE);
    close(listener), close(client), close(accepted), close(peer), close(own);
}

static void own_sockets_bind_and_listen(struct portpool *pool) {
    struct portpool_reservation *reservation = reserve(pool, PORTPOOL_TCP, 2);
    struct portpool_block block = block_of(reservation, PORTPOOL_TCP);
    struct sockaddr_in outside = loopback((uint16_t)(block.first + 2)), any_port = loopback(0);
    int first = socket(AF_INET, SOCK_STREAM, 0), second = socket(AF_INET, SOCK_STREAM, 0);
    int third = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_EQUAL(portpool_bind(reservation, first, ADDRESS(outside)), -EADDRNOTAVAIL);
    CHECK_EQUAL(portpool_last_refusal(), PORTPOOL_REFUSAL_OUTSIDE_BLOCK);
    CHECK_EQUAL(portpool_bind(reservation, first, ADDRESS(any_port)), 0);
    CHECK_EQUAL(port_of(first), block.first);
    CHECK_EQUAL(portpool_listen(reservation, first, 8), 0);
    CHECK_EQUAL(portpool_associate(reservation, first), -EINVAL);
    CHECK_EQUAL(portpool_bind(reservation, second, ADDRESS(any_port)), 0);
    CHECK_EQUAL(portpool_bind(reservation, third, ADDRESS(any_port)), -ENOBUFS);
    CHECK_EQUAL(portpool_associate(reservation, udp), -EINVAL);
    CHECK_EQUAL(portpool_last_refusal(), PORTPOOL_REFUSAL_WRONG_TRANSPORT);
    CHECK_EQUAL(portpool_release(reservation), 0);
    close(first), close(second), close(third), close(udp);
}

static void reservations_have_tokens(struct portpool *pool) {
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_block one, two;
    int owner = socket(AF_INET, SOCK_STREAM, 0), server = socket(AF_INET, SOCK_STREAM, 0);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), raw_pair[2];
    struct sockaddr_in any_port = loopback(0);
    request.count = 2;
    CHECK_EQUAL(portpool_acquire_on(pool, owner, &request, &one), 0);
    request.transports = PORTPOOL_TCP;
    CHECK_EQUAL(portpool_acquire_on(pool, owner, &request, &two), 0);
    CHECK(one.token != two.token);
    request.transports = PORTPOOL_UDP;
    CHECK_EQUAL(portpool_acquire_on(pool, owner, &request, &two), -EINVAL);
    CHECK_EQUAL(portpool_associate_on(pool, udp, one.token), -EINVAL);
    CHECK_EQUAL(portpool_associate_on(pool, server, 0), -EINVAL);
    CHECK_EQUAL(portpool_associate_on(pool, server, one.token), 0);
    CHECK_EQUAL(portpool_bind_on(pool, server, ADDRESS(any_port)), 0);
    CHECK(is_in(port_of(server), one));
    CHECK_EQUAL(portpool_listen_on(pool, server, 4), 0);
    CHECK_EQUAL(portpool_release_on(pool, owner, one.token), 0);
    CHECK_EQUAL(portpool_release_on(pool, owner, one.token), -EINVAL);
    CHECK_EQUAL(portpool_release_on(pool, owner, two.token), 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, raw_pair) == 0);
    request.transports = 0;
    CHECK_EQUAL(portpool_acquire_on(pool, raw_pair[0], &request, &two), -EOPNOTSUPP);
    CHECK_EQUAL(portpool_last_refusal(), PORTPOOL_REFUSAL_UNSUPPORTED_SOCKET);
    close(owner), close(server), close(udp), close(raw_pair[0]), close(raw_pair[1]);
}

static void everybody_may_look(struct portpool *pool) {
    struct portpool_reservation *reservation = reserve(pool, PORTPOOL_UDP, 2);
    struct portpool_block block = block_of(reservation, PORTPOOL_UDP);
    struct portpool_list *list = NULL;
    struct portpool_port state = PORTPOOL_PORT_INIT;
    size_t index, found = 0;
    CHECK_EQUAL(portpool_list(pool, &list), 0);
    for (index = 0; index < portpool_list_count(list); index++) {
        const struct portpool_entry *entry = portpool_list_entry(list, index);
        if (entry->token != block.token) continue;
        found++;
        CHECK_EQUAL(entry->transport, PORTPOOL_UDP);
        CHECK_EQUAL(entry->first, block.first);
        CHECK_EQUAL(entry->count, 2);
        CHECK_EQUAL(entry->uid, getuid());
        CHECK_EQUAL(entry->owner_pid_seen, getpid());
        CHECK(entry->born_ns > 0 && entry->command[15] == 0);
    }
    CHECK_EQUAL(found, 1);
    CHECK(portpool_list_entry(list, portpool_list_count(list)) == NULL);
    portpool_list_free(list);

    CHECK_EQUAL(portpool_look(pool, PORTPOOL_UDP, (uint16_t)(block.first + 1), &state), 0);
    CHECK_EQUAL(state.flags & PORTPOOL_PORT_RESERVED, PORTPOOL_PORT_RESERVED);
    CHECK_EQUAL(state.entry.token, block.token);
    if (is_kernel) {
        int owner = portpool_owner_socket(reservation, PORTPOOL_UDP);
        CHECK(owner >= 0 && port_of(owner) == 0);
    } else {
        CHECK_EQUAL(portpool_owner_socket(reservation, PORTPOOL_UDP), -ENOENT);
    }
    CHECK_EQUAL(portpool_release(reservation), 0);
    CHECK_EQUAL(portpool_look(pool, PORTPOOL_UDP, block.first, &state), 0);
    CHECK_EQUAL(state.flags & PORTPOOL_PORT_RESERVED, 0);
    CHECK_EQUAL(state.entry.token, 0);
}

static void a_fork_is_another_process(struct portpool *pool) {
    struct portpool_reservation *reservation = reserve(pool, PORTPOOL_TCP, 2);
    struct portpool_block block = block_of(reservation, PORTPOOL_TCP);
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int own = socket(AF_INET, SOCK_STREAM, 0);
        CHECK_EQUAL(portpool_associate(reservation, own), -EACCES);
        CHECK_EQUAL(portpool_release_on(pool, own, block.token), -EINVAL);
        CHECK_EQUAL(portpool_release(reservation), -EINVAL);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 0);
    CHECK_EQUAL(stranger_errno(SOCK_STREAM, block.first), refused_to_strangers());
    CHECK_EQUAL(portpool_release(reservation), 0);
}

static void a_tree_is_the_kernel_pools(struct portpool *pool) {
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_reservation *reservation = NULL;
    struct portpool_block block;
    request.transports = PORTPOOL_TCP;
    request.count = 2;
    request.flags = PORTPOOL_ZERO_FROM_BLOCK;
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), -EINVAL);
    request.flags = PORTPOOL_TREE;
    if (!is_kernel) {
        CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), -EOPNOTSUPP);
        return;
    }
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), 0);
    block = block_of(reservation, PORTPOOL_TCP);
    CHECK_EQUAL(stranger_errno(SOCK_STREAM, block.first), 0);
    CHECK_EQUAL(portpool_release(reservation), 0);
}

static void nonsense_is_refused(struct portpool *pool) {
    struct portpool_reservation *reservation = reserve(pool, PORTPOOL_TCP, 1), *none = NULL;
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_options options = PORTPOOL_OPTIONS_INIT;
    struct portpool_port state = PORTPOOL_PORT_INIT;
    struct portpool_block block;
    struct portpool *other = NULL;
    struct portpool_list *list = NULL;
    struct sockaddr_in address = loopback(0);
    int own = socket(AF_INET, SOCK_STREAM, 0), closed = dup(own);
    close(closed);
    request.transports = PORTPOOL_TCP;
    request.count = 1;

    /* Null where it is not allowed, and where it is. */
    CHECK_EQUAL(portpool_open(NULL, NULL), -EINVAL);
    CHECK_EQUAL(portpool_kind(NULL), -EINVAL);
    CHECK(portpool_reason(NULL) == NULL);
    CHECK_EQUAL(portpool_acquire(NULL, &request, &none), -EINVAL);
    CHECK_EQUAL(portpool_acquire(pool, NULL, &none), -EINVAL);
    CHECK_EQUAL(portpool_acquire(pool, &request, NULL), -EINVAL);
    CHECK(strstr(portpool_last_error(), "`reservation` is null") != NULL);
    CHECK_EQUAL(portpool_last_refusal(), 0);
    CHECK_EQUAL(portpool_block(NULL, PORTPOOL_TCP, &block), -EINVAL);
    CHECK_EQUAL(portpool_block(reservation, PORTPOOL_TCP, NULL), -EINVAL);
    CHECK_EQUAL(portpool_block(reservation, PORTPOOL_BOTH, &block), -EINVAL);
    CHECK_EQUAL(portpool_owner_socket(NULL, PORTPOOL_TCP), -EINVAL);
    CHECK_EQUAL(portpool_associate(NULL, own), -EINVAL);
    CHECK_EQUAL(portpool_bind(NULL, own, ADDRESS(address)), -EINVAL);
    CHECK_EQUAL(portpool_bind(reservation, own, NULL, sizeof address), -EINVAL);
    CHECK_EQUAL(portpool_listen(NULL, own, 1), -EINVAL);
    CHECK_EQUAL(portpool_send_to(reservation, own, NULL, 1, ADDRESS(address)), -EINVAL);
    CHECK_EQUAL(portpool_tcp_listener(NULL, ADDRESS(address)), -EINVAL);
    CHECK_EQUAL(portpool_udp_socket(reservation, NULL, 0), -EINVAL);
    CHECK_EQUAL(portpool_connect(NULL, ADDRESS(address)), -EINVAL);
    CHECK_EQUAL(portpool_acquire_on(pool, own, &request, NULL), -EINVAL);
    CHECK_EQUAL(portpool_release_on(NULL, own, 1), -EINVAL);
    CHECK_EQUAL(portpool_associate_on(NULL, own, 1), -EINVAL);
    CHECK_EQUAL(portpool_bind_on(pool, own, NULL, 0), -EINVAL);
    CHECK_EQUAL(portpool_listen_on(NULL, own, 1), -EINVAL);
    CHECK_EQUAL(portpool_list(pool, NULL), -EINVAL);
    CHECK_EQUAL(portpool_list(NULL, &list), -EINVAL);
    CHECK_EQUAL(portpool_look(pool, PORTPOOL_TCP, 1, NULL), -EINVAL);
    CHECK_EQUAL(portpool_list_count(NULL), 0);
    CHECK(portpool_list_entry(NULL, 0) == NULL);
    CHECK_EQUAL(portpool_release(NULL), 0);
    portpool_close(NULL);
    portpool_list_free(NULL);

    /* Descriptors that are none. */
    CHECK_EQUAL(portpool_associate(reservation, -1), -EBADF);
    CHECK_EQUAL(portpool_associate(reservation, closed), -EBADF);
    CHECK_EQUAL(portpool_acquire_on(pool, closed, &request, &block), -EBADF);

    /* Numbers that make no sense. */
    CHECK_EQUAL(portpool_bind(reservation, own, ADDRESS(address.sin_family)), -EINVAL);
    address.sin_family = AF_UNIX;
    CHECK_EQUAL(portpool_bind(reservation, own, ADDRESS(address)), -EAFNOSUPPORT);
    CHECK_EQUAL(portpool_look(pool, PORTPOOL_TCP, 0, &state), -EINVAL);
    CHECK_EQUAL(portpool_look(pool, PORTPOOL_BOTH, 1, &state), -EINVAL);
    state.size = 8;
    CHECK_EQUAL(portpool_look(pool, PORTPOOL_TCP, 1, &state), -EINVAL);
    request.count = 0;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    request.first = 65535, request.count = 2;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    request.first = 30000, request.align = 2;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    request.align = 0, request.transports = 4;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    request.transports = PORTPOOL_TCP, request.flags = 4;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    request.flags = 0, request.size = 4;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    CHECK(none == NULL);
    options.kind = 3;
    CHECK_EQUAL(portpool_open(&options, &other), -EINVAL);
    options.kind = 0, options.flags = 2;
    CHECK_EQUAL(portpool_open(&options, &other), -EINVAL);
    options.flags = 0, options.size = 0;
    CHECK_EQUAL(portpool_open(&options, &other), -EINVAL);
    CHECK(other == NULL);
    CHECK_EQUAL(portpool_release(reservation), 0);
    close(own);
}

static void *fail_in_another_thread(void *text) {
    CHECK_EQUAL(portpool_last_refusal(), 0);
    CHECK(portpool_last_error()[0] == 0);
    CHECK_EQUAL(portpool_kind(NULL), -EINVAL);
    CHECK(strcmp(portpool_last_error(), (const char *)text) != 0);
    return NULL;
}

static void the_last_error_is_the_threads_own(struct portpool *pool) {
    struct portpool_reservation *none = NULL;
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    char before[256];
    pthread_t thread;
    CHECK_EQUAL(portpool_acquire(pool, &request, &none), -EINVAL);
    snprintf(before, sizeof before, "%s", portpool_last_error());
    CHECK(pthread_create(&thread, NULL, fail_in_another_thread, before) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(strcmp(portpool_last_error(), before) == 0);
    CHECK(portpool_kind(pool) > 0);
    CHECK(strcmp(portpool_last_error(), before) == 0);
}

static void *reserve_often(void *pool) {
    int round;
    for (round = 0; round < 20; round++) {
        struct portpool_reservation *reservation = reserve((struct portpool *)pool, PORTPOOL_BOTH, 3);
        struct sockaddr_in any_port = loopback(0);
        int listener = portpool_tcp_listener(reservation, ADDRESS(any_port));
        CHECK(listener >= 0);
        CHECK(is_in(port_of(listener), block_of(reservation, PORTPOOL_TCP)));
        close(listener);
        CHECK_EQUAL(portpool_release(reservation), 0);
    }
    return NULL;
}

static void threads_share_a_pool(struct portpool *pool) {
    pthread_t threads[8];
    size_t index;
    for (index = 0; index < 8; index++)
        CHECK(pthread_create(&threads[index], NULL, reserve_often, pool) == 0);
    for (index = 0; index < 8; index++) CHECK(pthread_join(threads[index], NULL) == 0);
}

static struct portpool *open_as_named(const char *name) {
    struct portpool_options options = PORTPOOL_OPTIONS_INIT;
    struct portpool *pool = NULL;
    int is_chosen = strncmp(name, "auto-", 5) == 0;
    is_kernel = strcmp(is_chosen ? name + 5 : name, "kernel") == 0;
    options.kind = is_kernel ? PORTPOOL_KIND_KERNEL : PORTPOOL_KIND_EMBEDDED;
    CHECK_EQUAL(portpool_open(is_chosen ? NULL : &options, &pool), 0);
    CHECK_EQUAL(portpool_kind(pool), options.kind);
    CHECK(portpool_reason(pool)[0] != 0);
    return pool;
}

static void the_versions_are_the_same(void) {
    char text[32];
    CHECK_EQUAL(portpool_version(), PORTPOOL_VERSION);
    snprintf(text, sizeof text, "%d.%d.%d", PORTPOOL_VERSION_MAJOR, PORTPOOL_VERSION_MINOR,
             PORTPOOL_VERSION_PATCH);
    CHECK(strcmp(portpool_version_text(), text) == 0);
}

static void refusals_have_the_same_numbers(void) {
#define SAME(number, text) CHECK(strcmp(portpool_refusal_name(PORTPOOL_REFUSAL_##number), text) == 0)
    SAME(IN_USE, "in-use"); SAME(NO_ROOM, "no-room"); SAME(EPHEMERAL, "ephemeral");
    SAME(PRIVILEGED_PORT, "privileged-port"); SAME(FOREIGN_TOKEN, "foreign-token");
    SAME(UNKNOWN_TOKEN, "unknown-token"); SAME(DUPLICATE_TOKEN, "duplicate-token");
    SAME(WRONG_TRANSPORT, "wrong-transport"); SAME(ALREADY_BOUND, "already-bound");
    SAME(OUTSIDE_BLOCK, "outside-block"); SAME(STRANGER, "stranger"); SAME(UID_LIMIT, "uid-limit");
    SAME(SHARED_LIMIT, "shared-limit"); SAME(SOCKET_LIMIT, "socket-limit");
    SAME(POOL_FULL, "pool-full"); SAME(NO_MEMORY, "no-memory"); SAME(NOT_ANCESTOR, "not-ancestor");
    SAME(UNSUPPORTED_SOCKET, "unsupported-socket"); SAME(BAD_REQUEST, "bad-request");
    SAME(BUSY, "busy"); SAME(VERSION_MISMATCH, "version-mismatch");
    SAME(NOT_ATTACHED, "not-attached"); SAME(NOT_PERMITTED, "not-permitted");
    SAME(NO_SUCH_BLOCK, "no-such-block"); SAME(PERSISTENT, "persistent");
    CHECK(portpool_refusal_name(0) == NULL && portpool_refusal_name(-1) == NULL);
    CHECK(portpool_refusal_name(70000) == NULL);
}

int main(int argc, char **argv) {
    struct portpool *pool;
    CHECK(argc == 2);
    the_versions_are_the_same();
    refusals_have_the_same_numbers();
    pool = open_as_named(argv[1]);
    nonsense_is_refused(pool);
    the_last_error_is_the_threads_own(pool);
    a_wildcard_block_is_what_was_asked(pool);
    a_specific_block_is_granted_whole_or_not_at_all(pool);
    sockets_of_a_block_serve(pool);
    own_sockets_bind_and_listen(pool);
    reservations_have_tokens(pool);
    everybody_may_look(pool);
    a_fork_is_another_process(pool);
    a_tree_is_the_kernel_pools(pool);
    threads_share_a_pool(pool);
    portpool_close(pool);
    puts("every function answers as its header says");
    return 0;
}
