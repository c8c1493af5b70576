/* Addresses, sets of sockets and options, as <winsock2.h> has them. */
#ifndef PORTPOOL_WS_SOCKETS_H
#define PORTPOOL_WS_SOCKETS_H

#include "guard.h"
#include "types.h"

/* What the C library calls fd_set, u_long and select comes first, so that it cannot come later under
 * the names below. */
#if defined(FD_SETSIZE) && !defined(_SYS_SELECT_H)
enum { portpool_ws_fd_setsize = FD_SETSIZE };
#undef FD_SETSIZE
#else
enum { portpool_ws_fd_setsize = 64 };
#endif
#include <sys/types.h>
#include <sys/select.h>
#undef FD_SETSIZE
#undef FD_SET
#undef FD_CLR
#undef FD_ISSET
#undef FD_ZERO
#define FD_SETSIZE portpool_ws_fd_setsize

#ifndef __u_char_defined
typedef unsigned char u_char;
typedef unsigned short u_short;
typedef unsigned int u_int;
#define __u_char_defined
#endif
/* 32 bits on Windows, 64 in <sys/types.h>. */
typedef uint32_t portpool_ws_u_long;
#define u_long portpool_ws_u_long
typedef unsigned long long u_int64;

typedef UINT_PTR SOCKET;
#define INVALID_SOCKET ((SOCKET)(~0))
#define SOCKET_ERROR (-1)

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 23
#define PF_UNSPEC AF_UNSPEC
#define PF_UNIX AF_UNIX
#define PF_INET AF_INET
#define PF_INET6 AF_INET6

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_RDM 4
#define SOCK_SEQPACKET 5

#define IPPROTO_IP 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41
#define IPPROTO_ICMPV6 58
#define IPPROTO_RAW 255

#define SOL_SOCKET 0xffff
#define SO_DEBUG 0x0001
#define SO_ACCEPTCONN 0x0002
#define SO_REUSEADDR 0x0004
#define SO_KEEPALIVE 0x0008
#define SO_DONTROUTE 0x0010
#define SO_BROADCAST 0x0020
#define SO_LINGER 0x0080
#define SO_OOBINLINE 0x0100
#define SO_DONTLINGER ((int)(~SO_LINGER))
#define SO_EXCLUSIVEADDRUSE ((int)(~SO_REUSEADDR))
#define SO_SNDBUF 0x1001
#define SO_RCVBUF 0x1002
#define SO_SNDTIMEO 0x1005
#define SO_RCVTIMEO 0x1006
#define SO_ERROR 0x1007
#define SO_TYPE 0x1008
#define TCP_NODELAY 0x0001

#define MSG_OOB 0x1
#define MSG_PEEK 0x2
#define MSG_DONTROUTE 0x4
#define MSG_WAITALL 0x8

#define SD_RECEIVE 0
#define SD_SEND 1
#define SD_BOTH 2

#define SOMAXCONN 0x7fffffff

#define IOCPARM_MASK 0x7f
#define IOC_VOID 0x20000000
#define IOC_OUT 0x40000000
#define IOC_IN 0x80000000
#define IOC_INOUT (IOC_IN | IOC_OUT)
#define IOC_UNIX 0x00000000
#define IOC_WS2 0x08000000
#define IOC_PROTOCOL 0x10000000
#define IOC_VENDOR 0x18000000
#define _WSAIO(x, y) (IOC_VOID | (x) | (y))
#define _WSAIOR(x, y) (IOC_OUT | (x) | (y))
#define _WSAIOW(x, y) (IOC_IN | (x) | (y))
#define _WSAIORW(x, y) (IOC_INOUT | (x) | (y))
#define SIO_FLUSH _WSAIO(IOC_WS2, 4)
#define FIONBIO 0x8004667e
#define FIONREAD 0x4004667f

typedef struct in_addr {
    union {
        struct {
            UCHAR s_b1, s_b2, s_b3, s_b4;
        } S_un_b;
        struct {
            USHORT s_w1, s_w2;
        } S_un_w;
        ULONG S_addr;
    } S_un;
} IN_ADDR, *PIN_ADDR, *LPIN_ADDR;
#define s_addr S_un.S_addr

typedef struct in6_addr {
    union {
        UCHAR Byte[16];
        USHORT Word[8];
    } u;
} IN6_ADDR, *PIN6_ADDR, *LPIN6_ADDR;
#define s6_addr u.Byte
#define s6_words u.Word

#define INADDR_ANY ((ULONG)0x00000000)
#define INADDR_LOOPBACK 0x7f000001
#define INADDR_BROADCAST ((ULONG)0xffffffff)
#define INADDR_NONE 0xffffffff
#define IN6ADDR_ANY_INIT                                                                           \
    {                                                                                              \
        {                                                                                          \
            { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }                                     \
        }                                                                                          \
    }
#define IN6ADDR_LOOPBACK_INIT                                                                      \
    {                                                                                              \
        {                                                                                          \
            { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }                                     \
        }                                                                                          \
    }

typedef struct sockaddr {
    ADDRESS_FAMILY sa_family;
    CHAR sa_data[14];
} SOCKADDR, *PSOCKADDR, *LPSOCKADDR;

typedef struct sockaddr_in {
    ADDRESS_FAMILY sin_family;
    USHORT sin_port;
    IN_ADDR sin_addr;
    CHAR sin_zero[8];
} SOCKADDR_IN, *PSOCKADDR_IN, *LPSOCKADDR_IN;

typedef struct sockaddr_in6 {
    ADDRESS_FAMILY sin6_family;
    USHORT sin6_port;
    ULONG sin6_flowinfo;
    IN6_ADDR sin6_addr;
    ULONG sin6_scope_id;
} SOCKADDR_IN6, *PSOCKADDR_IN6, *LPSOCKADDR_IN6, SOCKADDR_IN6_LH;

typedef struct sockaddr_storage {
    ADDRESS_FAMILY ss_family;
    CHAR portpool_pad1[6];
    LONG64 portpool_align;
    CHAR portpool_pad2[112];
} SOCKADDR_STORAGE, *PSOCKADDR_STORAGE, *LPSOCKADDR_STORAGE;

/* Structures that programs for Windows name without `struct`, as C++ allows. */
#if defined(PORTPOOL_MSVC_COMPAT) && !defined(__cplusplus)
typedef struct sockaddr sockaddr;
typedef struct sockaddr_in sockaddr_in;
typedef struct sockaddr_in6 sockaddr_in6;
typedef struct sockaddr_storage sockaddr_storage;
#endif

typedef struct _SOCKET_ADDRESS {
    LPSOCKADDR lpSockaddr;
    INT iSockaddrLength;
} SOCKET_ADDRESS, *PSOCKET_ADDRESS, *LPSOCKET_ADDRESS;

struct linger {
    u_short l_onoff;
    u_short l_linger;
};
typedef struct linger LINGER, *PLINGER, *LPLINGER;

typedef struct timeval TIMEVAL, *PTIMEVAL, *LPTIMEVAL;

typedef struct portpool_ws_fd_set {
    u_int fd_count;
    SOCKET fd_array[FD_SETSIZE];
} portpool_ws_fd_set, FD_SET, *PFD_SET, *LPFD_SET;
#define fd_set portpool_ws_fd_set

typedef struct pollfd {
    SOCKET fd;
    SHORT events;
    SHORT revents;
} WSAPOLLFD, *PWSAPOLLFD, *LPWSAPOLLFD;
#define POLLERR 0x0001
#define POLLHUP 0x0002
#define POLLNVAL 0x0004
#define POLLWRNORM 0x0010
#define POLLWRBAND 0x0020
#define POLLOUT POLLWRNORM
#define POLLRDNORM 0x0100
#define POLLRDBAND 0x0200
#define POLLIN (POLLRDNORM | POLLRDBAND)
#define POLLPRI 0x0400

PORTPOOL_WS_STATIC_ASSERT(sizeof(SOCKET) == 8 && sizeof(u_long) == 4, "64 and 32 bits");
PORTPOOL_WS_LAYOUT(SOCKADDR, 16, 2);
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR, sa_family) == 0, "layout of SOCKADDR");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR, sa_data) == 2, "layout of SOCKADDR");
PORTPOOL_WS_LAYOUT(SOCKADDR_IN, 16, 4);
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN, sin_family) == 0, "layout of SOCKADDR_IN");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN, sin_port) == 2, "layout of SOCKADDR_IN");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN, sin_addr) == 4, "layout of SOCKADDR_IN");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN, sin_zero) == 8, "layout of SOCKADDR_IN");
PORTPOOL_WS_LAYOUT(SOCKADDR_IN6, 28, 4);
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN6, sin6_family) == 0, "layout of SOCKADDR_IN6");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN6, sin6_port) == 2, "layout of SOCKADDR_IN6");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN6, sin6_flowinfo) == 4, "layout of SOCKADDR_IN6");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN6, sin6_addr) == 8, "layout of SOCKADDR_IN6");
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_IN6, sin6_scope_id) == 24, "layout of SOCKADDR_IN6");
PORTPOOL_WS_LAYOUT(SOCKADDR_STORAGE, 128, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(SOCKADDR_STORAGE, ss_family) == 0, "layout of SOCKADDR_STORAGE");
PORTPOOL_WS_STATIC_ASSERT(sizeof(WSAPOLLFD) == 16, "layout of WSAPOLLFD");
PORTPOOL_WS_STATIC_ASSERT(offsetof(FD_SET, fd_array) == 8, "layout of FD_SET");
PORTPOOL_WS_STATIC_ASSERT(FIONBIO == 0x8004667e && SIO_FLUSH == 0x28000004, "control codes");

#endif
