/* Checks for the test programs: the first one that fails ends the program and says what it saw. */
#ifndef PORTPOOL_TEST_CHECK_H
#define PORTPOOL_TEST_CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <portpool.h>

#define CHECK_EQUAL(seen, wanted)                                                                  \
    do {                                                                                           \
        long long seen_ = (long long)(seen), wanted_ = (long long)(wanted);                        \
        if (seen_ != wanted_) {                                                                    \
            fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld); last error: %s\n", __FILE__,        \
                    __LINE__, #seen, seen_, #wanted, wanted_, portpool_last_error());              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s; last error: %s; errno: %s\n", __FILE__, __LINE__,  \
                    #what, portpool_last_error(), strerror(errno));                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
