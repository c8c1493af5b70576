//! The caller's own sockets, and reservations by their tokens.

use std::{ffi::c_int, os::fd::BorrowedFd};

use portpool::{Pool, Refusal, Token, Transport};

use super::{
    boundary::{address, answer, descriptor, place, shared},
    open::Handle,
    reserve::{is_of, parse},
    types::{CBlock, Request},
    wrong::{Wrong, of_call},
};

/// Reserves ports with the caller's socket as owner.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `request` is null or valid for reading; `block` is null
/// or valid for writing; `socket` is not closed during the call.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_acquire_on(
    pool: *mut Handle,
    socket: c_int,
    request: *const Request,
    block: *mut CBlock,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (handle, request) = unsafe { (shared(pool, "pool")?, shared(request, "request")?) };
        // SAFETY: the caller's promise.
        let place = unsafe { place(block, "block") }?;
        // SAFETY: the caller's promise.
        let socket = unsafe { descriptor(socket) }?;
        let (want, scope) = parse(request)?;
        if request.timeout_ms != 0 {
            let text = "timeout_ms: one socket does not wait, set it to 0 or use portpool_acquire";
            return Err(Wrong::argument(text));
        }
        if let Some(transport) = protocol(socket)
            && !is_of(request, transport)
        {
            let text = format!("the socket is {transport}: set `transports` to 0 or to its own");
            return Err(Wrong::argument(text));
        }
        place.put(handle.pool.acquire_on(&socket, &want, scope)?.into());
        Ok(0)
    })
}

/// Ends a reservation.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `socket` is not closed during the call.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_release_on(
    pool: *mut Handle,
    socket: c_int,
    token: u64,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (pool, socket) = unsafe { pool_and_socket(pool, socket) }?;
        pool.release_on(&socket, named(token)?)?;
        Ok(0)
    })
}

/// Ties a socket to a reservation.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `socket` is not closed during the call.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_associate_on(
    pool: *mut Handle,
    socket: c_int,
    token: u64,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (pool, socket) = unsafe { pool_and_socket(pool, socket) }?;
        pool.associate(&socket, named(token)?)?;
        Ok(0)
    })
}

/// Binds a socket.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `socket` is not closed during the call; `bind_to` is null
/// or valid for reading `size` bytes.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_bind_on(
    pool: *mut Handle,
    socket: c_int,
    bind_to: *const libc::sockaddr,
    size: u32,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (pool, socket) = unsafe { pool_and_socket(pool, socket) }?;
        // SAFETY: the caller's promise.
        let wanted = unsafe { address(bind_to, size) }?;
        let bound = pool.bind(&socket, wanted);
        bound.map_err(|error| of_call(&format!("bind {wanted}"), &error))?;
        Ok(0)
    })
}

/// Listens on a socket.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `socket` is not closed during the call.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_listen_on(
    pool: *mut Handle,
    socket: c_int,
    backlog: c_int,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (pool, socket) = unsafe { pool_and_socket(pool, socket) }?;
        let listening = pool.listen(&socket, u32::try_from(backlog).unwrap_or(0));
        listening.map_err(|error| of_call("listen", &error))?;
        Ok(0)
    })
}

/// # Safety
/// As of every function here.
unsafe fn pool_and_socket<'a>(
    pool: *const Handle,
    socket: c_int,
) -> Result<(&'a Pool, BorrowedFd<'a>), Wrong> {
    // SAFETY: the caller's promise.
    let handle = unsafe { shared(pool, "pool") }?;
    // SAFETY: the caller's promise.
    let socket = unsafe { descriptor(socket) }?;
    Ok((&handle.pool, socket))
}

/// Token 0 names no reservation.
fn named(token: u64) -> Result<Token, Wrong> {
    Token::new(token).ok_or_else(|| {
        let text = format!("token 0: {}", Refusal::UnknownToken);
        Wrong::argument(text)
    })
}

/// The transport of a socket, if it has one that the pool knows.
fn protocol(socket: BorrowedFd<'_>) -> Option<Transport> {
    let protocol = rustix::net::sockopt::socket_protocol(socket).ok()??;
    let number = u8::try_from(protocol.as_raw().get()).ok()?;
    Transport::from_protocol(number)
}
