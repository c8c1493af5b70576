//! The client against a service of a few lines.

use std::{
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use portpool_core::{PortRange, Refusal, Transport};
use portpool_varlink::{
    Call, CallError, Client, Connection, ConnectionError, Fault, Peer, Reply,
    calls::{Acquire, EntryKind, Lookup},
    netns_cookie,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_call_is_answered_or_refused() {
    let service = Service::start(|mut connection| {
        let call = next(&mut connection);
        assert_eq!(call.method, "io.portpool.Lookup");
        let said = Value::Object(call.parameters.unwrap());
        let wanted = json!({ "transport": "udp", "range": { "first": 5000, "count": 20 } });
        assert_eq!(said, wanted);
        answer(&mut connection, &json!({ "token": "00000000c0ffee00" }));
        next(&mut connection);
        let fault = Fault::refused(Refusal::InUse, "5000-5019 (udp): taken");
        let reply = Reply {
            error: Some(fault.name().to_owned()),
            parameters: Some(fault.parameters()),
            continues: false,
        };
        connection.send(&reply, &[], soon()).unwrap();
    });
    let mut client = service.client();
    let named = client.call(&lookup(), Some(LONG)).unwrap();
    assert_eq!(named.token.value(), 0xc0ff_ee00);
    let error = client.call(&lookup(), Some(LONG)).unwrap_err();
    assert_eq!(error.fault().unwrap().refusal(), Some(Refusal::InUse));
    assert_eq!(error.to_string(), "5000-5019 (udp): taken");
}

#[test]
fn a_pending_call_is_polled_waited_on_and_answered_once() {
    let (go, wait_for_it) = std::sync::mpsc::channel();
    let service = Service::start(move |mut connection| {
        next(&mut connection);
        wait_for_it.recv().unwrap();
        answer(
            &mut connection,
            &json!({ "range": { "first": 40_000, "count": 2 }, "deadline": 7 }),
        );
        next(&mut connection);
        answer(&mut connection, &json!({ "token": "0000000000000001" }));
    });
    let mut pending = service.client().start(&acquire()).unwrap();
    assert_eq!(pending.poll().unwrap(), None);
    assert_eq!(pending.wait(Some(Duration::from_millis(20))).unwrap(), None);
    go.send(()).unwrap();
    let mut fds = [PollFd::new(&pending, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1));
    let granted = pending.poll().unwrap().expect("readable");
    assert_eq!(
        (granted.range.to_string().as_str(), granted.deadline),
        ("40000-40001", Some(7))
    );
    assert_eq!(pending.poll().unwrap(), None);
    let mut client = pending.into_client().expect("answered");
    assert_eq!(client.call(&lookup(), Some(LONG)).unwrap().token.value(), 1);
}

#[test]
fn a_pending_call_that_is_cancelled_disconnects() {
    let (seen, wait_for_it) = std::sync::mpsc::channel();
    let service = Service::start(move |mut connection| {
        next(&mut connection);
        assert!(!connection.is_gone());
        seen.send(()).unwrap();
        let answer = connection.receive(Some(soon()), LONG);
        assert!(matches!(answer, Err(ConnectionError::Closed)));
        assert!(connection.is_gone());
    });
    let pending = service.client().start(&acquire()).unwrap();
    wait_for_it.recv().unwrap();
    pending.cancel();
}

#[test]
fn a_call_without_an_answer_times_out() {
    let service = Service::start(|mut connection| {
        next(&mut connection);
        drop(connection.receive(Some(soon()), LONG));
    });
    let mut client = service.client();
    let error = client
        .call(&lookup(), Some(Duration::from_millis(20)))
        .unwrap_err();
    assert!(
        matches!(error, CallError::Connection(ConnectionError::TimedOut)),
        "{error}"
    );
}

#[test]
fn a_timeout_beyond_all_times_is_none() {
    let service = Service::start(|mut connection| {
        next(&mut connection);
        answer(&mut connection, &json!({ "token": "0000000000000001" }));
        next(&mut connection);
        answer(&mut connection, &json!({ "token": "0000000000000002" }));
    });
    let mut client = service.client();
    let named = client.call(&lookup(), Some(Duration::MAX)).unwrap();
    assert_eq!(named.token.value(), 1);
    let mut pending = client.start(&lookup()).unwrap();
    let named = pending.wait(Some(Duration::MAX)).unwrap();
    assert_eq!(named.expect("an answer").token.value(), 2);
}

#[test]
fn events_come_one_after_the_other() {
    let service = Service::start(|mut connection| {
        assert!(next(&mut connection).more);
        answer(&mut connection, &json!({ "events": [], "lost": 0 }));
        let range = json!({ "first": 8080, "count": 1 });
        let event = json!({
            "what": "born", "time": 1, "tenure": "runtime", "transport": "tcp", "range": range,
            "token": "00000000c0ffee00", "uid": 0, "pid": 1, "command": "init",
        });
        answer(&mut connection, &json!({ "events": [event], "lost": 3 }));
        drop(connection.receive(Some(soon()), LONG));
    });
    let mut stream = service.client().watch(Some(LONG)).unwrap();
    let happened = stream.next(Some(LONG)).unwrap().expect("events");
    assert_eq!((happened.lost, happened.events.len()), (3, 1));
    assert_eq!(happened.events[0].transport, Transport::Tcp);
    assert_eq!(stream.next(Some(Duration::from_millis(20))).unwrap(), None);
}

#[test]
fn pages_are_put_together() {
    let service = Service::start(|mut connection| {
        let entry = |first: u16| json!({ "kind": "exclusion", "transport": "tcp", "range": { "first": first, "count": 1 } });
        assert_eq!(next(&mut connection).parameters.unwrap().get("after"), None);
        answer(
            &mut connection,
            &json!({ "entries": [entry(1), entry(2)], "next": "2" }),
        );
        assert_eq!(next(&mut connection).parameters.unwrap()["after"], "2");
        answer(&mut connection, &json!({ "entries": [entry(3)] }));
    });
    let entries = service.client().list(Some(LONG)).unwrap();
    let firsts = entries.iter().map(|it| it.range.first().number());
    assert_eq!(firsts.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entries[0].kind, EntryKind::Exclusion);
}

#[test]
fn without_a_keeper_the_next_step_is_named() {
    let error = Client::connect("/nonexistent/keeper.sock".as_ref(), LONG).unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/keeper.sock"),
        "{error}"
    );
    assert!(error.to_string().contains("`portpool keeper`"), "{error}");
}

#[test]
fn a_keeper_that_does_not_accept_is_not_waited_for_longer_than_told() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keeper.sock");
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    );
    let socket = socket.unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let mut connected = Vec::new();
    let error = loop {
        match Client::connect(&path, Duration::from_millis(20)) {
            Ok(client) => connected.push(client),
            Err(error) => break error,
        }
        assert!(connected.len() < 10);
    };
    assert!(error.to_string().contains("try again"), "{error}");
}

#[test]
fn the_peer_of_a_connection_is_who_connected() {
    let service = Service::start(|connection| {
        let peer = Peer::of(&connection).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert!(peer.is_in_group(rustix::process::getegid().as_raw()));
        assert!(peer.lives());
        let cookie = netns_cookie(&connection).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(netns_cookie(&socket).unwrap(), cookie);
    });
    drop(service.client());
}

/// Something that listens and treats one connection as told; its failures are the test's.
struct Service {
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(serve: impl FnOnce(Connection) + Send + 'static) -> Service {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("keeper.sock")).unwrap();
        let thread = thread::spawn(move || {
            let (stream, _): (UnixStream, _) = listener.accept().unwrap();
            serve(Connection::new(stream.into()));
        });
        Service {
            folder,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        let path: PathBuf = self.folder.path().join("keeper.sock");
        let client = Client::connect(&path, LONG).unwrap();
        assert!(netns_cookie(&client.as_fd()).is_ok());
        client
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the service failed");
        }
    }
}

fn next(connection: &mut Connection) -> Call {
    let received = connection.receive(Some(soon()), LONG).unwrap();
    serde_json::from_slice(&received.text).unwrap()
}

fn answer(connection: &mut Connection, parameters: &Value) {
    let reply = json!({ "parameters": parameters });
    connection.send(&reply, &[], soon()).unwrap();
}

fn lookup() -> Lookup {
    Lookup {
        transport: Transport::Udp,
        range: range("5000-5019"),
    }
}

fn acquire() -> Acquire {
    Acquire {
        wait_ms: Some(60_000),
        ..Acquire::exactly("tcp".parse().unwrap(), range("40000-40001"))
    }
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}

const LONG: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + LONG
}
