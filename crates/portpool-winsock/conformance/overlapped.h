/* An overlapped ACQUIRE and all that belongs to it, for the cases and the tests of memory. */
#ifndef CONFORMANCE_OVERLAPPED_H
#define CONFORMANCE_OVERLAPPED_H

#include "suite.h"

struct operation {
    SOCKET socket;
    WSAOVERLAPPED overlapped;
    INET_PORT_RANGE range;
    INET_PORT_RESERVATION_INSTANCE instance;
    DWORD bytes; /* 0xdeadbeef before the call */
    int code;    /* 0, WSA_IO_PENDING or an error */
};

/* What a completion routine was given. */
struct completion {
    int calls;
    DWORD error;
    DWORD bytes;
    LPWSAOVERLAPPED overlapped;
    DWORD flags;
    thread_name thread;
};
extern struct completion completion;
void CALLBACK record_completion(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags);

/* Starts one on a socket. */
void start(struct operation *operation, SOCKET socket, unsigned port, unsigned count, WSAEVENT event,
           LPWSAOVERLAPPED_COMPLETION_ROUTINE routine);

/* Starts one that has to ask the keeper, which is stopped before: it must be pending. */
void start_pending(struct operation *operation, SOCKET socket, unsigned port, WSAEVENT event,
                   LPWSAOVERLAPPED_COMPLETION_ROUTINE routine);

/* Looks at its state, as a program may at any time. */
int has_completed(struct operation *operation);

/* Waits for its end without events or routines; 0 or its code. */
int outcome(struct operation *operation, DWORD *bytes);

/* A block that automatic choice could pick, so that only the keeper can make it grantable. */
enum { EPHEMERAL_PORT = 40000 };

WSAEVENT new_event(void);
int is_signalled(WSAEVENT event);

#endif
