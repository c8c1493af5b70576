/* The layouts and numbers of portpool.h, as src/capi/types.rs has them. Compiled, not run. */
#include <portpool.h>

#ifdef __cplusplus
#define SAME(what) static_assert(what, #what)
#else
#define SAME(what) _Static_assert(what, #what)
#endif

SAME(sizeof(struct portpool_options) == 24);
SAME(offsetof(struct portpool_options, kind) == 4);
SAME(offsetof(struct portpool_options, flags) == 8);
SAME(offsetof(struct portpool_options, run_dir) == 16);

SAME(sizeof(struct portpool_request) == 32);
SAME(offsetof(struct portpool_request, transports) == 4);
SAME(offsetof(struct portpool_request, first) == 8);
SAME(offsetof(struct portpool_request, count) == 10);
SAME(offsetof(struct portpool_request, align) == 12);
SAME(offsetof(struct portpool_request, within_first) == 14);
SAME(offsetof(struct portpool_request, within_count) == 16);
SAME(offsetof(struct portpool_request, flags) == 20);
SAME(offsetof(struct portpool_request, tree_root) == 24);
SAME(offsetof(struct portpool_request, timeout_ms) == 28);

SAME(sizeof(struct portpool_block) == 16);
SAME(offsetof(struct portpool_block, token) == 0);
SAME(offsetof(struct portpool_block, transport) == 8);
SAME(offsetof(struct portpool_block, first) == 12);
SAME(offsetof(struct portpool_block, count) == 14);

SAME(sizeof(struct portpool_entry) == 80);
SAME(offsetof(struct portpool_entry, transport) == 8);
SAME(offsetof(struct portpool_entry, uid) == 16);
SAME(offsetof(struct portpool_entry, owner_pid) == 20);
SAME(offsetof(struct portpool_entry, owner_pid_seen) == 24);
SAME(offsetof(struct portpool_entry, pid_namespace) == 28);
SAME(offsetof(struct portpool_entry, owner_start_ns) == 32);
SAME(offsetof(struct portpool_entry, born_ns) == 40);
SAME(offsetof(struct portpool_entry, tree_start_ns) == 48);
SAME(offsetof(struct portpool_entry, tree_root) == 56);
SAME(offsetof(struct portpool_entry, flags) == 60);
SAME(offsetof(struct portpool_entry, command) == 64);

SAME(sizeof(struct portpool_port) == 96);
SAME(offsetof(struct portpool_port, flags) == 4);
SAME(offsetof(struct portpool_port, socket_count) == 8);
SAME(offsetof(struct portpool_port, entry) == 16);

SAME(PORTPOOL_VERSION == PORTPOOL_MAKE_VERSION(0, 1, 0));
SAME(PORTPOOL_TCP == 1 && PORTPOOL_UDP == 2 && PORTPOOL_BOTH == 3);
SAME(PORTPOOL_KIND_AUTO == 0 && PORTPOOL_KIND_KERNEL == 1 && PORTPOOL_KIND_EMBEDDED == 2);
SAME(PORTPOOL_STRICT == 1 && PORTPOOL_TREE == 1 && PORTPOOL_ZERO_FROM_BLOCK == 2);
SAME(PORTPOOL_SHARED == 1 && PORTPOOL_PERSISTENT == 2);
SAME(PORTPOOL_PORT_RESERVED == 1 && PORTPOOL_PORT_HELD == 2 && PORTPOOL_PORT_RECENT == 4);

/* The starting values compile without a warning, too. */
struct portpool_options portpool_test_options = PORTPOOL_OPTIONS_INIT;
struct portpool_request portpool_test_request = PORTPOOL_REQUEST_INIT;
struct portpool_port portpool_test_port = PORTPOOL_PORT_INIT;
