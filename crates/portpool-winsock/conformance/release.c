/* Cases 62 to 83: RELEASE, lifetime, errors that all codes share. */
#include "suite.h"

static void is_free(unsigned port, unsigned count) {
    EXPECT_EQUAL(ask("acquire tcp %u %u", port, count).code, 0);
}

static void is_taken(unsigned port) {
    EXPECT_EQUAL(ask("acquire tcp %u 1", port).code, WSAEADDRINUSE);
    EXPECT_EQUAL(ask("bind 4 tcp loopback %u plain", port).code, WSAEACCES);
}

void case_62(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_INSTANCE instance;
    EXPECT_EQUAL(release(block.owner, block.token), 0);
    EXPECT_EQUAL(acquire(block.owner, block.port, 4, &instance), 0);
    detail("%u-%u again, token %llx after %llx", block.port, block.port + 3,
           (unsigned long long)TOKEN_OF(instance), (unsigned long long)block.token);
    EXPECT(TOKEN_OF(instance) != block.token);
}

void case_63(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(release(tcp(), block.token), 0);
    is_free(block.port, 4);
    detail("released through another socket");
}

void case_64(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = ask("release tcp %llx", (unsigned long long)block.token).code;
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
    is_taken(block.port);
    bound_in(block);
}

void case_65(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code;
    EXPECT_EQUAL(release(block.owner, block.token), 0);
    code = release(block.owner, block.token);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
    EXPECT_EQUAL(release(block.owner, 0), WSAEINVAL);
}

void case_66(void) {
    unsigned port = free_block(SOCK_STREAM, 4);
    ULONG64 token = 0, found = 0;
    int code;
    EXPECT_EQUAL(CreatePersistentTcpPortReservation(htons((USHORT)port), 4, &token), 0);
    code = release(tcp(), token);
    EXPECT_EQUAL(LookupPersistentTcpPortReservation(htons((USHORT)port), 4, &found), 0);
    EXPECT_EQUAL(DeletePersistentTcpPortReservation(htons((USHORT)port), 4), 0);
    detail("%d, and Lookup finds %llx", code, (unsigned long long)found);
    EXPECT_EQUAL(code, WSAEINVAL);
    EXPECT_EQUAL(found, token);
}

void case_67(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    unsigned port;
    EXPECT_EQUAL(associate(block.owner, block.token), 0);
    EXPECT_EQUAL(bind_to(block.owner, 0), 0);
    port = port_of(block.owner);
    EXPECT_EQUAL(release(block.owner, block.token), 0);
    EXPECT_EQUAL(listen(block.owner, 1), 0);
    EXPECT_EQUAL(port_of(block.owner), port);
    EXPECT_EQUAL(ask("bind 4 tcp loopback %u plain", port).code, WSAEADDRINUSE);
    is_free(block.port + 1, 3);
    detail("keeps %u and listens", port);
}

void case_68(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(closesocket(block.owner), 0);
    is_free(block.port, 4);
    detail("%u-%u free", block.port, block.port + 3);
}

void case_69(void) {
    struct peer peer = start_peer(SELF, "acquire tcp 0 4");
    EXPECT_EQUAL(peer.answer.code, 0);
    is_taken(peer.answer.port);
    kill_peer(&peer);
    EXPECT_EQUAL(peer.answer.status, 1009);
    is_free(peer.answer.port, 4);
    detail("%u-%u free after kill -9", peer.answer.port, peer.answer.port + 3);
}

void case_70(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made = bound_in(block);
    unsigned port = port_of(made);
    EXPECT_EQUAL(closesocket(block.owner), 0);
    EXPECT_EQUAL(listen(made, 1), 0);
    EXPECT_EQUAL(ask("acquire tcp %u 1", port).code, WSAEADDRINUSE);
    is_free(block.port + 1, 3);
    EXPECT_EQUAL(closesocket(made), 0);
    is_free(port, 1);
    detail("%u kept until closed", port);
}

void case_71(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    SOCKET made = associated(block);
    int code;
    EXPECT_EQUAL(release(block.owner, block.token), 0);
    code = bind_to(made, 0);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAENOBUFS);
}

void case_72(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    unsigned port[3];
    int index;
    SOCKET owner = tcp();
    for (index = 0; index < 3; index++) {
        EXPECT_EQUAL(acquire(owner, 0, 4, &instance), 0);
        port[index] = START_OF(instance);
    }
    EXPECT_EQUAL(closesocket(owner), 0);
    for (index = 0; index < 3; index++) is_free(port[index], 4);
    detail("%u, %u and %u free", port[0], port[1], port[2]);
}

static void in_child(void *argument) {
    struct reserved *block = (struct reserved *)argument;
    EXPECT_EQUAL(associate(tcp(), block->token), WSAEACCES);
    EXPECT_EQUAL(release(block->owner, block->token), WSAEINVAL);
}

void case_73(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    EXPECT_EQUAL(in_fork(in_child, &block), 0);
    is_taken(block.port);
    bound_in(block);
    detail("%d in the child, the block survives it", WSAEACCES);
}

static int release_with(struct reserved block, void *in, DWORD in_size, void *out, DWORD out_size) {
    DWORD bytes = 0xdeadbeef;
    int code;
    if (in != NULL) memcpy(in, &block.token, 8);
    code = control(block.owner, SIO_RELEASE_PORT_RESERVATION, in, in_size, out, out_size, &bytes);
    EXPECT_EQUAL(bytes, 0);
    return code;
}

void case_74(void) {
    unsigned char in[16];
    struct reserved block = reserve(SOCK_STREAM, 4);
    memset(in, 0xaa, sizeof in);
    EXPECT_EQUAL(release_with(block, in, 16, NULL, 0), 0);
    is_free(block.port, 4);
    detail("16 bytes of input taken");
}

void case_75(void) {
    unsigned char in[16], out[16];
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = release_with(block, in, 8, out, 1);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEINVAL);
    is_taken(block.port);
}

void case_76(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    int code = release_with(block, NULL, 8, NULL, 0);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEFAULT);
    is_taken(block.port);
}

/* ---- Errors that all codes share ------------------------------------------------------------- */

static int any_code(SOCKET socket, DWORD code, DWORD *bytes) {
    unsigned char in[8] = {0, 0, 1, 0}, out[16];
    int is_acquire = code == SIO_ACQUIRE_PORT_RESERVATION;
    return control(socket, code, in, is_acquire ? 4 : 8, is_acquire ? out : NULL, is_acquire ? 16 : 0,
                   bytes);
}

void case_77(void) {
    DWORD codes[] = RESERVATION_CODES, bytes;
    SOCKET closed = tcp(), garbage[] = {0, INVALID_SOCKET, 0x7ffffff0, (SOCKET)1 << 40};
    size_t index, other;
    EXPECT_EQUAL(closesocket(closed), 0);
    for (index = 0; index < 3; index++) {
        EXPECT_EQUAL(any_code(closed, codes[index], &bytes), WSAENOTSOCK);
        for (other = 0; other < sizeof garbage / sizeof garbage[0]; other++)
            EXPECT_EQUAL(any_code(garbage[other], codes[index], &bytes), WSAENOTSOCK);
    }
    detail("%d for closed, 0, INVALID_SOCKET and two more", WSAENOTSOCK);
}

/* Runs before any WSAStartup. */
void case_78(void) {
    DWORD codes[] = RESERVATION_CODES, bytes;
    size_t index;
    for (index = 0; index < 3; index++)
        EXPECT_EQUAL(any_code(5, codes[index], &bytes), WSANOTINITIALISED);
    detail("%d", WSANOTINITIALISED);
}

void case_79(void) {
    DWORD bytes = 0xdeadbeef;
    int code = any_code(tcp(), 0x98000067, &bytes);
    detail("%d, count %u", code, (unsigned)bytes);
    EXPECT_EQUAL(code, WSAEOPNOTSUPP);
    EXPECT_EQUAL(bytes, 0);
}

void case_80(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    INET_PORT_RESERVATION_TOKEN token;
    unsigned char out[64];
    DWORD bytes;
    int code;
    token.Token = block.token;
    code = control(block.owner, 0xd8000065, &token, 8, out, sizeof out, &bytes);
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEOPNOTSUPP);
    EXPECT_EQUAL(control(block.owner, 0xd8000065, &token, 8, NULL, 0, &bytes), WSAEOPNOTSUPP);
    is_taken(block.port);
}

/* Takes the block away and gives it back, again and again, while the other side wants it. */
struct holder {
    unsigned port;
    int is_over;
};

static void *hold(void *argument) {
    struct holder *holder = (struct holder *)argument;
    while (!__atomic_load_n(&holder->is_over, __ATOMIC_SEQ_CST)) {
        INET_PORT_RESERVATION_INSTANCE instance;
        SOCKET owner = tcp();
        int code = acquire(owner, holder->port, 8, &instance);
        EXPECT(code == 0 || code == WSAEADDRINUSE);
        yield_processor();
        EXPECT_EQUAL(closesocket(owner), 0);
    }
    return NULL;
}

void case_81(void) {
    struct holder holder = {0, 0};
    unsigned long long deadline = milliseconds() + 30000;
    unsigned granted = 0, refused = 0;
    u_long non_blocking = 1;
    thread_name thread;
    holder.port = free_block(SOCK_STREAM, 8);
    thread = start_thread(hold, &holder);
    while (granted < 50 || refused < 50) {
        INET_PORT_RESERVATION_INSTANCE instance;
        SOCKET owner = tcp();
        int code;
        EXPECT_EQUAL(ioctlsocket(owner, FIONBIO, &non_blocking), 0);
        code = acquire(owner, holder.port, 8, &instance);
        if (code == 0) granted++;
        if (code == WSAEADDRINUSE) refused++;
        EXPECT(code == 0 || code == WSAEADDRINUSE);
        EXPECT_EQUAL(closesocket(owner), 0);
        if (milliseconds() >= deadline)
            fail(__FILE__, __LINE__, "only %u granted, %u refused", granted, refused);
    }
    __atomic_store_n(&holder.is_over, 1, __ATOMIC_SEQ_CST);
    join_thread(thread);
    detail("%u granted, %u times %d", granted, refused, WSAEADDRINUSE);
}

/* A network namespace without a pool, and a library told to use the kernel's. */
void case_82(void) {
    int code = ask("unattached").code;
    detail("%d", code);
    EXPECT_EQUAL(code, WSAENETDOWN);
}

void case_83(void) {
    DWORD codes[] = RESERVATION_CODES;
    size_t index;
    for (index = 0; index < 3; index++)
        EXPECT_EQUAL(any_code(INVALID_SOCKET, codes[index], NULL), WSAENOTSOCK);
    detail("%d before %d", WSAENOTSOCK, WSAEFAULT);
}
