/* Names and addresses, and the options of IP; own text, no part of an SDK. */
#ifndef PORTPOOL_WS_WS2TCPIP_H
#define PORTPOOL_WS_WS2TCPIP_H

#include "winsock2.h"
#include "ws2ipdef.h"

#ifndef __socklen_t_defined
typedef int socklen_t;
#define __socklen_t_defined
#endif

#define AI_PASSIVE 0x00000001
#define AI_CANONNAME 0x00000002
#define AI_NUMERICHOST 0x00000004
#define AI_NUMERICSERV 0x00000008
#define AI_ALL 0x00000100
#define AI_ADDRCONFIG 0x00000400
#define AI_V4MAPPED 0x00000800

#define NI_NOFQDN 0x01
#define NI_NUMERICHOST 0x02
#define NI_NAMEREQD 0x04
#define NI_NUMERICSERV 0x08
#define NI_DGRAM 0x10
#define NI_MAXHOST 1025
#define NI_MAXSERV 32

#define EAI_AGAIN WSATRY_AGAIN
#define EAI_BADFLAGS WSAEINVAL
#define EAI_FAIL WSANO_RECOVERY
#define EAI_FAMILY WSAEAFNOSUPPORT
#define EAI_MEMORY WSA_NOT_ENOUGH_MEMORY
#define EAI_NONAME WSAHOST_NOT_FOUND
#define EAI_NODATA EAI_NONAME
#define EAI_SERVICE WSATYPE_NOT_FOUND
#define EAI_SOCKTYPE WSAESOCKTNOSUPPORT

typedef struct addrinfo {
    int ai_flags;
    int ai_family;
    int ai_socktype;
    int ai_protocol;
    size_t ai_addrlen;
    char *ai_canonname;
    struct sockaddr *ai_addr;
    struct addrinfo *ai_next;
} ADDRINFOA, *PADDRINFOA, ADDRINFO, *LPADDRINFO;

PORTPOOL_WS_BEGIN

extern const struct in6_addr in6addr_any PORTPOOL_WS_SYMBOL(portpool_ws_in6addr_any);
extern const struct in6_addr in6addr_loopback PORTPOOL_WS_SYMBOL(portpool_ws_in6addr_loopback);

INT WSAAPI getaddrinfo(PCSTR pNodeName, PCSTR pServiceName, const ADDRINFOA *pHints,
                       PADDRINFOA *ppResult) PORTPOOL_WS_SYMBOL(portpool_ws_getaddrinfo);
void WSAAPI freeaddrinfo(PADDRINFOA pAddrInfo) PORTPOOL_WS_SYMBOL(portpool_ws_freeaddrinfo);
INT WSAAPI getnameinfo(const SOCKADDR *pSockaddr, int SockaddrLength, PCHAR pNodeBuffer,
                       DWORD NodeBufferSize, PCHAR pServiceBuffer, DWORD ServiceBufferSize,
                       INT Flags) PORTPOOL_WS_SYMBOL(portpool_ws_getnameinfo);
INT WSAAPI inet_pton(INT Family, PCSTR pszAddrString, PVOID pAddrBuf)
    PORTPOOL_WS_SYMBOL(portpool_ws_inet_pton);
PCSTR WSAAPI inet_ntop(INT Family, const void *pAddr, PSTR pStringBuf, size_t StringBufSize)
    PORTPOOL_WS_SYMBOL(portpool_ws_inet_ntop);
const char *WSAAPI gai_strerrorA(int ecode);

PORTPOOL_WS_END

#define gai_strerror gai_strerrorA
#define InetPtonA inet_pton
#define InetNtopA inet_ntop
/* Wide addresses are for programs whose wide text is wchar_t. */
#ifndef UNICODE
#define InetPton InetPtonA
#define InetNtop InetNtopA
#elif defined(PORTPOOL_MSVC_COMPAT)
#define InetPton InetPtonW
#define InetNtop InetNtopW
#endif
#ifdef PORTPOOL_MSVC_COMPAT
PORTPOOL_WS_BEGIN

static __inline__ INT InetPtonW(INT Family, PCWSTR pszAddrString, PVOID pAddrBuf)
{
    char *narrow = pszAddrString == NULL ? NULL : portpool_msvc_narrow(pszAddrString);
    INT result = inet_pton(Family, narrow, pAddrBuf);
    free(narrow);
    return result;
}

static __inline__ PCWSTR InetNtopW(INT Family, const void *pAddr, PWSTR pStringBuf,
                                   size_t StringBufSize)
{
    char narrow[INET6_ADDRSTRLEN];
    size_t i;
    size_t size = StringBufSize < sizeof(narrow) ? StringBufSize : sizeof(narrow);
    if (inet_ntop(Family, pAddr, pStringBuf == NULL ? NULL : narrow, size) == NULL)
        return NULL;
    for (i = 0; narrow[i] != 0; i++)
        pStringBuf[i] = (WCHAR)narrow[i];
    pStringBuf[i] = 0;
    return pStringBuf;
}

PORTPOOL_WS_END
#endif

PORTPOOL_WS_STATIC_ASSERT(sizeof(ADDRINFOA) == 48, "layout of ADDRINFOA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(ADDRINFOA, ai_canonname) == 24, "layout of ADDRINFOA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(ADDRINFOA, ai_addr) == 32, "layout of ADDRINFOA");

#endif
