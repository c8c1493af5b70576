//! The rows of the control codes of administration.

use std::{os::unix::process::CommandExt, process::Command, thread};

use portpool::{
    Caller, Pool, PortRange, Refusal, Token, Transport,
    abi::{ControlCode, Lend, Operation, Origin, Persist, Ports, Window},
};
use portpool_testkit::{Actor, Errno};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use socket2::Socket;

use super::{LEND, PERSIST, Seen, exhausted};
use crate::kit::{ACTOR, NOBODY, any, bind_port, control, order, socket, tcp, udp};

const RELEASE: Operation = Operation::Control(ControlCode::Release);
const UNPERSIST: Operation = Operation::Control(ControlCode::Unpersist);
const EXCLUDE: Operation = Operation::Control(ControlCode::Exclude);
const UNEXCLUDE: Operation = Operation::Control(ControlCode::Unexclude);
const WINDOW: Operation = Operation::Control(ControlCode::Window);

const GROUP: u32 = 54_321;

/// A code, its operation and a good value of it.
type Sample = (ControlCode, Operation, Vec<u8>);

pub(super) fn persist_raw(
    socket: &Socket,
    first: u16,
    count: u16,
    token: u64,
) -> Result<(), Errno> {
    let persist = Persist {
        range: PortRange::from_numbers(first, count).expect("a range"),
        token: Token::new(token).expect("a token"),
        group: None,
        origin: Origin::New,
    };
    control(socket, ControlCode::Persist as i32, &persist.to_bytes())
}

pub(super) fn lend_raw(socket: &Socket, token: u64) -> Result<(), Errno> {
    control(socket, ControlCode::Lend as i32, &lend(token, None))
}

pub(super) fn unattached(seen: &mut Seen) {
    for (code, operation, value) in samples() {
        for kind in ["tcp4", "tcp6", "udp4", "udp6"] {
            let answer = control(&socket(kind), code as i32, &value);
            seen.note(operation, Refusal::NotAttached, answer);
        }
    }
}

pub(super) fn codes(pool: &Pool, seen: &mut Seen) {
    everywhere(seen);
    let persist = |first, count, token| persist_raw(&tcp(), first, count, token);
    let ports =
        |code: ControlCode, first, count| control(&tcp(), code as i32, &ports(first, count));
    persist(24_000, 4, 70).expect("persist");
    seen.note(PERSIST, Refusal::DuplicateToken, persist(24_010, 1, 70));
    seen.note(PERSIST, Refusal::InUse, persist(24_003, 4, 71));
    seen.note(PERSIST, Refusal::Ephemeral, persist(40_000, 1, 71));
    seen.note(PERSIST, Refusal::PrivilegedPort, without_low_ports());
    seen.note(
        RELEASE,
        Refusal::Persistent,
        crate::kit::raw_release(&tcp(), 70),
    );
    let answer = ports(ControlCode::Unpersist, 24_000, 3);
    seen.note(UNPERSIST, Refusal::NoSuchBlock, answer);
    let bound = tcp();
    bind_port(&bound, 24_100).expect("bind");
    for first in [24_000, 24_100] {
        let answer = ports(ControlCode::Exclude, first, 1);
        seen.note(EXCLUDE, Refusal::InUse, answer);
    }
    let answer = ports(ControlCode::Unexclude, 24_200, 1);
    seen.note(UNEXCLUDE, Refusal::NoSuchBlock, answer);
    lends(pool, seen);
    windows(pool, seen);
    ports(ControlCode::Unpersist, 24_000, 4).expect("delete");
}

/// With the pool full, and with all the share of callers without privilege taken.
pub(super) fn pool_full(pool: &Pool, seen: &mut Seen) {
    // One reservation more than there is room for is tried by each.
    let token = pool.new_persistent_token().expect("token").value();
    let answer = persist_raw(&tcp(), 24_000, 4, token);
    seen.note(PERSIST, Refusal::PoolFull, answer);
    let low = pool.reservations().expect("look");
    assert_eq!(low.len(), 300);
}

/// Lends of the last room there is: a pool of 300 reservations, 3 of them shared.
pub(super) fn lend_limits(pool: &Pool, seen: &mut Seen) {
    let token = pool.new_persistent_token().expect("token");
    let range = "24000-24003".parse().expect("range");
    pool.install_persistent(Transport::Tcp, range, token, Some(GROUP))
        .expect("persist");
    let mut lender = member();
    let mut lend_once = |number: u32| {
        let name = format!("s{number}");
        lender.ask(&format!("socket {name} tcp4")).expect("socket");
        lender.ask(&order(&name, ControlCode::Lend, &lend(token.value(), None)))
    };
    for number in 0..3 {
        lend_once(number).expect("lend");
    }
    seen.note(LEND, Refusal::SharedLimit, lend_once(3));
    drop(lender);
    let mut owners: Vec<(Socket, portpool::Block)> = Vec::new();
    while owners.len() < 299 {
        let owner = tcp();
        let block = pool.acquire_on(&owner, &any(1), portpool::Scope::Associated);
        owners.push((owner, block.expect("acquire")));
    }
    seen.note(LEND, Refusal::PoolFull, lend_raw(&tcp(), token.value()));
    drop(owners);
    pool.remove_persistent(Transport::Tcp, range)
        .expect("delete");
}

/// What any socket and any caller is told of each of them.
fn everywhere(seen: &mut Seen) {
    let mut nobody = Actor::start_as(ACTOR, NOBODY);
    nobody.ask("socket s tcp4").expect("socket");
    for (code, operation, value) in samples() {
        let answer = control(&socket("mptcp4"), code as i32, &value);
        seen.note(operation, Refusal::UnsupportedSocket, answer);
        let answer = control(&tcp(), code as i32, &value[1..]);
        seen.note(operation, Refusal::BadRequest, answer);
        if operation != LEND {
            let answer = nobody.ask(&order("s", code, &value));
            seen.note(operation, Refusal::NotPermitted, answer);
        }
    }
}

fn lends(pool: &Pool, seen: &mut Seen) {
    seen.note(LEND, Refusal::UnknownToken, lend_raw(&tcp(), 99));
    seen.note(LEND, Refusal::WrongTransport, lend_raw(&udp(), 70));
    let mut nobody = Actor::start_as(ACTOR, NOBODY);
    nobody.ask("socket s tcp4").expect("socket");
    let answer = nobody.ask(&order("s", ControlCode::Lend, &lend(70, None)));
    seen.note(LEND, Refusal::ForeignToken, answer);
    let stranger = lend(70, Some(4_194_303));
    let answer = control(&tcp(), ControlCode::Lend as i32, &stranger);
    seen.note(LEND, Refusal::NotAncestor, answer);
    let lender = tcp();
    lend_raw(&lender, 70).expect("lend");
    seen.note(LEND, Refusal::SocketLimit, lend_raw(&lender, 70));
    drop(lender);
    seen.note(LEND, Refusal::NoMemory, {
        let range = "24000".parse().expect("range");
        let token = pool.new_persistent_token().expect("token");
        pool.install_persistent(Transport::Udp, range, token, None)
            .expect("persist");
        let answer = lend_raw(&exhausted(), token.value());
        pool.remove_persistent(Transport::Udp, range)
            .expect("delete");
        answer
    });
    let limit =
        usize::try_from(portpool::Limits::DEFAULT.reservations_per_uid_max).expect("a size");
    seen.note(LEND, Refusal::UidLimit, lend_too_often(pool, limit));
}

/// A process without privilege, of the group.
fn member() -> Actor {
    Actor::spawn(Command::new(ACTOR).uid(NOBODY).gid(GROUP))
}

/// One user's lends, of as many processes as it takes: one process roots 32 at most.
fn lend_too_often(pool: &Pool, limit: usize) -> Result<String, Errno> {
    let range: PortRange = "24300".parse().expect("range");
    let token = pool.new_persistent_token().expect("token");
    pool.install_persistent(Transport::Tcp, range, token, Some(GROUP))
        .expect("persist");
    let mut members = Vec::new();
    let mut answer = Ok(String::new());
    for number in 0..=limit {
        if number % 32 == 0 {
            members.push(member());
        }
        let member = members.last_mut().expect("a member");
        let name = format!("s{number}");
        member.ask(&format!("socket {name} tcp4")).expect("socket");
        answer = member.ask(&order(&name, ControlCode::Lend, &lend(token.value(), None)));
        assert_eq!(answer.is_err(), number == limit, "lend {number}");
    }
    drop(members);
    pool.remove_persistent(Transport::Tcp, range)
        .expect("delete");
    answer
}

fn windows(pool: &Pool, seen: &mut Seen) {
    let caller = Caller {
        uid: 0,
        pid: 1,
        start_ticks: 1,
    };
    let deadline = Pool::since_boot() + 3_600_000_000_000;
    let mut answer = Ok(());
    for first in 25_000..25_000 + 1_025 {
        let range = PortRange::from_numbers(first, 1).expect("a range");
        answer = pool.open_window(Transport::Tcp, range, caller, deadline);
    }
    assert_eq!(
        answer.expect_err("opened").refusal(),
        Some(Refusal::PoolFull)
    );
    let bytes = window(27_000, deadline);
    let answer = control(&tcp(), ControlCode::Window as i32, &bytes);
    seen.note(WINDOW, Refusal::PoolFull, answer);
}

/// CAP_NET_ADMIN without CAP_NET_BIND_SERVICE, which a thread can give up by itself.
fn without_low_ports() -> Result<(), Errno> {
    let asking = thread::spawn(|| {
        let mut sets = capabilities(None).expect("capget");
        sets.effective.remove(CapabilitySet::NET_BIND_SERVICE);
        set_capabilities(None, sets).expect("capset");
        persist_raw(&tcp(), 80, 1, 71)
    });
    asking.join().expect("the asking thread")
}

fn samples() -> Vec<Sample> {
    let range = PortRange::from_numbers(24_500, 2).expect("a range");
    let persist = Persist {
        range,
        token: Token::new(7).expect("a token"),
        group: None,
        origin: Origin::New,
    };
    vec![
        (ControlCode::Persist, PERSIST, persist.to_bytes().to_vec()),
        (ControlCode::Unpersist, UNPERSIST, ports(24_500, 2)),
        (ControlCode::Exclude, EXCLUDE, ports(24_500, 2)),
        (ControlCode::Unexclude, UNEXCLUDE, ports(24_500, 2)),
        (ControlCode::Window, WINDOW, window(24_500, u64::MAX)),
        (ControlCode::Lend, LEND, lend(7, None)),
    ]
}

fn ports(first: u16, count: u16) -> Vec<u8> {
    let range = PortRange::from_numbers(first, count).expect("a range");
    let origin = Origin::New;
    Ports { range, origin }.to_bytes().to_vec()
}

fn lend(token: u64, root: Option<u32>) -> Vec<u8> {
    let token = Token::new(token).expect("a token");
    Lend { token, root }.to_bytes().to_vec()
}

fn window(first: u16, deadline: u64) -> Vec<u8> {
    let window = Window {
        range: PortRange::from_numbers(first, 1).expect("a range"),
        uid: 0,
        pid: 1,
        start_ticks: 1,
        deadline,
    };
    window.to_bytes().to_vec()
}
