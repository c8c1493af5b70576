/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who may bind which port: the one place where a bind is allowed or refused. */
#ifndef PORTPOOL_JUDGE_H
#define PORTPOOL_JUDGE_H

#include "occupancy.h"
#include "task.h"
#include "tell.h"

#define ALLOW 1

static __always_inline int refuse(const struct pp_pool *pool, u32 operation, int error)
{
	pp_tally(pool->index, operation, error);
	bpf_set_retval(-error);
	return 0;
}

/* Whether the caller has a persistent block's group. */
static __always_inline bool has_group(const struct view *view)
{
	return view->flags & PP_GROUP && pp_in_group(view->group);
}

/*
 * Whether the caller may consume the reservation: its owner process, or of its tree. A persistent
 * one: who has CAP_NET_ADMIN (`capable`), or its group.
 */
static __always_inline bool may_consume(u32 index, const struct view *view, u32 port, u32 capable)
{
	if (view->flags & PP_PERSISTENT)
		return capable || has_group(view);
	if (is_owner(view))
		return true;
	return view->flags & PP_SCOPE_TREE && pp_in_tree(index, view->transport, port);
}

/*
 * 0 if a socket with this association (0: none) may have the port now, else the errno. Looks
 * everything up afresh, so that post_bind can rely on it after raising the count (occupancy.h). `capable`
 * says that the caller has CAP_NET_ADMIN, which only persistent blocks ask for.
 */
__noinline int pp_judge(u32 index, u32 transport, u32 port, u64 token, u32 capable)
{
	struct pp_occupancy *occupancy = occupancy_of(index, transport);
	struct view view;

	if (!occupancy)
		return E_NOBUFS;
	if (!token) {
		if (!is_claimed(occupancy, port) || pp_in_tree(index, transport, port))
			return 0;
		return E_ACCES;
	}
	if (!find_record(index, token, &view) || view.transport != transport)
		return E_NOBUFS;
	if (!block_has(&view, port))
		return E_ADDRNOTAVAIL;
	return may_consume(index, &view, port, capable) ? 0 : E_ACCES;
}

/*
 * The port an associated socket gets when it leaves the choice to us: the lowest free one above
 * `tried` (spec 1.3 rule 11). Negative: the errno.
 */
__noinline int pp_zero_from_block(u32 index, u32 transport, u64 token, u32 tried, u32 capable)
{
	struct view view;
	u32 port;

	if (!find_record(index, token, &view) || view.transport != transport)
		return -E_NOBUFS;
	port = pp_find_free(index, transport, BLOCK(&view), tried, 0);
	if (!port)
		return -E_NOBUFS;
	return may_consume(index, &view, port, capable) ? (int)port : -E_ACCES;
}

/*
 * As pp_judge and pp_zero_from_block, for a socket of the network namespace `net`: whether the
 * caller has the capability is asked only where its answer matters.
 */
#define JUDGE_ASSOCIATED(index, transport, port, token, net)                                      \
	({                                                                                         \
		int judged_ = pp_judge(index, transport, port, token, 0);                          \
		if (judged_ == E_ACCES && (token) && pp_capable(net, CAP_NET_ADMIN))               \
			judged_ = pp_judge(index, transport, port, token, 1);                      \
		judged_;                                                                           \
	})

#define ZERO_FROM_BLOCK(index, transport, token, tried, net)                                      \
	({                                                                                         \
		int zero_ = pp_zero_from_block(index, transport, token, tried, 0);                 \
		if (zero_ == -E_ACCES && pp_capable(net, CAP_NET_ADMIN))                           \
			zero_ = pp_zero_from_block(index, transport, token, tried, 1);             \
		zero_;                                                                             \
	})

/* The network namespace of the socket of a sock_addr or sockopt context. */
static __always_inline u64 net_of_context(void *ctx)
{
	struct sock *socket = NULL;

	bpf_probe_read_kernel(&socket, sizeof(socket), &((struct sock_context *)ctx)->sk);
	return (u64)BPF_CORE_READ(socket, __sk_common.skc_net.net);
}

#endif
