/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who is calling: process identity, capabilities, ancestors. */
#ifndef PORTPOOL_TASK_H
#define PORTPOOL_TASK_H

#include "pool.h"

/* A process: thread group id and start of its leader. Process ids come again, the pair does not. */
struct process {
	u64 start;
	u32 pid;
};

/*
 * The caller, as a pointer the verifier knows the type of: what it points to is read by plain loads,
 * which a claim notices beside some twenty calls of a helper. Of a task kept in memory, as
 * walks do, the type is lost: those read with BPF_CORE_READ.
 */
static __always_inline struct task_struct *current_task(void)
{
	return bpf_get_current_task_btf();
}

static __always_inline void identify_current(struct process *process)
{
	struct task_struct *task = current_task();

	process->pid = task->tgid;
	process->start = task->group_leader->start_boottime;
}

static __always_inline void identify(struct task_struct *task, struct process *process)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	process->pid = BPF_CORE_READ(task, tgid);
	process->start = BPF_CORE_READ(leader, start_boottime);
}

static __always_inline bool is_owner(const struct view *view)
{
	struct process self;

	identify_current(&self);
	return view->owner_pid == self.pid && view->owner_start == self.start;
}

static __always_inline u64 effective_capabilities(const struct cred *cred)
{
	u64 mask = 0;

	bpf_probe_read_kernel(&mask, sizeof(mask), (const char *)cred + bpf_core_field_offset(struct cred, cap_effective));
	return mask;
}

/*
 * Whether the caller has a capability over a network namespace, judged as the kernel's ns_capable
 * does: in the user namespace that owns it or in one above. A full mask inside a user namespace
 * of one's own making means nothing outside.
 */
__noinline int pp_capable(u64 namespace, u32 capability)
{
	struct net *net = (struct net *)namespace;
	const struct cred *cred = current_task()->cred;
	struct user_namespace *own = cred->user_ns;
	struct user_namespace *target = BPF_CORE_READ(net, user_ns);
	int own_level = own->level;

	/* User namespaces nest at most 32 deep. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < 33; i++) {
		struct user_namespace *parent;

		if (target == own)
			return effective_capabilities(cred) >> (capability & 63) & 1;
		if (BPF_CORE_READ(target, level) <= own_level)
			return false;
		parent = BPF_CORE_READ(target, parent);
		if (parent == own && BPF_CORE_READ(target, owner.val) == BPF_CORE_READ(cred, euid.val))
			return true;
		target = parent;
	}
	return false;
}

struct group_search {
	const char *gids;	/* as the kernel keeps them: sorted */
	u32 group;
	u32 low;
	u32 high;
};

static long look_at_group(u32 step, void *context)
{
	struct group_search *search = context;
	u32 middle = (search->low + search->high) / 2, gid = 0;

	if (search->low >= search->high)
		return 1;
	bpf_probe_read_kernel(&gid, sizeof(gid), search->gids + (u64)middle * sizeof(gid));
	if (gid == search->group) {
		/* Found is what low at the end says. */
		search->low = ~0u;
		return 1;
	}
	if (gid < search->group)
		search->low = middle + 1;
	else
		search->high = middle;
	return 0;
}

/* 65,536 groups, as many as the kernel lets a process have, are halved to none in 17 steps. */
#define GROUP_STEPS 17

/* Whether the caller is of a group: effective, for files, or supplementary. */
__noinline int pp_in_group(u32 group)
{
	const struct cred *cred = current_task()->cred;
	struct group_info *groups = BPF_CORE_READ(cred, group_info);
	struct group_search search = {
		.gids = (const char *)groups + bpf_core_field_offset(struct group_info, gid),
		.group = group,
		.high = BPF_CORE_READ(groups, ngroups),
	};

	if (BPF_CORE_READ(cred, egid.val) == group || BPF_CORE_READ(cred, fsgid.val) == group)
		return true;
	bpf_loop(GROUP_STEPS, look_at_group, &search, 0);
	return search.low == ~0u;
}

/* The task's process id as seen from the pid namespace `ns` at `level`; 0 if not visible there. */
static __always_inline u32 pid_seen_from(struct task_struct *leader, u32 level, struct pid_namespace *ns)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	struct upid upid = {};
	const char *at;

	if (level > BPF_CORE_READ(pid, level) || level > 32)
		return 0;
	at = (const char *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_core_read(&upid.ns, sizeof(upid.ns), &((const struct upid *)at)->ns);
	bpf_core_read(&upid.nr, sizeof(upid.nr), &((const struct upid *)at)->nr);
	return upid.ns == ns ? upid.nr : 0;
}

/* The pid namespace a task lives in, and how deep it is. */
static __always_inline struct pid_namespace *pid_namespace_of(struct task_struct *task, u32 *level)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct pid_namespace *ns = NULL;
	const char *at;

	*level = BPF_CORE_READ(pid, level);
	if (*level > 32)
		return NULL;
	at = (const char *)pid + bpf_core_field_offset(struct pid, numbers) + *level * bpf_core_type_size(struct upid);
	bpf_core_read(&ns, sizeof(ns), &((const struct upid *)at)->ns);
	return ns;
}

/* A process as its own pid namespace numbers it, and that namespace's number. 0 if it is too deep. */
static __always_inline u32 pid_seen_by_itself(struct task_struct *leader, u32 *pid_ns)
{
	u32 level = leader->thread_pid->level;
	struct upid upid = {};
	const char *pid, *at;

	/* Of the initial namespace by plain loads. */
	if (!level) {
		u32 number = leader->thread_pid->numbers[0].nr;

		/* Opaque to the compiler, which would make one load of this and the last below, of other types. */
		asm volatile("" : "+r"(number));
		*pid_ns = leader->thread_pid->numbers[0].ns->ns.inum;
		return number;
	}
	if (level > 32)
		return 0;
	/* Without its type, since Linux 6.1 lets nobody add a variable to a typed pointer. */
	pid = (const char *)BPF_CORE_READ(leader, thread_pid);
	at = pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_core_read(&upid.ns, sizeof(upid.ns), &((const struct upid *)at)->ns);
	bpf_core_read(&upid.nr, sizeof(upid.nr), &((const struct upid *)at)->nr);
	*pid_ns = BPF_CORE_READ(upid.ns, ns.inum);
	return upid.nr;
}

/* Clock ticks of /proc/PID/stat: always a hundredth of a second. */
#define NS_PER_TICK 10000000ull

struct ancestor_search {
	struct task_struct *task;	/* where the walk stands */
	struct pid_namespace *ns;
	const struct cred *cred;	/* of the caller */
	struct process found;
	u64 start;
	u32 level;
	u32 pid;
};

static long look_at_ancestor(u32 step, void *context)
{
	struct ancestor_search *search = context;
	const struct cred *caller = search->cred;
	struct task_struct *task = search->task;
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	u64 start = BPF_CORE_READ(leader, start_boottime);
	const struct cred *cred;

	if (pid_seen_from(leader, search->level, search->ns) != search->pid) {
		search->task = BPF_CORE_READ(leader, real_parent);
		return 0;
	}
	cred = BPF_CORE_READ(leader, real_cred);
	if (search->start && search->start != start / NS_PER_TICK)
		return 1;
	if (BPF_CORE_READ(cred, uid.val) != BPF_CORE_READ(caller, uid.val) ||
	    BPF_CORE_READ(cred, euid.val) != BPF_CORE_READ(caller, euid.val) ||
	    BPF_CORE_READ(cred, suid.val) != BPF_CORE_READ(caller, suid.val) ||
	    BPF_CORE_READ(cred, user_ns) != BPF_CORE_READ(caller, user_ns))
		return 1;
	search->found.pid = BPF_CORE_READ(leader, tgid);
	search->found.start = start;
	return 1;
}

/*
 * The ancestor of the caller (or the caller) with process id `pid` in the caller's own numbering,
 * if it has the caller's uids and user namespace: nobody may hand rights to a process of others.
 */
static __noinline bool find_ancestor(u32 pid, u64 start, struct process *found)
{
	struct task_struct *task = current_task();
	struct ancestor_search search = {
		.task = task,
		.cred = BPF_CORE_READ(task, cred),
		.pid = pid,
		.start = start,
	};

	search.ns = pid_namespace_of(task, &search.level);
	if (!search.ns || !found)
		return false;
	bpf_loop(PP_ANCESTORS, look_at_ancestor, &search, 0);
	*found = search.found;
	return search.found.pid != 0;
}

struct tree_search {
	struct task_struct *task;
	void *roots;
	u32 index;
	u32 transport;
	u32 port;
	bool right;
};

/*
 * Whether one of the tokens a process is the root of covers the port. A persistent block names no
 * root: that its token is here says that it is lent (PP_LEND).
 */
static __noinline bool root_covers(struct pp_root *root, const struct pp_root_key *key, u32 index, u32 transport,
				   u32 port)
{
	if (!root || !key)
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PP_SOCKET_RESERVATIONS; i++) {
		u64 token = *(volatile u64 *)&root->tokens[i];
		struct view view;

		if (token && find_record(index, token, &view) && view.transport == transport && block_has(&view, port) &&
		    (view.flags & PP_PERSISTENT || (view.root_pid == key->pid && view.root_start == key->start)))
			return true;
	}
	return false;
}

static long look_at_root(u32 step, void *context)
{
	struct tree_search *search = context;
	struct task_struct *task = search->task;
	struct pp_root_key key = {};
	struct process process;
	struct pp_root *root;

	identify(task, &process);
	key.pid = process.pid;
	key.start = process.start;
	root = bpf_map_lookup_elem(search->roots, &key);
	if (root && root_covers(root, &key, search->index, search->transport, search->port)) {
		search->right = true;
		return 1;
	}
	if (key.pid <= 1)
		return 1;
	search->task = BPF_CORE_READ(task, group_leader, real_parent);
	return 0;
}

/* Whether the caller or an ancestor of it (at most PP_ANCESTORS up) is the root of a tree scope with this port. */
__noinline int pp_in_tree(u32 index, u32 transport, u32 port)
{
	struct tree_search search = {
		.task = current_task(),
		.roots = bpf_map_lookup_elem(&roots, &index),
		.index = index,
		.transport = transport,
		.port = port,
	};

	if (!search.roots)
		return false;
	bpf_loop(PP_ANCESTORS, look_at_root, &search, 0);
	return search.right;
}

#endif
