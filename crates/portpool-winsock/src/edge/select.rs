//! select and WSAPoll. An fd_set of Windows is a list of SOCKETs, as long as the program made it.

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_void},
    sync::Arc,
    time::Duration,
};

use rustix::event::PollFlags;

use super::{
    boundary::{SOCKET_ERROR, answer},
    memory::Bytes,
};
use crate::{
    codes::Code,
    engine::{
        readiness::await_sockets,
        sockets::{self, Number, Socket},
        startup,
    },
};

/// The first argument says nothing on Windows.
#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_select(
    _count: c_int,
    readable: *mut c_void,
    writable: *mut c_void,
    exceptional: *mut c_void,
    timeout: *const c_void,
) -> c_int {
    answer(SOCKET_ERROR, || {
        startup::check()?;
        let sets = [
            (readable, PollFlags::IN, READABLE),
            (writable, PollFlags::OUT, PollFlags::OUT),
            (exceptional, PollFlags::PRI, EXCEPTIONAL),
        ];
        let mut wanted = BTreeMap::new();
        let mut lists = Vec::new();
        for (set, asked, meant) in sets {
            // SAFETY: the caller lets this function write its sets.
            let set = unsafe { Bytes::new(set, usize::MAX) };
            let members = members(set)?;
            for number in &members {
                let entry = (sockets::find(*number)?, PollFlags::empty());
                wanted.entry(*number).or_insert(entry).1 |= asked;
            }
            lists.push((set, meant, members));
        }
        if wanted.is_empty() {
            return Err(Code::INVAL);
        }
        // SAFETY: the time is only read.
        let timeout = time(unsafe { Bytes::new(timeout, 16) })?;
        let (numbers, wanted): (Vec<Number>, Vec<_>) = wanted.into_iter().unzip();
        let happened = await_sockets(&wanted, timeout)?;
        let happened: BTreeMap<Number, PollFlags> = numbers.into_iter().zip(happened).collect();
        let mut total = 0;
        for (set, meant, members) in lists {
            let is_ready = |number: &Number| {
                let flags = happened.get(number).copied().unwrap_or(PollFlags::empty());
                // A connection that failed is exceptional, not writable.
                let is_failed_write = meant == PollFlags::OUT && flags.contains(PollFlags::ERR);
                flags.intersects(meant) && !is_failed_write
            };
            let ready: Vec<Number> = members.into_iter().filter(is_ready).collect();
            total += ready.len();
            store(set, &ready)?;
        }
        // There are no more sockets than descriptors.
        Ok(total as c_int)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __WSAFDIsSet(socket: Number, set: *const c_void) -> c_int {
    answer(0, || {
        // SAFETY: the set is only read.
        let set = unsafe { Bytes::new(set, usize::MAX) };
        Ok(members(set)?.contains(&socket).into())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAPoll(list: *mut c_void, count: u32, timeout: c_int) -> c_int {
    answer(SOCKET_ERROR, || {
        startup::check()?;
        let count = count as usize;
        if count == 0 || count > MEMBER_COUNT_MAX {
            return Err(Code::INVAL);
        }
        // SAFETY: the caller lets this function write its list.
        let list = unsafe { Bytes::new(list, count * POLLFD_SIZE) };
        let mut wanted: Vec<(Arc<Socket>, PollFlags)> = Vec::new();
        let mut places = Vec::new();
        for index in 0..count {
            let place = list.from(index * POLLFD_SIZE);
            let events = u16::from_ne_bytes(place.from(8).read()?);
            match sockets::find(u64::from_ne_bytes(place.read()?)) {
                Ok(socket) => {
                    wanted.push((socket, flags_of(events)));
                    places.push((place, Ok(events)));
                }
                // Negative is for nothing, as POLLNVAL says it of what is no socket.
                Err(_) => places.push((place, Err(POLLNVAL))),
            }
        }
        let is_any_wrong = wanted.len() < count;
        let timeout = match (is_any_wrong, u64::try_from(timeout)) {
            (true, _) => Some(Duration::ZERO),
            (false, Ok(timeout)) => Some(Duration::from_millis(timeout)),
            (false, Err(_)) => None,
        };
        let mut happened = await_sockets(&wanted, timeout)?.into_iter();
        let mut total = 0;
        for (place, asked) in places {
            let events = match asked {
                Ok(asked) => {
                    let flags = happened.next().unwrap_or(PollFlags::empty());
                    events_of(flags) & (asked | POLLERR | POLLHUP)
                }
                Err(events) => events,
            };
            place.from(10).write(&events.to_ne_bytes())?;
            total += c_int::from(events != 0);
        }
        Ok(total)
    })
}

/// The members of an fd_set; none if there is no set.
fn members(set: Bytes) -> Result<Vec<Number>, Code> {
    if set.is_null() {
        return Ok(Vec::new());
    }
    let count = u32::from_ne_bytes(set.read()?) as usize;
    if count > MEMBER_COUNT_MAX {
        return Err(Code::INVAL);
    }
    let mut bytes = vec![0; count * 8];
    set.from(8).read_into(&mut bytes)?;
    let (members, _) = bytes.as_chunks();
    Ok(members
        .iter()
        .map(|it| Number::from_ne_bytes(*it))
        .collect())
}

fn store(set: Bytes, members: &[Number]) -> Result<(), Code> {
    if set.is_null() {
        return Ok(());
    }
    let bytes: Vec<u8> = members.iter().flat_map(|it| it.to_ne_bytes()).collect();
    set.from(8).write(&bytes)?;
    set.write(&(members.len() as u32).to_ne_bytes())
}

/// A timeval; none is for ever.
fn time(timeout: Bytes) -> Result<Option<Duration>, Code> {
    if timeout.is_null() {
        return Ok(None);
    }
    let seconds = u64::try_from(i64::from_ne_bytes(timeout.read()?));
    let micros = u64::try_from(i64::from_ne_bytes(timeout.from(8).read()?));
    match (seconds, micros) {
        (Ok(seconds), Ok(micros)) => {
            let micros = Duration::from_micros(micros);
            Ok(Some(Duration::from_secs(seconds).saturating_add(micros)))
        }
        _ => Err(Code::INVAL),
    }
}

fn flags_of(events: u16) -> PollFlags {
    let rows = POLL_EVENTS.iter().filter(|(event, _)| events & event != 0);
    rows.fold(PollFlags::empty(), |flags, (_, flag)| flags | *flag)
}

fn events_of(flags: PollFlags) -> u16 {
    let rows = POLL_EVENTS
        .iter()
        .filter(|(_, flag)| flags.intersects(*flag));
    rows.fold(0, |events, (event, _)| events | event)
}

const READABLE: PollFlags = PollFlags::IN.union(PollFlags::HUP).union(PollFlags::RDHUP);
const EXCEPTIONAL: PollFlags = PollFlags::PRI.union(PollFlags::ERR);

const POLLERR: u16 = 0x0001;
const POLLHUP: u16 = 0x0002;
const POLLNVAL: u16 = 0x0004;
const POLL_EVENTS: [(u16, PollFlags); 8] = [
    (POLLERR, PollFlags::ERR),
    (POLLHUP, PollFlags::HUP),
    (POLLNVAL, PollFlags::NVAL),
    (0x0010, PollFlags::OUT),
    (0x0020, PollFlags::WRBAND),
    (0x0100, PollFlags::IN),
    (0x0200, PollFlags::RDBAND),
    (0x0400, PollFlags::PRI),
];
const POLLFD_SIZE: usize = 16;
/// More than a process can have.
const MEMBER_COUNT_MAX: usize = 1 << 20;
