//! Blocks in the ephemeral range, from asked for to ended.
//!
//! The order is what makes a granted port nobody's ephemeral port: entry in the sysctl, sweep, window,
//! claim by the client itself; and on the way back: window closed, then a look whether it was claimed,
//! then the entry taken out. What was begun is noted before it is begun, so that the next keeper ends
//! what this one leaves, also after kill -9.

mod budget;
mod notes;
mod request;
mod table;
mod waiting;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use portpool::{Caller, Refusal};
use portpool_core::{Occupancy, PortRange, RangeSet, Wildcard, place};
use portpool_varlink::Fault;

use budget::Budget;
pub(super) use request::{Request, Want};
use table::{Grant, Phase, Table};
use waiting::Waiting;

use super::{
    fault_point,
    limits::{WAIT_MAX, WINDOW_TIME},
    world::{Found, World},
};

/// All grants of this keeper.
pub(super) struct Grants<W: World>(Arc<Inner<W>>);

struct Inner<W> {
    world: W,
    table: Mutex<Table>,
    waiting: Waiting,
    budget: Budget,
    notes: PathBuf,
}

impl<W: World> Clone for Grants<W> {
    fn clone(&self) -> Grants<W> {
        Grants(Arc::clone(&self.0))
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applicant {
    pub(super) caller: Caller,
    pub(super) is_administrator: bool,
}

/// A grant that is the connection's: unless it was claimed it ends with this value.
#[must_use]
pub(super) struct Held<W: World> {
    grants: Grants<W>,
    id: u64,
    range: PortRange,
    deadline: u64,
}

/// How the wait between two looks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Look again.
    Again,
    /// Who asked is gone.
    Gone,
}

/// What was asked for may be claimed.
pub(super) enum Granted<W: World> {
    /// By anybody: no window was needed.
    Open(PortRange),
    /// By the caller alone.
    Window(Held<W>),
}

impl<W: World> Grants<W> {
    /// Grants as the keeper before left them: what was claimed is kept, the rest ends.
    pub(super) fn restore(world: W, notes: PathBuf) -> Result<Grants<W>, String> {
        let (table, is_whole) = match notes::read(&notes) {
            Ok(table) => (table, true),
            Err(error) => {
                tracing::warn!(%error, "the notes of the keeper before are of no use");
                (Table::default(), false)
            }
        };
        let ids: Vec<u64> = table.ids();
        let grants = Grants(Arc::new(Inner {
            world,
            table: Mutex::new(table),
            waiting: Waiting::default(),
            budget: Budget::default(),
            notes,
        }));
        for id in ids {
            grants.settle(id);
        }
        grants.take_in_strays(is_whole)?;
        Ok(grants)
    }

    /// Exact ports that everybody may claim and nobody has: who asks does not matter then, and nothing is
    /// begun for it. Otherwise nothing.
    ///
    /// # Errors
    /// What keeps the pool from being read, and excluded ports.
    pub(super) fn free_for_all(&self, request: &Request) -> Result<Option<PortRange>, Fault> {
        let Want::Exactly(range) = request.want else {
            return Ok(None);
        };
        let looked = self
            .0
            .world
            .look_if_kept(request.transports, range, request.charge());
        match looked.map_err(Fault::Failed)? {
            None => Ok(None),
            Some(found) => Ok(taken(request, found)?.is_none().then_some(range)),
        }
    }

    /// Makes ports grantable for the applicant, waiting for them by `pause` as long as the request
    /// says.
    ///
    /// # Errors
    /// The refusal; then nothing stays of it.
    pub(super) fn acquire(
        &self,
        applicant: Applicant,
        request: &Request,
        mut pause: impl FnMut(Duration) -> Woken,
    ) -> Result<Granted<W>, Fault> {
        self.check_size(applicant, request)?;
        let start = Instant::now();
        let deadline = start + request.wait.min(WAIT_MAX);
        let mut step = PAUSE_MIN;
        let mut held = None;
        let mut waits = None;
        loop {
            let (why, deadline) = match self.attempt(applicant, request, &mut held)? {
                Attempt::Granted(granted) => return Ok(granted),
                Attempt::Spent(why) if request.wait.is_zero() => return Err(Fault::TooMany(why)),
                Attempt::Taken(why) | Attempt::Spent(why) => (why, deadline),
                Attempt::Ending(why) => (why, deadline.max(start + ENDING_TIME_MAX)),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(match request.wait.is_zero() {
                    true => Fault::refused(Refusal::InUse, why),
                    false => Fault::TimedOut(format!("waited in vain: {why}")),
                });
            }
            if waits.is_none() && !request.wait.is_zero() {
                waits = Some(self.0.waiting.enter(applicant)?);
            }
            if pause(step.min(left)) == Woken::Gone {
                return Err(Fault::TimedOut("who asked is gone".to_owned()));
            }
            step = (step * 2).min(PAUSE_MAX);
        }
    }

    /// Ends what was claimed and has ended, and windows whose time is over.
    pub(super) fn sweep(&self) {
        let now = self.0.world.now();
        let (open, claimed) = self.lock().due(now);
        for id in open {
            self.settle(id);
        }
        if claimed.is_empty() {
            return;
        }
        match self.0.world.blocks() {
            Ok(blocks) => {
                let is_over = |range: &PortRange| blocks.intersection(&(*range).into()).is_empty();
                let over = claimed.into_iter().filter(|(_, range)| is_over(range));
                over.for_each(|(id, _)| {
                    self.settle(id);
                });
            }
            Err(error) => tracing::warn!(%error, "cannot look which reservations live"),
        }
    }

    /// Ends all that is not claimed, and what has ended and was not looked at yet: nobody is here any more
    /// to end it.
    pub(super) fn close(&self) {
        self.sweep();
        let open = self.lock().unclaimed();
        for id in open {
            self.settle(id);
        }
        if self.lock().ids().is_empty() {
            // The next one reads nothing into it either way.
            drop(std::fs::remove_file(&self.0.notes));
        }
    }

    /// How many wait, and how many blocks are taken from the ephemeral range.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.lock().counts()
    }

    /// When there is something to sweep by the clock, in nanoseconds since boot.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.lock().next_deadline()
    }

    /// Before anything is looked at, which takes time for each port.
    fn check_size(&self, applicant: Applicant, request: &Request) -> Result<(), Fault> {
        if applicant.is_administrator {
            return Ok(());
        }
        let most = self.0.world.ports_per_uid().map_err(Fault::Failed)?;
        match request.charge() > most {
            false => Ok(()),
            true => Err(Fault::refused(
                Refusal::UidLimit,
                format!(
                    "{request}: uid {} gets at most {most} ports, TCP's and UDP's apart: ask for fewer",
                    applicant.caller.uid
                ),
            )),
        }
    }

    /// One try at it. `held` is the grant being prepared, kept between tries so that no new ephemeral
    /// port is chosen among these while they are waited for.
    fn attempt(
        &self,
        applicant: Applicant,
        request: &Request,
        held: &mut Option<Held<W>>,
    ) -> Result<Attempt<W>, Fault> {
        let world = &self.0.world;
        let range = match (request.want, &*held) {
            (Want::Exactly(range), _) => range,
            (Want::Any(_), Some(held)) => held.range,
            (Want::Any(wanted), None) => {
                let ephemeral = world.ephemeral().map_err(Fault::Failed)?;
                let within = wanted.within.unwrap_or(ephemeral);
                match self.place(request, &wanted, within)? {
                    Some(range) => range,
                    None => {
                        let message =
                            format!("{request}: no free run of ports in {within} is long enough");
                        return Err(Fault::refused(Refusal::NoRoom, message));
                    }
                }
            }
        };
        if held.is_none() && world.is_kept(range).map_err(Fault::Failed)? {
            return match self.look(request, range)? {
                None => Ok(Attempt::Granted(Granted::Open(range))),
                Some(why) => Ok(Attempt::Taken(why)),
            };
        }
        let mine = match held.take() {
            Some(mine) => mine,
            None => match self.begin(applicant, request, range)? {
                Ok(mine) => mine,
                Err(attempt) => return Ok(attempt),
            },
        };
        // What is known to be taken needs no sweep to be found.
        let taken = match mine.is_new() {
            true => None,
            false => self.look(request, range)?,
        };
        let taken = match taken {
            Some(why) => Some(why),
            None => {
                world.make_grantable(range).map_err(Fault::Failed)?;
                fault_point("swept");
                self.look(request, range)?
            }
        };
        if let Some(why) = taken {
            // Of any ports others will do.
            if matches!(request.want, Want::Exactly(_)) {
                *held = Some(mine.waiting());
            }
            return Ok(Attempt::Taken(why));
        }
        Ok(Attempt::Granted(Granted::Window(
            self.open(applicant, request, mine)?,
        )))
    }

    /// Enters a grant into the table, or says who is in the way.
    fn begin(
        &self,
        applicant: Applicant,
        request: &Request,
        range: PortRange,
    ) -> Result<Result<Held<W>, Attempt<W>>, Fault> {
        let ephemeral = self.0.world.ephemeral().map_err(Fault::Failed)?;
        let per_uid = self.0.world.ports_per_uid().map_err(Fault::Failed)?;
        let mut table = self.lock();
        if let Some((id, other)) = table.overlapping(range) {
            drop(table);
            let why = format!(
                "{request}: {} was granted to another request: wait until that has ended",
                other.range
            );
            return Ok(Err(match other.phase {
                // Its block may have ended a moment ago, and nobody looked yet.
                Phase::Claimed if self.settle(id) => Attempt::Ending(why),
                Phase::Settling => Attempt::Ending(why),
                _ => Attempt::Taken(why),
            }));
        }
        let grant = Grant {
            range,
            transports: request.transports,
            applicant,
            phase: Phase::Preparing,
        };
        table.check_limits(&grant, ephemeral, per_uid)?;
        if let Err(why) = self.0.budget.spend(applicant, self.0.world.now()) {
            return Ok(Err(Attempt::Spent(why)));
        }
        let id = table.enter(grant);
        if let Err(error) = notes::write(&self.0.notes, &table) {
            table.remove(id);
            return Err(Fault::Failed(format!(
                "{}: {error}",
                self.0.notes.display()
            )));
        }
        drop(table);
        fault_point("noted");
        let grants = self.clone();
        Ok(Ok(Held {
            grants,
            id,
            range,
            deadline: 0,
        }))
    }

    fn open(
        &self,
        applicant: Applicant,
        request: &Request,
        mut mine: Held<W>,
    ) -> Result<Held<W>, Fault> {
        let world = &self.0.world;
        let deadline = world.now() + u64::try_from(WINDOW_TIME.as_nanos()).unwrap_or(u64::MAX);
        mine.deadline = deadline;
        self.lock().set_phase(mine.id, Phase::Open { deadline });
        world
            .open_window(request.transports, mine.range, applicant.caller, deadline)
            .map_err(Fault::Failed)?;
        fault_point("open");
        Ok(mine)
    }

    /// Why the ports cannot be had now, if they cannot.
    fn look(&self, request: &Request, range: PortRange) -> Result<Option<String>, Fault> {
        let looked = self.0.world.look(request.transports, range);
        taken(request, looked.map_err(Fault::Failed)?)
    }

    fn place(
        &self,
        request: &Request,
        wanted: &Wildcard,
        within: PortRange,
    ) -> Result<Option<PortRange>, Fault> {
        let world = &self.0.world;
        let mut view = Occupancy::default();
        let taken = world.taken(request.transports).map_err(Fault::Failed)?;
        for range in taken.iter().chain(self.lock().ranges()) {
            view.taken.set_range(range);
        }
        Ok(place(
            &view,
            &RangeSet::from(within),
            wanted,
            world.chance(),
        ))
    }

    /// Ends a grant that is not claimed, and keeps one that is. Safe to do at any time, and again; whether
    /// it has ended, or somebody else is about to.
    fn settle(&self, id: u64) -> bool {
        let Some(grant) = self.lock().begin_settling(id) else {
            return true;
        };
        let world = &self.0.world;
        let range = grant.range;
        let settled = || -> Result<bool, String> {
            // Closed before the look: what has not been claimed by then never will be.
            if matches!(grant.phase, Phase::Open { .. }) {
                world.close_window(grant.transports, range)?;
                fault_point("closed");
            }
            if !world.blocks()?.intersection(&range.into()).is_empty() {
                return Ok(false);
            }
            let is_gone = world.let_go(range)?;
            fault_point("let-go");
            Ok(is_gone)
        };
        let settled = settled();
        let has_ended = settled == Ok(true);
        let mut table = self.lock();
        match settled {
            Ok(true) => {
                table.remove(id);
                if let Err(error) = notes::write(&self.0.notes, &table) {
                    tracing::warn!(%error, "cannot note that a grant has ended");
                }
            }
            Ok(false) => table.set_phase(id, Phase::Claimed),
            Err(error) => {
                tracing::error!(%range, %error, "cannot give ports back to automatic choice yet");
                // To be tried again with the next sweep.
                table.set_phase(id, Phase::Open { deadline: 0 });
            }
        }
        has_ended
    }

    /// What was made grantable and nothing is noted of: a block that lives is watched, the rest goes
    /// back. Without notes nobody knows how the ports belonged together: each run of them is taken as one.
    fn take_in_strays(&self, is_whole: bool) -> Result<(), String> {
        let known: RangeSet = self.lock().ranges().into_iter().collect();
        let strays = self.0.world.made_grantable()?.difference(&known);
        for range in strays.iter() {
            tracing::info!(%range, is_whole, "ports that an earlier keeper took from automatic choice");
            let id = self.lock().enter(Grant::stray(range));
            self.settle(id);
        }
        notes::write(&self.0.notes, &self.lock()).map_err(|error| error.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why ports of which this was found cannot be had now, if they cannot.
fn taken(request: &Request, found: Found) -> Result<Option<String>, Fault> {
    match found {
        Found::Free => Ok(None),
        Found::Taken(by) => Ok(Some(format!("{request}: {by}"))),
        Found::Excluded(why) => Err(Fault::refused(Refusal::InUse, format!("{request}: {why}"))),
    }
}

enum Attempt<W: World> {
    Granted(Granted<W>),
    Taken(String),
    /// By a grant that is being ended, which takes no time to speak of.
    Ending(String),
    /// By nobody: this user has had enough for now.
    Spent(String),
}

impl<W: World> Held<W> {
    /// What was granted.
    pub(super) fn range(&self) -> PortRange {
        self.range
    }

    /// Until when it is to be claimed.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Whether nothing was made grantable for it yet.
    fn is_new(&self) -> bool {
        self.deadline == 0
    }

    fn waiting(mut self) -> Held<W> {
        self.deadline = u64::MAX;
        self
    }
}

impl<W: World> Drop for Held<W> {
    fn drop(&mut self) {
        self.grants.settle(self.id);
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// For a grant that is being ended, whatever the request would wait.
const ENDING_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
