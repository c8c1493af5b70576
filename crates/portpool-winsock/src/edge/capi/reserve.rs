//! Reserving, and what a reservation has.

use std::{
    ffi::c_int,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use portpool::{
    Alignment, PortCount, PortRange, Reservation, Scope, Transport, Transports, Want, Wildcard,
};

use super::{
    boundary::{answer, place, shared},
    open::Handle,
    types::{self, CBlock, Request},
    wrong::Wrong,
};

/// Reserves ports.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `request` is null or valid for reading; `reservation` is
/// null or valid for writing.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_acquire(
    pool: *mut Handle,
    request: *const Request,
    reservation: *mut *mut Reservation,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let (handle, request) = unsafe { (shared(pool, "pool")?, shared(request, "request")?) };
        // SAFETY: the caller's promise.
        let place = unsafe { place(reservation, "reservation") }?;
        let (want, scope) = parse(request)?;
        let transports = types::transports(request.transports).ok_or_else(|| {
            let text = format!(
                "transports {}: pass PORTPOOL_TCP, PORTPOOL_UDP or PORTPOOL_BOTH",
                request.transports
            );
            Wrong::argument(text)
        })?;
        let wanted = portpool::Request { transports, want };
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let granted = handle.pool.acquire_timeout(&wanted, scope, timeout)?;
        place.put(Box::into_raw(Box::new(granted)));
        Ok(0)
    })
}

/// Gives ports back.
///
/// # Safety
/// `reservation` is null, or came from `portpool_acquire` and is not used again.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_release(reservation: *mut Reservation) -> c_int {
    if reservation.is_null() {
        return 0;
    }
    answer(|| {
        // SAFETY: a handle is a box that `portpool_acquire` gave away, and this is its last use.
        let reservation = unsafe { Box::from_raw(reservation) };
        reservation.release()?;
        Ok(0)
    })
}

/// The ports of one transport.
///
/// # Safety
/// `reservation` is null or came from `portpool_acquire`; `block` is null or valid for writing.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_block(
    reservation: *const Reservation,
    transport: u32,
    block: *mut CBlock,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let reservation = unsafe { shared(reservation, "reservation") }?;
        // SAFETY: the caller's promise.
        let place = unsafe { place(block, "block") }?;
        let transport = one_transport(transport)?;
        let block = reservation.block(transport);
        place.put(
            block
                .ok_or_else(|| has_none(reservation, transport))?
                .into(),
        );
        Ok(0)
    })
}

/// The owner socket of one transport.
///
/// # Safety
/// `reservation` is null or came from `portpool_acquire`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_owner_socket(
    reservation: *const Reservation,
    transport: u32,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let reservation = unsafe { shared(reservation, "reservation") }?;
        let transport = one_transport(transport)?;
        let mut sockets = reservation.owner_sockets();
        let found: Option<(Transport, BorrowedFd<'_>)> = sockets.find(|(it, _)| *it == transport);
        match found {
            Some((_, socket)) => Ok(socket.as_raw_fd()),
            None => Err(has_none(reservation, transport)),
        }
    })
}

/// What a request asks for, and for whom.
pub(super) fn parse(request: &Request) -> Result<(Want, Scope), Wrong> {
    if request.size as usize != size_of::<Request>() {
        let text = format!(
            "a request of {} bytes: start from PORTPOOL_REQUEST_INIT",
            request.size
        );
        return Err(Wrong::argument(text));
    }
    if request.reserved != 0 || request.flags & !(types::TREE | types::ZERO_FROM_BLOCK) != 0 {
        return Err(Wrong::argument(
            "a request with an unknown flag: this version knows PORTPOOL_TREE and \
             PORTPOOL_ZERO_FROM_BLOCK only",
        ));
    }
    Ok((want(request)?, scope(request)?))
}

fn want(request: &Request) -> Result<Want, Wrong> {
    let count = PortCount::new(request.count)
        .ok_or_else(|| Wrong::argument("a request for 0 ports: ask for at least 1"))?;
    let has_choice = request.align != 0 || request.within_first != 0 || request.within_count != 0;
    if request.first != 0 {
        if has_choice {
            return Err(Wrong::argument(format!(
                "a request for port {} on leaves no choice: set `first` to 0, or `align` and `within` \
                 to 0",
                request.first
            )));
        }
        let range = PortRange::from_numbers(request.first, request.count);
        return range
            .map(Want::Specific)
            .map_err(|error| Wrong::argument(error.to_string()));
    }
    let within = match (request.within_first, request.within_count) {
        (0, 0) => None,
        (first, count) => {
            let range = PortRange::from_numbers(first, count);
            Some(range.map_err(|error| Wrong::argument(format!("within: {error}")))?)
        }
    };
    Ok(Want::Wildcard(Wildcard {
        count,
        alignment: Alignment::new(request.align).unwrap_or_default(),
        within,
    }))
}

fn scope(request: &Request) -> Result<Scope, Wrong> {
    if request.flags & types::TREE != 0 {
        return Ok(Scope::Tree {
            root: (request.tree_root != 0).then_some(request.tree_root),
            zero_from_block: request.flags & types::ZERO_FROM_BLOCK != 0,
        });
    }
    if request.flags != 0 || request.tree_root != 0 {
        return Err(Wrong::argument(
            "a tree root, or port 0 from the block, without a tree: set PORTPOOL_TREE",
        ));
    }
    Ok(Scope::Associated)
}

pub(super) fn one_transport(number: u32) -> Result<Transport, Wrong> {
    types::transport(number).ok_or_else(|| {
        Wrong::argument(format!(
            "transport {number}: pass PORTPOOL_TCP or PORTPOOL_UDP"
        ))
    })
}

fn has_none(reservation: &Reservation, transport: Transport) -> Wrong {
    let range = reservation.range();
    let text = match reservation.block(transport) {
        None => format!("the reservation of {range} has no {transport} ports"),
        Some(_) => {
            format!("{range} is held by this process: the embedded pool has no owner socket")
        }
    };
    Wrong::new(libc::ENOENT, text)
}

/// Whether a request of `portpool_acquire_on` names the socket's own transport, or none.
pub(super) fn is_of(request: &Request, transport: Transport) -> bool {
    request.transports == 0
        || types::transports(request.transports) == Some(Transports::from(transport))
}
