/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The control codes: setsockopt at our own level. Runs in the caller's context with the socket
 * locked. A setsockopt that is not ours passes through, and quickly: every one on the machine comes by.
 */
#include "record.h"
#include "window.h"

#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define PAGE 4096

struct grant {
	struct pp_pool *pool;
	struct owner *owner;
	const struct pp_acquire *request;
	struct net *net;
	u64 token;
	u32 transport;
	u32 slot;
	bool shared;
	bool restored;	/* as of struct block_walk */
	bool windowed;	/* the caller has a window for the block */
	struct process root;
};

/* Forgets tokens whose reservation was released through another socket. */
static __noinline int prune(struct owner *owner, u32 index)
{
	if (!owner)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PP_SOCKET_RESERVATIONS; i++) {
		u64 token = owner->tokens[i];
		struct view view;

		if (token && (!find_record(index, token, &view) || view.owner_socket != owner->id))
			owner->tokens[i] = 0;
	}
	return 0;
}

static __always_inline u64 used_slots(const struct owner *owner)
{
	u64 used = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < PP_SOCKET_RESERVATIONS; i++) {
		u64 token = owner->tokens[i], negative = 0 - token;

		/* Opaque to the compiler, which would make a branch of it and have the verifier follow 2^32 ways. */
		asm volatile("" : "+r"(negative));
		used += (token | negative) >> 63;
	}
	return used;
}

/* A free place for one more token, or the number of places if the socket has all it may have. */
static __noinline u32 free_slot(struct owner *owner, u32 limit)
{
	if (!owner)
		return PP_SOCKET_RESERVATIONS;
	/* With the largest limit, which is the default, a free place says enough. */
	if (limit < PP_SOCKET_RESERVATIONS && used_slots(owner) >= limit)
		return PP_SOCKET_RESERVATIONS;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < PP_SOCKET_RESERVATIONS; i++)
		if (!owner->tokens[i])
			return i;
	return PP_SOCKET_RESERVATIONS;
}

/*
 * Writes the record and then gives it its id. Without an id it is nobody's: find_record passes it
 * over. With it, another thread may release it.
 */
static __noinline int publish(struct grant *grant, struct view *view)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = task->group_leader;
	struct pp_record record = {};
	u32 index = grant->pool->index;
	void *map = bpf_map_lookup_elem(&reservations, &index);
	u64 token = grant->token;
	struct owner *owner = grant->owner;
	struct pp_record *published;
	struct process self;
	int error;

	if (!map)
		return E_NOBUFS;
	record.token = token;
	/* Nobody owns a persistent one. */
	if (owner) {
		identify_current(&self);
		record.owner_socket = owner->id;
		record.owner_pid = self.pid;
		record.owner_start = self.start;
		record.owner_pid_seen = pid_seen_by_itself(leader, &record.pid_ns);
	}
	record.group = view->group;
	record.root_pid = grant->root.pid;
	record.root_start = grant->root.start;
	record.born = bpf_ktime_get_boot_ns();
	record.uid = view->uid;
	record.first = view->first;
	record.count = view->count;
	record.flags = view->flags;
	record.transport = view->transport;
	record.shared = view->shared;
	/* Eight bytes at a time, by plain loads. */
	((u64 *)record.comm)[0] = *(u64 *)&leader->comm[0];
	((u64 *)record.comm)[1] = *(u64 *)&leader->comm[8];
	error = bpf_map_update_elem(map, &token, &record, BPF_NOEXIST);
	if (error)
		return error == -E_EXIST ? E_EXIST : E_NOBUFS;
	published = bpf_map_lookup_elem(map, &token);
	if (!published)
		return E_NOBUFS;
	/* Before it has its id, after which it may end at any moment. */
	tell(published, index, PP_BORN);
	u64 fetched = __sync_lock_test_and_set(&published->id, view->id);
	FETCHED(fetched);
	return 0;
}

/* Everything about an acquire that can be said without taking anything. */
static __noinline int examine(struct grant *grant)
{
	const struct pp_acquire *request = grant->request;
	struct net *net = grant->net;
	struct view view;

	if (!request->token || request->token == ALL_DEAD || !request->first || !request->count ||
	    (u32)request->first + request->count - 1 > 65535 || request->flags & ~PP_FLAGS_KNOWN ||
	    request->zero[0] || request->zero[1] || request->zero[2])
		return E_INVAL;
	if (!(request->flags & PP_SCOPE_TREE) &&
	    (request->root_pid || request->root_start || request->flags & PP_ZERO_FROM_BLOCK))
		return E_INVAL;
	if (request->flags & PP_ZERO_FROM_BLOCK && grant->transport != PP_TCP)
		return E_INVAL;
	if (find_record(grant->pool->index, request->token, &view))
		return E_EXIST;
	if (request->first < (u32)BPF_CORE_READ(net, ipv4.sysctl_ip_prot_sock) &&
	    !pp_capable((u64)net, CAP_NET_BIND_SERVICE))
		return E_ACCES;
	return grant->pool->state == PP_POOL_READY ? 0 : E_BUSY;
}

/* Names the root of a tree scope: the caller, or the ancestor asked for. */
static __always_inline int name_root(struct grant *grant, u32 pid, u64 start)
{
	if (!pid)
		identify_current(&grant->root);
	else if (!find_ancestor(pid, start, &grant->root))
		return E_SRCH;
	return 0;
}

static __noinline int claim(struct grant *grant, struct view *view)
{
	u32 index = grant->pool->index;
	struct net *net = grant->net;
	struct block_walk walk = {
		.occupancy = occupancy_of(index, grant->transport & 1),
		.counts = bpf_map_lookup_elem(&counts, &index),
		.reserved = BPF_CORE_READ(net, ipv4.sysctl_local_reserved_ports),
		.transport = grant->transport & 1,
		.first = view->first,
		.last = (u32)view->first + view->count - 1,
		.restored = grant->restored,
	};

	if (grant->windowed)
		walk.kept = bpf_map_lookup_elem(&counting, &index);
	else
		walk.kept = bpf_map_lookup_elem(&kept, &index);
	return walk.occupancy ? claim_block(&walk) : E_NOBUFS;
}

static __noinline int has_window(struct grant *grant, const struct view *view)
{
	if (!view || view->flags & PP_PERSISTENT)
		return false;
	grant->windowed = pp_may_pass(grant->pool->index, window_key(view->transport, view->first, view->count));
	return grant->windowed;
}

static __noinline int close_window(u32 index, const struct view *view)
{
	return view ? pp_close_window(index, window_key(view->transport, view->first, view->count)) : 0;
}

/*
 * Claims the block and publishes the record; on refusal nothing has changed. The steps are called
 * side by side rather than from one another: Linux 6.1 counts 512 bytes of stack along a chain of calls.
 */
static __always_inline int take(struct grant *grant, struct view *view)
{
	u32 index = grant->pool->index;
	struct pp_occupancy *totals = occupancy_of(index, PP_TCP);
	u64 token = grant->token;
	int error;

	error = totals ? claim(grant, view) : E_NOBUFS;
	if (error == E_ADDRNOTAVAIL && has_window(grant, view))
		error = claim(grant, view);
	if (error) {
		pp_uncharge(index, view->uid, view->count, view->shared);
		return error;
	}
	if (view->flags & PP_ZERO_FROM_BLOCK)
		__sync_fetch_and_add(&totals->zero_roots, 1);
	if (view->flags & PP_SCOPE_TREE)
		error = pp_add_root(index, grant->root.pid, grant->root.start, token);
	if (!error) {
		error = publish(grant, view);
		if (error && view->flags & PP_SCOPE_TREE)
			pp_drop_root(index, grant->root.pid, grant->root.start, token);
	}
	if (error)
		free_block(index, view);
	else if (grant->windowed)
		close_window(index, view);
	return error;
}

static __noinline int acquire(struct grant *grant)
{
	struct view view = {};
	u32 limit;
	int error = examine(grant);

	if (!error && grant->request->flags & PP_SCOPE_TREE)
		error = name_root(grant, grant->request->root_pid, grant->request->root_start);
	if (error)
		return error;
	limit = grant->pool->reservations_per_socket;
	grant->slot = free_slot(grant->owner, limit);
	if (grant->slot >= PP_SOCKET_RESERVATIONS) {
		prune(grant->owner, grant->pool->index);
		grant->slot = free_slot(grant->owner, limit);
	}
	if (grant->slot >= PP_SOCKET_RESERVATIONS)
		return E_MFILE;
	if (!grant->owner->id)
		grant->owner->id = next_id();
	view.id = next_id();
	view.uid = current_task()->cred->euid.val;
	view.first = grant->request->first;
	view.count = grant->request->count;
	view.flags = grant->request->flags;
	view.transport = grant->transport;
	view.shared = !pp_capable((u64)grant->net, CAP_NET_ADMIN);
	error = charge(grant->pool, view.uid, view.count, view.shared);
	if (error)
		return error;
	/* In the socket first: a record in the map must always have a close that ends it. */
	grant->owner->tokens[grant->slot & (PP_SOCKET_RESERVATIONS - 1)] = grant->request->token;
	error = take(grant, &view);
	if (error)
		grant->owner->tokens[grant->slot & (PP_SOCKET_RESERVATIONS - 1)] = 0;
	return error;
}

/* Spec 1.3 rules 20 and 23 to 25: any socket of the transport, in the owner process. */
static __noinline int release(u32 index, u32 transport, u64 token)
{
	struct pp_record *record;
	struct view view;

	record = find_record(index, token, &view);
	if (!record || view.transport != transport || view.flags & PP_PERSISTENT || !is_owner(&view))
		return E_INVAL;
	return end_found(index, token, record, &view, PP_RELEASED) ? 0 : E_INVAL;
}

/* Spec 1.3 rules 15 to 19 and 25; of a persistent block spec 5 rule 4. */
static __noinline int may_associate(u32 index, u32 transport, u64 token, u32 capable)
{
	struct view view;

	if (!find_record(index, token, &view) || view.transport != transport)
		return E_INVAL;
	if (view.flags & PP_PERSISTENT)
		return capable || has_group(&view) ? 0 : E_ACCES;
	return is_owner(&view) ? 0 : E_ACCES;
}

#include "admin.h"

static __noinline int control_acquire(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	struct grant grant = { .pool = pool, .transport = transport };
	struct bpf_sock *sk = ctx->sk;
	struct pp_acquire request;

	if (!pool || !sk || ctx->optlen != sizeof(request) || value + sizeof(request) > end)
		return E_INVAL;
	__builtin_memcpy(&request, value, sizeof(request));
	grant.request = &request;
	grant.token = request.token;
	grant.net = (struct net *)net_of_context(ctx);
	grant.owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return grant.owner ? acquire(&grant) : E_NOBUFS;
}

/* Release and associate. */
static __noinline int control_token(struct bpf_sockopt *ctx, struct pp_pool *pool, u32 transport)
{
	void *value = ctx->optval, *end = ctx->optval_end;
	struct bpf_sock *sk = ctx->sk;
	struct pp_token *named = value;
	struct mark *mark;
	u64 token;
	int error;

	if (!pool || !sk || ctx->optlen != sizeof(*named) || (void *)(named + 1) > end)
		return E_INVAL;
	token = named->token;
	if (ctx->optname == PP_RELEASE)
		return release(pool->index, transport, token);
	/* Spec 3.4: the state of the socket is judged before the token. */
	if (sk->src_port)
		return E_INVAL;
	/* As JUDGE_ASSOCIATED. */
	error = may_associate(pool->index, transport, token, 0);
	if (error == E_ACCES && pp_capable(net_of_context(ctx), CAP_NET_ADMIN))
		error = may_associate(pool->index, transport, token, 1);
	if (error)
		return error;
	mark = make_mark(sk, address_of(sk));
	if (!mark)
		return E_NOBUFS;
	mark->token = token;
	mark->tried = 0;
	return 0;
}

static __always_inline int control(struct bpf_sockopt *ctx, struct pp_pool *pool)
{
	struct bpf_sock *sk = ctx->sk;
	void *value = ctx->optval, *end = ctx->optval_end;
	int size = ctx->optlen;
	u32 transport;

	if (ctx->optname == PP_PROBE) {
		struct pp_probe *probe = value;

		if (size != sizeof(*probe) || (void *)(probe + 1) > end || probe->zero)
			return E_INVAL;
		return probe->version == PP_ABI_VERSION ? 0 : E_PROTO;
	}
	if (!sk || (sk->family != AF_INET && sk->family != AF_INET6))
		return E_OPNOTSUPP;
	/* A raw socket may have the number of TCP or UDP for its protocol: the type tells it. */
	if (sk->protocol == IPPROTO_TCP && sk->type == SOCK_STREAM)
		transport = PP_TCP;
	else if (sk->protocol == IPPROTO_UDP && sk->type == SOCK_DGRAM)
		transport = PP_UDP;
	else
		return E_OPNOTSUPP;
	if (ctx->optname > PP_ASSOCIATE)
		return administer(ctx, pool, transport);
	if (ctx->optname == PP_ACQUIRE)
		return control_acquire(ctx, pool, transport);
	return control_token(ctx, pool, transport);
}

/* Not ours. Above a page the kernel would fail or log a buffer it could not show us whole: let it use the caller's. */
static __always_inline int pass(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > PAGE)
		ctx->optlen = 0;
	return ALLOW;
}

SEC("cgroup/setsockopt")
int pp_setsockopt(struct bpf_sockopt *ctx)
{
	struct pp_pool *pool;
	int error;

	if (ctx->level != PP_LEVEL || ctx->optname < PP_PROBE || ctx->optname > PP_LEND)
		return pass(ctx);
	pool = POOL_OF(ctx);
	if (!pool)
		return pass(ctx);
	error = control(ctx, pool);
	if (error)
		return refuse(pool, PP_OF_CONTROL(ctx->optname), error);
	/* Of what succeeds only claims are counted. */
	if (ctx->optname == PP_ACQUIRE)
		tally(pool->index, PP_OF_CONTROL(PP_ACQUIRE) * PP_ANSWERS);
	ctx->optlen = -1;
	return ALLOW;
}
