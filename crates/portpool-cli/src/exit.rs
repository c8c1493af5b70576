//! How the command ends: its status, and what it says if that is not 0.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use portpool::{AcquireError, LookError, OpenError, Refusal};
use serde::{Deserialize, Serialize};

use crate::pool;

/// A status to end with that needs no words: 0, or that of the command which `run` ran.
pub(crate) type Answer = Result<u8, Failure>;

/// Ends the process: says what failed, if anything did.
pub(crate) fn code(answer: Answer) -> ExitCode {
    let status = answer.unwrap_or_else(|failure| {
        failure.tell();
        failure.code.status()
    });
    status.into()
}

/// Why the command ends without having done what was asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Nothing if the one who would read it is gone.
    message: Option<String>,
}

/// The kinds of failure that scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    /// Refused or failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// There is no pool.
    NoPool,
    /// The ports were taken until the end of `--wait`.
    WaitOver,
    /// The command to run cannot be started.
    CannotStart,
    /// The command to run was not found.
    NotFound,
}

impl Code {
    /// As `portpool --help` lists them; the last three are those of timeout(1) and of shells.
    pub(crate) fn status(self) -> u8 {
        match self {
            Code::Failed => 1,
            Code::Usage => 2,
            Code::NoPool => 3,
            Code::WaitOver => 124,
            Code::CannotStart => 126,
            Code::NotFound => 127,
        }
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        let message = Some(message.into());
        Failure { code, message }
    }

    /// A step that failed.
    pub(crate) fn failed(what: &str, cause: impl std::fmt::Display) -> Failure {
        Failure::new(Code::Failed, format!("{what}: {cause}"))
    }

    /// Nobody reads any more, so nothing is said either.
    pub(crate) fn unheard() -> Failure {
        Failure {
            code: Code::Failed,
            message: None,
        }
    }

    /// The same failure in other words, unless there is no pool: that has words of its own.
    pub(crate) fn saying(self, text: String) -> Failure {
        match self.code {
            Code::NoPool => self,
            code => Failure::new(code, text),
        }
    }

    /// What failed, and the next step.
    pub(crate) fn text(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    pub(crate) fn no_pool() -> Failure {
        Failure::new(Code::NoPool, NO_POOL)
    }

    fn tell(&self) {
        if let Some(message) = &self.message {
            anstream::eprintln!("{ERROR}error:{ERROR:#} {message}");
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        if let OpenError::OtherCgroup { cgroup } = error {
            let outside = pool::outside(Some(cgroup));
            let next_step = "start the command in that cgroup; --pool embedded works anywhere, but \
                             knows nothing of the reservations there";
            return Failure::new(Code::NoPool, format!("{outside}: {next_step}"));
        }
        match error.refusal().map(code_of) {
            Some(Code::NoPool) => Failure::no_pool(),
            code => Failure::new(code.unwrap_or(Code::Failed), error.to_string()),
        }
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Failure {
        match error.refusal().map(code_of) {
            Some(Code::NoPool) => Failure::no_pool(),
            code => Failure::new(code.unwrap_or(Code::Failed), error.to_string()),
        }
    }
}

impl From<LookError> for Failure {
    fn from(error: LookError) -> Failure {
        Failure::new(Code::Failed, error.to_string())
    }
}

impl From<portpool_keeper::AdminError> for Failure {
    fn from(error: portpool_keeper::AdminError) -> Failure {
        match error {
            // What is administered is the kernel pool: the embedded one is no way out.
            error @ portpool_keeper::AdminError::NotAttached => {
                Failure::new(Code::NoPool, error.to_string())
            }
            portpool_keeper::AdminError::Open(error) => error.into(),
            portpool_keeper::AdminError::Privileged(error) => error.into(),
            error => Failure::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<portpool_kernel::Error> for Failure {
    fn from(error: portpool_kernel::Error) -> Failure {
        match error {
            portpool_kernel::Error::NotAttached => Failure::no_pool(),
            error => Failure::new(Code::Failed, error.to_string()),
        }
    }
}

/// The kind of a refusal.
fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotAttached => Code::NoPool,
        Refusal::InUse
        | Refusal::NoRoom
        | Refusal::Ephemeral
        | Refusal::PrivilegedPort
        | Refusal::ForeignToken
        | Refusal::UnknownToken
        | Refusal::DuplicateToken
        | Refusal::WrongTransport
        | Refusal::AlreadyBound
        | Refusal::OutsideBlock
        | Refusal::Stranger
        | Refusal::UidLimit
        | Refusal::SharedLimit
        | Refusal::SocketLimit
        | Refusal::PoolFull
        | Refusal::NoMemory
        | Refusal::NotAncestor
        | Refusal::UnsupportedSocket
        | Refusal::BadRequest
        | Refusal::Busy
        | Refusal::VersionMismatch
        | Refusal::NotPermitted
        | Refusal::NoSuchBlock
        | Refusal::Persistent => Code::Failed,
    }
}

const NO_POOL: &str = "no pool is attached in this network namespace: run `portpool attach` as root, \
    enter the cgroup it is attached to, or take the embedded pool with --pool embedded; `portpool \
    doctor` says what is missing";

const ERROR: Style = AnsiColor::Red.on_default().bold();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_pool_is_told_apart_from_other_refusals() {
        for refusal in Refusal::ALL {
            let no_pool = refusal == Refusal::NotAttached;
            assert_eq!(code_of(refusal) == Code::NoPool, no_pool, "{refusal:?}");
        }
    }

    #[test]
    fn a_failure_survives_the_way_through_a_pipe() {
        let failure = Failure::new(Code::WaitOver, "still taken");
        let text = serde_json::to_string(&failure).expect("json");
        assert_eq!(
            serde_json::from_str::<Failure>(&text).expect("failure"),
            failure
        );
    }
}
