//! What comes over the keeper's socket, from either side.

use std::{
    io::Write,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use portpool_varlink::{
    Call, CallError, Client, Connection, ConnectionError, Fault, Frames, MESSAGE_SIZE_MAX, Reply,
    ServiceAnswer, ServiceCard,
    calls::{
        Acquire, Describe, Exclude, List, Lookup, Method, Persist, Release, Unexclude, Unpersist,
        Watch,
    },
};
use serde_json::{Map, Value};

/// Whatever arrives: it is cut into messages at each NUL, however it came in pieces; each is a call, a
/// reply or malformed; and what is read is written as something that reads the same. The first byte says
/// how it is cut.
pub fn varlink(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let size = match cut {
        0 => 8_192,
        cut => usize::from(*cut),
    };
    let messages = check_frames(bytes, size);
    for message in messages {
        check_call(&message);
        check_reply(&message);
    }
    // A caller whose keeper answers this, in as many pieces as the kernel makes of it.
    if bytes.len() <= SOCKET_SIZE {
        check_caller::<Describe>(bytes, &Describe {});
        check_caller::<List>(bytes, &List { after: None });
        check_watcher(bytes);
    }
}

fn check_frames(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::default();
    let mut rest = bytes;
    let mut messages = Vec::new();
    let is_whole = loop {
        match frames.pop() {
            Ok(Some(message)) => {
                assert!(message.len() <= MESSAGE_SIZE_MAX);
                messages.push(message);
                continue;
            }
            Err(_) => break false,
            Ok(None) => {}
        }
        if rest.is_empty() {
            break true;
        }
        let size = size.min(rest.len()).min(frames.room());
        frames.push(&rest[..size]).expect("there is room");
        rest = &rest[size..];
    };
    let mut naive = bytes.split(|byte| *byte == 0);
    assert!(messages.iter().all(|it| naive.next() == Some(it)));
    if is_whole {
        let end = naive.next().unwrap_or_default();
        assert_eq!((naive.next(), frames.is_empty()), (None, end.is_empty()));
    }
    messages
}

fn check_call(message: &[u8]) {
    let Ok(call) = serde_json::from_slice::<Call>(message) else {
        return;
    };
    let text = serde_json::to_vec(&call).expect("a call can be written");
    let again = serde_json::from_slice::<Call>(&text).expect("and read");
    assert_eq!(again.method, call.method);
    match CARD.answer(&call) {
        Ok(ServiceAnswer::Method(name)) => assert_eq!(format!("io.portpool.{name}"), call.method),
        Ok(ServiceAnswer::Reply(said)) => assert!(!said.is_empty()),
        Err(fault) => check_fault(&fault),
    }
    let said = Value::Object(call.parameters.unwrap_or_default());
    check_parameters::<Acquire>(&said);
    check_parameters::<Describe>(&said);
    check_parameters::<Exclude>(&said);
    check_parameters::<List>(&said);
    check_parameters::<Lookup>(&said);
    check_parameters::<Persist>(&said);
    check_parameters::<Release>(&said);
    check_parameters::<Unexclude>(&said);
    check_parameters::<Unpersist>(&said);
    check_parameters::<Watch>(&said);
}

/// Parameters and replies of a method: what is read is written as what is read.
fn check_parameters<M: Method>(said: &Value) {
    if let Ok(parameters) = serde_json::from_value::<M>(said.clone()) {
        check_written::<M>(&parameters);
    }
    if let Ok(reply) = serde_json::from_value::<M::Reply>(said.clone()) {
        check_written::<M::Reply>(&reply);
    }
}

fn check_written<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) {
    let text = serde_json::to_value(value).expect("it can be written");
    let again: T = serde_json::from_value(text.clone()).expect("and read");
    assert_eq!(serde_json::to_value(&again).expect("and written"), text);
}

fn check_reply(message: &[u8]) {
    let Ok(reply) = serde_json::from_slice::<Reply>(message) else {
        return;
    };
    let parameters: Map<String, Value> = reply.parameters.unwrap_or_default();
    check_fault(&Fault::from_wire(
        reply.error.unwrap_or_default(),
        parameters,
    ));
}

fn check_fault(fault: &Fault) {
    let again = Fault::from_wire(fault.name().to_owned(), fault.parameters());
    assert_eq!(&again, fault);
    assert_eq!(again.to_string(), fault.to_string());
}

/// A call that is answered like this ends, and not because it took too long.
fn check_caller<M: Method>(answer: &[u8], parameters: &M) {
    let (client, keeper) = answered(answer);
    let said = Client::on(client).call(parameters, Some(LONG));
    assert!(!is_timed_out(said.as_ref().err()), "{:?}", said.err());
    drop(keeper);
}

fn check_watcher(answer: &[u8]) {
    let (client, keeper) = answered(answer);
    if let Ok(mut stream) = Client::on(client).watch(Some(LONG)) {
        let start = Instant::now();
        while let Ok(Some(_)) = stream.next(Some(LONG)) {}
        assert!(start.elapsed() < LONG, "it waits for what is there");
    }
    drop(keeper);
}

/// A client's end, and a keeper's that has said all it will.
fn answered(answer: &[u8]) -> (Connection, UnixStream) {
    let (client, mut keeper) = UnixStream::pair().expect("a pair of sockets");
    keeper.write_all(answer).expect("it fits");
    keeper
        .shutdown(std::net::Shutdown::Write)
        .expect("shut down");
    (Connection::new(client.into()), keeper)
}

fn is_timed_out(error: Option<&CallError>) -> bool {
    matches!(
        error,
        Some(CallError::Connection(ConnectionError::TimedOut))
    )
}

/// Well below what fits into a socket that nobody reads from.
const SOCKET_SIZE: usize = 32 * 1024;
const LONG: Duration = Duration::from_secs(20);

const CARD: ServiceCard = ServiceCard {
    vendor: "portpool",
    product: "a target",
    version: "0",
    url: "https://varlink.org",
};

#[cfg(test)]
mod tests {
    use crate::exercise_slow;

    #[test]
    fn whatever_comes_over_the_keepers_socket_is_read_or_refused() {
        exercise_slow("varlink", super::varlink);
    }
}
