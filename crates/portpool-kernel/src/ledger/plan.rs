//! How the sysctl gets from what it is to what it is to be.

use portpool_core::RangeSet;

use super::{Entries, State, World};
use crate::error::Error;

/// What is to be in the sysctl.
pub(super) struct Plan {
    /// Of the administrator.
    his: RangeSet,
    /// Of ours.
    wanted: RangeSet,
}

impl Plan {
    fn target(&self) -> RangeSet {
        self.his.union(&self.wanted)
    }

    /// What goes out of the sysctl.
    pub(super) fn leaving(&self, now: &RangeSet) -> RangeSet {
        now.difference(&self.target())
    }
}

impl State {
    /// Whose is what, now that the sysctl is `now`, and what it is to be.
    pub(super) fn plan(&self, now: &RangeSet, entries: &Entries) -> Plan {
        // Of a range of ours that is there for the lesser part, somebody wrote that part: he wrote
        // the sysctl anew without reading it, as sysctl(8) does with its files.
        let rewritten: RangeSet = self
            .done
            .iter()
            .filter(|range| {
                let left = RangeSet::from(*range).intersection(now);
                left.len_ports() * 2 < u32::from(range.count().number())
            })
            .collect();
        let his = now
            .difference(&self.may)
            .union(&self.shared)
            .union(&rewritten)
            .intersection(now);
        Plan {
            his,
            wanted: entries.all(),
        }
    }
}

/// Makes the sysctl what it is to be, and looks whether it is. With `needs_guard` no port that stays is
/// without its entry for a moment.
pub(super) fn carry_out(
    world: &mut impl World,
    state: &mut State,
    entries: &Entries,
    needs_guard: bool,
) -> Result<(), Error> {
    let mut missing = RangeSet::new();
    for _ in 0..ATTEMPTS_MAX {
        let now = world.reserved()?;
        let plan = state.plan(&now, entries);
        let (target, adding) = (plan.target(), plan.wanted.difference(&now));
        // What does not fit one write stays until it does: of two, the first would leave ports
        // without their entries for a moment.
        let fits = !needs_guard || target.to_string().len() <= LENGTH_MAX;
        let staying = match fits {
            true => RangeSet::new(),
            false => plan.leaving(&now),
        };
        let own = plan.wanted.union(&staying);
        *state = State {
            entries: entries.clone(),
            shared: plan.his.intersection(&state.may.union(&own)),
            may: state.may.union(&own),
            done: state.done.intersection(&now).intersection(&own),
        };
        // Noted before it is done, so that no crash in between leaves an entry nobody takes out.
        world.note(state)?;
        if !adding.is_empty() {
            world.add(&adding)?;
        }
        if fits && !plan.leaving(&now).is_empty() {
            world.replace(&target)?;
        }
        let then = world.reserved()?;
        missing = plan.wanted.difference(&then);
        let too_many = then.difference(&plan.his).difference(&own);
        // What came meanwhile is somebody else's, unless it was to go.
        if missing.is_empty() && too_many.intersection(&state.may).is_empty() {
            state.shared = plan.his.intersection(&then).intersection(&own);
            state.may = own.clone();
            state.done = own;
            world.note(state)?;
            return Ok(());
        }
    }
    Err(match missing.is_empty() {
        false => Error::SysctlLost { missing },
        true => Error::SysctlContended,
    })
}

/// Somebody who changes the sysctl again and again is not outdone.
const ATTEMPTS_MAX: u32 = 8;

/// The kernel takes a page at a time.
const LENGTH_MAX: usize = 4_000;
