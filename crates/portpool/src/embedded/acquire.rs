//! Taking a block: all of its ports are held, or none.

use std::{
    cell::Cell,
    env, fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    time::Duration,
};

use arrayvec::ArrayVec;
use portpool_core::{
    Limits, Occupancy, PortBitmap, PortRange, RangeSet, Refusal, Request, Transport, Want,
    Wildcard, place,
};

use super::{
    descriptors::make_room,
    held::{Held, Slot},
    hold::{Hold, Miss},
    look,
    ranges::{ephemeral_range, ranges_for},
    roster::roster,
};
use crate::{
    claim::{random, since_boot},
    error::{AcquireError, Failure},
    reservation::{Block, TRANSPORT_COUNT},
    socket::owner_socket,
    sys,
};

/// Reserves a block of the same numbers of each transport. `owner` is the cookie of the caller's own
/// owner socket, if there is one.
pub(crate) fn acquire(request: &Request, owner: Option<u64>) -> Result<Blocks, AcquireError> {
    let taking = Taking {
        request: *request,
        owner,
    };
    match &request.want {
        Want::Specific(range) => taking.specific(*range),
        Want::Wildcard(wanted) => taking.wildcard(wanted),
    }
}

/// What tells the network namespace of the calling thread from others.
pub(crate) fn namespace() -> Result<u64, Failure> {
    let namespace = namespace_of(owner_socket(Transport::Udp)?.as_fd())?;
    ASKED.set(Some((namespace, since_boot())));
    Ok(namespace)
}

/// The namespace that a block of the calling thread is listed in. What the thread was told a moment ago is
/// good enough for a list: each time, the question would cost a sixteenth of a reservation. `hold` is a socket that is
/// there anyway: one made to ask costs as much as a port.
fn listed_namespace(now: u64, hold: Option<BorrowedFd<'_>>) -> Result<u64, Failure> {
    if let Some((namespace, asked)) = ASKED.get()
        && now.saturating_sub(asked) < ASKED_TIME.as_nanos() as u64
        // There others rely on the list.
        && !is_let_past_holds()
    {
        return Ok(namespace);
    }
    let namespace = match hold {
        Some(hold) => namespace_of(hold)?,
        None => namespace()?,
    };
    ASKED.set(Some((namespace, now)));
    Ok(namespace)
}

fn namespace_of(socket: BorrowedFd<'_>) -> Result<u64, Failure> {
    match sys::netns_cookie(socket) {
        Ok(cookie) => Ok(cookie),
        // Before Linux 5.14 there are no cookies; inodes are good enough among live processes.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            let file = fs::metadata("/proc/thread-self/ns/net");
            Ok(file.map_err(Failure::of("stat"))?.ino())
        }
        Err(error) => Err(Failure::of("getsockopt")(error)),
    }
}

/// A block for each transport.
pub(crate) type Blocks = ArrayVec<Arc<Held>, TRANSPORT_COUNT>;

struct Taking {
    request: Request,
    owner: Option<u64>,
}

type Holds = ArrayVec<(Transport, Vec<Slot>), TRANSPORT_COUNT>;

impl Taking {
    fn specific(&self, range: PortRange) -> Result<Blocks, AcquireError> {
        match self.take(range)? {
            Ok(holds) => self.keep(range, holds),
            Err(_) => Err(self.refused(Some(range), Refusal::InUse)),
        }
    }

    fn wildcard(&self, wanted: &Wildcard) -> Result<Blocks, AcquireError> {
        let ranges = ranges_for(wanted);
        if ranges.is_empty() {
            return Err(AcquireError::OnlyEphemeral {
                request: self.request,
                ephemeral: ephemeral_range().unwrap_or(PortRange::ALL),
            });
        }
        let namespace = namespace().map_err(|failure| self.failed(failure))?;
        let mut tries = 0;
        // What is taken while another process tries a block may be free again by the second round.
        for _ in 0..ROUND_COUNT {
            let mut view = self.own_view(namespace);
            if is_let_past_holds() {
                view.taken.union_with(&self.listed(namespace));
            }
            while let Some(range) = self.place(&view, &ranges, wanted)? {
                match self.take(range)? {
                    Ok(holds) => return self.keep(range, holds),
                    Err(port) => view.taken.set(port),
                }
                if tries == 0 {
                    view.taken.union_with(&self.listed(namespace));
                }
                tries += 1;
                if tries >= TRY_COUNT_MAX {
                    let request = self.request;
                    return Err(AcquireError::Contended { request, tries });
                }
            }
        }
        Err(self.refused(None, Refusal::NoRoom))
    }

    /// Holds every port of `range`, or none and says which one somebody has.
    fn take(&self, range: PortRange) -> Result<Result<Holds, portpool_core::Port>, AcquireError> {
        let count = self.request.transports.iter().count() as u64;
        let needed = count * u64::from(range.count().number());
        if needed > FEW {
            self.make_room(needed)?;
        }
        let mut held = hold_all(self.request.transports.iter(), range);
        if matches!(held, Err(Miss::Descriptors)) {
            self.make_room(needed)?;
            held = hold_all(self.request.transports.iter(), range);
        }
        match held {
            Ok(holds) => Ok(Ok(holds)),
            Err(Miss::Taken(port)) => Ok(Err(port)),
            Err(Miss::Privileged) => Err(self.refused(Some(range), Refusal::PrivilegedPort)),
            // Another thread has taken what there was room for.
            Err(Miss::Descriptors) => {
                let full = io::Error::from_raw_os_error(libc::EMFILE);
                Err(self.failed(Failure::of("socket")(full)))
            }
            Err(Miss::Failed(failure)) => Err(self.failed(failure)),
        }
    }

    fn make_room(&self, needed: u64) -> Result<(), AcquireError> {
        make_room(needed).map_err(|short| AcquireError::Descriptors {
            request: self.request,
            missing_count: short.missing_count,
            limit: short.limit,
        })
    }

    fn keep(&self, range: PortRange, holds: Holds) -> Result<Blocks, AcquireError> {
        let born = since_boot();
        let some_hold = holds.iter().find_map(|(_, slots)| slots.first());
        let namespace = listed_namespace(born, some_hold.map(|slot| slot.hold.socket().as_fd()));
        let namespace = namespace.map_err(|failure| self.failed(failure))?;
        let mut roster = roster();
        let owned_count = self.owner.map_or(0, |owner| roster.owned_count(owner));
        if owned_count >= RESERVATIONS_PER_SOCKET_MAX {
            return Err(self.refused(Some(range), Refusal::SocketLimit));
        }
        let mut blocks = Blocks::new();
        for (transport, slots) in holds {
            let token = roster.new_token();
            let token = token.map_err(|error| self.failed(Failure::of("getrandom")(error)))?;
            let block = Block {
                transport,
                range,
                token,
            };
            blocks.push(Arc::new(Held::new(
                block,
                (namespace, born),
                self.owner,
                slots,
            )));
        }
        roster.enter(&blocks);
        Ok(blocks)
    }

    fn place(
        &self,
        view: &Occupancy,
        ranges: &RangeSet,
        wanted: &Wildcard,
    ) -> Result<Option<PortRange>, AcquireError> {
        let seed = random().map_err(|error| self.failed(Failure::of("getrandom")(error)))?;
        Ok(place(view, ranges, wanted, seed))
    }

    fn own_view(&self, namespace: u64) -> Occupancy {
        let roster = roster();
        let mut view = Occupancy::default();
        for transport in self.request.transports.iter() {
            view.taken.union_with(&roster.taken(transport, namespace));
            view.recent.union_with(&roster.recent(transport));
        }
        view
    }

    /// The ports that other processes of the user have listed. Only a short cut: binding decides.
    fn listed(&self, namespace: u64) -> PortBitmap {
        let mut listed = PortBitmap::empty();
        let records = look::reservations(namespace).unwrap_or_default();
        let wanted = |record: &&portpool_core::abi::Record| {
            self.request.transports.contains(record.transport)
        };
        for record in records.iter().filter(wanted) {
            listed.set_range(record.range);
        }
        listed
    }

    fn refused(&self, range: Option<PortRange>, refusal: Refusal) -> AcquireError {
        AcquireError::Refused {
            request: self.request,
            range,
            refusal,
        }
    }

    fn failed(&self, failure: Failure) -> AcquireError {
        AcquireError::Failure {
            request: self.request,
            failure,
        }
    }
}

/// Whether a supervisor lets this process bind ports that it holds for it (`portpool run`): then a bind
/// does not tell that a port is held, only the list does.
fn is_let_past_holds() -> bool {
    env::var_os(SUPERVISED_VARIABLE).is_some()
}

/// What was taken before a miss is let go of.
fn hold_all(transports: impl Iterator<Item = Transport>, range: PortRange) -> Result<Holds, Miss> {
    let mut all = Holds::new();
    for transport in transports {
        all.push((transport, Hold::take_all(transport, range)?));
    }
    Ok(all)
}

thread_local! {
    /// What this thread was last told of its network namespace, and when, in nanoseconds since boot.
    static ASKED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// How long a thread is taken to stay in its network namespace.
const ASKED_TIME: Duration = Duration::from_millis(1);
/// As in a kernel pool that was attached without other limits.
const RESERVATIONS_PER_SOCKET_MAX: usize = Limits::DEFAULT.reservations_per_socket_max as usize;
/// As in `portpool-handover`.
const SUPERVISED_VARIABLE: &str = "PORTPOOL_SUPERVISED";
/// Blocks this small are tried before anything is counted.
const FEW: u64 = 16;
const ROUND_COUNT: u32 = 2;
/// Each try rules out at least one port for its round.
const TRY_COUNT_MAX: u32 = ROUND_COUNT * 65_536;
