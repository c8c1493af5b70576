/* What the cases stand on: what they report, calls that answer a code, reservations, free ports. */
#include "suite.h"

#include <stdarg.h>

static char seen[512];

void detail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(seen, sizeof seen, format, arguments);
    va_end(arguments);
}

const char *what_was_seen(void) { return seen; }

void fail(const char *file, int line, const char *format, ...) {
    char text[512];
    const char *name = strrchr(file, '/');
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("%s:%d: %s%s%s\n", name == NULL ? file : name + 1, line, text, seen[0] ? "; seen: " : "", seen);
    fflush(stdout);
    exit(1);
}

int code_of(int result) { return result == 0 ? 0 : WSAGetLastError(); }

int control(SOCKET socket, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size,
            DWORD *count) {
    WSASetLastError(0);
    return code_of(WSAIoctl(socket, code, in, in_size, out, out_size, count, NULL, NULL));
}

int acquire(SOCKET socket, unsigned start, unsigned count, INET_PORT_RESERVATION_INSTANCE *out) {
    INET_PORT_RANGE range;
    DWORD bytes = 0xdeadbeef;
    int code;
    memset(out, 0, sizeof *out);
    range.StartPort = htons((USHORT)start);
    range.NumberOfPorts = (USHORT)count;
    code = control(socket, SIO_ACQUIRE_PORT_RESERVATION, &range, sizeof range, out, sizeof *out, &bytes);
    EXPECT_EQUAL(bytes, code == 0 ? 16 : 0);
    return code;
}

static int with_token(SOCKET socket, DWORD code, ULONG64 value) {
    INET_PORT_RESERVATION_TOKEN token;
    DWORD bytes = 0xdeadbeef;
    int answer;
    token.Token = value;
    answer = control(socket, code, &token, sizeof token, NULL, 0, &bytes);
    EXPECT_EQUAL(bytes, 0);
    return answer;
}

int associate(SOCKET socket, ULONG64 token) {
    return with_token(socket, SIO_ASSOCIATE_PORT_RESERVATION, token);
}

int release(SOCKET socket, ULONG64 token) {
    return with_token(socket, SIO_RELEASE_PORT_RESERVATION, token);
}

int bind_at(SOCKET socket, int family, int is_any, unsigned port) {
    WSASetLastError(0);
    if (family == AF_INET6) {
        struct sockaddr_in6 address;
        memset(&address, 0, sizeof address);
        address.sin6_family = AF_INET6;
        address.sin6_port = htons((USHORT)port);
        if (!is_any) ((unsigned char *)&address.sin6_addr)[15] = 1;
        return code_of(bind(socket, (struct sockaddr *)&address, sizeof address));
    } else {
        struct sockaddr_in address;
        memset(&address, 0, sizeof address);
        address.sin_family = AF_INET;
        address.sin_port = htons((USHORT)port);
        address.sin_addr.s_addr = htonl(is_any ? INADDR_ANY : INADDR_LOOPBACK);
        return code_of(bind(socket, (struct sockaddr *)&address, sizeof address));
    }
}

int bind_to(SOCKET socket, unsigned port) { return bind_at(socket, AF_INET, 0, port); }

SOCKET new_socket(int family, int type) {
    SOCKET made = socket(family, type, type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP);
    if (made == INVALID_SOCKET)
        fail(__FILE__, __LINE__, "socket(%d, %d) failed with %d", family, type, WSAGetLastError());
    return made;
}

SOCKET tcp(void) { return new_socket(AF_INET, SOCK_STREAM); }

SOCKET udp(void) { return new_socket(AF_INET, SOCK_DGRAM); }

unsigned port_of(SOCKET socket) {
    struct sockaddr_storage address;
    int size = sizeof address;
    memset(&address, 0, sizeof address);
    EXPECT_EQUAL(code_of(getsockname(socket, (struct sockaddr *)&address, &size)), 0);
    if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    EXPECT_EQUAL(address.ss_family, AF_INET);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

struct reserved reserve(int type, unsigned count) {
    INET_PORT_RESERVATION_INSTANCE instance;
    struct reserved block;
    block.owner = new_socket(AF_INET, type);
    EXPECT_EQUAL(acquire(block.owner, 0, count, &instance), 0);
    block.port = START_OF(instance);
    block.count = COUNT_OF(instance);
    block.token = TOKEN_OF(instance);
    EXPECT_EQUAL(block.count, count);
    EXPECT(block.port != 0 && block.token != 0);
    return block;
}

int is_inside(struct reserved block, unsigned port) {
    return port >= block.port && port < block.port + block.count;
}

unsigned free_block(int type, unsigned count) {
    struct reserved block = reserve(type, count);
    EXPECT_EQUAL(closesocket(block.owner), 0);
    return block.port;
}

SOCKET associated(struct reserved block) {
    SOCKET made = tcp();
    EXPECT_EQUAL(associate(made, block.token), 0);
    return made;
}

SOCKET bound_in(struct reserved block) {
    SOCKET made = associated(block);
    EXPECT_EQUAL(bind_to(made, 0), 0);
    EXPECT(is_inside(block, port_of(made)));
    return made;
}

unsigned excluded_port(void) {
    const char *text = getenv("PORTPOOL_CONFORMANCE_EXCLUDED");
    unsigned port = text == NULL ? 0 : (unsigned)atoi(text);
    if (port == 0) fail(__FILE__, __LINE__, "no administered exclusion was set up for the suite");
    return port;
}
