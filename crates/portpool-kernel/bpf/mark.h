/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The mark of a socket. Making and freeing socket storage is most of what a bind would pay, so the
 * mark lies in a slot of `mark_sets` if one is free, found by the address of the socket, and in socket
 * storage otherwise: then it costs more and means the same.
 *
 * A slot is its socket's from the swap that puts the address into it until the socket's release,
 * which every socket of a program comes by before its memory can be another's (sockets of the kernel
 * do not, and have no mark). A slot that is free has an empty mark.
 *
 * The programs that make marks hold the lock of the socket, so that none makes two. The sweep
 * does not: it makes them in storage only. A socket that is swept while it is bound may then have
 * one of each, both counted, and its release gives back both.
 */
#ifndef PORTPOOL_MARK_H
#define PORTPOOL_MARK_H

#include "pool.h"

/* The address of a socket as a number, which the verifier would not let be reckoned with. */
static __always_inline u64 address_of(const void *socket)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &socket);
	return address;
}

static __always_inline struct mark_set *mark_set_of(u64 address)
{
	/* Sockets lie at the same distances from each other: multiplied, their middle bits spread. */
	u32 key = address * 0x9e3779b97f4a7c15ull >> (64 - MARK_SETS_SHIFT);

	return bpf_map_lookup_elem(&mark_sets, &key);
}

/*
 * The slot of the set that has this address in it, the first if several; with address 0 a free one. By
 * arithmetic: with branches the verifier would follow what comes after once for every slot.
 */
static __always_inline struct mark_slot *find_slot(struct mark_set *set, u64 address)
{
	u64 way = MARK_WAYS;

#pragma clang loop unroll(full)
	for (int i = MARK_WAYS - 1; i >= 0; i--) {
		u64 differs = *(volatile u64 *)&set->slots[i].socket ^ address;

		/* All ones if it is this one. */
		asm volatile("" : "+r"(differs));
		differs = (u64)((s64)(differs | (0 - differs)) >> 63);
		way = (way & differs) | ((u64)i & ~differs);
	}
	return way < MARK_WAYS ? &set->slots[way] : NULL;
}

/* The mark of a socket, if it has one. */
static __always_inline struct mark *find_mark(void *socket, u64 address)
{
	struct mark_set *set = mark_set_of(address);
	struct mark_slot *slot = set ? find_slot(set, address) : NULL;

	return slot ? &slot->mark : bpf_sk_storage_get(&marks, socket, 0, 0);
}

static __always_inline struct mark *make_stored_mark(void *socket)
{
	struct mark *mark = bpf_sk_storage_get(&marks, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);

	/* Somebody else may just have made it. */
	return mark ? mark : bpf_sk_storage_get(&marks, socket, 0, 0);
}

/* The mark of a socket that is locked, made if there is none. NULL: no memory. */
static __always_inline struct mark *make_mark(void *socket, u64 address)
{
	struct mark_set *set = mark_set_of(address);
	struct mark_slot *slot = set ? find_slot(set, address) : NULL;
	struct mark *mark;

	if (slot)
		return &slot->mark;
	mark = bpf_sk_storage_get(&marks, socket, 0, 0);
	if (mark)
		return mark;
	slot = set ? find_slot(set, 0) : NULL;
	if (slot && !__sync_val_compare_and_swap(&slot->socket, 0, address))
		return &slot->mark;
	return make_stored_mark(socket);
}

/* Frees the slot of a socket that is released; 0, or where the socket was counted. */
static __always_inline u64 free_slot_of(u64 address)
{
	struct mark_set *set = mark_set_of(address);
	struct mark_slot *slot = set ? find_slot(set, address) : NULL;
	u64 counted, before;

	if (!slot)
		return 0;
	counted = slot->mark.counted;
	slot->mark.counted = 0;
	slot->mark.token = 0;
	slot->mark.tried = 0;
	before = __sync_lock_test_and_set(&slot->socket, 0);
	FETCHED(before);
	return counted;
}

#endif
