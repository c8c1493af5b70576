//! What the administrator does to a kernel pool: persistent blocks, exclusions, windows, and lending
//! a persistent block to programs that know nothing of reservations.
//!
//! Each is one control code, decided by the kernel program. Nothing here lasts longer than the pool:
//! what is to survive a restart is on record elsewhere and put back after the next attach.

use std::os::fd::{AsFd, OwnedFd};

use portpool_core::{
    PortRange, RangeSet, Refusal, Token, Transport,
    abi::{self, ControlCode, Operation, Origin, Persist, Ports, Tenure, occupancy, refusal_of},
};

use crate::{
    choice::Source,
    claim::new_token,
    error::{Failure, LookError},
    pool::Pool,
    socket::owner_socket,
    sys,
};

/// Why an act of administration had no effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The pool refused.
    #[error("{subject}: {}", refused(*.refusal))]
    Refused {
        /// What it was about, such as `5000-5019 (tcp)`.
        subject: String,
        /// Why.
        refusal: Refusal,
    },
    /// Only the kernel pool has any of this.
    #[error(
        "{subject}: this needs the kernel pool, and this one is embedded: run `portpool attach` as \
         root"
    )]
    KernelOnly {
        /// What it was about.
        subject: String,
    },
    /// The state of the pool cannot be read.
    #[error(transparent)]
    Look(#[from] LookError),
    /// A system call failed.
    #[error("{subject}: {failure}")]
    Failure {
        /// What it was about.
        subject: String,
        /// What failed.
        failure: Failure,
    },
}

impl AdminError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            AdminError::Refused { refusal, .. } => Some(*refusal),
            AdminError::KernelOnly { .. } | AdminError::Look(_) | AdminError::Failure { .. } => {
                None
            }
        }
    }
}

/// A process that a window is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Its effective uid, as the initial user namespace numbers it.
    pub uid: u32,
    /// Its process id, as this process numbers it.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`, never 0.
    pub start_ticks: u64,
}

/// A persistent block that is lent: ends when it is dropped, and with this process.
#[derive(Debug)]
#[must_use = "the block is lent only until this is dropped"]
pub struct Lend {
    /// Its end is the end of the lend.
    _socket: OwnedFd,
}

impl Pool {
    /// Makes a block persistent: no plain bind gets a port of it, not root's either, until it is
    /// deleted. To consume it a process with CAP_NET_ADMIN over the network namespace associates a
    /// socket with the token, or a member of `group` (as the initial user namespace numbers it).
    ///
    /// It needs CAP_NET_ADMIN, and it lasts until it is removed, the pool is detached or the machine
    /// restarts: this puts nothing on record. [`new_persistent_token`](Pool::new_persistent_token)
    /// makes a token.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed: [`Refusal::InUse`] if a port of it is bound or belongs
    /// to another block, [`Refusal::Ephemeral`] if automatic choice could pick it.
    pub fn install_persistent(
        &self,
        transport: Transport,
        range: PortRange,
        token: Token,
        group: Option<u32>,
    ) -> Result<(), AdminError> {
        self.persist(transport, range, token, group, Origin::New)
    }

    /// As [`install_persistent`](Pool::install_persistent), for a block that is on record: sockets
    /// that are bound to ports of it keep them, and nobody else gets in. It works as soon as the
    /// programs are attached, before they grant anything.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed: [`Refusal::InUse`] only if another block has a port of
    /// it.
    pub fn restore_persistent(
        &self,
        transport: Transport,
        range: PortRange,
        token: Token,
        group: Option<u32>,
    ) -> Result<(), AdminError> {
        self.persist(transport, range, token, group, Origin::Restored)
    }

    /// Deletes the persistent block with exactly these ports. Sockets bound to them keep them; the
    /// token is unknown from here on.
    ///
    /// # Errors
    /// [`AdminError`]; with [`Refusal::NoSuchBlock`] there is none.
    pub fn remove_persistent(
        &self,
        transport: Transport,
        range: PortRange,
    ) -> Result<(), AdminError> {
        self.ports(transport, range, ControlCode::Unpersist, Origin::New)
    }

    /// The token of the persistent block with exactly these ports. Everybody may ask.
    ///
    /// # Errors
    /// [`AdminError`] where this process cannot read the state of the pool.
    pub fn lookup_persistent(
        &self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Option<Token>, AdminError> {
        self.check_kernel(|| named(transport, range))?;
        let records = self.maps()?.records()?;
        let found = records.into_iter().find(|record| {
            (record.transport, record.range) == (transport, range)
                && matches!(record.tenure, Tenure::Persistent { .. })
        });
        Ok(found.map(|record| record.token))
    }

    /// A token that nothing has yet.
    ///
    /// # Errors
    /// The failure of `getrandom`.
    pub fn new_persistent_token(&self) -> Result<Token, AdminError> {
        new_token().map_err(|error| AdminError::Failure {
            subject: "a new token".to_owned(),
            failure: Failure::of("getrandom")(error),
        })
    }

    /// Keeps ports from reservations, specific and wildcard ones. Binds of these ports are as before;
    /// to keep automatic choice away is for `net.ipv4.ip_local_reserved_ports`.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed: [`Refusal::InUse`] if a port is bound, reserved or
    /// excluded already.
    pub fn exclude(&self, transport: Transport, range: PortRange) -> Result<(), AdminError> {
        self.ports(transport, range, ControlCode::Exclude, Origin::New)
    }

    /// As [`exclude`](Pool::exclude), for an exclusion that is on record: whatever is bound stays
    /// bound.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed: [`Refusal::InUse`] only if a port is reserved or
    /// excluded already.
    pub fn restore_exclusion(
        &self,
        transport: Transport,
        range: PortRange,
    ) -> Result<(), AdminError> {
        self.ports(transport, range, ControlCode::Exclude, Origin::Restored)
    }

    /// Ends the exclusion of these ports.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed: [`Refusal::NoSuchBlock`] if a port is not excluded.
    pub fn unexclude(&self, transport: Transport, range: PortRange) -> Result<(), AdminError> {
        self.ports(transport, range, ControlCode::Unexclude, Origin::New)
    }

    /// The ports of a transport that are excluded. Everybody may ask.
    ///
    /// # Errors
    /// [`AdminError`] where this process cannot read the state of the pool.
    pub fn excluded(&self, transport: Transport) -> Result<RangeSet, AdminError> {
        self.check_kernel(|| format!("exclusions ({transport})"))?;
        let element = self.maps()?.occupancy(transport);
        let element = element
            .map_err(Failure::of("bpf"))
            .map_err(LookError::from)?;
        Ok(RangeSet::from(&occupancy::excluded(&element)))
    }

    /// Lets one process claim exactly this block once, though automatic choice had its ports when
    /// the sockets were last swept. `deadline` is in nanoseconds since boot
    /// ([`since_boot`](Pool::since_boot)).
    ///
    /// Before it the ports must be in `net.ipv4.ip_local_reserved_ports` and the sockets that use
    /// them must have been counted: the window says that they have. Nobody else can claim them
    /// meanwhile. A window with the same block replaces the one before.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    pub fn open_window(
        &self,
        transport: Transport,
        range: PortRange,
        caller: Caller,
        deadline: u64,
    ) -> Result<(), AdminError> {
        let window = abi::Window {
            range,
            uid: caller.uid,
            pid: caller.pid,
            start_ticks: caller.start_ticks,
            deadline,
        };
        let subject = || named(transport, range);
        self.administer(transport, ControlCode::Window, &window.to_bytes(), subject)?;
        Ok(())
    }

    /// Lets `root` and its descendants bind ports of a persistent block without associating, until
    /// the answer is dropped. Without `root` it is this process; another one must be an ancestor with
    /// the same uids and user namespace.
    ///
    /// It needs CAP_NET_ADMIN or the group of the block.
    ///
    /// # Errors
    /// [`AdminError`]; then nothing is lent.
    pub fn lend(
        &self,
        transport: Transport,
        token: Token,
        root: Option<u32>,
    ) -> Result<Lend, AdminError> {
        let lend = abi::Lend { token, root };
        let subject = || format!("token {token}");
        let socket = self.administer(transport, ControlCode::Lend, &lend.to_bytes(), subject)?;
        Ok(Lend { _socket: socket })
    }

    /// Now, on the clock of [`open_window`](Pool::open_window).
    pub fn since_boot() -> u64 {
        crate::claim::since_boot()
    }

    fn persist(
        &self,
        transport: Transport,
        range: PortRange,
        token: Token,
        group: Option<u32>,
        origin: Origin,
    ) -> Result<(), AdminError> {
        let persist = Persist {
            range,
            token,
            group,
            origin,
        };
        let subject = || named(transport, range);
        self.administer(
            transport,
            ControlCode::Persist,
            &persist.to_bytes(),
            subject,
        )?;
        Ok(())
    }

    fn ports(
        &self,
        transport: Transport,
        range: PortRange,
        code: ControlCode,
        origin: Origin,
    ) -> Result<(), AdminError> {
        let ports = Ports { range, origin };
        let subject = || named(transport, range);
        self.administer(transport, code, &ports.to_bytes(), subject)?;
        Ok(())
    }

    /// Issues a control code on a socket of its own, which comes back.
    fn administer(
        &self,
        transport: Transport,
        code: ControlCode,
        value: &[u8],
        subject: impl Fn() -> String,
    ) -> Result<OwnedFd, AdminError> {
        self.check_kernel(&subject)?;
        let failed = |failure| AdminError::Failure {
            subject: subject(),
            failure,
        };
        let socket = owner_socket(transport).map_err(failed)?;
        match sys::control(socket.as_fd(), code, value) {
            Ok(()) => Ok(socket),
            Err(error) => {
                let operation = Operation::Control(code);
                match refusal_of(operation, error.raw_os_error().unwrap_or(0)) {
                    Some(refusal) => Err(AdminError::Refused {
                        subject: subject(),
                        refusal,
                    }),
                    None => Err(failed(Failure::of("setsockopt")(error))),
                }
            }
        }
    }

    fn check_kernel(&self, subject: impl Fn() -> String) -> Result<(), AdminError> {
        match self.is_embedded() {
            true => Err(AdminError::KernelOnly { subject: subject() }),
            false => Ok(()),
        }
    }
}

fn named(transport: Transport, range: PortRange) -> String {
    format!("{range} ({transport})")
}

fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::InUse => {
            "a port of it is bound, reserved or excluded: `portpool port` says by whom"
        }
        Refusal::ForeignToken => {
            "only CAP_NET_ADMIN over the network namespace and the block's group may use it"
        }
        other => other.message(),
    }
}
