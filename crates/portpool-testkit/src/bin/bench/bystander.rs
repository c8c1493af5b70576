//! What programs pay that never heard of the pool.

use std::{os::fd::OwnedFd, time::Instant};

use portpool::Transport;
use rustix::net::sockopt::{set_tcp_nodelay, tcp_nodelay};

use crate::{
    meter::{Comparison, Subject, compare, nanoseconds},
    report::Report,
    stage::{POOL_FIRST, Side, Stage, bind_to, socket},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    let zero = whole_bind(stage, Transport::Tcp, 0);
    let explicit = whole_bind(stage, Transport::Tcp, EXPLICIT);
    report.note("socket, bind(0), close", zero);
    report.note("socket, bind(port), close", explicit);
    report.add_worst("bystander/bind", 1.10, &[zero, explicit]);
    let udp = whole_bind(stage, Transport::Udp, EXPLICIT);
    report.note("the same of a UDP socket", udp);
    report.note("bind(0) alone", bind_alone(stage, |_| 0));
    let ports = |number| EXPLICIT + number as u16;
    report.note("bind(port) alone", bind_alone(stage, ports));

    let setsockopt = option(stage, |socket| set_tcp_nodelay(socket, true).expect("set"));
    report.add("bystander/setsockopt", 1.7, setsockopt);
    let getsockopt = option(stage, |socket| {
        tcp_nodelay(socket).expect("get");
    });
    report.add("bystander/getsockopt", 1.0, getsockopt);
}

/// The life of a bound socket.
fn whole_bind(stage: &Stage, transport: Transport, port: u16) -> Comparison {
    let operation = |side| {
        Subject::new(side, 8, move || {
            bind_to(&socket(transport), port);
        })
    };
    compare(stage, operation(Side::Guarded), operation(Side::Unguarded))
}

/// Only the system call; making and closing the sockets is not timed.
fn bind_alone(stage: &Stage, port: impl Fn(usize) -> u16 + Copy) -> Comparison {
    let operation = |side| {
        Subject::timed(side, move || {
            let sockets: [OwnedFd; BIND_COUNT] = std::array::from_fn(|_| socket(Transport::Tcp));
            let start = Instant::now();
            for (number, socket) in sockets.iter().enumerate() {
                bind_to(socket, port(number));
            }
            nanoseconds(start.elapsed(), BIND_COUNT as u32)
        })
    };
    compare(stage, operation(Side::Guarded), operation(Side::Unguarded))
}

/// A socket option, in long bursts: it takes little more time than the clock.
fn option(stage: &Stage, call: impl Fn(&OwnedFd) + Copy) -> Comparison {
    let operation = |side| {
        let socket = stage.socket_on(side, Transport::Tcp);
        Subject::new(side, 64, move || call(&socket))
    };
    compare(stage, operation(Side::Guarded), operation(Side::Unguarded))
}

const EXPLICIT: u16 = POOL_FIRST + 20_000;
const BIND_COUNT: usize = 16;
