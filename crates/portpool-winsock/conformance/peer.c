/*
 * Another process: does what its order says with sockets of its own, answers one line (code, port, token)
 * and lives until its input ends. Orders, with ports in host order and tokens in hexadecimal:
 *
 *     acquire tcp|udp START COUNT      associate tcp|udp TOKEN      consume tcp|udp TOKEN PORT
 *     release tcp|udp TOKEN            bind 4|6 tcp|udp any|loopback PORT plain|reuse
 *     create|lookup|delete tcp|udp START COUNT
 *     unattached                       random SEED STEPS FILE
 */
#include "suite.h"

int random_steps(unsigned seed, unsigned steps, const char *file);

static struct answer answer;

static int type_of(const char *transport) {
    return strcmp(transport, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
}

static SOCKET socket_of(const char *transport) { return new_socket(AF_INET, type_of(transport)); }

static void do_acquire(const char *transport, unsigned start, unsigned count) {
    INET_PORT_RESERVATION_INSTANCE instance;
    answer.code = acquire(socket_of(transport), start, count, &instance);
    answer.port = START_OF(instance);
    answer.token = TOKEN_OF(instance);
}

static void do_consume(const char *transport, ULONG64 token, unsigned port) {
    SOCKET made = socket_of(transport);
    answer.code = associate(made, token);
    if (answer.code == 0) answer.code = bind_to(made, port);
    if (answer.code == 0) answer.port = port_of(made);
}

static void do_bind(int family, const char *transport, int is_any, unsigned port, int reuse) {
    SOCKET made = new_socket(family, type_of(transport));
    int on = 1;
    if (reuse) EXPECT_EQUAL(setsockopt(made, SOL_SOCKET, SO_REUSEADDR, (char *)&on, sizeof on), 0);
    answer.code = bind_at(made, family, is_any, port);
    if (answer.code == 0) answer.port = port_of(made);
}

static void do_persistent(const char *what, const char *transport, unsigned start, unsigned count) {
    USHORT first = htons((USHORT)start), many = (USHORT)count;
    ULONG64 token = 0;
    int is_udp = type_of(transport) == SOCK_DGRAM;
    if (strcmp(what, "create") == 0)
        answer.code = (int)(is_udp ? CreatePersistentUdpPortReservation(first, many, &token)
                                   : CreatePersistentTcpPortReservation(first, many, &token));
    else if (strcmp(what, "lookup") == 0)
        answer.code = (int)(is_udp ? LookupPersistentUdpPortReservation(first, many, &token)
                                   : LookupPersistentTcpPortReservation(first, many, &token));
    else
        answer.code = (int)(is_udp ? DeletePersistentUdpPortReservation(first, many)
                                   : DeletePersistentTcpPortReservation(first, many));
    answer.port = start;
    answer.token = token;
}

static void obey(const char *order) {
    char word[5][200];
    unsigned first = 0, second = 0;
    memset(word, 0, sizeof word);
    sscanf(order, "%199s %199s %199s %199s %199s", word[0], word[1], word[2], word[3], word[4]);
    first = (unsigned)atoi(word[2]);
    second = (unsigned)atoi(word[3]);
    if (strcmp(word[0], "acquire") == 0) {
        do_acquire(word[1], first, second);
    } else if (strcmp(word[0], "associate") == 0) {
        answer.code = associate(socket_of(word[1]), strtoull(word[2], NULL, 16));
    } else if (strcmp(word[0], "release") == 0) {
        answer.code = release(socket_of(word[1]), strtoull(word[2], NULL, 16));
    } else if (strcmp(word[0], "consume") == 0) {
        do_consume(word[1], strtoull(word[2], NULL, 16), second);
    } else if (strcmp(word[0], "bind") == 0) {
        int family = word[1][0] == '6' ? AF_INET6 : AF_INET;
        int reuse = strstr(order, " reuse") != NULL;
        do_bind(family, word[2], strcmp(word[3], "any") == 0, (unsigned)atoi(word[4]), reuse);
    } else if (strcmp(word[0], "random") == 0) {
        answer.code = random_steps((unsigned)atoi(word[1]), first, word[3]);
    } else if (strcmp(word[0], "unattached") == 0) {
        do_acquire("tcp", 0, 1);
    } else {
        do_persistent(word[0], word[1], first, second);
    }
}

int peer_main(unsigned uid, const char *order) {
    WSADATA data;
    if (strcmp(order, "unattached") == 0) EXPECT_EQUAL(enter_new_network(), 0);
    become(uid);
    EXPECT_EQUAL(WSAStartup(MAKEWORD(2, 2), &data), 0);
    obey(order);
    printf("%d %u %llx\n", answer.code, answer.port, answer.token);
    fflush(stdout);
    wait_for_end_of_input();
    return 0;
}
