//! The keeper as a service: its socket, who may ask for what, and what it watches over.
//!
//! It makes blocks in the ephemeral range grantable, changes what outlives a process for those who may,
//! tells and counts what happens, and is on no other path: while it is gone the kernel pool goes on, and
//! the next one takes up where this one was.

mod access;
mod administration;
mod caller;
mod events;
mod exposition;
mod grants;
mod hub;
mod keeper;
mod limits;
mod listener;
mod log;
mod metrics;
mod pool_world;
mod seats;
mod server;
mod session;
mod stop;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
mod world;

use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};

use portpool::{Pool, PoolKind};
use portpool_kernel::{AttachOptions, NetNamespace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

pub use exposition::MetricsAddress;

use crate::{
    admin::{self, AdminError},
    store::StateDir,
};

use self::{
    access::Access,
    administration::Administration,
    grants::Grants,
    hub::Hub,
    keeper::Keeper,
    limits::{DESCRIPTORS, STACK_SIZE},
    listener::Listener,
    metrics::Metrics,
    pool_world::PoolWorld,
    seats::Seats,
    stop::Stop,
};

/// How to run a keeper.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to attach the pool if none is attached.
    pub attach: AttachOptions,
    /// Where the records are of what outlives a boot, if there are any.
    pub state: Option<StateDir>,
    /// The group that may administer beside root.
    pub group: Option<u32>,
    /// Where metrics are read, if anywhere.
    pub metrics: Option<MetricsAddress>,
}

/// Why the keeper cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// One serves this run directory already.
    #[error(
        "{}: another keeper serves this pool{}: stop it first, or set PORTPOOL_RUN_DIR", run_dir.display(),
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    AnotherKeeper {
        /// The run directory.
        run_dir: PathBuf,
        /// The other's process, if it says.
        pid: Option<u32>,
    },
    /// It was started with more sockets than it knows what to do with.
    #[error("LISTEN_FDS passes {0} sockets: pass one, the keeper's")]
    PassedSockets(usize),
    /// The pool cannot be attached.
    #[error(transparent)]
    Attach(#[from] AdminError),
    /// The pool cannot be opened.
    #[error(transparent)]
    Open(#[from] portpool::OpenError),
    /// What an earlier keeper left cannot be put in order.
    #[error("cannot put in order what an earlier keeper left: {0}")]
    Restore(String),
    /// A step failed.
    #[error("{what}: {cause}")]
    Step {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
}

impl KeeperError {
    fn step(what: String, cause: io::Error) -> KeeperError {
        KeeperError::Step { what, cause }
    }
}

/// Serves the pool of this network namespace until SIGTERM or SIGINT.
///
/// # Errors
/// [`KeeperError`] if it cannot start.
pub fn run(options: &Options) -> Result<(), KeeperError> {
    let passed = listener::passed()?;
    log::start();
    let stop = Stop::on_signals()
        .map_err(|cause| KeeperError::step("wait for signals".to_owned(), cause))?;
    take_descriptors();
    let run = &options.attach.run;
    make_run_dir(run.path())?;
    let listener = Listener::open(run.path(), passed)?;
    let keeper = Arc::new(open(options)?);
    if let Some(address) = &options.metrics {
        let keeper = Arc::clone(&keeper);
        exposition::serve(address, move || keeper.metrics_text())?;
    }
    // Before what has happened is looked at: nothing is missed in between.
    events::start(&keeper, run)?;
    start_sweeping(&keeper)?;
    tracing::info!(run_dir = %run.path().display(), namespace = keeper.cookie, "the keeper is ready");
    notify(&[NotifyState::Ready]);
    let served = server::serve(&keeper, &listener, &stop);
    notify(&[NotifyState::Stopping]);
    tracing::info!("the keeper stops; the kernel pool goes on");
    keeper.grants.close();
    served
}

/// Attaches where nothing is attached, and puts in order what an earlier keeper left.
fn open(options: &Options) -> Result<Keeper, KeeperError> {
    let run = &options.attach.run;
    let builder = Pool::builder().kind(PoolKind::Kernel).run_dir(run.path());
    let pool = match builder.clone().open() {
        Err(portpool::OpenError::NotAttached) => {
            let done = admin::attach(&options.attach, options.state.as_ref())?;
            for warning in done.attached.warnings.iter().chain(&done.warnings) {
                tracing::warn!("{warning}");
            }
            tracing::info!(cgroup = %done.attached.cgroup.display(), "attached the pool");
            builder.open()?
        }
        pool => pool?,
    };
    let namespace = NetNamespace::current();
    let namespace = namespace.map_err(|error| AdminError::Privileged(error.into()))?;
    let cookie = namespace.cookie;
    let pool_index = pool.overview().map_err(AdminError::Look)?.config.index;
    let access = Access::here(cookie, options.group);
    let access =
        access.map_err(|cause| KeeperError::step("read /proc/thread-self/ns".to_owned(), cause))?;
    let world = PoolWorld::new(run.clone(), pool);
    let world = world.map_err(|cause| {
        KeeperError::step(
            "open /proc/self/stat and /proc/sys/net/ipv4".to_owned(),
            cause,
        )
    })?;
    let grants = Grants::restore(world.clone(), run.path().join(GRANTS_NAME))
        .map_err(KeeperError::Restore)?;
    Ok(Keeper {
        cookie,
        pool_index,
        administration: Administration::open(run, options.state.clone()),
        world,
        access,
        grants,
        hub: Hub::default(),
        metrics: Metrics::new(),
        seats: Seats::default(),
    })
}

/// Ends what has ended, when it is told of and every now and then.
fn start_sweeping(keeper: &Arc<Keeper>) -> Result<(), KeeperError> {
    let failed =
        |cause| KeeperError::step("start the thread that gives ports back".to_owned(), cause);
    let waiter = keeper.hub.wait().map_err(failed)?;
    let keeper = Arc::clone(keeper);
    let builder = thread::Builder::new()
        .name("sweeper".to_owned())
        .stack_size(STACK_SIZE);
    let started = builder.spawn(move || {
        loop {
            waiter.reset();
            keeper.grants.sweep();
            waiter.wait(sweep_pause(&keeper));
        }
    });
    started.map(drop).map_err(failed)
}

/// Until the next window lapses, and not for ever: an event may be lost.
fn sweep_pause(keeper: &Keeper) -> Duration {
    let left = |deadline: u64| Duration::from_nanos(deadline.saturating_sub(Pool::since_boot()));
    let next = keeper.grants.next_deadline().map(left);
    next.map_or(SWEEP_PAUSE_MAX, |it| {
        it.clamp(SWEEP_PAUSE_MIN, SWEEP_PAUSE_MAX)
    })
}

/// Makes room for all connections at once, each with what may come beside a call: otherwise some users
/// could take every descriptor, and those kept for root as well.
fn take_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= DESCRIPTORS) {
        return;
    }
    let most = limit
        .maximum
        .map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            ..limit
        },
    );
    if raised.is_err() || most < DESCRIPTORS {
        tracing::warn!("fewer than {DESCRIPTORS} descriptors: raise the hard limit (ulimit -Hn)");
    }
}

fn make_run_dir(path: &std::path::Path) -> Result<(), KeeperError> {
    use std::os::unix::fs::DirBuilderExt;
    // Everybody may look at the pool, so the way to it is open.
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path);
    made.map_err(|cause| KeeperError::step(format!("make {}", path.display()), cause))
}

/// Tells systemd, if it started this.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Dies here if a test says so; nothing in a release build.
fn fault_point(step: &str) {
    admin::fault::point("grant", step);
}

/// What this keeper has taken from automatic choice, for the next one.
const GRANTS_NAME: &str = "keeper.grants";
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(1);
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(2);
