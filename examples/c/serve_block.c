/*
 * Reserves a block of four TCP ports, serves an echo on three and talks to them, and shows that a plain
 * socket cannot have the fourth before it is released.
 *
 *     cc serve_block.c $(pkg-config --cflags --libs portpool) -o serve_block && ./serve_block
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <portpool.h>

enum { COUNT = 4, SERVED = 3 };

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port); /* a sockaddr has network order; portpool.h has host order */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* One line to a listener of the block, from a socket outside it, and back. */
static int echo_once(int listener, uint16_t port) {
    struct sockaddr_in server = loopback(port);
    char line[16] = "";
    int client = socket(AF_INET, SOCK_STREAM, 0), served;
    ssize_t size;
    if (client < 0 || connect(client, (struct sockaddr *)&server, sizeof server) != 0) return -errno;
    if ((served = accept(listener, NULL, NULL)) < 0) return -errno;
    if (write(client, "hello", 5) != 5) return -errno;
    if ((size = read(served, line, sizeof line)) <= 0) return -EIO;
    if (write(served, line, (size_t)size) != size) return -errno;
    if (read(client, line, sizeof line) != 5 || memcmp(line, "hello", 5) != 0) return -EIO;
    close(served);
    close(client);
    return 0;
}

static int plain_bind(uint16_t port) {
    struct sockaddr_in address = loopback(port);
    int stranger = socket(AF_INET, SOCK_STREAM, 0), refused;
    refused = bind(stranger, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    close(stranger);
    return refused;
}

int main(void) {
    struct portpool *pool;
    struct portpool_reservation *ports;
    struct portpool_request request = PORTPOOL_REQUEST_INIT;
    struct portpool_block block;
    int listeners[SERVED], index, wrong;
    uint16_t last;

    if (portpool_open(NULL, &pool) < 0) goto failed;
    printf("pool: %s (%s)\n", portpool_kind(pool) == PORTPOOL_KIND_KERNEL ? "kernel" : "embedded",
           portpool_reason(pool));

    request.transports = PORTPOOL_TCP;
    request.count = COUNT;
    if (portpool_acquire(pool, &request, &ports) < 0) goto failed;
    if (portpool_block(ports, PORTPOOL_TCP, &block) < 0) goto failed;
    printf("reserved: tcp %u-%u\n", block.first, block.first + block.count - 1u);

    for (index = 0; index < SERVED; index++) {
        struct sockaddr_in address = loopback((uint16_t)(block.first + index));
        listeners[index] = portpool_tcp_listener(ports, (struct sockaddr *)&address, sizeof address);
        if (listeners[index] < 0) goto failed;
        if ((wrong = echo_once(listeners[index], (uint16_t)(block.first + index))) < 0) {
            fprintf(stderr, "echo on %u: %s\n", block.first + (unsigned)index, strerror(-wrong));
            return 1;
        }
        printf("served: %u\n", block.first + (unsigned)index);
    }
    last = (uint16_t)(block.first + SERVED);
    printf("a plain bind of %u: %s\n", last, strerror(plain_bind(last)));

    /* Sockets bound from the block keep their ports; the others are anybody's again. */
    if (portpool_release(ports) < 0) goto failed;
    printf("released; a plain bind of %u: %s\n", last, strerror(plain_bind(last)));
    for (index = 0; index < SERVED; index++) close(listeners[index]);
    portpool_close(pool);
    return 0;

failed:
    fprintf(stderr, "serve_block: %s\n", portpool_last_error());
    return 1;
}
