//! Every row of the table of operation, refusal and errno, provoked for real.

mod admin;

use std::{
    net::Ipv6Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use portpool::{
    Block, Limits, Pool, Refusal, Scope,
    abi::{ControlCode, ERRNO_TABLE, Operation, probe_bytes},
    process::pass_socket,
};
use portpool_kernel::AttachOptions;
use portpool_testkit::{Actor, Errno, marks};
use socket2::Socket;

use crate::column::Stage;
use crate::kit::{
    ACTOR, NOBODY, RawAcquire, any, assert_grantable, associated, bind, bind_port, connect,
    control, exactly, grant, peer, raw_associate, raw_release, refusal, set_sysctl, socket, tcp,
    udp,
};

const PROBE: Operation = Operation::Control(ControlCode::Probe);
const ACQUIRE: Operation = Operation::Control(ControlCode::Acquire);
const RELEASE: Operation = Operation::Control(ControlCode::Release);
const ASSOCIATE: Operation = Operation::Control(ControlCode::Associate);
const PERSIST: Operation = Operation::Control(ControlCode::Persist);
const LEND: Operation = Operation::Control(ControlCode::Lend);
const BIND: Operation = Operation::Bind;
const CONNECT: Operation = Operation::Connect;

#[test]
fn every_refusal_answers_with_the_errno_of_the_table() {
    bare_case!(|arena| {
        let mut seen = Seen::default();
        unattached(&mut seen);
        while_attaching(arena, &mut seen);
        let pool = arena.pool();
        codes(&pool, &mut seen);
        acquire(&pool, &mut seen);
        // Marks of sockets then need option memory.
        marks::fill_slots(arena);
        consume(&pool, &mut seen);
        admin::codes(&pool, &mut seen);
        limits(arena, &mut seen);
        for row in ERRNO_TABLE {
            let provoked = seen.0.iter().find(|(operation, refusal, _)| {
                (*operation, *refusal) == (row.operation, row.refusal)
            });
            let Some((_, _, errno)) = provoked else {
                panic!("{:?} {:?} was not provoked", row.operation, row.refusal);
            };
            assert_eq!(*errno, row.errno, "{:?} {:?}", row.operation, row.refusal);
        }
        for (operation, refusal, _) in &seen.0 {
            assert!(
                portpool::abi::errno_of(*operation, *refusal).is_some(),
                "{operation:?} {refusal:?} is not in the table"
            );
        }
    });
}

/// The errno in a privileged place follows the privilege over the namespace, not a full mask of
/// capabilities inside a user namespace of one's own.
#[test]
fn privileged_ports_need_the_capability_in_the_namespace_of_the_pool() {
    bare_case!(|arena| {
        arena.attach_if_kernel();
        let pool = arena.pool();
        let mut nobody = Actor::start_as(ACTOR, NOBODY);
        // It has every capability, but in a user namespace of its own.
        nobody.ask("child-by u unshare -U -r").expect("child");
        let mut ask = |prefix: &str, first: u16, count: u16| {
            nobody
                .ask(&format!("{prefix}socket o tcp4"))
                .expect("socket");
            let answer = nobody.ask(&format!("{prefix}acquire o {first} {count} 7"));
            nobody.ask(&format!("{prefix}close o")).expect("close");
            answer.map(drop)
        };
        for prefix in ["", "in u "] {
            for (first, count) in [(80, 1), (1, 1), (1_023, 1), (1_020, 10)] {
                assert_eq!(
                    ask(prefix, first, count),
                    Err(Errno::ACCES),
                    "{prefix}{first}"
                );
            }
            assert_eq!(ask(prefix, 1_024, 1), Ok(()));
        }
        assert_grantable(&pool, tcp(), "80");
        set_sysctl("ipv4/ip_unprivileged_port_start", "80");
        assert_eq!(ask("", 80, 1), Ok(()));
        assert_eq!(ask("", 79, 1), Err(Errno::ACCES));
    });
}

/// What was refused with which errno.
#[derive(Default)]
struct Seen(Vec<(Operation, Refusal, i32)>);

impl Seen {
    fn note<T>(&mut self, operation: Operation, refusal: Refusal, answer: Result<T, Errno>) {
        let refused = answer.err();
        let Some(errno) = refused else {
            panic!("{operation:?} was to be refused as {refusal:?}");
        };
        self.0.push((operation, refusal, errno.0));
    }
}

fn unattached(seen: &mut Seen) {
    for (operation, code, value) in [
        (PROBE, 99, probe_bytes().to_vec()),
        (ACQUIRE, 100, RawAcquire::new(20_000, 1, 7).to_bytes()),
        (RELEASE, 101, vec![7; 8]),
        (ASSOCIATE, 102, vec![7; 8]),
    ] {
        for kind in ["tcp4", "tcp6", "udp4", "udp6"] {
            let answer = control(&socket(kind), code, &value);
            seen.note(operation, Refusal::NotAttached, answer);
        }
    }
    admin::unattached(seen);
}

/// Between the moment a new pool is there and the moment it has counted the sockets bound before,
/// it is busy. Another thread asks all the while; should it never be let run then, once more.
fn while_attaching(arena: &Stage<'_>, seen: &mut Seen) {
    let acquire = || RawAcquire::new(20_000, 1, 7).on(&tcp());
    let cases: [(Operation, fn() -> _); 3] = [
        (LEND, || admin::lend_raw(&tcp(), 7)),
        (PERSIST, || admin::persist_raw(&tcp(), 20_000, 1, 7)),
        (ACQUIRE, acquire),
    ];
    for (operation, ask) in cases {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // No pool of an earlier case.
            drop(portpool_kernel::detach(arena.run(), true));
            let asking = thread::spawn(move || {
                let mut busy = None;
                loop {
                    match ask() {
                        Err(Errno(libc::ENOPROTOOPT)) => {}
                        Err(errno @ Errno(libc::EBUSY)) => busy = Some(errno),
                        Ok(()) | Err(_) => return busy,
                    }
                }
            });
            arena.attach();
            if let Some(errno) = asking.join().expect("the asking thread") {
                seen.note(operation, Refusal::Busy, Err::<(), _>(errno));
                break;
            }
            assert!(Instant::now() < deadline, "never busy");
        }
    }
}

/// Malformed codes, wrong sockets, wrong tokens.
fn codes(pool: &Pool, seen: &mut Seen) {
    let answer = control(&tcp(), 99, &[1, 0, 0, 0, 0, 0, 0, 0]);
    seen.note(PROBE, Refusal::VersionMismatch, answer);
    seen.note(PROBE, Refusal::BadRequest, control(&tcp(), 99, &[1]));
    let owner = tcp();
    let block = grant(pool, &owner, "20000-20003");
    let token = block.token.value();
    let mptcp = socket("mptcp4");
    let request = RawAcquire::new(20_010, 1, 7);
    seen.note(ACQUIRE, Refusal::UnsupportedSocket, request.on(&mptcp));
    seen.note(
        RELEASE,
        Refusal::UnsupportedSocket,
        raw_release(&mptcp, token),
    );
    seen.note(
        ASSOCIATE,
        Refusal::UnsupportedSocket,
        raw_associate(&mptcp, token),
    );
    let short = &token.to_ne_bytes()[..7];
    seen.note(ACQUIRE, Refusal::BadRequest, control(&tcp(), 100, short));
    seen.note(RELEASE, Refusal::BadRequest, control(&tcp(), 101, short));
    seen.note(ASSOCIATE, Refusal::BadRequest, control(&tcp(), 102, short));
    seen.note(RELEASE, Refusal::UnknownToken, raw_release(&tcp(), 99));
    seen.note(ASSOCIATE, Refusal::UnknownToken, raw_associate(&tcp(), 99));
    seen.note(RELEASE, Refusal::WrongTransport, raw_release(&udp(), token));
    seen.note(
        ASSOCIATE,
        Refusal::WrongTransport,
        raw_associate(&udp(), token),
    );
    let mut other = Actor::start(ACTOR);
    other
        .ask_all(&["socket o tcp4", "acquire o 21000 1 8"])
        .expect("acquire");
    seen.note(RELEASE, Refusal::ForeignToken, raw_release(&tcp(), 8));
    seen.note(ASSOCIATE, Refusal::ForeignToken, raw_associate(&tcp(), 8));
    let bound = tcp();
    bind_port(&bound, 0).expect("bind");
    seen.note(
        ASSOCIATE,
        Refusal::AlreadyBound,
        raw_associate(&bound, token),
    );
    let duplicate = RawAcquire::new(20_010, 1, token).on(&tcp());
    seen.note(ACQUIRE, Refusal::DuplicateToken, duplicate);
}

fn acquire(pool: &Pool, seen: &mut Seen) {
    let mut nobody = Actor::start_as(ACTOR, NOBODY);
    nobody.ask("socket o tcp4").expect("socket");
    let answer = nobody.ask("acquire o 80 1 7");
    seen.note(ACQUIRE, Refusal::PrivilegedPort, answer);
    let request = RawAcquire {
        flags: 1,
        root_pid: 4_194_303,
        ..RawAcquire::new(20_000, 1, 7)
    };
    seen.note(ACQUIRE, Refusal::NotAncestor, request.on(&tcp()));
    let answer = RawAcquire::new(40_000, 1, 7).on(&tcp());
    seen.note(ACQUIRE, Refusal::Ephemeral, answer);
    let plain = tcp();
    bind_port(&plain, 20_000).expect("bind");
    let answer = RawAcquire::new(20_000, 1, 7).on(&tcp());
    seen.note(ACQUIRE, Refusal::InUse, answer);
    let answer = RawAcquire::new(20_000, 1, 7).on(&exhausted());
    seen.note(ACQUIRE, Refusal::NoMemory, answer);
    let owner = tcp();
    for _ in 0..32 {
        pool.acquire_on(&owner, &any(1), Scope::Associated)
            .expect("acquire");
    }
    let answer = RawAcquire::new(20_001, 1, 7).on(&owner);
    seen.note(ACQUIRE, Refusal::SocketLimit, answer);
    assert_eq!(
        refusal(pool, &owner, &exactly("20001")),
        Refusal::SocketLimit
    );
    nobody
        .ask_all(&["acquire o 10000 1000 7", "acquire o 12000 24 8"])
        .expect("1,024 ports");
    let answer = nobody.ask("acquire o 13000 1 9");
    seen.note(ACQUIRE, Refusal::UidLimit, answer);
    nobody.ask("release o 8").expect("release");
    nobody.ask("acquire o 13000 24 9").expect("as many again");
    let answer = nobody.ask("acquire o 14000 1 10");
    seen.note(ACQUIRE, Refusal::UidLimit, answer);
}

fn consume(pool: &Pool, seen: &mut Seen) {
    let (owner, datagrams) = (tcp(), udp());
    let block = grant(pool, &owner, "20000");
    let token = block.token;
    seen.note(BIND, Refusal::Stranger, bind_port(&tcp(), 20_000));
    let outside = bind_port(&associated(pool, "tcp4", token), 20_001);
    seen.note(BIND, Refusal::OutsideBlock, outside);
    let (_listener, port) = peer();
    for (operation, order) in [
        (BIND, "bind s 127.0.0.1:0".to_owned()),
        (BIND, "bind s 127.0.0.1:20000".to_owned()),
        (CONNECT, format!("connect s 127.0.0.1:{port}")),
    ] {
        let answer = in_a_child(associated(pool, "tcp4", token), &order);
        seen.note(operation, Refusal::ForeignToken, answer);
    }
    let first = associated(pool, "tcp4", token);
    bind_port(&first, 0).expect("bind");
    let second = associated(pool, "tcp4", token);
    seen.note(BIND, Refusal::NoRoom, bind_port(&second, 0));
    seen.note(BIND, Refusal::InUse, bind_port(&second, 20_000));
    seen.note(CONNECT, Refusal::NoRoom, connect(&second, port));
    // A connection of a past listener keeps its port, which only the kernel knows.
    first.listen(1).expect("listen");
    let client = tcp();
    connect(&client, 20_000).expect("connect");
    let (accepted, _) = first.accept().expect("accept");
    drop(first);
    seen.note(CONNECT, Refusal::InUse, connect(&second, port));
    drop(accepted);

    let token = grant(pool, &datagrams, "20000").token;
    let full = exhausted();
    let answer = raw_associate(&full, token.value());
    seen.note(ASSOCIATE, Refusal::NoMemory, answer);
    seen.note(BIND, Refusal::NoMemory, bind(&full, "[::1]:26000"));
}

/// The limits of all callers together, in a pool attached anew over the live one.
fn limits(arena: &Stage<'_>, seen: &mut Seen) {
    let limits = Limits {
        reservations_max: 300,
        shared_percent: 1,
        ..Limits::DEFAULT
    };
    let options = AttachOptions {
        limits: Some(limits),
        ..arena.options()
    };
    portpool_kernel::attach(&options).expect("attach");
    let pool = arena.pool();
    // 1 % are 1,310 ports and 3 reservations.
    let mut actors: Vec<Actor> = (0..2)
        .map(|number| Actor::start_as(ACTOR, NOBODY - number))
        .collect();
    for actor in &mut actors {
        actor.ask("socket o tcp4").expect("socket");
    }
    actors[0].ask("acquire o 10000 1000 101").expect("acquire");
    let answer = actors[1].ask("acquire o 12000 311 102");
    seen.note(ACQUIRE, Refusal::SharedLimit, answer);
    actors[1]
        .ask("acquire o 12000 310 102")
        .expect("the last port");
    actors[1].ask("release o 102").expect("release");
    for number in 0..2 {
        let order = format!("acquire o {} 1 {}", 12_000 + number, 103 + number);
        actors[1].ask(&order).expect("acquire");
    }
    let answer = actors[1].ask("acquire o 12002 1 105");
    seen.note(ACQUIRE, Refusal::SharedLimit, answer);
    drop(actors);
    admin::lend_limits(&pool, seen);

    let mut owners: Vec<(Socket, Block)> = Vec::new();
    let wanted = any(1);
    while owners.len() < 300 {
        let owner = tcp();
        let block = pool.acquire_on(&owner, &wanted, Scope::Associated);
        owners.push((owner, block.expect("acquire")));
    }
    let answer = RawAcquire::new(19_000, 1, 7).on(&tcp());
    seen.note(ACQUIRE, Refusal::PoolFull, answer);
    admin::pool_full(&pool, seen);
    owners.pop();
    RawAcquire::new(19_000, 1, 7)
        .on(&tcp())
        .expect("room again");
}

/// Has another process obey an order with a socket of this one's, under the name `s`.
fn in_a_child(socket: Socket, order: &str) -> Result<String, Errno> {
    let mut command = Command::new(ACTOR);
    let number = pass_socket(&mut command, socket);
    let mut child = Actor::spawn(&mut command);
    child.ask(&format!("inherit s {number}")).expect("inherit");
    child.ask(order)
}

/// A UDP socket without option memory: each membership takes some.
fn exhausted() -> Socket {
    let socket = socket("udp6");
    for number in 1..=u16::MAX {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x5050, number);
        if socket.join_multicast_v6(&group, 1).is_err() {
            return socket;
        }
    }
    panic!("no end of option memory");
}
