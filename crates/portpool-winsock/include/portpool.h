/*
 * portpool.h: reserve TCP and UDP ports on Linux, from C and C++.
 *
 * A reservation is a block of consecutive ports that no other process can take: not by binding one,
 * not by binding port 0, not as the port of an outgoing connection, not with SO_REUSEADDR. It ends when
 * it is released, when its owner socket is closed, and with the process, kill -9 included.
 *
 * Conventions, the same for every function:
 *
 * - Ports and counts are plain numbers in HOST byte order. Only a struct sockaddr is what bind(2)
 *   takes, with its port in network byte order. (The Winsock headers beside this one take network
 *   byte order in StartPort; they are another interface.)
 * - An int is 0 or more on success and a negative errno, such as -EADDRINUSE, on failure. `errno`
 *   itself is not part of the contract. portpool_last_error() has the sentence for people, which names
 *   the ports and the next step, portpool_last_refusal() the pool's reason as a stable number.
 * - On failure nothing is reserved and nothing is written through the out pointers.
 * - A null pointer where one is needed gives -EINVAL, a closed descriptor -EBADF. Pointers that are
 *   neither null nor valid are undefined behaviour, as everywhere in C.
 * - Everything may be called from any thread, and at the same time, with one exception: what frees a
 *   handle (portpool_close, portpool_release, portpool_list_free) must be the last use of it.
 * - A fork is another process: its handles name the parent's reservations, which it can neither
 *   associate with nor release (rule 2107).
 * - "Rule n" is a row of docs/rules.md.
 *
 * Link with `pkg-config --cflags --libs portpool`. docs/c-api.md has the tour, the versions and what
 * they promise.
 */
#ifndef PORTPOOL_H
#define PORTPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. Compare with portpool_version(), the version of the library that runs. */
#define PORTPOOL_VERSION_MAJOR 0
#define PORTPOOL_VERSION_MINOR 1
#define PORTPOOL_VERSION_PATCH 0
#define PORTPOOL_MAKE_VERSION(major, minor, patch) \
    (((uint32_t)(major) << 24) | ((uint32_t)(minor) << 12) | (uint32_t)(patch))
#define PORTPOOL_VERSION \
    PORTPOOL_MAKE_VERSION(PORTPOOL_VERSION_MAJOR, PORTPOOL_VERSION_MINOR, PORTPOOL_VERSION_PATCH)

/* Here only by name: <sys/socket.h> is for the caller to include. */
struct sockaddr;

/** The pool of one network namespace: all its ports, and who has them. */
struct portpool;

/** Ports that are this process's own until it is released. */
struct portpool_reservation;

/** All reservations at one moment. */
struct portpool_list;

/** A transport, or both: TCP and UDP ports are reserved independently (rule 504). */
enum portpool_transport {
    PORTPOOL_TCP = 1,
    PORTPOOL_UDP = 2,
    PORTPOOL_BOTH = 3 /**< the same port numbers of both */
};

/** A kind of pool. */
enum portpool_kind {
    PORTPOOL_KIND_AUTO = 0,    /**< the kernel's where it is attached, else embedded */
    PORTPOOL_KIND_KERNEL = 1,  /**< eBPF programs that root attached enforce the reservations */
    PORTPOOL_KIND_EMBEDDED = 2 /**< this process holds a socket on every port: no privilege, no set-up */
};

/** How to open a pool. Start from PORTPOOL_OPTIONS_INIT; what is 0 or null has its default. */
struct portpool_options {
    uint32_t size;       /**< sizeof(struct portpool_options) */
    uint32_t kind;       /**< enum portpool_kind; with AUTO the variable PORTPOOL_POOL decides */
    uint32_t flags;      /**< PORTPOOL_STRICT or 0 */
    uint32_t reserved;   /**< 0 */
    const char *run_dir; /**< where the pool shows its maps; null: PORTPOOL_RUN_DIR or /run/portpool */
};

/** In the embedded pool: refuse a bind (-EPERM) that would let a stranger in for some microseconds. */
#define PORTPOOL_STRICT 1u

#ifdef __cplusplus
#define PORTPOOL_OPTIONS_INIT {(uint32_t)sizeof(struct portpool_options), 0, 0, 0, NULL}
#else
#define PORTPOOL_OPTIONS_INIT {.size = (uint32_t)sizeof(struct portpool_options)}
#endif

/** What to reserve. Start from PORTPOOL_REQUEST_INIT; what is 0 has its default. */
struct portpool_request {
    uint32_t size;         /**< sizeof(struct portpool_request) */
    uint32_t transports;   /**< enum portpool_transport; of portpool_acquire_on: 0, the socket's own */
    uint16_t first;        /**< the first port; 0 is a wildcard: the pool chooses (rule 501) */
    uint16_t count;        /**< how many consecutive ports, 1 to 65535; all or none (rule 502) */
    uint16_t align;        /**< wildcard only: the first port is a multiple of this; 0 is any */
    uint16_t within_first; /**< wildcard only: the block lies in the within_count ports from */
    uint16_t within_count; /**< within_first on, besides the ranges of the pool; 0, 0 is anywhere */
    uint16_t reserved;     /**< 0 */
    uint32_t flags;        /**< PORTPOOL_TREE, PORTPOOL_ZERO_FROM_BLOCK or 0; kernel pool only */
    uint32_t tree_root;    /**< with PORTPOOL_TREE: process id of an ancestor; 0 is this process */
    uint32_t timeout_ms;   /**< portpool_acquire tries again for this many milliseconds while the
                                ports are taken; 0: once */
};

/** Descendants of the root process may bind the block's ports without associating. */
#define PORTPOOL_TREE 1u
/** With PORTPOOL_TREE: the root's own TCP bind to port 0 is served from the block. */
#define PORTPOOL_ZERO_FROM_BLOCK 2u

#ifdef __cplusplus
#define PORTPOOL_REQUEST_INIT \
    {(uint32_t)sizeof(struct portpool_request), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#else
#define PORTPOOL_REQUEST_INIT {.size = (uint32_t)sizeof(struct portpool_request)}
#endif

/** The ports of one transport that a reservation has. */
struct portpool_block {
    uint64_t token;     /**< the name of the reservation, never 0; a name, not a secret */
    uint32_t transport; /**< PORTPOOL_TCP or PORTPOOL_UDP */
    uint16_t first;     /**< the first port */
    uint16_t count;     /**< how many ports */
};

/** A reservation, as everybody sees it. Later versions may add members at the end. */
struct portpool_entry {
    uint64_t token;
    uint32_t transport;       /**< PORTPOOL_TCP or PORTPOOL_UDP */
    uint16_t first;           /**< the first port */
    uint16_t count;           /**< how many ports */
    uint32_t uid;             /**< whose limits it counts against */
    uint32_t owner_pid;       /**< of the owner process, in the initial pid namespace */
    uint32_t owner_pid_seen;  /**< as its own pid namespace numbers it */
    uint32_t pid_namespace;   /**< inode number of that namespace */
    uint64_t owner_start_ns;  /**< start of the owner process, nanoseconds since boot */
    uint64_t born_ns;         /**< when it was acquired, nanoseconds since boot */
    uint64_t tree_start_ns;   /**< start of the tree's root, nanoseconds since boot; 0: no tree */
    uint32_t tree_root;       /**< process id of the tree's root in the initial namespace; 0: no tree */
    uint32_t flags;           /**< PORTPOOL_SHARED, PORTPOOL_PERSISTENT */
    char command[16];         /**< command name of the owner when it acquired, ends with a zero byte */
};

/** The entry counts against the limits of callers without CAP_NET_ADMIN. */
#define PORTPOOL_SHARED 1u
/** The entry ends when it is deleted, not with a socket; uid is of who made it, owner_pid is 0. */
#define PORTPOOL_PERSISTENT 2u

/** One port of one transport. Start from PORTPOOL_PORT_INIT. */
struct portpool_port {
    uint32_t size;         /**< sizeof(struct portpool_port), set by the caller */
    uint32_t flags;        /**< PORTPOOL_PORT_... */
    uint32_t socket_count; /**< how many sockets are bound to it */
    uint32_t reserved;
    struct portpool_entry entry; /**< who reserved it, if PORTPOOL_PORT_RESERVED is set; else zero */
};

#define PORTPOOL_PORT_RESERVED 1u /**< a reservation has it */
#define PORTPOOL_PORT_HELD 2u     /**< the kernel itself has it, or a socket that cannot be counted */
#define PORTPOOL_PORT_RECENT 4u   /**< a socket on it was closed within the last minute */

#ifdef __cplusplus
#define PORTPOOL_PORT_INIT {(uint32_t)sizeof(struct portpool_port), 0, 0, 0, {}}
#else
#define PORTPOOL_PORT_INIT {.size = (uint32_t)sizeof(struct portpool_port)}
#endif

/* ---- Versions and errors ------------------------------------------------------------------- */

/** The version of the library that runs, to compare with PORTPOOL_VERSION. */
uint32_t portpool_version(void);

/** The same as text, such as "0.1.0". */
const char *portpool_version_text(void);

/**
 * What went wrong in the last call of this thread that failed: one line with the next step, never null.
 * Valid until the next call of this thread that fails. A call that succeeds leaves it.
 */
const char *portpool_last_error(void);

/**
 * The pool's reason for the failure that portpool_last_error() tells, 0 if it was not the pool's. The
 * numbers never change: PORTPOOL_REFUSAL_... below (rule 400).
 */
int portpool_last_refusal(void);

/** The name of a refusal, such as "in-use", or null if there is none of this number. */
const char *portpool_refusal_name(int refusal);

enum portpool_refusal {
    PORTPOOL_REFUSAL_IN_USE = 1,
    PORTPOOL_REFUSAL_NO_ROOM = 2,
    PORTPOOL_REFUSAL_EPHEMERAL = 3,
    PORTPOOL_REFUSAL_PRIVILEGED_PORT = 4,
    PORTPOOL_REFUSAL_FOREIGN_TOKEN = 5,
    PORTPOOL_REFUSAL_UNKNOWN_TOKEN = 6,
    PORTPOOL_REFUSAL_DUPLICATE_TOKEN = 7,
    PORTPOOL_REFUSAL_WRONG_TRANSPORT = 8,
    PORTPOOL_REFUSAL_ALREADY_BOUND = 9,
    PORTPOOL_REFUSAL_OUTSIDE_BLOCK = 10,
    PORTPOOL_REFUSAL_STRANGER = 11,
    PORTPOOL_REFUSAL_UID_LIMIT = 12,
    PORTPOOL_REFUSAL_SHARED_LIMIT = 13,
    PORTPOOL_REFUSAL_SOCKET_LIMIT = 14,
    PORTPOOL_REFUSAL_POOL_FULL = 15,
    PORTPOOL_REFUSAL_NO_MEMORY = 16,
    PORTPOOL_REFUSAL_NOT_ANCESTOR = 17,
    PORTPOOL_REFUSAL_UNSUPPORTED_SOCKET = 18,
    PORTPOOL_REFUSAL_BAD_REQUEST = 19,
    PORTPOOL_REFUSAL_BUSY = 20,
    PORTPOOL_REFUSAL_VERSION_MISMATCH = 21,
    PORTPOOL_REFUSAL_NOT_ATTACHED = 22,
    PORTPOOL_REFUSAL_NOT_PERMITTED = 23,
    PORTPOOL_REFUSAL_NO_SUCH_BLOCK = 24,
    PORTPOOL_REFUSAL_PERSISTENT = 25
};

/* ---- The pool ------------------------------------------------------------------------------ */

/**
 * Opens the pool of the calling thread's network namespace. `options` may be null: all defaults.
 *
 * -ENOPROTOOPT: the kernel pool was asked for and none is attached here; -EPROTO: the attached pool is of
 * another version; -EINVAL: an option, or PORTPOOL_POOL, cannot be followed. Rules 2100, 2101.
 */
int portpool_open(const struct portpool_options *options, struct portpool **pool);

/** Closes a pool. Its reservations live on with their own handles. Null is fine. */
void portpool_close(struct portpool *pool);

/** Which kind of pool it is: PORTPOOL_KIND_KERNEL or PORTPOOL_KIND_EMBEDDED. */
int portpool_kind(const struct portpool *pool);

/** Why it is of this kind, as a fragment; null for a null pool. Valid until the pool is closed. */
const char *portpool_reason(const struct portpool *pool);

/* ---- Reserving ----------------------------------------------------------------------------- */

/**
 * Reserves ports for this process; they are consumed through the reservation.
 *
 * -EADDRINUSE: a port is bound or reserved; -ENOBUFS: no free run is long enough, or the pool is full;
 * -EADDRNOTAVAIL: automatic choice could still pick a port of the block; -ERANGE: `within` is outside the
 * ranges of the pool; -EACCES: a privileged port; -EDQUOT, -ENOSPC: a limit of this user, of all
 * unprivileged users; -EBUSY: others were quicker each time, try again; -EMFILE: out of descriptors;
 * -EOPNOTSUPP: a tree in the embedded pool; -EINVAL: the request makes no sense. Rules 2102 to 2104.
 */
int portpool_acquire(struct portpool *pool, const struct portpool_request *request,
                     struct portpool_reservation **reservation);

/**
 * Gives the ports back and frees the handle, whatever it returns. Sockets bound from the block keep
 * their ports (rule 521). Null is fine and 0.
 *
 * -EINVAL: the reservation had ended already, or it belongs to another process, as after a fork.
 */
int portpool_release(struct portpool_reservation *reservation);

/** The ports of one transport. -ENOENT: the reservation has none of it. */
int portpool_block(const struct portpool_reservation *reservation, uint32_t transport,
                   struct portpool_block *block);

/**
 * The descriptor of the owner socket of one transport, which stays the reservation's: a copy of it
 * keeps the ports reserved. -ENOENT: no such transport, or an embedded pool, which has none.
 */
int portpool_owner_socket(const struct portpool_reservation *reservation, uint32_t transport);

/* ---- Consuming ----------------------------------------------------------------------------- */

/**
 * Ties a socket that is not bound yet to the block of its transport. Its bind to port 0 then takes the
 * lowest free port of the block, and another port must be one of the block. In the embedded pool the
 * bind itself must be portpool_bind.
 *
 * -EINVAL: the socket is bound, of the other transport, or the reservation has ended; -EACCES: another
 * process's reservation; -EOPNOTSUPP: neither TCP nor UDP. Rules 508, 510 to 519.
 */
int portpool_associate(const struct portpool_reservation *reservation, int socket);

/**
 * Associates a socket and binds it: the bind that works in both kinds of pool. Port 0 in `address` is the
 * lowest free port of the block.
 *
 * As portpool_associate, and -EADDRNOTAVAIL: the port is outside the block; -EADDRINUSE: another socket
 * has it; -ENOBUFS: every port of the block is in use; -EPERM: PORTPOOL_STRICT forbids it;
 * -EAFNOSUPPORT: `address` is neither AF_INET nor AF_INET6. Rules 511 to 514, 2105.
 */
int portpool_bind(const struct portpool_reservation *reservation, int socket,
                  const struct sockaddr *address, uint32_t address_size);

/** Listens on an associated socket, which is bound first if it is not yet. Errors as portpool_bind. */
int portpool_listen(const struct portpool_reservation *reservation, int socket, int backlog);

/**
 * Sends a datagram from an associated socket, which is bound first if it is not yet: sendto(2) would
 * choose a port outside the block. Returns the number of bytes sent. Errors as portpool_bind.
 */
intptr_t portpool_send_to(const struct portpool_reservation *reservation, int socket, const void *data,
                          size_t data_size, const struct sockaddr *peer, uint32_t peer_size);

/** A new TCP socket that listens on `address`; its descriptor, closed on exec. Errors as portpool_bind. */
int portpool_tcp_listener(const struct portpool_reservation *reservation,
                          const struct sockaddr *address, uint32_t address_size);

/** A new UDP socket bound to `address`; its descriptor, closed on exec. Errors as portpool_bind. */
int portpool_udp_socket(const struct portpool_reservation *reservation, const struct sockaddr *address,
                        uint32_t address_size);

/**
 * A new TCP connection to `peer` from a port of the block; its descriptor, closed on exec. Errors as
 * portpool_bind and as connect(2). Waits until the connection is made or refused.
 */
int portpool_connect(const struct portpool_reservation *reservation, const struct sockaddr *peer,
                     uint32_t peer_size);

/* ---- The same with the caller's own sockets and tokens ---------------------------------------- */

/**
 * Reserves ports of the socket's transport with that socket as owner: the reservation ends with the last
 * close of it, or by portpool_release_on. The socket may be bound, and may own up to 32 reservations
 * (rule 509). In the embedded pool the process owns it, whatever the socket does.
 *
 * `request->transports` is 0 or the socket's own; timeout_ms must be 0. Errors as portpool_acquire.
 */
int portpool_acquire_on(struct portpool *pool, int socket, const struct portpool_request *request,
                        struct portpool_block *block);

/** Ends a reservation of this process by its token, on any socket of its transport (rule 520). */
int portpool_release_on(struct portpool *pool, int socket, uint64_t token);

/** portpool_associate by the token of a reservation. */
int portpool_associate_on(struct portpool *pool, int socket, uint64_t token);

/**
 * bind(2), and in the embedded pool past the hold of this process if the socket is associated.
 * Errors as portpool_bind.
 */
int portpool_bind_on(struct portpool *pool, int socket, const struct sockaddr *address,
                     uint32_t address_size);

/** listen(2), and in the embedded pool past the hold of this process if the socket is associated. */
int portpool_listen_on(struct portpool *pool, int socket, int backlog);

/* ---- Looking ------------------------------------------------------------------------------- */

/**
 * Every live reservation by transport and first port. Everybody may look. In the embedded pool these are
 * the user's own. Free it with portpool_list_free.
 *
 * -ENOENT, -EACCES, -EPERM: the state of the pool cannot be read from here; portpool_last_error() says how
 * to make that possible. Rule 2106.
 */
int portpool_list(struct portpool *pool, struct portpool_list **list);

/** How many entries; 0 for null. */
size_t portpool_list_count(const struct portpool_list *list);

/** One entry, valid until the list is freed; null if there are not so many. */
const struct portpool_entry *portpool_list_entry(const struct portpool_list *list, size_t index);

/** Frees a list. Null is fine. */
void portpool_list_free(struct portpool_list *list);

/**
 * Who has a port. `state->size` says how much of the struct the caller knows. -EINVAL: port 0, no single
 * transport, or a size that no version has; else as portpool_list. Rule 2106.
 */
int portpool_look(struct portpool *pool, uint32_t transport, uint16_t port, struct portpool_port *state);

#ifdef __cplusplus
}
#endif

#endif /* PORTPOOL_H */
