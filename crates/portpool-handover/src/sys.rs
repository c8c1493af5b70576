//! The system calls that have no safe wrapper elsewhere. The only folder with unsafe code; nothing
//! is decided here.
#![expect(
    unsafe_code,
    reason = "seccomp, its notifications, pre_exec and some socket options have no safe wrapper"
)]

pub(crate) mod filter;
pub(crate) mod interfaces;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod options;
