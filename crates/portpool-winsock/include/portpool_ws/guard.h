/* Winsock and the sockets of Linux do not mix in one source file: AF_INET6, SOL_SOCKET, fd_set and
 * more have other values or layouts. The headers in sys/ and beside it see the other order. */
#if defined(_SYS_SOCKET_H) || defined(_NETINET_IN_H) || defined(_ARPA_INET_H) || defined(_NETDB_H) ||  \
    defined(_LINUX_IN_H) || defined(_UAPI_LINUX_IN_H) || defined(_SYS_POLL_H)
#error "portpool: a header of Winsock after <sys/socket.h>: a source file uses Winsock or the sockets of Linux, not both"
#endif
