/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Applies what the attacher found by looking (map `holds`). Run once, as an iterator that does all on its first step. */
#include "occupancy.h"

static long apply_hold(u32 key, void *context)
{
	u32 *index = context;
	struct hold *hold = bpf_map_lookup_elem(&holds, &key);
	struct pp_occupancy *occupancy;

	if (!hold || !(hold->set | hold->clear))
		return 0;
	occupancy = occupancy_of(*index, key >= PP_PORT_WORDS);
	if (!occupancy)
		return 1;
	__sync_fetch_and_or(&occupancy->held[key & (PP_PORT_WORDS - 1)], hold->set);
	__sync_fetch_and_and(&occupancy->held[key & (PP_PORT_WORDS - 1)], ~hold->clear);
	return 0;
}

SEC("iter/task")
int pp_hold(struct bpf_iter__task *ctx)
{
	u32 zero = 0;
	u32 *target = bpf_map_lookup_elem(&hold_target, &zero);

	if (ctx->meta->seq_num || !target)
		return 0;
	u32 index = *target;
	bpf_loop(2 * PP_PORT_WORDS, apply_hold, &index, 0);
	return 0;
}
