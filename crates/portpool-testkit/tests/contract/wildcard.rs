//! Where wildcard blocks land, and what automatic choice has to do with specific ones.

use std::{collections::BTreeSet, fs, io::Read, process::Command};

use portpool::{Pool, Refusal, Reservation, Transports, Want};

use crate::column::is_embedded;
use crate::kit::{
    any, any_within, assert_grantable, attach_ranges, bind_port, exactly, grant, range, refusal,
    refused, request, set_sysctl, tcp,
};

#[test]
fn a_wildcard_block_is_aligned_and_within_what_was_asked() {
    case!(|arena| {
        let pool = arena.pool();
        for (count, alignment, within) in [
            (2, 2, "20000-20999"),
            (4, 100, "20001-20999"),
            (64, 64, "20000-32000"),
            (1, 20_500, "20000-32000"),
            (10, 1, "20095-20104"),
        ] {
            for _ in 0..8 {
                let block = acquire(&pool, any_within(count, alignment, within)).range();
                assert_eq!(block.count().number(), count);
                assert_eq!(block.first().number() % alignment, 0, "{block}");
                assert!(range(within).covers(block), "{block} in {within}");
            }
        }
        let nowhere = any_within(10, 1, "20095-20103");
        assert_eq!(refusal(&pool, &tcp(), &nowhere), Refusal::NoRoom);
        let ephemeral = request(Transports::Tcp, any_within(1, 1, "40000-40010"));
        if is_embedded() {
            drop(pool.acquire(&ephemeral).expect("acquire"));
            return;
        }
        let error = pool
            .acquire(&ephemeral)
            .expect_err("outside the ranges of the pool");
        assert!(
            matches!(error, portpool::AcquireError::OutsideRanges { .. }),
            "{error}"
        );
    });
}

/// Rule 28: full, fragmented, and with room again.
#[test]
fn a_wildcard_finds_the_last_free_block_of_a_fragmented_pool() {
    bare_case!(|arena| {
        const ALL: &str = "20000-20099";
        let pool = attach_ranges(arena, ALL);
        let mut all = Vec::new();
        for _ in 0..100 {
            all.push(acquire(&pool, any_within(1, 1, ALL)));
        }
        let ports: BTreeSet<_> = all.iter().map(Reservation::range).collect();
        assert_eq!(ports.len(), 100, "each port once");
        assert_eq!(
            refusal(&pool, &tcp(), &any_within(1, 1, ALL)),
            Refusal::NoRoom
        );
        // Every other port is free: no room for two, room for each single one.
        all.retain(|reservation| reservation.range().first().number() % 2 == 1);
        assert_eq!(
            refusal(&pool, &tcp(), &any_within(2, 1, ALL)),
            Refusal::NoRoom
        );
        for _ in 0..50 {
            all.push(acquire(&pool, any_within(1, 1, ALL)));
        }
        assert_eq!(
            refusal(&pool, &tcp(), &any_within(1, 1, ALL)),
            Refusal::NoRoom
        );
        // A hole of four, and a plain socket in another one.
        all.retain(|reservation| {
            !range("20040-20043").overlaps(reservation.range())
                && !range("20060-20063").overlaps(reservation.range())
        });
        let plain = tcp();
        bind_port(&plain, 20_061).expect("bind");
        assert_eq!(
            acquire(&pool, any_within(4, 1, ALL)).range(),
            range("20040-20043")
        );
        assert_eq!(
            refusal(&pool, &tcp(), &any_within(5, 1, ALL)),
            Refusal::NoRoom
        );
    });
}

/// With the widest range of automatic choice the pool's own ranges stay grantable.
#[test]
fn a_wildcard_succeeds_whatever_the_range_of_automatic_choice() {
    bare_case!(|arena| {
        set_sysctl("ipv4/ip_local_port_range", "1024 65535");
        arena.attach_if_kernel();
        let pool = arena.pool();
        if is_embedded() {
            let wanted = request(Transports::Tcp, any(1));
            let error = pool.acquire(&wanted).expect_err("only ephemeral ports");
            assert!(
                matches!(error, portpool::AcquireError::OnlyEphemeral { .. }),
                "{error}"
            );
            let within = any_within(1_000, 1, "20000-32767");
            assert_eq!(acquire(&pool, within).range().count().number(), 1_000);
            return;
        }
        let wide = acquire(&pool, any(1_000));
        let pair = acquire(&pool, any(2));
        assert!(!wide.range().overlaps(pair.range()));
        for ports in ["1024", "40000", "33000-33003"] {
            let error = pool
                .acquire(&request(Transports::Tcp, exactly(ports)))
                .expect_err("an ephemeral port");
            assert_eq!(error.refusal(), Some(Refusal::Ephemeral));
            let message = error.to_string();
            assert!(
                message.contains("net.ipv4.ip_local_reserved_ports"),
                "{message}"
            );
        }
    });
}

/// A block half of which automatic choice could give away is refused whole, also if the range was
/// widened or the reserved ports were changed after attach.
#[test]
fn a_port_that_automatic_choice_could_pick_is_refused() {
    case!(|arena| {
        let pool = arena.pool();
        for ports in [
            "32768",
            "60999",
            "40000-40003",
            "32767-32768",
            "60999-61000",
        ] {
            if is_embedded() {
                assert_grantable(&pool, tcp(), ports);
                continue;
            }
            assert_eq!(
                refusal(&pool, &tcp(), &exactly(ports)),
                Refusal::Ephemeral,
                "{ports}"
            );
        }
        if is_embedded() {
            return;
        }
        drop(grant_each(&pool, ["32767", "61000", "19999", "1024"]));
        set_sysctl("ipv4/ip_local_port_range", "1024 65535");
        drop(grant_each(&pool, ["32767", "61000", "19999", "1024"]));
        let kept = reserved();
        fs::write(RESERVED, "20000-32767\n").expect("write the sysctl");
        assert_eq!(
            refusal(&pool, &tcp(), &exactly("61000")),
            Refusal::Ephemeral
        );
        // Given back, it may have been picked in between: only an attach can tell.
        fs::write(RESERVED, kept).expect("write the sysctl");
        grant(&pool, &tcp(), "20000");
        arena.attach();
        grant(&pool, &tcp(), "61000");
    });
}

#[test]
fn a_wildcard_avoids_the_ports_that_services_are_named_for() {
    bare_case!(|arena| {
        fs::create_dir_all("/etc").expect("make /etc");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs", "/etc"])
            .status();
        assert!(mount.expect("mount").success());
        let services = "one 20010/tcp\ntwo\t20013/udp alias # why\n# three 20014/tcp\n";
        fs::write("/etc/services", services).expect("write services");
        arena.attach_if_kernel();
        let pool = arena.pool();
        let within = any_within(1, 1, "20008-20015");
        if is_embedded() {
            let all: Vec<_> = (0..8).map(|_| acquire(&pool, within)).collect();
            assert_eq!(all.len(), 8);
            return;
        }
        let all: Vec<_> = (0..6).map(|_| acquire(&pool, within)).collect();
        let ports: Vec<u16> = all.iter().map(|it| it.range().first().number()).collect();
        assert!(
            !ports.contains(&20_010) && !ports.contains(&20_013),
            "{ports:?}"
        );
        assert_eq!(refusal(&pool, &tcp(), &within), Refusal::NoRoom);
        // Asked for by number they are as good as others.
        grant(&pool, &tcp(), "20010-20010");
    });
}

#[test]
fn a_wildcard_avoids_recently_used_ports_while_there_are_others() {
    case!(|arena| {
        let pool = arena.pool();
        let within = any_within(1, 1, "21000-21009");
        for port in 21_000..21_005_u16 {
            match is_embedded() {
                true => assert_grantable(&pool, tcp(), &port.to_string()),
                false => drop(bind_port(&tcp(), port).expect("bind")),
            }
        }
        let rested: Vec<_> = (0..5).map(|_| acquire(&pool, within)).collect();
        for reservation in &rested {
            assert!(range("21005-21009").covers(reservation.range()));
        }
        let tired = acquire(&pool, within);
        assert!(range("21000-21004").covers(tired.range()));
        // Asked for by number, a rest is nobody's business.
        let ports = if tired.range() == range("21000") {
            "21001"
        } else {
            "21000"
        };
        grant(&pool, &tcp(), ports);
    });
}

/// Ports without privilege only, unless the caller says within what.
#[test]
fn a_wildcard_gives_no_privileged_port_unasked() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "1000-1025");
        let mut all = Vec::new();
        for _ in 0..2 {
            all.push(acquire(&pool, any(1)));
        }
        for reservation in &all {
            assert!(range("1024-1025").covers(reservation.range()));
        }
        assert_eq!(
            refused(pool.acquire(&request(Transports::Tcp, any(1)))),
            Refusal::NoRoom
        );
        drop(acquire(&pool, any_within(24, 1, "1000-1023")));
    });
}

/// The accident: a read of 32 bytes, after which such a file is empty, took the rest for nothing and
/// wrote it back so.
#[test]
fn attach_and_detach_leave_the_reserved_ports_of_others_alone() {
    bare_case!(|arena| {
        let others: Vec<String> = (0..1_000).map(|n| (33_001 + 2 * n).to_string()).collect();
        let others = others.join(",");
        fs::write(RESERVED, &others).expect("write the sysctl");
        assert_eq!(reserved(), others);
        arena.attach();
        let pool = arena.pool();
        assert_eq!(reserved(), format!("1-32767,{others},61000-65535"));
        grant(&pool, &tcp(), "34001");
        grant(&pool, &tcp(), "65535");
        portpool_kernel::detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), others);
    });
}

/// The sysctl, in one read: at any place but its start it is empty.
fn reserved() -> String {
    let mut text = vec![0; 1 << 16];
    let mut file = fs::File::open(RESERVED).expect("open the sysctl");
    let length = file.read(&mut text).expect("read the sysctl");
    text.truncate(length);
    let text = String::from_utf8(text).expect("text");
    text.trim_end().to_owned()
}

fn acquire(pool: &Pool, want: Want) -> Reservation {
    pool.acquire(&request(Transports::Tcp, want))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn grant_each<const N: usize>(pool: &Pool, ports: [&str; N]) -> [socket2::Socket; N] {
    ports.map(|ports| {
        let owner = tcp();
        grant(pool, &owner, ports);
        owner
    })
}

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
