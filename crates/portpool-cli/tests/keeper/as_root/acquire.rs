//! Blocks in the ephemeral range: made grantable, claimed by the client itself, given back.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use portpool::{PortRange, Refusal, Request, Scope, Transports, Want};
use portpool_testkit::{Arena, in_arena, in_bare_arena};
use portpool_varlink::{
    Fault,
    calls::{Acquire, Describe, Release},
};

use crate::kit::{Keeper, LONG, reserved_ports, set_ephemeral, until};

#[test]
fn the_keeper_attaches_where_nothing_is_attached() {
    in_bare_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let description = keeper.client().call(&Describe {}, Some(LONG)).unwrap();
        assert!(description.attached);
        let cookie = portpool_kernel::NetNamespace::current().unwrap().cookie;
        assert_eq!(description.namespace, cookie);
    });
}

#[test]
fn a_block_in_the_ephemeral_range_is_had_through_the_keeper_alone() {
    in_arena!(|arena: &Arena| {
        let pool = arena.pool();
        let request = specific("40000-40003");
        let refused = pool.acquire(&request).unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::Ephemeral));
        assert!(
            refused.to_string().contains("`portpool keeper`"),
            "{refused}"
        );

        let _keeper = Keeper::start(arena);
        let before = reserved_ports();
        let block = pool.acquire(&request).unwrap();
        assert!(reserved_ports().difference(&before).to_string() == "40000-40003");
        let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 40001)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        let listener = block.tcp_listener([127, 0, 0, 1].into()).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), 40000);
        drop((listener, block));
        until("the entry goes with the block", || {
            reserved_ports() == before
        });
    });
}

#[test]
fn what_is_granted_and_not_claimed_goes_back_with_the_connection() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let before = reserved_ports();
        let mut client = keeper.client();
        let granted = client.call(&exactly("40000-40003"), Some(LONG)).unwrap();
        assert!(granted.deadline.is_some());
        assert_ne!(reserved_ports(), before);
        // Of another connection it is in use.
        let refused = keeper
            .client()
            .call(&exactly("40003"), Some(LONG))
            .unwrap_err();
        assert_eq!(refused.fault().unwrap().refusal(), Some(Refusal::InUse));
        drop(client);
        until("the entry goes", || reserved_ports() == before);

        let mut client = keeper.client();
        client.call(&exactly("40000-40003"), Some(LONG)).unwrap();
        let other = Release {
            range: range("40000"),
        };
        let refused = client.call(&other, Some(LONG)).unwrap_err();
        assert!(
            matches!(refused.fault(), Some(Fault::NotFound(_))),
            "{refused}"
        );
        let own = Release {
            range: range("40000-40003"),
        };
        client.call(&own, Some(LONG)).unwrap();
        assert_eq!(reserved_ports(), before);
    });
}

#[test]
fn a_request_waits_until_the_ports_are_free() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 40001)).unwrap();
        let patient = Acquire {
            wait_ms: Some(60_000),
            ..exactly("40000-40003")
        };
        let mut pending = keeper.client().start(&patient).unwrap();
        assert_eq!(
            pending.wait(Some(Duration::from_millis(300))).unwrap(),
            None
        );
        drop(busy);
        let granted = pending.wait(Some(LONG)).unwrap().expect("granted");
        assert_eq!(granted.range, range("40000-40003"));
        drop(pending.into_client());

        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 40001)).unwrap();
        let waiting = std::thread::spawn({
            let pool = arena.pool();
            move || pool.acquire_timeout(&specific("40000-40003"), Scope::Associated, LONG)
        });
        until("it waits", || {
            let description = keeper.client().call(&Describe {}, Some(LONG)).unwrap();
            description.windows == 0
                && reserved_ports().contains(portpool::Port::new(40000).unwrap())
        });
        drop(busy);
        drop(waiting.join().unwrap().unwrap());
    });
}

#[test]
fn a_cancelled_request_leaves_nothing() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let before = reserved_ports();
        let _busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 40001)).unwrap();
        let patient = Acquire {
            wait_ms: Some(60_000),
            ..exactly("40000-40003")
        };
        let pending = keeper.client().start(&patient).unwrap();
        until("it waits", || reserved_ports() != before);
        pending.cancel();
        until("the entry goes", || reserved_ports() == before);
        let brief = Acquire {
            wait_ms: Some(50),
            ..patient
        };
        let late = keeper.client().call(&brief, Some(LONG)).unwrap_err();
        assert!(matches!(late.fault(), Some(Fault::TimedOut(_))), "{late}");
        until("the entry goes again", || reserved_ports() == before);
    });
}

#[test]
fn any_ports_come_from_the_ephemeral_range_only_if_asked_for() {
    in_arena!(|arena: &Arena| {
        set_ephemeral("40000-49999");
        let _keeper = Keeper::start(arena);
        let wanted = portpool::Wildcard {
            within: Some(range("41000-41999")),
            ..portpool::Wildcard::new(portpool::PortCount::new(4).unwrap())
        };
        let request = Request {
            transports: Transports::Both,
            want: Want::Wildcard(wanted),
        };
        assert!(arena.pool().acquire(&request).is_err());
        let pool = portpool::Pool::builder()
            .kind(portpool::PoolKind::Kernel)
            .run_dir(arena.run().path())
            .ephemeral(true)
            .open()
            .unwrap();
        let block = pool.acquire(&request).unwrap();
        assert!(range("41000-41999").covers(block.range()));
        assert_eq!(block.blocks().len(), 2);
    });
}

fn specific(text: &str) -> Request {
    Request {
        transports: Transports::Tcp,
        want: Want::Specific(range(text)),
    }
}

fn exactly(text: &str) -> Acquire {
    Acquire::exactly(Transports::Tcp, range(text))
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}
