//! Taking blocks.

use std::net::UdpSocket;

use portpool::{
    AcquireError, Alignment, PortRange, Refusal, Scope, Transport, Transports, Wildcard,
};

use crate::kit::{
    Other, acquire, any, command, eventually, free_range, intrusions, pool, role, specific, tell,
    wait_for_end, wildcard,
};

#[test]
fn a_block_with_one_taken_port_takes_none() {
    let range = free_range(4);
    // The last port of the second transport.
    let taken = eventually(|| UdpSocket::bind(("127.0.0.1", range.last().number())));
    let error = pool()
        .acquire(&specific(Transports::Both, range))
        .expect_err("one is taken");
    assert_eq!(error.refusal(), Some(Refusal::InUse));
    drop(taken);
    let again = eventually(|| pool().acquire(&specific(Transports::Both, range)));
    assert_eq!(again.range(), range);
}

#[test]
fn a_wildcard_block_keeps_its_alignment_and_its_range() {
    let within: PortRange = "24000-26999".parse().expect("a range");
    let wanted = Wildcard {
        alignment: Alignment::new(10).expect("an alignment"),
        within: Some(within),
        ..any(4)
    };
    for transports in [Transports::Tcp, Transports::Udp, Transports::Both] {
        let ports = pool()
            .acquire(&wildcard(transports, wanted))
            .expect("acquire");
        assert!(within.covers(ports.range()), "{}", ports.range());
        assert_eq!(ports.range().first().number() % 10, 0);
        assert_eq!(ports.blocks().len(), transports.iter().count());
    }
}

#[test]
fn the_last_free_run_is_found_among_held_ports() {
    let range = free_range(64);
    let hole = PortRange::from_numbers(range.first().number() + 37, 3).expect("a range");
    // Held by another process, so that nothing is known here but refusals.
    if let Some(range) = role() {
        let range: PortRange = range.parse().expect("a range");
        let hole = PortRange::from_numbers(range.first().number() + 37, 3).expect("a range");
        let held: Vec<_> = range
            .ports()
            .filter(|port| !hole.contains(*port))
            .map(|port| {
                let request = specific(Transports::Tcp, PortRange::single(port));
                eventually(|| pool().acquire(&request))
            })
            .collect();
        tell("held");
        wait_for_end();
        return drop(held);
    }
    let test = "acquire::the_last_free_run_is_found_among_held_ports";
    let mut other = Other::start(test, &range.to_string());
    other.hear();
    let wanted = |count| Wildcard {
        within: Some(range),
        ..any(count)
    };
    let error = pool().acquire(&wildcard(Transports::Tcp, wanted(4)));
    assert_eq!(error.expect_err("no room").refusal(), Some(Refusal::NoRoom));
    let found = pool().acquire(&wildcard(Transports::Tcp, wanted(3)));
    assert_eq!(found.expect("room").range(), hole);
    other.finish();
}

#[test]
fn wildcard_blocks_stay_clear_of_ephemeral_ports() {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("read");
    let numbers: Vec<u16> = text
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    for _ in 0..50 {
        let port = acquire(Transports::Both, 1).range().first().number();
        assert!(!(numbers[0]..=numbers[1]).contains(&port), "{port}");
    }
}

#[test]
fn two_processes_never_hold_the_same_port() {
    let test = "acquire::two_processes_never_hold_the_same_port";
    if role().is_some() {
        let wanted = Wildcard {
            within: Some("28000-28399".parse().expect("a range")),
            ..any(3)
        };
        let held: Vec<_> = (0..30)
            .map_while(|_| pool().acquire(&wildcard(Transports::Both, wanted)).ok())
            .collect();
        let ranges: Vec<String> = held.iter().map(|it| it.range().to_string()).collect();
        tell(ranges.join(","));
        return wait_for_end();
    }
    let mut others: Vec<Other> = (0..3).map(|_| Other::start(test, "hold")).collect();
    let mut all: Vec<u16> = Vec::new();
    for other in &mut others {
        for range in other.hear().split(',') {
            let range: PortRange = range.parse().expect("a range");
            all.extend(range.ports().map(portpool::Port::number));
        }
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    assert!(count >= 30 * 3, "{count}");
    others.into_iter().for_each(Other::finish);
}

#[test]
fn too_few_descriptors_say_how_many_are_missing() {
    let test = "acquire::too_few_descriptors_say_how_many_are_missing";
    if role().is_some() {
        let error = pool()
            .acquire(&wildcard(Transports::Both, any(100)))
            .expect_err("too many");
        let AcquireError::Descriptors {
            missing_count,
            limit,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(limit, 150);
        // Two hundred, and the few that are open already.
        assert!((51..=70).contains(&missing_count), "{missing_count}");
        // The soft limit is raised to the hard one for what fits.
        let fits = pool().acquire(&wildcard(Transports::Tcp, any(100)));
        assert_eq!(fits.expect("acquire").range().count().number(), 100);
        return tell(error);
    }
    let mut limited = std::process::Command::new("sh");
    let again = command(test, "limited");
    limited
        .args([
            "-c",
            "ulimit -Sn 40 -Hn 150 2>/dev/null || { ulimit -Sn 40; ulimit -Hn 150; }; exec \"$@\"",
            "sh",
        ])
        .arg(again.get_program())
        .args(again.get_args())
        .env("PORTPOOL_ROLE", "limited");
    let mut other = Other::spawn(limited);
    let text = other.hear();
    assert!(text.contains("more descriptors are needed"), "{text}");
    assert!(text.contains("ulimit -Hn"), "{text}");
    other.finish();
}

#[test]
fn a_scope_for_other_programs_is_refused_and_names_the_way_out() {
    let scope = Scope::Tree {
        root: None,
        zero_from_block: false,
    };
    let error = pool()
        .acquire_scoped(&wildcard(Transports::Tcp, any(1)), scope)
        .expect_err("only the kernel can");
    assert!(matches!(error, AcquireError::KernelOnly { .. }));
    assert!(error.to_string().contains("into_listeners"), "{error}");
}

#[test]
fn one_transport_leaves_the_other_alone() {
    let ports = acquire(Transports::Udp, 1);
    let port = ports.range().first();
    assert_eq!(intrusions(Transport::Udp, port), Vec::<String>::new());
    let tcp = pool().acquire(&specific(Transports::Tcp, ports.range()));
    assert_eq!(tcp.expect("TCP's is free").range(), ports.range());
}

mod as_root {
    use portpool::{PortRange, Refusal, Transports};

    use crate::kit::{Other, command, pool, role, specific, tell};

    #[test]
    fn a_low_port_is_refused_as_privileged() {
        let test = "acquire::as_root::a_low_port_is_refused_as_privileged";
        if role().is_some() {
            let low: PortRange = "81".parse().expect("a range");
            let error = pool().acquire(&specific(Transports::Tcp, low));
            let refusal = error.expect_err("privileged").refusal();
            assert_eq!(refusal, Some(Refusal::PrivilegedPort));
            return tell("refused");
        }
        let again = command(test, "nobody");
        let mut sandbox = std::process::Command::new("unshare");
        sandbox
            .args(["-n", "setpriv", "--reuid=65534", "--regid=65534"])
            .args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .args(["sh", "-c", "exec \"$@\"", "sh"])
            .arg(again.get_program())
            .args(again.get_args())
            .env("PORTPOOL_ROLE", "nobody");
        let mut other = Other::spawn(sandbox);
        assert_eq!(other.hear(), "refused");
        other.finish();
    }
}
