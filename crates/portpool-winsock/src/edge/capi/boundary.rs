//! What comes in over the C interface, checked once.

use std::{
    ffi::c_int,
    mem::size_of,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::BorrowedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use super::wrong::Wrong;

/// Runs the body of a function. No panic reaches C: it is a bug of ours, and answers `ENOTRECOVERABLE`.
pub(super) fn answer(body: impl FnOnce() -> Result<c_int, Wrong>) -> c_int {
    // Nothing of the caller's is left half changed: bodies write through pointers last.
    let done = catch_unwind(AssertUnwindSafe(body));
    let done = done.unwrap_or_else(|_| {
        let text = "a bug in portpool, please report it: standard error has the message";
        Err(Wrong::new(libc::ENOTRECOVERABLE, text))
    });
    done.unwrap_or_else(Wrong::answer)
}

/// What a pointer points to.
///
/// # Safety
/// The pointer is null, or valid for `'a` as a shared reference.
pub(super) unsafe fn shared<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Wrong> {
    // SAFETY: null gives none; else the caller of this function vouches for it.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// A place to put the answer, which the caller need not have initialised.
///
/// # Safety
/// The pointer is null, or valid for writing a `T`.
pub(super) unsafe fn place<T>(pointer: *mut T, name: &str) -> Result<Place<T>, Wrong> {
    match pointer.is_null() {
        true => Err(null(name)),
        false => Ok(Place(pointer)),
    }
}

/// A place to put the answer.
pub(super) struct Place<T>(*mut T);

impl<T> Place<T> {
    pub(super) fn put(self, value: T) {
        // SAFETY: `place`, the only maker, was promised that the pointer is valid for writing a `T`;
        // what was there before is not dropped, it may be uninitialised.
        unsafe { ptr::write(self.0, value) }
    }
}

/// A descriptor of the caller's.
///
/// # Safety
/// The caller does not close it during the call.
pub(super) unsafe fn descriptor<'a>(number: c_int) -> Result<BorrowedFd<'a>, Wrong> {
    // SAFETY: F_GETFD only looks at the descriptor table, whatever the number.
    let is_open = number >= 0 && unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    if !is_open {
        let text = format!("descriptor {number} is not open: pass a socket");
        return Err(Wrong::new(libc::EBADF, text));
    }
    // SAFETY: it is open and not -1, and the caller of this function keeps it open.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// An address as `bind(2)` takes it.
///
/// # Safety
/// The pointer is null, or valid for reading `size` bytes.
pub(super) unsafe fn address(
    address: *const libc::sockaddr,
    size: u32,
) -> Result<SocketAddr, Wrong> {
    if address.is_null() {
        return Err(null("address"));
    }
    let size = size as usize;
    let short = || {
        let text = format!("an address of {size} bytes is too short: pass the size of its struct");
        Wrong::argument(text)
    };
    if size < size_of::<libc::sa_family_t>() {
        return Err(short());
    }
    // SAFETY: there are at least as many bytes as the family has, at the start of every address; any
    // bytes are a family, and nothing is said of the alignment.
    let family = unsafe { ptr::read_unaligned(address.cast::<libc::sa_family_t>()) };
    match c_int::from(family) {
        libc::AF_INET if size < size_of::<libc::sockaddr_in>() => Err(short()),
        libc::AF_INET => {
            // SAFETY: there are at least as many bytes, and any bytes are a `sockaddr_in`.
            let it = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(u32::from_be(it.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(it.sin_port)).into())
        }
        libc::AF_INET6 if size < size_of::<libc::sockaddr_in6>() => Err(short()),
        libc::AF_INET6 => {
            // SAFETY: there are at least as many bytes, and any bytes are a `sockaddr_in6`.
            let it = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            let ip = Ipv6Addr::from(it.sin6_addr.s6_addr);
            let port = u16::from_be(it.sin6_port);
            Ok(SocketAddrV6::new(ip, port, it.sin6_flowinfo, it.sin6_scope_id).into())
        }
        other => {
            let text = format!("address family {other}: pass AF_INET or AF_INET6");
            Err(Wrong::new(libc::EAFNOSUPPORT, text))
        }
    }
}

pub(super) fn null(name: &str) -> Wrong {
    Wrong::argument(format!("`{name}` is null: pass where it is"))
}
