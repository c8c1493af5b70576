//! Real servers: each serves on its port, is alone there, and leaves it free.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use rustix::process::Signal;

use crate::stage::{Run, Stage, Who, has, page, until};

#[test]
fn python_serves_a_fixed_port() {
    if has("python3") {
        python(Who::Nobody, "--bind=127.0.0.1", &["pin"]);
        python(Who::Nobody, "--bind=0.0.0.0", &["window"]);
    }
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

#[test]
fn nginx_serves_through_reload() {
    if has("nginx") {
        nginx(Who::Nobody, "127.0.0.1:{1}", &["pin"]);
        nginx(Who::Nobody, "127.0.0.1:{1} reuseport", &["pin"]);
        nginx(Who::Nobody, "{1}", &["window"]);
    }
}

mod as_root {
    use super::*;

    #[test]
    fn the_servers_work_for_root_and_take_detours() {
        if has("python3") {
            python(Who::Me, "--bind=0.0.0.0", &["detour"]);
            python(Who::Me, "--bind=::", &["detour"]);
        }
        if has("node") {
            node(Who::Me, "'::'", &["detour"]);
            node(Who::NetRaw, "'0.0.0.0'", &["detour"]);
        }
        if has("redis-server") {
            redis(Who::Me, &["detour"]);
        }
        if has("nginx") {
            nginx(Who::Me, "{1}", &["detour"]);
            nginx(Who::Me, "127.0.0.1:{1} reuseport", &["pin"]);
            // The second worker has to listen on the device of the first.
            nginx(Who::Me, "{1} reuseport", &["detour", "window"]);
        }
    }
}

fn python(who: Who, bind: &str, ways: &[&str]) {
    let stage = Stage::new(who);
    let run = stage.run(&["tcp"], &["python3", "-m", "http.server", bind, "{1}"]);
    assert_eq!(serves(run), ways, "{bind}");
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
    assert_alone(run.port());
    run.stop_program(Signal::TERM);
    assert_eq!(run.end().ways(), ways);
}

fn nginx(who: Who, listen: &str, ways: &[&str]) {
    let stage = Stage::new(who);
    let folder = stage.path().display().to_string();
    let user = if who == Who::Me { "user root;" } else { "" };
    let text = format!(
        "daemon off; pid {folder}/pid; error_log stderr; worker_processes 2; {user}
         events {{}}
         http {{
             access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
             fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
             server {{ listen {listen}; return 200 hello; }}
         }}"
    );
    // The port is known only to the program's arguments.
    fs::write(stage.path().join("template"), text.replace("{1}", "PORT")).expect("write");
    let script = format!(
        "sed s/PORT/{{1}}/ {folder}/template >{folder}/conf && exec nginx -p {folder} -c {folder}/conf"
    );
    let mut run = stage.run(&["tcp"], &["sh", "-c", &script]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, run.port()));
    assert!(page(address).ends_with("hello"));
    run.stop_program(Signal::HUP);
    for _ in 0..20 {
        assert!(page(address).ends_with("hello"));
        assert_alone(run.port());
    }
    run.stop_program(Signal::TERM);
    assert_eq!(run.end().ways(), ways, "{listen}");
}

/// The server answers, nobody gets in beside it, and with its end the port is free.
fn serves(mut run: Run) -> Vec<String> {
    let port = run.port();
    let page = page(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert!(page.contains("200 OK"), "{page}");
    assert_alone(port);
    run.stop_program(Signal::TERM);
    let report = run.end();
    until("the port is free", || {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
    });
    report.ways().into_iter().map(str::to_owned).collect()
}

fn assert_alone(port: u16) {
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        // With SO_REUSEADDR, as std has it.
        assert!(TcpListener::bind((ip, port)).is_err(), "{ip}:{port}");
    }
    for ip in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        assert!(TcpListener::bind((ip, port)).is_err(), "{ip}:{port}");
    }
}
