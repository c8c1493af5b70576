/* The service provider's side of Winsock, as far as port reservations need it; own text, no part of
 * an SDK. */
#ifndef PORTPOOL_WS_WS2SPI_H
#define PORTPOOL_WS_WS2SPI_H

#include "winsock2.h"

#define WSPDESCRIPTION_LEN 255

typedef struct WSPData {
    WORD wVersion;
    WORD wHighVersion;
    portpool_ws_wide szDescription[WSPDESCRIPTION_LEN + 1];
} WSPDATA, *LPWSPDATA;

typedef struct _WSATHREADID {
    HANDLE ThreadHandle;
    DWORD_PTR Reserved;
} WSATHREADID, *LPWSATHREADID;

typedef void(CALLBACK *LPWSAUSERAPC)(DWORD_PTR dwContext);

/* A slot that this provider leaves NULL. */
typedef void (*LPWSP_NOT_PROVIDED)(void);

typedef SOCKET(WSPAPI *LPWSPSOCKET)(int af, int type, int protocol,
                                    LPWSAPROTOCOL_INFOW lpProtocolInfo, GROUP g, DWORD dwFlags,
                                    LPINT lpErrno);
typedef int(WSPAPI *LPWSPCLOSESOCKET)(SOCKET s, LPINT lpErrno);
typedef int(WSPAPI *LPWSPBIND)(SOCKET s, const struct sockaddr *name, int namelen, LPINT lpErrno);
typedef int(WSPAPI *LPWSPGETSOCKNAME)(SOCKET s, struct sockaddr *name, LPINT namelen,
                                      LPINT lpErrno);
typedef int(WSPAPI *LPWSPCLEANUP)(LPINT lpErrno);
typedef BOOL(WSPAPI *LPWSPGETOVERLAPPEDRESULT)(SOCKET s, LPWSAOVERLAPPED lpOverlapped,
                                               LPDWORD lpcbTransfer, BOOL fWait, LPDWORD lpdwFlags,
                                               LPINT lpErrno);
typedef int(WSPAPI *LPWSPIOCTL)(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer,
                                DWORD cbInBuffer, LPVOID lpvOutBuffer, DWORD cbOutBuffer,
                                LPDWORD lpcbBytesReturned, LPWSAOVERLAPPED lpOverlapped,
                                LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                LPWSATHREADID lpThreadId, LPINT lpErrno);

typedef struct _WSPPROC_TABLE {
    LPWSP_NOT_PROVIDED lpWSPAccept;
    LPWSP_NOT_PROVIDED lpWSPAddressToString;
    LPWSP_NOT_PROVIDED lpWSPAsyncSelect;
    LPWSPBIND lpWSPBind;
    LPWSP_NOT_PROVIDED lpWSPCancelBlockingCall;
    LPWSPCLEANUP lpWSPCleanup;
    LPWSPCLOSESOCKET lpWSPCloseSocket;
    LPWSP_NOT_PROVIDED lpWSPConnect;
    LPWSP_NOT_PROVIDED lpWSPDuplicateSocket;
    LPWSP_NOT_PROVIDED lpWSPEnumNetworkEvents;
    LPWSP_NOT_PROVIDED lpWSPEventSelect;
    LPWSPGETOVERLAPPEDRESULT lpWSPGetOverlappedResult;
    LPWSP_NOT_PROVIDED lpWSPGetPeerName;
    LPWSPGETSOCKNAME lpWSPGetSockName;
    LPWSP_NOT_PROVIDED lpWSPGetSockOpt;
    LPWSP_NOT_PROVIDED lpWSPGetQOSByName;
    LPWSPIOCTL lpWSPIoctl;
    LPWSP_NOT_PROVIDED lpWSPJoinLeaf;
    LPWSP_NOT_PROVIDED lpWSPListen;
    LPWSP_NOT_PROVIDED lpWSPRecv;
    LPWSP_NOT_PROVIDED lpWSPRecvDisconnect;
    LPWSP_NOT_PROVIDED lpWSPRecvFrom;
    LPWSP_NOT_PROVIDED lpWSPSelect;
    LPWSP_NOT_PROVIDED lpWSPSend;
    LPWSP_NOT_PROVIDED lpWSPSendDisconnect;
    LPWSP_NOT_PROVIDED lpWSPSendTo;
    LPWSP_NOT_PROVIDED lpWSPSetSockOpt;
    LPWSP_NOT_PROVIDED lpWSPShutdown;
    LPWSPSOCKET lpWSPSocket;
    LPWSP_NOT_PROVIDED lpWSPStringToAddress;
} WSPPROC_TABLE, *LPWSPPROC_TABLE;

typedef int(WSPAPI *LPWPUQUEUEAPC)(LPWSATHREADID lpThreadId, LPWSAUSERAPC lpfnUserApc,
                                   DWORD_PTR dwContext, LPINT lpErrno);
typedef int(WSPAPI *LPWPUOPENCURRENTTHREAD)(LPWSATHREADID lpThreadId, LPINT lpErrno);
typedef int(WSPAPI *LPWPUCLOSETHREAD)(LPWSATHREADID lpThreadId, LPINT lpErrno);

/* What a provider may call; one that is NULL is the library's own. Of all slots this provider uses
 * lpWPUQueueApc only. */
typedef struct _WSPUPCALLTABLE {
    LPWSP_NOT_PROVIDED lpWPUCloseEvent;
    LPWSP_NOT_PROVIDED lpWPUCloseSocketHandle;
    LPWSP_NOT_PROVIDED lpWPUCreateEvent;
    LPWSP_NOT_PROVIDED lpWPUCreateSocketHandle;
    LPWSP_NOT_PROVIDED lpWPUFDIsSet;
    LPWSP_NOT_PROVIDED lpWPUGetProviderPath;
    LPWSP_NOT_PROVIDED lpWPUModifyIFSHandle;
    LPWSP_NOT_PROVIDED lpWPUPostMessage;
    LPWSP_NOT_PROVIDED lpWPUQueryBlockingCallback;
    LPWSP_NOT_PROVIDED lpWPUQuerySocketHandleContext;
    LPWPUQUEUEAPC lpWPUQueueApc;
    LPWSP_NOT_PROVIDED lpWPUResetEvent;
    LPWSP_NOT_PROVIDED lpWPUSetEvent;
    LPWPUOPENCURRENTTHREAD lpWPUOpenCurrentThread;
    LPWPUCLOSETHREAD lpWPUCloseThread;
} WSPUPCALLTABLE, *LPWSPUPCALLTABLE;

PORTPOOL_WS_BEGIN

int WSPAPI WSPStartup(WORD wVersionRequested, LPWSPDATA lpWSPData,
                      LPWSAPROTOCOL_INFOW lpProtocolInfo, WSPUPCALLTABLE UpcallTable,
                      LPWSPPROC_TABLE lpProcTable);
int WSPAPI WSPIoctl(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer, DWORD cbInBuffer,
                    LPVOID lpvOutBuffer, DWORD cbOutBuffer, LPDWORD lpcbBytesReturned,
                    LPWSAOVERLAPPED lpOverlapped,
                    LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                    LPWSATHREADID lpThreadId, LPINT lpErrno);
int WSPAPI WPUQueueApc(LPWSATHREADID lpThreadId, LPWSAUSERAPC lpfnUserApc, DWORD_PTR dwContext,
                       LPINT lpErrno);
int WSPAPI WPUOpenCurrentThread(LPWSATHREADID lpThreadId, LPINT lpErrno);
int WSPAPI WPUCloseThread(LPWSATHREADID lpThreadId, LPINT lpErrno);

PORTPOOL_WS_END

PORTPOOL_WS_LAYOUT(WSPDATA, 516, 2);
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSPDATA, wVersion) == 0, "layout of WSPDATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSPDATA, wHighVersion) == 2, "layout of WSPDATA");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSPDATA, szDescription) == 4, "layout of WSPDATA");
PORTPOOL_WS_LAYOUT(WSATHREADID, 16, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSATHREADID, ThreadHandle) == 0, "layout of WSATHREADID");
PORTPOOL_WS_STATIC_ASSERT(offsetof(WSATHREADID, Reserved) == 8, "layout of WSATHREADID");
PORTPOOL_WS_STATIC_ASSERT(sizeof(WSPPROC_TABLE) == 30 * 8, "layout of WSPPROC_TABLE");
PORTPOOL_WS_STATIC_ASSERT(sizeof(WSPUPCALLTABLE) == 15 * 8, "layout of WSPUPCALLTABLE");

#endif
