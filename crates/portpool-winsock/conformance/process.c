/* Other processes, threads, signals and pages: no Winsock here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "the suite itself failed: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int status_of(int pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) die("waitpid");
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* By its path: a tool that runs the program has another one at /proc/self/exe. */
const char *own_path(void) {
    static char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) die("readlink of itself");
    return path;
}

static struct peer spawn(unsigned uid, const char *order, int *output) {
    struct peer peer;
    int to[2], from[2];
    char user[16];
    memset(&peer, 0, sizeof peer);
    snprintf(user, sizeof user, "%u", uid);
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) die("pipe");
    fflush(stdout);
    peer.pid = fork();
    if (peer.pid < 0) die("fork");
    if (peer.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(to[0], 0);
        dup2(from[1], 1);
        execl(own_path(), "peer", "--peer", user, order, (char *)NULL);
        die("exec of itself");
    }
    close(to[0]);
    close(from[1]);
    peer.input = to[1];
    *output = from[0];
    return peer;
}

/* One line: code, port, token. */
static void read_answer(struct answer *answer, int output) {
    char line[128] = "";
    size_t length = 0;
    ssize_t got;
    while (length < sizeof line - 1 && strchr(line, '\n') == NULL) {
        got = read(output, line + length, sizeof line - 1 - length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        length += (size_t)got;
    }
    answer->code = -1;
    if (sscanf(line, "%d %u %llx", &answer->code, &answer->port, &answer->token) != 3)
        answer->code = -1;
    close(output);
}

struct answer ask_as(unsigned uid, const char *format, ...) {
    char order[256];
    int output;
    struct peer peer;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(order, sizeof order, format, arguments);
    va_end(arguments);
    peer = spawn(uid, order, &output);
    close(peer.input);
    read_answer(&peer.answer, output);
    peer.answer.status = status_of(peer.pid);
    return peer.answer;
}

struct peer start_peer(unsigned uid, const char *format, ...) {
    char order[256];
    int output;
    struct peer peer;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(order, sizeof order, format, arguments);
    va_end(arguments);
    peer = spawn(uid, order, &output);
    read_answer(&peer.answer, output);
    return peer;
}

void kill_peer(struct peer *peer) {
    kill(peer->pid, SIGKILL);
    peer->answer.status = status_of(peer->pid);
    close(peer->input);
}

void end_peer(struct peer *peer) {
    close(peer->input);
    peer->answer.status = status_of(peer->pid);
}

int run_program(const char *path, const char *const *arguments, char *printed, size_t size) {
    int from[2], pid, status;
    size_t length = 0;
    ssize_t got;
    if (pipe2(from, O_CLOEXEC) != 0) die("pipe");
    fflush(stdout);
    pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(from[1], 1);
        dup2(from[1], 2);
        execv(path, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(from[1]);
    while ((got = read(from[0], printed + length, size - 1 - length)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) die("read from a program");
        length += (size_t)got;
        if (length == size - 1) break;
    }
    printed[length] = 0;
    close(from[0]);
    status = status_of(pid);
    return status;
}

int in_fork(void (*body)(void *), void *argument) {
    int pid;
    fflush(stdout);
    pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        body(argument);
        _exit(0);
    }
    return status_of(pid);
}

void become(unsigned uid) {
    if (uid == SELF) return;
    if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
        die("become another user");
    /* Tools that look for leaks trace the process itself. */
    prctl(PR_SET_DUMPABLE, 1);
}

void wait_for_end_of_input(void) {
    char byte;
    ssize_t got;
    do {
        got = read(0, &byte, 1);
    } while (got > 0 || (got < 0 && errno == EINTR));
}

unsigned own_pid(void) { return (unsigned)getpid(); }

void limit_time(unsigned seconds) { alarm(seconds); }

int enter_new_network(void) { return unshare(CLONE_NEWNET) == 0 ? 0 : errno; }

static const char *keeper(void) { return getenv("PORTPOOL_CONFORMANCE_KEEPER"); }

int has_keeper(void) { return keeper() != NULL; }

void stop_keeper(void) {
    if (!has_keeper()) return;
    if (keeper()[0] != '/')
        kill(atoi(keeper()), SIGSTOP);
    else
        unlink(keeper());
}

void continue_keeper(void) {
    if (!has_keeper()) return;
    if (keeper()[0] != '/')
        kill(atoi(keeper()), SIGCONT);
    else
        close(open(keeper(), O_CREAT | O_CLOEXEC, 0644));
}

thread_name start_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;
    errno = pthread_create(&thread, NULL, body, argument);
    if (errno != 0) die("pthread_create");
    return (thread_name)thread;
}

void *join_thread(thread_name thread) {
    void *value = NULL;
    errno = pthread_join((pthread_t)thread, &value);
    if (errno != 0) die("pthread_join");
    return value;
}

thread_name this_thread(void) { return (thread_name)pthread_self(); }

void yield_processor(void) { sched_yield(); }

size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static void *pages(size_t count, int protection) {
    void *at = mmap(NULL, count * page_size(), protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    return at;
}

/* Kept from being given to anybody else, so it stays unmapped for the CPU. */
void *unmapped_pages(size_t count) { return pages(count, PROT_NONE); }

void *read_only_pages(size_t count) { return pages(count, PROT_READ); }

void *writable_page_before_unmapped(void) {
    char *at = (char *)pages(2, PROT_NONE);
    if (mprotect(at, page_size(), PROT_READ | PROT_WRITE) != 0) die("mprotect");
    return at;
}

unsigned *shared_words(const char *path, size_t count) {
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t size = count * sizeof(unsigned);
    void *at;
    if (file < 0 || ftruncate(file, (off_t)size) != 0) die(path);
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) die("mmap");
    close(file);
    return (unsigned *)at;
}

unsigned long long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000u + (unsigned long long)now.tv_nsec / 1000000u;
}

int is_open_descriptor(unsigned long long number) {
    return number <= 0x7fffffff && fcntl((int)number, F_GETFD) >= 0;
}
