//! All blocks that this process holds, and which sockets are associated with them.
//!
//! One for the process, not for a [`Pool`](crate::Pool): a token is good with every one of them.

use std::{
    collections::BTreeMap,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portpool_core::{PortBitmap, PortRange, Token, Transport};
use rustix::time::{ClockId, clock_gettime};

use super::{
    held::{Held, Slot},
    owner_file::OwnerFile,
};
use crate::{
    claim::{randoms, token_of},
    sys::process_id,
};

/// What this process holds.
#[derive(Debug)]
pub(crate) struct Roster {
    process: u32,
    held: BTreeMap<Token, Arc<Held>>,
    /// Socket cookie to token. The kernel never gives a cookie twice.
    associations: BTreeMap<u64, Token>,
    released: Vec<Released>,
    file: OwnerFile,
    /// Numbers by chance that nobody has used.
    chance: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Released {
    transport: Transport,
    range: PortRange,
    /// By [`coarse_time`].
    at: u64,
}

/// The roster of the calling process; a fork starts with an empty one.
pub(crate) fn roster() -> MutexGuard<'static, Roster> {
    let mut roster = ROSTER.lock().unwrap_or_else(PoisonError::into_inner);
    if roster.process != process_id() {
        let inherited = mem::replace(&mut *roster, Roster::empty());
        roster.process = process_id();
        inherited.file.leave_to_parent();
        for held in inherited.held.values() {
            held.close_copies();
        }
    }
    roster
}

/// Ends a reservation of this process and gives its holds to the caller.
pub(crate) fn hand_over(held: &Held) -> Vec<Slot> {
    roster().strike(held);
    held.take()
}

/// Ends a reservation of this process.
pub(crate) fn release(held: &Held) {
    let mut roster = roster();
    // The record goes first: a listed port is a held one.
    if roster.strike(held) {
        roster.rest(held);
    }
    drop(roster);
    held.close();
}

/// Whether this process has a reservation with this token.
pub(crate) fn is_held(token: Token) -> bool {
    roster().has_token(token)
}

impl Roster {
    const fn empty() -> Roster {
        Roster {
            process: 0,
            held: BTreeMap::new(),
            associations: BTreeMap::new(),
            released: Vec::new(),
            file: OwnerFile::none(),
            chance: Vec::new(),
        }
    }

    /// Lists blocks, which are held already.
    pub(crate) fn enter(&mut self, blocks: &[Arc<Held>]) {
        let named = blocks.iter().map(|held| (held.block.token, held.clone()));
        self.held.extend(named);
        self.file.enter(blocks, &self.held);
    }

    /// Takes a block off the list, if it was there.
    fn strike(&mut self, held: &Held) -> bool {
        let is_there = self.held.remove(&held.block.token).is_some();
        if is_there {
            self.file.strike(held, &self.held);
        }
        is_there
    }

    /// A token that no block of this process has.
    pub(crate) fn new_token(&mut self) -> io::Result<Token> {
        loop {
            let Some(value) = self.chance.pop() else {
                self.chance.extend(randoms()?);
                continue;
            };
            if let Some(token) = token_of(value).filter(|token| !self.has_token(*token)) {
                return Ok(token);
            }
        }
    }

    /// Notes that the socket with this cookie is to have a port of the block.
    pub(crate) fn associate(&mut self, cookie: u64, token: Token) {
        self.associations.insert(cookie, token);
        while self.associations.len() > ASSOCIATION_COUNT_MAX {
            // The sockets that were made first.
            self.associations.pop_first();
        }
    }

    pub(crate) fn find(&self, token: Token) -> Option<Arc<Held>> {
        self.held.get(&token).cloned()
    }

    /// How many blocks were acquired on the socket with this cookie and not released.
    pub(crate) fn owned_count(&self, socket: u64) -> usize {
        self.held
            .values()
            .filter(|it| it.is_owned_by(socket))
            .count()
    }

    pub(crate) fn association(&self, cookie: u64) -> Option<Token> {
        self.associations.get(&cookie).copied()
    }

    pub(crate) fn has_token(&self, token: Token) -> bool {
        self.held.contains_key(&token)
    }

    /// The ports of this process, which need not be tried.
    pub(crate) fn taken(&self, transport: Transport, namespace: u64) -> PortBitmap {
        let mut taken = PortBitmap::empty();
        for held in self.held.values() {
            if (held.block.transport, held.namespace) == (transport, namespace) {
                taken.set_range(held.block.range);
            }
        }
        taken
    }

    /// The ports that this process released a short while ago.
    pub(crate) fn recent(&self, transport: Transport) -> PortBitmap {
        let mut recent = PortBitmap::empty();
        let now = coarse_time();
        let resting = self.released.iter().filter(|it| it.rests(now));
        for released in resting.filter(|it| it.transport == transport) {
            recent.set_range(released.range);
        }
        recent
    }

    fn rest(&mut self, held: &Held) {
        let now = coarse_time();
        // They are in the order of time.
        let rested_count = self.released.partition_point(|it| !it.rests(now));
        self.released.drain(..rested_count);
        if self.released.len() < RELEASED_COUNT_MAX {
            self.released.push(Released {
                transport: held.block.transport,
                range: held.block.range,
                at: now,
            });
        }
    }
}

impl Released {
    fn rests(&self, now: u64) -> bool {
        now.saturating_sub(self.at) < REST_TIME.as_nanos() as u64
    }
}

/// A clock in nanoseconds that is a few milliseconds behind, for a quarter of the cost.
fn coarse_time() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

static ROSTER: Mutex<Roster> = Mutex::new(Roster::empty());

const ASSOCIATION_COUNT_MAX: usize = 65_536;
const RELEASED_COUNT_MAX: usize = 1024;
/// As long as the kernel keeps the end of a connection.
const REST_TIME: Duration = Duration::from_secs(60);
