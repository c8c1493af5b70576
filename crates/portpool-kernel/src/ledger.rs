//! What is ours in `net.ipv4.ip_local_reserved_ports`, told apart from what the administrator wrote.
//!
//! The sysctl is a set of ports without owners, and anybody may write it at any time. So a file
//! beside the pool notes what may be ours before it is written, and after it what was seen there.
//! An entry that was there before, or that came without us, is the administrator's: it stays when
//! ours goes, also where both have the same port.
//!
//! Entries are added by writing behind the start of the file, which the kernel merges into what is
//! there (`proc_do_large_bitmap`, 3.x to 6.18): no edit of somebody else gets lost by that, and no
//! port is without its entry for a moment. Only taking out has to write the whole set; what somebody
//! changes between our look and that write, some microseconds, is lost.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod model;
mod plan;
mod state;

use std::{fs, io};

use portpool_core::RangeSet;

pub(crate) use state::Entries;
pub use state::Reason;
pub(crate) use state::State;

use crate::{
    error::{Error, Failed, Step},
    files::RunDir,
    sysctl,
};

/// The ledger of one network namespace, opened under the lock of its run directory.
pub(crate) struct Ledger {
    book: Book,
    state: State,
}

impl Ledger {
    pub(crate) fn open(run: &RunDir, cookie: u64) -> Result<Ledger, Failed> {
        let book = Book {
            run: run.clone(),
            cookie,
        };
        let state = book.read()?;
        Ok(Ledger { book, state })
    }

    /// What is entered, by reason.
    pub(crate) fn entries(&self) -> &Entries {
        &self.state.entries
    }

    /// Ports we had entered that somebody has taken out since, now that the sysctl is `now`: automatic
    /// choice may have them.
    pub(crate) fn lost(&self, now: &RangeSet) -> RangeSet {
        self.state.done.difference(now)
    }

    /// Whether the sysctl, which is `now`, has all that is entered and nothing of ours beyond.
    pub(crate) fn is_in_force(&self, now: &RangeSet) -> bool {
        let wanted = self.state.entries.all();
        self.state.may == wanted && wanted.difference(now).is_empty()
    }

    /// Ports that [`change`](Ledger::change) would open to automatic choice, now that the sysctl is `now`.
    pub(crate) fn leaving(&self, now: &RangeSet, entries: &Entries) -> RangeSet {
        self.state.plan(now, entries).leaving(now)
    }

    /// Makes the sysctl have all of `entries`, what the administrator wrote, and nothing else of
    /// ours, as far as it can be written in one go.
    pub(crate) fn change(&mut self, entries: &Entries) -> Result<(), Error> {
        plan::carry_out(&mut self.book, &mut self.state, entries, true)
    }

    /// Notes other reasons for the same ports.
    pub(crate) fn note(&mut self, entries: Entries) -> Result<(), Failed> {
        self.state.entries = entries;
        self.book.note(&self.state)
    }

    /// Takes out all that is ours, and forgets it.
    pub(crate) fn close(&mut self) -> Result<(), Failed> {
        let nothing = Entries::default();
        if self.state != State::default() {
            // Nothing of ours needs its entries any more, so that all can be written anew.
            let closed = plan::carry_out(&mut self.book, &mut self.state, &nothing, false);
            closed.map_err(|error| match error {
                Error::Failed(failed) => failed,
                error => Failed {
                    what: "take our ports out of net.ipv4.ip_local_reserved_ports".to_owned(),
                    cause: io::Error::other(error.to_string()),
                },
            })?;
        }
        forget(&self.book.run, self.book.cookie)
    }
}

/// Removes the ledger of a namespace whose sysctl is gone or has nothing of ours.
pub(crate) fn forget(run: &RunDir, cookie: u64) -> Result<(), Failed> {
    let path = run.ledger(cookie);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).step(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Where entries are read, written and noted.
trait World {
    fn reserved(&mut self) -> Result<RangeSet, Failed>;
    /// Adds ports to the sysctl and leaves all others in it.
    fn add(&mut self, ports: &RangeSet) -> Result<(), Failed>;
    /// Makes the sysctl this set.
    fn replace(&mut self, ports: &RangeSet) -> Result<(), Failed>;
    fn note(&mut self, state: &State) -> Result<(), Failed>;
}

struct Book {
    run: RunDir,
    cookie: u64,
}

impl Book {
    fn read(&self) -> Result<State, Failed> {
        let path = self.run.ledger(self.cookie);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            text => text.step(|| format!("read {}", path.display()))?,
        };
        text.parse()
            .map_err(io::Error::other)
            .step(|| format!("read {}", path.display()))
    }
}

impl World for Book {
    fn reserved(&mut self) -> Result<RangeSet, Failed> {
        sysctl::reserved()
    }

    fn add(&mut self, ports: &RangeSet) -> Result<(), Failed> {
        sysctl::add_reserved(ports)
    }

    fn replace(&mut self, ports: &RangeSet) -> Result<(), Failed> {
        sysctl::write_reserved(ports)
    }

    fn note(&mut self, state: &State) -> Result<(), Failed> {
        let path = self.run.ledger(self.cookie);
        let aside = path.with_extension("new");
        fs::write(&aside, state.to_string())
            .and_then(|()| fs::rename(&aside, &path))
            .step(|| format!("write {}", path.display()))
    }
}
