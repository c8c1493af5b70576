//! The codec over real sockets, with peers that behave and peers that do not.

use std::{
    fs::File,
    io::{IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
    time::{Duration, Instant},
};

use portpool_varlink::{Call, Connection, ConnectionError, DESCRIPTOR_COUNT_MAX, MESSAGE_SIZE_MAX};
use proptest::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

#[test]
fn a_call_arrives_as_it_was_sent_with_its_descriptors() {
    let (mut one, mut other) = pair();
    let null = File::open("/dev/null").unwrap();
    let call = json!({ "method": "a.b.C", "parameters": { "text": "x\u{0}y" }, "more": true });
    one.send(&call, &[null.as_fd(), null.as_fd()], soon())
        .unwrap();
    let received = other.receive(Some(soon()), LONG).unwrap();
    assert_eq!(received.descriptors.len(), 2);
    let call: Call = serde_json::from_slice(&received.text).unwrap();
    assert_eq!((call.method.as_str(), call.more), ("a.b.C", true));
    assert_eq!(call.parameters.unwrap()["text"], "x\u{0}y");
    assert!(is_close_on_exec(&received.descriptors[0]));
}

#[test]
fn a_message_of_64_kib_passes_and_one_byte_more_is_refused() {
    let (mut one, mut other) = pair();
    let sender = thread::spawn(move || {
        let text = "a".repeat(MESSAGE_SIZE_MAX - 2);
        one.send(&text, &[], soon()).unwrap();
        let refused = one.send(&format!("{text}a"), &[], soon());
        assert!(matches!(refused, Err(ConnectionError::TooLarge)));
    });
    let received = other.receive(Some(soon()), LONG).unwrap();
    assert_eq!(received.text.len(), MESSAGE_SIZE_MAX);
    sender.join().unwrap();

    let (mut stream, mut other) = raw();
    let sender = thread::spawn(move || {
        // The reader is gone before it has read all.
        drop(stream.write_all(&vec![b'a'; MESSAGE_SIZE_MAX + 1]));
    });
    let refused = other.receive(Some(soon()), LONG);
    assert!(matches!(refused, Err(ConnectionError::TooLarge)));
    drop(other);
    sender.join().unwrap();
}

#[test]
fn a_hundred_descriptors_are_refused_and_closed() {
    let (stream, mut other) = raw();
    let (probe, passed) = UnixStream::pair().unwrap();
    for count in [DESCRIPTOR_COUNT_MAX + 1, 100] {
        send_with(&stream, b"{\"method\":\"a.B\"}", &vec![&passed; count]);
        let refused = other.receive(Some(soon()), LONG);
        assert!(matches!(refused, Err(ConnectionError::TooManyDescriptors)));
    }
    drop(passed);
    // All copies are closed, for the other end of what was passed sees the end.
    probe
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(rustix::io::read(&probe, &mut [0; 1]), Ok(0));
}

#[test]
fn descriptors_add_up_over_the_reads_of_a_message() {
    let (stream, mut other) = raw();
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    for _ in 0..=DESCRIPTOR_COUNT_MAX {
        send_with(&stream, b"a", &[&null]);
    }
    let refused = other.receive(Some(soon()), LONG);
    assert!(matches!(refused, Err(ConnectionError::TooManyDescriptors)));
}

#[test]
fn descriptors_that_came_with_two_messages_are_nobodys() {
    let (stream, mut other) = raw();
    let null = OwnedFd::from(File::open("/dev/null").unwrap());
    send_with(&stream, b"{}\0{}\0", &[&null]);
    let refused = other.receive(Some(soon()), LONG);
    assert!(matches!(
        refused,
        Err(ConnectionError::AmbiguousDescriptors)
    ));
}

#[test]
fn a_peer_that_sends_a_byte_now_and_then_does_not_keep_a_reader() {
    let (mut stream, mut other) = raw();
    let stop = thread::spawn(move || {
        // Ends when the reader has given up.
        while stream.write_all(b" ").is_ok() {
            thread::yield_now();
        }
    });
    let start = Instant::now();
    let answer = other.receive(None, Duration::from_millis(50));
    // As fast as it writes, it may fill a message first.
    assert!(
        matches!(
            answer,
            Err(ConnectionError::TimedOut | ConnectionError::TooLarge)
        ),
        "{answer:?} after {:?}",
        start.elapsed()
    );
    drop(other);
    stop.join().unwrap();
}

#[test]
fn half_a_message_times_out_and_an_idle_peer_too() {
    let (mut stream, mut other) = raw();
    let idle = Instant::now() + Duration::from_millis(20);
    assert!(matches!(
        other.receive(Some(idle), LONG),
        Err(ConnectionError::TimedOut)
    ));
    stream.write_all(b"{\"method\"").unwrap();
    let answer = other.receive(None, Duration::from_millis(20));
    assert!(matches!(answer, Err(ConnectionError::TimedOut)));
    drop(stream);
    let answer = other.receive(None, LONG);
    assert!(matches!(answer, Err(ConnectionError::Truncated)));
}

#[test]
fn who_closes_between_messages_has_just_closed() {
    let (one, mut other) = pair();
    assert!(!other.is_gone());
    drop(one);
    assert!(other.is_gone());
    assert!(matches!(
        other.receive(None, LONG),
        Err(ConnectionError::Closed)
    ));
    let sent = other.send(&json!({}), &[], soon());
    assert!(matches!(sent, Err(ConnectionError::Closed)));
}

#[test]
fn a_peer_that_never_reads_ends_a_send_by_its_deadline() {
    let (one, mut other) = pair();
    let text = "a".repeat(MESSAGE_SIZE_MAX - 2);
    let deadline = Instant::now() + Duration::from_millis(50);
    let answer = loop {
        if let Err(error) = other.send(&text, &[], deadline) {
            break error;
        }
    };
    assert!(matches!(answer, ConnectionError::TimedOut));
    drop(one);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever bytes in whatever pieces with however many descriptors: an answer, never a panic, never
    /// more than a message in memory, and no descriptor left open.
    #[test]
    fn garbage_is_refused_or_read_and_leaves_no_descriptor_open(
        pieces in prop::collection::vec(
            (prop::collection::vec(prop_oneof![3 => Just(0_u8), 5 => any::<u8>(), 5 => Just(b'"')], 1..300), 0_usize..7),
            0..12,
        ),
    ) {
        let (stream, mut other) = raw();
        let (probe, passed) = UnixStream::pair().unwrap();
        for (bytes, count) in &pieces {
            send_with(&stream, bytes, &vec![&passed; *count]);
        }
        drop((stream, passed));
        loop {
            match other.receive(Some(soon()), LONG) {
                Ok(received) => {
                    prop_assert!(received.text.len() <= MESSAGE_SIZE_MAX);
                    prop_assert!(received.descriptors.len() <= DESCRIPTOR_COUNT_MAX);
                    let _: Result<Call, _> = serde_json::from_slice(&received.text);
                }
                Err(error) => {
                    prop_assert!(!matches!(error, ConnectionError::TimedOut), "{error}");
                    break;
                }
            }
        }
        drop(other);
        probe.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        prop_assert_eq!(rustix::io::read(&probe, &mut [0; 1]), Ok(0));
    }
}

const LONG: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + LONG
}

fn pair() -> (Connection, Connection) {
    let (one, other) = UnixStream::pair().unwrap();
    (Connection::new(one.into()), Connection::new(other.into()))
}

fn raw() -> (UnixStream, Connection) {
    let (one, other) = UnixStream::pair().unwrap();
    (one, Connection::new(other.into()))
}

fn send_with<F: AsFd>(stream: &UnixStream, bytes: &[u8], descriptors: &[&F]) {
    let borrowed: Vec<_> = descriptors.iter().map(|it| it.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(128))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    assert_eq!(sent, Ok(bytes.len()));
}

fn is_close_on_exec(descriptor: &OwnedFd) -> bool {
    let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
    flags.contains(rustix::io::FdFlags::CLOEXEC)
}
