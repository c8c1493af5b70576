//! Attaching: programs, pins, the pool of this namespace, the sysctl, the sweep.
//!
//! The order is what makes it gap-free: first automatic choice is kept away, then the pool is
//! there (binds are counted from now on, acquire is refused as busy), then the programs, then the
//! sockets bound before are swept up, and only then does the pool grant. A failure undoes what
//! this call did, and nothing else.

use std::path::PathBuf;

use portpool_core::{
    Limits, PortRange, RangeSet,
    abi::{PoolConfig, PoolState, RANGE_COUNT_MAX, Tenure},
};

use crate::{
    cgroup::Cgroup,
    detach,
    error::{Error, Failed, Step},
    files::RunDir,
    grant,
    ledger::{Entries, Ledger, Reason},
    mounts,
    namespace::{NetNamespace, default_ranges},
    pool::{PoolMaps, Pools},
    programs::Programs,
    reap, sysctl,
};

/// How to attach.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Where pins go.
    pub run: RunDir,
    /// Which cgroup's sockets are guarded: `None` for the root of the hierarchy, hence all. Sockets
    /// created elsewhere are neither refused nor counted.
    pub cgroup: Option<PathBuf>,
    /// Where wildcard blocks are drawn from: `None` for [`default_ranges`], or for those the pool
    /// has if it is attached already.
    pub ranges: Option<RangeSet>,
    /// The pool's limits: `None` for the defaults, or for those the pool has.
    pub limits: Option<Limits>,
    /// Attach though this is a private mount namespace, whose end is the end of the guard.
    pub private_mounts: bool,
}

/// What attach did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attached {
    /// The pool of this network namespace.
    pub pool: PoolConfig,
    /// Its namespace.
    pub namespace: NetNamespace,
    /// The cgroup whose sockets are guarded.
    pub cgroup: PathBuf,
    /// Whether the pool is new; otherwise programs, ranges and limits were replaced under a
    /// running one, whose reservations all stay.
    pub is_new: bool,
    /// What was added to `net.ipv4.ip_local_reserved_ports`.
    pub kept_clear: RangeSet,
    /// Pools of namespaces that are gone and were taken away.
    pub reaped: usize,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

/// What is on record and put back while attaching, before anything else is granted.
pub struct PutBack<'a> {
    /// The ports of all persistent blocks.
    pub persistent: RangeSet,
    /// All excluded ports.
    pub excluded: RangeSet,
    /// Called once the programs are linked; the pool grants nobody anything yet.
    pub act: &'a mut dyn FnMut() -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
}

/// Attaches the kernel pool for the calling thread's network namespace. Over a running pool of the
/// same version it replaces the programs without letting go of one reservation.
///
/// # Errors
/// Any step that fails; everything this call did is undone.
pub fn attach(options: &AttachOptions) -> Result<Attached, Error> {
    attach_with(options, None)
}

/// As [`attach`], and puts back what is on record. Without it persistent blocks and exclusions of a
/// running pool stay as they are, and a new pool has none.
///
/// # Errors
/// As [`attach`], and [`Error::PutBack`].
pub fn attach_with(
    options: &AttachOptions,
    put_back: Option<PutBack<'_>>,
) -> Result<Attached, Error> {
    let limits = options.limits.map(Limits::checked).transpose()?;
    if let Some(ranges) = &options.ranges {
        check_ranges(ranges)?;
    }
    let cgroup = Cgroup::open(options.cgroup.as_deref())?;
    let namespace = NetNamespace::current()?;
    let _lock = options.run.lock()?;
    if let Some(found) = options.run.other_version() {
        let path = options.run.path().to_owned();
        return Err(Error::OtherVersion {
            path,
            found,
            own: portpool_core::abi::VERSION,
        });
    }
    let mut undo = Undo::new(&options.run, namespace);
    let attached = steps(options, put_back, limits, &cgroup, namespace, &mut undo);
    if attached.is_err() {
        undo.run();
    }
    attached
}

fn steps(
    options: &AttachOptions,
    put_back: Option<PutBack<'_>>,
    limits: Option<Limits>,
    cgroup: &Cgroup,
    namespace: NetNamespace,
    undo: &mut Undo,
) -> Result<Attached, Error> {
    let run = &options.run;
    if Pools::is_elsewhere(run, namespace.cookie)? {
        return Err(Error::Elsewhere(run.path().to_owned()));
    }
    undo.mounted = mounts::mount_bpf(run, options.private_mounts)?;
    let mut programs = Programs::load(run)?;
    let version = run.version();
    std::fs::create_dir_all(&version).step(|| format!("make {}", version.display()))?;
    let pools = Pools::open(run)?;
    let reaped = reap::dead_namespaces(run, &pools, namespace)?;
    let before = pools.config(namespace.cookie)?;
    let ranges = options
        .ranges
        .clone()
        .or_else(|| before.as_ref().map(|pool| pool.ranges.clone()));
    let pool = PoolConfig {
        limits: limits
            .or(before.as_ref().map(|pool| pool.limits))
            .unwrap_or_default(),
        ranges: ranges.unwrap_or_else(default_ranges),
        cgroup: cgroup.id,
        ..match &before {
            Some(before) => before.clone(),
            None => new_pool(&pools)?,
        }
    };
    undo.before = before.clone();
    if before.is_none() {
        undo.pool = Some(pool.index);
        pools.remove_maps(namespace.cookie, None);
        pools.create_maps(namespace.cookie, pool.index)?;
    }
    let maps = pools.maps(namespace.cookie)?;
    let mut ledger = Ledger::open(run, namespace.cookie)?;
    // Of a pool that is gone only the sysctl may be left.
    let present = match before.is_some() {
        true => {
            let entries = grant::without_lost_windows(&ledger, &maps, &sysctl::reserved()?)?;
            with_blocks(entries, &maps)?
        }
        false => Entries::default(),
    };
    let entries = entries(present, &pool.ranges, put_back.as_ref())?;
    undo.ledger = Some((ledger.entries().clone(), before.is_some()));
    let reserved = sysctl::reserved()?;
    let kept_clear = entries.of(Reason::Attached).difference(&reserved);
    // What is no longer kept from automatic choice is not granted from here on, what is newly kept
    // only once the sweep is done.
    // A failure from here on leaves it at that: in between, automatic choice may have picked.
    grant::enter(&mut ledger, &maps, entries)?;
    undo.table = true;
    pools.put(namespace.cookie, &pool)?;
    programs.link(cgroup)?;
    if let Some(put_back) = put_back {
        (put_back.act)().map_err(Error::PutBack)?;
    }
    // The administrator's own entries are as good as ours.
    let by_window = ledger.entries().of(Reason::Granted);
    let ports = RangeSet::from(PortRange::ALL).difference(by_window);
    let ports = ports.union(&grant::grantable(ledger.entries()));
    grant::count_users(&mut programs, &maps, pool.index, &ports)?;
    let pool = PoolConfig {
        state: PoolState::Ready,
        ..pool
    };
    pools.put(namespace.cookie, &pool)?;
    Ok(Attached {
        pool,
        namespace,
        cgroup: cgroup.path.clone(),
        is_new: before.is_none(),
        kept_clear,
        reaped,
        warnings: warnings(options, cgroup),
    })
}

fn check_ranges(ranges: &RangeSet) -> Result<(), Error> {
    match ranges.iter().count() {
        0 => Err(Error::NoRange),
        count if count > RANGE_COUNT_MAX => Err(Error::TooManyRanges(count)),
        _ => Ok(()),
    }
}

fn new_pool(pools: &Pools) -> Result<PoolConfig, Error> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanoseconds = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    Ok(PoolConfig {
        // Marks on sockets say which pool counted them, so an id must never come again; the clock
        // does not stand still between two attaches. 44 bits of microseconds are half a year
        // of uptime before they wrap, and a mark outlives no socket.
        id: (nanoseconds / 1_000) & ((1 << 44) - 1),
        attached: nanoseconds,
        cgroup: 0,
        index: pools.free_index()?,
        state: PoolState::Sweeping,
        limits: Limits::DEFAULT,
        ranges: RangeSet::new(),
    })
}

/// What is to be kept from automatic choice.
fn entries(
    mut entries: Entries,
    ranges: &RangeSet,
    put_back: Option<&PutBack<'_>>,
) -> Result<Entries, Failed> {
    let attached = sysctl::kept_clear(ranges, sysctl::ephemeral()?);
    if let Some(put_back) = put_back {
        entries = entries
            .with(Reason::Persistent, put_back.persistent.clone())
            .with(Reason::Excluded, put_back.excluded.clone());
    }
    Ok(grant::noted(entries.with(Reason::Attached, attached)))
}

/// With all persistent blocks that are in force: of those that the pool kept clear in any case, with the
/// ranges it had, there is no note.
fn with_blocks(entries: Entries, maps: &PoolMaps) -> Result<Entries, Failed> {
    let records = maps.records()?;
    let blocks = records
        .iter()
        .filter(|record| record.tenure != Tenure::Runtime)
        .map(|record| record.range);
    let persistent = entries.of(Reason::Persistent).union(&blocks.collect());
    Ok(entries.with(Reason::Persistent, persistent))
}

fn warnings(options: &AttachOptions, cgroup: &Cgroup) -> Vec<String> {
    let mut warnings = Vec::new();
    if options.cgroup.is_some() {
        warnings.push(format!(
            "only sockets created in {} are guarded and counted: a socket of any other cgroup can \
             take a reserved port",
            cgroup.path.display()
        ));
    }
    if mounts::is_private() {
        warnings.push("the guard ends with this private mount namespace".to_owned());
    }
    if crate::namespace::is_nested_pid_namespace() {
        warnings.push(
            "processes outside this pid namespace were not swept: ports they had bound before count \
             as in use only where they listen or are UDP"
                .to_owned(),
        );
    }
    warnings
}

/// What a failed attach takes back.
struct Undo {
    run: RunDir,
    namespace: NetNamespace,
    /// Whether the bpf file system was mounted by this call, so that nobody's pool is in it.
    mounted: bool,
    /// The pool as it was.
    before: Option<PoolConfig>,
    /// What was entered in the sysctl, once it may have been changed, and whether for a running pool.
    ledger: Option<(Entries, bool)>,
    /// The slot of a pool whose maps may have been made.
    pool: Option<u32>,
    /// Whether the table of pools may have been changed.
    table: bool,
}

impl Undo {
    fn new(run: &RunDir, namespace: NetNamespace) -> Undo {
        let run = run.clone();
        Undo {
            run,
            namespace,
            mounted: false,
            before: None,
            ledger: None,
            pool: None,
            table: false,
        }
    }

    /// Goes on after a failure: there is nobody left to tell but the error already on its way.
    fn run(self) {
        let cookie = self.namespace.cookie;
        if let Ok(pools) = Pools::open(&self.run) {
            match &self.before {
                Some(before) if self.table => drop(pools.put(cookie, before)),
                None if self.table => drop(pools.remove(cookie)),
                _ => {}
            }
            if self.pool.is_some() {
                pools.remove_maps(cookie, self.pool);
            }
        }
        if let Some((before, is_running)) = &self.ledger {
            drop(self.restore_sysctl(before, *is_running));
        }
        if self.mounted {
            drop(detach::remove_all(&self.run));
        } else {
            drop(detach::remove_if_unused(&self.run));
        }
    }

    fn restore_sysctl(&self, before: &Entries, is_running: bool) -> Result<(), Error> {
        let mut ledger = Ledger::open(&self.run, self.namespace.cookie)?;
        if !is_running {
            return Ok(ledger.close()?);
        }
        let maps = Pools::open(&self.run)?.maps(self.namespace.cookie)?;
        grant::enter(&mut ledger, &maps, before.clone())
    }
}
