//! What the embedded pool's own work costs, against the sockets it holds ports with.

use std::net::{Ipv6Addr, SocketAddrV6};

use portpool::{Pool, PoolKind, Refusal, Request, Transport, Transports, Want};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with},
};

use crate::{
    meter::{Comparison, Subject, compare_in},
    report::Report,
    stage::{POOL_FIRST, Side, Stage, range},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    let pool = Pool::builder().kind(PoolKind::Embedded).open();
    let pool = pool.expect("the embedded pool");
    let alone = reserve(stage, &pool, 1, 8, 201);
    report.note("embedded, the only port of a process", alone);
    // A process that lists something already: the first block of all makes the files of the list.
    let other = Request {
        transports: Transports::from(Transport::Udp),
        want: Want::Specific(range(POOL_FIRST, 1)),
    };
    let _held = pool.acquire(&other).expect("a free port");
    for (count, burst, rounds) in [(1, 8, 201), (16, 2, 201), (1_000, 1, 41), (16_000, 1, 7)] {
        let found = reserve(stage, &pool, count, burst, rounds);
        report.add(&format!("embedded/reserve/{count}"), 1.15, found);
    }
}

/// A reservation of TCP ports, made and released, against as many sockets bound and closed.
fn reserve(stage: &Stage, pool: &Pool, count: u16, burst: u32, rounds: usize) -> Comparison {
    let block = range(POOL_FIRST + 1, count);
    let request = Request {
        transports: Transports::from(Transport::Tcp),
        want: Want::Specific(block),
    };
    let measured = Subject::new(Side::Unguarded, burst, || {
        // As `bind_to` does, for whoever walks over the open files of all processes.
        loop {
            match pool.acquire(&request) {
                Ok(reservation) => return drop(reservation),
                Err(error) if error.refusal() == Some(Refusal::InUse) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let bare = Subject::new(Side::Unguarded, burst, || {
        let sockets: Vec<_> = block
            .ports()
            .map(|port| {
                let family = AddressFamily::INET6;
                let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
                let socket = socket.expect("socket");
                let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port.number(), 0, 0);
                while let Err(error) = bind(&socket, &address) {
                    assert_eq!(error, Errno::ADDRINUSE, "bind to port {port}");
                }
                socket
            })
            .collect();
        drop(sockets);
    });
    compare_in(rounds, stage, measured, bare)
}
