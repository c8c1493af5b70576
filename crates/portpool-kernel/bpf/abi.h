/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the kernel programs and user space share: control codes, requests, records, map values.
 * Mirrored by portpool-core's module `abi`, which asserts the same sizes and offsets.
 * Numbers are in host byte order; ports are plain numbers, never network order.
 */
#ifndef PORTPOOL_ABI_H
#define PORTPOOL_ABI_H

#include <linux/types.h>

/* setsockopt level and option names: one name per control code. */
#define PP_LEVEL 0x5050
#define PP_PROBE 99
#define PP_ACQUIRE 100
#define PP_RELEASE 101
#define PP_ASSOCIATE 102
#define PP_PERSIST 103
#define PP_UNPERSIST 104
#define PP_EXCLUDE 105
#define PP_UNEXCLUDE 106
#define PP_WINDOW 107
#define PP_LEND 108

#define PP_ABI_VERSION 3

#define PP_TCP 0
#define PP_UDP 1

/* Flags of a request and of a record. */
#define PP_SCOPE_TREE 1u	/* the root process and its descendants may consume unassociated */
#define PP_ZERO_FROM_BLOCK 2u	/* with tree: a TCP bind(0) of the root itself is served from the block */
#define PP_FLAGS_KNOWN (PP_SCOPE_TREE | PP_ZERO_FROM_BLOCK)

/* Flags of a record only. */
#define PP_PERSISTENT 4u	/* no owner: CAP_NET_ADMIN consumes it */
#define PP_GROUP 8u		/* and the members of its group */

/* Flags of PP_PERSIST and PP_EXCLUDE. */
#define PP_PERSIST_GROUP 1u
#define PP_RESTORE 2u		/* whatever is bound stays bound; possible during the sweep */

#define PP_PORT_WORDS 1024	/* 65,536 ports as words of 64 */
#define PP_SOCKET_RESERVATIONS 32
#define PP_RANGES 64
#define PP_POOLS 256
#define PP_RESERVATIONS 16384
#define PP_ANCESTORS 64

/* PP_ACQUIRE */
struct pp_acquire {
	__u64 token;		/* chosen by the caller; not 0, not in use */
	__u64 root_start;	/* clock ticks since boot as in /proc/PID/stat, 0: any */
	__u32 root_pid;		/* root of the tree as the caller numbers it, 0: the caller's process */
	__u16 first;
	__u16 count;
	__u16 flags;
	__u16 zero[3];
};

/* PP_RELEASE and PP_ASSOCIATE */
struct pp_token {
	__u64 token;
};

/* PP_PERSIST */
struct pp_persist {
	__u64 token;		/* as of pp_acquire */
	__u32 group;		/* with PP_PERSIST_GROUP: as the initial user namespace numbers it */
	__u16 first;
	__u16 count;
	__u16 flags;
	__u16 zero[3];
};

/* PP_UNPERSIST, PP_EXCLUDE and PP_UNEXCLUDE */
struct pp_ports {
	__u16 first;
	__u16 count;
	__u16 flags;		/* PP_RESTORE, of PP_EXCLUDE only */
	__u16 zero;
};

/* PP_WINDOW */
struct pp_window {
	__u64 start;		/* clock ticks since boot as in /proc/PID/stat */
	__u64 deadline;		/* ns since boot */
	__u32 uid;		/* effective, as the initial user namespace numbers it */
	__u32 pid;		/* as the caller numbers it */
	__u16 first;
	__u16 count;
	__u32 zero;
};

/* PP_LEND */
struct pp_lend {
	__u64 token;
	__u64 root_start;	/* as of pp_acquire */
	__u32 root_pid;
	__u32 zero;
};

/* PP_PROBE */
struct pp_probe {
	__u32 version;
	__u32 zero;
};

/* A live reservation: value of the map `reservations`, keyed by token. */
struct pp_record {
	__u64 id;		/* unique for ever; 0 once the reservation is ending */
	__u64 token;
	__u64 owner_socket;	/* the owner socket's id */
	__u64 owner_start;	/* start of the owner process: ns since boot */
	__u64 root_start;	/* start of the tree's root: ns since boot */
	__u64 born;		/* ns since boot */
	__u32 owner_pid;	/* as the initial pid namespace numbers it */
	__u32 root_pid;		/* likewise; 0 without tree scope */
	__u32 owner_pid_seen;	/* as the owner itself sees it */
	__u32 pid_ns;		/* inode of the owner's pid namespace */
	__u32 uid;		/* effective uid of the owner, as the initial user namespace numbers it */
	__u16 first;
	__u16 count;
	__u16 flags;
	__u8 transport;
	__u8 shared;		/* 1: charged to its uid and to the share of callers without CAP_NET_ADMIN */
	__u32 group;		/* with PP_GROUP */
	char comm[16];
};

/*
 * Ports of one transport, by the word. `claimed` is the truth about reservations. In use is
 * counted (pp_counts, and per word here); `held` are ports of kernel sockets and of sockets that
 * no hook can count. `recent` are two generations of ports lately in use, for placement only.
 * The counters of the whole pool live in the element of TCP.
 */
struct pp_occupancy {
	__u64 claimed[PP_PORT_WORDS];
	__u64 held[PP_PORT_WORDS];
	__u64 recent[2][PP_PORT_WORDS];
	__u32 in_use[PP_PORT_WORDS];
	__u32 recent_epoch[2];
	__u32 reservations;
	__u32 shared_reservations;
	__u32 shared_ports;
	__u32 zero_roots;
	__u64 excluded[PP_PORT_WORDS];	/* by the administrator: not to be claimed */
};

/* Generations of `recent` are 2^35 ns (34 s) long: a port stays in quarantine for 34 to 69 s. */
#define PP_RECENT_SHIFT 35

/* Sockets bound to each port of a word; element transport * PP_PORT_WORDS + word. */
struct pp_counts {
	__u32 bound[64];
};

struct pp_range {
	__u16 first;
	__u16 count;
};

#define PP_POOL_SWEEPING 0
#define PP_POOL_READY 1

/* The pool of one network namespace: value of the map `pools`, keyed by the namespace's cookie. */
struct pp_pool {
	__u64 id;		/* unique for ever */
	__u64 attached;		/* ns since boot */
	__u64 cgroup;		/* id of the cgroup the programs are attached to */
	__u32 index;		/* slot in the arrays of maps */
	__u32 state;
	__u32 shared_percent;	/* for people: the shares below are made of it */
	__u32 ports_per_uid;
	__u32 reservations_per_uid;
	__u32 reservations_per_socket;
	__u32 reservations;
	__u32 shared_ports;
	__u32 shared_reservations;
	__u32 range_count;
	struct pp_range ranges[PP_RANGES];	/* where wildcard blocks are drawn from */
};

/* Processes that are the root of a tree scope, and the tokens they root. */
struct pp_root_key {
	__u64 start;
	__u32 pid;
	__u32 zero;
};

struct pp_root {
	__u64 tokens[PP_SOCKET_RESERVATIONS];
};

/* What is counted: answers of an operation; element operation * PP_ANSWERS + answer (tell.h). */
#define PP_OF_CONTROL(code) ((code) - PP_PROBE)
#define PP_OF_BIND 10
#define PP_OF_CONNECT 11
#define PP_OPERATIONS 12
#define PP_ANSWERS 16

/* What is told of a reservation. */
#define PP_BORN 1
#define PP_RELEASED 2
#define PP_CLOSED 3	/* the last close of its owner socket */
#define PP_DELETED 4

struct pp_event {
	__u64 time;		/* ns since boot */
	__u64 token;
	__u32 index;		/* of the pool */
	__u32 uid;		/* these as of the record */
	__u32 pid;
	__u32 group;
	__u16 first;
	__u16 count;
	__u16 flags;
	__u8 transport;
	__u8 what;
	char comm[16];
};

/* Who reads the ring buffer. */
struct pp_watch {
	__u32 listening;	/* 0: nobody, and nothing is put into it */
	__u32 zero;
	__u64 dropped;		/* events that found no room since it was opened */
};

/* The numbers portpool-core's `abi` reads and writes by. */
#define PP_AT(type, member, offset) _Static_assert(__builtin_offsetof(struct type, member) == (offset), #type "." #member)
#define PP_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)

PP_SIZE(pp_acquire, 32);
PP_AT(pp_acquire, root_start, 8);
PP_AT(pp_acquire, root_pid, 16);
PP_AT(pp_acquire, first, 20);
PP_AT(pp_acquire, count, 22);
PP_AT(pp_acquire, flags, 24);
PP_SIZE(pp_token, 8);
PP_SIZE(pp_persist, 24);
PP_AT(pp_persist, group, 8);
PP_AT(pp_persist, first, 12);
PP_AT(pp_persist, count, 14);
PP_AT(pp_persist, flags, 16);
PP_SIZE(pp_ports, 8);
PP_AT(pp_ports, flags, 4);
PP_SIZE(pp_window, 32);
PP_AT(pp_window, deadline, 8);
PP_AT(pp_window, uid, 16);
PP_AT(pp_window, pid, 20);
PP_AT(pp_window, first, 24);
PP_AT(pp_window, count, 26);
PP_SIZE(pp_lend, 24);
PP_AT(pp_lend, root_start, 8);
PP_AT(pp_lend, root_pid, 16);
PP_SIZE(pp_probe, 8);
PP_SIZE(pp_record, 96);
PP_AT(pp_record, owner_socket, 16);
PP_AT(pp_record, owner_start, 24);
PP_AT(pp_record, root_start, 32);
PP_AT(pp_record, born, 40);
PP_AT(pp_record, owner_pid, 48);
PP_AT(pp_record, root_pid, 52);
PP_AT(pp_record, owner_pid_seen, 56);
PP_AT(pp_record, pid_ns, 60);
PP_AT(pp_record, uid, 64);
PP_AT(pp_record, first, 68);
PP_AT(pp_record, count, 70);
PP_AT(pp_record, flags, 72);
PP_AT(pp_record, transport, 74);
PP_AT(pp_record, shared, 75);
PP_AT(pp_record, group, 76);
PP_AT(pp_record, comm, 80);
PP_SIZE(pp_occupancy, 45080);
PP_AT(pp_occupancy, excluded, 36888);
PP_AT(pp_occupancy, held, 8192);
PP_AT(pp_occupancy, recent, 16384);
PP_AT(pp_occupancy, in_use, 32768);
PP_AT(pp_occupancy, recent_epoch, 36864);
PP_AT(pp_occupancy, reservations, 36872);
PP_AT(pp_occupancy, shared_reservations, 36876);
PP_AT(pp_occupancy, shared_ports, 36880);
PP_SIZE(pp_counts, 256);
PP_SIZE(pp_event, 56);
PP_AT(pp_event, index, 16);
PP_AT(pp_event, uid, 20);
PP_AT(pp_event, pid, 24);
PP_AT(pp_event, group, 28);
PP_AT(pp_event, first, 32);
PP_AT(pp_event, flags, 36);
PP_AT(pp_event, transport, 38);
PP_AT(pp_event, what, 39);
PP_AT(pp_event, comm, 40);
PP_SIZE(pp_watch, 16);
PP_AT(pp_watch, dropped, 8);
PP_SIZE(pp_pool, 320);
PP_AT(pp_pool, cgroup, 16);
PP_AT(pp_pool, index, 24);
PP_AT(pp_pool, state, 28);
PP_AT(pp_pool, shared_percent, 32);
PP_AT(pp_pool, ports_per_uid, 36);
PP_AT(pp_pool, reservations_per_uid, 40);
PP_AT(pp_pool, reservations_per_socket, 44);
PP_AT(pp_pool, reservations, 48);
PP_AT(pp_pool, shared_ports, 52);
PP_AT(pp_pool, shared_reservations, 56);
PP_AT(pp_pool, range_count, 60);
PP_AT(pp_pool, ranges, 64);

#endif
