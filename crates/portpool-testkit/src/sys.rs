//! Raw socket options, for tests of what a careless or hostile caller gets.
#![allow(unsafe_code)]

mod map;
mod ring;

pub use ring::Ring;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    panic::{self, AssertUnwindSafe},
};

pub use map::map_bytes;

/// `setsockopt` with any bytes and any claimed length, which may be a lie.
pub fn set_raw(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    value: &[u8],
    claimed: i64,
) -> io::Result<()> {
    set_at(socket, level, name, value.as_ptr().addr(), claimed)
}

/// `setsockopt` with any address, mapped or not.
pub fn set_at(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    address: usize,
    claimed: i64,
) -> io::Result<()> {
    // SAFETY: setsockopt only reads user memory, and checks it: a bad address is EFAULT.
    let result = unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            libc::c_long::from(socket.as_fd().as_raw_fd()),
            libc::c_long::from(level),
            libc::c_long::from(name),
            address,
            claimed,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `getsockopt` into a buffer; how many bytes came.
pub fn get_raw(socket: &impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(length as usize)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The socket a parent left open under a number (`portpool::process::pass_socket`).
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no memory; it says whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and the parent left it for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Runs `body` in a fork of this process and says whether it returned, rather than panicked.
///
/// The child has this thread only; another one must not be in the middle of something it needs.
pub fn in_fork(body: impl FnOnce()) -> bool {
    // SAFETY: the child runs on with a copy of this thread; glibc makes its allocator usable there,
    // and the threads of a test binary besides the test's own wait for it to end.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", io::Error::last_os_error());
    if child == 0 {
        let returned = panic::catch_unwind(AssertUnwindSafe(body)).is_ok();
        // SAFETY: always sound; nothing of the parent's is flushed or dropped in the child.
        unsafe { libc::_exit(i32::from(!returned)) };
    }
    let mut status = 0;
    // SAFETY: `status` is a live integer, and the child is this function's own.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "waitpid: {}", io::Error::last_os_error());
    status == 0
}

/// Gives the calling thread the uid and gid for good, without any privilege.
pub fn become_uid(uid: u32) -> io::Result<()> {
    set_ids(libc::SYS_setresgid, [uid; 3])?;
    set_ids(libc::SYS_setresuid, [uid; 3])
}

/// Sets the effective uid of the calling thread, and with it its privilege, and keeps the others.
pub fn set_effective_uid(uid: u32) -> io::Result<()> {
    set_ids(libc::SYS_setresuid, [u32::MAX, uid, u32::MAX])
}

fn set_ids(call: libc::c_long, ids: [u32; 3]) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory of the caller.
    let result = unsafe { libc::syscall(call, ids[0], ids[1], ids[2]) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `bind` to an address of any bytes.
pub fn bind_raw(socket: &impl AsFd, address: &[u8]) -> io::Result<()> {
    // SAFETY: bind only reads user memory, and no more than the length it is given.
    let result = unsafe {
        libc::bind(
            socket.as_fd().as_raw_fd(),
            address.as_ptr().cast(),
            libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's log as far as it is kept.
pub fn kernel_log() -> io::Result<String> {
    const READ_ALL: i32 = 3;
    let mut log = vec![0_u8; 1 << 22];
    let room = i32::try_from(log.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `room` bytes, the size of `log`.
    let length = unsafe { libc::klogctl(READ_ALL, log.as_mut_ptr().cast(), room) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    log.truncate(length);
    Ok(String::from_utf8_lossy(&log).into_owned())
}

/// A page that may be read, followed by one that may not.
#[derive(Debug)]
pub struct EdgeOfMemory(*mut libc::c_void);

impl EdgeOfMemory {
    /// Maps the two pages.
    pub fn new() -> io::Result<EdgeOfMemory> {
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let edge = EdgeOfMemory(pages);
        // SAFETY: the second of the two pages mapped above, which nothing refers to.
        let result = unsafe { libc::mprotect(pages.byte_add(PAGE), PAGE, libc::PROT_NONE) };
        if result == 0 {
            Ok(edge)
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The address of the first byte that cannot be read.
    pub fn address(&self) -> usize {
        self.0.addr() + PAGE
    }
}

impl Drop for EdgeOfMemory {
    fn drop(&mut self) {
        // SAFETY: the pages mapped by `new`, which nothing refers to.
        unsafe { libc::munmap(self.0, 2 * PAGE) };
    }
}

const PAGE: usize = 4096;

/// `SO_ATTACH_FILTER`.
pub fn attach_filter(socket: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    let size = size_of::<libc::sock_fprog>();
    let address = (&raw const program).expose_provenance();
    set_at(
        socket,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_FILTER,
        address,
        i64::try_from(size).map_err(io::Error::other)?,
    )
}
