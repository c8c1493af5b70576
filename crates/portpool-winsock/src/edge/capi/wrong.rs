//! What went wrong, as the negative number and the sentence that C sees.
//!
//! Refusals have the errno of the kernel pool's table; what the kernel pool never refuses so has its
//! errno here.

use std::{ffi::c_int, io};

use portpool::{
    AcquireError, AssociateError, BindError, Failure, LookError, OpenError, Refusal, ReleaseError,
    abi::{ControlCode, Operation, errno_of},
};

/// A failure of a function of the C interface.
#[derive(Debug)]
pub(super) struct Wrong {
    errno: c_int,
    text: String,
    refusal: Option<Refusal>,
}

impl Wrong {
    /// An argument that makes no sense. `text` names it and what it should be.
    pub(super) fn argument(text: impl Into<String>) -> Wrong {
        Wrong::new(libc::EINVAL, text)
    }

    pub(super) fn new(errno: c_int, text: impl Into<String>) -> Wrong {
        Wrong {
            errno,
            text: text.into(),
            refusal: None,
        }
    }

    /// Remembers it for the thread and gives the number to return.
    pub(super) fn answer(self) -> c_int {
        super::last_error::set(&self.text, self.refusal);
        -self.errno
    }

    fn refused(operation: Operation, refusal: Refusal, text: String) -> Wrong {
        Wrong {
            errno: errno_of(operation, refusal).unwrap_or_else(|| errno_elsewhere(refusal)),
            text,
            refusal: Some(refusal),
        }
    }
}

/// What the library refuses itself, before the kernel is asked.
fn errno_elsewhere(refusal: Refusal) -> c_int {
    match refusal {
        Refusal::NoRoom | Refusal::PoolFull | Refusal::NoMemory => libc::ENOBUFS,
        Refusal::Busy => libc::EBUSY,
        Refusal::NotAttached => libc::ENOPROTOOPT,
        Refusal::VersionMismatch => libc::EPROTO,
        Refusal::UnsupportedSocket => libc::EOPNOTSUPP,
        Refusal::Stranger | Refusal::ForeignToken | Refusal::NotPermitted => libc::EACCES,
        Refusal::NoSuchBlock => libc::ENOENT,
        _ => libc::EINVAL,
    }
}

impl From<OpenError> for Wrong {
    fn from(error: OpenError) -> Wrong {
        let text = error.to_string();
        match error {
            OpenError::Failure(failure) => Wrong::new(errno(&failure.cause), text),
            OpenError::UnknownKind { .. } => Wrong::argument(text),
            other => match other.refusal() {
                Some(refusal) => {
                    Wrong::refused(Operation::Control(ControlCode::Probe), refusal, text)
                }
                None => Wrong::new(libc::EIO, text),
            },
        }
    }
}

impl From<AcquireError> for Wrong {
    fn from(error: AcquireError) -> Wrong {
        let text = error.to_string();
        if let Some(refusal) = error.refusal() {
            return Wrong::refused(Operation::Control(ControlCode::Acquire), refusal, text);
        }
        let number = match error {
            AcquireError::OutsideRanges { .. } => libc::ERANGE,
            AcquireError::Descriptors { .. } => libc::EMFILE,
            AcquireError::OnlyEphemeral { .. } => libc::EADDRNOTAVAIL,
            AcquireError::KernelOnly { .. } => libc::EOPNOTSUPP,
            AcquireError::Failure { failure, .. } => errno(&failure.cause),
            _ => libc::EIO,
        };
        Wrong::new(number, text)
    }
}

impl From<ReleaseError> for Wrong {
    fn from(error: ReleaseError) -> Wrong {
        let text = error.to_string();
        match error {
            ReleaseError::Refused { refusal, .. } => {
                Wrong::refused(Operation::Control(ControlCode::Release), refusal, text)
            }
            ReleaseError::Failure { failure, .. } => Wrong::new(errno(&failure.cause), text),
            _ => Wrong::new(libc::EIO, text),
        }
    }
}

impl From<AssociateError> for Wrong {
    fn from(error: AssociateError) -> Wrong {
        let text = error.to_string();
        match error {
            AssociateError::Failure(failure) => Wrong::new(errno(&failure.cause), text),
            other => match other.refusal() {
                Some(refusal) => {
                    Wrong::refused(Operation::Control(ControlCode::Associate), refusal, text)
                }
                None => Wrong::new(libc::EIO, text),
            },
        }
    }
}

impl From<BindError> for Wrong {
    fn from(error: BindError) -> Wrong {
        let text = error.to_string();
        match error {
            BindError::Associate(error) => error.into(),
            BindError::Window { .. } => Wrong::new(libc::EPERM, text),
            BindError::Failure { failure, .. } => Wrong::new(errno(&failure.cause), text),
            BindError::Refused { refusal, .. } => Wrong::refused(Operation::Bind, refusal, text),
            _ => Wrong::new(libc::EIO, text),
        }
    }
}

impl From<LookError> for Wrong {
    fn from(error: LookError) -> Wrong {
        let text = error.to_string();
        let number = match error {
            LookError::Unreadable { cause, .. } | LookError::Registry { cause, .. } => {
                errno(&cause)
            }
            LookError::UnknownPool { .. } => libc::ENOENT,
            LookError::UntrustedRegistry { .. } => libc::EPERM,
            LookError::KernelOnly => libc::EOPNOTSUPP,
            LookError::Failure(Failure { cause, .. }) => errno(&cause),
            _ => libc::EIO,
        };
        Wrong::new(number, text)
    }
}

/// Of calls on the caller's own socket, which answer as system calls do.
pub(super) fn of_call(call: &str, error: &io::Error) -> Wrong {
    Wrong::new(errno(error), format!("{call}: {error}"))
}

fn errno(error: &io::Error) -> c_int {
    match error.raw_os_error() {
        Some(number) if number > 0 => number,
        _ => match error.kind() {
            // What a strict pool answers to a bind that needs a window.
            io::ErrorKind::PermissionDenied => libc::EPERM,
            io::ErrorKind::InvalidInput => libc::EINVAL,
            _ => libc::EIO,
        },
    }
}
