/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The few kernel types the programs read, found by name at load time (CO-RE). Only fields that
 * are used; layouts of different kernels are told apart by field.
 */
#ifndef PORTPOOL_KERNEL_H
#define PORTPOOL_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define E_NOENT 2
#define E_SRCH 3
#define E_NOMEM 12
#define E_ACCES 13
#define E_BUSY 16
#define E_EXIST 17
#define E_INVAL 22
#define E_MFILE 24
#define E_NOSPC 28
#define E_PROTO 71
#define E_OPNOTSUPP 95
#define E_ADDRINUSE 98
#define E_ADDRNOTAVAIL 99
#define E_NOBUFS 105
#define E_DQUOT 122

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define AF_INET 2
#define AF_INET6 10

#define CAP_NET_BIND_SERVICE 10
#define CAP_NET_ADMIN 12

#define CORE __attribute__((preserve_access_index))

struct user_namespace;
typedef struct {
	u32 val;
} kuid_t;
typedef struct {
	u32 val;
} kgid_t;

struct group_info {
	int ngroups;
	kgid_t gid[];
} CORE;

struct user_namespace {
	struct user_namespace *parent;
	int level;
	kuid_t owner;
} CORE;

struct cred {
	kuid_t uid, suid, euid;
	kgid_t egid, fsgid;
	struct group_info *group_info;
	/* Eight bytes on every kernel: two u32 up to 6.2, one u64 since. */
	struct {
		u64 val;
	} cap_effective;
	struct user_namespace *user_ns;
} CORE;

struct ns_common {
	unsigned int inum;
} CORE;

struct pid_namespace {
	struct ns_common ns;
} CORE;

struct upid {
	int nr;
	struct pid_namespace *ns;
} CORE;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} CORE;

struct task_struct {
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	u64 start_boottime;
	const struct cred *cred;
	const struct cred *real_cred;
	char comm[16];
} CORE;

struct netns_ipv4 {
	unsigned long *sysctl_local_reserved_ports;
	int sysctl_ip_prot_sock;
} CORE;

struct net {
	struct user_namespace *user_ns;
	u64 net_cookie;
	struct netns_ipv4 ipv4;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	u16 skc_num;
	u16 skc_family;
	possible_net_t skc_net;
} CORE;

struct kernfs_node {
	u64 id;
} CORE;

struct cgroup {
	struct kernfs_node *kn;
	int level;
	struct cgroup *ancestors[];
} CORE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} CORE;

struct socket;

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	u8 sk_kern_sock : 1;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
} CORE;

struct socket {
	struct sock *sk;
} CORE;

struct inet_connection_sock {
	void *icsk_ulp_data;
} CORE;

struct tcp_sock {
	bool is_mptcp;
} CORE;

struct mptcp_sock {
	struct sock *first;
} CORE;

struct mptcp_subflow_context {
	struct sock *conn;
} CORE;

struct file;

struct bpf_iter_meta {
	u64 seq_num;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
} CORE;

/* What a sock_addr or sockopt context really is: its first member is the socket. */
struct sock_context {
	struct sock *sk;
};

#endif
