//! Consuming: sockets of this process on ports of its blocks, by the rules of the kernel pool.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use portpool_core::{Port, Refusal, Token, Transport};
use rustix::net::{SocketType, ipproto, sockopt};
use socket2::Socket;

use super::{
    held::{Held, Slot},
    look, passage,
    roster::{release, roster},
};
use crate::{
    error::{AssociateError, BindError, Failure, ReleaseError},
    socket::{is_bound, transport_of},
};

/// Ties an unbound socket to a block of this process.
pub(crate) fn associate(socket: BorrowedFd<'_>, token: Token) -> Result<(), AssociateError> {
    let refused = |refusal| Err(AssociateError::Refused { token, refusal });
    let Some(transport) = served_transport(socket) else {
        return Err(AssociateError::UnsupportedSocket);
    };
    let held = roster().find(token);
    let Some(held) = held.filter(|held| held.is_own()) else {
        return refused(absent(socket, token));
    };
    if transport != held.block.transport {
        return refused(Refusal::WrongTransport);
    }
    if is_bound(socket) {
        return refused(Refusal::AlreadyBound);
    }
    let cookie = sockopt::socket_cookie(socket);
    let cookie = cookie.map_err(|error| Failure::of("getsockopt")(error.into()))?;
    roster().associate(cookie, token);
    Ok(())
}

/// Ends a reservation of this process by its name.
pub(crate) fn release_token(socket: BorrowedFd<'_>, token: Token) -> Result<(), ReleaseError> {
    let refused = |refusal| Err(ReleaseError::Refused { token, refusal });
    let Some(transport) = served_transport(socket) else {
        return refused(Refusal::UnsupportedSocket);
    };
    let held = roster().find(token);
    match held.filter(|held| held.is_own()) {
        None => refused(absent(socket, token)),
        Some(held) if transport != held.block.transport => refused(Refusal::WrongTransport),
        Some(held) => {
            release(&held);
            Ok(())
        }
    }
}

/// The block that a socket is associated with, or its token if that was released.
pub(crate) fn associated(socket: BorrowedFd<'_>) -> Option<Result<Arc<Held>, Token>> {
    let cookie = sockopt::socket_cookie(socket).ok()?;
    let roster = roster();
    let token = roster.association(cookie)?;
    Some(roster.find(token).ok_or(token))
}

/// Binds a socket to a port of the block, for port 0 to the lowest that is free.
pub(crate) fn bind(
    held: &Held,
    socket: &Socket,
    address: SocketAddr,
    is_strict: bool,
) -> Result<(), BindError> {
    let bind = Bind {
        held,
        socket,
        address,
    };
    if !held.is_own() {
        return Err(bind.refused(Refusal::ForeignToken));
    }
    if is_bound(socket.as_fd()) {
        let again = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(bind.failed(again));
    }
    let mut slots = held.slots();
    if slots.is_empty() {
        return Err(bind.refused(Refusal::NoRoom));
    }
    let technique = passage::technique_of(held.block.transport, address.ip(), socket);
    if is_strict && !technique.is_gap_free() {
        return Err(BindError::Window { address });
    }
    match Port::new(address.port()) {
        Some(port) => match slots.iter_mut().find(|slot| slot.port() == port) {
            Some(slot) => bind.to(slot),
            None => Err(bind.refused(Refusal::OutsideBlock)),
        },
        None => bind.to_any(&mut slots),
    }
}

/// Listens on a socket that is bound to a port of the block.
pub(crate) fn listen(
    held: &Held,
    socket: &Socket,
    address: SocketAddr,
    backlog: i32,
    is_strict: bool,
) -> Result<(), BindError> {
    let bind = Bind {
        held,
        socket,
        address,
    };
    let slots = held.slots();
    let slot = slots
        .iter()
        .find(|slot| slot.port().number() == address.port());
    let listening = match slot {
        Some(_) if is_strict && passage::listens_in_window(socket) => {
            return Err(BindError::Window { address });
        }
        Some(slot) => passage::listen(slot.hold.socket(), socket, backlog),
        // Released since: nothing is in its way.
        None => socket.listen(backlog),
    };
    if listening.is_ok() {
        passage::untie_if_allowed(socket);
    }
    listening.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => bind.refused(Refusal::InUse),
        _ => BindError::Failure {
            address,
            failure: Failure::of("listen")(error),
        },
    })
}

struct Bind<'a> {
    held: &'a Held,
    socket: &'a Socket,
    address: SocketAddr,
}

impl Bind<'_> {
    fn to(&self, slot: &mut Slot) -> Result<(), BindError> {
        self.attempt(slot).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => self.refused(Refusal::InUse),
            _ => self.failed(error),
        })
    }

    fn to_any(&self, slots: &mut [Slot]) -> Result<(), BindError> {
        for slot in slots.iter_mut().filter(|slot| !slot.is_consumed()) {
            match self.attempt(slot) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                answer => return answer.map_err(|error| self.failed(error)),
            }
        }
        Err(self.refused(Refusal::NoRoom))
    }

    fn attempt(&self, slot: &mut Slot) -> io::Result<()> {
        let mut address = self.address;
        address.set_port(slot.port().number());
        let transport = self.held.block.transport;
        passage::bind(slot.hold.socket(), self.socket, transport, address)?;
        slot.note(self.socket);
        Ok(())
    }

    fn refused(&self, refusal: Refusal) -> BindError {
        BindError::Refused {
            port: Port::new(self.address.port()),
            range: self.held.block.range,
            refusal,
        }
    }

    fn failed(&self, error: io::Error) -> BindError {
        BindError::Failure {
            address: self.address,
            failure: Failure::of("bind")(error),
        }
    }
}

/// Why this process has no block with this token.
fn absent(socket: BorrowedFd<'_>, token: Token) -> Refusal {
    let namespace = super::namespace();
    let records = namespace.ok().and_then(|it| look::reservations(it).ok());
    let record = records
        .iter()
        .flatten()
        .find(|record| record.token == token);
    match record {
        Some(record) if transport_of(socket) != Some(record.transport) => Refusal::WrongTransport,
        Some(_) => Refusal::ForeignToken,
        None => Refusal::UnknownToken,
    }
}

/// TCP and UDP as such: multipath TCP takes ports by ways of its own, raw sockets take none.
pub(crate) fn served_transport(socket: BorrowedFd<'_>) -> Option<Transport> {
    let kind = sockopt::socket_type(socket).ok()?;
    match sockopt::socket_protocol(socket).ok()?? {
        ipproto::MPTCP => None,
        _ if kind == SocketType::RAW => None,
        _ => transport_of(socket),
    }
}
