/*
 * The same with sockets that the program makes itself: one owns the reservation, others are associated
 * with its token and bound. Then a look at who has the ports.
 *
 *     cc own_sockets.c $(pkg-config --cflags --libs portpool) -o own_sockets && ./own_sockets
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <portpool.h>

static int failed(const char *what) {
    fprintf(stderr, "own_sockets: %s: %s\n", what, portpool_last_error());
    return 1;
}

int main(void) {
    struct portpool *pool;
    struct portpool_request pair = PORTPOOL_REQUEST_INIT;
    struct portpool_block block;
    struct portpool_list *list;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    size_t index;
    int owner = socket(AF_INET, SOCK_DGRAM, 0);
    int rtp = socket(AF_INET, SOCK_DGRAM, 0), rtcp = socket(AF_INET, SOCK_DGRAM, 0);

    if (portpool_open(NULL, &pool) < 0) return failed("open");

    /* An even port and the odd one after it. */
    pair.count = 2;
    pair.align = 2;
    if (portpool_acquire_on(pool, owner, &pair, &block) < 0) return failed("acquire");

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET; /* port 0: the lowest free port of the block */
    if (portpool_associate_on(pool, rtp, block.token) < 0) return failed("associate");
    if (portpool_bind_on(pool, rtp, (struct sockaddr *)&address, size) < 0) return failed("bind");
    if (portpool_associate_on(pool, rtcp, block.token) < 0) return failed("associate");
    if (portpool_bind_on(pool, rtcp, (struct sockaddr *)&address, size) < 0) return failed("bind");
    getsockname(rtp, (struct sockaddr *)&address, &size);
    printf("rtp on %u, rtcp on %u\n", ntohs(address.sin_port), ntohs(address.sin_port) + 1u);

    if (portpool_list(pool, &list) < 0) return failed("list");
    for (index = 0; index < portpool_list_count(list); index++) {
        const struct portpool_entry *entry = portpool_list_entry(list, index);
        printf("%s %u-%u: process %u (%s)\n", entry->transport == PORTPOOL_TCP ? "tcp" : "udp",
               entry->first, entry->first + entry->count - 1u, entry->owner_pid_seen, entry->command);
    }
    portpool_list_free(list);

    if (portpool_release_on(pool, owner, block.token) < 0) return failed("release");
    close(rtp);
    close(rtcp);
    close(owner);
    portpool_close(pool);
    return 0;
}
