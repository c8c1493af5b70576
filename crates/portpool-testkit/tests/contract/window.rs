//! Windows: one process claims one block that automatic choice had.

use std::fs;

use portpool::{AdminError, Caller, Pool, RangeSet, Refusal, Scope, Transport, abi};
use portpool_kernel::{Reason, make_grantable};
use portpool_testkit::{Actor, Errno};
use socket2::Socket;

use crate::column::Stage;
use crate::kit::{
    ACTOR, NOBODY, associated, attach_ranges, bind_port, control, exactly, order, range, refusal,
    set_sysctl, tcp, udp,
};

/// A time that is far off.
const LATER: u64 = 3_600_000_000_000;

#[test]
fn the_process_of_a_window_claims_exactly_its_block_once() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let mut caller = Actor::start_as(ACTOR, NOBODY);
        caller
            .ask_all(&["socket s tcp4", "socket u udp4"])
            .expect("sockets");
        let claim = |caller: &mut Actor, first: u16, count: u16| {
            caller
                .ask(&format!("acquire s {first} {count} 7"))
                .map(drop)
        };
        assert_eq!(claim(&mut caller, 40_000, 4), Err(Errno::ADDRNOTAVAIL));
        open(&pool, "40000-40003", &caller, NOBODY);
        for (first, count) in [
            (40_000, 3),
            (40_001, 3),
            (40_000, 5),
            (39_999, 5),
            (40_003, 1),
        ] {
            let answer = claim(&mut caller, first, count);
            assert_eq!(answer, Err(Errno::ADDRNOTAVAIL), "{first} {count}");
        }
        let other = caller.ask("acquire u 40000 4 8");
        assert_eq!(other, Err(Errno::ADDRNOTAVAIL), "the other transport");
        // What is refused for another reason does not use it up.
        let bound = tcp();
        bind_port(&bound, 40_001).expect("bind");
        assert_eq!(claim(&mut caller, 40_000, 4), Err(Errno::ADDRINUSE));
        drop(bound);
        claim(&mut caller, 40_000, 4).expect("claim");
        caller
            .ask_all(&["socket c tcp4", "associate c 7", "bind c 127.0.0.1:0"])
            .expect("consume");
        caller
            .ask_all(&["release s 7", "close c"])
            .expect("release");
        assert_eq!(claim(&mut caller, 40_000, 4), Err(Errno::ADDRNOTAVAIL));
    });
}

#[test]
fn nobody_else_gets_through_a_window() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let caller = Actor::start_as(ACTOR, NOBODY);
        open(&pool, "40000-40003", &caller, NOBODY);
        // Root, the same user in another process, another user, a child.
        assert_eq!(
            refusal(&pool, &tcp(), &exactly("40000-40003")),
            Refusal::Ephemeral
        );
        let mut others = vec![
            Actor::start_as(ACTOR, NOBODY),
            Actor::start_as(ACTOR, NOBODY - 1),
        ];
        let mut parent = caller;
        parent.ask("child c").expect("child");
        parent.ask("in c socket s tcp4").expect("socket");
        for other in &mut others {
            other.ask("socket s tcp4").expect("socket");
            assert_eq!(other.ask("acquire s 40000 4 7"), Err(Errno::ADDRNOTAVAIL));
        }
        assert_eq!(
            parent.ask("in c acquire s 40000 4 7"),
            Err(Errno::ADDRNOTAVAIL)
        );
        parent
            .ask_all(&["socket s tcp4", "acquire s 40000 4 7"])
            .expect("the process itself");
    });
}

/// The same process id is another process if it started at another time, and another user's if the
/// user has changed.
#[test]
fn a_window_is_for_the_process_that_started_then_and_its_user_now() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let mut caller = Actor::start(ACTOR);
        caller.ask("socket s tcp4").expect("socket");
        let named = Caller {
            uid: 0,
            pid: caller.pid(),
            start_ticks: start_of(caller.pid()),
        };
        for wrong in [
            Caller {
                uid: NOBODY,
                ..named
            },
            Caller {
                pid: named.pid + 1,
                ..named
            },
            Caller {
                start_ticks: named.start_ticks + 1,
                ..named
            },
            Caller {
                start_ticks: named.start_ticks - 1,
                ..named
            },
        ] {
            pool.open_window(
                Transport::Tcp,
                range("40000-40003"),
                wrong,
                LATER + Pool::since_boot(),
            )
            .expect("open a window");
            let answer = caller.ask("acquire s 40000 4 7");
            assert_eq!(answer, Err(Errno::ADDRNOTAVAIL), "{wrong:?}");
        }
        open(&pool, "40000-40003", &caller, 0);
        caller.ask(&format!("euid {NOBODY}")).expect("another user");
        assert_eq!(caller.ask("acquire s 40000 4 7"), Err(Errno::ADDRNOTAVAIL));
        caller.ask("euid 0").expect("root again");
        caller.ask("acquire s 40000 4 7").expect("claim");
    });
}

#[test]
fn a_window_that_has_closed_grants_nothing() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let named = myself();
        let past = pool.open_window(Transport::Tcp, range("40000"), named, Pool::since_boot());
        assert_eq!(refused(past), Refusal::BadRequest);
        let owner = tcp();
        let deadline = Pool::since_boot() + 50_000_000;
        pool.open_window(Transport::Tcp, range("40000"), named, deadline)
            .expect("open");
        while Pool::since_boot() <= deadline {
            std::thread::yield_now();
        }
        assert_eq!(
            refusal(&pool, &owner, &exactly("40000")),
            Refusal::Ephemeral
        );
        pool.open_window(
            Transport::Tcp,
            range("40000"),
            named,
            LATER + Pool::since_boot(),
        )
        .expect("open it again");
        acquire(&pool, &owner, "40000");
    });
}

/// Ports that are not reserved from automatic choice are granted to nobody, window or not.
#[test]
fn a_window_does_not_stand_in_for_the_sysctl() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let owner = udp();
        let deadline = LATER + Pool::since_boot();
        for ports in ["40003-40004", "40004"] {
            pool.open_window(Transport::Udp, range(ports), myself(), deadline)
                .expect("open");
            assert_eq!(
                refusal(&pool, &owner, &exactly(ports)),
                Refusal::Ephemeral,
                "{ports}"
            );
        }
        pool.open_window(Transport::Udp, range("40000-40003"), myself(), deadline)
            .expect("open");
        set_sysctl(
            "ipv4/ip_local_reserved_ports",
            "1-32767,40000-40002,60999-65535",
        );
        assert_eq!(
            refusal(&pool, &owner, &exactly("40000-40003")),
            Refusal::Ephemeral
        );
    });
}

/// Nor for the sweep: whoever has bound a port that is not counted would not be seen.
#[test]
fn a_window_does_not_stand_in_for_the_sweep() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20999");
        let stranger = tcp();
        bind_port(&stranger, 40_001).expect("bind");
        let reserved = fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
        let reserved = reserved.expect("read the sysctl");
        let reserved = format!("{},40000-40003", reserved.trim());
        set_sysctl("ipv4/ip_local_reserved_ports", &reserved);
        let owner = tcp();
        let deadline = LATER + Pool::since_boot();
        for ports in ["40000-40003", "40000"] {
            pool.open_window(Transport::Tcp, range(ports), myself(), deadline)
                .expect("open");
            assert_eq!(refusal(&pool, &owner, &exactly(ports)), Refusal::Ephemeral);
        }
        let ports = RangeSet::from(range("40000-40003"));
        make_grantable(arena.run(), Reason::Granted, &ports).expect("make them grantable");
        assert_eq!(
            refusal(&pool, &owner, &exactly("40000-40003")),
            Refusal::InUse
        );
        acquire(&pool, &owner, "40000");
    });
}

/// There is room for 1,024; those that have closed make room.
#[test]
fn windows_are_bounded_and_closed_ones_make_room() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-42000");
        let named = myself();
        let first = |number: u16| range(&format!("{}", 40_000 + number));
        let soon = Pool::since_boot() + 2_000_000_000;
        for number in 0..1_024 {
            pool.open_window(Transport::Tcp, first(number), named, soon)
                .expect("open");
        }
        let deadline = LATER + Pool::since_boot();
        let full = pool.open_window(Transport::Tcp, first(1_500), named, deadline);
        if Pool::since_boot() < soon {
            assert_eq!(refused(full), Refusal::PoolFull);
        }
        // Opening one anew needs no room.
        pool.open_window(Transport::Tcp, first(3), named, deadline)
            .expect("open anew");
        while Pool::since_boot() <= soon {
            std::thread::yield_now();
        }
        pool.open_window(Transport::Tcp, first(1_500), named, deadline)
            .expect("room again");
        let owner = tcp();
        acquire(&pool, &owner, "41500");
        acquire(&pool, &owner, "40003");
        assert_eq!(
            refusal(&pool, &owner, &exactly("40004")),
            Refusal::Ephemeral
        );
    });
}

#[test]
fn only_the_administrator_opens_a_window() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let mut nobody = Actor::start_as(ACTOR, NOBODY);
        nobody.ask("child-by u unshare -U -r").expect("child");
        let good = abi::Window {
            range: range("40000-40003"),
            uid: NOBODY,
            pid: nobody.pid(),
            start_ticks: start_of(nobody.pid()),
            deadline: LATER + Pool::since_boot(),
        };
        for prefix in ["", "in u "] {
            nobody
                .ask(&format!("{prefix}socket s tcp4"))
                .expect("socket");
            let order = order("s", abi::ControlCode::Window, &good.to_bytes());
            assert_eq!(nobody.ask(&format!("{prefix}{order}")), Err(Errno::ACCES));
        }
        assert_eq!(nobody.ask("acquire s 40000 4 7"), Err(Errno::ADDRNOTAVAIL));
        let bytes = good.to_bytes();
        for (at, length) in [(0, 8), (8, 8), (20, 4), (24, 2), (26, 2)] {
            let mut bad = bytes;
            bad[at..at + length].fill(0);
            let answer = control(&tcp(), abi::ControlCode::Window as i32, &bad);
            assert_eq!(answer, Err(Errno::INVAL), "0 at {at}");
        }
        let mut bad = bytes;
        bad[28] = 1;
        for bad in [&bad[..], &bytes[..31], &[bytes.as_slice(), &[0]].concat()] {
            let answer = control(&tcp(), abi::ControlCode::Window as i32, bad);
            assert_eq!(answer, Err(Errno::INVAL));
        }
        drop(pool);
    });
}

/// A process of a pid namespace below is named as the one that opens the window sees it.
#[test]
fn a_window_is_opened_for_a_process_in_a_pid_namespace_below() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let mut outer = Actor::start(ACTOR);
        outer.ask("child-by n unshare -p -f").expect("child");
        outer.ask("in n socket s tcp4").expect("socket");
        let shell = children_of(outer.pid());
        let inner = children_of(shell[0])[0];
        let named = Caller {
            uid: 0,
            pid: inner,
            start_ticks: start_of(inner),
        };
        let deadline = LATER + Pool::since_boot();
        pool.open_window(Transport::Tcp, range("40000-40003"), named, deadline)
            .expect("open");
        assert_eq!(outer.ask("in n pid"), Ok("1".to_owned()));
        outer.ask("in n acquire s 40000 4 7").expect("claim");
    });
}

#[test]
fn a_window_ends_with_the_pool() {
    bare_case!(|arena| {
        let pool = reserve(arena, "40000-40003");
        let deadline = LATER + Pool::since_boot();
        pool.open_window(Transport::Tcp, range("40000-40003"), myself(), deadline)
            .expect("open");
        let owner = tcp();
        let token = acquire(&pool, &owner, "40000-40003");
        associated(&pool, "tcp4", token);
        portpool_kernel::detach(arena.run(), true).expect("detach");
        set_sysctl("ipv4/ip_local_reserved_ports", "\n");
        attach_ranges(arena, "20000-20999");
        set_sysctl(
            "ipv4/ip_local_reserved_ports",
            "1-32767,40000-40003,60999-65535",
        );
        assert_eq!(
            refusal(&pool, &owner, &exactly("40000-40003")),
            Refusal::Ephemeral
        );
    });
}

/// A pool, and these ports kept from automatic choice and swept since.
fn reserve(arena: &Stage<'_>, ports: &str) -> Pool {
    let pool = attach_ranges(arena, "20000-20999");
    make_grantable(arena.run(), Reason::Granted, &RangeSet::from(range(ports)))
        .expect("make the ports grantable");
    pool
}

fn open(pool: &Pool, ports: &str, caller: &Actor, uid: u32) {
    let caller = Caller {
        uid,
        pid: caller.pid(),
        start_ticks: start_of(caller.pid()),
    };
    pool.open_window(
        Transport::Tcp,
        range(ports),
        caller,
        LATER + Pool::since_boot(),
    )
    .unwrap_or_else(|error| panic!("{error}"));
}

fn myself() -> Caller {
    Caller {
        uid: 0,
        pid: std::process::id(),
        start_ticks: start_of(std::process::id()),
    }
}

fn acquire(pool: &Pool, owner: &Socket, ports: &str) -> portpool::Token {
    pool.acquire_on(owner, &exactly(ports), Scope::Associated)
        .unwrap_or_else(|error| panic!("{error}"))
        .token
}

/// Field 22 of a process's `stat`.
fn start_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let start = after_name.split_whitespace().nth(19);
    start.expect("a start").parse().expect("a number")
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("children");
    children
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"))
        .collect()
}

fn refused(answer: Result<(), AdminError>) -> Refusal {
    let error = answer.expect_err("granted");
    error
        .refusal()
        .unwrap_or_else(|| panic!("failed, not refused: {error}"))
}
