//! What went wrong last, for each thread.

use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int},
};

use portpool::Refusal;

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { text: None, refusal: 0 }) };
}

struct Last {
    text: Option<CString>,
    refusal: c_int,
}

/// Remembers a failure of the calling thread.
pub(super) fn set(text: &str, refusal: Option<Refusal>) {
    let text = CString::new(text.replace('\0', " ")).ok();
    let refusal = refusal.map_or(0, |refusal| c_int::from(refusal.number()));
    // A thread that is ending has nobody left to ask.
    let _ = LAST.try_with(|last| *last.borrow_mut() = Last { text, refusal });
}

/// The sentence, never null.
#[unsafe(no_mangle)]
pub(super) extern "C" fn portpool_last_error() -> *const c_char {
    let text = LAST.try_with(|last| last.borrow().text.as_ref().map(|text| text.as_ptr()));
    text.ok().flatten().unwrap_or(EMPTY.as_ptr())
}

/// The number of the refusal, or 0.
#[unsafe(no_mangle)]
pub(super) extern "C" fn portpool_last_refusal() -> c_int {
    LAST.try_with(|last| last.borrow().refusal).unwrap_or(0)
}

/// The name of a refusal, or null.
#[unsafe(no_mangle)]
pub(super) extern "C" fn portpool_refusal_name(refusal: c_int) -> *const c_char {
    let number = u16::try_from(refusal).ok();
    match number.and_then(Refusal::from_number) {
        Some(refusal) => name(refusal).as_ptr(),
        None => std::ptr::null(),
    }
}

/// [`Refusal::name`] with the zero byte that C needs; a test compares them.
pub(super) const fn name(refusal: Refusal) -> &'static CStr {
    match refusal {
        Refusal::InUse => c"in-use",
        Refusal::NoRoom => c"no-room",
        Refusal::Ephemeral => c"ephemeral",
        Refusal::PrivilegedPort => c"privileged-port",
        Refusal::ForeignToken => c"foreign-token",
        Refusal::UnknownToken => c"unknown-token",
        Refusal::DuplicateToken => c"duplicate-token",
        Refusal::WrongTransport => c"wrong-transport",
        Refusal::AlreadyBound => c"already-bound",
        Refusal::OutsideBlock => c"outside-block",
        Refusal::Stranger => c"stranger",
        Refusal::UidLimit => c"uid-limit",
        Refusal::SharedLimit => c"shared-limit",
        Refusal::SocketLimit => c"socket-limit",
        Refusal::PoolFull => c"pool-full",
        Refusal::NoMemory => c"no-memory",
        Refusal::NotAncestor => c"not-ancestor",
        Refusal::UnsupportedSocket => c"unsupported-socket",
        Refusal::BadRequest => c"bad-request",
        Refusal::Busy => c"busy",
        Refusal::VersionMismatch => c"version-mismatch",
        Refusal::NotAttached => c"not-attached",
        Refusal::NotPermitted => c"not-permitted",
        Refusal::NoSuchBlock => c"no-such-block",
        Refusal::Persistent => c"persistent",
    }
}

const EMPTY: &CStr = c"";
