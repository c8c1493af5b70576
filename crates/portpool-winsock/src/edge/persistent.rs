//! The six functions of persistent blocks. Their answer is the code; the thread's last error stays.

use portpool::{Token, Transport};

use super::{boundary::guard, memory::Bytes};
use crate::{choices, codes::Code, engine::persistent};

#[unsafe(no_mangle)]
unsafe extern "C" fn CreatePersistentTcpPortReservation(
    first: u16,
    count: u16,
    token: *mut u64,
) -> u32 {
    // SAFETY: the caller lets this function write the token.
    unsafe {
        named(token, || {
            persistent::create(Transport::Tcp, port(first), count)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn CreatePersistentUdpPortReservation(
    first: u16,
    count: u16,
    token: *mut u64,
) -> u32 {
    // SAFETY: the caller lets this function write the token.
    unsafe {
        named(token, || {
            persistent::create(Transport::Udp, port(first), count)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn LookupPersistentTcpPortReservation(
    first: u16,
    count: u16,
    token: *mut u64,
) -> u32 {
    // SAFETY: the caller lets this function write the token.
    unsafe {
        named(token, || {
            persistent::lookup(Transport::Tcp, port(first), count)
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn LookupPersistentUdpPortReservation(
    first: u16,
    count: u16,
    token: *mut u64,
) -> u32 {
    // SAFETY: the caller lets this function write the token.
    unsafe {
        named(token, || {
            persistent::lookup(Transport::Udp, port(first), count)
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn DeletePersistentTcpPortReservation(first: u16, count: u16) -> u32 {
    number(|| persistent::delete(Transport::Tcp, port(first), count))
}

#[unsafe(no_mangle)]
extern "C" fn DeletePersistentUdpPortReservation(first: u16, count: u16) -> u32 {
    number(|| persistent::delete(Transport::Udp, port(first), count))
}

/// # Safety
/// The caller lets this function write the token.
unsafe fn named(token: *mut u64, work: impl FnOnce() -> Result<Token, Code>) -> u32 {
    // SAFETY: as the caller says.
    let target = unsafe { Bytes::new(token, size_of::<u64>()) };
    number(|| {
        target.probe::<8>().map_err(|_| choices::NO_TOKEN_POINTER)?;
        target.write(&work()?.value().to_ne_bytes())
    })
}

fn number(work: impl FnOnce() -> Result<(), Code>) -> u32 {
    guard(work).map_or_else(|code| code.number().unsigned_abs(), |()| 0)
}

/// From network order.
fn port(first: u16) -> u16 {
    u16::from_be(first)
}
