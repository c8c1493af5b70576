/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who may bind which port: the one place where a bind is allowed or refused. */
#ifndef PORTPOOL_JUDGE_H
#define PORTPOOL_JUDGE_H

#include "occupancy.h"
#include "task.h"

#define ALLOW 1

static __always_inline int refuse(int error)
{
	bpf_set_retval(-error);
	return 0;
}

/* Whether the caller may consume the reservation: its owner process, or of its tree. */
static __always_inline bool may_consume(u32 index, const struct view *view, u32 port)
{
	if (is_owner(view))
		return true;
	return view->flags & PP_SCOPE_TREE && pp_in_tree(index, view->transport, port);
}

/*
 * 0 if a socket with this association (0: none) may have the port now, else the errno. Looks
 * everything up afresh, so that post_bind can rely on it after raising the count (occupancy.h).
 */
__noinline int pp_judge(u32 index, u32 transport, u32 port, u64 token)
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
	return may_consume(index, &view, port) ? 0 : E_ACCES;
}

/*
 * The port an associated socket gets when it leaves the choice to us: the lowest free one above
 * `tried` (spec 1.3 rule 11). Negative: the errno.
 */
__noinline int pp_zero_from_block(u32 index, u32 transport, u64 token, u32 tried)
{
	struct view view;
	u32 port;

	if (!find_record(index, token, &view) || view.transport != transport)
		return -E_NOBUFS;
	port = pp_find_free(index, transport, BLOCK(&view), tried, 0);
	if (!port)
		return -E_NOBUFS;
	return may_consume(index, &view, port) ? (int)port : -E_ACCES;
}

#endif
