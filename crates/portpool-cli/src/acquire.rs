//! Reserving all that was asked for, or nothing, and holding it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use portpool::{
    AcquireError, AdminError, Block, Entry, Lend, Pool, PortRange, Refusal, Request, Reservation,
    Scope, Tenure, Transports, Want, process::unblock_signals,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::FileType,
};

use crate::{
    args::AcquireArgs,
    exit::{Answer, Code, Failure},
    grant::Grant,
    hold, holder, output,
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
    #[expect(dead_code, reason = "kept for its end")]
    lends: Vec<Lend>,
}

/// Why a request was not met.
enum Refused {
    Acquire(AcquireError),
    /// Ports of a persistent block, and why they are not lent.
    Lend(PortRange, Box<Entry>, AdminError),
}

impl Refused {
    fn is_temporary(&self) -> bool {
        match self {
            Refused::Acquire(error) => error.is_temporary(),
            Refused::Lend(..) => false,
        }
    }

    fn explained(&self, pool: &Pool) -> String {
        match self {
            Refused::Acquire(error) => holder::explained(pool, error),
            Refused::Lend(range, block, error) => {
                let ports = format!("{range}/{}", block.transport);
                if error.refusal() != Some(Refusal::ForeignToken) {
                    return format!("{ports}: {error}");
                }
                let group = match block.tenure {
                    Tenure::Persistent { group: Some(group) } => {
                        format!(" and members of group {group}")
                    }
                    _ => String::new(),
                };
                format!(
                    "{ports} is in the persistent block {}: only CAP_NET_ADMIN over the network namespace{group} \
                     may use it",
                    block.range
                )
            }
        }
    }

    fn into_failure(self, pool: &Pool) -> Failure {
        let text = self.explained(pool);
        match self {
            Refused::Acquire(error) => Failure::from(error).saying(text),
            Refused::Lend(..) => Failure::new(Code::Failed, text),
        }
    }
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
                return Err(error.into_failure(pool));
            };
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                let waited = humantime::format_duration(wait);
                let text = format!("waited {waited}: {}", error.explained(pool));
                return Err(Failure::new(Code::WaitOver, text));
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

    fn try_acquire(pool: &Pool, selectors: &Selectors, scope: Scope) -> Result<Held, Refused> {
        let requests = selectors.requests();
        let mut places = Vec::with_capacity(requests.len());
        for place in selectors.acquire_order() {
            places.push((place, Taken::by(pool, &requests[place], scope)?));
        }
        places.sort_by_key(|(place, _)| *place);
        let (mut blocks, mut reservations, mut lends) = (Vec::new(), Vec::new(), Vec::new());
        for (_, taken) in places {
            blocks.extend(taken.blocks);
            reservations.extend(taken.reservations);
            lends.extend(taken.lends);
        }
        Ok(Held {
            grant: Grant::new(pool.kind(), blocks),
            reservations,
            lends,
        })
    }
}

/// What one request was given.
#[derive(Default)]
struct Taken {
    blocks: Vec<Block>,
    reservations: Vec<Reservation>,
    lends: Vec<Lend>,
}

impl Taken {
    fn by(pool: &Pool, request: &Request, scope: Scope) -> Result<Taken, Refused> {
        let error = match pool.acquire_scoped(request, scope) {
            Ok(reservation) => {
                return Ok(Taken {
                    blocks: reservation.blocks().to_vec(),
                    reservations: vec![reservation],
                    lends: Vec::new(),
                });
            }
            Err(error) => error,
        };
        match (error.refusal(), request.want, scope) {
            (Some(Refusal::InUse), Want::Specific(range), Scope::Tree { root, .. }) => {
                Taken::of_persistent(pool, request.transports, range, scope, root)?
                    .ok_or(Refused::Acquire(error))
            }
            _ => Err(Refused::Acquire(error)),
        }
    }

    /// Ports of a persistent block, where there is one: the tree may consume it while this lives.
    /// Transports without one are acquired.
    fn of_persistent(
        pool: &Pool,
        transports: Transports,
        range: PortRange,
        scope: Scope,
        root: Option<u32>,
    ) -> Result<Option<Taken>, Refused> {
        // Who cannot look has no block to be lent: the refusal says enough.
        let mut entries = pool.reservations().unwrap_or_default();
        entries.retain(|entry| entry.tenure != Tenure::Runtime && entry.range.covers(range));
        let mut taken = Taken::default();
        for transport in transports.iter() {
            let Some(entry) = entries.iter().find(|entry| entry.transport == transport) else {
                continue;
            };
            let lend = pool.lend(transport, entry.token, root);
            let refused = |error| Refused::Lend(range, Box::new(entry.clone()), error);
            taken.lends.push(lend.map_err(refused)?);
            taken.blocks.push(Block {
                transport,
                range,
                token: entry.token,
            });
        }
        if taken.lends.is_empty() {
            return Ok(None);
        }
        for transport in transports.iter() {
            if taken
                .blocks
                .iter()
                .all(|block| block.transport != transport)
            {
                let request = Request {
                    transports: transport.into(),
                    want: Want::Specific(range),
                };
                let own = Taken::by(pool, &request, scope)?;
                taken.blocks.extend(own.blocks);
                taken.reservations.extend(own.reservations);
            }
        }
        taken.blocks.sort_by_key(|block| block.transport);
        Ok(Some(taken))
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
