/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The kernel side of portpool, one program a file. Built by `cargo xtask bpf`. */
#include "bind.h"
#include "post_bind.h"
#include "connect.h"
#include "sockopt.h"
#include "release.h"
#include "sweep.h"
#include "hold.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
