/* Winsock 2 on Linux, by portpool: sockets whose ports can be reserved. docs/winsock.md says what is
 * covered. Own text, no part of an SDK. */
#ifndef PORTPOOL_WS_WINSOCK2_H
#define PORTPOOL_WS_WINSOCK2_H
#define _WINSOCK2API_
#define _WINSOCKAPI_

#include "portpool_ws/errors.h"
#include "portpool_ws/sockets.h"
#include "portpool_ws/types.h"

#define WINSOCK_VERSION MAKEWORD(2, 2)
#define WSADESCRIPTION_LEN 256
#define WSASYS_STATUS_LEN 128

#define WSA_FLAG_OVERLAPPED 0x01
#define WSA_FLAG_MULTIPOINT_C_ROOT 0x02
#define WSA_FLAG_MULTIPOINT_C_LEAF 0x04
#define WSA_FLAG_MULTIPOINT_D_ROOT 0x08
#define WSA_FLAG_MULTIPOINT_D_LEAF 0x10
#define WSA_FLAG_ACCESS_SYSTEM_SECURITY 0x40
#define WSA_FLAG_NO_HANDLE_INHERIT 0x80
#define WSA_FLAG_REGISTERED_IO 0x100

#define WSAEVENT HANDLE
#define LPWSAEVENT LPHANDLE
#define WSA_INVALID_EVENT ((WSAEVENT)NULL)
#define WSA_MAXIMUM_WAIT_EVENTS 64
#define WSA_WAIT_FAILED ((DWORD)0xffffffff)
#define WSA_WAIT_EVENT_0 ((DWORD)0)
#define WSA_WAIT_IO_COMPLETION ((DWORD)0xc0)
#define WSA_WAIT_TIMEOUT ((DWORD)258)
#define WSA_INFINITE ((DWORD)0xffffffff)

typedef unsigned int GROUP;

typedef struct WSAData {
    WORD wVersion;
    WORD wHighVersion;
    u_short iMaxSockets;
    u_short iMaxUdpDg;
    char *lpVendorInfo;
    char szDescription[WSADESCRIPTION_LEN + 1];
    char szSystemStatus[WSASYS_STATUS_LEN + 1];
} WSADATA, *LPWSADATA;

typedef struct _OVERLAPPED WSAOVERLAPPED, *LPWSAOVERLAPPED;
typedef void(CALLBACK *LPWSAOVERLAPPED_COMPLETION_ROUTINE)(DWORD dwError, DWORD cbTransferred,
                                                           LPWSAOVERLAPPED lpOverlapped,
                                                           DWORD dwFlags);

#define MAX_PROTOCOL_CHAIN 7
#define WSAPROTOCOL_LEN 255

typedef struct _WSAPROTOCOLCHAIN {
    int ChainLen;
    DWORD ChainEntries[MAX_PROTOCOL_CHAIN];
} WSAPROTOCOLCHAIN, *LPWSAPROTOCOLCHAIN;

typedef struct _WSAPROTOCOL_INFOA {
    DWORD dwServiceFlags1, dwServiceFlags2, dwServiceFlags3, dwServiceFlags4, dwProviderFlags;
    GUID ProviderId;
    DWORD dwCatalogEntryId;
    WSAPROTOCOLCHAIN ProtocolChain;
    int iVersion, iAddressFamily, iMaxSockAddr, iMinSockAddr, iSocketType, iProtocol;
    int iProtocolMaxOffset, iNetworkByteOrder, iSecurityScheme;
    DWORD dwMessageSize, dwProviderReserved;
    CHAR szProtocol[WSAPROTOCOL_LEN + 1];
} WSAPROTOCOL_INFOA, *LPWSAPROTOCOL_INFOA;

typedef struct _WSAPROTOCOL_INFOW {
    DWORD dwServiceFlags1, dwServiceFlags2, dwServiceFlags3, dwServiceFlags4, dwProviderFlags;
    GUID ProviderId;
    DWORD dwCatalogEntryId;
    WSAPROTOCOLCHAIN ProtocolChain;
    int iVersion, iAddressFamily, iMaxSockAddr, iMinSockAddr, iSocketType, iProtocol;
    int iProtocolMaxOffset, iNetworkByteOrder, iSecurityScheme;
    DWORD dwMessageSize, dwProviderReserved;
    portpool_ws_wide szProtocol[WSAPROTOCOL_LEN + 1];
} WSAPROTOCOL_INFOW, *LPWSAPROTOCOL_INFOW;

PORTPOOL_WS_BEGIN

int WSAAPI WSAStartup(WORD wVersionRequested, LPWSADATA lpWSAData);
int WSAAPI WSACleanup(void);
int WSAAPI WSAGetLastError(void);
void WSAAPI WSASetLastError(int iError);

SOCKET WSAAPI socket(int af, int type, int protocol) PORTPOOL_WS_SYMBOL(portpool_ws_socket);
SOCKET WSAAPI WSASocketA(int af, int type, int protocol, LPWSAPROTOCOL_INFOA lpProtocolInfo,
                         GROUP g, DWORD dwFlags);
SOCKET WSAAPI WSASocketW(int af, int type, int protocol, LPWSAPROTOCOL_INFOW lpProtocolInfo,
                         GROUP g, DWORD dwFlags);
int WSAAPI closesocket(SOCKET s);
int WSAAPI bind(SOCKET s, const struct sockaddr *name, int namelen)
    PORTPOOL_WS_SYMBOL(portpool_ws_bind);
int WSAAPI connect(SOCKET s, const struct sockaddr *name, int namelen)
    PORTPOOL_WS_SYMBOL(portpool_ws_connect);
int WSAAPI listen(SOCKET s, int backlog) PORTPOOL_WS_SYMBOL(portpool_ws_listen);
SOCKET WSAAPI accept(SOCKET s, struct sockaddr *addr, int *addrlen)
    PORTPOOL_WS_SYMBOL(portpool_ws_accept);
int WSAAPI getsockname(SOCKET s, struct sockaddr *name, int *namelen)
    PORTPOOL_WS_SYMBOL(portpool_ws_getsockname);
int WSAAPI getpeername(SOCKET s, struct sockaddr *name, int *namelen)
    PORTPOOL_WS_SYMBOL(portpool_ws_getpeername);
int WSAAPI send(SOCKET s, const char *buf, int len, int flags)
    PORTPOOL_WS_SYMBOL(portpool_ws_send);
int WSAAPI recv(SOCKET s, char *buf, int len, int flags) PORTPOOL_WS_SYMBOL(portpool_ws_recv);
int WSAAPI sendto(SOCKET s, const char *buf, int len, int flags, const struct sockaddr *to,
                  int tolen) PORTPOOL_WS_SYMBOL(portpool_ws_sendto);
int WSAAPI recvfrom(SOCKET s, char *buf, int len, int flags, struct sockaddr *from, int *fromlen)
    PORTPOOL_WS_SYMBOL(portpool_ws_recvfrom);
int WSAAPI shutdown(SOCKET s, int how) PORTPOOL_WS_SYMBOL(portpool_ws_shutdown);
int WSAAPI setsockopt(SOCKET s, int level, int optname, const char *optval, int optlen)
    PORTPOOL_WS_SYMBOL(portpool_ws_setsockopt);
int WSAAPI getsockopt(SOCKET s, int level, int optname, char *optval, int *optlen)
    PORTPOOL_WS_SYMBOL(portpool_ws_getsockopt);
int WSAAPI ioctlsocket(SOCKET s, LONG cmd, u_long *argp);
int WSAAPI WSAPoll(LPWSAPOLLFD fdArray, ULONG fds, INT timeout);
int WSAAPI __WSAFDIsSet(SOCKET s, fd_set *set);

#ifdef __cplusplus
PORTPOOL_WS_END
/* Another overload than that of <sys/select.h>. */
extern "C++" int WSAAPI select(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds,
                               const struct timeval *timeout)
    PORTPOOL_WS_SYMBOL(portpool_ws_select);
PORTPOOL_WS_BEGIN
#else
/* <sys/select.h> has the name already. */
int WSAAPI portpool_ws_select(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds,
                              const struct timeval *timeout);
#define select portpool_ws_select
#endif

u_long WSAAPI htonl(u_long hostlong) PORTPOOL_WS_SYMBOL(portpool_ws_htonl);
u_long WSAAPI ntohl(u_long netlong) PORTPOOL_WS_SYMBOL(portpool_ws_ntohl);
u_short WSAAPI htons(u_short hostshort) PORTPOOL_WS_SYMBOL(portpool_ws_htons);
u_short WSAAPI ntohs(u_short netshort) PORTPOOL_WS_SYMBOL(portpool_ws_ntohs);
int WSAAPI WSAHtonl(SOCKET s, u_long hostlong, u_long *lpnetlong);
int WSAAPI WSANtohl(SOCKET s, u_long netlong, u_long *lphostlong);
int WSAAPI WSAHtons(SOCKET s, u_short hostshort, u_short *lpnetshort);
int WSAAPI WSANtohs(SOCKET s, u_short netshort, u_short *lphostshort);
u_long WSAAPI inet_addr(const char *cp) PORTPOOL_WS_SYMBOL(portpool_ws_inet_addr);
char *WSAAPI inet_ntoa(struct in_addr in) PORTPOOL_WS_SYMBOL(portpool_ws_inet_ntoa);

int WSAAPI WSAIoctl(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer, DWORD cbInBuffer,
                    LPVOID lpvOutBuffer, DWORD cbOutBuffer, LPDWORD lpcbBytesReturned,
                    LPWSAOVERLAPPED lpOverlapped,
                    LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine);
BOOL WSAAPI WSAGetOverlappedResult(SOCKET s, LPWSAOVERLAPPED lpOverlapped, LPDWORD lpcbTransfer,
                                   BOOL fWait, LPDWORD lpdwFlags);
WSAEVENT WSAAPI WSACreateEvent(void);
BOOL WSAAPI WSACloseEvent(WSAEVENT hEvent);
BOOL WSAAPI WSASetEvent(WSAEVENT hEvent);
BOOL WSAAPI WSAResetEvent(WSAEVENT hEvent);
DWORD WSAAPI WSAWaitForMultipleEvents(DWORD cEvents, const WSAEVENT *lphEvents, BOOL fWaitAll,
                                      DWORD dwTimeout, BOOL fAlertable);

/* The text of an error number; never NULL, valid for ever. Not part of Winsock. */
const char *portpool_wsa_strerror(int error);

static __inline__ void portpool_ws_fd_add(SOCKET s, fd_set *set)
{
    u_int i;
    for (i = 0; i < set->fd_count; i++) {
        if (set->fd_array[i] == s)
            return;
    }
    if (set->fd_count < (u_int)FD_SETSIZE)
        set->fd_array[set->fd_count++] = s;
}

static __inline__ void portpool_ws_fd_remove(SOCKET s, fd_set *set)
{
    u_int i;
    for (i = 0; i < set->fd_count; i++) {
        if (set->fd_array[i] != s)
            continue;
        for (; i + 1 < set->fd_count; i++)
            set->fd_array[i] = set->fd_array[i + 1];
        set->fd_count--;
        return;
    }
}

PORTPOOL_WS_END

#define FD_SET(s, set) portpool_ws_fd_add((SOCKET)(s), (set))
#define FD_CLR(s, set) portpool_ws_fd_remove((SOCKET)(s), (set))
#define FD_ZERO(set) (((fd_set *)(set))->fd_count = 0)
#define FD_ISSET(s, set) __WSAFDIsSet((SOCKET)(s), (fd_set *)(set))

#ifdef UNICODE
#define WSASocket WSASocketW
#define WSAPROTOCOL_INFO WSAPROTOCOL_INFOW
#define LPWSAPROTOCOL_INFO LPWSAPROTOCOL_INFOW
#else
#define WSASocket WSASocketA
#define WSAPROTOCOL_INFO WSAPROTOCOL_INFOA
#define LPWSAPROTOCOL_INFO LPWSAPROTOCOL_INFOA
#endif

PORTPOOL_WS_LAYOUT(WSAOVERLAPPED, 32, 8);
PORTPOOL_WS_LAYOUT(WSADATA, 408, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, wVersion) == 0, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, wHighVersion) == 2, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, iMaxSockets) == 4, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, iMaxUdpDg) == 6, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, lpVendorInfo) == 8, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, szDescription) == 16, "layout of WSADATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSADATA, szSystemStatus) == 273, "layout of WSADATA");
PORTPOOL_WS_LAYOUT(WSAPROTOCOL_INFOW, 628, 4);
PORTPOOL_WS_STATIC_ASSERT(sizeof(GROUP) == 4, "32 bits");

/* As on Windows, <winsock2.h> by itself is enough for a program that waits. */
#include "portpool_ws/waits.h"

#ifdef PORTPOOL_MSVC_COMPAT
#include "portpool_ws/msvc.h"
#endif

#endif
