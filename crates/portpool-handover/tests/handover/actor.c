/* What programs do with ports, the careless and the hostile included. Knows nothing of portpool. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t length;
};

static struct address address_of(const char *ip, int port)
{
    struct address it = {0};
    if (strchr(ip, ':')) {
        it.v6.sin6_family = AF_INET6;
        it.v6.sin6_port = htons(port);
        inet_pton(AF_INET6, ip, &it.v6.sin6_addr);
        it.length = sizeof it.v6;
    } else {
        it.v4.sin_family = AF_INET;
        it.v4.sin_port = htons(port);
        inet_pton(AF_INET, ip, &it.v4.sin_addr);
        it.length = sizeof it.v4;
    }
    return it;
}

static void set(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value);
}

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, level, name, &value, &length);
    return value;
}

static int open_socket(const struct address *it, int type)
{
    int fd = socket(it->any.sa_family, type | SOCK_CLOEXEC, 0);
    if (fd >= 0 && it->any.sa_family == AF_INET6)
        set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    return fd;
}

static int bind_to(int fd, const struct address *it)
{
    return bind(fd, &it->any, it->length);
}

static int port_of(int fd)
{
    struct sockaddr_storage it = {0};
    socklen_t length = sizeof it;
    if (getsockname(fd, (struct sockaddr *)&it, &length))
        return -1;
    return ntohs(((struct sockaddr_in *)&it)->sin_port);
}

static int answers(const char *ip, int port)
{
    struct address it = address_of(ip, port);
    int fd = open_socket(&it, SOCK_STREAM);
    int result = connect(fd, &it.any, it.length);
    close(fd);
    return result == 0;
}

/* Waits for a byte or the end of standard input. */
static void wait_for_word(void)
{
    char word;
    while (read(0, &word, 1) < 0 && errno == EINTR)
        ;
}

static void say(const char *what, int result)
{
    printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

static int type_of(const char *word)
{
    return strcmp(word, "udp") ? SOCK_STREAM : SOCK_DGRAM;
}

/* Binds again for as long as a signal interrupts; counts how often, and binds that were made all the
   same. */
static int bind_through_signals(int fd, const struct address *it, int *interrupted, int *made)
{
    int result;
    while ((result = bind_to(fd, it)) && errno == EINTR) {
        ++*interrupted;
        *made += port_of(fd) != 0;
    }
    return result;
}

static int listen_through_signals(int fd, int *interrupted, int *made)
{
    int result;
    while ((result = listen(fd, 8)) && errno == EINTR) {
        ++*interrupted;
        *made += get(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0;
    }
    return result;
}

/* cycles IP PORT TYPE COUNT HOW: starts and stops a server so often: plain, on a device of its own, or
   with SO_REUSEPORT, then each beside the one before. */
static int cycles(char **argument)
{
    struct address it = address_of(argument[0], atoi(argument[1]));
    int type = type_of(argument[2]), count = atoi(argument[3]), last = -1;
    const char *how = argument[4] ? argument[4] : "plain";
    int shares = !strcmp(how, "reuseport");
    int bind_failures = 0, listen_failures = 0, interrupted = 0, made = 0;
    for (int round = 0; round < count; round++) {
        int fd = open_socket(&it, type);
        set(fd, SOL_SOCKET, SO_REUSEADDR, type == SOCK_STREAM);
        set(fd, SOL_SOCKET, SO_REUSEPORT, shares);
        if (!strcmp(how, "device"))
            set(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
        if (bind_through_signals(fd, &it, &interrupted, &made)) {
            perror("bind");
            bind_failures++;
        } else if (type == SOCK_STREAM && listen_through_signals(fd, &interrupted, &made))
            listen_failures++;
        close(last);
        last = shares ? fd : -1;
        if (!shares)
            close(fd);
    }
    close(last);
    printf("cycles %d bind-failures %d listen-failures %d interrupted %d made %d\n", count,
           bind_failures, listen_failures, interrupted, made);
    return 0;
}

/* spin PORT TYPE FLAGS: tries to get in until standard input ends; 1 is SO_REUSEADDR, 2 _PORT. */
static int spin(char **argument)
{
    static const char *const ips[] = {"0.0.0.0", "127.0.0.1", "::", "::1"};
    int port = atoi(argument[0]), type = type_of(argument[1]), flags = atoi(argument[2]);
    long binds = 0, listens = 0, tries = 0;
    char word;
    fcntl(0, F_SETFL, O_NONBLOCK);
    puts("spinning");
    fflush(stdout);
    for (;; tries++) {
        if (tries % 64 == 0 && read(0, &word, 1) == 0)
            break;
        struct address it = address_of(ips[tries % 4], port);
        int fd = open_socket(&it, type);
        set(fd, SOL_SOCKET, SO_REUSEADDR, flags & 1);
        set(fd, SOL_SOCKET, SO_REUSEPORT, flags >> 1 & 1);
        if (bind_to(fd, &it) == 0) {
            binds++;
            if (type == SOCK_STREAM && listen(fd, 8) == 0)
                listens++;
        }
        close(fd);
    }
    printf("tries %ld binds %ld listens %ld\n", tries, binds, listens);
    return 0;
}

static void on_alarm(int number)
{
    (void)number;
}

/* signals IP PORT COUNT RESTART: binds and listens while a timer of 50 us interrupts. */
static int signals(char **argument)
{
    int flags = strcmp(argument[3], "restart") ? 0 : SA_RESTART;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};
    struct itimerval timer = {{0, 50}, {0, 50}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    return cycles((char *[]){argument[0], argument[1], "tcp", argument[2], NULL});
}

/* killed IP PORT COUNT: so many processes are killed while they bind and listen without end. */
static int killed(char **argument)
{
    int count = atoi(argument[2]);
    for (int round = 0; round < count; round++) {
        int ready[2];
        char word;
        pipe(ready);
        pid_t child = fork();
        if (child == 0) {
            freopen("/dev/null", "w", stdout);
            cycles((char *[]){argument[0], argument[1], "tcp", "1", NULL});
            write(ready[1], "x", 1);
            for (;;)
                cycles((char *[]){argument[0], argument[1], "tcp", "100", NULL});
        }
        read(ready[0], &word, 1);
        /* Somewhere else in its calls each time. */
        for (volatile int wait = 0; wait < round * 1000; wait++)
            ;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ready[0]);
        close(ready[1]);
    }
    return cycles((char *[]){argument[0], argument[1], "tcp", "10", NULL});
}

/* strange PORT FOREIGN: calls that fail or are of no concern; the same with and without a guard. */
static int strange(char **argument)
{
    int port = atoi(argument[0]);
    struct address v4 = address_of("127.0.0.1", port), v6 = address_of("::1", port);
    int fd = open_socket(&v4, SOCK_STREAM), six = open_socket(&v6, SOCK_STREAM);
    long page = sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + page, page);
    char *edge = pages + page - sizeof v4.v4;
    memcpy(edge, &v4.v4, sizeof v4.v4);

    say("null", bind(fd, NULL, 16));
    say("unmapped", bind(fd, (void *)8, 16));
    say("past the edge", bind(fd, (void *)edge, 28));
    say("short", bind(fd, &v4.any, 15));
    say("no length", bind(fd, &v4.any, 0));
    say("negative", bind(fd, &v4.any, -1));
    say("too long", bind(fd, &v4.any, 129));
    say("short v6", bind(six, &v6.any, 23));
    say("no descriptor", bind(-1, &v4.any, 16));
    say("closed descriptor", bind(999, &v4.any, 16));
    int pipes[2];
    pipe(pipes);
    say("a pipe", bind(pipes[0], &v4.any, 16));
    say("listen on a pipe", listen(pipes[0], 1));
    say("listen on nothing", listen(-1, 1));
    say("v4 on v6", bind_to(six, &v4));
    say("v6 on v4", bind_to(fd, &v6));
    struct address foreign = address_of(argument[1], port);
    say("foreign address", bind_to(fd, &foreign));
    struct address unspecified = v4;
    unspecified.v4.sin_family = AF_UNSPEC;
    say("unspecified family", bind_to(fd, &unspecified));
    say("exact edge", bind(fd, (void *)edge, 16));
    printf("bound %d\n", port_of(fd) == port);
    say("again", bind_to(fd, &v4));
    say("second socket", bind_to(open_socket(&v4, SOCK_STREAM), &v4));
    say("listen", listen(fd, 5));
    say("listen again", listen(fd, 50));
    say("bind a listener", bind_to(fd, &v4));
    say("old v6 length", bind(six, &v6.any, 24));

    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int local = socket(AF_UNIX, SOCK_STREAM, 0);
    int name_length = snprintf(un.sun_path + 1, 90, "portpool-%d", getpid());
    say("unix", bind(local, (void *)&un, offsetof(struct sockaddr_un, sun_path) + 1 + name_length));
    say("unix listen", listen(local, 1));
    struct sockaddr_nl netlink = {.nl_family = AF_NETLINK};
    say("netlink", bind(socket(AF_NETLINK, SOCK_RAW, 0), (void *)&netlink, sizeof netlink));
    int lite = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    say("udp-lite", lite < 0 ? lite : bind_to(lite, &v4));
    int udp = open_socket(&v4, SOCK_DGRAM);
    say("udp of the number", bind_to(udp, &v4));
    say("listen on udp", listen(udp, 1));
    struct address peer = address_of("127.0.0.1", 9);
    int connected = open_socket(&v4, SOCK_DGRAM);
    connect(connected, &peer.any, peer.length);
    say("connected udp", bind_to(connected, &v4));
    int other = open_socket(&v4, SOCK_STREAM);
    struct address any = address_of("127.0.0.1", 0);
    set(other, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    say("deferred", bind_to(other, &any));
    printf("deferred %d\n", port_of(other));
    int silent = open_socket(&v4, SOCK_STREAM);
    say("listen unbound", listen(silent, 1));
    printf("chosen %d\n", port_of(silent) != port);
    return 0;
}

/* serve IP PORT HOW: binds and listens in some way, and says whether it can be reached. */
static int serve_fd;
static struct address serve_at;

static void *bind_in_thread(void *own_table)
{
    if (own_table) {
        unshare(CLONE_FILES);
        close(serve_fd);
        serve_fd = open_socket(&serve_at, SOCK_STREAM);
    }
    int result = bind_to(serve_fd, &serve_at);
    if (result == 0)
        result = listen(serve_fd, 8);
    say("thread", result);
    printf("reached %d\n", answers("127.0.0.1", ntohs(serve_at.v4.sin_port)));
    return NULL;
}

static int serve(char **argument)
{
    const char *how = argument[2];
    int port = atoi(argument[1]), protocol = strcmp(how, "mptcp") ? 0 : IPPROTO_MPTCP;
    serve_at = address_of(argument[0], port);
    serve_fd = socket(serve_at.any.sa_family, SOCK_STREAM, protocol);
    if (serve_at.any.sa_family == AF_INET6)
        set(serve_fd, IPPROTO_IPV6, IPV6_V6ONLY, !strcmp(how, "v6only"));
    int fd = serve_fd, epoll = -1;
    struct epoll_event event = {.events = EPOLLIN};
    if (!strncmp(how, "thread", 6)) {
        pthread_t thread;
        pthread_create(&thread, NULL, bind_in_thread, strcmp(how, "thread") ? "own" : NULL);
        pthread_join(thread, NULL);
        return 0;
    }
    if (!strcmp(how, "epoll")) {
        epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    if (!strcmp(how, "dup"))
        serve_fd = dup(fd);
    if (!strcmp(how, "device"))
        set(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 1);
    if (!strcmp(how, "options")) {
        set(fd, SOL_SOCKET, SO_RCVBUF, 40000);
        set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    int result = -1;
    if (!strcmp(how, "fork")) {
        if (fork() == 0)
            _exit(bind_to(fd, &serve_at) ? errno : 0);
        int status;
        wait(&status);
        errno = WEXITSTATUS(status);
        result = errno ? -1 : 0;
    } else {
        result = bind_to(fd, &serve_at);
    }
    say("bind", result);
    say("listen", listen(serve_fd, 8));
    if (!strcmp(how, "options"))
        printf("options %d %d %d %d\n", get(fd, SOL_SOCKET, SO_RCVBUF),
               get(fd, SOL_SOCKET, SO_REUSEADDR), !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
               fcntl(fd, F_GETFD));
    int v6 = !strcmp(how, "v6only");
    printf("reached %d\n", answers(v6 ? "::1" : "127.0.0.1", port));
    if (epoll >= 0)
        printf("events %d\n", epoll_wait(epoll, &event, 1, 5000));
    if (!strcmp(how, "device"))
        printf("device %d\n", get(fd, SOL_SOCKET, SO_BINDTOIFINDEX));
    fflush(stdout);
    if (argument[3])
        wait_for_word();
    return 0;
}

/* late IP PORT: binds once it is told to. */
static int late(char **argument)
{
    struct address it = address_of(argument[0], atoi(argument[1]));
    puts("ready");
    fflush(stdout);
    wait_for_word();
    int fd = open_socket(&it, SOCK_STREAM);
    say("bind", bind_to(fd, &it));
    say("listen", listen(fd, 1));
    return 0;
}

/* daemon IP PORT: the same, in a grandchild in a session of its own. */
static int daemonise(char **argument)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            _exit(late(argument));
        _exit(0);
    }
    wait(NULL);
    return 0;
}

/* again IP PORT: serves, ends a connection first, closes, and serves again once it can. */
static int again(char **argument)
{
    struct address it = address_of(argument[0], atoi(argument[1]));
    int result = -1;
    for (int round = 0; round < 2; round++) {
        int fd = open_socket(&it, SOCK_STREAM);
        set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        result = bind_to(fd, &it);
        if (result == 0)
            result = listen(fd, 8);
        say("serve", result);
        struct address peer = address_of("127.0.0.1", atoi(argument[1]));
        int client = open_socket(&peer, SOCK_STREAM);
        if (connect(client, &peer.any, peer.length) == 0)
            close(accept(fd, NULL, NULL));
        close(client);
        close(fd);
        puts("closed");
        fflush(stdout);
        wait_for_word();
    }
    return 0;
}

/* zero IP COUNT: sockets bound to port 0, all at once; then one more after the first was closed. */
static int zero(char **argument)
{
    struct address it = address_of(argument[0], 0);
    int first = -1, count = atoi(argument[1]);
    for (int round = 0; round <= count; round++) {
        if (round == count)
            close(first);
        int fd = open_socket(&it, type_of(argument[2]));
        set(fd, SOL_SOCKET, SO_REUSEADDR, type_of(argument[2]) == SOCK_STREAM);
        if (round == 0)
            first = fd;
        if (bind_to(fd, &it))
            say("zero", -1);
        else
            printf("zero %d\n", port_of(fd));
        if (type_of(argument[2]) == SOCK_STREAM)
            listen(fd, 8);
    }
    return 0;
}

/* elsewhere PORT: in a network namespace of its own, where the port is nobody's. */
static int elsewhere(char **argument)
{
    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
        say("unshare", -1);
        return 0;
    }
    struct address it = address_of("0.0.0.0", atoi(argument[0]));
    int fd = open_socket(&it, SOCK_STREAM);
    say("bind", bind_to(fd, &it));
    say("listen", listen(fd, 1));
    return 0;
}

/* closed PORT: a process that others must not look into. */
static int closed(char **argument)
{
    struct address it = address_of("127.0.0.1", atoi(argument[0]));
    prctl(PR_SET_DUMPABLE, 0);
    say("bind", bind_to(open_socket(&it, SOCK_STREAM), &it));
    return 0;
}

/* flip PORT OTHER COUNT: another thread changes the port under the call. */
static struct address flipped;
static int flip_ports[2];
static volatile int is_over;

static void *flip(void *nothing)
{
    volatile in_port_t *port = &flipped.v4.sin_port;
    for (unsigned round = 0; !is_over; round++) {
        *port = htons(flip_ports[round % 2]);
        for (volatile int pause = 0; pause < 200; pause++)
            ;
    }
    return nothing;
}

static int race(char **argument)
{
    pthread_t thread;
    int wrong = 0, right = 0;
    flip_ports[0] = atoi(argument[0]);
    flip_ports[1] = atoi(argument[1]);
    flipped = address_of("127.0.0.1", flip_ports[0]);
    pthread_create(&thread, NULL, flip, NULL);
    int least = atoi(argument[2]);
    for (int round = 0; round < least || (!right && round < 100 * least); round++) {
        int fd = open_socket(&flipped, SOCK_STREAM);
        if (bind_to(fd, &flipped) == 0)
            *(port_of(fd) == flip_ports[0] ? &right : &wrong) += 1;
        close(fd);
    }
    is_over = 1;
    pthread_join(thread, NULL);
    printf("right %d wrong %d\n", right > 0, wrong);
    return 0;
}

int main(int count, char **argument)
{
    static const struct {
        const char *name;
        int (*act)(char **);
    } acts[] = {
        {"cycles", cycles}, {"spin", spin},     {"signals", signals},     {"strange", strange},
        {"serve", serve},   {"late", late},     {"daemon", daemonise},    {"again", again},
        {"zero", zero},     {"race", race},     {"elsewhere", elsewhere}, {"closed", closed},
        {"killed", killed},
    };
    for (size_t i = 0; count > 1 && i < sizeof acts / sizeof *acts; i++)
        if (!strcmp(argument[1], acts[i].name))
            return acts[i].act(argument + 2);
    fprintf(stderr, "no such act\n");
    return 2;
}
