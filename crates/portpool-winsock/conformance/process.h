/*
 * What the suite needs of Linux: other processes, threads, signals, pages. Apart from the Winsock headers,
 * because the two do not mix in one source file.
 */
#ifndef CONFORMANCE_PROCESS_H
#define CONFORMANCE_PROCESS_H

#include <stddef.h>

#define NOBODY 65534u /* a user without any privilege */
#define SELF 0u       /* as who runs the suite: root */

/* What a process did and what it answered; see peer.c for what it can. */
struct answer {
    int code;                 /* 0 or the Winsock code of the last call */
    unsigned port;            /* a port, in host order */
    unsigned long long token; /* a token */
    int status;               /* its exit status, or the signal that ended it plus 1000 */
};

/* Another process that lives on after its answer, with what it owns. */
struct peer {
    int pid;
    int input;
    struct answer answer;
};

/* Runs an order in another process and waits for its end. */
struct answer ask_as(unsigned uid, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define ask(...) ask_as(SELF, __VA_ARGS__)

/* The same, but the process stays until it is killed or ended. */
struct peer start_peer(unsigned uid, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kill_peer(struct peer *peer); /* kill -9, and waits until it is gone */
void end_peer(struct peer *peer);  /* lets it return from main */

/* Runs a program and keeps what it prints; returns its exit status, or 1000 plus a signal. */
int run_program(const char *path, const char *const *arguments, char *printed, size_t size);

/* Runs the order in a fork without exec; 0 if it exited with 0. */
int in_fork(void (*body)(void *), void *argument);

const char *own_path(void);
void become(unsigned uid);
void wait_for_end_of_input(void);
unsigned own_pid(void);

/* Ends this process after so many seconds. */
void limit_time(unsigned seconds);

/* Leaves the network namespace for a new one, which has no pool. 0 or an errno. */
int enter_new_network(void);

/* Stops and continues the keeper, which is either a process or one that answers while a file is there. */
int has_keeper(void);
void stop_keeper(void);
void continue_keeper(void);

/* A thread; the value it returns is for join_thread. */
typedef unsigned long thread_name;
thread_name start_thread(void *(*body)(void *), void *argument);
void *join_thread(thread_name thread);
thread_name this_thread(void);
void yield_processor(void);

/* Memory of whole pages: unmapped, readable only, and writable. */
size_t page_size(void);
void *unmapped_pages(size_t count);
void *read_only_pages(size_t count);
void *writable_page_before_unmapped(void);

/* Memory shared by all processes that name the same file, zero at first. */
unsigned *shared_words(const char *path, size_t count);

unsigned long long milliseconds(void);
int is_open_descriptor(unsigned long long number);

#endif
