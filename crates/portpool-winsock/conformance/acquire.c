/* Cases 1 to 33: constants, layouts, ACQUIRE. */
#include "suite.h"

#include <stddef.h>

void case_1(void) {
    detail("0x%08x 0x%08x 0x%08x", (unsigned)SIO_ACQUIRE_PORT_RESERVATION,
           (unsigned)SIO_RELEASE_PORT_RESERVATION, (unsigned)SIO_ASSOCIATE_PORT_RESERVATION);
    EXPECT_EQUAL(SIO_ACQUIRE_PORT_RESERVATION, 0x98000064u);
    EXPECT_EQUAL(SIO_RELEASE_PORT_RESERVATION, 0x98000065u);
    EXPECT_EQUAL(SIO_ASSOCIATE_PORT_RESERVATION, 0x98000066u);
}

void case_2(void) {
    detail("%zu %zu %zu, token at %zu", sizeof(INET_PORT_RANGE), sizeof(INET_PORT_RESERVATION_TOKEN),
           sizeof(INET_PORT_RESERVATION_INSTANCE), offsetof(INET_PORT_RESERVATION_INSTANCE, Token));
    EXPECT_EQUAL(sizeof(INET_PORT_RANGE), 4);
    EXPECT_EQUAL(sizeof(INET_PORT_RESERVATION_TOKEN), 8);
    EXPECT_EQUAL(sizeof(INET_PORT_RESERVATION_INSTANCE), 16);
    EXPECT_EQUAL(offsetof(INET_PORT_RESERVATION_INSTANCE, Token), 8);
}

void case_3(void) {
    detail("%zu %zu %zu", sizeof(WSAOVERLAPPED), sizeof(WSADATA), sizeof(WSATHREADID));
    EXPECT_EQUAL(sizeof(WSAOVERLAPPED), 32);
    EXPECT_EQUAL(sizeof(WSADATA), 408);
    EXPECT_EQUAL(sizeof(WSATHREADID), 16);
}

/* The suite is built twice, without extensions of the vendor's compiler. */
void case_4(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    memset(&instance, 0, sizeof instance);
    instance.Reservation.StartPort = 1;
    instance.Reservation.NumberOfPorts = 2;
    TOKEN_OF(instance) = 3;
    detail("%s: %zu and %zu", LANGUAGE, sizeof instance, (size_t)((char *)&TOKEN_OF(instance) - (char *)&instance));
    EXPECT_EQUAL(sizeof instance, 16);
    EXPECT_EQUAL((char *)&TOKEN_OF(instance) - (char *)&instance, 8);
#ifndef __cplusplus
    EXPECT_EQUAL(instance.StartPort, 1);
    EXPECT_EQUAL(instance.NumberOfPorts, 2);
#endif
}

void case_5(void) {
    ULONG64 invalid = INVALID_PORT_RESERVATION_TOKEN;
    detail("%llu", (unsigned long long)invalid);
    EXPECT_EQUAL(invalid, 0);
}

static void a_specific_block_is_granted(int type) {
    unsigned port = free_block(type, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(new_socket(AF_INET, type), port, 4, &instance), 0);
    detail("%u-%u token %llx, 16 bytes", START_OF(instance), START_OF(instance) + 3u,
           (unsigned long long)TOKEN_OF(instance));
    EXPECT_EQUAL(START_OF(instance), port);
    EXPECT_EQUAL(COUNT_OF(instance), 4);
    EXPECT(TOKEN_OF(instance) != 0);
}

void case_6(void) { a_specific_block_is_granted(SOCK_STREAM); }

void case_7(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    struct reserved of_tcp;
    a_specific_block_is_granted(SOCK_DGRAM);
    of_tcp = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(acquire(udp(), of_tcp.port, 4, &instance), 0);
}

void case_8(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(tcp(), 0, 8, &instance), 0);
    detail("%u-%u", START_OF(instance), START_OF(instance) + 7u);
    EXPECT_EQUAL(COUNT_OF(instance), 8);
    EXPECT(START_OF(instance) != 0 && START_OF(instance) + 7u <= 65535);
}

/* The pool's wildcard ranges are its dynamic range. */
void case_9(void) {
    struct reserved block = reserve(SOCK_STREAM, 8);
    unsigned last = block.port + 7;
    detail("%u-%u", block.port, last);
    EXPECT((block.port >= 20000 && last <= 32767) || block.port >= 61000);
}

void case_10(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(tcp(), port, 4, &instance), 0);
    detail("port %u, StartPort %u", port, instance.Reservation.StartPort);
    EXPECT_EQUAL(instance.Reservation.StartPort, htons((USHORT)port));
    EXPECT_EQUAL(instance.Reservation.StartPort, ((port & 0xff) << 8 | port >> 8));
}

void case_11(void) {
    struct reserved one = reserve(SOCK_STREAM, 1), two = reserve(SOCK_STREAM, 1);
    struct reserved three = reserve(SOCK_DGRAM, 1);
    detail("%llx %llx %llx", (unsigned long long)one.token, (unsigned long long)two.token,
           (unsigned long long)three.token);
    EXPECT(one.token != two.token && two.token != three.token && one.token != three.token);
}

void case_12(void) {
    enum { BLOCKS = 10, COUNT = 64 };
    unsigned start[BLOCKS];
    int index, other;
    SOCKET owner = tcp();
    for (index = 0; index < BLOCKS; index++) {
        INET_PORT_RESERVATION_INSTANCE instance;
        EXPECT_EQUAL(acquire(owner, 0, COUNT, &instance), 0);
        start[index] = START_OF(instance);
        for (other = 0; other < index; other++)
            EXPECT(start[index] + COUNT <= start[other] || start[other] + COUNT <= start[index]);
    }
    detail("%d blocks of %d, first %u, last %u", BLOCKS, COUNT, start[0], start[BLOCKS - 1]);
}

void case_13(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    struct answer answer = ask("acquire tcp %u 1", block.port);
    detail("%d", answer.code);
    EXPECT_EQUAL(answer.code, WSAEADDRINUSE);
}

void case_14(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    SOCKET other = tcp();
    EXPECT_EQUAL(acquire(other, block.port + 3, 2, &instance), WSAEADDRINUSE);
    EXPECT_EQUAL(acquire(other, block.port, 4, &instance), WSAEADDRINUSE);
    detail("%d for an overlap and for the same block", WSAEADDRINUSE);
}

void case_15(void) {
    unsigned port = free_block(SOCK_STREAM, 1);
    INET_PORT_RESERVATION_INSTANCE instance;
    SOCKET plain = tcp();
    int code;
    EXPECT_EQUAL(bind_to(plain, port), 0);
    code = acquire(tcp(), port, 1, &instance);
    detail("%u: %d", port, code);
    EXPECT_EQUAL(code, WSAEADDRINUSE);
}

void case_16(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    unsigned port = excluded_port();
    int code = acquire(tcp(), port, 1, &instance);
    detail("%u: %d", port, code);
    EXPECT_EQUAL(code, WSAEADDRINUSE);
}

void case_17(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    unsigned port = free_block(SOCK_STREAM, 4);
    ULONG64 token = 0;
    int code;
    EXPECT_EQUAL(CreatePersistentTcpPortReservation(htons((USHORT)port), 4, &token), 0);
    code = acquire(tcp(), port + 1, 1, &instance);
    EXPECT_EQUAL(DeletePersistentTcpPortReservation(htons((USHORT)port), 4), 0);
    detail("%u: %d", port + 1, code);
    EXPECT_EQUAL(code, WSAEADDRINUSE);
}

void case_18(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    SOCKET busy = tcp();
    EXPECT_EQUAL(bind_to(busy, port + 2), 0);
    EXPECT_EQUAL(acquire(tcp(), port, 4, &instance), WSAEADDRINUSE);
    EXPECT_EQUAL(ask("acquire tcp %u 2", port).code, 0);
    EXPECT_EQUAL(ask("acquire tcp %u 1", port + 3).code, 0);
    detail("%d, then others get %u-%u and %u", WSAEADDRINUSE, port, port + 1, port + 3);
}

void case_19(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(udp(), block.port, 4, &instance), 0);
    detail("%u-%u twice", START_OF(instance), START_OF(instance) + 3u);
}

void case_20(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    int code = acquire(new_socket(AF_INET6, SOCK_STREAM), block.port, 1, &instance);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEADDRINUSE);
}

void case_21(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(tcp(), free_block(SOCK_STREAM, 1), 0, &instance), WSAEINVAL);
    EXPECT_EQUAL(acquire(tcp(), 0, 0, &instance), WSAEINVAL);
    detail("%d, specific and wildcard", WSAEINVAL);
}

void case_22(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    int code = acquire(tcp(), 65535, 2, &instance);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
}

void case_23(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(acquire(tcp(), 65535, 1, &instance), 0);
    detail("%u, count %u", START_OF(instance), COUNT_OF(instance));
    EXPECT_EQUAL(START_OF(instance), 65535);
}

void case_24(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    int code = acquire(tcp(), 0, 60000, &instance);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAENOBUFS);
}

static int acquire_with(unsigned port, void *in, DWORD in_size, void *out, DWORD out_size) {
    INET_PORT_RANGE *range = (INET_PORT_RANGE *)in;
    DWORD bytes = 0xdeadbeef;
    int code;
    if (range != NULL) {
        range->StartPort = htons((USHORT)port);
        range->NumberOfPorts = 4;
    }
    code = control(tcp(), SIO_ACQUIRE_PORT_RESERVATION, in, in_size, out, out_size, &bytes);
    EXPECT_EQUAL(bytes, code == 0 ? 16 : 0);
    return code;
}

static void is_free(unsigned port) {
    EXPECT_EQUAL(ask("acquire tcp %u 4", port).code, 0);
}

void case_25(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    INET_PORT_RANGE range;
    EXPECT_EQUAL(acquire_with(port, &range, sizeof range, &instance, 15), WSAEINVAL);
    EXPECT_EQUAL(acquire_with(port, &range, sizeof range, &instance, 0), WSAEINVAL);
    EXPECT_EQUAL(acquire_with(port, &range, sizeof range, NULL, 0), WSAEINVAL);
    is_free(port);
    detail("%d and count 0", WSAEINVAL);
}

void case_26(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    INET_PORT_RANGE range;
    EXPECT_EQUAL(acquire_with(port, &range, 3, &instance, sizeof instance), WSAEINVAL);
    EXPECT_EQUAL(acquire_with(port, NULL, 0, &instance, sizeof instance), WSAEINVAL);
    is_free(port);
    detail("%d", WSAEINVAL);
}

void case_27(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    int code = acquire_with(0, NULL, 4, &instance, sizeof instance);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEFAULT);
}

void case_28(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RANGE range;
    int code = acquire_with(port, &range, sizeof range, NULL, 16);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEFAULT);
    is_free(port);
}

void case_29(void) {
    DWORD codes[] = RESERVATION_CODES;
    struct reserved block = reserve(SOCK_STREAM, 4);
    unsigned char in[8] = {0}, out[16];
    size_t index;
    for (index = 0; index < 3; index++) {
        int is_acquire = codes[index] == SIO_ACQUIRE_PORT_RESERVATION;
        if (!is_acquire) memcpy(in, &block.token, 8);
        EXPECT_EQUAL(control(block.owner, codes[index], in, is_acquire ? 4 : 8, is_acquire ? out : NULL,
                             is_acquire ? 16 : 0, NULL), WSAEFAULT);
    }
    EXPECT_EQUAL(ask("acquire tcp %u 1", block.port).code, WSAEADDRINUSE);
    detail("%d from each of the three", WSAEFAULT);
}

void case_30(void) {
    DWORD codes[] = RESERVATION_CODES;
    unsigned char in[8] = {1, 2, 0, 1}, out[16];
    size_t index;
    DWORD bytes;
    SOCKET raw = socket(AF_INET, SOCK_RAW, 253);
    if (raw == INVALID_SOCKET) fail(__FILE__, __LINE__, "a raw socket: %d", WSAGetLastError());
    for (index = 0; index < 3; index++) {
        int is_acquire = codes[index] == SIO_ACQUIRE_PORT_RESERVATION;
        EXPECT_EQUAL(control(raw, codes[index], in, is_acquire ? 4 : 8, is_acquire ? out : NULL,
                             is_acquire ? 16 : 0, &bytes), WSAEOPNOTSUPP);
    }
    detail("%d from each of the three on a raw socket", WSAEOPNOTSUPP);
}

void case_31(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    SOCKET bound = tcp();
    EXPECT_EQUAL(bind_to(bound, 0), 0);
    EXPECT_EQUAL(acquire(bound, port, 4, &instance), 0);
    detail("bound to %u, acquired %u-%u", port_of(bound), port, port + 3);
}

void case_32(void) {
    struct answer specific, any = ask_as(NOBODY, "acquire tcp 0 4");
    EXPECT_EQUAL(any.code, 0);
    specific = ask_as(NOBODY, "acquire tcp %u 4", any.port);
    EXPECT_EQUAL(specific.code, 0);
    detail("uid %u got %u and then %u", NOBODY, any.port, specific.port);
}

void case_33(void) {
    unsigned char out[32];
    INET_PORT_RANGE range;
    size_t index;
    memset(out, 0xaa, sizeof out);
    EXPECT_EQUAL(acquire_with(free_block(SOCK_STREAM, 4), &range, sizeof range, out, 32), 0);
    for (index = 16; index < 32; index++) EXPECT_EQUAL(out[index], 0xaa);
    detail("16 bytes written, 16 untouched");
}
