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

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
};

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
        let state = book.read()?.map(|(_, state)| state).unwrap_or_default();
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

    /// As [`State::is_in_force`].
    pub(crate) fn is_in_force(&self, now: &RangeSet) -> bool {
        self.state.is_in_force(now)
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

/// The ledger as it was last written, to be read often, without the lock: it is put in its place whole.
#[derive(Debug)]
pub(crate) struct Page {
    book: Book,
    last: Option<(File, State)>,
}

impl Page {
    pub(crate) fn of(run: &RunDir, cookie: u64) -> Page {
        let run = run.clone();
        Page {
            book: Book { run, cookie },
            last: None,
        }
    }

    /// What is in it now; nothing where there is none.
    pub(crate) fn read(&mut self) -> Result<Option<&State>, Failed> {
        // Another one in its place leaves the file that was read without a name.
        let is_last = |(file, _): &(File, State)| file.metadata().is_ok_and(|it| it.nlink() > 0);
        if !self.last.as_ref().is_some_and(is_last) {
            self.last = self.book.read()?;
        }
        Ok(self.last.as_ref().map(|(_, state)| state))
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

#[derive(Debug)]
struct Book {
    run: RunDir,
    cookie: u64,
}

impl Book {
    /// The file and what is in it, if there is one.
    fn read(&self) -> Result<Option<(File, State)>, Failed> {
        let path = self.run.ledger(self.cookie);
        let what = || format!("read {}", path.display());
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.step(what)?,
        };
        let mut text = String::new();
        file.read_to_string(&mut text).step(what)?;
        let state = text.parse().map_err(io::Error::other).step(what)?;
        Ok(Some((file, state)))
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
