//! How reservations end.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use portpool::{PortRange, Refusal, Scope, Transport, Transports, Want};
use socket2::Domain;

use crate::kit::{
    Other, acquire, eventually, free_range, pool, role, socket, specific, tell, wait_for_end,
};

#[test]
fn a_killed_owner_leaves_its_ports_free_at_once() {
    if let Some(range) = role() {
        let range: PortRange = range.parse().expect("a range");
        let request = specific(Transports::Both, range);
        let ports = eventually(|| pool().acquire(&request));
        tell("held");
        wait_for_end();
        return drop(ports);
    }
    let range = free_range(50);
    let test = "life::a_killed_owner_leaves_its_ports_free_at_once";
    let request = specific(Transports::Both, range);
    for _ in 0..5 {
        let mut other = Other::start(test, &range.to_string());
        assert_eq!(other.hear(), "held");
        let error = pool().acquire(&request).expect_err("held");
        assert_eq!(error.refusal(), Some(Refusal::InUse));
        other.kill();
        drop(eventually(|| pool().acquire(&request)));
    }
    // Whoever looks takes away what it had listed.
    pool().reservations().expect("look");
}

#[test]
fn a_bound_socket_keeps_its_port_after_the_release() {
    let ports = acquire(Transports::Tcp, 2);
    let range = ports.range();
    let listener = ports.tcp_listener(Ipv4Addr::LOCALHOST.into());
    let listener = listener.expect("listen");
    ports.release().expect("release");
    TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let error = pool().acquire(&specific(Transports::Tcp, range));
    assert_eq!(error.expect_err("in use").refusal(), Some(Refusal::InUse));
    let other = (Ipv4Addr::LOCALHOST, range.last().number());
    eventually(|| TcpListener::bind(other));
}

#[test]
fn a_reservation_on_a_socket_ends_with_its_token() {
    let range = free_range(3);
    let owner = socket(Transport::Udp, Domain::IPV6);
    let want = Want::Specific(range);
    let block = eventually(|| pool().acquire_on(&owner, &want, Scope::Associated));
    assert_eq!((block.transport, block.range), (Transport::Udp, range));
    let tcp = socket(Transport::Tcp, Domain::IPV6);
    let error = pool().release_on(&tcp, block.token).expect_err("TCP");
    assert_eq!(error.refusal(), Some(Refusal::WrongTransport));
    let other = socket(Transport::Udp, Domain::IPV4);
    pool().release_on(&other, block.token).expect("release");
    let error = pool().release_on(&other, block.token).expect_err("twice");
    assert_eq!(error.refusal(), Some(Refusal::UnknownToken));
    drop(eventually(|| {
        pool().acquire(&specific(Transports::Udp, range))
    }));
}

mod as_root {
    use crate::kit::command;

    #[test]
    fn every_test_here_passes_without_any_capability() {
        let again = command("--skip", "none");
        let mut sandbox = std::process::Command::new("unshare");
        let script = "ip link set lo up && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
                      --inh-caps=-all --bounding-set=-all \"$@\"";
        sandbox
            .args(["-n", "sh", "-c", script, "sh"])
            .arg(again.get_program())
            .args(["--skip", "as_root"])
            .env_remove("PORTPOOL_ROLE")
            .env_remove("XDG_RUNTIME_DIR")
            .env("HOME", "/nonexistent");
        let output = sandbox.output().expect("start this program again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("consume::"), "{text}");
    }
}
