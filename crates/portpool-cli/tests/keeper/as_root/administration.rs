//! What outlives a process: who may change it, and what everybody is told.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::{net::UnixStream, process::CommandExt},
    process::{Command, Stdio},
};

use portpool::{PortRange, Transport, Transports};
use portpool_testkit::{Arena, in_arena};
use portpool_varlink::{
    Fault,
    calls::{Acquire, EntryKind, Exclude, Lookup, Persist, Tenure, Unexclude, Unpersist, What},
};
use serde_json::{Value, json};

use crate::kit::{Keeper, LONG, until};

#[test]
fn a_persistent_block_is_made_found_and_deleted_through_the_keeper() {
    in_arena!(|arena: &Arena| {
        let mut keeper = Keeper::start(arena);
        let mut client = keeper.client();
        let made = client.call(&persist("45000-45003"), Some(LONG)).unwrap();
        let named = client.call(&lookup("45000-45003"), Some(LONG)).unwrap();
        assert_eq!(made.blocks.len(), 1);
        assert_eq!(named.token, made.blocks[0].token);
        let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 45001)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        let overlap = client
            .call(&persist("45003-45004"), Some(LONG))
            .unwrap_err();
        let refusal = overlap.fault().unwrap().refusal();
        assert_eq!(refusal, Some(portpool::Refusal::InUse), "{overlap}");
        let part = client.call(&lookup("45000"), Some(LONG)).unwrap_err();
        assert!(matches!(part.fault(), Some(Fault::NotFound(_))), "{part}");
        // It outlives the keeper, and the next one has it on record.
        assert!(keeper.stop().success());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, 45001)).is_err());
        let keeper = Keeper::start(arena);
        let mut client = keeper.client();
        let entries = client.list(Some(LONG)).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].kind, EntryKind::Persistent);
        assert_eq!(entries[0].note.as_deref(), Some("for a test"));
        assert_eq!(entries[0].token, Some(named.token));
        let delete = Unpersist {
            transports: Transports::Tcp,
            range: range("45000-45003"),
        };
        client.call(&delete, Some(LONG)).unwrap();
        let again = client.call(&delete, Some(LONG)).unwrap_err();
        assert!(matches!(again.fault(), Some(Fault::NotFound(_))), "{again}");
        TcpListener::bind((Ipv4Addr::LOCALHOST, 45001)).unwrap();
    });
}

#[test]
fn an_exclusion_keeps_reservations_away_until_it_ends() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut client = keeper.client();
        let transports = Transports::Both;
        let exclude = Exclude {
            transports,
            range: range("45000-45003"),
            note: Some("for a printer".to_owned()),
        };
        client.call(&exclude, Some(LONG)).unwrap();
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, 45001)).unwrap());
        let acquire = Acquire {
            wait_ms: Some(60_000),
            ..Acquire::exactly(Transports::Tcp, range("45003-45004"))
        };
        let refused = client.call(&acquire, Some(LONG)).unwrap_err();
        let refusal = refused.fault().unwrap().refusal();
        assert_eq!(refusal, Some(portpool::Refusal::InUse), "{refused}");
        let listed = client.list(Some(LONG)).unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|it| (it.kind, it.note.as_deref()))
            .collect();
        assert_eq!(listed, [(EntryKind::Exclusion, Some("for a printer")); 2]);
        let end = Unexclude {
            transports,
            range: range("45000-45003"),
        };
        client.call(&end, Some(LONG)).unwrap();
        client.call(&acquire, Some(LONG)).unwrap();
    });
}

#[test]
fn only_root_and_the_group_administer_and_everybody_looks() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start_with(arena, &["--group", "7001"], &[]);
        let text = |call: &str| {
            let transport = if call == "Lookup" {
                "transport"
            } else {
                "transports"
            };
            json!({ "method": format!("io.portpool.{call}"), "parameters": {
            transport: "tcp", "range": { "first": 45_000, "count": 4 } } })
            .to_string()
        };
        let exclude = json!({ "method": "io.portpool.Exclude", "parameters": { "transports": "tcp",
            "range": { "first": 46_000, "count": 1 }, "note": "for a printer" } });
        let list = json!({ "method": "io.portpool.List" }).to_string();
        let (stranger, member) = ((7000, 7000), (7000, 7001));
        let refused = ask_as(&keeper, stranger, &text("Persist"));
        assert_eq!(refused["error"], "io.portpool.NotAllowed", "{refused}");
        let made = ask_as(&keeper, member, &text("Persist"));
        let token = &made["parameters"]["blocks"][0]["token"];
        assert!(token.is_string(), "{made}");
        let found = ask_as(&keeper, stranger, &text("Lookup"));
        assert_eq!(&found["parameters"]["token"], token);
        // Notes are of the records, which are root's.
        ask_as(&keeper, member, &exclude.to_string());
        for (who, note) in [(stranger, Value::Null), (member, json!("for a printer"))] {
            let listed = ask_as(&keeper, who, &list);
            let excluded = &listed["parameters"]["entries"][1];
            assert_eq!(excluded["kind"], "exclusion", "{listed}");
            assert_eq!(excluded["note"], note, "{listed}");
        }
        let refused = ask_as(&keeper, stranger, &text("Unpersist"));
        assert_eq!(refused["error"], "io.portpool.NotAllowed", "{refused}");
        // Root in a user namespace of its own is no root here.
        let mut elsewhere = asking(&keeper, &text("Unpersist"));
        let refused = answer_of(
            Command::new("unshare")
                .args(["-U", "-r"])
                .arg(elsewhere.get_program())
                .args(elsewhere.get_args()),
        );
        assert_eq!(refused["error"], "io.portpool.NotAllowed", "{refused}");
        let capless = ["--bounding-set=-net_admin", "--inh-caps=-net_admin"];
        let refused = answer_of(
            Command::new("setpriv")
                .args(capless)
                .arg(elsewhere.get_program())
                .args(elsewhere.get_args()),
        );
        assert_eq!(refused["error"], "io.portpool.NotAllowed", "{refused}");
        let deleted = answer_of(&mut elsewhere);
        assert_eq!(deleted["error"], Value::Null, "{deleted}");
    });
}

#[test]
fn who_is_in_another_network_namespace_is_refused_with_the_reason() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let text = json!({ "method": "io.portpool.Acquire", "parameters": {
            "transports": "tcp", "range": { "first": 45_000, "count": 4 } } })
        .to_string();
        let inside = asking(&keeper, &text);
        let refused = answer_of(
            Command::new("unshare")
                .arg("-n")
                .arg(inside.get_program())
                .args(inside.get_args()),
        );
        assert_eq!(refused["error"], "io.portpool.OtherNamespace", "{refused}");
        let granted = answer_of(&mut asking(&keeper, &text));
        assert_eq!(granted["parameters"]["range"]["first"], 45_000, "{granted}");
    });
}

#[test]
fn births_and_deaths_are_told_and_logged_once() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut stream = keeper.client().watch(Some(LONG)).unwrap();
        let request = portpool::Request {
            transports: Transports::Udp,
            want: portpool::Want::Specific(range("20000-20003")),
        };
        let block = arena.pool().acquire(&request).unwrap();
        let token = block.blocks()[0].token;
        drop(block);
        let mut events = Vec::new();
        while events.len() < 2 {
            let happened = stream.next(Some(LONG)).unwrap().expect("events");
            assert_eq!(happened.lost, 0);
            events.extend(happened.events);
        }
        assert_eq!((events[0].what, events[0].token), (What::Born, token));
        assert_eq!(
            (events[0].pid, events[0].tenure),
            (std::process::id(), Tenure::Runtime)
        );
        assert_eq!(events[0].range, range("20000-20003"));
        assert_ne!(events[1].what, What::Born);
        until("both are logged", || {
            keeper.log().contains(&format!(
                "reservation {}",
                if events[1].what == What::Closed {
                    "closed"
                } else {
                    "released"
                }
            ))
        });
        let lines: Vec<String> = keeper
            .log()
            .lines()
            .filter(|line| line.contains(&token.to_string()))
            .map(str::to_owned)
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("reservation born range=20000-20003 transport=udp"),
            "{}",
            lines[0]
        );
    });
}

/// Who detaches and attaches again, as to update, does not have to think of the keeper.
#[test]
fn births_and_deaths_are_told_of_a_pool_that_was_attached_anew_meanwhile() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut stream = keeper.client().watch(Some(LONG)).unwrap();
        portpool_kernel::detach(arena.run(), true).unwrap();
        arena.attach();
        until("the keeper has seen it", || {
            keeper.log().contains("attached anew")
        });
        let request = portpool::Request {
            transports: Transports::Tcp,
            want: portpool::Want::Specific(range("45000-45003")),
        };
        let block = arena.pool().acquire(&request).unwrap();
        let token = block.blocks()[0].token;
        drop(block);
        let mut events = Vec::new();
        while events.len() < 2 {
            let happened = stream.next(Some(LONG)).unwrap().expect("events");
            events.extend(happened.events);
        }
        let told: Vec<_> = events.iter().map(|it| (it.what, it.token)).collect();
        assert_eq!(told[0], (What::Born, token));
        assert_eq!((told.len(), told[1].1), (2, token));
        until("both are logged", || {
            keeper.log().matches(&token.to_string()).count() == 2
        });
    });
}

#[test]
fn metrics_tell_what_the_pool_is_like() {
    in_arena!(|arena: &Arena| {
        let path = arena.run().path().join("metrics.sock");
        let address = format!("unix:{}", path.display());
        let keeper = Keeper::start_with(arena, &["--metrics", &address], &[]);
        let mut client = keeper.client();
        client.call(&persist("45000-45003"), Some(LONG)).unwrap();
        let request = portpool::Request {
            transports: Transports::Tcp,
            want: portpool::Want::Specific(range("20000-20004")),
        };
        let _block = arena.pool().acquire(&request).unwrap();
        arena.pool().acquire(&request).unwrap_err();
        TcpListener::bind((Ipv4Addr::LOCALHOST, 20001)).unwrap_err();
        let text = scrape(&path);
        for line in [
            "portpool_reservations{transport=\"tcp\",tenure=\"runtime\"} 1",
            "portpool_reservations{transport=\"tcp\",tenure=\"persistent\"} 1",
            "portpool_ports{transport=\"tcp\",state=\"reserved\"} 9",
            "portpool_reserved_ports{transport=\"tcp\",uid=\"0\"} 9",
            "portpool_claims_total 1",
            "portpool_claim_conflicts_total 1",
            "portpool_refusals_total{operation=\"acquire\",reason=\"in-use\"} 1",
            "portpool_refusals_total{operation=\"bind\",reason=\"stranger\"} 1",
            "portpool_store_seconds_count 1",
            "portpool_keeper_queue 0",
            "portpool_keeper_calls_total{method=\"io.portpool.Persist\",result=\"ok\"} 1",
            "portpool_pool_readable 1",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
        // Counters go on, and do not begin anew with each reader.
        assert!(scrape(&path).contains("portpool_claims_total 1\n"));
    });
}

fn scrape(path: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: portpool\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A program of another language that says one thing to the keeper and prints the answer.
fn asking(keeper: &Keeper, call: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    let program = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        s.sendall(sys.argv[2].encode() + b'\\0')\n\
        answer = b''\n\
        while not answer.endswith(b'\\0'):\n    \
            part = s.recv(65536)\n    \
            if not part: break\n    \
            answer += part\n\
        print(answer.rstrip(b'\\0').decode())\n";
    command.args(["-c", program]).arg(keeper.socket()).arg(call);
    command
}

fn ask_as(keeper: &Keeper, (uid, gid): (u32, u32), call: &str) -> Value {
    answer_of(asking(keeper, call).uid(uid).gid(gid))
}

fn answer_of(command: &mut Command) -> Value {
    let output = command
        .stdout(Stdio::piped())
        .output()
        .expect("start python3");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command:?}: {error}: {text:?}"))
}

fn persist(text: &str) -> Persist {
    Persist {
        transports: Transports::Tcp,
        range: range(text),
        group: None,
        note: Some("for a test".to_owned()),
    }
}

fn lookup(text: &str) -> Lookup {
    Lookup {
        transport: Transport::Tcp,
        range: range(text),
    }
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}
