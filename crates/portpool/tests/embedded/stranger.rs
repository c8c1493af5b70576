//! Others meet the holds.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    thread::spawn,
};

use portpool::{Port, PortRange, Transport, Transports};
use portpool_testkit::Size;

use crate::kit::{Other, Variant, acquire, eventually, intrusions, role, tell, wait_for_end};

#[test]
fn a_stranger_is_refused_however_it_binds() {
    if let Some(range) = role() {
        let range: PortRange = range.parse().expect("a range");
        for port in range.ports() {
            for transport in Transport::ALL {
                assert_eq!(intrusions(transport, port), Vec::<String>::new());
            }
        }
        return tell("all refused");
    }
    let ports = acquire(Transports::Both, 2);
    let mut other = Other::start(
        "stranger::a_stranger_is_refused_however_it_binds",
        &ports.range().to_string(),
    );
    assert_eq!(other.hear(), "all refused");
    other.finish();
}

#[test]
fn a_stranger_is_refused_while_a_port_is_consumed_and_after() {
    if let Some(port) = role() {
        let port: Port = port.parse().expect("a port");
        for transport in Transport::ALL {
            assert_eq!(intrusions(transport, port), Vec::<String>::new());
        }
        return tell("all refused");
    }
    let ports = acquire(Transports::Both, 1);
    let port = ports.range().first();
    let check = || {
        let test = "stranger::a_stranger_is_refused_while_a_port_is_consumed_and_after";
        let mut other = Other::start(test, &port.to_string());
        assert_eq!(other.hear(), "all refused");
        other.finish();
    };
    let ips = [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
    ];
    for ip in ips {
        let address = SocketAddr::new(ip, port.number());
        let consumers = (
            eventually(|| ports.tcp_listener_on(address)),
            eventually(|| ports.udp_socket_on(address)),
        );
        check();
        drop(consumers);
        check();
    }
}

#[test]
fn a_stranger_that_never_stops_trying_never_gets_in_without_a_window() {
    if let Some(port) = role() {
        let port: Port = port.parse().expect("a port");
        let variants: Vec<Variant> = Variant::all()
            .into_iter()
            .filter(|variant| variant.reuse_address)
            .collect();
        let is_over = spawn(wait_for_end);
        tell("trying");
        let mut tries = 0_u32;
        while !is_over.is_finished() || tries == 0 {
            for variant in &variants {
                for transport in Transport::ALL {
                    for address in variant.addresses(port) {
                        let bound = variant.socket(transport).bind(&address.into());
                        assert!(bound.is_err(), "{transport} {address} {variant:?}");
                    }
                }
            }
            tries += 1;
        }
        return;
    }
    let ports = acquire(Transports::Both, 1);
    let port = ports.range().first();
    let test = "stranger::a_stranger_that_never_stops_trying_never_gets_in_without_a_window";
    let mut other = Other::start(test, &port.to_string());
    other.hear();
    for _ in 0..Size::asked().pick(300, 10_000) {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            drop(eventually(|| ports.tcp_listener(ip)));
        }
        for ip in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            drop(eventually(|| ports.udp_socket(ip)));
            if ports.technique(Transport::Tcp, ip).is_gap_free() {
                drop(eventually(|| ports.tcp_listener(ip)));
            }
        }
    }
    other.finish();
}

#[test]
fn a_plain_bind_of_the_owner_meets_its_own_hold() {
    let ports = acquire(Transports::Tcp, 1);
    let address = (Ipv4Addr::LOCALHOST, ports.range().first().number());
    let error = TcpListener::bind(address).expect_err("held");
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
}

mod as_root {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        process::Command,
    };

    use portpool::{Transport, Transports};

    use crate::kit::{Other, acquire, command, intrusions, pool, role, specific, tell};

    #[test]
    fn a_hold_is_of_both_families_whatever_the_default() {
        let test = "stranger::as_root::a_hold_is_of_both_families_whatever_the_default";
        let Some(_) = role() else {
            let script = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/bindv6only";
            let mut other = Other::spawn(sandboxed(test, script));
            assert_eq!(other.hear(), "both");
            return other.finish();
        };
        let ports = acquire(Transports::Both, 3);
        for port in ports.ports() {
            for transport in Transport::ALL {
                assert_eq!(intrusions(transport, port), Vec::<String>::new());
            }
        }
        tell("both");
    }

    #[test]
    fn automatic_choice_never_picks_a_held_port() {
        let test = "stranger::as_root::automatic_choice_never_picks_a_held_port";
        let Some(_) = role() else {
            // A network namespace with 20 ports to choose from, of which 16 are held.
            let script = "ip link set lo up && \
                          echo 40000 40019 > /proc/sys/net/ipv4/ip_local_port_range";
            let mut other = Other::spawn(sandboxed(test, script));
            assert_eq!(other.hear(), "never");
            return other.finish();
        };
        let range = "40002-40017".parse().expect("a range");
        let request = specific(Transports::Both, range);
        let ports = pool().acquire(&request).expect("acquire");
        let is_held = |port: u16| ports.ports().any(|held| held.number() == port);
        let server = TcpListener::bind("127.0.0.1:50000").expect("bind");
        let server = server.local_addr().expect("address");
        let mut pick_count = 0;
        for _ in 0..200 {
            // Where connections of before still linger there may be none left to pick.
            let picked = [
                TcpListener::bind("0.0.0.0:0").and_then(|it| it.local_addr()),
                TcpListener::bind("[::]:0").and_then(|it| it.local_addr()),
                UdpSocket::bind("0.0.0.0:0").and_then(|it| it.local_addr()),
                UdpSocket::bind("[::]:0").and_then(|it| it.local_addr()),
                TcpStream::connect(server).and_then(|it| it.local_addr()),
            ];
            for address in picked.into_iter().flatten() {
                assert!(!is_held(address.port()), "{address}");
                pick_count += 1;
            }
        }
        assert!(pick_count >= 400, "{pick_count}");
        tell("never");
    }

    /// This test again, in a network namespace of its own that a script prepares.
    fn sandboxed(test: &str, script: &str) -> Command {
        let again = command(test, "inside");
        let mut sandbox = Command::new("unshare");
        sandbox.args(["-n", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
        sandbox.arg(again.get_program()).args(again.get_args());
        sandbox.env("PORTPOOL_ROLE", "inside");
        sandbox
    }
}
