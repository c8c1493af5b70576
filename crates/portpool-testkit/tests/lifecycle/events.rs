//! What the kernel programs tell and count.

use std::time::{Duration, Instant};

use portpool::{
    Pool, PortRange, Scope, Tenure, Transport, Want,
    abi::{ControlCode, Event, Operation, What},
};
use portpool_kernel::{
    RunDir,
    events::{Events, tallies},
};
use portpool_testkit::{Actor, Errno, in_arena, in_bare_arena, sys};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

use crate::scene::{ACTOR, STRANGER};

#[test]
fn each_birth_and_death_is_told_with_its_reason() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let mut events = Events::open(arena.run()).expect("listen");
        let owner = socket();
        let released = acquire(&pool, &owner, "20000-20003");
        pool.release_on(&owner, released).expect("release");
        let closed = acquire(&pool, &owner, "20004");
        drop(owner);
        let mut killed = Actor::start_as(ACTOR, STRANGER);
        killed
            .ask_all(&["socket o udp4", "acquire o 20000 4 7"])
            .expect("acquire");
        let pid = killed.pid();
        killed.kill();
        let token = pool.new_persistent_token().expect("token");
        let range: PortRange = "20000-20003".parse().expect("range");
        pool.install_persistent(Transport::Tcp, range, token, Some(54_321))
            .expect("persist");
        pool.remove_persistent(Transport::Tcp, range)
            .expect("delete");

        let told: Vec<Event> = (0..8).map(|_| wait(&mut events)).collect();
        let short: Vec<_> = told.iter().map(|it| (it.what, it.token)).collect();
        let seven = portpool::Token::new(7).expect("token");
        assert_eq!(
            short,
            [
                (What::Born, released),
                (What::Released, released),
                (What::Born, closed),
                (What::Closed, closed),
                (What::Born, seven),
                (What::Closed, seven),
                (What::Born, token),
                (What::Deleted, token),
            ]
        );
        assert!(told.is_sorted_by_key(|it| it.time));
        for event in &told[4..6] {
            assert_eq!((event.uid, event.owner_pid), (STRANGER, pid));
            assert_eq!((event.transport, event.range), (Transport::Udp, range));
            assert_eq!(event.tenure, Tenure::Runtime);
            assert_eq!(event.command, "portpool-actor");
        }
        let persistent = Tenure::Persistent {
            group: Some(54_321),
        };
        for event in &told[6..] {
            assert_eq!((event.tenure, event.owner_pid), (persistent, 0));
        }
        let index = pool.overview().expect("look").config.index;
        assert!(told.iter().all(|it| it.pool_index == index));
        assert_eq!(events.next_event(), None);
        assert_eq!(events.dropped_count().expect("count"), 0);
    });
}

/// Nothing is kept for a reader to come, and a new one starts with what happens then.
#[test]
fn one_process_listens_at_a_time_and_hears_what_happens_from_then_on() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let owner = socket();
        let first = acquire(&pool, &owner, "20000");
        let events = Events::open(arena.run()).expect("listen");
        let second = Events::open(arena.run()).err().expect("a second reader");
        assert!(second.to_string().contains("events-lock"), "{second}");
        pool.release_on(&owner, first).expect("release");
        drop(events);
        acquire(&pool, &owner, "20001");
        let mut events = Events::open(arena.run()).expect("listen again");
        assert_eq!(events.next_event(), None);
        // It goes on hearing while the programs are replaced.
        arena.attach();
        let third = acquire(&pool, &owner, "20002");
        let told = wait(&mut events);
        assert_eq!((told.what, told.token), (What::Born, third));
        assert!(sys::in_fork(|| {
            sys::become_uid(STRANGER).expect("setuid");
            assert!(Events::open(arena.run()).is_err());
            assert!(tallies(arena.run(), pool.netns_cookie()).is_err());
        }));
    });
}

/// A reader that does not read stops nobody, and knows how much it has missed.
#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    in_arena!(|arena| {
        const ROUNDS: u64 = 6_000;
        let pool = arena.pool();
        let mut events = Events::open(arena.run()).expect("listen");
        let owner = socket();
        for _ in 0..ROUNDS {
            let token = acquire(&pool, &owner, "20000");
            pool.release_on(&owner, token).expect("release");
        }
        let mut read = 0;
        while events.next_event().is_some() {
            read += 1;
        }
        let dropped = events.dropped_count().expect("count");
        assert!(dropped > 0);
        assert_eq!(read + dropped, 2 * ROUNDS);
        let token = acquire(&pool, &owner, "20000");
        assert_eq!(wait(&mut events).token, token);
    });
}

#[test]
fn answers_are_counted_by_operation_and_errno() {
    in_bare_arena!(|arena| {
        arena.attach();
        let pool = arena.pool();
        let cookie = pool.netns_cookie();
        let counted = |operation, errno| count(arena.run(), cookie, operation, errno);
        let acquired = Operation::Control(ControlCode::Acquire);
        let released = Operation::Control(ControlCode::Release);
        let owner = socket();
        let token = acquire(&pool, &owner, "20000-20003");
        assert_eq!(counted(acquired, 0), 1);
        let mut stranger = Actor::start_as(ACTOR, STRANGER);
        stranger.ask("socket s tcp4").expect("socket");
        for _ in 0..3 {
            assert_eq!(stranger.ask("bind s 127.0.0.1:20001"), Err(Errno::ACCES));
        }
        for _ in 0..2 {
            assert_eq!(
                stranger.ask("acquire s 20001 1 8"),
                Err(Errno(libc::EADDRINUSE))
            );
        }
        assert_eq!(counted(Operation::Bind, libc::EACCES), 3);
        assert_eq!(counted(acquired, libc::EADDRINUSE), 2);
        pool.release_on(&owner, token).expect("release");
        arena.attach();
        stranger.ask("release s 8").expect_err("unknown");
        assert_eq!(counted(released, 0), 0);
        assert_eq!(counted(released, libc::EINVAL), 1);
        assert_eq!(counted(acquired, 0), 1);
        assert_eq!(counted(Operation::Connect, libc::EACCES), 0);
    });
}

fn count(run: &RunDir, cookie: u64, operation: Operation, errno: i32) -> u64 {
    let tallies = tallies(run, cookie).expect("read the answers counted");
    let mut tallies = tallies.iter();
    let found = tallies.find(|it| (it.operation, it.errno) == (operation, Some(errno)));
    found.map_or(0, |it| it.count)
}

fn wait(events: &mut Events) -> Event {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(event) = events.next_event() {
            return event;
        }
        assert!(Instant::now() < deadline, "nothing is told");
        let second = rustix::time::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut watched = [PollFd::new(events, PollFlags::IN)];
        poll(&mut watched, Some(&second)).expect("poll");
    }
}

fn acquire(pool: &Pool, owner: &Socket, ports: &str) -> portpool::Token {
    let want = Want::Specific(ports.parse().expect("range"));
    let block = pool.acquire_on(owner, &want, Scope::Associated);
    block.unwrap_or_else(|error| panic!("{error}")).token
}

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket")
}
