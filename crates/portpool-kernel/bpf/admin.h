/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The control codes of administration: persistent blocks, exclusions, windows, lends. Included by
 * sockopt.h below what they share with acquire. Parameters are judged before privilege, privilege
 * before what there is (spec 5 rule 10).
 */

/* Whether a block is one: its first port is not 0 and its last one is a port. */
static __always_inline bool is_block(u32 first, u32 count)
{
	return first && count && first + count - 1 <= 65535;
}

static __noinline int examine_persist(struct grant *grant, const struct pp_persist *request, struct view *view)
{
	struct view other;
	struct net *net;
	u32 flags;

	if (!grant || !request || !view)
		return E_INVAL;
	net = grant->net;
	flags = request->flags;
	if (!request->token || request->token == ALL_DEAD || !is_block(request->first, request->count) ||
	    flags & ~(PP_PERSIST_GROUP | PP_RESTORE) || (!(flags & PP_PERSIST_GROUP) && request->group) ||
	    request->zero[0] || request->zero[1] || request->zero[2])
		return E_INVAL;
	if (!pp_capable((u64)net, CAP_NET_ADMIN))
		return E_ACCES;
	if (request->first < (u32)BPF_CORE_READ(net, ipv4.sysctl_ip_prot_sock) &&
	    !pp_capable((u64)net, CAP_NET_BIND_SERVICE))
		return E_ACCES;
	if (find_record(grant->pool->index, request->token, &other))
		return E_EXIST;
	grant->restored = !!(flags & PP_RESTORE);
	if (!grant->restored && grant->pool->state != PP_POOL_READY)
		return E_BUSY;
	grant->token = request->token;
	view->first = request->first;
	view->count = request->count;
	view->group = request->group;
	view->flags = PP_PERSISTENT | (flags & PP_PERSIST_GROUP ? PP_GROUP : 0);
	return 0;
}

static __noinline int persist(struct grant *grant, const struct pp_persist *request)
{
	struct view view = {};
	int error = examine_persist(grant, request, &view);

	if (error)
		return error;
	view.id = next_id();
	view.uid = current_task()->cred->euid.val;
	view.transport = grant->transport;
	/* Charged to nobody, but one of the pool's reservations. */
	error = charge(grant->pool, view.uid, view.count, false);
	return error ? error : take(grant, &view);
}

struct block_search {
	u64 token;
	u64 id;
	u16 first;
	u16 count;
	u32 transport;
};

static long look_at_record(void *map, u64 *token, struct pp_record *record, void *context)
{
	struct block_search *search = context;
	u64 id = FETCH(&record->id);

	if (!id || !(record->flags & PP_PERSISTENT) || record->first != search->first ||
	    record->count != search->count || record->transport != search->transport)
		return 0;
	search->token = record->token;
	/* As in find_record: one record's only if the id has stayed. */
	if (FETCH(&record->id) != id)
		return 0;
	search->id = id;
	return 1;
}

/* Deletes the persistent block with exactly these ports. */
static __noinline int unpersist(u32 index, u32 transport, const struct pp_ports *request)
{
	struct block_search search = {};
	void *map = bpf_map_lookup_elem(&reservations, &index);

	if (!map || !request)
		return E_NOENT;
	search.first = request->first;
	search.count = request->count;
	search.transport = transport;
	bpf_for_each_map_elem(map, look_at_record, &search, 0);
	return search.id && pp_end_record(index, search.token, search.id, PP_DELETED) ? 0 : E_NOENT;
}

static __noinline int change_exclusions(u32 index, u32 transport, const struct pp_ports *request, bool exclude)
{
	struct block_walk walk = {};

	if (!request)
		return E_INVAL;
	walk.occupancy = occupancy_of(index, transport & 1);
	walk.counts = bpf_map_lookup_elem(&counts, &index);
	walk.transport = transport & 1;
	walk.first = request->first;
	walk.last = (u32)request->first + request->count - 1;
	walk.restored = !!(request->flags & PP_RESTORE);
	if (!walk.occupancy)
		return E_INVAL;
	return exclude ? exclude_block(&walk) : unexclude_block(&walk);
}

/* Spec 5 rules 3 and 4, for a whole tree. Charged like a reservation without ports. */
static __noinline int lend(struct grant *grant, const struct pp_lend *request)
{
	u32 index = grant->pool->index;
	struct view view;
	int error;

	if (!request || grant->pool->state != PP_POOL_READY)
		return E_BUSY;
	if (!find_record(index, request->token, &view) || !(view.flags & PP_PERSISTENT) ||
	    view.transport != grant->transport)
		return E_INVAL;
	grant->shared = !pp_capable((u64)grant->net, CAP_NET_ADMIN);
	if (grant->shared && !has_group(&view))
		return E_ACCES;
	if (grant->owner->lend.token)
		return E_MFILE;
	error = name_root(grant, request->root_pid, request->root_start);
	if (error)
		return error;
	error = charge(grant->pool, current_task()->cred->euid.val, 0, grant->shared);
	if (error)
		return error;
	error = pp_add_root(index, grant->root.pid, grant->root.start, request->token);
	if (error) {
		pp_uncharge(index, current_task()->cred->euid.val, 0, grant->shared);
		return error;
	}
	/* The socket is locked and held by this call: its close, which ends the lend, comes later. */
	grant->owner->lend.pool = grant->pool->id;
	grant->owner->lend.start = grant->root.start;
	grant->owner->lend.pid = grant->root.pid;
	grant->owner->lend.uid = current_task()->cred->euid.val;
	grant->owner->lend.shared = grant->shared;
	grant->owner->lend.token = request->token;
	return 0;
}

/*
 * One function for each request that is copied to the stack: side by side they use the same of what
 * Linux 6.1 counts along a chain of calls.
 */
static __noinline int control_persist(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	struct grant grant = { .pool = pool, .transport = transport };
	struct pp_persist request;

	if (!pool || ctx->optlen != sizeof(request) || value + sizeof(request) > end)
		return E_INVAL;
	__builtin_memcpy(&request, value, sizeof(request));
	grant.net = (struct net *)net_of_context(ctx);
	return persist(&grant, &request);
}

static __noinline int control_window(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	struct pp_window request;

	if (!pool || ctx->optlen != sizeof(request) || value + sizeof(request) > end)
		return E_INVAL;
	__builtin_memcpy(&request, value, sizeof(request));
	if (!is_block(request.first, request.count) || request.zero || !request.pid || !request.start ||
	    request.deadline <= bpf_ktime_get_boot_ns())
		return E_INVAL;
	if (!pp_capable(net_of_context(ctx), CAP_NET_ADMIN))
		return E_ACCES;
	return open_window(pool->index, transport, &request);
}

static __noinline int control_lend(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	struct grant grant = { .pool = pool, .transport = transport };
	struct bpf_sock *sk = ctx->sk;
	struct pp_lend request;

	if (!pool || !sk || ctx->optlen != sizeof(request) || value + sizeof(request) > end)
		return E_INVAL;
	__builtin_memcpy(&request, value, sizeof(request));
	if (request.zero || (!request.root_pid && request.root_start))
		return E_INVAL;
	grant.net = (struct net *)net_of_context(ctx);
	grant.owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return grant.owner ? lend(&grant, &request) : E_NOBUFS;
}

static __noinline int control_ports(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	u32 name = ctx->optname;
	struct pp_ports request;

	if (!pool || ctx->optlen != sizeof(request) || value + sizeof(request) > end)
		return E_INVAL;
	__builtin_memcpy(&request, value, sizeof(request));
	if (!is_block(request.first, request.count) || request.zero ||
	    request.flags & ~(name == PP_EXCLUDE ? PP_RESTORE : 0))
		return E_INVAL;
	if (!pp_capable(net_of_context(ctx), CAP_NET_ADMIN))
		return E_ACCES;
	if (name == PP_UNPERSIST)
		return unpersist(pool->index, transport, &request);
	return change_exclusions(pool->index, transport, &request, name == PP_EXCLUDE);
}

/* The codes above associate, on a socket of a known transport. */
static __always_inline int administer(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	switch (ctx->optname) {
	case PP_PERSIST:
		return control_persist(ctx, pool, transport);
	case PP_WINDOW:
		return control_window(ctx, pool, transport);
	case PP_LEND:
		return control_lend(ctx, pool, transport);
	default:
		return control_ports(ctx, pool, transport);
	}
}
