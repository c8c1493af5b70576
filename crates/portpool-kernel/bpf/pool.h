/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Finding the pool of a namespace, its maps and its records. */
#ifndef PORTPOOL_POOL_H
#define PORTPOOL_POOL_H

#include "maps.h"

static __always_inline u64 next_id(void)
{
	u32 zero = 0;
	u64 *last = bpf_map_lookup_elem(&last_id, &zero);

	return last ? __sync_fetch_and_add(last, 1) + 1 : 0;
}

static __always_inline struct pp_pool *pool_of_namespace(u64 cookie)
{
	u32 zero = 0;
	struct first_pool *first = bpf_map_lookup_elem(&first_pool, &zero);

	if (first && *(volatile u64 *)&first->cookie == cookie)
		return &first->pool;
	return bpf_map_lookup_elem(&pools, &cookie);
}

/* The pool of the network namespace of a context's socket. */
#define POOL_OF(ctx) pool_of_namespace(bpf_get_netns_cookie(ctx))

/*
 * Functions with the prefix pp_ that are not programs are global: the verifier checks them once, by
 * themselves, so their arguments are plain numbers.
 */

/* 0 tcp, 1 udp, negative: nothing of ours (UDP-Lite, raw, ping, SCTP). */
static __always_inline int transport_of(u32 protocol)
{
	if (protocol == IPPROTO_TCP)
		return PP_TCP;
	if (protocol == IPPROTO_UDP)
		return PP_UDP;
	return -1;
}

static __always_inline struct pp_occupancy *occupancy_of(u32 index, u32 transport)
{
	void *map = bpf_map_lookup_elem(&occupancies, &index);

	return map ? bpf_map_lookup_elem(map, &transport) : NULL;
}

static __always_inline struct pp_counts *counts_in(void *map, u32 transport, u32 word)
{
	u32 key = transport * PP_PORT_WORDS + (word & (PP_PORT_WORDS - 1));

	return map ? bpf_map_lookup_elem(map, &key) : NULL;
}

static __always_inline struct pp_counts *counts_of(u32 index, u32 transport, u32 word)
{
	return counts_in(bpf_map_lookup_elem(&counts, &index), transport, word);
}

/* Whether binds of the port are counted: no other port is ever claimed (occupancy.h). */
static __always_inline bool is_counting(u32 index, u32 port)
{
	void *map = bpf_map_lookup_elem(&counting, &index);
	u32 word = port >> 6;
	u64 *bits = map ? bpf_map_lookup_elem(map, &word) : NULL;

	return !bits || *(volatile u64 *)bits >> (port & 63) & 1;
}

static __always_inline bool is_claimed(struct pp_occupancy *occupancy, u32 port)
{
	return *(volatile u64 *)&occupancy->claimed[(port >> 6) & (PP_PORT_WORDS - 1)] >> (port & 63) & 1;
}

/* The parts of a record that decide who may do what. */
struct view {
	u64 id;
	u64 owner_start;
	u64 root_start;
	u32 owner_pid;
	u32 root_pid;
	u32 uid;
	u16 first;
	u16 count;
	u16 flags;
	u8 transport;
	u8 shared;
	u32 group;
	u64 owner_socket;
};

/* A fetch of what is there: the loads before it stay before it, those after it after it. */
#define FETCH(place) __sync_fetch_and_add(place, 0)

/* The fetched value must be used or the compiler drops the fetch, and the barrier with it. */
#define FETCHED(value) asm volatile("" ::"r"(value))

/*
 * Copies the live record of `token`. An element may be given back and filled again while it is
 * read: the id, unique for ever, read before and after says whether it is one record, and the
 * token in it whether it is the one asked for. An element is filled with id 0 and gets its id when
 * all else is there (sockopt.h), and loses it before it is given back: while the id stays the same,
 * so does the rest.
 */
static __noinline struct pp_record *find_record(u32 index, u64 token, struct view *view)
{
	void *map = bpf_map_lookup_elem(&reservations, &index);
	struct pp_record *record;

	if (!map || !view)
		return NULL;
	record = bpf_map_lookup_elem(map, &token);
	if (!record)
		return NULL;
	view->id = FETCH(&record->id);
	view->owner_start = record->owner_start;
	view->root_start = record->root_start;
	view->owner_pid = record->owner_pid;
	view->root_pid = record->root_pid;
	view->uid = record->uid;
	view->first = record->first;
	view->count = record->count;
	view->flags = record->flags;
	view->transport = record->transport;
	view->shared = record->shared;
	view->group = record->group;
	view->owner_socket = record->owner_socket;
	if (!view->id || record->token != token || FETCH(&record->id) != view->id)
		return NULL;
	return record;
}

static __always_inline bool block_has(const struct view *view, u32 port)
{
	return port >= view->first && port < (u32)view->first + view->count;
}

#endif
