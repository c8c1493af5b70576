//! The fuzz target of the calls.

use portpool_varlink::{
    Call, Fault,
    calls::{
        Acquire, Describe, Exclude, List, Lookup, Method, Persist, Release, Unexclude, Unpersist,
        Watch,
    },
};

use super::{
    MetricsAddress, administration::parse_note, grants::Request, keeper::cursor, limits::WAIT_MAX,
    session::parse,
};
use crate::store::Note;

/// A call's parameters are those of its method or one of them is named; and what they ask for is a
/// request that fits, whose wait has a limit.
pub fn calls(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(address) = text.parse::<MetricsAddress>()
    {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    let Ok(call) = serde_json::from_slice::<Call>(bytes) else {
        return;
    };
    if let Some(asked) = parsed::<Acquire>(&call) {
        check_acquire(&asked);
    }
    let persist = parsed::<Persist>(&call).map(|it| it.note);
    let exclude = parsed::<Exclude>(&call).map(|it| it.note);
    for note in [persist, exclude].into_iter().flatten() {
        match parse_note(note.as_deref()) {
            Ok(read) => assert_eq!(read.as_ref().map(Note::text), note.as_deref()),
            Err(fault) => assert_eq!(fault, Fault::InvalidParameter("note".to_owned())),
        }
    }
    if let Some(List { after: Some(after) }) = parsed(&call) {
        let _ = cursor(&after);
    }
    parsed::<Describe>(&call);
    parsed::<Lookup>(&call);
    parsed::<Release>(&call);
    parsed::<Unexclude>(&call);
    parsed::<Unpersist>(&call);
    parsed::<Watch>(&call);
}

fn parsed<M: Method>(call: &Call) -> Option<M> {
    match parse(call.clone()) {
        Ok(parameters) => Some(parameters),
        Err(Fault::InvalidParameter(_)) => None,
        Err(fault) => panic!("{fault:?}"),
    }
}

fn check_acquire(asked: &Acquire) {
    match Request::parse(asked) {
        Ok(request) => {
            assert!(request.wait <= WAIT_MAX);
            assert!((1..=131_070).contains(&request.charge()));
            assert!(!request.to_string().is_empty());
        }
        Err(Fault::InvalidParameter(name)) => {
            assert!(["range", "count", "alignment", "within"].contains(&&*name));
        }
        Err(fault) => panic!("{fault:?}"),
    }
}
