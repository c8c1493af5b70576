//! Blocks taken from a small ephemeral range while strangers connect as fast as they can.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portpool::{PortRange, Refusal, Request, Scope, Transports, Want};
use portpool_testkit::{Arena, Chance, Size, in_arena};
use rustix::net::sockopt::set_socket_linger;

use crate::kit::{Keeper, reserved_ports, set_ephemeral, until};

/// Longer than it takes on a machine with much else to do; only what hangs takes that long.
const STORM_TIME_MAX: Duration = Duration::from_secs(900);

/// A port somebody had, from when it was surely theirs to when it surely was still.
type Had = (u16, Instant, Instant);

#[test]
fn no_granted_port_is_ever_a_strangers_ephemeral_port() {
    in_arena!(|arena: &Arena| {
        set_ephemeral("40000-40255");
        let _keeper = Keeper::start(arena);
        let before = reserved_ports();
        let connects_wanted = Size::automatic_choices();
        let grants_wanted = Size::asked().pick(10, 200);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000)).unwrap();
        let (is_over, connects, grants) =
            (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
        let (theirs, ours): (Mutex<Vec<Had>>, Mutex<Vec<Had>>) = Default::default();
        thread::scope(|scope| {
            // Accepted and forgotten: whoever connects resets.
            scope.spawn(|| accept_all(&listener, &is_over));
            for _ in 0..3 {
                scope.spawn(|| {
                    theirs
                        .lock()
                        .unwrap()
                        .extend(connect_over_and_over(&is_over, &connects));
                });
            }
            for number in 0..2 {
                let (arena, is_over, grants, ours) = (&arena, &is_over, &grants, &ours);
                scope.spawn(move || {
                    ours.lock()
                        .unwrap()
                        .extend(reserve_over_and_over(arena, number, is_over, grants));
                });
            }
            // Whatever comes of it, the others are to end.
            let deadline = Instant::now() + STORM_TIME_MAX;
            let is_enough = || {
                connects.load(Ordering::Relaxed) >= connects_wanted
                    && grants.load(Ordering::Relaxed) >= grants_wanted
            };
            while !is_enough() && Instant::now() < deadline {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "polls a condition, with a deadline"
                )]
                thread::sleep(Duration::from_millis(5));
            }
            is_over.store(true, Ordering::Relaxed);
            // Lets accept return.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, 20_000)));
        });
        let (theirs, ours) = (theirs.into_inner().unwrap(), ours.into_inner().unwrap());
        println!(
            "{} ports chosen automatically, {} granted",
            theirs.len(),
            ours.len()
        );
        let (chosen, granted) = (connects.into_inner(), grants.into_inner());
        assert!(
            chosen >= connects_wanted && granted >= grants_wanted,
            "{chosen} {granted}"
        );
        let clash = clash(theirs, ours);
        assert!(clash.is_none(), "a granted port was somebody's: {clash:?}");
        until("all entries go", || reserved_ports() == before);
    });
}

#[test]
fn a_clash_is_found() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let ours = vec![
        (1, at(10), at(20)),
        (1, at(30), at(40)),
        (2, at(10), at(20)),
    ];
    for (port, from, to, is_clash) in [
        (1, 0, 9, false),
        (1, 0, 10, true),
        (1, 12, 13, true),
        (1, 21, 29, false),
        (1, 0, 50, true),
        (1, 35, 60, true),
        (2, 21, 90, false),
        (3, 0, 90, false),
    ] {
        let theirs = vec![(port, at(from), at(to))];
        assert_eq!(
            clash(theirs, ours.clone()).is_some(),
            is_clash,
            "{port} {from} {to}"
        );
    }
}

fn accept_all(listener: &TcpListener, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        drop(listener.accept());
    }
}

/// Connects TCP and UDP in turn; which ports that took.
fn connect_over_and_over(is_over: &AtomicBool, connects: &AtomicU32) -> Vec<Had> {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000));
    let mut had = Vec::new();
    // Some stay open for a while, so that blocks meet them.
    let mut open: Vec<(TcpStream, Instant)> = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(stream) = TcpStream::connect(target) {
            let from = Instant::now();
            // Without it the port would rest for a minute, and soon there would be none.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            open.push((stream, from));
        }
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(target).unwrap();
        let (port, from) = (socket.local_addr().unwrap().port(), Instant::now());
        had.push((port, from, Instant::now()));
        drop(socket);
        if open.len() > 8 {
            let (stream, from) = open.remove(0);
            let port = stream.local_addr().unwrap().port();
            had.push((port, from, Instant::now()));
        }
        connects.fetch_add(1, Ordering::Relaxed);
    }
    had
}

/// Takes blocks of four ports and gives them back.
fn reserve_over_and_over(
    arena: &Arena,
    seed: u64,
    is_over: &AtomicBool,
    grants: &AtomicU32,
) -> Vec<Had> {
    let pool = arena.pool();
    let mut chance = Chance::new(seed);
    let mut had = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let first = 40_000 + chance.below(63) as u16 * 4;
        let range = PortRange::from_numbers(first, 4).unwrap();
        let request = Request {
            transports: Transports::Both,
            want: Want::Specific(range),
        };
        let wait = Duration::from_millis(500);
        let block = match pool.acquire_timeout(&request, Scope::Associated, wait) {
            Ok(block) => block,
            Err(error) if error.refusal() == Some(Refusal::InUse) => continue,
            Err(error) => panic!("{error}"),
        };
        let from = Instant::now();
        // Ours to use, whatever happens around.
        let listener = block.tcp_listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        drop(listener);
        let to = Instant::now();
        drop(block);
        had.extend(range.ports().map(|port| (port.number(), from, to)));
        grants.fetch_add(1, Ordering::Relaxed);
    }
    had
}

/// Two that had one port at one time.
fn clash(mut theirs: Vec<Had>, ours: Vec<Had>) -> Option<(Had, Had)> {
    theirs.sort();
    for mine in ours {
        let (port, from, to) = mine;
        let first = theirs.partition_point(|it| it.0 < port);
        let of_port = theirs[first..].iter().take_while(|it| it.0 == port);
        if let Some(other) = of_port.take_while(|it| it.1 <= to).find(|it| it.2 >= from) {
            return Some((*other, mine));
        }
    }
    None
}
