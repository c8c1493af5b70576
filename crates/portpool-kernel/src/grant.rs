//! Ports kept from automatic choice, so that they can be granted, while the pool runs.
//!
//! The order is that of attach: first the sysctl keeps automatic choice away, then the sockets that
//! have such ports already are counted, and only then may a port be granted. The other way round a
//! port is no longer granted before its entry goes, and the entry of a port that somebody has by then
//! stays.

use std::fs::File;

use portpool_core::RangeSet;
use rustix::thread::{MembarrierCommand, membarrier};

use crate::{
    error::{Error, Failed},
    files::RunDir,
    held,
    ledger::{Entries, Ledger, Page, Reason},
    mounts,
    namespace::NetNamespace,
    pool::{PoolMaps, Pools},
    programs::Programs,
    sysctl,
};

/// Keeps ports from automatic choice in the calling thread's network namespace, and counts the
/// sockets that have them already. With [`Reason::Granted`] they can be claimed through a window
/// only, with other reasons by everybody; ports that were kept clear before stay as they are.
///
/// # Errors
/// Any step that fails; what was entered for it is taken out again.
pub fn make_grantable(run: &RunDir, reason: Reason, ports: &RangeSet) -> Result<(), Error> {
    change(run, reason, ports, |before| before.union(ports))
}

/// Lets automatic choice have ports again, unless they are kept for another reason or in the
/// administrator's own list. A port that is reserved stays kept clear, from now on for
/// [`Reason::Granted`].
///
/// # Errors
/// Any step that fails; the ports may or may not be kept clear then.
pub fn let_go(run: &RunDir, reason: Reason, ports: &RangeSet) -> Result<(), Error> {
    change(run, reason, &RangeSet::new(), |before| {
        before.difference(ports)
    })
}

/// Keeps exactly these ports for this reason: [`make_grantable`] and [`let_go`] in one.
///
/// # Errors
/// As those.
pub fn keep_exactly(run: &RunDir, reason: Reason, ports: &RangeSet) -> Result<(), Error> {
    change(run, reason, ports, |_| ports.clone())
}

/// The ports that are kept clear for a reason. For [`Reason::Persistent`] that is what
/// [`Reason::Attached`] does not have: those ports are kept clear in any case, and a note of them
/// would have to be written with each block, the longer the more there are.
///
/// # Errors
/// [`Error::NotAttached`], or if the note of it cannot be read.
pub fn kept_for(run: &RunDir, reason: Reason) -> Result<RangeSet, Error> {
    if !mounts::is_bpf(&run.bpf()) {
        return Err(Error::NotAttached);
    }
    let _lock = run.lock()?;
    let ledger = Ledger::open(run, NetNamespace::current()?.cookie)?;
    Ok(ledger.entries().of(reason).clone())
}

/// What is kept from automatic choice in one network namespace, kept open to be asked often.
#[derive(Debug)]
pub struct KeptClear {
    page: Page,
    reserved: File,
}

impl KeptClear {
    /// That of the calling thread's network namespace.
    ///
    /// # Errors
    /// Any step that fails.
    pub fn open(run: &RunDir) -> Result<KeptClear, Failed> {
        Ok(KeptClear {
            page: Page::of(run, NetNamespace::current()?.cookie),
            reserved: sysctl::open_reserved()?,
        })
    }

    /// Whether the pool keeps these ports from automatic choice for as long as it is attached, and all
    /// that is entered is in the sysctl: then [`make_grantable`] has nothing to do for a persistent
    /// block. False where no pool is attached.
    ///
    /// This takes no lock. Whoever attaches with other ranges meanwhile takes ports out of the sysctl
    /// before he looks who has them, and the kernel grants none that is not in it.
    ///
    /// # Errors
    /// If ledger or sysctl cannot be read.
    pub fn is_attached(&mut self, ports: &RangeSet) -> Result<bool, Failed> {
        let Some(ledger) = self.page.read()? else {
            return Ok(false);
        };
        Ok(ports
            .difference(ledger.entries.of(Reason::Attached))
            .is_empty()
            && ledger.is_in_force(&sysctl::reserved_in(&self.reserved)?))
    }
}

fn change(
    run: &RunDir,
    reason: Reason,
    asked: &RangeSet,
    edit: impl FnOnce(&RangeSet) -> RangeSet,
) -> Result<(), Error> {
    let namespace = NetNamespace::current()?;
    if !mounts::is_bpf(&run.bpf()) {
        return Err(Error::NotAttached);
    }
    let _lock = run.lock()?;
    let pools = Pools::open(run)?;
    let Some(pool) = pools.config(namespace.cookie)? else {
        return Err(Error::NotAttached);
    };
    let maps = pools.maps(namespace.cookie)?;
    let mut ledger = Ledger::open(run, namespace.cookie)?;
    let now = sysctl::reserved()?;
    let before = without_lost_windows(&ledger, &maps, &now)?;
    let entries = before.clone().with(reason, edit(before.of(reason)));
    let entries = noted(entries);
    // An attach that was stopped before its sweep leaves entries of ports that nobody is granted.
    let is_swept = reason != Reason::Persistent || maps.are_kept(asked)?;
    let is_in_force = ledger.is_in_force(&now) && is_swept;
    if entries == before && is_in_force {
        return Ok(());
    }
    // Most blocks lie where attach keeps automatic choice away in any case: then it is a note.
    if entries.all() == before.all() && is_in_force {
        let new = grantable(&entries)
            .difference(&grantable(&before))
            .union(&newly_granted(&entries, &before));
        if maps.are_kept(&new)? {
            return Ok(ledger.note(entries)?);
        }
    }
    let done = enter(&mut ledger, &maps, entries).and_then(|()| {
        let unswept = needing_sweep(&ledger, &maps, &before)?;
        match unswept.is_empty() {
            true => Ok(()),
            false => {
                let ports = grantable(ledger.entries());
                count_users(&mut Programs::open(run)?, &maps, pool.index, &ports)
            }
        }
    });
    if done.is_err() {
        // There is nobody left to tell but the error already on its way.
        drop(enter(&mut ledger, &maps, before));
    }
    done
}

/// What is entered, without ports of windows whose entries somebody has taken out and that nobody has
/// claimed: entered again, they would be claimed on what was counted before. Without their entries the
/// windows grant nothing. `now` is the sysctl.
pub(crate) fn without_lost_windows(
    ledger: &Ledger,
    maps: &PoolMaps,
    now: &RangeSet,
) -> Result<Entries, Failed> {
    let granted = ledger.entries().of(Reason::Granted);
    // In this order: what has lost its entry is not claimed any more.
    let lost = ledger.lost(now).intersection(granted);
    let lost = match lost.is_empty() {
        true => lost,
        false => lost.difference(&maps.claimed()?),
    };
    let rest = granted.difference(&lost);
    Ok(ledger.entries().clone().with(Reason::Granted, rest))
}

/// Makes the sysctl have the entries, and the pool grant nothing that it does not have.
pub(crate) fn enter(
    ledger: &mut Ledger,
    maps: &PoolMaps,
    mut entries: Entries,
) -> Result<(), Error> {
    let now = sysctl::reserved()?;
    let kept = maps.kept()?.difference(&ledger.lost(&now));
    let leaving = ledger.leaving(&now, &entries);
    if !leaving.is_empty() {
        // From here on nobody is granted them, and a claim that had looked before is at its end.
        maps.note_kept(&kept.difference(&leaving))?;
        let staying = match membarrier(MembarrierCommand::Global) {
            Ok(()) => leaving.intersection(&maps.claimed()?),
            // Where that cannot be waited for (nohz_full) they stay until detach.
            Err(_) => leaving,
        };
        let granted = entries.of(Reason::Granted).union(&staying);
        entries = entries.with(Reason::Granted, granted);
    }
    ledger.change(&entries)?;
    Ok(maps.note_kept(&kept.intersection(&sysctl::reserved()?))?)
}

/// Counts all sockets on ports that are kept clear, and then lets everybody claim those of the ports that were kept clear
/// meanwhile.
pub(crate) fn count_users(
    programs: &mut Programs,
    maps: &PoolMaps,
    index: u32,
    ports: &RangeSet,
) -> Result<(), Error> {
    let reserved = sysctl::reserved()?;
    maps.count_binds(index, &reserved)?;
    // Twice: an automatic choice that began before the sysctl was written may end during the first.
    programs.expect_holds(index)?;
    programs.sweep()?;
    programs.sweep()?;
    held::look(programs, maps, index)?;
    let kept_clear = ports.intersection(&reserved);
    Ok(maps.note_kept(&maps.kept()?.union(&kept_clear))?)
}

/// Ports whose sockets have not been counted since they were entered.
fn needing_sweep(ledger: &Ledger, maps: &PoolMaps, before: &Entries) -> Result<RangeSet, Failed> {
    let entries = ledger.entries();
    let new = newly_granted(entries, before);
    let kept = maps.kept()?;
    // Nobody is granted what is excluded, but whoever excludes it is told who uses it.
    let unseen = maps.uncounted(entries.of(Reason::Excluded))?;
    Ok(grantable(entries)
        .union(&new)
        .difference(&kept)
        .union(&unseen))
}

fn newly_granted(entries: &Entries, before: &Entries) -> RangeSet {
    let granted = entries.of(Reason::Granted);
    granted.difference(before.of(Reason::Granted))
}

/// What is noted of entries: see [`kept_for`].
pub(crate) fn noted(entries: Entries) -> Entries {
    let beyond = entries
        .of(Reason::Persistent)
        .difference(entries.of(Reason::Attached));
    entries.with(Reason::Persistent, beyond)
}

/// What everybody may claim.
pub(crate) fn grantable(entries: &Entries) -> RangeSet {
    let attached = entries.of(Reason::Attached);
    attached.union(entries.of(Reason::Persistent))
}
