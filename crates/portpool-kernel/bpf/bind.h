/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* bind(2) before the kernel looks at it: refuse strangers early, choose the port of an associated bind(0). */
#include "judge.h"

/* An unassociated TCP bind(0) by the root of a tree that asked for it: the highest free port of its block. */
__noinline u32 pp_zero_from_tree(u32 index)
{
	void *map = bpf_map_lookup_elem(&roots, &index);
	struct pp_root_key key = {};
	struct process self;
	struct pp_root *root;
	u32 euid;

	identify(current_task(), &self);
	key.pid = self.pid;
	key.start = self.start;
	root = map ? bpf_map_lookup_elem(map, &key) : NULL;
	if (!root)
		return 0;
	euid = BPF_CORE_READ(current_task(), cred, euid.val);
#pragma clang loop unroll(disable)
	for (int i = 0; i < PP_SOCKET_RESERVATIONS; i++) {
		u64 token = *(volatile u64 *)&root->tokens[i];
		struct view view;
		u32 port;

		if (!token || !find_record(index, token, &view) || view.transport != PP_TCP || view.uid != euid ||
		    !(view.flags & PP_ZERO_FROM_BLOCK) || view.root_pid != key.pid || view.root_start != key.start)
			continue;
		port = pp_find_free(index, PP_TCP, BLOCK(&view), 0, 1);
		if (port)
			return port;
	}
	return 0;
}

static __always_inline int before_bind(struct bpf_sock_addr *ctx)
{
	int transport = transport_of(ctx->protocol);
	struct pp_pool *pool;
	struct mark *mark;
	u64 token = 0;
	u32 port;
	int error;

	if (transport < 0 || !ctx->sk)
		return ALLOW;
	pool = POOL_OF(ctx);
	/* A second bind of a bound socket is for the kernel to refuse. */
	if (!pool || ctx->sk->src_port)
		return ALLOW;
	mark = find_mark(ctx->sk, address_of(ctx->sk));
	if (mark)
		token = mark->token;
	port = bpf_ntohs(ctx->user_port);
	if (port) {
		error = JUDGE_ASSOCIATED(pool->index, transport, port, token, net_of_context(ctx));
		return error ? refuse(pool, PP_OF_BIND, error) : ALLOW;
	}
	if (mark && token) {
		int chosen = ZERO_FROM_BLOCK(pool->index, transport, token, mark->tried, net_of_context(ctx));

		if (chosen < 0)
			return refuse(pool, PP_OF_BIND, -chosen);
		/* If the kernel refuses this port (sockets of a past listener still on it), the next try goes on above it. */
		mark->tried = chosen;
		ctx->user_port = bpf_htons((u16)chosen);
		return ALLOW;
	}
	if (transport == PP_TCP) {
		struct pp_occupancy *occupancy = occupancy_of(pool->index, PP_TCP);

		if (occupancy && occupancy->zero_roots) {
			port = pp_zero_from_tree(pool->index);
			if (port)
				ctx->user_port = bpf_htons((u16)port);
		}
	}
	return ALLOW;
}

SEC("cgroup/bind4")
int pp_bind4(struct bpf_sock_addr *ctx)
{
	return before_bind(ctx);
}

SEC("cgroup/bind6")
int pp_bind6(struct bpf_sock_addr *ctx)
{
	return before_bind(ctx);
}
