//! What the documentation of Windows leaves open, or says in two ways: each in one place, so that a
//! measurement on a real Windows changes one line.

use std::io;

use portpool::Refusal;

use crate::codes::Code;

/// Bytes reported after ASSOCIATE and RELEASE, which store none. The pages say "cannot be zero".
pub(crate) const BYTES_WITHOUT_OUTPUT: u32 = 0;

/// Bytes reported after a call that failed.
pub(crate) const BYTES_AFTER_FAILURE: u32 = 0;

/// The count pointer is NULL, with or without an overlapped structure.
pub(crate) const NO_COUNT_POINTER: Code = Code::FAULT;

/// An input or output buffer is too small, or an output buffer is given where there is no output.
pub(crate) const WRONG_SIZE: Code = Code::INVAL;

/// A control code that no socket here knows.
pub(crate) const UNKNOWN_CODE: Code = Code::OPNOTSUPP;

/// A control code of reservations on a socket that is neither TCP nor UDP.
pub(crate) const WRONG_SOCKET: Code = Code::OPNOTSUPP;

/// Whether an operation that has to wait for the keeper may be pending. If not, an overlapped call waits
/// itself and is done when it returns.
pub(crate) const MAY_BE_PENDING: bool = true;

/// ASSOCIATE on a socket that is bound.
pub(crate) const ASSOCIATE_WHEN_BOUND: Code = Code::INVAL;

/// Whether ACQUIRE is allowed on a bound socket: the pages set no order.
pub(crate) const ACQUIRE_WHEN_BOUND: bool = true;

/// A token that names nothing, or a reservation of the other transport.
pub(crate) const UNKNOWN_TOKEN: Code = Code::INVAL;

/// ASSOCIATE with the token of another process: the one access code its page lists.
pub(crate) const FOREIGN_TOKEN_TO_ASSOCIATE: Code = Code::ACCES;

/// RELEASE with the token of another process: its page lists no access code.
pub(crate) const FOREIGN_TOKEN_TO_RELEASE: Code = Code::INVAL;

/// Whether RELEASE is allowed on any socket of the owner process, or on the owner socket alone: the
/// page speaks of the process.
pub(crate) const RELEASE_ON_ANY_SOCKET: bool = true;

/// No ports, or ports past the last one.
pub(crate) const NO_SUCH_RANGE: Code = Code::INVAL;

/// A wildcard ACQUIRE that finds no room.
pub(crate) const NO_ROOM: Code = Code::NOBUFS;

/// Bind of an associated socket whose block is used up, or was released meanwhile.
pub(crate) const BLOCK_USED_UP: Code = Code::NOBUFS;

/// Bind of an associated socket to a port outside its block, or to an address of another machine.
pub(crate) const OUTSIDE_BLOCK: Code = Code::ADDRNOTAVAIL;

/// Bind of a reserved port by a socket that is not associated.
pub(crate) const RESERVED_PORT: Code = Code::ACCES;

/// Whether the owner process may bind a port it reserved by a socket that is not associated. As it is
/// the token is the ticket, and not the process.
pub(crate) const OWNER_BINDS_WITHOUT_ASSOCIATING: bool = false;

/// A limit of the pool is reached. Windows has no such limits.
pub(crate) const OVER_A_LIMIT: Code = Code::NOBUFS;

/// No pool can be used, or the service that is needed for these ports cannot be reached.
pub(crate) const SERVICE_UNREACHABLE: Code = Code::NETDOWN;

/// A call that waits for the service and whose socket is closed meanwhile.
pub(crate) const INTERRUPTED: Code = Code::INTR;

/// WSAGetOverlappedResult is to wait and the structure has no event to wait for.
pub(crate) const NO_EVENT_TO_WAIT_FOR: Code = Code::INVALID_HANDLE;

/// A persistent function without a place for the token. Nothing is created then.
pub(crate) const NO_TOKEN_POINTER: Code = Code::INVALID_PARAMETER;

/// Lookup or Delete of ports that are no persistent block, an administered exclusion among them: those
/// have no token. No list here marks one kind of row with a star, as `netsh` does.
pub(crate) const NO_SUCH_BLOCK: Code = Code::NOT_FOUND;

/// A persistent function where no keeper answers.
pub(crate) const NO_KEEPER: Code = Code::SERVICE_NOT_ACTIVE;

/// A persistent function whose keeper failed.
pub(crate) const KEEPER_FAILED: Code = Code::NO_SYSTEM_RESOURCES;

/// A bug in this library was caught at its edge.
pub(crate) const CAUGHT_PANIC: Code = Code::SYSCALLFAILURE;

/// Sockets close in a program that this one starts.
pub(crate) const CLOSE_ON_EXEC: bool = true;

/// The code for a bind that failed, or for the bind that a connect does.
pub(crate) fn bind_failed(error: &io::Error, is_associated: bool) -> Code {
    match (error.raw_os_error(), is_associated) {
        (Some(libc::ENOBUFS), true) => BLOCK_USED_UP,
        (Some(libc::EADDRNOTAVAIL), true) => OUTSIDE_BLOCK,
        (Some(libc::EACCES), _) => RESERVED_PORT,
        _ => Code::of(error),
    }
}

/// The code for a refusal of an ACQUIRE.
pub(crate) const fn acquire_refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::InUse => Code::ADDRINUSE,
        // Somebody is taking or giving back the same ports at this moment.
        Refusal::Busy => Code::ADDRINUSE,
        Refusal::NoRoom => NO_ROOM,
        Refusal::PrivilegedPort | Refusal::NotPermitted => Code::ACCES,
        Refusal::UidLimit
        | Refusal::SharedLimit
        | Refusal::SocketLimit
        | Refusal::PoolFull
        | Refusal::NoMemory => OVER_A_LIMIT,
        Refusal::Ephemeral | Refusal::NotAttached | Refusal::VersionMismatch => SERVICE_UNREACHABLE,
        Refusal::UnsupportedSocket => WRONG_SOCKET,
        Refusal::ForeignToken
        | Refusal::UnknownToken
        | Refusal::DuplicateToken
        | Refusal::WrongTransport
        | Refusal::AlreadyBound
        | Refusal::OutsideBlock
        | Refusal::Stranger
        | Refusal::NotAncestor
        | Refusal::NoSuchBlock
        | Refusal::Persistent
        | Refusal::BadRequest => Code::INVAL,
    }
}

/// The code for a refusal of an ASSOCIATE.
pub(crate) const fn associate_refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::ForeignToken | Refusal::Stranger => FOREIGN_TOKEN_TO_ASSOCIATE,
        Refusal::AlreadyBound => ASSOCIATE_WHEN_BOUND,
        other => token_refused(other),
    }
}

/// The code for a refusal of a RELEASE.
pub(crate) const fn release_refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::ForeignToken | Refusal::Stranger => FOREIGN_TOKEN_TO_RELEASE,
        other => token_refused(other),
    }
}

/// The code for a refusal of a persistent function.
pub(crate) const fn persistent_refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::InUse | Refusal::Busy | Refusal::Ephemeral => Code::SHARING_VIOLATION,
        Refusal::NoSuchBlock => NO_SUCH_BLOCK,
        Refusal::NotPermitted | Refusal::PrivilegedPort | Refusal::Stranger => Code::ACCESS_DENIED,
        Refusal::NotAttached | Refusal::VersionMismatch => NO_KEEPER,
        Refusal::UidLimit
        | Refusal::SharedLimit
        | Refusal::SocketLimit
        | Refusal::PoolFull
        | Refusal::NoMemory
        | Refusal::NoRoom => KEEPER_FAILED,
        Refusal::UnknownToken
        | Refusal::WrongTransport
        | Refusal::ForeignToken
        | Refusal::DuplicateToken
        | Refusal::AlreadyBound
        | Refusal::OutsideBlock
        | Refusal::NotAncestor
        | Refusal::UnsupportedSocket
        | Refusal::Persistent
        | Refusal::BadRequest => Code::INVALID_PARAMETER,
    }
}

const fn token_refused(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotAttached | Refusal::VersionMismatch => SERVICE_UNREACHABLE,
        Refusal::UnsupportedSocket => WRONG_SOCKET,
        Refusal::PrivilegedPort | Refusal::NotPermitted => Code::ACCES,
        Refusal::NoMemory
        | Refusal::UidLimit
        | Refusal::SharedLimit
        | Refusal::SocketLimit
        | Refusal::PoolFull
        | Refusal::NoRoom => OVER_A_LIMIT,
        Refusal::UnknownToken
        | Refusal::WrongTransport
        | Refusal::ForeignToken
        | Refusal::DuplicateToken
        | Refusal::AlreadyBound
        | Refusal::OutsideBlock
        | Refusal::Stranger
        | Refusal::NotAncestor
        | Refusal::InUse
        | Refusal::Ephemeral
        | Refusal::Busy
        | Refusal::NoSuchBlock
        | Refusal::Persistent
        | Refusal::BadRequest => UNKNOWN_TOKEN,
    }
}
