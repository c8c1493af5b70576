//! A block that this process holds, and the sockets it has let past its holds.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use portpool_core::Port;
use rustix::fs::fstat;
use socket2::Socket;

use super::{hold::Hold, listing::Listed};
use crate::{reservation::Block, sys::process_id};

/// One block of one transport.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) block: Block,
    /// The network namespace it is of.
    pub(crate) namespace: u64,
    /// When it was acquired, in nanoseconds since boot.
    pub(crate) born: u64,
    process: u32,
    /// The cookie of the socket that the caller named as its owner.
    owner: Option<u64>,
    /// Where this process's list has it, or [`UNLISTED`]. Read and written by who has the roster.
    place: AtomicUsize,
    /// One for each port, lowest first; none once it is released.
    slots: Mutex<Vec<Slot>>,
}

/// A port of the block.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) hold: Hold,
    consumers: Vec<Consumer>,
}

/// A socket that was bound to a port, as far as it can be found again.
#[derive(Debug)]
struct Consumer {
    number: RawFd,
    inode: u64,
}

impl Held {
    pub(crate) fn new(
        block: Block,
        (namespace, born): (u64, u64),
        owner: Option<u64>,
        slots: Vec<Slot>,
    ) -> Held {
        Held {
            block,
            namespace,
            born,
            process: process_id(),
            owner,
            place: AtomicUsize::new(UNLISTED),
            slots: Mutex::new(slots),
        }
    }

    /// Whether the calling process acquired it, rather than being a fork of that one.
    pub(crate) fn is_own(&self) -> bool {
        self.process == process_id()
    }

    /// What the list says of it.
    pub(crate) fn listed(&self) -> Listed {
        Listed {
            namespace: self.namespace,
            token: self.block.token,
            transport: self.block.transport,
            range: self.block.range,
            born: self.born,
        }
    }

    /// Where the list has it.
    pub(crate) fn place(&self) -> Option<usize> {
        let place = self.place.load(Ordering::Relaxed);
        Some(place).filter(|place| *place != UNLISTED)
    }

    pub(crate) fn set_place(&self, place: Option<usize>) {
        self.place
            .store(place.unwrap_or(UNLISTED), Ordering::Relaxed);
    }

    /// Whether it was acquired on the socket with this cookie.
    pub(crate) fn is_owned_by(&self, socket: u64) -> bool {
        self.owner == Some(socket)
    }

    /// The ports, for as long as nobody else may work on them: none if it was released.
    pub(crate) fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of every port. Sockets bound to them keep them.
    pub(crate) fn close(&self) {
        for slot in self.slots().drain(..) {
            slot.hold.close();
        }
    }

    /// The holds themselves, as sockets that are bound to their ports, if it was not released.
    pub(crate) fn take(&self) -> Vec<Slot> {
        std::mem::take(&mut *self.slots())
    }

    /// Closes this process's copies of the holds, which another process goes on having.
    pub(crate) fn close_copies(&self) {
        // A thread of the parent may have had the lock at the fork, and is not here to let go of it.
        if let Ok(mut slots) = self.slots.try_lock() {
            slots.clear();
        }
    }
}

impl From<Hold> for Slot {
    fn from(hold: Hold) -> Slot {
        let consumers = Vec::new();
        Slot { hold, consumers }
    }
}

impl Slot {
    pub(crate) fn port(&self) -> Port {
        self.hold.port()
    }

    /// Notes that `socket` was bound to the port.
    pub(crate) fn note(&mut self, socket: &Socket) {
        self.consumers.retain(Consumer::is_open);
        if self.consumers.len() < CONSUMER_COUNT_MAX
            && let Ok(status) = fstat(socket.as_fd())
        {
            self.consumers.push(Consumer {
                number: socket.as_raw_fd(),
                inode: status.st_ino,
            });
        }
    }

    /// Whether a socket bound to the port is still open under the number it had. One that lives on
    /// under another number or in another process is not seen; the kernel sees it.
    pub(crate) fn is_consumed(&self) -> bool {
        self.consumers.iter().any(Consumer::is_open)
    }
}

impl Consumer {
    fn is_open(&self) -> bool {
        let link = fs::read_link(format!("/proc/self/fd/{}", self.number));
        link.is_ok_and(|link| link.as_os_str() == format!("socket:[{}]", self.inode).as_str())
    }
}

/// Of more sockets on one port it is enough to know some.
const CONSUMER_COUNT_MAX: usize = 16;
const UNLISTED: usize = usize::MAX;
