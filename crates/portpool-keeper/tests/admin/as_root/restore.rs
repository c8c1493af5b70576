//! Attaching with what is on record: after a reboot, after a crash, beside others.

use std::{fs, process::Command};

use portpool::{Transport, Transports};
use portpool_keeper::{
    AdminError, StoreError,
    admin::{Persist, Reattached, attach},
};
use portpool_kernel::detach;
use portpool_testkit::{Arena, Size, in_arena, in_bare_arena};

use super::kit::{
    admin, bind, block, code, consume, errno_of_bind, outside, persist, range, reserved, set, state,
};

/// Cases 117 and 118, and that the token is the same within one boot (spec 5 rule 2).
#[test]
fn what_is_on_record_is_in_force_after_a_reboot_under_a_new_token() {
    in_arena!(|arena| {
        let mut before = admin(arena);
        let token = persist(&mut before, "5000-5003");
        persist(&mut before, "40000-40003");
        before
            .exclude(Transports::Udp, range("50000-50009"), None)
            .expect("exclude");
        drop(before);
        detach(arena.run(), false).expect("detach");
        assert_eq!(errno_of_bind(5000), 0);
        // The same boot, the same token.
        let put_back = reattach(arena);
        assert_eq!(put_back.reconciled.restored, 3);
        let same = admin(arena).lookup(Transport::Tcp, range("5000-5003"));
        assert_eq!(same.expect("look up"), token);
        detach(arena.run(), false).expect("detach");
        reboot(arena);
        let put_back = reattach(arena);
        assert_eq!(
            (put_back.reconciled.restored, put_back.warnings.len()),
            (3, 0)
        );
        let mut after = admin(arena);
        let new = after
            .lookup(Transport::Tcp, range("5000-5003"))
            .expect("look up");
        assert_ne!(new, token);
        let (_socket, port) = consume(&arena.pool(), Transport::Tcp, new);
        assert_eq!(port, 5000);
        for port in [5001, 40_003] {
            assert_eq!(errno_of_bind(port), libc::EACCES, "{port}");
        }
        assert!(
            set("40000-40003,50000-50009")
                .difference(&reserved())
                .is_empty()
        );
        assert_eq!(
            code(after.exclude(Transports::Udp, range("50009"), None)),
            32
        );
        assert!(
            after
                .list()
                .expect("list")
                .iter()
                .all(|entry| entry.is_in_force)
        );
    });
}

/// Attached again over a running pool, as an update does.
#[test]
fn attaching_again_leaves_tokens_and_consumers_alone() {
    in_arena!(|arena| {
        let mut admin = admin(arena);
        let token = persist(&mut admin, "5000-5003");
        let (socket, _) = consume(&arena.pool(), Transport::Tcp, token);
        let put_back = reattach(arena);
        assert_eq!(
            (put_back.reconciled.restored, put_back.reconciled.removed),
            (0, 0)
        );
        assert_eq!(
            admin
                .lookup(Transport::Tcp, range("5000-5003"))
                .expect("look up"),
            token
        );
        drop(socket);
        let (_, port) = consume(&arena.pool(), Transport::Tcp, token);
        assert_eq!(port, 5000);
    });
}

/// It keeps its port, and nobody else gets one.
#[test]
fn a_socket_that_was_faster_than_attach_keeps_its_port_and_the_block_is_in_force() {
    in_arena!(|arena| {
        persist(&mut admin(arena), "5000-5003");
        detach(arena.run(), false).expect("detach");
        let socket = bind(5001).expect("bind");
        let put_back = reattach(arena);
        assert_eq!(put_back.reconciled.conflicts.len(), 0);
        assert_eq!(errno_of_bind(5000), libc::EACCES);
        drop(socket);
        assert_eq!(errno_of_bind(5001), libc::EACCES);
    });
}

#[test]
fn records_that_cannot_be_read_are_a_reason_not_to_attach() {
    in_arena!(|arena| {
        persist(&mut admin(arena), "5000-5003");
        detach(arena.run(), false).expect("detach");
        let file = state(arena).store();
        let whole = fs::read(&file).expect("read");
        fs::write(&file, &whole[..whole.len() / 2]).expect("cut it short");
        let refused = attach(&arena.options(), Some(&state(arena))).expect_err("damaged");
        let AdminError::Store(StoreError::Damaged { .. }) = refused else {
            panic!("{refused}");
        };
        assert_eq!(fs::read(&file).expect("read"), whole[..whole.len() / 2]);
        assert!(!arena.run().path().join("bpf").exists());
        // Whoever says so attaches without.
        attach(&arena.options(), None).expect("attach");
        assert_eq!(errno_of_bind(5000), 0);
        fs::write(&file, &whole).expect("a backup");
        reattach(arena);
        assert_eq!(errno_of_bind(5000), libc::EACCES);
    });
}

#[test]
fn a_pool_without_records_is_attached_without_making_any() {
    in_bare_arena!(|arena| {
        let attached = reattach(arena);
        assert_eq!(
            (attached.reconciled.restored, attached.warnings.len()),
            (0, 0)
        );
        assert!(!state(arena).path().exists());
    });
}

#[test]
fn records_on_a_read_only_file_system_are_put_back() {
    in_arena!(|arena| {
        persist(&mut admin(arena), "5000-5003");
        detach(arena.run(), false).expect("detach");
        reboot(arena);
        let path = state(arena).path().display().to_string();
        run("mount", &["--bind", &path, &path]);
        run("mount", &["-o", "remount,ro,bind", &path]);
        let attached = reattach(arena);
        assert_eq!(attached.reconciled.restored, 1);
        assert_eq!(attached.warnings.len(), 1, "the tokens are not recorded");
        assert_eq!(errno_of_bind(5000), libc::EACCES);
        run("umount", &[&path]);
    });
}

#[test]
fn what_somebody_has_meanwhile_is_told_and_mended_once_it_is_free() {
    in_arena!(|arena| {
        let mut admin = admin(arena);
        persist(&mut admin, "5000-5003");
        let pool = arena.pool();
        pool.remove_persistent(Transport::Tcp, range("5000-5003"))
            .expect("meddle");
        let want = portpool::Want::Specific(range("5002"));
        let request = portpool::Request {
            transports: Transports::Tcp,
            want,
        };
        let owned = pool.acquire(&request).expect("acquire");
        let reconciled = admin.reconcile().expect("reconcile");
        let [conflict] = &reconciled.conflicts[..] else {
            panic!("{reconciled:?}");
        };
        assert_eq!(conflict.range, range("5000-5003"));
        assert!(!admin.list().expect("list")[0].is_in_force);
        drop(owned);
        let reconciled = admin.reconcile().expect("reconcile");
        assert_eq!((reconciled.restored, reconciled.conflicts.len()), (1, 0));
        assert_eq!(errno_of_bind(5002), libc::EACCES);
    });
}

#[test]
fn what_is_not_on_record_is_taken_away() {
    in_arena!(|arena| {
        let (mut admin, pool, before) = (admin(arena), arena.pool(), reserved());
        let token = pool.new_persistent_token().expect("token");
        pool.install_persistent(Transport::Udp, range("6000"), token, None)
            .expect("meddle");
        pool.exclude(Transport::Tcp, range("6001-6003"))
            .expect("meddle");
        let reconciled = admin.reconcile().expect("reconcile");
        assert_eq!((reconciled.restored, reconciled.removed), (0, 4));
        assert_eq!(pool.reservations().expect("look"), []);
        assert_eq!(reserved(), before);
    });
}

#[test]
fn thousands_of_records_are_put_back() {
    in_arena!(|arena| {
        let count = Size::record_count();
        let mut store = portpool_keeper::store::Sqlite::open(&state(arena)).expect("open");
        let changes: Vec<_> = (0..count)
            .map(|number| {
                let first = 20_001 + number % 10_000 * 4;
                portpool_keeper::store::Change::AddBlock(portpool_keeper::store::Block {
                    transport: Transport::Tcp,
                    range: range(&format!("{}-{}", first, first + 1)),
                    group: None,
                    note: None,
                    created: std::time::SystemTime::UNIX_EPOCH,
                    token: None,
                })
            })
            .collect();
        portpool_keeper::Store::commit(&mut store, &changes).expect("commit");
        drop(store);
        let attached = reattach(arena);
        assert_eq!(attached.reconciled.restored, usize::from(count));
        assert!(attached.reconciled.conflicts.is_empty());
        let reconciled = admin(arena).reconcile().expect("reconcile");
        assert_eq!((reconciled.restored, reconciled.removed), (0, 0));
        assert_eq!(errno_of_bind(20_001), libc::EACCES);
        assert_eq!(errno_of_bind(20_003), 0);
    });
}

/// The kernel hears control codes from inside only: without records none are needed.
#[test]
fn a_pool_is_attached_from_outside_its_cgroup_as_long_as_there_is_nothing_to_put_back() {
    in_bare_arena!(|arena| {
        let inner = arena.cgroup().join("inner");
        fs::create_dir(&inner).expect("make a cgroup");
        let options = portpool_kernel::AttachOptions {
            cgroup: Some(inner.clone()),
            ..arena.options()
        };
        drop(portpool_keeper::store::Sqlite::open(&state(arena)).expect("records"));
        attach(&options, Some(&state(arena))).expect("attach");
        fs::write(inner.join("cgroup.procs"), "0").expect("enter");
        persist(&mut admin(arena), "5000");
        fs::write(arena.cgroup().join("cgroup.procs"), "0").expect("leave");
        attach(&options, Some(&state(arena))).expect_err("from outside");
        fs::write(inner.join("cgroup.procs"), "0").expect("enter");
        assert_eq!(errno_of_bind(5000), libc::EACCES);
        attach(&options, Some(&state(arena))).expect("from inside");
        detach(arena.run(), false).expect("detach");
        fs::write(arena.cgroup().join("cgroup.procs"), "0").expect("leave");
    });
}

#[test]
fn a_group_survives_with_its_block() {
    in_arena!(|arena| {
        let persist = Persist {
            group: Some(54_321),
            ..block(Transports::Tcp, "5000")
        };
        admin(arena).persist(&persist).expect("persist");
        detach(arena.run(), false).expect("detach");
        reattach(arena);
        let [entry] = &arena.pool().reservations().expect("look")[..] else {
            panic!("one block");
        };
        let group = Some(54_321);
        assert_eq!(entry.tenure, portpool::Tenure::Persistent { group });
    });
}

fn reattach(arena: &Arena) -> Reattached {
    attach(&arena.options(), Some(&state(arena))).expect("attach")
}

/// Another boot, as far as a process of this mount namespace can tell.
fn reboot(arena: &Arena) {
    let path = outside(arena).join("boot_id");
    fs::write(&path, "00000000-1111-2222-3333-444444444444\n").expect("write");
    let file = "/proc/sys/kernel/random/boot_id";
    run("mount", &["--bind", &path.display().to_string(), file]);
}

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command).args(arguments).status();
    assert!(status.expect("run").success(), "{command} {arguments:?}");
}
