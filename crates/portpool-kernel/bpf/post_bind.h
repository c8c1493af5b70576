/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * bind(2) after the kernel has chosen the port: count it, then decide afresh whether the socket
 * may keep it. Refused here, the socket is unbound again and can be bound anew.
 */
#include "judge.h"

/* Moves a socket's count to `port`; the count of an earlier bind that ended unseen is given back last. */
static __always_inline int recount(struct pp_pool *pool, u32 transport, u32 port, u64 *counted)
{
	struct pp_occupancy *occupancy = occupancy_of(pool->index, transport);
	u64 before;

	if (!occupancy || !raise_in_use(occupancy, pool->index, transport, port))
		return E_NOBUFS;
	before = __sync_lock_test_and_set(counted, COUNTED(pool->id, transport, port));
	if (before)
		pp_uncount(pool->index, pool->id, before);
	return 0;
}

/* Kernel sockets are released unseen: their ports are held until somebody looks (attach, doctor). */
static __noinline int hold_for_kernel(struct pp_pool *pool, u32 transport, u32 port)
{
	struct pp_occupancy *occupancy = occupancy_of(pool->index, transport);
	u32 word = (port >> 6) & (PP_PORT_WORDS - 1);
	u64 before;

	if (!occupancy)
		return E_NOBUFS;
	before = __sync_fetch_and_or(&occupancy->held[word], 1ull << (port & 63));
	FETCHED(before);
	/* The bit stays also if the bind is refused: it may stand for another kernel socket by now. */
	return is_claimed(occupancy, port) ? E_ACCES : 0;
}

/* A subflow is bound for a multipath TCP socket, which is what the program holds and closes. */
static __noinline int count_subflow(struct pp_pool *pool, u32 port, u64 multipath_socket)
{
	u64 *counted;
	int error;

	if (!is_counting(pool->index, port)) {
		counted = bpf_map_lookup_elem(&multipath, &multipath_socket);
		if (counted)
			pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(counted, 0));
		return pp_judge(pool->index, PP_TCP, port, 0, 0);
	}
	counted = multipath_count(multipath_socket);
	/* No room to count it: nobody's bind fails for that, the port is held until somebody looks. */
	if (!counted)
		return hold_for_kernel(pool, PP_TCP, port);
	error = recount(pool, PP_TCP, port, counted);
	if (error)
		return error;
	error = pp_judge(pool->index, PP_TCP, port, 0, 0);
	if (error)
		pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(counted, 0));
	return error;
}

/* A port that is not counted: only what an earlier bind left behind is given back. */
static __always_inline int after_uncounted_bind(struct pp_pool *pool, struct sock *sk, u32 transport, u32 port,
						struct mark *mark)
{
	u64 token = 0;

	if (mark) {
		pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(&mark->counted, 0));
		mark->tried = 0;
		token = mark->token;
	}
	return JUDGE_ASSOCIATED(pool->index, transport, port, token, (u64)BPF_CORE_READ(sk, __sk_common.skc_net.net));
}

static __always_inline int after_bind(struct bpf_sock *ctx)
{
	int transport = transport_of(ctx->protocol);
	struct sock *sk = (struct sock *)ctx;
	struct pp_pool *pool;
	struct mark *mark;
	u32 port;
	int error;

	if (transport < 0)
		return ALLOW;
	pool = POOL_OF(ctx);
	port = ctx->src_port;
	if (!pool || !port)
		return ALLOW;
	if (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock)) {
		struct sock *outer = NULL;

		if (bpf_core_field_exists(struct tcp_sock, is_mptcp) && transport == PP_TCP &&
		    BPF_CORE_READ((struct tcp_sock *)ctx, is_mptcp)) {
			struct mptcp_subflow_context *subflow = BPF_CORE_READ((struct inet_connection_sock *)ctx, icsk_ulp_data);

			outer = BPF_CORE_READ(subflow, conn);
		}
		if (outer && !BPF_CORE_READ_BITFIELD_PROBED(outer, sk_kern_sock)) {
			/* A further path of a connection: automatic choice's port, while the program keeps the one it bound. */
			if ((u64)BPF_CORE_READ((struct mptcp_sock *)outer, first) != (u64)sk)
				error = pp_judge(pool->index, PP_TCP, port, 0, 0);
			else
				error = count_subflow(pool, port, (u64)outer);
		} else
			error = hold_for_kernel(pool, transport, port);
		return error ? refuse(pool, PP_OF_BIND, error) : ALLOW;
	}
	if (!is_counting(pool->index, port)) {
		error = after_uncounted_bind(pool, sk, transport, port, find_mark(ctx, address_of(ctx)));
		return error ? refuse(pool, PP_OF_BIND, error) : ALLOW;
	}
	mark = make_mark(ctx, address_of(ctx));
	if (!mark)
		return refuse(pool, PP_OF_BIND, E_NOBUFS);
	error = recount(pool, transport, port, &mark->counted);
	if (error)
		return refuse(pool, PP_OF_BIND, error);
	mark->tried = 0;
	error = JUDGE_ASSOCIATED(pool->index, transport, port, mark->token,
				 (u64)BPF_CORE_READ(sk, __sk_common.skc_net.net));
	if (!error)
		return ALLOW;
	pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(&mark->counted, 0));
	return refuse(pool, PP_OF_BIND, error);
}

SEC("cgroup/post_bind4")
int pp_post_bind4(struct bpf_sock *ctx)
{
	return after_bind(ctx);
}

SEC("cgroup/post_bind6")
int pp_post_bind6(struct bpf_sock *ctx)
{
	return after_bind(ctx);
}
