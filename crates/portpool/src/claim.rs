//! Claims: one control code for each transport, all or nothing, and which block to claim next when
//! a wildcard block was taken by others in between.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use portpool_core::{
    Port, PortRange, RangeSet, Refusal, Request, Token, Transport, Want, Wildcard,
    abi::{Acquire, ControlCode, Operation, Scope, refusal_of},
    candidates,
};
use rustix::{
    rand::GetRandomFlags,
    time::{ClockId, clock_gettime},
};

use crate::{
    choice::choose,
    error::{AcquireError, Failure, ReleaseError},
    keeper,
    maps::{Maps, unprivileged_start},
    pool::{self, Pool, default_ranges},
    reservation::Block,
    sys,
};

/// A socket to claim on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg<'a> {
    transport: Transport,
    socket: BorrowedFd<'a>,
}

impl<'a> Leg<'a> {
    pub(crate) fn new(transport: Transport, socket: BorrowedFd<'a>) -> Leg<'a> {
        Leg { transport, socket }
    }
}

impl Pool {
    /// Reserves a block of the same numbers on every leg. Where that takes a keeper it is asked, and
    /// waits for the ports until `deadline`.
    pub(crate) fn claim(
        &self,
        legs: &[Leg<'_>],
        request: &Request,
        scope: Scope,
        deadline: Option<Instant>,
    ) -> Result<Vec<Block>, AcquireError> {
        let claim = Claim {
            legs,
            request: *request,
            scope,
        };
        let refused = match &request.want {
            Want::Specific(range) => claim.specific(*range),
            Want::Wildcard(wanted) => claim.wildcard(self, wanted),
        };
        let (Err(error), Some(leg)) = (&refused, legs.first()) else {
            return refused;
        };
        if !self.may_ask_keeper() || !self.is_for_the_keeper(request, error) {
            return refused;
        }
        let wait = keeper::left_until(deadline);
        match keeper::ask(self.run_dir(), request, leg.socket, wait)? {
            None => refused,
            // The grant ends after the claim.
            Some(grant) => claim.specific(grant.range),
        }
    }

    /// Whether a keeper could make grantable what was refused.
    fn is_for_the_keeper(&self, request: &Request, error: &AcquireError) -> bool {
        match (&request.want, error.refusal()) {
            (Want::Specific(_), refusal) => refusal == Some(Refusal::Ephemeral),
            (Want::Wildcard(_), Some(Refusal::Ephemeral | Refusal::NoRoom)) => {
                self.may_take_ephemeral()
            }
            (Want::Wildcard(_), _) => {
                matches!(error, AcquireError::OutsideRanges { .. }) && self.may_take_ephemeral()
            }
        }
    }
}

struct Claim<'a> {
    legs: &'a [Leg<'a>],
    request: Request,
    scope: Scope,
}

/// Why one attempt did not succeed.
enum Miss {
    Refused(Refusal),
    Failed(Failure),
}

impl Claim<'_> {
    fn specific(&self, range: PortRange) -> Result<Vec<Block>, AcquireError> {
        for attempt in 0..TRY_COUNT_MAX {
            match self.take(range) {
                Ok(blocks) => return Ok(blocks),
                Err(Miss::Refused(Refusal::DuplicateToken)) => {}
                Err(Miss::Refused(Refusal::Busy)) => stand_back(attempt),
                Err(miss) => return Err(self.refused(Some(range), miss)),
            }
        }
        Err(self.refused(Some(range), Miss::Refused(Refusal::Busy)))
    }

    fn wildcard(&self, pool: &Pool, wanted: &Wildcard) -> Result<Vec<Block>, AcquireError> {
        let Some(leg) = self.legs.first() else {
            return Err(self.refused(None, Miss::Refused(Refusal::BadRequest)));
        };
        let cookie = sys::netns_cookie(leg.socket);
        let cookie = cookie.map_err(|error| self.failed("getsockopt", error))?;
        for attempt in 0..TRY_COUNT_MAX {
            // Maps opened before may be those of a pool that has been attached anew since.
            let fresh = attempt == FRESH_TRY;
            let looked = look(pool, cookie, fresh);
            let Some((maps, ranges)) = looked else {
                return self.grope(wanted);
            };
            let range = self.place(&maps, &ranges, wanted)?;
            match self.take(range) {
                Ok(blocks) => return Ok(blocks),
                Err(Miss::Refused(Refusal::InUse | Refusal::DuplicateToken)) => {}
                Err(Miss::Refused(Refusal::Busy)) => stand_back(attempt),
                Err(miss) => return Err(self.refused(Some(range), miss)),
            }
        }
        Err(self.contended(TRY_COUNT_MAX))
    }

    fn place(
        &self,
        maps: &Maps,
        ranges: &RangeSet,
        wanted: &Wildcard,
    ) -> Result<PortRange, AcquireError> {
        if let Some(within) = wanted.within
            && !ranges.iter().any(|range| range.overlaps(within))
        {
            return Err(AcquireError::OutsideRanges {
                within,
                ranges: ranges.clone(),
            });
        }
        let seed = random().map_err(|error| self.failed("getrandom", error))?;
        let transports = self.legs.iter().map(|leg| leg.transport);
        let ranges = unprivileged(ranges, wanted, maps.unprivileged_start());
        let block = choose(maps, transports, &ranges, wanted, since_boot(), seed);
        let block = block.map_err(|error| self.failed("bpf", error))?;
        block.ok_or_else(|| self.refused(None, Miss::Refused(Refusal::NoRoom)))
    }

    /// Looks for a block by trying, where the maps cannot be read.
    fn grope(&self, wanted: &Wildcard) -> Result<Vec<Block>, AcquireError> {
        let seed = random().map_err(|error| self.failed("getrandom", error))?;
        let ranges = match wanted.within {
            Some(within) => RangeSet::from(within),
            None => unprivileged(&default_ranges(), wanted, unprivileged_start()),
        };
        let mut last = None;
        let mut tries = 0;
        for range in candidates(&ranges, wanted, seed) {
            tries += 1;
            match self.take(range) {
                Ok(blocks) => return Ok(blocks),
                Err(Miss::Refused(Refusal::Busy)) => stand_back(tries),
                Err(Miss::Refused(Refusal::InUse | Refusal::DuplicateToken)) => last = None,
                Err(Miss::Refused(Refusal::Ephemeral)) => last = Some(range),
                Err(miss) => return Err(self.refused(Some(range), miss)),
            }
        }
        match (tries, last) {
            (0, _) => Err(self.refused(None, Miss::Refused(Refusal::NoRoom))),
            (_, Some(range)) => Err(self.refused(Some(range), Miss::Refused(Refusal::Ephemeral))),
            (_, None) => Err(self.contended(tries)),
        }
    }

    /// Claims `range` on every leg, or on none.
    fn take(&self, range: PortRange) -> Result<Vec<Block>, Miss> {
        let mut blocks: Vec<Block> = Vec::with_capacity(self.legs.len());
        for leg in self.legs {
            match self.take_one(leg, range) {
                Ok(block) => blocks.push(block),
                Err(miss) => {
                    self.give_back(&blocks)?;
                    return Err(miss);
                }
            }
        }
        Ok(blocks)
    }

    fn take_one(&self, leg: &Leg<'_>, range: PortRange) -> Result<Block, Miss> {
        let token = new_token().map_err(|error| Miss::Failed(Failure::of("getrandom")(error)))?;
        let acquire = Acquire {
            range,
            token,
            scope: self.scope_of(leg.transport),
        };
        match sys::control(leg.socket, ControlCode::Acquire, &acquire.to_bytes()) {
            Ok(()) => Ok(Block {
                transport: leg.transport,
                range,
                token,
            }),
            Err(error) => Err(miss(error)),
        }
    }

    /// Ends what the legs before the one that missed have got.
    fn give_back(&self, blocks: &[Block]) -> Result<(), Miss> {
        for (leg, block) in self.legs.iter().zip(blocks) {
            pool::release(leg.socket, block.token).map_err(|error| match error {
                ReleaseError::Refused { refusal, .. } => Miss::Refused(refusal),
                ReleaseError::Failure { failure, .. } => Miss::Failed(failure),
            })?;
        }
        Ok(())
    }

    /// Only a bind of TCP to port 0 is served from a block: the kernel refuses to hear of UDP's.
    fn scope_of(&self, transport: Transport) -> Scope {
        match self.scope {
            Scope::Tree { root, .. } if transport == Transport::Udp => Scope::Tree {
                root,
                zero_from_block: false,
            },
            scope => scope,
        }
    }

    fn refused(&self, range: Option<PortRange>, miss: Miss) -> AcquireError {
        let request = self.request;
        match miss {
            Miss::Refused(refusal) => AcquireError::Refused {
                request,
                range,
                refusal,
            },
            Miss::Failed(failure) => AcquireError::Failure { request, failure },
        }
    }

    fn failed(&self, call: &'static str, error: io::Error) -> AcquireError {
        self.refused(None, Miss::Failed(Failure::of(call)(error)))
    }

    fn contended(&self, tries: u32) -> AcquireError {
        AcquireError::Contended {
            request: self.request,
            tries,
        }
    }
}

/// The maps of a namespace's pool and where that chooses from, if they can be read.
fn look(pool: &Pool, cookie: u64, fresh: bool) -> Option<(Arc<Maps>, RangeSet)> {
    let maps = pool.maps_of(cookie, fresh)?;
    if let Ok(config) = maps.config() {
        return Some((maps, config.ranges));
    }
    // Detached since these were opened, and perhaps attached anew.
    let maps = pool.maps_of(cookie, true)?;
    let ranges = maps.config().ok()?.ranges;
    Some((maps, ranges))
}

fn miss(error: io::Error) -> Miss {
    let operation = Operation::Control(ControlCode::Acquire);
    match refusal_of(operation, error.raw_os_error().unwrap_or(0)) {
        Some(refusal) => Miss::Refused(refusal),
        None => Miss::Failed(Failure::of("setsockopt")(error)),
    }
}

/// The ranges without the ports that need a privilege to bind, unless the caller named them.
fn unprivileged(ranges: &RangeSet, wanted: &Wildcard, start: u16) -> RangeSet {
    let mut ranges = ranges.clone();
    let below = Port::new(start.saturating_sub(1));
    let below = below.and_then(|last| PortRange::between(Port::FIRST, last));
    if let Some(below) = below
        && wanted.within.is_none()
    {
        ranges.remove(below);
    }
    ranges
}

/// Lets the operation that was met end: at once if it can, later with a short sleep.
fn stand_back(attempt: u32) {
    if attempt < YIELD_COUNT {
        thread::yield_now();
    } else {
        pause(Duration::from_millis(1));
    }
}

/// Sleeps where the kernel has nothing to wait on.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel has no queue for ports: asking again is the only way to wait for one"
)]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

pub(crate) fn new_token() -> io::Result<Token> {
    loop {
        if let Some(token) = token_of(random()?) {
            return Ok(token);
        }
    }
}

/// The token of this value, if it may be one.
pub(crate) fn token_of(value: u64) -> Option<Token> {
    // All ones mean something else to the kernel program.
    Token::new(value).filter(|token| token.value() != u64::MAX)
}

pub(crate) fn random() -> io::Result<u64> {
    Ok(u64::from_ne_bytes(random_bytes()?))
}

/// Several at once, for the price of one.
pub(crate) fn randoms() -> io::Result<[u64; RANDOM_COUNT]> {
    let bytes: [u8; RANDOM_COUNT * 8] = random_bytes()?;
    let (words, _) = bytes.as_chunks();
    let mut randoms = [0; RANDOM_COUNT];
    for (random, word) in randoms.iter_mut().zip(words) {
        *random = u64::from_ne_bytes(*word);
    }
    Ok(randoms)
}

fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    debug_assert_eq!(filled, N, "the kernel never gives less than 256 bytes");
    Ok(bytes)
}

/// Nanoseconds since boot.
pub(crate) fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// How often a claim is tried before the caller is told.
const TRY_COUNT_MAX: u32 = 64;
const FRESH_TRY: u32 = 8;
const YIELD_COUNT: u32 = 16;
/// As many as the kernel never gives fewer of.
const RANDOM_COUNT: usize = 32;
