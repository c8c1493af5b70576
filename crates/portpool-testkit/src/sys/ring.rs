//! Socket calls by way of io_uring, which enters the kernel past the system calls.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use io_uring::{IoUring, Probe, opcode, squeue, types::Fd};
use socket2::SockAddr;

/// A ring that does one thing at a time.
pub struct Ring(IoUring);

impl Ring {
    /// A ring, or nothing if this kernel's io_uring cannot bind (older than 6.11, or none).
    pub fn open() -> Option<Ring> {
        let ring = IoUring::new(4).ok()?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).ok()?;
        (probe.is_supported(opcode::Bind::CODE) && probe.is_supported(opcode::Listen::CODE))
            .then_some(Ring(ring))
    }

    /// `bind`; with `elsewhere` in a worker thread of the kernel's.
    pub fn bind(
        &mut self,
        socket: &impl AsFd,
        address: SocketAddr,
        elsewhere: bool,
    ) -> io::Result<()> {
        let address = SockAddr::from(address);
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Bind::new(fd, address.as_ptr().cast(), address.len()).build();
        let entry = match elsewhere {
            true => entry.flags(squeue::Flags::ASYNC),
            false => entry,
        };
        // SAFETY: `address` outlives the call, which waits for the end of the operation.
        unsafe { self.run(&entry) }
    }

    /// `listen`.
    pub fn listen(&mut self, socket: &impl AsFd) -> io::Result<()> {
        let entry = opcode::Listen::new(Fd(socket.as_fd().as_raw_fd()), 16).build();
        // SAFETY: the operation refers to no memory.
        unsafe { self.run(&entry) }
    }

    /// `connect`.
    pub fn connect(&mut self, socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
        let address = SockAddr::from(address);
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build();
        // SAFETY: `address` outlives the call, which waits for the end of the operation.
        unsafe { self.run(&entry) }
    }

    /// # Safety
    /// What the entry refers to must live until this returns.
    unsafe fn run(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as promised by the caller.
        unsafe { self.0.submission().push(entry) }.map_err(io::Error::other)?;
        self.0.submit_and_wait(1)?;
        let done = self.0.completion().next();
        match done.map_or(-libc::EIO, |done| done.result()) {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(()),
        }
    }
}
