//! Where a process cannot read the maps it can still reserve; only looking needs them.

use std::{fs, os::unix::fs::PermissionsExt};

use portpool::{LookError, Pool, Port, Refusal, Scope, Transport, Transports};
use portpool_testkit::sys;

use crate::kit::{
    LOOPBACK, NOBODY, any, any_within, exactly, grant, range, refusal, refused, request, tcp,
};

#[test]
fn everybody_may_look() {
    case!(|arena| {
        let owner = tcp();
        grant(&arena.pool(), &owner, "20000-20003");
        assert!(sys::in_fork(|| {
            sys::become_uid(NOBODY).expect("setuid");
            let pool = arena.pool();
            assert!(pool.can_look());
            let entries = pool.reservations().expect("look");
            assert_eq!(entries[0].range, range("20000-20003"));
            assert_eq!(pool.overview().expect("look").tcp.reserved_count, 4);
            let port = Port::new(20_000).expect("a port");
            let state = pool.port(Transport::Tcp, port).expect("look");
            assert_eq!(state.reservation.as_ref(), Some(&entries[0]));
        }));
    });
}

#[test]
fn a_process_that_cannot_find_the_maps_reserves_all_the_same() {
    case!(|arena| {
        let pool = Pool::builder()
            .run_dir("/nonexistent")
            .open()
            .expect("open");
        let error = reserve_blindly(&pool);
        assert!(matches!(error, LookError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains("PORTPOOL_RUN_DIR"), "{error}");
        // The maps may also go while the pool is open.
        let pool = arena.pool();
        assert!(pool.can_look());
        let away = arena.run().path().with_extension("away");
        fs::rename(arena.run().path(), &away).expect("move the run directory");
        reserve_blindly(&pool);
        fs::rename(&away, arena.run().path()).expect("move it back");
        assert!(pool.can_look());
    });
}

#[test]
fn a_process_that_may_not_read_the_maps_reserves_all_the_same() {
    case!(|arena| {
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(arena.run().path(), closed).expect("chmod");
        assert!(sys::in_fork(|| {
            sys::become_uid(NOBODY).expect("setuid");
            let error = reserve_blindly(&arena.pool());
            assert!(matches!(error, LookError::Unreadable { .. }), "{error}");
        }));
        assert!(arena.pool().can_look());
    });
}

/// Reserves in every way and answers why it cannot look.
fn reserve_blindly(pool: &Pool) -> LookError {
    let specific = pool
        .acquire(&request(Transports::Both, exactly("21000-21003")))
        .expect("specific");
    assert_eq!(refusal(pool, &tcp(), &exactly("21003")), Refusal::InUse);
    let wildcard = pool
        .acquire(&request(Transports::Both, any(8)))
        .expect("wildcard");
    let listener = wildcard.tcp_listener(LOOPBACK).expect("listener");
    assert_eq!(
        listener.local_addr().expect("address").port(),
        wildcard.range().first().number()
    );
    let aligned = pool
        .acquire(&request(Transports::Tcp, any_within(2, 2, "21003-21008")))
        .expect("within");
    assert_eq!(aligned.range().first().number() % 2, 0);
    // By trying it cannot be told whether there is no room or others were quicker.
    let full = request(Transports::Tcp, any_within(1, 1, "21000-21003"));
    assert_eq!(refused(pool.acquire(&full)), Refusal::Busy);
    assert_eq!(
        refused(
            pool.acquire_on(&tcp(), &any_within(2, 1, "32766-32769"), Scope::Associated)
                .and_then(|_| pool.acquire_on(
                    &tcp(),
                    &any_within(2, 1, "32768-32769"),
                    Scope::Associated
                ))
        ),
        Refusal::Ephemeral
    );
    let first = wildcard.blocks()[0];
    let error = pool
        .release_on(&tcp(), first.token)
        .and_then(|()| pool.release_on(&tcp(), first.token))
        .expect_err("released twice");
    assert_eq!(error.refusal(), Some(Refusal::UnknownToken));
    drop((specific, aligned));
    assert!(!pool.can_look());
    let port = Port::new(21_000).expect("a port");
    pool.port(Transport::Tcp, port).expect_err("look at a port");
    pool.overview().expect_err("look at the pool");
    pool.reservations().expect_err("look at the reservations")
}
