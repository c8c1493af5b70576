/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sockets that were bound before the programs were attached or their ports counted: run over every
 * open file of every process, count what is bound and mark it counted, so that its release is seen
 * like any other.
 */
#include "occupancy.h"

/* Cgroups nest deeper only where somebody plays: such a socket is taken to be out of reach. */
#define CGROUP_DEPTH 64

/* Whether the socket's hooks run ours: it was created in the cgroup we are attached to, or below. */
static __always_inline bool in_reach(const struct pp_pool *pool, struct sock *sk)
{
	struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	int level = BPF_CORE_READ(cgroup, level);

#pragma clang loop unroll(disable)
	for (int i = 0; i < CGROUP_DEPTH && i <= level; i++) {
		struct cgroup *ancestor = NULL;

		bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
				      (const char *)cgroup + bpf_core_field_offset(struct cgroup, ancestors) +
					      i * sizeof(ancestor));
		if (BPF_CORE_READ(ancestor, kn, id) == pool->cgroup)
			return true;
	}
	return false;
}

/* No memory to count the socket in: hold its port until the next attach finds the socket gone. */
static __always_inline void hold_swept(struct pp_pool *pool, struct pp_occupancy *occupancy, u32 transport, u32 port)
{
	u32 word = (port >> 6) & (PP_PORT_WORDS - 1), zero = 0, key = transport * PP_PORT_WORDS + word;
	u32 *target = bpf_map_lookup_elem(&hold_target, &zero);
	struct hold *hold = bpf_map_lookup_elem(&holds, &key);
	u64 bit = 1ull << (port & 63);

	__sync_fetch_and_or(&occupancy->held[word], bit);
	/* The attacher must know: it sees no socket that is bound and does not listen. */
	if (target && hold && *target == pool->index)
		__sync_fetch_and_or(&hold->set, bit);
}

/*
 * Counts a socket that is not counted in this pool. Count first, keep it only if nobody else has: a
 * bind going on meanwhile does the same (post_bind.h). What a pool that is gone left in `counted`
 * says nothing about this one.
 */
static __always_inline void sweep_up(struct pp_pool *pool, struct pp_occupancy *occupancy, u32 transport, u32 port,
				     u64 *counted)
{
	u64 before;

	if (!counted) {
		hold_swept(pool, occupancy, transport, port);
		return;
	}
	before = *(volatile u64 *)counted;
	if (COUNTED_POOL(before) == pool->id || !raise_in_use(occupancy, pool->index, transport, port))
		return;
	if (__sync_val_compare_and_swap(counted, before, COUNTED(pool->id, transport, port)) != before)
		lower_in_use(occupancy, pool->index, transport, port);
}

SEC("iter/task_file")
int pp_sweep(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct pp_occupancy *occupancy;
	struct socket *socket;
	struct pp_pool *pool;
	struct mark *mark;
	struct sock *sk;
	u64 cookie;
	u32 protocol, transport, port;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	protocol = BPF_CORE_READ(sk, sk_protocol);
	port = BPF_CORE_READ(sk, __sk_common.skc_num);
	u32 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	u32 type = BPF_CORE_READ(sk, sk_type);
	if (!port || (family != AF_INET && family != AF_INET6))
		return 0;
	if (protocol == IPPROTO_UDP && type == 2)
		transport = PP_UDP;
	else if ((protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) && type == 1)
		transport = PP_TCP;
	else
		return 0;
	cookie = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	pool = pool_of_namespace(cookie);
	if (!pool || !is_counting(pool->index, port) || !in_reach(pool, sk))
		return 0;
	occupancy = occupancy_of(pool->index, transport);
	if (!occupancy)
		return 0;
	if (protocol == IPPROTO_MPTCP) {
		u64 self = 0;

		bpf_probe_read_kernel(&self, sizeof(self), &socket->sk);
		sweep_up(pool, occupancy, transport, port, multipath_count(self));
		return 0;
	}
	mark = find_mark(sk, address_of(sk));
	if (!mark)
		mark = make_stored_mark(sk);
	sweep_up(pool, occupancy, transport, port, mark ? &mark->counted : NULL);
	return 0;
}
