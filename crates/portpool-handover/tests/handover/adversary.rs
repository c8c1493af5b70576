//! Somebody outside spins on the port while a server starts and stops.

use portpool_testkit::Size;

use crate::stage::{Adversary, Stage, Who};

#[test]
fn nobody_gets_in_beside_a_loopback_server() {
    for ip in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert_gap_free(Who::Nobody, Who::Nobody, (ip, "tcp", "plain"), "pin", 3);
    }
}

#[test]
fn nobody_gets_in_beside_a_server_on_a_device_of_its_own() {
    let own = |ip, transport| (ip, transport, "device");
    assert_gap_free(
        Who::Nobody,
        Who::Nobody,
        own("0.0.0.0", "tcp"),
        "own-device",
        3,
    );
    assert_gap_free(Who::Nobody, Who::Nobody, own("::", "tcp"), "own-device", 3);
    assert_gap_free(
        Who::Nobody,
        Who::Nobody,
        own("0.0.0.0", "udp"),
        "own-device",
        3,
    );
}

#[test]
fn nobody_gets_in_beside_a_udp_server() {
    for ip in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
        assert_gap_free(Who::Nobody, Who::Nobody, (ip, "udp", "plain"), "detour", 3);
    }
}

#[test]
fn a_window_reports_itself() {
    // What the adversary gets depends on the moment; that there is one is what counts.
    measure_window(Who::Nobody, 1);
    measure_window(Who::Nobody, 3);
}

#[test]
fn who_shares_a_port_shares_it_with_its_own_user() {
    // What is won depends on the moment; it is no secret that it can be.
    let shared = ("127.0.0.1", "tcp", "reuseport");
    let fight = fight(Who::Nobody, Who::Nobody, shared, 3);
    println!("the same user beside servers that share a port: {fight:?}");
    assert_eq!((fight.failures, fight.ways.as_str()), (0, "pin"));
}

#[test]
fn nobody_gets_in_while_sockets_are_swapped() {
    let stage = Stage::new(Who::Nobody);
    let rounds = cycles() / 20;
    let script = format!(
        "read go; exec {} serve 0.0.0.0 {{1}} plain stay",
        stage.actor()
    );
    let mut tried = 0;
    for _ in 0..rounds {
        let mut run = stage.run(&["--twins", "tcp"], &["sh", "-c", &script]);
        let adversary = Adversary::start(&stage, Who::Nobody, run.port(), "tcp", 1);
        run.tell();
        assert_eq!([run.line(), run.line()], ["bind ok", "listen ok"]);
        assert_eq!(run.line(), "reached 1");
        let (tries, binds, listens) = adversary.end();
        tried += tries;
        assert_eq!((binds, listens), (0, 0));
        assert_eq!(run.end().ways(), ["swap"]);
    }
    assert!(tried >= u64::from(rounds), "{tried} tries");
    println!("swap: nobody in {rounds} hand-overs, {tried} tries");
}

mod as_root {
    use super::*;

    #[test]
    fn another_user_does_not_get_in_either() {
        assert_gap_free(
            Who::Nobody,
            Who::Me,
            ("127.0.0.1", "tcp", "plain"),
            "pin",
            1,
        );
        assert_gap_free(
            Who::Nobody,
            Who::Me,
            ("0.0.0.0", "udp", "plain"),
            "detour",
            3,
        );
        measure_window(Who::Me, 1);
    }

    /// As haproxy does: each next server binds beside the one before, which then ends. Sockets of the
    /// same uid with `SO_REUSEPORT` may join them, as without portpool.
    #[test]
    fn another_user_does_not_get_in_beside_servers_that_share_a_port() {
        for ip in ["127.0.0.1", "::1"] {
            let shared = (ip, "tcp", "reuseport");
            assert_gap_free(Who::Nobody, Who::Me, shared, "pin", 3);
            assert_gap_free(Who::NetRaw, Who::Me, shared, "pin", 3);
        }
        assert_gap_free(
            Who::Nobody,
            Who::Me,
            ("0.0.0.0", "udp", "reuseport"),
            "detour",
            3,
        );
    }

    #[test]
    fn nobody_gets_in_beside_a_wildcard_server_with_net_raw() {
        for (adversary, ip, flags) in [
            (Who::Nobody, "0.0.0.0", 3),
            (Who::Me, "0.0.0.0", 3),
            (Who::Nobody, "::", 1),
            (Who::Nobody, "127.0.0.1", 3),
            (Who::Nobody, "::1", 3),
        ] {
            assert_gap_free(
                Who::NetRaw,
                adversary,
                (ip, "tcp", "plain"),
                "detour",
                flags,
            );
        }
    }
}

/// An address, a transport, and how the server binds it.
type Server<'a> = (&'a str, &'a str, &'a str);

fn assert_gap_free(victim: Who, adversary: Who, server: Server<'_>, technique: &str, flags: u32) {
    let name = format!("{victim:?} {server:?} against {adversary:?} with {flags}");
    let mut tries = 0;
    // On a busy machine the adversary may sleep through a whole run of the server.
    while tries < u64::from(cycles()) {
        let fight = fight(victim, adversary, server, flags);
        println!("{name}: {fight:?}");
        let won = (fight.binds, fight.listens, fight.failures);
        assert_eq!(won, (0, 0, 0), "{name}");
        assert_eq!(fight.ways, technique, "{name}: {fight:?}");
        tries += fight.tries;
    }
}

fn measure_window(adversary: Who, flags: u32) {
    let fight = fight(Who::Nobody, adversary, ("0.0.0.0", "tcp", "plain"), flags);
    println!(
        "window, {} cycles against {adversary:?} with {flags}: {} binds and {} listens of others, \
         {} failures of the server",
        cycles(),
        fight.binds,
        fight.listens,
        fight.failures
    );
    assert_eq!(fight.ways, "window");
}

fn fight(victim: Who, adversary: Who, server: Server<'_>, flags: u32) -> Fight {
    let (ip, transport, how) = server;
    let stage = Stage::new(victim);
    let count = cycles().to_string();
    // Waits for a line, so that the adversary is at work when it starts.
    let script = format!(
        "read go; {} cycles {ip} {{1}} {transport} {count} {how}; read end",
        stage.actor()
    );
    let mut run = stage.run(&[transport], &["sh", "-c", &script]);
    let adversary = Adversary::start(&stage, adversary, run.port(), transport, flags);
    run.tell();
    // It goes on until the end of its standard input, and the port is held until then.
    let mut line = String::new();
    while !line.starts_with("cycles") {
        line = run.line();
        assert!(!line.is_empty(), "the server ended without a word");
    }
    let (tries, binds, listens) = adversary.end();
    let report = run.end();
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    Fight {
        tries,
        binds,
        listens,
        failures: number(3) + number(5),
        ways: report.ways().join(" "),
    }
}

#[derive(Debug)]
struct Fight {
    tries: u64,
    binds: u64,
    listens: u64,
    failures: u64,
    ways: String,
}

/// Starts and stops of the server: `cargo xtask test --long` does more.
fn cycles() -> u32 {
    Size::asked().pick(500, 10_000)
}
