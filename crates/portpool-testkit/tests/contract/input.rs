//! Bad input by a process without privilege: a clear error, nothing changed, nothing logged.

use std::{
    env,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use portpool::{Scope, abi};
use portpool_testkit::{
    Actor, Errno, Size,
    sys::{self, EdgeOfMemory, set_at, set_raw},
};
use socket2::Socket;

use crate::kit::{
    ACTOR, NOBODY, RawAcquire, assert_empty, bind_port, control, errno, exactly, raw_associate,
    raw_release, socket, tcp, udp,
};

const PROBE: i32 = 99;
const ACQUIRE: i32 = 100;
const LEND: i32 = 108;

#[test]
fn each_field_of_a_request_is_checked() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let good = RawAcquire::new(20_000, 4, 7);
        let mut bad = vec![
            RawAcquire { token: 0, ..good },
            RawAcquire {
                token: u64::MAX,
                ..good
            },
            RawAcquire { first: 0, ..good },
            RawAcquire { count: 0, ..good },
            RawAcquire {
                first: 65_533,
                ..good
            },
            RawAcquire {
                count: u16::MAX,
                ..good
            },
            // A root, its start or service of port 0 without a tree.
            RawAcquire {
                root_pid: 1,
                ..good
            },
            RawAcquire {
                root_pid: std::process::id(),
                ..good
            },
            RawAcquire {
                root_start: 1,
                ..good
            },
            RawAcquire { flags: 2, ..good },
        ];
        bad.extend((2..16).map(|bit| RawAcquire {
            flags: 1 << bit,
            ..good
        }));
        bad.extend((2..16).map(|bit| RawAcquire {
            flags: 1 | 1 << bit,
            ..good
        }));
        for place in 0..3 {
            for value in [1, 0x8000, u16::MAX] {
                let mut zero = [0; 3];
                zero[place] = value;
                bad.push(RawAcquire { zero, ..good });
            }
        }
        for request in bad {
            assert_eq!(request.on(&owner), Err(Errno::INVAL), "{request:?}");
            let overview = pool.overview().expect("look");
            assert_eq!(overview.counters.reservations, 0, "{request:?}");
            assert_eq!(overview.tcp.reserved_count, 0, "{request:?}");
        }
        // The same request with every field as it should be.
        good.on(&owner).expect("the good request");
        raw_release(&owner, 7).expect("release");
        for (bytes, expected) in [
            ([1, 0, 0, 0, 0, 0, 0, 0], Errno(libc::EPROTO)),
            ([0; 8], Errno(libc::EPROTO)),
            ([2, 0, 0, 0, 1, 0, 0, 0], Errno::INVAL),
        ] {
            assert_eq!(control(&owner, PROBE, &bytes), Err(expected));
        }
        assert_empty(&pool);
    });
}

/// Every option name around ours with every length, claimed and real, at good and bad addresses.
#[test]
fn malformed_control_codes_are_refused_and_leave_no_trace() {
    case!(|arena| {
        let before = sys::kernel_log().expect("the kernel's log");
        assert!(sys::in_fork(|| {
            sys::become_uid(NOBODY).expect("setuid");
            for kind in ["tcp4", "udp6"] {
                let target = socket(kind);
                for name in 90..=120 {
                    lengths(&target, name);
                    addresses(&target, name);
                }
                bind_port(&target, 0).expect("still a socket");
            }
        }));
        assert_empty(&arena.pool());
        assert_unlogged(&before);
    });
}

/// Without a pool in its namespace a control code is an option nobody knows, whatever its length.
#[test]
fn control_codes_without_a_pool_are_unknown_options() {
    case!(|_| {
        let before = sys::kernel_log().expect("the kernel's log");
        let mut unshare = Command::new("unshare");
        let elsewhere = unshare.args(["-n", ACTOR]);
        let mut elsewhere = Actor::spawn(elsewhere);
        elsewhere.ask("socket s tcp4").expect("socket");
        for order in ["acquire s 20000 4 7", "associate s 7", "release s 7"] {
            assert_eq!(elsewhere.ask(order), Err(Errno(libc::ENOPROTOOPT)));
        }
        for name in PROBE..=LEND {
            for length in [0, 8, 32, 4096, 4097, 65_536] {
                let order = format!("raw s {name} {length}");
                assert_eq!(
                    elsewhere.ask(&order),
                    Err(Errno(libc::ENOPROTOOPT)),
                    "{order}"
                );
            }
        }
        assert_unlogged(&before);
    });
}

#[test]
fn random_control_codes_grant_nothing_but_what_they_validly_ask() {
    case!(|arena| {
        let before = sys::kernel_log().expect("the kernel's log");
        let seed = seed();
        println!("seed {seed}");
        assert!(sys::in_fork(|| {
            sys::become_uid(NOBODY).expect("setuid");
            let pool = arena.pool();
            let mut granted = 0;
            let mut random = Random(seed);
            let sockets = [tcp(), udp(), socket("tcp6"), socket("udp6")];
            for round in 0..Size::asked().pick(20_000, 2_000_000) {
                granted += u32::from(random_round(&mut random, &sockets, round));
            }
            println!("{granted} valid requests");
            assert!(granted > 0, "the random requests never reach the pool");
            // The sockets are as usable as before.
            for socket in &sockets {
                pool.acquire_on(socket, &exactly("20000"), Scope::Associated)
                    .map(|block| pool.release_on(socket, block.token).expect("release"))
                    .expect("acquire");
            }
        }));
        assert_empty(&arena.pool());
        assert_unlogged(&before);
    });
}

/// Options of others, of any length, are answered as without a pool.
#[test]
fn options_of_others_pass_through_whatever_their_length() {
    case!(|_| {
        let before = sys::kernel_log().expect("the kernel's log");
        let socket = tcp();
        for length in [4, 8, 4096, 8192, 65_536] {
            let mut value = vec![0; length];
            value[0] = 1;
            let set = |level, name| {
                set_raw(&socket, level, name, &value, length as i64).map_err(|error| errno(&error))
            };
            assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(()));
            assert!(socket.tcp_nodelay().expect("getsockopt"));
            value[0] = 0;
            let set = set_raw(
                &socket,
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY,
                &value,
                length as i64,
            );
            set.expect("setsockopt");
            assert!(!socket.tcp_nodelay().expect("getsockopt"));
        }
        assert_unlogged(&before);
    });
}

fn lengths(target: &Socket, name: i32) {
    let value = vec![0xff; 65_536];
    for length in [
        0, 1, 3, 7, 8, 9, 15, 16, 24, 31, 32, 33, 64, 4095, 4096, 4097, 65_536,
    ] {
        // 0xff.. is no token and no version, and as a request it is past the last port.
        let expected = match (name, length) {
            (PROBE..=LEND, _) => libc::EINVAL,
            _ => libc::ENOPROTOOPT,
        };
        let answer = set_raw(target, abi::LEVEL, name, &value, length);
        let error = answer.expect_err("malformed");
        assert_eq!(errno(&error), Errno(expected), "{name}, {length} bytes");
    }
    for length in [-1, -8, -32, i64::from(i32::MIN)] {
        let error = set_raw(target, abi::LEVEL, name, &value, length).expect_err("malformed");
        assert_eq!(errno(&error), Errno::INVAL, "{name}, {length} bytes");
    }
}

fn addresses(target: &Socket, name: i32) {
    let edge = EdgeOfMemory::new().expect("map");
    for length in [8_usize, 32] {
        for address in [
            0,
            1,
            4096,
            edge.address(),
            edge.address() - length + 1,
            usize::MAX - 8,
            0xffff_8000_0000_0000,
        ] {
            let answer = set_at(target, abi::LEVEL, name, address, length as i64);
            let error = errno(&answer.expect_err("unreadable"));
            assert_eq!(
                error,
                Errno(libc::EFAULT),
                "{name}, {length} at {address:#x}"
            );
        }
        // Zeros up to the very edge are read, and refused for what they are.
        let answer = set_at(
            target,
            abi::LEVEL,
            name,
            edge.address() - length,
            length as i64,
        );
        let error = errno(&answer.expect_err("zeros"));
        let expected = match name {
            PROBE if length == 8 => libc::EPROTO,
            PROBE..=LEND => libc::EINVAL,
            _ => libc::ENOPROTOOPT,
        };
        assert_eq!(error, Errno(expected), "{name}, {length} zeros");
    }
    odd_address(target, name);
}

/// A good value at an odd address is as good.
fn odd_address(target: &Socket, name: i32) {
    let request = RawAcquire::new(20_000, 4, 7).to_bytes();
    let value = match name {
        PROBE => &abi::probe_bytes()[..],
        ACQUIRE => &request,
        _ => return,
    };
    for shift in 1..8 {
        let mut shifted = vec![0; shift];
        shifted.extend(value);
        let address = shifted.as_ptr().addr() + shift;
        set_at(target, abi::LEVEL, name, address, value.len() as i64).expect("a good value");
        if name == ACQUIRE {
            raw_release(target, 7).expect("release");
        }
    }
}

/// One random control code; whether it was a valid request, which is released again.
fn random_round(random: &mut Random, sockets: &[Socket; 4], round: u32) -> bool {
    let socket = &sockets[random.below(4)];
    let is_tcp = socket.r#type().expect("type") == socket2::Type::STREAM;
    let name = 98 + random.below(12) as i32;
    let mut value = if random.below(2) == 0 {
        let request = RawAcquire {
            flags: random.below(4) as u16,
            ..RawAcquire::new(
                20_000 + random.below(2_000) as u16,
                1 + random.below(40) as u16,
                random.next(),
            )
        };
        request.to_bytes()
    } else {
        (0..8 + random.below(40))
            .map(|_| random.next() as u8)
            .collect()
    };
    for _ in 0..random.below(3) {
        let at = random.below(value.len());
        value[at] ^= 1 << random.below(8);
    }
    if random.below(4) == 0 {
        value.truncate(random.below(value.len() + 1));
    }
    let answer = control(socket, name, &value);
    if answer.is_err() {
        return false;
    }
    let context = format!("round {round}: option {name}, {value:?}");
    if name == PROBE {
        assert_eq!(value, abi::probe_bytes(), "{context}");
        return false;
    }
    // Nothing is reserved between rounds, so there is no token to associate with, to release or to
    // lend, and the caller is no administrator.
    assert_eq!(name, ACQUIRE, "{context}");
    let request = parse(&value).expect("32 bytes");
    let last = u32::from(request.first) + u32::from(request.count) - 1;
    let is_valid = ![0, u64::MAX].contains(&request.token)
        && request.first >= 1024
        && request.count > 0
        && last <= 65_535
        && request.zero == [0; 3]
        && match request.flags {
            0 => request.root_pid == 0 && request.root_start == 0,
            // Of the names of a tree's root only the caller's own is right.
            1 => [0, std::process::id()].contains(&request.root_pid),
            3 => [0, std::process::id()].contains(&request.root_pid) && is_tcp,
            _ => false,
        };
    assert!(is_valid, "{context}");
    assert_eq!(raw_associate(socket, request.token), Ok(()), "{context}");
    assert_eq!(raw_release(socket, request.token), Ok(()), "{context}");
    true
}

fn parse(value: &[u8]) -> Option<RawAcquire> {
    let value: &[u8; 32] = value.try_into().ok()?;
    let number = |at: usize| u16::from_ne_bytes([value[at], value[at + 1]]);
    let wide = |at: usize| {
        (0..4).fold(0, |sum, part| {
            sum | u64::from(number(at + 2 * part)) << (16 * part)
        })
    };
    Some(RawAcquire {
        token: wide(0),
        root_start: wide(8),
        root_pid: wide(16) as u32,
        first: number(20),
        count: number(22),
        flags: number(24),
        zero: [number(26), number(28), number(30)],
    })
}

/// What the kernel has logged since `before` has nothing to do with sockets or BPF programs.
fn assert_unlogged(before: &str) {
    let after = sys::kernel_log().expect("the kernel's log");
    let last = before.lines().last().unwrap_or_default();
    let fresh = after
        .rsplit_once(last)
        .map_or(after.as_str(), |(_, fresh)| fresh);
    for line in fresh.lines() {
        let line = line.to_lowercase();
        for word in [
            "bpf", "sockopt", "optlen", "bug", "warn", "trace", "oops", "contract",
        ] {
            assert!(!line.contains(word), "the kernel logged: {line}");
        }
    }
}

/// `PORTPOOL_TEST_SEED`, to run a failed round again, else one of the clock's.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_nanos() as u64;
    let given = env::var("PORTPOOL_TEST_SEED").ok();
    given.map_or(now, |text| text.parse().expect("PORTPOOL_TEST_SEED"))
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
