/* A race between this program and the library: one thread writes a request that another one hands in. */
#include <pthread.h>

#include "check.h"

static struct portpool_request request = PORTPOOL_REQUEST_INIT;

static void *change(void *argument) {
    request.count = 2;
    return argument;
}

int main(void) {
    struct portpool_options options = PORTPOOL_OPTIONS_INIT;
    struct portpool_reservation *reservation = NULL;
    struct portpool *pool = NULL;
    pthread_t thread;
    options.kind = PORTPOOL_KIND_EMBEDDED;
    CHECK_EQUAL(portpool_open(&options, &pool), 0);
    request.transports = PORTPOOL_TCP;
    request.count = 1;
    CHECK_EQUAL(pthread_create(&thread, NULL, change, NULL), 0);
    CHECK_EQUAL(portpool_acquire(pool, &request, &reservation), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(portpool_release(reservation), 0);
    portpool_close(pool);
    return 0;
}
