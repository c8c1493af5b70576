//! Who made a call, and what is taken from it: the socket and the address.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::{
    address, ancestry,
    sys::{
        memory,
        notify::{Listener, Notification},
    },
};

/// A call of bind or listen that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'listener> {
    listener: &'listener Listener,
    pub(crate) notification: Notification,
}

impl<'listener> Call<'listener> {
    pub(crate) fn new(listener: &'listener Listener, notification: Notification) -> Self {
        Call {
            listener,
            notification,
        }
    }

    /// The address that a bind was given; nothing if the kernel has a better answer than we have.
    ///
    /// Read whole, as the kernel does: one that ends in memory that is not there is its to refuse.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, Closed> {
        let [_, place, length, ..] = self.notification.arguments;
        // The kernel takes an int, whatever the upper half of the register.
        let Ok(length) = usize::try_from(length as i32) else {
            return Ok(None);
        };
        if length > address::LENGTH_MAX {
            return Ok(None);
        }
        match memory::read(self.notification.thread, place, length) {
            Ok(bytes) => Ok(address::parse(&bytes)),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(None),
            Err(_) => Err(Closed),
        }
    }

    /// A copy of the descriptor that the call is about, if there is one.
    pub(crate) fn socket(&self) -> Result<Option<OwnedFd>, Closed> {
        if self.descriptor() < 0 {
            return Ok(None); // pidfd_getfd's wrapper takes it for a bug of ours.
        }
        let process = open(self.notification.thread).ok_or(Closed)?;
        let socket = match pidfd_getfd(&process, self.descriptor(), PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            Err(Errno::BADF) => return Ok(None),
            Err(_) => return Err(Closed),
        };
        // Only now: if the caller still waits, it was its memory that was read and its socket that
        // was taken, not those of another process with the number of one that ended.
        let is_its_own = self.listener.is_waiting(self.notification.id);
        Ok(is_its_own.then_some(socket))
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.notification.arguments[0] as i32
    }

    pub(crate) fn backlog(&self) -> i32 {
        self.notification.arguments[1] as i32
    }

    /// Puts `socket` in the place of the one that the call is about.
    pub(crate) fn replace_socket(
        &self,
        socket: &OwnedFd,
        closes_on_exec: bool,
    ) -> std::io::Result<()> {
        let id = self.notification.id;
        self.listener
            .replace(id, self.descriptor(), socket.as_fd(), closes_on_exec)
    }
}

/// The calling process is not open to this one.
#[derive(Debug)]
pub(crate) struct Closed;

/// The process that a thread belongs to.
pub(crate) fn process_of(thread: u32) -> Option<u32> {
    ancestry::number(thread, "Tgid:")
}

fn open(thread: u32) -> Option<OwnedFd> {
    let id = |number: u32| Pid::from_raw(i32::try_from(number).ok()?);
    match pidfd_open(id(thread)?, PIDFD_THREAD) {
        // Linux before 6.9 opens processes only.
        Err(Errno::INVAL) => pidfd_open(id(process_of(thread)?)?, PidfdFlags::empty()).ok(),
        other => other.ok(),
    }
}

/// Of <linux/pidfd.h>: a thread can have a table of descriptors of its own.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
