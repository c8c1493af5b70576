//! Which grants there are, and how many more there may be. No I/O.

use std::collections::BTreeMap;

use portpool::{Caller, Refusal};
use portpool_core::{PortRange, Transports};
use portpool_varlink::Fault;

use super::{
    super::limits::{EPHEMERAL_SHARE_PERCENT, GRANTS_MAX, GRANTS_PER_UID_MAX},
    Applicant,
    request::charge,
};

/// All grants, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    next: u64,
    grants: BTreeMap<u64, Grant>,
}

/// Ports taken from automatic choice for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) range: PortRange,
    pub(super) transports: Transports,
    pub(super) applicant: Applicant,
    pub(super) phase: Phase,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being made grantable, or waited for.
    Preparing,
    /// To be claimed by then, in nanoseconds since boot.
    Open { deadline: u64 },
    /// Somebody looks whether it was claimed.
    Settling,
    /// Claimed: it ends with the block.
    Claimed,
}

impl Grant {
    /// Ports of which nothing else is known.
    pub(super) fn stray(range: PortRange) -> Grant {
        let caller = Caller {
            uid: 0,
            pid: 0,
            start_ticks: 0,
        };
        Grant {
            range,
            transports: Transports::Both,
            applicant: Applicant {
                caller,
                is_administrator: true,
            },
            phase: Phase::Claimed,
        }
    }

    fn charge(&self) -> u32 {
        charge(self.range.count(), self.transports)
    }

    fn is_claimed(&self) -> bool {
        self.phase == Phase::Claimed
    }
}

impl Table {
    pub(super) fn enter(&mut self, grant: Grant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.grants.insert(id, grant);
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.grants.remove(&id);
    }

    pub(super) fn set_phase(&mut self, id: u64, phase: Phase) {
        if let Some(grant) = self.grants.get_mut(&id) {
            grant.phase = phase;
        }
    }

    /// The grant, for the one who settles it; nothing if somebody does already or it is gone.
    pub(super) fn begin_settling(&mut self, id: u64) -> Option<Grant> {
        let grant = self.grants.get_mut(&id)?;
        if grant.phase == Phase::Settling {
            return None;
        }
        let as_it_was = *grant;
        grant.phase = Phase::Settling;
        Some(as_it_was)
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.grants.keys().copied().collect()
    }

    pub(super) fn unclaimed(&self) -> Vec<u64> {
        let unclaimed = self.grants.iter().filter(|(_, grant)| !grant.is_claimed());
        unclaimed.map(|(id, _)| *id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    pub(super) fn ranges(&self) -> Vec<PortRange> {
        self.grants.values().map(|grant| grant.range).collect()
    }

    pub(super) fn overlapping(&self, range: PortRange) -> Option<(u64, Grant)> {
        let mut grants = self.grants.iter();
        let found = grants.find(|(_, grant)| grant.range.overlaps(range));
        found.map(|(id, grant)| (*id, *grant))
    }

    /// Those whose time to claim is over, and those that were claimed.
    pub(super) fn due(&self, now: u64) -> (Vec<u64>, Vec<(u64, PortRange)>) {
        let (mut open, mut claimed) = (Vec::new(), Vec::new());
        for (id, grant) in &self.grants {
            match grant.phase {
                Phase::Open { deadline } if deadline <= now => open.push(*id),
                Phase::Claimed => claimed.push((*id, grant.range)),
                _ => {}
            }
        }
        (open, claimed)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.grants.values().filter_map(|grant| match grant.phase {
            // 0 is one that could not be settled: that is tried again now and then.
            Phase::Open { deadline } if deadline > 0 => Some(deadline),
            _ => None,
        });
        deadlines.min()
    }

    /// How many are not opened yet, and how many are.
    pub(super) fn counts(&self) -> (usize, usize) {
        let waiting = self
            .grants
            .values()
            .filter(|it| it.phase == Phase::Preparing);
        let waiting = waiting.count();
        (waiting, self.grants.len() - waiting)
    }

    /// # Errors
    /// What stands against one more.
    pub(super) fn check_limits(
        &self,
        more: &Grant,
        ephemeral: PortRange,
        ports_per_uid: u32,
    ) -> Result<(), Fault> {
        let Grant {
            range, applicant, ..
        } = *more;
        let unclaimed = || self.grants.values().filter(|grant| !grant.is_claimed());
        let uid = applicant.caller.uid;
        let own = unclaimed().filter(|grant| grant.applicant.caller.uid == uid);
        if !applicant.is_administrator && own.count() >= GRANTS_PER_UID_MAX {
            return Err(Fault::TooMany(format!(
                "uid {uid} has {GRANTS_PER_UID_MAX} requests that wait or were not claimed yet: end one \
                 first"
            )));
        }
        if unclaimed().count() >= GRANTS_MAX {
            return Err(Fault::TooMany(format!(
                "{GRANTS_MAX} requests wait or were not claimed yet: try again later"
            )));
        }
        if applicant.is_administrator {
            return Ok(());
        }
        let others = || {
            let grants = self.grants.values();
            grants.filter(|grant| !grant.applicant.is_administrator)
        };
        // More than that the kernel would refuse: it would only be in the way of others.
        let own = others().filter(|grant| grant.applicant.caller.uid == uid);
        let own: u32 = own.map(Grant::charge).sum();
        if own + more.charge() > ports_per_uid {
            return Err(Fault::refused(
                Refusal::UidLimit,
                format!(
                    "{range}: uid {uid} gets at most {ports_per_uid} ports, TCP's and UDP's apart, and has \
                     {own} from automatic choice: release some"
                ),
            ));
        }
        let taken: u32 = others()
            .map(|grant| u32::from(grant.range.count().number()))
            .sum();
        let share = u32::from(ephemeral.count().number()) * EPHEMERAL_SHARE_PERCENT / 100;
        if taken + u32::from(range.count().number()) > share {
            return Err(Fault::refused(
                Refusal::SharedLimit,
                format!(
                    "{range}: users other than administrators together get at most {share} ports of \
                     {ephemeral} from automatic choice, and have {taken}: choose ports outside it"
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(first: u16, count: u16, uid: u32) -> Grant {
        let caller = Caller {
            uid,
            pid: 1,
            start_ticks: 1,
        };
        Grant {
            range: PortRange::from_numbers(first, count).unwrap(),
            transports: Transports::Tcp,
            applicant: Applicant {
                caller,
                is_administrator: uid == 0,
            },
            phase: Phase::Preparing,
        }
    }

    fn ephemeral() -> PortRange {
        "40000-49999".parse().unwrap()
    }

    #[test]
    fn one_user_has_only_so_many_requests_that_are_not_claimed() {
        let mut table = Table::default();
        const PORTS_PER_UID: u32 = 1_024;
        let per_uid = GRANTS_PER_UID_MAX as u16;
        let ids: Vec<u64> = (0..per_uid)
            .map(|n| table.enter(grant(40_000 + n, 1, 1000)))
            .collect();
        let more = |table: &Table, uid| {
            table.check_limits(&grant(45_000, 1, uid), ephemeral(), PORTS_PER_UID)
        };
        assert!(matches!(more(&table, 1000), Err(Fault::TooMany(_))));
        assert_eq!((more(&table, 1001), more(&table, 0)), (Ok(()), Ok(())));
        table.set_phase(ids[0], Phase::Claimed);
        assert_eq!(more(&table, 1000), Ok(()));
        for uid in 2000..2000 + GRANTS_MAX as u32 {
            table.enter(grant(46_000, 1, uid));
        }
        assert!(matches!(more(&table, 0), Err(Fault::TooMany(_))));
    }

    #[test]
    fn users_together_leave_automatic_choice_its_ports() {
        const PORTS_PER_UID: u32 = 3_000;
        let mut table = Table::default();
        let check = |table: &Table, it: Grant| table.check_limits(&it, ephemeral(), PORTS_PER_UID);
        let refused = check(&table, grant(40_000, 2501, 1000)).unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::SharedLimit));
        assert_eq!(check(&table, grant(40_000, 2501, 0)), Ok(()));
        let id = table.enter(grant(40_000, 2000, 1000));
        table.set_phase(id, Phase::Claimed);
        assert!(check(&table, grant(43_000, 501, 1001)).is_err());
        assert_eq!(check(&table, grant(43_000, 500, 1001)), Ok(()));
    }

    #[test]
    fn one_user_takes_no_more_than_the_kernel_would_grant() {
        let mut table = Table::default();
        let check = |table: &Table, it: Grant| table.check_limits(&it, ephemeral(), 100);
        let refused = check(&table, grant(40_000, 101, 1000)).unwrap_err();
        assert_eq!(refused.refusal(), Some(Refusal::UidLimit));
        let both = |count, uid| Grant {
            transports: Transports::Both,
            ..grant(41_000, count, uid)
        };
        assert!(check(&table, both(51, 1000)).is_err());
        assert_eq!(check(&table, both(50, 1000)), Ok(()));
        let id = table.enter(grant(40_000, 60, 1000));
        table.set_phase(id, Phase::Claimed);
        assert!(check(&table, grant(41_000, 41, 1000)).is_err());
        assert_eq!(check(&table, grant(41_000, 40, 1000)), Ok(()));
        assert_eq!(check(&table, grant(41_000, 100, 1001)), Ok(()));
        assert_eq!(check(&table, grant(41_000, 101, 0)), Ok(()));
    }

    #[test]
    fn one_at_a_time_settles_a_grant() {
        let mut table = Table::default();
        let id = table.enter(grant(40_000, 1, 1000));
        assert!(table.begin_settling(id).is_some());
        assert!(table.begin_settling(id).is_none());
        table.remove(id);
        assert!(table.begin_settling(id).is_none());
    }
}
