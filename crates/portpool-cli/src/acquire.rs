//! Reserving all that was asked for, or nothing, and holding it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use portpool::{AcquireError, Pool, Reservation, Scope, process::unblock_signals};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::FileType,
};

use crate::{
    args::AcquireArgs,
    exit::{Answer, Code, Failure},
    grant::Grant,
    hold, output,
    selectors::Selectors,
    signals,
};

/// The command `acquire`.
pub(crate) fn acquire(args: &AcquireArgs) -> Answer {
    if let Some(root) = args.tree_root {
        return hold::start(args, root);
    }
    let pool = args.pool.open(false)?;
    let held = Held::acquire(&pool, &args.selectors, Scope::Associated, args.waiting.wait)?;
    // From here on a signal ends the hold in good order; before, it just ends the process.
    let signals = signals::ends().map_err(|error| Failure::failed("catch signals", error))?;
    unblock_signals().map_err(|error| Failure::failed("catch signals", error))?;
    output::print(&held.grant.text(args.format, None))?;
    let mut watched = vec![PollFd::new(&signals, PollFlags::IN)];
    let stdin = io::stdin();
    if args.until_eof || ends_by_itself(&stdin) {
        watched.push(PollFd::new(&stdin, PollFlags::IN));
    }
    wait(&mut watched).map_err(|error| Failure::failed("wait for the end", error))?;
    drop(held);
    Ok(0)
}

/// Reservations that end when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) grant: Grant,
    reservations: Vec<Reservation>,
}

impl Held {
    /// Reserves for all selectors or for none. While the ports are taken it tries again until
    /// `wait` has passed, and holds nothing meanwhile: two that wait for each other's ports would
    /// wait for ever.
    ///
    /// # Errors
    /// The refusal, the last one if the time is over.
    pub(crate) fn acquire(
        pool: &Pool,
        selectors: &Selectors,
        scope: Scope,
        wait: Option<Duration>,
    ) -> Result<Held, Failure> {
        let start = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match Held::try_acquire(pool, selectors, scope) {
                Ok(held) => return Ok(held),
                Err(error) => error,
            };
            let Some(wait) = wait.filter(|_| error.is_temporary()) else {
                return Err(error.into());
            };
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                let waited = humantime::format_duration(wait);
                return Err(Failure::new(
                    Code::WaitOver,
                    format!("waited {waited}: {error}"),
                ));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the kernel has no queue for ports: asks again until the time is over"
            )]
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// In the order of the selectors.
    pub(crate) fn reservations_mut(&mut self) -> impl Iterator<Item = &mut Reservation> {
        self.reservations.iter_mut()
    }

    /// In the order of the selectors.
    pub(crate) fn into_reservations(self) -> Vec<Reservation> {
        self.reservations
    }

    fn try_acquire(pool: &Pool, selectors: &Selectors, scope: Scope) -> Result<Held, AcquireError> {
        let requests = selectors.requests();
        let mut places = Vec::with_capacity(requests.len());
        for place in selectors.acquire_order() {
            places.push((place, pool.acquire_scoped(&requests[place], scope)?));
        }
        places.sort_by_key(|(place, _)| *place);
        let reservations: Vec<Reservation> = places
            .into_iter()
            .map(|(_, reservation)| reservation)
            .collect();
        let blocks = reservations.iter().flat_map(|held| held.blocks().to_vec());
        Ok(Held {
            grant: Grant::new(pool.kind(), blocks.collect()),
            reservations,
        })
    }
}

/// Whether somebody holds the other end of it, whose end is then worth waiting for: a terminal or
/// /dev/null says nothing.
fn ends_by_itself(stdin: &io::Stdin) -> bool {
    rustix::fs::fstat(stdin).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::Socket)
    })
}

/// Waits until the first descriptor is readable or the second, if there is one, is at its end.
fn wait(watched: &mut [PollFd<'_>]) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match poll(watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            answer => answer?,
        };
        let [signals, stdin @ ..] = &*watched else {
            return Ok(());
        };
        if !signals.revents().is_empty() {
            return Ok(());
        }
        if let [stdin] = stdin
            && !stdin.revents().is_empty()
        {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // Such as a terminal that was hung up: nothing more will come.
                Err(_) => return Ok(()),
            }
        }
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
