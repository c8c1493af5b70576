/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Windows: one process may claim one block that automatic choice had when attach last swept. Whoever
 * opens one has reserved the ports in the sysctl and swept since; nobody else passes by it.
 */
#ifndef PORTPOOL_WINDOW_H
#define PORTPOOL_WINDOW_H

#include "occupancy.h"
#include "task.h"

static __always_inline u64 window_key(u32 transport, u32 first, u32 count)
{
	return (u64)transport << 32 | first << 16 | count;
}

/* Whether the caller is the process a window names. */
static __always_inline bool is_named(const struct window *window)
{
	struct task_struct *task = current_task();
	struct task_struct *leader = task->group_leader;
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	struct pid_namespace *ns;
	struct upid upid = {};
	u32 level = window->level;
	const char *at;

	if (task->cred->euid.val != window->uid || leader->start_boottime / NS_PER_TICK != window->start ||
	    level > 32 || level > BPF_CORE_READ(pid, level))
		return false;
	at = (const char *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	bpf_core_read(&upid.ns, sizeof(upid.ns), &((const struct upid *)at)->ns);
	bpf_core_read(&upid.nr, sizeof(upid.nr), &((const struct upid *)at)->nr);
	ns = upid.ns;
	return upid.nr == window->pid && BPF_CORE_READ(ns, ns.inum) == window->pid_ns;
}

/* Whether the caller may claim the block with this key through a window. */
__noinline int pp_may_pass(u32 index, u64 key)
{
	void *map = bpf_map_lookup_elem(&windows, &index);
	struct window *window = map ? bpf_map_lookup_elem(map, &key) : NULL;
	struct window copy;

	if (!window)
		return false;
	/* As of records (find_record): read between two looks at the id. */
	copy.id = FETCH(&window->id);
	copy.key = window->key;
	copy.start = window->start;
	copy.deadline = window->deadline;
	copy.uid = window->uid;
	copy.pid = window->pid;
	copy.pid_ns = window->pid_ns;
	copy.level = window->level;
	if (!copy.id || copy.key != key || FETCH(&window->id) != copy.id)
		return false;
	return bpf_ktime_get_boot_ns() < copy.deadline && is_named(&copy);
}

/* Ends the window that the caller has just claimed through. */
__noinline int pp_close_window(u32 index, u64 key)
{
	void *map = bpf_map_lookup_elem(&windows, &index);
	struct window *window = map ? bpf_map_lookup_elem(map, &key) : NULL;

	if (!window || !pp_may_pass(index, key))
		return 0;
	window->id = 0;
	bpf_map_delete_elem(map, &key);
	return 0;
}

static long reap_window(void *map, u64 *key, struct window *window, void *context)
{
	u64 whose = *key;

	if (window->deadline <= bpf_ktime_get_boot_ns()) {
		window->id = 0;
		bpf_map_delete_elem(map, &whose);
	}
	return 0;
}

/* 0, or the errno of the refusal. Administrators take turns. */
static __noinline int open_window(u32 index, u32 transport, const struct pp_window *request)
{
	void *map = bpf_map_lookup_elem(&windows, &index);
	struct window window = {};
	struct pid_namespace *ns;
	struct window *opened;
	u64 key;

	if (!map || !request)
		return E_NOBUFS;
	key = window_key(transport, request->first, request->count);
	window.key = key;
	window.start = request->start;
	window.deadline = request->deadline;
	window.uid = request->uid;
	window.pid = request->pid;
	ns = pid_namespace_of(current_task(), &window.level);
	window.pid_ns = BPF_CORE_READ(ns, ns.inum);
	if (bpf_map_update_elem(map, &key, &window, BPF_ANY)) {
		bpf_for_each_map_elem(map, reap_window, NULL, 0);
		if (bpf_map_update_elem(map, &key, &window, BPF_ANY))
			return E_NOBUFS;
	}
	opened = bpf_map_lookup_elem(map, &key);
	if (!opened)
		return E_NOBUFS;
	u64 fetched = __sync_lock_test_and_set(&opened->id, next_id());
	FETCHED(fetched);
	return 0;
}

#endif
