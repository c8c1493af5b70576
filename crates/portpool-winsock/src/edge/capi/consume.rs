//! Sockets from a reservation.

use std::{
    ffi::{c_int, c_void},
    net::SocketAddr,
    os::fd::{BorrowedFd, IntoRawFd},
    slice,
};

use portpool::Reservation;

use super::{
    boundary::{address, answer, descriptor, null, shared},
    wrong::Wrong,
};

/// Ties a socket to the block of its transport.
///
/// # Safety
/// `reservation` is null or came from `portpool_acquire`; `socket` is not closed during the call.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_associate(
    reservation: *const Reservation,
    socket: c_int,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (reservation, socket) = unsafe { both(reservation, socket) }?;
        reservation.associate(&socket)?;
        Ok(0)
    })
}

/// Associates and binds a socket.
///
/// # Safety
/// As `portpool_associate`; `bind_to` is null or valid for reading `size` bytes.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_bind(
    reservation: *const Reservation,
    socket: c_int,
    bind_to: *const libc::sockaddr,
    size: u32,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (reservation, socket) = unsafe { both(reservation, socket) }?;
        // SAFETY: the caller's promise.
        let wanted = unsafe { address(bind_to, size) }?;
        reservation.bind(&socket, wanted)?;
        Ok(0)
    })
}

/// Listens on an associated socket.
///
/// # Safety
/// As `portpool_associate`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_listen(
    reservation: *const Reservation,
    socket: c_int,
    backlog: c_int,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (reservation, socket) = unsafe { both(reservation, socket) }?;
        reservation.listen(&socket, u32::try_from(backlog).unwrap_or(0))?;
        Ok(0)
    })
}

/// Sends a datagram from an associated socket.
///
/// # Safety
/// As `portpool_associate`; `data` is valid for reading `data_size` bytes, or null; `peer` is null or
/// valid for reading `peer_size` bytes.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_send_to(
    reservation: *const Reservation,
    socket: c_int,
    data: *const c_void,
    data_size: usize,
    peer: *const libc::sockaddr,
    peer_size: u32,
) -> isize {
    let mut sent = 0;
    let failed = answer(|| {
        // SAFETY: the caller's promise.
        let (reservation, socket) = unsafe { both(reservation, socket) }?;
        // SAFETY: the caller's promise.
        let peer = unsafe { address(peer, peer_size) }?;
        let data = match (data.is_null(), data_size) {
            (_, 0) => &[],
            (true, _) => return Err(null("data")),
            (false, size) if isize::try_from(size).is_err() => {
                return Err(Wrong::new(
                    libc::EMSGSIZE,
                    format!("a datagram of {size} bytes"),
                ));
            }
            // SAFETY: the caller's promise; not null, and no larger than any object can be.
            (false, size) => unsafe { slice::from_raw_parts(data.cast::<u8>(), size) },
        };
        sent = reservation.send_to(&socket, data, peer)?;
        Ok(0)
    });
    match failed {
        0 => isize::try_from(sent).unwrap_or(isize::MAX),
        number => number as isize,
    }
}

/// A new listener.
///
/// # Safety
/// `reservation` is null or came from `portpool_acquire`; `bind_to` is null or valid for reading `size`
/// bytes.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_tcp_listener(
    reservation: *const Reservation,
    bind_to: *const libc::sockaddr,
    size: u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        new_socket(reservation, bind_to, size, |reservation, address| {
            Ok(reservation.tcp_listener_on(address)?.into_raw_fd())
        })
    }
}

/// A new datagram socket.
///
/// # Safety
/// As `portpool_tcp_listener`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_udp_socket(
    reservation: *const Reservation,
    bind_to: *const libc::sockaddr,
    size: u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        new_socket(reservation, bind_to, size, |reservation, address| {
            Ok(reservation.udp_socket_on(address)?.into_raw_fd())
        })
    }
}

/// A new connection.
///
/// # Safety
/// As `portpool_tcp_listener`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_connect(
    reservation: *const Reservation,
    peer: *const libc::sockaddr,
    size: u32,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        new_socket(reservation, peer, size, |reservation, peer| {
            Ok(reservation.connect(peer)?.into_raw_fd())
        })
    }
}

/// # Safety
/// As `portpool_tcp_listener`.
unsafe fn new_socket(
    reservation: *const Reservation,
    where_to: *const libc::sockaddr,
    size: u32,
    make: impl FnOnce(&Reservation, SocketAddr) -> Result<c_int, Wrong>,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let reservation = unsafe { shared(reservation, "reservation") }?;
        // SAFETY: the caller's promise.
        let where_to = unsafe { address(where_to, size) }?;
        make(reservation, where_to)
    })
}

/// # Safety
/// As `portpool_associate`.
unsafe fn both<'a>(
    reservation: *const Reservation,
    socket: c_int,
) -> Result<(&'a Reservation, BorrowedFd<'a>), Wrong> {
    // SAFETY: the caller's promise.
    let reservation = unsafe { shared(reservation, "reservation") }?;
    // SAFETY: the caller's promise.
    let socket = unsafe { descriptor(socket) }?;
    Ok((reservation, socket))
}
