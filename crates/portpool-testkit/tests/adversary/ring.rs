//! Binding by way of io_uring.

use std::net::SocketAddr;

use portpool_testkit::{Errno, in_arena, sys::Ring};

use crate::common::{Kind, V4, V6, errno, owner, port_of};

#[test]
fn a_stranger_is_refused_a_reserved_port_through_io_uring() {
    in_arena!(|_| {
        let Some(mut ring) = ring_or_excuse() else {
            return;
        };
        let _owner = owner(20_000, 4);
        for kind in Kind::ALL {
            for ip in [V4, V6] {
                for elsewhere in [false, true] {
                    let socket = kind.open(ip);
                    let reserved = ring.bind(&socket, SocketAddr::new(ip, 20_001), elsewhere);
                    assert_eq!(errno(reserved), Some(Errno::ACCES), "{kind:?} {ip}");
                    let free = ring.bind(&socket, SocketAddr::new(ip, 20_004), elsewhere);
                    assert_eq!(errno(free), None, "{kind:?} {ip}");
                    assert_eq!(port_of(&socket), 20_004);
                }
            }
        }
    });
}

#[test]
fn an_owner_consumes_its_ports_through_io_uring() {
    in_arena!(|arena| {
        let Some(mut ring) = ring_or_excuse() else {
            return;
        };
        let pool = arena.pool();
        let block = crate::common::claim_range(&pool, portpool::Transport::Tcp, 20_000, 4);
        let block = block.expect("claim");
        for (elsewhere, port) in [(false, 20_000), (true, 20_001)] {
            let socket = Kind::Tcp.open(V4);
            block.associate(&socket).expect("associate");
            let bound = ring.bind(&socket, SocketAddr::new(V4, port), elsewhere);
            assert_eq!(errno(bound), None, "worker thread: {elsewhere}");
            ring.listen(&socket).expect("listen");
            assert_eq!(port_of(&socket), port);
        }
    });
}

fn ring_or_excuse() -> Option<Ring> {
    let ring = Ring::open();
    if ring.is_none() {
        eprintln!("skipped: io_uring cannot bind here (kernel before 6.11, or switched off)");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|n| n.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true") && version >= (6, 11);
        assert!(!must, "with CI=true io_uring must be able to bind");
    }
    ring
}
