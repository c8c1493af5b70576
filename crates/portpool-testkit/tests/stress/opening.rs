//! Ports that come to be granted, and hence counted, while strangers bind them.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use portpool_testkit::{Arena, Census, Size, in_arena};
use socket2::{Domain, Socket, Type};

use crate::crossing::{bind, claim};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// Inside the ephemeral range.
const FIRST: u16 = 40_000;
const PORTS: u16 = 300;

#[test]
fn a_port_that_comes_to_be_granted_under_binds_has_one_owner() {
    in_arena!(|arena| {
        let rounds = Size::asked().pick(2, 60);
        let mut tally = (0, 0);
        for round in 0..rounds {
            let (claimed, bound) = open_under_binds(arena, FIRST + round * PORTS);
            tally = (tally.0 + claimed, tally.1 + bound);
        }
        println!("{tally:?} claimed and bound in {rounds} rounds");
        assert!(tally.0 > 0 && tally.1 > 0, "one side never wins");
        arena.attach();
        Census::await_nothing(arena);
    });
}

/// Makes ports grantable while two strangers bind them one after the other, each of one transport,
/// and keep them; how many could be claimed then, and how many the strangers have.
fn open_under_binds(arena: &Arena, first: u16) -> (usize, usize) {
    let ports: Vec<u16> = (first..first + PORTS).collect();
    let is_attached = AtomicBool::new(false);
    let before = fs::read_to_string(RESERVED).expect("read the reserved ports");
    let entry = format!("{},{first}-{}\n", before.trim_end(), first + PORTS - 1);
    let (claims, binds) = thread::scope(|scope| {
        let strangers = [Type::STREAM, Type::DGRAM].map(|kind| {
            let (ports, is_attached) = (&ports, &is_attached);
            scope.spawn(move || bind_each(kind, ports, is_attached))
        });
        fs::write(RESERVED, entry).expect("reserve the ports");
        arena.attach();
        is_attached.store(true, Ordering::Relaxed);
        let pool = arena.pool();
        let mut claims = Vec::new();
        // From the other end, so that the two meet.
        for port in ports.iter().rev() {
            for kind in [Type::STREAM, Type::DGRAM] {
                let owner = Socket::new(Domain::IPV4, kind, None).expect("socket");
                if claim(&pool, &owner, *port, 1).is_some() {
                    claims.push((kind, *port, owner));
                }
            }
        }
        let binds: Vec<_> = strangers
            .into_iter()
            .flat_map(|stranger| stranger.join().expect("join"))
            .collect();
        (claims, binds)
    });
    let bound: BTreeSet<(i32, u16)> = binds
        .iter()
        .map(|(kind, port, _)| (i32::from(*kind), *port))
        .collect();
    for (kind, port, _) in &claims {
        let is_bound = bound.contains(&(i32::from(*kind), *port));
        assert!(
            !is_bound,
            "{kind:?} {port} is claimed, and bound by a stranger"
        );
    }
    (claims.len(), bound.len())
}

/// Two thirds of the ports while attach runs, the rest when it is done.
fn bind_each(kind: Type, ports: &[u16], is_attached: &AtomicBool) -> Vec<(Type, u16, Socket)> {
    let mut bound = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let pause = Instant::now() + Duration::from_millis(1);
        while number * 3 > ports.len() * 2 && !is_attached.load(Ordering::Relaxed)
            || Instant::now() < pause && !is_attached.load(Ordering::Relaxed)
        {
            thread::yield_now();
        }
        let socket = Socket::new(Domain::IPV4, kind, None).expect("socket");
        if bind(&socket, *port) {
            bound.push((kind, *port, socket));
        }
    }
    bound
}
