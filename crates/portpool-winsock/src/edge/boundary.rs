//! Where C ends: no panic gets out, and an error is a number of the thread.

use std::{
    cell::Cell,
    ffi::c_int,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::memory::Bytes;
use crate::{choices, codes::Code};

thread_local! {
    static LAST_ERROR: Cell<i32> = const { Cell::new(0) };
}

pub(crate) fn set_last_error(number: i32) {
    LAST_ERROR.with(|last| last.set(number));
}

pub(crate) fn last_error() -> i32 {
    LAST_ERROR.with(Cell::get)
}

/// The answer of `work`, or the error that stands for a bug in it.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, Code>) -> Result<T, Code> {
    // What a panic leaves behind is behind locks, which are taken whether poisoned or not.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(choices::CAUGHT_PANIC))
}

/// As [`guard`]; an error becomes the thread's last and the answer is `failed`.
pub(crate) fn answer<T>(failed: T, work: impl FnOnce() -> Result<T, Code>) -> T {
    guard(work).unwrap_or_else(|code| {
        set_last_error(code.number());
        failed
    })
}

/// 0, or SOCKET_ERROR and the thread's last error.
pub(crate) fn status(work: impl FnOnce() -> Result<(), Code>) -> c_int {
    answer(SOCKET_ERROR, || work().map(|()| 0))
}

/// TRUE, or FALSE and the thread's last error.
pub(crate) fn truth(work: impl FnOnce() -> Result<(), Code>) -> c_int {
    answer(0, || work().map(|()| 1))
}

/// 0, or SOCKET_ERROR and the code where the caller wants it: the thread's last error stays.
pub(crate) fn told(target: Bytes, work: impl FnOnce() -> Result<(), Code>) -> c_int {
    answer_told(SOCKET_ERROR, target, || work().map(|()| 0))
}

/// As [`answer`], with the code where the caller wants it.
pub(crate) fn answer_told<T>(
    failed: T,
    target: Bytes,
    work: impl FnOnce() -> Result<T, Code>,
) -> T {
    guard(work).unwrap_or_else(|code| {
        // Who gives no place for the code has no use for it.
        let _ = target.write(&code.number().to_ne_bytes());
        failed
    })
}

pub(crate) const SOCKET_ERROR: c_int = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_at_the_edge() {
        set_last_error(0);
        assert_eq!(status(|| panic!("a bug")), SOCKET_ERROR);
        assert_eq!(last_error(), choices::CAUGHT_PANIC.number());
        assert_eq!(status(|| Err(Code::INVAL)), SOCKET_ERROR);
        assert_eq!(last_error(), Code::INVAL.number());
        // Success leaves the last error alone.
        assert_eq!(status(|| Ok(())), 0);
        assert_eq!(last_error(), Code::INVAL.number());
    }
}
