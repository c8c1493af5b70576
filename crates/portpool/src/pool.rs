//! The pool of a network namespace, as a program holds it.

use std::{
    env, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use portpool_core::{
    PortRange, RangeSet, Refusal, Request, Token, Transport, Want,
    abi::{ControlCode, Operation, Scope, Tenure, errno_of, probe_bytes, refusal_of, token_bytes},
};

use rustix::net::sockopt;
use socket2::SockRef;

use crate::{
    claim::{self, Leg},
    embedded::{self, Technique},
    error::{AcquireError, AssociateError, BindError, Failure, LookError, OpenError, ReleaseError},
    kind::{Choice, PoolKind, Purpose, choose},
    maps::Maps,
    reservation::{Block, Reservation},
    socket, sys,
};

/// The ports of the network namespace of the calling thread, and who has them.
///
/// A clone is the same pool. It holds no reservation: those end with their [`Reservation`].
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    choice: Choice,
    guards_caller: bool,
    is_strict: bool,
    may_take_ephemeral: bool,
    may_ask_keeper: bool,
    run_dir: PathBuf,
    cookie: u64,
    /// Those of the namespace that placed last.
    maps: Mutex<Option<Arc<Maps>>>,
    /// Those of its own namespace that looking keeps open. Claims do not go by what was merely looked at.
    looked: Mutex<Option<Arc<Maps>>>,
}

/// How to open a [`Pool`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    kind: Option<PoolKind>,
    is_strict: bool,
    may_take_ephemeral: bool,
    does_without_keeper: bool,
    run_dir: Option<PathBuf>,
}

impl Builder {
    /// Where the pool shows its maps, instead of `PORTPOOL_RUN_DIR` or `/run/portpool`.
    pub fn run_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.run_dir = Some(path.into());
        self
    }

    /// Which kind of pool to open, instead of what `PORTPOOL_POOL` says.
    ///
    /// Who wants the promises of the kernel and nothing less asks for [`PoolKind::Kernel`].
    pub fn kind(mut self, kind: PoolKind) -> Builder {
        self.kind = Some(kind);
        self
    }

    /// Whether a socket that could get its port only by [`Technique::Window`](crate::Technique) is
    /// refused with [`BindError::Window`]. By default it is not.
    pub fn strict(mut self, is_strict: bool) -> Builder {
        self.is_strict = is_strict;
        self
    }

    /// Whether blocks of any ports may come from where automatic choice picks, if the ranges of the pool
    /// have no room or the block is wanted outside them. It takes a keeper, and leaves fewer ports to
    /// automatic choice. By default they may not.
    pub fn ephemeral(mut self, may_take_ephemeral: bool) -> Builder {
        self.may_take_ephemeral = may_take_ephemeral;
        self
    }

    /// Whether the keeper, if there is one, is asked for ports that automatic choice could pick, which
    /// takes its time. By default it is; otherwise they are refused at once.
    pub fn ask_keeper(mut self, may_ask_keeper: bool) -> Builder {
        self.does_without_keeper = !may_ask_keeper;
        self
    }

    /// Opens the pool of the calling thread's network namespace.
    ///
    /// # Errors
    /// As [`Pool::open`], and [`OpenError::NotAttached`] if the kernel pool was asked for and that
    /// namespace has none.
    pub fn open(self) -> Result<Pool, OpenError> {
        self.open_for(Purpose::Reserve)
    }

    /// As [`open`](Builder::open), but a kernel pool that guards another cgroup than that of this
    /// process is opened as well: it can be looked at, while every acquire is refused.
    /// [`Pool::guards_caller`] tells.
    ///
    /// # Errors
    /// As [`open`](Builder::open).
    pub fn open_to_look(self) -> Result<Pool, OpenError> {
        self.open_for(Purpose::Look)
    }

    fn open_for(self, purpose: Purpose) -> Result<Pool, OpenError> {
        let run_dir = self.run_dir.unwrap_or_else(default_run_dir);
        let cookie = embedded::namespace()?;
        let cgroup = || Some(Maps::open(&run_dir, cookie).ok()?.config().ok()?.cgroup);
        let (choice, guards_caller) = choose(self.kind, purpose, cgroup)?;
        Ok(Pool(Arc::new(Shared {
            choice,
            guards_caller,
            is_strict: self.is_strict,
            may_take_ephemeral: self.may_take_ephemeral,
            may_ask_keeper: !self.does_without_keeper,
            run_dir,
            cookie,
            maps: Mutex::new(None),
            looked: Mutex::new(None),
        })))
    }
}

impl Pool {
    /// Opens the pool of the calling thread's network namespace: the kernel pool where it is
    /// attached, else the embedded one, unless `PORTPOOL_POOL` is `kernel` or `embedded`.
    ///
    /// A pool never changes its kind; [`choice`](Pool::choice) says which it is and why.
    ///
    /// # Errors
    /// [`OpenError`] if `PORTPOOL_POOL` cannot be followed, or the attached pool is of another
    /// version than this library or guards another cgroup than that of this process.
    pub fn open() -> Result<Pool, OpenError> {
        Pool::builder().open()
    }

    /// Opens a pool with settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Reserves ports for this process; they are consumed through the [`Reservation`].
    ///
    /// # Errors
    /// [`AcquireError`]; then nothing is reserved.
    pub fn acquire(&self, request: &Request) -> Result<Reservation, AcquireError> {
        self.acquire_scoped(request, Scope::Associated)
    }

    /// As [`acquire`](Pool::acquire), and says who may consume the block without associating.
    ///
    /// That binds to port 0 are served from the block is TCP's alone; of UDP it is not asked.
    ///
    /// # Errors
    /// [`AcquireError`]; then nothing is reserved.
    pub fn acquire_scoped(
        &self,
        request: &Request,
        scope: Scope,
    ) -> Result<Reservation, AcquireError> {
        self.acquire_by(request, scope, None)
    }

    /// With a deadline a keeper that is asked waits until then.
    fn acquire_by(
        &self,
        request: &Request,
        scope: Scope,
        deadline: Option<Instant>,
    ) -> Result<Reservation, AcquireError> {
        if self.is_embedded() {
            let held = self.hold(request, scope, None)?;
            return Ok(Reservation::embedded(held, self.0.is_strict));
        }
        let failed = |failure| AcquireError::Failure {
            request: *request,
            failure,
        };
        let mut sockets: Vec<(Transport, OwnedFd)> = Vec::with_capacity(2);
        for transport in request.transports.iter() {
            sockets.push((transport, socket::owner_socket(transport).map_err(failed)?));
        }
        let legs: Vec<Leg<'_>> = sockets
            .iter()
            .map(|(transport, socket)| Leg::new(*transport, socket.as_fd()))
            .collect();
        let blocks = self.claim(&legs, request, scope, deadline)?;
        let sockets = sockets.into_iter().map(|(_, socket)| socket).collect();
        Ok(Reservation::new(&blocks, sockets))
    }

    /// As [`acquire_scoped`](Pool::acquire_scoped), but while the ports are taken tries again until
    /// `timeout` has passed.
    ///
    /// Ports that automatic choice could pick are waited for by the keeper, if there is one. For others
    /// there is no queue: this asks again after a pause of 1 ms, then ever longer
    /// ones up to 50 ms, and who waits longest has no better chance than others.
    ///
    /// # Errors
    /// [`AcquireError`], the last one if the time is over; then nothing is reserved.
    pub fn acquire_timeout(
        &self,
        request: &Request,
        scope: Scope,
        timeout: Duration,
    ) -> Result<Reservation, AcquireError> {
        let start = Instant::now();
        let mut step = PAUSE_MIN;
        loop {
            let answer = self.acquire_by(request, scope, start.checked_add(timeout));
            let Err(error) = &answer else { return answer };
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() || !error.is_temporary() {
                return answer;
            }
            claim::pause(step.min(left));
            step = (step * 2).min(PAUSE_MAX);
        }
    }

    /// Reserves ports with a socket of the caller's as owner socket: the reservation ends when the
    /// last descriptor of that socket is closed, or with [`release_on`](Pool::release_on).
    ///
    /// The socket may be bound; its transport is that of the block. One socket may own up to 32
    /// reservations.
    ///
    /// The embedded pool cannot see the end of somebody else's socket: there the reservation ends
    /// with [`release_on`](Pool::release_on) or with the process.
    ///
    /// ```no_run
    /// use portpool::{Pool, Scope, Want};
    /// use socket2::{Domain, Socket, Type};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::open()?;
    /// let owner = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    /// let want = Want::Specific("5000-5019".parse()?);
    /// let block = pool.acquire_on(&owner, &want, Scope::Associated)?;
    ///
    /// let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    /// pool.associate(&socket, block.token)?;
    /// pool.release_on(&owner, block.token)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AcquireError`]; then nothing is reserved.
    pub fn acquire_on(
        &self,
        socket: &impl AsFd,
        want: &Want,
        scope: Scope,
    ) -> Result<Block, AcquireError> {
        let socket = socket.as_fd();
        let transport = socket::transport_of(socket);
        let request = Request {
            // Only named in the message if it is none at all.
            transports: transport.unwrap_or(Transport::Tcp).into(),
            want: *want,
        };
        let refused = |refusal| AcquireError::Refused {
            request,
            range: None,
            refusal,
        };
        let transport = transport.ok_or_else(|| refused(Refusal::UnsupportedSocket))?;
        if self.is_embedded() {
            if embedded::served_transport(socket).is_none() {
                return Err(refused(Refusal::UnsupportedSocket));
            }
            let owner = sockopt::socket_cookie(socket);
            let owner = owner.map_err(|error| AcquireError::Failure {
                request,
                failure: Failure::of("getsockopt")(error.into()),
            })?;
            let held = self.hold(&request, scope, Some(owner))?;
            let first = held.first().map(|held| held.block);
            return first.ok_or_else(|| refused(Refusal::BadRequest));
        }
        let blocks = self.claim(&[Leg::new(transport, socket)], &request, scope, None)?;
        blocks
            .first()
            .copied()
            .ok_or_else(|| refused(Refusal::BadRequest))
    }

    /// Ends a reservation of this process. `socket` may be any socket of its transport.
    ///
    /// Sockets bound to its ports keep them.
    ///
    /// # Errors
    /// [`ReleaseError`]; a reservation of another process stays.
    pub fn release_on(&self, socket: &impl AsFd, token: Token) -> Result<(), ReleaseError> {
        let socket = socket.as_fd();
        if self.is_embedded() {
            return embedded::release_token(socket, token);
        }
        release(socket, token).map_err(|error| match error {
            ReleaseError::Refused {
                refusal: Refusal::UnknownToken,
                ..
            } => ReleaseError::Refused {
                token,
                refusal: self.explain(socket, token),
            },
            other => other,
        })
    }

    /// Ties an unbound socket to a reservation of this process: its bind takes a port of the block.
    ///
    /// # Errors
    /// [`AssociateError`]; the socket is then as it was.
    pub fn associate(&self, socket: &impl AsFd, token: Token) -> Result<(), AssociateError> {
        let socket = socket.as_fd();
        if self.is_embedded() {
            return embedded::associate(socket, token);
        }
        socket::associate(socket, token).map_err(|error| match error {
            AssociateError::Refused {
                refusal: Refusal::UnknownToken,
                ..
            } => AssociateError::Refused {
                token,
                refusal: match self.explain(socket, token) {
                    Refusal::WrongTransport => Refusal::WrongTransport,
                    _ => Refusal::UnknownToken,
                },
            },
            other => other,
        })
    }

    /// Binds a socket as `bind(2)` would if the pool were the kernel's: to a port of the block that
    /// the socket is associated with, for port 0 to the lowest free one. Other sockets it binds as
    /// the kernel does.
    ///
    /// In the kernel pool this *is* `bind(2)`. In the embedded pool a plain bind does not get past
    /// this process's own hold.
    ///
    /// # Errors
    /// As `bind(2)` under the kernel pool: `EADDRNOTAVAIL` for a port outside the block, `ENOBUFS`
    /// if all are in use or the block was released.
    pub fn bind(&self, socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
        let socket = SockRef::from(socket);
        match embedded::associated(socket.as_fd()) {
            Some(Ok(held)) if self.is_embedded() => {
                let bound = embedded::bind(&held, &socket, address, self.0.is_strict);
                bound.map_err(error_of)
            }
            Some(Err(_)) if self.is_embedded() => Err(errno(Refusal::NoRoom)),
            _ => socket.bind(&address.into()),
        }
    }

    /// Listens on a socket as `listen(2)` would, whether it is bound to a port of a block or not.
    ///
    /// # Errors
    /// As `listen(2)`.
    pub fn listen(&self, socket: &impl AsFd, backlog: u32) -> io::Result<()> {
        let socket = SockRef::from(socket);
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match embedded::associated(socket.as_fd()) {
            Some(Ok(held)) if self.is_embedded() => {
                if !socket::is_bound(socket.as_fd()) {
                    let nowhere = socket.local_addr()?.as_socket();
                    let nowhere = nowhere.ok_or(io::ErrorKind::InvalidInput)?;
                    self.bind(&socket.as_fd(), nowhere)?;
                }
                let address = socket.local_addr()?.as_socket();
                let address = address.ok_or(io::ErrorKind::InvalidInput)?;
                let strict = self.0.is_strict;
                embedded::listen(&held, &socket, address, backlog, strict).map_err(error_of)
            }
            _ => socket.listen(backlog),
        }
    }

    /// Kernel or embedded.
    pub fn kind(&self) -> PoolKind {
        self.0.choice.kind
    }

    /// The kind of this pool and why it was chosen.
    pub fn choice(&self) -> &Choice {
        &self.0.choice
    }

    /// Whether sockets that this process makes are guarded and counted. False only of a kernel pool
    /// that guards another cgroup, opened with [`Builder::open_to_look`].
    pub fn guards_caller(&self) -> bool {
        self.0.guards_caller
    }

    /// How a socket without options would get a port of a reservation and an address, and whether
    /// others fit in meanwhile.
    pub fn technique(&self, transport: Transport, ip: IpAddr) -> Technique {
        match self.is_embedded() {
            true => embedded::technique(transport, ip),
            false => Technique::Kernel,
        }
    }

    /// Whether sockets that could get a port only by a window are refused.
    pub fn is_strict(&self) -> bool {
        self.0.is_strict
    }

    /// The cookie of the network namespace whose pool this is.
    pub fn netns_cookie(&self) -> u64 {
        self.0.cookie
    }

    /// Whether this process can read the state of the pool.
    ///
    /// Where it cannot, exact ports are acquired as ever, wildcard blocks are found by trying, and
    /// [`reservations`](Pool::reservations), [`port`](Pool::port) and [`overview`](Pool::overview)
    /// answer with a [`LookError`].
    pub fn can_look(&self) -> bool {
        match self.kind() {
            PoolKind::Embedded => self.reservations().is_ok(),
            PoolKind::Automatic | PoolKind::Kernel => self.maps().is_ok(),
        }
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.0.run_dir
    }

    pub(crate) fn may_ask_keeper(&self) -> bool {
        self.0.may_ask_keeper
    }

    pub(crate) fn may_take_ephemeral(&self) -> bool {
        self.0.may_take_ephemeral
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.kind() == PoolKind::Embedded
    }

    fn hold(
        &self,
        request: &Request,
        scope: Scope,
        owner: Option<u64>,
    ) -> Result<embedded::Blocks, AcquireError> {
        match scope {
            Scope::Associated => embedded::acquire(request, owner),
            Scope::Tree { .. } => Err(AcquireError::KernelOnly { request: *request }),
        }
    }

    /// The maps of this pool, opened anew if another process has attached again since.
    pub(crate) fn maps(&self) -> Result<Arc<Maps>, LookError> {
        let mut looked = self.0.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(maps) = looked.as_ref()
            && maps.are_current()
        {
            return Ok(Arc::clone(maps));
        }
        let maps = Arc::new(Maps::open(&self.0.run_dir, self.0.cookie)?);
        *looked = Some(Arc::clone(&maps));
        Ok(maps)
    }

    /// The maps of the namespace with this cookie, as opened before unless `fresh`.
    pub(crate) fn maps_of(&self, cookie: u64, fresh: bool) -> Option<Arc<Maps>> {
        let mut cached = self.0.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh || cached.as_ref().is_none_or(|maps| maps.cookie() != cookie) {
            *cached = Maps::open(&self.0.run_dir, cookie).ok().map(Arc::new);
        }
        cached.clone()
    }

    /// What an answer of "invalid" to a token says, as far as the maps tell.
    fn explain(&self, socket: BorrowedFd<'_>, token: Token) -> Refusal {
        let record = self.maps().and_then(|maps| maps.record(token));
        match record {
            Ok(Some(record)) if socket::transport_of(socket) != Some(record.transport) => {
                Refusal::WrongTransport
            }
            Ok(Some(record)) if record.tenure != Tenure::Runtime => Refusal::Persistent,
            Ok(Some(_)) => Refusal::ForeignToken,
            Ok(None) | Err(_) => Refusal::UnknownToken,
        }
    }
}

/// Issues the control code release.
pub(crate) fn release(socket: BorrowedFd<'_>, token: Token) -> Result<(), ReleaseError> {
    let released = sys::control(socket, ControlCode::Release, &token_bytes(token));
    released.map_err(|source| {
        let operation = Operation::Control(ControlCode::Release);
        match refusal_of(operation, source.raw_os_error().unwrap_or(0)) {
            Some(refusal) => ReleaseError::Refused { token, refusal },
            None => ReleaseError::Failure {
                token,
                failure: Failure::of("setsockopt")(source),
            },
        }
    })
}

/// Where the pool of a namespace chooses from if nobody set its ranges.
pub(crate) fn default_ranges() -> RangeSet {
    [(20_000, 12_768), (61_000, 4_536)]
        .into_iter()
        .filter_map(|(first, count)| PortRange::from_numbers(first, count).ok())
        .collect()
}

/// A bind error as the number that the kernel pool would give.
fn error_of(error: BindError) -> io::Error {
    match error {
        BindError::Refused { refusal, .. } => errno(refusal),
        BindError::Failure { failure, .. } => failure.cause,
        other => io::Error::new(io::ErrorKind::PermissionDenied, other.to_string()),
    }
}

fn errno(refusal: Refusal) -> io::Error {
    let number = errno_of(Operation::Bind, refusal).unwrap_or(libc::EACCES);
    io::Error::from_raw_os_error(number)
}

pub(crate) fn attached(socket: BorrowedFd<'_>) -> Result<(), OpenError> {
    let Err(source) = sys::control(socket, ControlCode::Probe, &probe_bytes()) else {
        return Ok(());
    };
    let operation = Operation::Control(ControlCode::Probe);
    match refusal_of(operation, source.raw_os_error().unwrap_or(0)) {
        Some(Refusal::NotAttached) => Err(OpenError::NotAttached),
        Some(Refusal::VersionMismatch) => Err(OpenError::VersionMismatch),
        _ => Err(Failure::of("setsockopt")(source).into()),
    }
}

fn default_run_dir() -> PathBuf {
    let set = env::var_os("PORTPOOL_RUN_DIR").filter(|path| !path.is_empty());
    set.map_or_else(|| PathBuf::from(RUN_DIR), PathBuf::from)
}

const RUN_DIR: &str = "/run/portpool";
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
