/* Only looks whether Winsock is in use, then lets the system's own header through. */
#ifdef PORTPOOL_WS_SOCKETS_H
#error "portpool: <netdb.h> after a header of Winsock: a source file uses Winsock or the sockets of Linux, not both"
#endif
#ifdef __GNUC__
#pragma GCC system_header
#endif
#include_next <netdb.h>
