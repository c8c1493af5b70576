//! Attaching: programs, pins, the pool of this namespace, the sysctl, the sweep.
//!
//! The order is what makes it gap-free: first automatic choice is kept away, then the pool is
//! there (binds are counted from now on, acquire is refused as busy), then the programs, then the
//! sockets bound before are swept up, and only then does the pool grant. A failure undoes what
//! this call did, and nothing else.

use std::path::PathBuf;

use portpool_core::{
    Limits, RangeSet,
    abi::{PoolConfig, PoolState, RANGE_COUNT_MAX},
};

use crate::{
    cgroup::Cgroup,
    detach,
    error::{Error, Failed, Step},
    files::RunDir,
    held, mounts,
    namespace::{NetNamespace, default_ranges},
    pool::Pools,
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

/// Attaches the kernel pool for the calling thread's network namespace. Over a running pool of the
/// same version it replaces the programs without letting go of one reservation.
///
/// # Errors
/// Any step that fails; everything this call did is undone.
pub fn attach(options: &AttachOptions) -> Result<Attached, Error> {
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
    let attached = steps(options, limits, &cgroup, namespace, &mut undo);
    if attached.is_err() {
        undo.run();
    }
    attached
}

fn steps(
    options: &AttachOptions,
    limits: Option<Limits>,
    cgroup: &Cgroup,
    namespace: NetNamespace,
    undo: &mut Undo,
) -> Result<Attached, Error> {
    let run = &options.run;
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
    let kept_clear = keep_clear(run, namespace, &pool.ranges, undo)?;
    let reserved = sysctl::reserved()?;
    // What is no longer kept from automatic choice is not granted from here on, what is newly kept
    // only once the sweep is done.
    // A failure from here on leaves it at that: in between, automatic choice may have picked.
    maps.note_kept(&maps.kept()?.intersection(&reserved))?;
    undo.table = true;
    pools.put(namespace.cookie, &pool)?;
    programs.link(cgroup)?;
    pools.count_binds(namespace.cookie, pool.index, &reserved)?;
    // Twice: an automatic choice that began before the sysctl was written may end during the first.
    programs.expect_holds(pool.index)?;
    programs.sweep()?;
    programs.sweep()?;
    held::look(&mut programs, &maps, pool.index)?;
    maps.note_kept(&reserved)?;
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

/// Enters what must be kept from automatic choice into the sysctl and notes what was added.
fn keep_clear(
    run: &RunDir,
    namespace: NetNamespace,
    ranges: &RangeSet,
    undo: &mut Undo,
) -> Result<RangeSet, Error> {
    let own_before = run.added(namespace.cookie)?;
    let others = sysctl::reserved()?.difference(&own_before);
    let wanted = sysctl::kept_clear(ranges, sysctl::ephemeral()?);
    let added = wanted.difference(&others);
    undo.added_before = Some(own_before.clone());
    // Noted before it is done, and with what was there before, so that no crash in between leaves
    // an entry that nobody takes out.
    run.note_added(namespace.cookie, &own_before.union(&added))?;
    sysctl::write_reserved(&others.union(&added))?;
    let missing = wanted.difference(&sysctl::reserved()?);
    if !missing.is_empty() {
        return Err(Error::SysctlLost { missing });
    }
    run.note_added(namespace.cookie, &added)?;
    Ok(added)
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
    /// What was ours in the sysctl, once it may have been changed.
    added_before: Option<RangeSet>,
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
            added_before: None,
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
        if let Some(own_before) = &self.added_before {
            drop(self.restore_sysctl(own_before));
        }
        if self.mounted {
            drop(detach::remove_all(&self.run));
        } else {
            drop(detach::remove_if_unused(&self.run));
        }
    }

    fn restore_sysctl(&self, own_before: &RangeSet) -> Result<(), Failed> {
        let added = self.run.added(self.namespace.cookie)?;
        let now = sysctl::reserved()?;
        let then = now.difference(&added).union(own_before);
        // It may be read-only, and that the failure.
        if now != then {
            sysctl::write_reserved(&then)?;
        }
        detach::forget_added(&self.run, self.namespace.cookie, own_before)
    }
}
