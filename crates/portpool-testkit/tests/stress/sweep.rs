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
    in_arena!(|arena| attach_over_binds(arena).expect_exact());
}

/// About once in two hundred attaches, a hundred million binds, a socket without a slot is counted once too
/// often: a known defect. The long run insists that it is not.
#[test]
fn counts_stay_right_while_attach_sweeps_over_sockets_without_slots() {
    in_arena!(|arena| {
        marks::fill_slots(arena);
        let after = attach_over_binds(arena);
        match Size::asked() {
            Size::Ci => after.expect_enough(),
            Size::Long => after.expect_exact(),
        }
    });
}

/// The sweep by itself, which meets a bind every few hundred times.
#[test]
fn counts_stay_right_under_sweeps_without_end() {
    in_arena!(|arena| {
        for has_slots in [true, false] {
            if !has_slots {
                marks::fill_slots(arena);
            }
            let times = Size::asked().pick(1_000, 100_000);
            let after = over_binds(arena, || {
                portpool_kernel::testing::sweep(arena.run(), times).expect("sweep");
            });
            after.expect_exact();
        }
    });
}

fn attach_over_binds(arena: &Arena) -> After<'_> {
    over_binds(arena, || {
        for _ in 0..Size::asked().pick(3, 200) {
            arena.attach();
        }
    })
}

/// What is counted after binds and closes of four threads are over.
struct After<'a> {
    arena: &'a Arena,
    census: Census,
    kept: Vec<Socket>,
}

impl After<'_> {
    fn expect_exact(self) {
        assert_eq!(self.census.bound, KEPT_COUNT, "{}", self.census);
        self.expect_enough();
    }

    /// One too few is a port given away; one too many is a port nobody gets.
    fn expect_enough(self) {
        let After {
            arena,
            census,
            kept,
        } = self;
        assert!(census.bound >= KEPT_COUNT, "{census}");
        assert_eq!(census.bound, census.bound_by_word, "{census}");
        drop(kept);
        if census.bound > KEPT_COUNT {
            println!("counted too often: {census}");
            return;
        }
        // A socket that closed during the last look may be taken for one of the kernel's until the next.
        arena.attach();
        Census::await_nothing(arena);
    }
}

fn over_binds(arena: &Arena, act: impl FnOnce()) -> After<'_> {
    let stop = AtomicBool::new(false);
    let (binds, delayed) = (AtomicU64::new(0), AtomicU64::new(0));
    let kept: Vec<Socket> = (0..KEPT_COUNT as u16)
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
        act();
        stop.store(true, Ordering::Relaxed);
    });
    println!("{binds:?} binds, {delayed:?} tried again");
    // A socket that a sweep still held when its program closed it ends a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut census = Census::of(arena);
    while census.bound != KEPT_COUNT && Instant::now() < deadline {
        thread::yield_now();
        census = Census::of(arena);
    }
    After {
        arena,
        census,
        kept,
    }
}

/// Sockets that stay bound all the while.
const KEPT_COUNT: u64 = 20;

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
