//! Which operation refuses with which errno, and what that errno says when it comes back.

use crate::Refusal;

/// The control codes: option names of `setsockopt` at [`super::LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum ControlCode {
    /// Asks whether a pool of this version is attached; changes nothing.
    Probe = 99,
    /// Creates a runtime reservation owned by the socket (spec 1.2).
    Acquire = 100,
    /// Ends a reservation by its token (spec 1.3 rules 20 to 25).
    Release = 101,
    /// Ties an unbound socket to a token (spec 1.3 rules 10 to 19).
    Associate = 102,
    /// Creates a persistent reservation, which no socket owns (spec 5).
    Persist = 103,
    /// Deletes a persistent reservation by its ports.
    Unpersist = 104,
    /// Keeps ports from reservations; explicit binds stay free (spec 7).
    Exclude = 105,
    /// Ends that.
    Unexclude = 106,
    /// Lets one process claim ports that were just taken from automatic choice.
    Window = 107,
    /// Lets a tree of processes consume a persistent reservation until the socket is closed.
    Lend = 108,
}

/// What can be refused: a control code, or a system call on an ordinary socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// A control code.
    Control(ControlCode),
    /// `bind(2)`.
    Bind,
    /// `connect(2)` of an associated, unbound socket, which binds it.
    Connect,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrnoRow {
    /// What was asked.
    pub operation: Operation,
    /// Why it was refused.
    pub refusal: Refusal,
    /// What the caller sees in `errno`.
    pub errno: i32,
}

const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EPROTO: i32 = 71;
const ENOPROTOOPT: i32 = 92;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
const ENOBUFS: i32 = 105;
const EDQUOT: i32 = 122;

const PROBE: Operation = Operation::Control(ControlCode::Probe);
const ACQUIRE: Operation = Operation::Control(ControlCode::Acquire);
const RELEASE: Operation = Operation::Control(ControlCode::Release);
const ASSOCIATE: Operation = Operation::Control(ControlCode::Associate);
const PERSIST: Operation = Operation::Control(ControlCode::Persist);
const UNPERSIST: Operation = Operation::Control(ControlCode::Unpersist);
const EXCLUDE: Operation = Operation::Control(ControlCode::Exclude);
const UNEXCLUDE: Operation = Operation::Control(ControlCode::Unexclude);
const WINDOW: Operation = Operation::Control(ControlCode::Window);
const LEND: Operation = Operation::Control(ControlCode::Lend);
const BIND: Operation = Operation::Bind;
const CONNECT: Operation = Operation::Connect;

/// The table of control code, refusal and errno. Where several refusals of one operation share an
/// errno, the first of them is what [`refusal_of`] answers.
pub const ERRNO_TABLE: &[ErrnoRow] = &[
    row(PROBE, Refusal::NotAttached, ENOPROTOOPT),
    row(PROBE, Refusal::VersionMismatch, EPROTO),
    row(PROBE, Refusal::BadRequest, EINVAL),
    row(ACQUIRE, Refusal::NotAttached, ENOPROTOOPT),
    row(ACQUIRE, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(ACQUIRE, Refusal::BadRequest, EINVAL),
    row(ACQUIRE, Refusal::DuplicateToken, EEXIST),
    row(ACQUIRE, Refusal::PrivilegedPort, EACCES),
    row(ACQUIRE, Refusal::Busy, EBUSY),
    row(ACQUIRE, Refusal::NotAncestor, ESRCH),
    row(ACQUIRE, Refusal::SocketLimit, EMFILE),
    row(ACQUIRE, Refusal::UidLimit, EDQUOT),
    row(ACQUIRE, Refusal::SharedLimit, ENOSPC),
    row(ACQUIRE, Refusal::PoolFull, ENOBUFS),
    row(ACQUIRE, Refusal::NoMemory, ENOBUFS),
    row(ACQUIRE, Refusal::Ephemeral, EADDRNOTAVAIL),
    row(ACQUIRE, Refusal::InUse, EADDRINUSE),
    row(RELEASE, Refusal::NotAttached, ENOPROTOOPT),
    row(RELEASE, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(RELEASE, Refusal::UnknownToken, EINVAL),
    row(RELEASE, Refusal::BadRequest, EINVAL),
    row(RELEASE, Refusal::WrongTransport, EINVAL),
    row(RELEASE, Refusal::ForeignToken, EINVAL),
    row(RELEASE, Refusal::Persistent, EINVAL),
    row(ASSOCIATE, Refusal::NotAttached, ENOPROTOOPT),
    row(ASSOCIATE, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(ASSOCIATE, Refusal::UnknownToken, EINVAL),
    row(ASSOCIATE, Refusal::BadRequest, EINVAL),
    row(ASSOCIATE, Refusal::AlreadyBound, EINVAL),
    row(ASSOCIATE, Refusal::WrongTransport, EINVAL),
    row(ASSOCIATE, Refusal::ForeignToken, EACCES),
    row(ASSOCIATE, Refusal::NoMemory, ENOBUFS),
    row(PERSIST, Refusal::NotAttached, ENOPROTOOPT),
    row(PERSIST, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(PERSIST, Refusal::BadRequest, EINVAL),
    row(PERSIST, Refusal::NotPermitted, EACCES),
    row(PERSIST, Refusal::PrivilegedPort, EACCES),
    row(PERSIST, Refusal::DuplicateToken, EEXIST),
    row(PERSIST, Refusal::Busy, EBUSY),
    row(PERSIST, Refusal::PoolFull, ENOBUFS),
    row(PERSIST, Refusal::Ephemeral, EADDRNOTAVAIL),
    row(PERSIST, Refusal::InUse, EADDRINUSE),
    row(UNPERSIST, Refusal::NotAttached, ENOPROTOOPT),
    row(UNPERSIST, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(UNPERSIST, Refusal::BadRequest, EINVAL),
    row(UNPERSIST, Refusal::NotPermitted, EACCES),
    row(UNPERSIST, Refusal::NoSuchBlock, ENOENT),
    row(EXCLUDE, Refusal::NotAttached, ENOPROTOOPT),
    row(EXCLUDE, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(EXCLUDE, Refusal::BadRequest, EINVAL),
    row(EXCLUDE, Refusal::NotPermitted, EACCES),
    row(EXCLUDE, Refusal::InUse, EADDRINUSE),
    row(UNEXCLUDE, Refusal::NotAttached, ENOPROTOOPT),
    row(UNEXCLUDE, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(UNEXCLUDE, Refusal::BadRequest, EINVAL),
    row(UNEXCLUDE, Refusal::NotPermitted, EACCES),
    row(UNEXCLUDE, Refusal::NoSuchBlock, ENOENT),
    row(WINDOW, Refusal::NotAttached, ENOPROTOOPT),
    row(WINDOW, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(WINDOW, Refusal::BadRequest, EINVAL),
    row(WINDOW, Refusal::NotPermitted, EACCES),
    row(WINDOW, Refusal::PoolFull, ENOBUFS),
    row(LEND, Refusal::NotAttached, ENOPROTOOPT),
    row(LEND, Refusal::UnsupportedSocket, EOPNOTSUPP),
    row(LEND, Refusal::UnknownToken, EINVAL),
    row(LEND, Refusal::BadRequest, EINVAL),
    row(LEND, Refusal::WrongTransport, EINVAL),
    row(LEND, Refusal::ForeignToken, EACCES),
    row(LEND, Refusal::NotAncestor, ESRCH),
    row(LEND, Refusal::SocketLimit, EMFILE),
    row(LEND, Refusal::UidLimit, EDQUOT),
    row(LEND, Refusal::SharedLimit, ENOSPC),
    row(LEND, Refusal::PoolFull, ENOBUFS),
    row(LEND, Refusal::Busy, EBUSY),
    row(LEND, Refusal::NoMemory, ENOBUFS),
    row(BIND, Refusal::Stranger, EACCES),
    row(BIND, Refusal::ForeignToken, EACCES),
    row(BIND, Refusal::OutsideBlock, EADDRNOTAVAIL),
    row(BIND, Refusal::NoRoom, ENOBUFS),
    row(BIND, Refusal::NoMemory, ENOBUFS),
    row(BIND, Refusal::InUse, EADDRINUSE),
    row(CONNECT, Refusal::ForeignToken, EACCES),
    row(CONNECT, Refusal::NoRoom, ENOBUFS),
    row(CONNECT, Refusal::InUse, EADDRINUSE),
];

/// The errno an operation refuses with, `None` if it never refuses so.
///
/// ```
/// use portpool_core::{Refusal, abi::{ControlCode, Operation, errno_of}};
/// let acquire = Operation::Control(ControlCode::Acquire);
/// assert_eq!(errno_of(acquire, Refusal::InUse), Some(98));
/// ```
pub fn errno_of(operation: Operation, refusal: Refusal) -> Option<i32> {
    ERRNO_TABLE
        .iter()
        .find(|row| row.operation == operation && row.refusal == refusal)
        .map(|row| row.errno)
}

/// What an errno of an operation says, `None` if it is not one of ours.
pub fn refusal_of(operation: Operation, errno: i32) -> Option<Refusal> {
    ERRNO_TABLE
        .iter()
        .find(|row| row.operation == operation && row.errno == errno)
        .map(|row| row.refusal)
}

const fn row(operation: Operation, refusal: Refusal, errno: i32) -> ErrnoRow {
    ErrnoRow {
        operation,
        refusal,
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_once() {
        for (index, row) in ERRNO_TABLE.iter().enumerate() {
            let same = |other: &&ErrnoRow| {
                other.operation == row.operation && other.refusal == row.refusal
            };
            assert_eq!(ERRNO_TABLE.iter().filter(same).count(), 1, "row {index}");
            assert_eq!(errno_of(row.operation, row.refusal), Some(row.errno));
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../../../docs/errors.md");
        let (_, table) = page
            .split_once("| --- | --- | --- | --- |\n")
            .expect("the table");
        let rows: Vec<&str> = table.lines().take_while(|it| it.starts_with('|')).collect();
        assert_eq!(rows.len(), ERRNO_TABLE.len());
        for (text, row) in rows.iter().zip(ERRNO_TABLE) {
            let cells: Vec<&str> = text.split('|').map(str::trim).collect();
            let operation = match row.operation {
                PROBE => "probe",
                ACQUIRE => "acquire",
                RELEASE => "release",
                ASSOCIATE => "associate",
                BIND => "`bind`",
                CONNECT => "`connect`",
                PERSIST => "persist",
                UNPERSIST => "unpersist",
                EXCLUDE => "exclude",
                UNEXCLUDE => "unexclude",
                WINDOW => "window",
                LEND => "lend",
            };
            let errno = cells[3].split_once(' ').map(|(_, number)| number);
            assert_eq!(cells[1], operation, "{text}");
            assert_eq!(cells[2], format!("{:?}", row.refusal), "{text}");
            assert_eq!(errno, Some(row.errno.to_string().as_str()), "{text}");
        }
    }

    #[test]
    fn a_foreign_token_is_refused_as_the_rules_say() {
        assert_eq!(errno_of(ASSOCIATE, Refusal::ForeignToken), Some(EACCES));
        assert_eq!(errno_of(RELEASE, Refusal::ForeignToken), Some(EINVAL));
    }

    #[test]
    fn an_errno_of_nobody_says_nothing() {
        assert_eq!(refusal_of(ACQUIRE, 5), None);
    }
}
