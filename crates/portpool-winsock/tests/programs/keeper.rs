//! A keeper that does what a test tells it, by files in the run directory.
//!
//! Asked for a block that starts at P it makes the file `asked-P`. When there is a file `grant-P` it makes
//! the ports grantable and says so, with `refuse-P` it refuses; when the asker hangs up first, it makes
//! the file `gone-P`. Persistent blocks it installs in the pool at once, and puts nothing on record.

use std::{
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, Scope},
    time::{Duration, Instant},
};

use portpool::{PortRange, Refusal, Transport, Transports};
use portpool_testkit::Arena;
use portpool_varlink::{
    Call, Connection, Fault, Reply,
    calls::{Acquire, Method, Persist, Unpersist},
};
use serde_json::{Value, json};

/// Runs `work` while the keeper listens in the arena.
pub(crate) fn with_keeper(arena: &Arena, work: impl FnOnce()) {
    let listener = UnixListener::bind(arena.run().path().join("keeper.sock")).expect("listen");
    listener.set_nonblocking(true).expect("do not block");
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !has_ended.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => serve(scope, arena, OwnedFd::from(stream), &has_ended),
                    Err(_) => pause(),
                }
            }
        });
        // Also when `work` fails, or the scope would wait for ever.
        let _end = End(&has_ended);
        work();
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn serve<'scope>(
    scope: &'scope Scope<'scope, '_>,
    arena: &'scope Arena,
    socket: OwnedFd,
    has_ended: &'scope AtomicBool,
) {
    scope.spawn(move || {
        let mut connection = Connection::new(socket);
        while !has_ended.load(Ordering::Acquire) {
            if connection.is_gone() {
                return;
            }
            match connection.try_receive() {
                Ok(Some(received)) => {
                    let call: Call = serde_json::from_slice(&received.text).expect("a call");
                    let said = Value::Object(call.parameters.unwrap_or_default());
                    let reply = match call.method.as_str() {
                        Acquire::NAME => {
                            assert_eq!(received.descriptors.len(), 1, "a socket comes along");
                            let acquire: Acquire = serde_json::from_value(said).expect("acquire");
                            decide(
                                arena,
                                &connection,
                                acquire.range.expect("a range"),
                                has_ended,
                            )
                        }
                        _ => Some(administer(arena, &call.method, said)),
                    };
                    // Before the answer, as the keeper does: a reservation lives as long as any copy of
                    // its owner socket.
                    drop(received);
                    let Some(reply) = reply else { return };
                    // The asker may hang up at any moment.
                    drop(connection.send(&reply, &[], Instant::now() + LONG));
                }
                Ok(None) => pause(),
                Err(_) => return,
            }
        }
    });
}

fn decide(
    arena: &Arena,
    connection: &Connection,
    range: PortRange,
    has_ended: &AtomicBool,
) -> Option<Reply> {
    let file = |what: &str| arena.run().path().join(format!("{what}-{}", range.first()));
    touch(&file("asked"));
    while !has_ended.load(Ordering::Acquire) {
        if file("grant").exists() {
            make_grantable(arena, range);
            let value = json!({ "range": { "first": range.first().number(), "count": range.count().number() } });
            return Some(Reply {
                parameters: value.as_object().cloned(),
                ..Reply::default()
            });
        }
        if file("refuse").exists() {
            let fault = Fault::refused(Refusal::InUse, "taken");
            return Some(Reply {
                error: Some(fault.name().to_owned()),
                parameters: Some(fault.parameters()),
                ..Reply::default()
            });
        }
        if connection.is_gone() {
            touch(&file("gone"));
            return None;
        }
        pause();
    }
    None
}

/// Persistent blocks, without a record on disk.
fn administer(arena: &Arena, method: &str, said: Value) -> Reply {
    let pool = arena.pool();
    let done = match method {
        Persist::NAME => {
            let persist: Persist = serde_json::from_value(said).expect("persist");
            let token = pool.new_persistent_token().expect("a token");
            let transport = only(persist.transports);
            let (range, group) = (persist.range, persist.group);
            let install = || pool.install_persistent(transport, range, token, group);
            let installed = install().or_else(|error| match error.refusal() {
                Some(Refusal::Ephemeral) => {
                    make_grantable(arena, range);
                    install()
                }
                _ => Err(error),
            });
            let block = json!({ "transport": transport.to_string(), "token": token.to_string() });
            installed.map(|()| json!({ "blocks": [block] }))
        }
        Unpersist::NAME => {
            let unpersist: Unpersist = serde_json::from_value(said).expect("unpersist");
            pool.remove_persistent(only(unpersist.transports), unpersist.range)
                .map(|()| json!({}))
        }
        other => panic!("called {other}"),
    };
    match done {
        Ok(value) => Reply {
            parameters: value.as_object().cloned(),
            ..Reply::default()
        },
        Err(error) => {
            let fault = match error.refusal() {
                Some(Refusal::NoSuchBlock) => Fault::NotFound("no such block".to_owned()),
                Some(refusal) => Fault::refused(refusal, error.to_string()),
                None => Fault::Failed(error.to_string()),
            };
            Reply {
                error: Some(fault.name().to_owned()),
                parameters: Some(fault.parameters()),
                ..Reply::default()
            }
        }
    }
}

/// Winsock names one with each call.
fn only(transports: Transports) -> Transport {
    let mut each = transports.iter();
    let first = each.next().expect("a transport");
    assert_eq!(each.next(), None);
    first
}

fn make_grantable(arena: &Arena, range: PortRange) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().expect("lock");
    // In one go: the kernel gives nothing to a second read.
    let mut before = vec![0; 1 << 16];
    let file = fs::File::open(RESERVED).and_then(|mut file| file.read(&mut before));
    before.truncate(file.expect("read the sysctl"));
    let before = String::from_utf8(before).expect("text");
    let (first, last) = (range.first(), range.last());
    fs::write(RESERVED, format!("{},{first}-{last}", before.trim())).expect("write the sysctl");
    arena.attach();
}

fn touch(path: &Path) {
    fs::write(path, "").expect("make a file");
}

#[expect(
    clippy::disallowed_methods,
    reason = "polls a condition, which has a deadline elsewhere"
)]
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const LONG: Duration = Duration::from_secs(60);
