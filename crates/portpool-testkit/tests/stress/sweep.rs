//! Attaching over a running pool while sockets come and go.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use portpool_testkit::{Arena, Census, Size, in_arena, marks};
use socket2::{Domain, Protocol, Socket, Type};

use crate::crossing::{bind, tcp};

#[test]
fn counts_stay_right_while_attach_sweeps_over_binds_and_closes() {
    in_arena!(sweep_over_binds);
}

#[test]
fn counts_stay_right_while_attach_sweeps_over_sockets_without_slots() {
    in_arena!(|arena| {
        marks::fill_slots(arena);
        sweep_over_binds(arena);
    });
}

fn sweep_over_binds(arena: &Arena) {
    let stop = AtomicBool::new(false);
    let (binds, delayed) = (AtomicU64::new(0), AtomicU64::new(0));
    let attaches = Size::asked().pick(3, 200);
    let kept: Vec<Socket> = (0..20)
        .map(|number| bound(&tcp(), 20_500 + number))
        .collect();
    thread::scope(|scope| {
        for number in 0..4u16 {
            let (stop, binds, delayed) = (&stop, &binds, &delayed);
            scope.spawn(move || {
                let port = 20_000 + number * 3;
                while !stop.load(Ordering::Relaxed) {
                    let socket = kind(number);
                    let deadline = Instant::now() + Duration::from_secs(60);
                    // The sweep may still hold the socket of the last round, which closes when it lets go.
                    while !bind(&socket, port) {
                        delayed.fetch_add(1, Ordering::Relaxed);
                        assert!(
                            Instant::now() < deadline,
                            "the port {port} of the last round stays taken: {:?}",
                            std::io::Error::last_os_error()
                        );
                    }
                    if number == 3 {
                        // Bound and unbound without a hook, then bound elsewhere.
                        drop(
                            socket.connect(
                                &"127.0.0.1:1"
                                    .parse::<std::net::SocketAddr>()
                                    .expect("address")
                                    .into(),
                            ),
                        );
                    }
                    binds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..attaches {
            arena.attach();
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{binds:?} binds under {attaches} attaches, {delayed:?} tried again");
    // A socket that a sweep still held when its program closed it ends a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut census = Census::of(arena);
    while census.bound != 20 && Instant::now() < deadline {
        thread::yield_now();
        census = Census::of(arena);
    }
    // One count too few is a port given away. One too many is a port nobody gets, which is a known
    // defect: about once in thirty attaches under this load a bind that meets the sweep is counted
    // twice. The long run insists that neither happens.
    assert!(census.bound >= 20, "{census}");
    assert_eq!(census.bound, census.bound_by_word, "{census}");
    if Size::asked() == Size::Ci && census.bound > 20 {
        println!("counted too often: {census}");
        return;
    }
    assert_eq!(census.bound, 20, "{census}");
    drop(kept);
    // A socket that closed during the last look may be taken for one of the kernel's until the next.
    arena.attach();
    Census::await_nothing(arena);
}

fn bound(socket: &Socket, port: u16) -> Socket {
    assert!(bind(socket, port), "bind {port}");
    socket.try_clone().expect("clone")
}

fn kind(number: u16) -> Socket {
    let (kind, protocol) = match number {
        0 => (Type::DGRAM, None),
        1 => (Type::STREAM, Some(Protocol::MPTCP)),
        _ => (Type::STREAM, None),
    };
    Socket::new(Domain::IPV4, kind, protocol).expect("socket")
}
