/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Claimed ports and ports in use, and why no port is ever both claimed and bound by a stranger.
 *
 * A claim sets its bits in `claimed` and then reads the in-use counts; a bind raises the count of
 * its port and then reads the bit. Both writes are fetching atomics, hence full barriers, so of a
 * claim and a bind of one port at least one sees the other (store buffering with both fences).
 * Both may: then both are refused and nobody has the port, which is allowed.
 *
 * A bind with a right trusts nothing it learnt earlier: after raising the count it looks its
 * record up afresh. Release ends the record (id to 0, then delete) before it clears a bit. So if a
 * later claim of the port read a count of zero, the bind's raise came after that read, hence
 * after the clearing, hence after the end of the record: the bind finds no record and is refused.
 *
 * The count of the port and the count of its word are raised before the bit is read, in any order:
 * a claim that sees a word of zero may skip its ports, since whoever raises the word afterwards has
 * its own read of the bit still ahead. They are counts, not bits, because a bit cleared by the
 * last leaver could overtake the bit set by a newcomer.
 *
 * Not every bind is counted: most ports are automatic choice's and cannot be claimed, and a count
 * costs. The attacher sets the bits of ports in `counting`, waits until every program that may have
 * read them unset is over, sweeps, and only then sets them in `kept`. A bind that read its bit
 * unset is therefore over when the sweep begins, and its socket had its port before the bit was
 * read, so the sweep counts it; a bind that comes later counts itself. A claim that reads `kept` set
 * hence finds every socket counted. Bits of `counting` are never cleared while the pool is there.
 */
#ifndef PORTPOOL_OCCUPANCY_H
#define PORTPOOL_OCCUPANCY_H

#include "mark.h"

#define COUNTED(pool_id, transport, port) ((pool_id) << 20 | 1u << 17 | (u64)(transport) << 16 | (port))
#define COUNTED_POOL(counted) ((counted) >> 20)
#define COUNTED_TRANSPORT(counted) ((u32)((counted) >> 16 & 1))
#define COUNTED_PORT(counted) ((u32)((counted)&0xffff))

static __always_inline bool raise_in_use(struct pp_occupancy *occupancy, u32 index, u32 transport, u32 port)
{
	struct pp_counts *word = counts_of(index, transport, port >> 6);

	if (!word)
		return false;
	u32 fetched = __sync_fetch_and_add(&word->bound[port & 63], 1);
	FETCHED(fetched);
	fetched = __sync_fetch_and_add(&occupancy->in_use[(port >> 6) & (PP_PORT_WORDS - 1)], 1);
	FETCHED(fetched);
	return true;
}

static __always_inline void lower_in_use(struct pp_occupancy *occupancy, u32 index, u32 transport, u32 port)
{
	struct pp_counts *word = counts_of(index, transport, port >> 6);

	if (!word)
		return;
	__sync_fetch_and_add(&word->bound[port & 63], -1);
	__sync_fetch_and_add(&occupancy->in_use[(port >> 6) & (PP_PORT_WORDS - 1)], -1);
}

static long clear_recent_word(u32 word, void *context)
{
	struct pp_occupancy **occupancy = context;
	u32 generation = (u32)(bpf_ktime_get_boot_ns() >> PP_RECENT_SHIFT) & 1;

	(*occupancy)->recent[generation][word & (PP_PORT_WORDS - 1)] = 0;
	return 0;
}

/* Remembers that the port was in use just now. Only placement reads it, so a lost bit is harmless. */
static __always_inline void note_recent(struct pp_occupancy *occupancy, u32 port)
{
	u32 epoch = (u32)(bpf_ktime_get_boot_ns() >> PP_RECENT_SHIFT);
	u32 generation = epoch & 1;

	u32 seen = *(volatile u32 *)&occupancy->recent_epoch[generation];
	if (seen != epoch && __sync_val_compare_and_swap(&occupancy->recent_epoch[generation], seen, epoch) == seen)
		bpf_loop(PP_PORT_WORDS, clear_recent_word, &occupancy, 0);
	__sync_fetch_and_or(&occupancy->recent[generation][(port >> 6) & (PP_PORT_WORDS - 1)], 1ull << (port & 63));
}

/* Gives back the port a socket is counted at, if it is counted in this pool. */
__noinline int pp_uncount(u32 index, u64 pool_id, u64 counted)
{
	u32 transport = COUNTED_TRANSPORT(counted);
	struct pp_occupancy *occupancy;

	if (!counted || COUNTED_POOL(counted) != pool_id)
		return 0;
	occupancy = occupancy_of(index, transport);
	if (!occupancy)
		return 0;
	lower_in_use(occupancy, index, transport, COUNTED_PORT(counted));
	note_recent(occupancy, COUNTED_PORT(counted));
	return 0;
}

/*
 * Where a multipath socket is counted, to be changed in place only, like a mark: the sweep and a bind
 * meet there. The entry stays from the first bind until the socket's release, which is why the
 * pointer stays good: whoever binds or sweeps the socket keeps its file open. NULL: no room.
 */
static __always_inline u64 *multipath_count(u64 socket)
{
	u64 nowhere = 0;
	u64 *counted = bpf_map_lookup_elem(&multipath, &socket);

	if (counted)
		return counted;
	/* It fails if the other of the two was first, which is as good. */
	bpf_map_update_elem(&multipath, &socket, &nowhere, BPF_NOEXIST);
	return bpf_map_lookup_elem(&multipath, &socket);
}

/* The bits of [first, last] that fall into a word. */
static __always_inline u64 word_mask(u32 word, u32 first, u32 last)
{
	u32 low = word == first >> 6 ? first & 63 : 0;
	u32 high = word == last >> 6 ? last & 63 : 63;

	return ~0ull << low & ~0ull >> (63 - high);
}

struct block_walk {
	struct pp_occupancy *occupancy;
	void *counts;
	const unsigned long *reserved;	/* the namespace's ip_local_reserved_ports */
	void *kept;
	u64 fresh;	/* bits of the word the walk stopped at that it had set itself */
	u32 transport;
	u32 first;
	u32 last;
	u32 done;	/* words walked without conflict */
	u32 restored;	/* on record already: whatever is bound stays bound */
	u32 error;
};

static __always_inline u64 bound_in_word(struct pp_counts *word, u64 mask)
{
	u64 bound = 0;

	/* Without a branch: the verifier would follow every way through 64 of them. */
#pragma clang loop unroll(disable)
	for (u32 bit = 0; bit < 64; bit++) {
		u64 count = *(volatile u32 *)&word->bound[bit];

		asm volatile("" : "+r"(count));
		bound |= ((0 - count) >> 63) << bit;
	}
	return bound & mask;
}

/* The ports of a word that sockets use, as far as `mask` goes. */
static __always_inline u64 used_in_word(struct block_walk *walk, u32 word, u64 mask)
{
	struct pp_occupancy *occupancy = walk->occupancy;
	u64 used = *(volatile u64 *)&occupancy->held[word & (PP_PORT_WORDS - 1)] & mask;
	struct pp_counts *ports;

	if (!*(volatile u32 *)&occupancy->in_use[word & (PP_PORT_WORDS - 1)])
		return used;
	ports = counts_in(walk->counts, walk->transport, word);
	return ports ? used | bound_in_word(ports, mask) : mask;
}

/*
 * Refuses a port that the kernel's automatic choice could still pick, now or after the ephemeral
 * range is widened, or may have picked before: it must be reserved from it now, and have been when
 * attach swept up what it had picked. What automatic choice had picked before is no matter for a
 * block that is put back. Through a window `kept` is the map `counting`: its opener has swept up the
 * ports since their bits were set there, and nobody else is to claim them.
 */
static long check_kept_clear(u32 step, void *context)
{
	struct block_walk *walk = context;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);
	u64 mask = word_mask(word, walk->first, walk->last);
	u64 *swept = walk->kept ? bpf_map_lookup_elem(walk->kept, &word) : NULL;
	u64 reserved = 0;

	if (!swept || (mask & ~*swept && !walk->restored) || bpf_probe_read_kernel(&reserved, sizeof(reserved), walk->reserved + word) ||
	    mask & ~reserved) {
		walk->error = E_ADDRNOTAVAIL;
		return 1;
	}
	return 0;
}

/* The ports of a word that cannot be claimed or excluded because of what is bound to them. */
static __always_inline u64 barred_in_word(struct block_walk *walk, u32 word, u64 mask)
{
	return walk->restored ? 0 : used_in_word(walk, word, mask);
}

/* Likewise for a claim, with what the administrator keeps from it. */
static __always_inline u64 unclaimable_in_word(struct block_walk *walk, u32 word, u64 mask)
{
	return (*(volatile u64 *)&walk->occupancy->excluded[word & (PP_PORT_WORDS - 1)] & mask) |
	       barred_in_word(walk, word, mask);
}

static long claim_word(u32 step, void *context)
{
	struct block_walk *walk = context;
	struct pp_occupancy *occupancy = walk->occupancy;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);
	u64 mask = word_mask(word, walk->first, walk->last);

	/* Look before marking, so that a hopeless claim does not disturb binds for even a moment. */
	if (*(volatile u64 *)&occupancy->claimed[word] & mask || unclaimable_in_word(walk, word, mask)) {
		walk->fresh = 0;
		goto conflict;
	}
	u64 before = __sync_fetch_and_or(&occupancy->claimed[word], mask);
	walk->fresh = mask & ~before;
	if (before & mask || unclaimable_in_word(walk, word, mask))
		goto conflict;
	return 0;
conflict:
	walk->done = step;
	walk->error = E_ADDRINUSE;
	return 1;
}

static long unclaim_word(u32 step, void *context)
{
	struct block_walk *walk = context;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);

	__sync_fetch_and_and(&walk->occupancy->claimed[word], ~word_mask(word, walk->first, walk->last));
	return 0;
}

static __always_inline u32 words_of(u32 first, u32 last)
{
	return (last >> 6) - (first >> 6) + 1;
}

/* Takes all ports of the block or none. 0, or the errno of the refusal. */
static __noinline int claim_block(struct block_walk *walk)
{
	if (!walk)
		return E_INVAL;
	u32 words = words_of(walk->first, walk->last);

	walk->error = 0;
	bpf_loop(words, check_kept_clear, walk, 0);
	if (walk->error)
		return walk->error;
	bpf_loop(words, claim_word, walk, 0);
	if (!walk->error)
		return 0;
	u32 word = ((walk->first >> 6) + walk->done) & (PP_PORT_WORDS - 1);
	__sync_fetch_and_and(&walk->occupancy->claimed[word], ~walk->fresh);
	bpf_loop(walk->done, unclaim_word, walk, 0);
	return walk->error;
}

/* Gives the block back. Only for the one that ended its record, or never published it. */
static __always_inline void unclaim_block(struct block_walk *walk)
{
	bpf_loop(words_of(walk->first, walk->last), unclaim_word, walk, 0);
}

/*
 * Excludes a word, crossed with claims as claims are with binds: the bit, then a look at what is
 * claimed; a claim sets its bit, then looks at what is excluded. One of them sees the other.
 */
static long exclude_word(u32 step, void *context)
{
	struct block_walk *walk = context;
	struct pp_occupancy *occupancy = walk->occupancy;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);
	u64 mask = word_mask(word, walk->first, walk->last);
	u64 before = __sync_fetch_and_or(&occupancy->excluded[word], mask);

	walk->fresh = mask & ~before;
	if (!((before | *(volatile u64 *)&occupancy->claimed[word]) & mask) && !barred_in_word(walk, word, mask))
		return 0;
	walk->done = step;
	walk->error = E_ADDRINUSE;
	return 1;
}

static long unexclude_word(u32 step, void *context)
{
	struct block_walk *walk = context;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);

	__sync_fetch_and_and(&walk->occupancy->excluded[word], ~word_mask(word, walk->first, walk->last));
	return 0;
}

static long check_excluded(u32 step, void *context)
{
	struct block_walk *walk = context;
	u32 word = ((walk->first >> 6) + step) & (PP_PORT_WORDS - 1);

	if (!(word_mask(word, walk->first, walk->last) & ~walk->occupancy->excluded[word]))
		return 0;
	walk->error = E_NOENT;
	return 1;
}

/* Excludes all ports of the block or none. 0, or the errno of the refusal. */
static __noinline int exclude_block(struct block_walk *walk)
{
	if (!walk)
		return E_INVAL;
	walk->error = 0;
	bpf_loop(words_of(walk->first, walk->last), exclude_word, walk, 0);
	if (!walk->error)
		return 0;
	u32 word = ((walk->first >> 6) + walk->done) & (PP_PORT_WORDS - 1);
	__sync_fetch_and_and(&walk->occupancy->excluded[word], ~walk->fresh);
	bpf_loop(walk->done, unexclude_word, walk, 0);
	return walk->error;
}

/* Ends the exclusion of all ports of the block, if all are excluded. Administrators take turns. */
static __noinline int unexclude_block(struct block_walk *walk)
{
	u32 words;

	if (!walk)
		return E_INVAL;
	words = words_of(walk->first, walk->last);
	walk->error = 0;
	bpf_loop(words, check_excluded, walk, 0);
	if (!walk->error)
		bpf_loop(words, unexclude_word, walk, 0);
	return walk->error;
}

/* Straight-line arithmetic: the compiler's builtins do not build for this target, and the verifier follows branches. */
static __always_inline u32 count_bits(u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555ull;
	bits = (bits & 0x3333333333333333ull) + (bits >> 2 & 0x3333333333333333ull);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (bits * 0x0101010101010101ull) >> 56;
}

static __always_inline u32 lowest_bit(u64 bits)
{
	return count_bits((bits & (0 - bits)) - 1);
}

static __always_inline u32 highest_bit(u64 bits)
{
	bits |= bits >> 1;
	bits |= bits >> 2;
	bits |= bits >> 4;
	bits |= bits >> 8;
	bits |= bits >> 16;
	bits |= bits >> 32;
	return count_bits(bits) - 1;
}

/* First and last port of a block in one scalar, as a global function takes it. */
#define BLOCK(view) ((u32)(view)->first << 16 | (((u32)(view)->first + (view)->count - 1) & 0xffff))

struct free_search {
	struct block_walk walk;
	u32 after;	/* only ports above this one */
	u64 free;	/* the free ports of the word the search stopped at */
	u32 word;
	u32 highest;	/* look for the highest instead of the lowest */
};

static long find_free_in_word(u32 step, void *context)
{
	struct free_search *search = context;
	u32 words = words_of(search->walk.first, search->walk.last);
	u32 word = ((search->walk.first >> 6) + (search->highest ? words - 1 - step : step)) & (PP_PORT_WORDS - 1);
	u64 free = word_mask(word, search->walk.first, search->walk.last);

	if (search->after >= word * 64 + 63)
		return 0;
	if (search->after >= word * 64)
		free &= ~0ull << (search->after - word * 64 + 1);
	free &= ~used_in_word(&search->walk, word, free);
	if (!free)
		return 0;
	search->free = free;
	search->word = word;
	return 1;
}

/*
 * The lowest port of first..=last that no socket uses, above `after`; if there is none above, from
 * the beginning. 0 if all are in use. Likewise the highest.
 */
__noinline u32 pp_find_free(u32 index, u32 transport, u32 block, u32 after, u32 highest)
{
	struct free_search search = {
		.walk = {
			.occupancy = occupancy_of(index, transport & 1),
			.counts = bpf_map_lookup_elem(&counts, &index),
			.transport = transport & 1,
			.first = block >> 16,
			.last = block & 0xffff,
		},
		.after = after,
		.highest = highest,
	};
	u32 words = words_of(search.walk.first, search.walk.last);

	if (!search.walk.occupancy)
		return 0;
	bpf_loop(words, find_free_in_word, &search, 0);
	if (!search.free && after) {
		search.after = 0;
		bpf_loop(words, find_free_in_word, &search, 0);
	}
	if (!search.free)
		return 0;
	return search.word * 64 + (highest ? highest_bit(search.free) : lowest_bit(search.free));
}

#endif
