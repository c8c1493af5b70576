/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * connect(2) of an associated, unbound socket takes its port from the block (spec 1.3 rule 17).
 * No post_bind runs for a bind made here, so this does its work: count, look the record up afresh, bind.
 */
#include "judge.h"

/* Ports that only the kernel knows to be taken (TIME_WAIT, accepted sockets) cost a try each. */
#define CONNECT_TRIES 8

struct sockaddr_in {
	u16 family;
	u16 port;
	u32 address;
	u8 zero[8];
};

struct sockaddr_in6 {
	u16 family;
	u16 port;
	u32 flowinfo;
	u32 address[4];
	u32 scope_id;
};

static __always_inline int bind_any(struct bpf_sock_addr *ctx, u32 port)
{
	if (ctx->family == AF_INET6) {
		struct sockaddr_in6 any = { .family = AF_INET6, .port = bpf_htons((u16)port) };

		return bpf_bind(ctx, (struct sockaddr *)&any, sizeof(any));
	}
	struct sockaddr_in any = { .family = AF_INET, .port = bpf_htons((u16)port) };

	return bpf_bind(ctx, (struct sockaddr *)&any, sizeof(any));
}

static __always_inline int before_connect(struct bpf_sock_addr *ctx)
{
	int transport = transport_of(ctx->protocol);
	struct pp_pool *pool;
	struct pp_occupancy *occupancy;
	struct mark *mark;
	u32 tried = 0;

	if (transport < 0 || !ctx->sk || ctx->sk->src_port)
		return ALLOW;
	mark = find_mark(ctx->sk, address_of(ctx->sk));
	if (!mark || !mark->token)
		return ALLOW;
	pool = POOL_OF(ctx);
	if (!pool)
		return ALLOW;
	occupancy = occupancy_of(pool->index, transport);
	if (!occupancy)
		return refuse(pool, PP_OF_CONNECT, E_NOBUFS);
#pragma clang loop unroll(disable)
	for (int i = 0; i < CONNECT_TRIES; i++) {
		int port = ZERO_FROM_BLOCK(pool->index, transport, mark->token, tried, net_of_context(ctx));
		u64 before;
		int error;

		if (port < 0)
			return refuse(pool, PP_OF_CONNECT, -port);
		if (!raise_in_use(occupancy, pool->index, transport, port))
			return refuse(pool, PP_OF_CONNECT, E_NOBUFS);
		before = __sync_lock_test_and_set(&mark->counted, COUNTED(pool->id, transport, port));
		pp_uncount(pool->index, pool->id, before);
		error = JUDGE_ASSOCIATED(pool->index, transport, port, mark->token, net_of_context(ctx));
		if (!error && !bind_any(ctx, port))
			return ALLOW;
		pp_uncount(pool->index, pool->id, __sync_lock_test_and_set(&mark->counted, 0));
		if (error)
			return refuse(pool, PP_OF_CONNECT, error);
		tried = port;
	}
	return refuse(pool, PP_OF_CONNECT, E_ADDRINUSE);
}

SEC("cgroup/connect4")
int pp_connect4(struct bpf_sock_addr *ctx)
{
	return before_connect(ctx);
}

SEC("cgroup/connect6")
int pp_connect6(struct bpf_sock_addr *ctx)
{
	return before_connect(ctx);
}
