/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The maps. `pools` finds the pool of a network namespace; each pool has its own inner maps in
 * the arrays of maps, at the pool's index, so that no namespace can use up another's room.
 */
#ifndef PORTPOOL_MAPS_H
#define PORTPOOL_MAPS_H

#include "abi.h"
#include "kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PP_POOLS);
	__type(key, u64);
	__type(value, struct pp_pool);
} pools SEC(".maps");

/*
 * One of the pools, the only one of most machines, where it is found without a search: cookie 0 if it
 * is none. Between two of them the attacher waits for the programs that run.
 */
struct first_pool {
	struct pp_pool pool;
	u64 cookie;
};
PP_SIZE(first_pool, 328);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct first_pool);
} first_pool SEC(".maps");

/* Inner maps give sizes, not types: the compiler leaves their types out of the BTF. */
struct occupancy_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct pp_occupancy));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct occupancy_map);
} occupancies SEC(".maps");

struct counts_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * PP_PORT_WORDS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct pp_counts));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct counts_map);
} counts SEC(".maps");

struct reservations_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PP_RESERVATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(u64));
	__uint(value_size, sizeof(struct pp_record));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct reservations_map);
} reservations SEC(".maps");

/*
 * The ports that automatic choice was kept from when attach last swept: what it had picked of them
 * before was counted then. One bit a port.
 */
struct kept_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PP_PORT_WORDS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u64));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct kept_map);
} kept SEC(".maps");

/*
 * The ports whose binds are counted: all that are granted, and all that were since the pool is there.
 * One bit a port. Written by the attacher alone, which then waits for programs that still run.
 */
struct counting_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PP_PORT_WORDS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u64));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct counting_map);
} counting SEC(".maps");

/* Charged to a uid: reservations << 32 | ports. Entries appear with the uid and are reaped when room is needed. */
struct uids_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PP_RESERVATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u64));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct uids_map);
} uids SEC(".maps");

struct roots_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PP_RESERVATIONS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct pp_root_key));
	__uint(value_size, sizeof(struct pp_root));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct roots_map);
} roots SEC(".maps");

/*
 * What every socket has that is associated or bound to a port that is counted (mark.h). `counted` says at which port of which pool this
 * socket is counted: pool id << 20 | 1 << 17 | transport << 16 | port, 0 if nowhere.
 */
struct mark {
	u64 counted;
	u64 token;	/* the association, 0 if none */
	u32 tried;	/* the port a bind(0) got last and that has not been seen bound */
	u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

/* Marks that need no storage (mark.h). */
struct mark_slot {
	u64 socket;	/* its address; 0: free */
	struct mark mark;
};

#define MARK_WAYS 4
#define MARK_SETS_SHIFT 12

struct mark_set {
	struct mark_slot slots[MARK_WAYS];
};

PP_SIZE(mark_slot, 32);
PP_SIZE(mark_set, 128);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << MARK_SETS_SHIFT);
	__type(key, u32);
	__type(value, struct mark_set);
} mark_sets SEC(".maps");

/*
 * The windows of a pool: who may claim a block that automatic choice had when attach last swept.
 * Keyed by window_key. As of a record, `id` is 0 before the rest is written and once it is used.
 */
struct window {
	u64 id;
	u64 key;
	u64 start;	/* clock ticks since boot */
	u64 deadline;	/* ns since boot */
	u32 uid;
	u32 pid;	/* as the pid namespace `pid_ns` at depth `level` numbers it */
	u32 pid_ns;
	u32 level;
};

#define WINDOWS 1024

struct windows_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WINDOWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(u64));
	__uint(value_size, sizeof(struct window));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct windows_map);
} windows SEC(".maps");

/* A persistent block that a socket lends to a tree (PP_LEND), and what is charged for it. */
struct lend {
	u64 pool;	/* id of the pool; an entry of a pool that is gone says nothing */
	u64 token;	/* 0: none */
	u64 start;
	u32 pid;
	u32 uid;
	u32 shared;
	u32 zero;
};

/* What an owner socket carries besides. A token in it may be stale: the record's owner_socket decides. */
struct owner {
	u64 id;
	u64 tokens[PP_SOCKET_RESERVATIONS];
	struct lend lend;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct owner);
} owners SEC(".maps");

/*
 * Where a multipath TCP socket is counted (as `mark.counted`), keyed by the address of the socket
 * the program holds. Its subflow is bound in its stead and is released by the kernel unseen.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u64);
} multipath SEC(".maps");

/* Answers by operation, counted by each processor for itself. */
struct tallies_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PP_OPERATIONS * PP_ANSWERS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u64));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PP_POOLS);
	__type(key, u32);
	__array(values, struct tallies_map);
} tallies SEC(".maps");

/* Births and deaths of reservations, of all pools, for one reader. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pp_watch);
} watch_state SEC(".maps");

/* The last id given to a claim or an owner socket. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} last_id SEC(".maps");

/*
 * What the attacher found by looking: bits to set and clear in `held` of the pool at `hold_target`.
 * It cannot write them itself, since an element of `occupancy` can only be written whole.
 */
struct hold {
	u64 set;
	u64 clear;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * PP_PORT_WORDS);
	__type(key, u32);
	__type(value, struct hold);
} holds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} hold_target SEC(".maps");

#endif
