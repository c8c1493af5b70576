/* Cases 34 to 61: ASSOCIATE and bind, plain sockets against reservations. */
#include "suite.h"

void case_34(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made = bound_in(block);
    detail("%u of %u-%u", port_of(made), block.port, block.port + 3);
}

void case_35(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    unsigned port[4];
    int index, other;
    for (index = 0; index < 4; index++) {
        port[index] = port_of(bound_in(block));
        for (other = 0; other < index; other++) EXPECT(port[index] != port[other]);
    }
    EXPECT(bind_to(associated(block), 0) != 0);
    detail("%u %u %u %u", port[0], port[1], port[2], port[3]);
}

void case_36(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int index, code;
    for (index = 0; index < 4; index++) bound_in(block);
    code = bind_to(associated(block), 0);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAENOBUFS);
}

void case_37(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made[4], again;
    unsigned port;
    int index;
    for (index = 0; index < 4; index++) made[index] = bound_in(block);
    port = port_of(made[2]);
    EXPECT_EQUAL(closesocket(made[2]), 0);
    again = bound_in(block);
    detail("%u again", port_of(again));
    EXPECT_EQUAL(port_of(again), port);
}

void case_38(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made = associated(block);
    EXPECT_EQUAL(bind_to(made, block.port + 2), 0);
    detail("%u", port_of(made));
    EXPECT_EQUAL(port_of(made), block.port + 2);
}

void case_39(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = bind_to(associated(block), block.port + 4);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEADDRNOTAVAIL);
}

void case_40(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET one = associated(block), two = associated(block);
    int code;
    EXPECT_EQUAL(bind_to(one, block.port), 0);
    code = bind_to(two, block.port);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEADDRINUSE);
}

void case_41(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(associate(block.owner, block.token), 0);
    EXPECT_EQUAL(bind_to(block.owner, 0), 0);
    detail("the owner socket has %u", port_of(block.owner));
    EXPECT(is_inside(block, port_of(block.owner)));
}

void case_42(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET one = associated(block), two = associated(block), three = associated(block);
    EXPECT_EQUAL(bind_to(one, 0), 0);
    EXPECT_EQUAL(bind_to(two, 0), 0);
    EXPECT_EQUAL(bind_to(three, 0), 0);
    detail("%u %u %u", port_of(one), port_of(two), port_of(three));
}

void case_43(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET plain = tcp();
    unsigned port;
    int code;
    EXPECT_EQUAL(bind_to(plain, 0), 0);
    port = port_of(plain);
    code = associate(plain, block.token);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
    EXPECT_EQUAL(port_of(plain), port);
}

void case_44(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = ask("associate tcp %llx", (unsigned long long)block.token).code;
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEACCES);
}

void case_45(void) {
    SOCKET made = tcp();
    EXPECT_EQUAL(associate(made, 0), WSAEINVAL);
    EXPECT_EQUAL(associate(made, 0x0123456789abcdefull), WSAEINVAL);
    /* A failed ASSOCIATE leaves the socket as it was. */
    EXPECT_EQUAL(bind_to(made, 0), 0);
    detail("%d for both", WSAEINVAL);
}

void case_46(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = associate(udp(), block.token);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
}

void case_47(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made = new_socket(AF_INET6, SOCK_STREAM);
    EXPECT_EQUAL(associate(made, block.token), 0);
    EXPECT_EQUAL(bind_at(made, AF_INET6, 0, 0), 0);
    detail("[::1]:%u", port_of(made));
    EXPECT(is_inside(block, port_of(made)));
}

static int associate_with(struct reserved block, void *in, DWORD in_size, void *out, DWORD out_size) {
    DWORD bytes = 0xdeadbeef;
    int code;
    if (in != NULL) memcpy(in, &block.token, 8);
    code = control(tcp(), SIO_ASSOCIATE_PORT_RESERVATION, in, in_size, out, out_size, &bytes);
    EXPECT_EQUAL(bytes, 0);
    return code;
}

void case_48(void) {
    unsigned char in[16];
    int code = associate_with(reserve(SOCK_STREAM, 4), in, 7, NULL, 0);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
}

void case_49(void) {
    int code = associate_with(reserve(SOCK_STREAM, 4), NULL, 8, NULL, 0);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEFAULT);
}

void case_50(void) {
    unsigned char in[16], out[16];
    int code = associate_with(reserve(SOCK_STREAM, 4), in, 8, out, 8);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
}

void case_51(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_TOKEN token;
    DWORD bytes = 0xdeadbeef;
    token.Token = block.token;
    EXPECT_EQUAL(control(tcp(), SIO_ASSOCIATE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes), 0);
    detail("%u", (unsigned)bytes);
    EXPECT_EQUAL(bytes, 0);
}

void case_52(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET server = tcp(), client = associated(block);
    struct sockaddr_in address;
    int size = sizeof address;
    EXPECT_EQUAL(bind_to(server, 0), 0);
    EXPECT_EQUAL(listen(server, 1), 0);
    EXPECT_EQUAL(getsockname(server, (struct sockaddr *)&address, &size), 0);
    EXPECT_EQUAL(code_of(connect(client, (struct sockaddr *)&address, size)), 0);
    detail("connected from %u", port_of(client));
    EXPECT(is_inside(block, port_of(client)));
}

void case_53(void) {
    struct reserved one = reserve(SOCK_STREAM, 4), two = reserve(SOCK_STREAM, 4);
    SOCKET made = associated(one);
    EXPECT_EQUAL(associate(made, two.token), 0);
    EXPECT_EQUAL(bind_to(made, 0), 0);
    detail("%u of %u-%u", port_of(made), two.port, two.port + 3);
    EXPECT(is_inside(two, port_of(made)));
}

void case_54(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET idle = associated(block);
    int index;
    for (index = 0; index < 4; index++) bound_in(block);
    EXPECT_EQUAL(bind_to(idle, 0), WSAENOBUFS);
    detail("4 of 4 ports for the others");
}

/* ---- Plain sockets --------------------------------------------------------------------------- */

void case_55(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = ask("bind 4 tcp loopback %u plain", block.port).code;
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEACCES);
    EXPECT_EQUAL(ask_as(NOBODY, "bind 4 tcp loopback %u plain", block.port + 3).code, WSAEACCES);
}

void case_56(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = bind_to(tcp(), block.port);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEACCES);
}

void case_57(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(ask("bind 4 tcp any %u plain", block.port).code, WSAEACCES);
    EXPECT_EQUAL(ask("bind 4 tcp loopback %u plain", block.port).code, WSAEACCES);
    EXPECT_EQUAL(ask("bind 6 tcp any %u plain", block.port).code, WSAEACCES);
    EXPECT_EQUAL(ask("bind 6 tcp loopback %u plain", block.port).code, WSAEACCES);
    detail("%d on 0.0.0.0, 127.0.0.1, [::] and [::1]", WSAEACCES);
}

void case_58(void) {
    struct reserved block = reserve(SOCK_STREAM, 4), of_udp = reserve(SOCK_DGRAM, 4);
    int code = ask("bind 4 tcp loopback %u reuse", block.port).code;
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEACCES);
    EXPECT_EQUAL(ask("bind 4 udp any %u reuse", of_udp.port).code, WSAEACCES);
}

void case_59(void) {
    enum { TRIES = 4000 };
    struct reserved of_tcp = reserve(SOCK_STREAM, 200), of_udp = reserve(SOCK_DGRAM, 200);
    unsigned lowest = 65535, highest = 0;
    int index;
    for (index = 0; index < TRIES; index++) {
        int is_udp = index % 2;
        SOCKET made = is_udp ? udp() : tcp();
        unsigned port;
        EXPECT_EQUAL(bind_at(made, AF_INET, index % 3 == 0, 0), 0);
        port = port_of(made);
        EXPECT(!is_inside(is_udp ? of_udp : of_tcp, port));
        if (port < lowest) lowest = port;
        if (port > highest) highest = port;
        EXPECT_EQUAL(closesocket(made), 0);
    }
    detail("%d ports between %u and %u", TRIES, lowest, highest);
}

void case_60(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    struct answer answer = ask("bind 4 udp any %u plain", block.port);
    detail("%d", answer.code);
    EXPECT_EQUAL(answer.code, 0);
}

void case_61(void) {
    unsigned port = excluded_port();
    int index;
    EXPECT_EQUAL(bind_to(tcp(), port), 0);
    for (index = 0; index < 4000; index++) {
        SOCKET made = tcp();
        EXPECT_EQUAL(bind_to(made, 0), 0);
        EXPECT(port_of(made) != port);
        EXPECT_EQUAL(closesocket(made), 0);
    }
    detail("bound %u, and no bind(0) of 4000 got it", port);
}
