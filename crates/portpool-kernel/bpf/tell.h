/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What is told to whoever watches: births and deaths of reservations through a ring buffer, if
 * somebody reads it, and answers by the number. Nothing here decides anything, and nothing waits:
 * what finds no room in the ring is dropped and counted.
 */
#ifndef PORTPOOL_TELL_H
#define PORTPOOL_TELL_H

#include "pool.h"

/* The answers that are told apart; all others are the last. */
static __always_inline u32 answer_class(int error)
{
	u32 class = PP_ANSWERS - 1;

	if (!error)
		class = 0;
	if (error == E_NOENT)
		class = 1;
	if (error == E_SRCH)
		class = 2;
	if (error == E_ACCES)
		class = 3;
	if (error == E_BUSY)
		class = 4;
	if (error == E_EXIST)
		class = 5;
	if (error == E_INVAL)
		class = 6;
	if (error == E_MFILE)
		class = 7;
	if (error == E_NOSPC)
		class = 8;
	if (error == E_PROTO)
		class = 9;
	if (error == E_OPNOTSUPP)
		class = 10;
	if (error == E_ADDRINUSE)
		class = 11;
	if (error == E_ADDRNOTAVAIL)
		class = 12;
	if (error == E_NOBUFS)
		class = 13;
	if (error == E_DQUOT)
		class = 14;
	return class;
}

static __always_inline int tally(u32 index, u32 key)
{
	void *map = bpf_map_lookup_elem(&tallies, &index);
	u64 *count = map ? bpf_map_lookup_elem(map, &key) : NULL;

	/* This processor's own; an interrupt in between may cost one. */
	if (count)
		(*count)++;
	return 0;
}

/* Counts a refusal by an operation (PP_OF_...). */
__noinline int pp_tally(u32 index, u32 operation, int error)
{
	return tally(index, operation * PP_ANSWERS + answer_class(error));
}

/* Tells of a reservation, whose record must not change meanwhile: before it has its id, or by the one that took it. */
static __noinline int tell(const struct pp_record *record, u32 index, u32 what)
{
	u32 zero = 0;
	struct pp_watch *watch = bpf_map_lookup_elem(&watch_state, &zero);
	struct pp_event *event;

	if (!watch || !watch->listening || !record)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&watch->dropped, 1);
		return 0;
	}
	event->time = bpf_ktime_get_boot_ns();
	event->token = record->token;
	event->index = index;
	event->uid = record->uid;
	event->pid = record->owner_pid;
	event->group = record->group;
	event->first = record->first;
	event->count = record->count;
	event->flags = record->flags;
	event->transport = record->transport;
	event->what = what;
	__builtin_memcpy(event->comm, record->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif
