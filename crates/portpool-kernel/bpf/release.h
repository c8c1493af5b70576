/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The last close of a socket, kill -9 included: its port is free, its reservations end. */
#include "record.h"

struct lapse_walk {
	struct owner *owner;
	u32 index;
};

static long lapse_token(u32 slot, void *context)
{
	struct lapse_walk *walk = context;
	u64 token = walk->owner->tokens[slot & (PP_SOCKET_RESERVATIONS - 1)];
	struct view view;

	if (token && find_record(walk->index, token, &view) && view.owner_socket == walk->owner->id)
		pp_end_record(walk->index, token, view.id, PP_CLOSED);
	return 0;
}

SEC("cgroup/sock_release")
int pp_sock_release(struct bpf_sock *ctx)
{
	struct lapse_walk walk = {};
	u32 protocol = ctx->protocol;
	struct pp_pool *pool;
	struct mark *mark;
	u64 counted;

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_MPTCP)
		return ALLOW;
	pool = POOL_OF(ctx);
	if (protocol == IPPROTO_MPTCP) {
		u64 self = (u64)BPF_CORE_READ((struct sock *)ctx, sk_socket, sk);
		u64 *counted = bpf_map_lookup_elem(&multipath, &self);

		/* The entry goes even if its pool is gone: its address will be another socket's. */
		if (counted) {
			if (pool)
				pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(counted, 0));
			bpf_map_delete_elem(&multipath, &self);
		}
		return ALLOW;
	}
	/* The slot is freed even if its pool is gone: its address will be another socket's. */
	counted = free_slot_of(address_of(ctx));
	if (!pool)
		return ALLOW;
	pp_uncount(pool->index, pool->id, counted);
	mark = bpf_sk_storage_get(&marks, ctx, 0, 0);
	if (mark)
		pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(&mark->counted, 0));
	walk.owner = bpf_sk_storage_get(&owners, ctx, 0, 0);
	walk.index = pool->index;
	if (walk.owner) {
		struct lend *lend = &walk.owner->lend;

		bpf_loop(PP_SOCKET_RESERVATIONS, lapse_token, &walk, 0);
		if (lend->token && lend->pool == pool->id) {
			pp_drop_root(pool->index, lend->pid, lend->start, lend->token);
			pp_uncharge(pool->index, lend->uid, 0, lend->shared);
		}
	}
	return ALLOW;
}
