/* Pointers to memory that is not there, or that cannot be written. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <mstcpip.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

/* A sandbox that forbids the calls by which the library looks at memory: there is another way. */
static void forbid_looking(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    CHECK(syscall(SYS_process_vm_readv, 0, NULL, 0, NULL, 0, 0) == -1 && errno == EPERM);
}

static void run(void)
{
    char *page = (char *)mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *closed = page + 4096, *read_only = page + 8192;
    INET_PORT_RANGE range;
    INET_PORT_RESERVATION_INSTANCE out;
    struct sockaddr_in name;
    PADDRINFOA list;
    int len = 4;
    DWORD bytes = 7;
    SOCKET s;
    int i;
    CHECK(page != MAP_FAILED);
    /* Not unmapped: something else might be mapped there. What is at 8 is not mapped at all. */
    CHECK(mprotect(closed, 4096, PROT_NONE) == 0);
    CHECK(mprotect(read_only, 4096, PROT_READ) == 0);
    char *bad[] = {closed, closed - 2, (char *)8, (char *)-8};
    start();
    s = socket(AF_INET, SOCK_STREAM, 0);
    range.StartPort = htons(25600);
    range.NumberOfPorts = 1;
    memset(&name, 0, sizeof name);
    name.sin_family = AF_INET;
    /* A text that ends where its page does. */
    memcpy(closed - 10, "127.0.0.1", 10);
    CHECK(inet_addr(closed - 10) == htonl(INADDR_LOOPBACK));
    /* Nothing is written in part where only the rest cannot be written. */
    memset(closed - 10, 'x', 10);
    for (i = 0; i < 4; i++) {
        FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, bad[i], 4, &out, 16, &bytes, NULL, NULL), WSAEFAULT);
        FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, bad[i], 16, &bytes, NULL, NULL), WSAEFAULT);
        FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, (LPDWORD)bad[i], NULL, NULL), WSAEFAULT);
        FAILS(WSAIoctl(s, SIO_RELEASE_PORT_RESERVATION, bad[i], 8, NULL, 0, &bytes, NULL, NULL), WSAEFAULT);
        FAILS(inet_pton(AF_INET, bad[i], &out), WSAEFAULT);
        CHECK(getaddrinfo(bad[i], NULL, NULL, &list) == WSAEFAULT);
        CHECK(getaddrinfo("127.0.0.1", NULL, NULL, (PADDRINFOA *)bad[i]) == WSAEFAULT);
        CHECK(getnameinfo((struct sockaddr *)&name, sizeof name, bad[i], 40, NULL, 0, NI_NUMERICHOST) == WSAEFAULT);
        FAILS(select(0, (fd_set *)bad[i], NULL, NULL, NULL), WSAEFAULT);
        FAILS(getsockopt(s, SOL_SOCKET, SO_TYPE, bad[i], &len), WSAEFAULT);
        FAILS(bind(s, (struct sockaddr *)bad[i], sizeof name), WSAEFAULT);
    }
    FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, read_only, 16, &bytes, NULL, NULL), WSAEFAULT);
    FAILS(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &out, 16, (LPDWORD)read_only, NULL, NULL), WSAEFAULT);
    CHECK(WSAStartup(MAKEWORD(2, 2), (LPWSADATA)read_only) == WSAEFAULT);
    CHECK(WSAStartup(MAKEWORD(2, 2), NULL) == WSAEFAULT);
    /* Input may be read only, and nothing was reserved by all that. */
    CHECK(mprotect(read_only, 4096, PROT_READ | PROT_WRITE) == 0);
    memcpy(read_only, &range, sizeof range);
    CHECK(mprotect(read_only, 4096, PROT_READ) == 0);
    CHECK(WSAIoctl(s, SIO_ACQUIRE_PORT_RESERVATION, read_only, 4, &out, 16, &bytes, NULL, NULL) == 0);
    CHECK(bytes == 16);
    CHECK(WSACleanup() == 0);
}

int main(void)
{
    run();
    forbid_looking();
    run();
    return 0;
}
