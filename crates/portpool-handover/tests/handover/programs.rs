//! Real servers: each serves on its port, is alone there, and leaves it free.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use portpool_testkit::programs::{PROGRAMS, Program, Reload};
use rustix::process::Signal;

use crate::stage::{Run, Stage, Who, has, page, until};

#[test]
fn every_program_serves_a_loopback_address_without_a_gap() {
    each(Who::Nobody, "127.0.0.1", |_| &["pin"]);
}

#[test]
fn every_program_serves_every_address_by_a_technique_that_is_reported() {
    each(Who::Nobody, "0.0.0.0", |program| match program.name {
        // It tries loopback addresses and port 0 first, to see what the machine can.
        "go" => &["pin", "window"],
        // It takes that for every address of both families.
        "java" => &["swap"],
        _ => &["window"],
    });
}

#[test]
fn python_serves_port_zero_of_the_block() {
    if has("python3") {
        let stage = Stage::new(Who::Nobody);
        let program = ["python3", "-m", "http.server", "--bind=127.0.0.1", "0"];
        let run = stage.run(&["tcp"], &program);
        assert_eq!(serves(run), ["pin"]);
    }
}

#[test]
fn node_serves_every_kind_of_address() {
    if has("node") {
        node(Who::Nobody, "'127.0.0.1'", &["pin"]);
        // Both families: what it gets is the guard itself.
        node(Who::Nobody, "'::'", &["swap"]);
        node(Who::Nobody, "'0.0.0.0'", &["window"]);
    }
}

#[test]
fn redis_serves_both_families() {
    if has("redis-server") {
        redis(Who::Nobody, &["pin"]);
    }
}

mod as_root {
    use super::*;

    #[test]
    fn every_program_of_root_takes_a_detour_to_every_address() {
        each(Who::Me, "0.0.0.0", |program| match program.shares_port {
            // Who joins has to listen on the device of the first.
            true => &["detour", "window"],
            false => &["detour"],
        });
        each(Who::Me, "127.0.0.1", |program| match program.shares_port {
            true => &["pin"],
            false => &["detour"],
        });
    }

    #[test]
    fn one_capability_is_enough_for_a_detour() {
        if has("node") {
            node(Who::Me, "'::'", &["detour"]);
            node(Who::NetRaw, "'0.0.0.0'", &["detour"]);
        }
        if has("redis-server") {
            redis(Who::Me, &["detour"]);
        }
    }
}

/// Each program of the table serves, through its reload if it has one, and leaves its port free.
fn each(who: Who, ip: &str, ways: impl Fn(&Program) -> &'static [&'static str]) {
    for program in PROGRAMS.iter().filter(|it| it.is_installed()) {
        let stage = Stage::new(who);
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        program.prepare(stage.path(), ip, &cache);
        let line = program.command(stage.path(), ip, "{1}");
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let mut run = stage.run(&["tcp"], &line);
        let port = run.port();
        assert_eq!(run.line(), port.to_string());
        let what = format!("{} on {ip}", program.name);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_alone(port, &what);
        let orders = [Some("start"), program.reload.map(Reload::order)];
        for order in orders.into_iter().flatten() {
            run.order(order);
            for _ in 0..5 {
                until(&what, || program.answers(address));
            }
            assert_alone(port, &format!("{what} after {order}"));
        }
        run.order("stop");
        let ways = ways(program);
        if ways.contains(&"swap") {
            // Its socket was the guard: the port is held again a moment after its end.
            let address = (Ipv6Addr::UNSPECIFIED, port);
            until("the port is held", || TcpListener::bind(address).is_err());
        }
        assert_alone(port, &format!("{what} at its end"));
        assert_eq!(run.end().ways(), ways, "{what}");
        until("the port is free", || {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
        });
    }
}

fn node(who: Who, address: &str, ways: &[&str]) {
    let stage = Stage::new(who);
    let script =
        format!("require('http').createServer((q, a) => a.end('hello')).listen({{1}}, {address})");
    let run = stage.run(&["tcp"], &["node", "-e", &script]);
    assert_eq!(serves(run), ways, "{address}");
}

fn redis(who: Who, ways: &[&str]) {
    let stage = Stage::new(who);
    let program = [
        "redis-server",
        "--port",
        "{1}",
        "--bind",
        "127.0.0.1",
        "::1",
        "--save",
        "",
    ];
    let mut run = stage.run(&["tcp"], &program);
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(ip, run.port());
        until("redis", || TcpStream::connect(address).is_ok());
    }
    assert_alone(run.port(), "redis");
    run.stop_program(Signal::TERM);
    assert_eq!(run.end().ways(), ways);
}

/// The server answers, nobody gets in beside it, and with its end the port is free.
fn serves(mut run: Run) -> Vec<String> {
    let port = run.port();
    let page = page(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert!(page.contains("200 OK"), "{page}");
    assert_alone(port, "server");
    run.stop_program(Signal::TERM);
    let report = run.end();
    until("the port is free", || {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
    });
    report.ways().into_iter().map(str::to_owned).collect()
}

fn assert_alone(port: u16, what: &str) {
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        // With SO_REUSEADDR, as std has it.
        assert!(
            TcpListener::bind((ip, port)).is_err(),
            "{what}: {ip}:{port}"
        );
    }
    for ip in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        assert!(
            TcpListener::bind((ip, port)).is_err(),
            "{what}: {ip}:{port}"
        );
    }
}
