/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The life of a reservation: charge, claim, publish; end, unclaim, uncharge. */
#ifndef PORTPOOL_RECORD_H
#define PORTPOOL_RECORD_H

#include "judge.h"

/* A uid's entry that is being reaped, a root's slot that may not be filled any more. */
#define DEAD (1ull << 63)
#define ALL_DEAD (~0ull)

#define CHARGE(ports) (1ull << 32 | (ports))

static long reap_uid(void *map, u32 *uid, u64 *charged, void *context)
{
	/* Only the one that turned an empty entry dead deletes it, and nobody fills a dead one. */
	if (!__sync_val_compare_and_swap(charged, 0, DEAD))
		bpf_map_delete_elem(map, uid);
	return 0;
}

static __noinline int charge_uid(struct pp_pool *pool, u32 uid, u32 ports)
{
	u32 index = pool->index;
	void *map = bpf_map_lookup_elem(&uids, &index);
	u64 nothing = 0, before;
	u64 *charged;
	int error = 0;

	if (!map)
		return E_NOBUFS;
	/* Before anything is added: what is refused must not be in the way of others for a moment. */
	if (ports > pool->ports_per_uid)
		return E_DQUOT;
	charged = bpf_map_lookup_elem(map, &uid);
	if (!charged) {
		long made = bpf_map_update_elem(map, &uid, &nothing, BPF_NOEXIST);

		if (made && made != -E_EXIST) {
			bpf_for_each_map_elem(map, reap_uid, NULL, 0);
			made = bpf_map_update_elem(map, &uid, &nothing, BPF_NOEXIST);
		}
		charged = bpf_map_lookup_elem(map, &uid);
		/* There was an entry, and it was reaped meanwhile. */
		if (!charged)
			return made && made != -E_EXIST ? E_NOBUFS : E_BUSY;
	}
	before = __sync_fetch_and_add(charged, CHARGE(ports));
	/* Reaped meanwhile, perhaps filled for another uid. With our charge in it an entry is not reaped any more. */
	if (before >= DEAD || bpf_map_lookup_elem(map, &uid) != charged)
		error = E_BUSY;
	else if ((before >> 32) + 1 > pool->reservations_per_uid || (u32)before + ports > pool->ports_per_uid)
		error = E_DQUOT;
	if (error)
		__sync_fetch_and_add(charged, -CHARGE(ports));
	return error;
}

static __always_inline int uncharge_uid(u32 index, u32 uid, u32 ports)
{
	void *map = bpf_map_lookup_elem(&uids, &index);
	u64 *charged = map ? bpf_map_lookup_elem(map, &uid) : NULL;

	if (charged)
		__sync_fetch_and_add(charged, -CHARGE(ports));
	return 0;
}

__noinline int pp_uncharge(u32 index, u32 uid, u32 ports, u32 shared)
{
	struct pp_occupancy *totals = occupancy_of(index, PP_TCP);

	if (!totals)
		return 0;
	__sync_fetch_and_add(&totals->reservations, -1);
	if (!shared)
		return 0;
	__sync_fetch_and_add(&totals->shared_reservations, -1);
	__sync_fetch_and_add(&totals->shared_ports, -ports);
	return uncharge_uid(index, uid, ports);
}

/* Counts a reservation against the pool's limits: 0, or the errno of the limit it would pass. */
static __noinline int charge(struct pp_pool *pool, u32 uid, u32 ports, bool shared)
{
	struct pp_occupancy *totals = occupancy_of(pool->index, PP_TCP);
	u32 others, other_ports;
	int error;

	if (!totals)
		return E_NOBUFS;
	if (__sync_fetch_and_add(&totals->reservations, 1) >= pool->reservations) {
		__sync_fetch_and_add(&totals->reservations, -1);
		return E_NOBUFS;
	}
	if (!shared)
		return 0;
	/* The uid first: its limit bounds what one user's refused requests can be in the way of the share. */
	error = charge_uid(pool, uid, ports);
	if (!error) {
		others = __sync_fetch_and_add(&totals->shared_reservations, 1);
		other_ports = __sync_fetch_and_add(&totals->shared_ports, ports);
		if (others < pool->shared_reservations && other_ports + ports <= pool->shared_ports)
			return 0;
		__sync_fetch_and_add(&totals->shared_ports, -ports);
		__sync_fetch_and_add(&totals->shared_reservations, -1);
		uncharge_uid(pool->index, uid, ports);
		error = E_NOSPC;
	}
	__sync_fetch_and_add(&totals->reservations, -1);
	return error;
}

static const struct pp_root no_tokens;

/*
 * Turns the empty entry of a root dead, slot by slot, and takes it away: its process does not come
 * again. Slot 0 goes first and lets one killer in at a time, so every dead slot is this one's.
 */
static __always_inline void drop_if_empty(void *map, struct pp_root_key *key, struct pp_root *entry)
{
	u64 filled = 0;

	if (__sync_val_compare_and_swap(&entry->tokens[0], 0, ALL_DEAD))
		return;
	/* It may have gone and be another process's by now; while slot 0 is dead it stays whose it is. */
	if (bpf_map_lookup_elem(map, key) != entry) {
		__sync_val_compare_and_swap(&entry->tokens[0], ALL_DEAD, 0);
		return;
	}
#pragma clang loop unroll(disable)
	for (int i = 1; i < PP_SOCKET_RESERVATIONS; i++)
		filled |= __sync_val_compare_and_swap(&entry->tokens[i], 0, ALL_DEAD);
	if (!filled) {
		bpf_map_delete_elem(map, key);
		return;
	}
#pragma clang loop unroll(disable)
	for (int i = PP_SOCKET_RESERVATIONS - 1; i >= 0; i--)
		__sync_val_compare_and_swap(&entry->tokens[i], ALL_DEAD, 0);
}

static long reap_root(void *map, struct pp_root_key *key, struct pp_root *entry, void *context)
{
	struct pp_root_key whose = *key;

	drop_if_empty(map, &whose, entry);
	return 0;
}

/* Adds a token to its root's entry: 0, or the errno. */
__noinline int pp_add_root(u32 index, u32 pid, u64 start, u64 token)
{
	void *map = bpf_map_lookup_elem(&roots, &index);
	struct pp_root_key key = { .pid = pid, .start = start };
	struct pp_root *entry;
	bool ending = false;

	if (!map)
		return E_NOBUFS;
	entry = bpf_map_lookup_elem(map, &key);
	if (!entry) {
		long error = bpf_map_update_elem(map, &key, &no_tokens, BPF_NOEXIST);

		if (error && error != -E_EXIST) {
			bpf_for_each_map_elem(map, reap_root, NULL, 0);
			error = bpf_map_update_elem(map, &key, &no_tokens, BPF_NOEXIST);
		}
		entry = bpf_map_lookup_elem(map, &key);
		/* There was an entry, and another thread took it away with its last token. */
		if (!entry)
			return error && error != -E_EXIST ? E_NOBUFS : E_BUSY;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < PP_SOCKET_RESERVATIONS; i++) {
		u64 before = __sync_val_compare_and_swap(&entry->tokens[i], 0, token);

		if (!before) {
			/* The entry may have gone, and be another process's, between the look and the swap. */
			if (bpf_map_lookup_elem(map, &key) == entry)
				return 0;
			__sync_val_compare_and_swap(&entry->tokens[i], token, 0);
			return E_BUSY;
		}
		ending |= before == ALL_DEAD;
	}
	return ending ? E_BUSY : E_MFILE;
}

__noinline int pp_drop_root(u32 index, u32 pid, u64 start, u64 token)
{
	void *map = bpf_map_lookup_elem(&roots, &index);
	struct pp_root_key key = { .pid = pid, .start = start };
	struct pp_root *entry = map ? bpf_map_lookup_elem(map, &key) : NULL;

	if (!entry)
		return 0;
	/* One of them: a persistent block may be lent to one root more than once. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < PP_SOCKET_RESERVATIONS; i++)
		if (__sync_val_compare_and_swap(&entry->tokens[i], token, 0) == token)
			break;
	drop_if_empty(map, &key, entry);
	return 0;
}

/* Frees what a record that is no longer, or not yet, in the map has taken. */
static __noinline int free_block(u32 index, const struct view *view)
{
	if (!view)
		return 0;
	struct block_walk walk = {
		.occupancy = occupancy_of(index, view->transport & 1),
		.first = view->first,
		.last = (u32)view->first + view->count - 1,
	};

	if (walk.occupancy)
		unclaim_block(&walk);
	if (view->flags & PP_ZERO_FROM_BLOCK) {
		struct pp_occupancy *totals = occupancy_of(index, PP_TCP);

		if (totals)
			__sync_fetch_and_add(&totals->zero_roots, -1);
	}
	pp_uncharge(index, view->uid, view->count, view->shared);
	return 0;
}

/*
 * Ends the reservation that was found: whoever turns the record's id to 0 does the rest, in the order
 * that occupancy.h relies on. 0 if somebody else did. `what` is what is told of it.
 */
static __always_inline int end_found(u32 index, u64 token, struct pp_record *record, const struct view *view,
				     u32 what)
{
	void *map = bpf_map_lookup_elem(&reservations, &index);

	if (!map || __sync_val_compare_and_swap(&record->id, view->id, 0) != view->id)
		return 0;
	tell(record, index, what);
	bpf_map_delete_elem(map, &token);
	if (view->flags & PP_SCOPE_TREE)
		pp_drop_root(index, view->root_pid, view->root_start, token);
	free_block(index, view);
	return 1;
}

/* Ends the reservation with this token and id. 0 if there is none any more. */
__noinline int pp_end_record(u32 index, u64 token, u64 id, u32 what)
{
	struct pp_record *record;
	struct view view;

	record = find_record(index, token, &view);
	return record && view.id == id ? end_found(index, token, record, &view, what) : 0;
}

#endif
