//! Socket options of integers.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// Reads an option that is an `int`.
pub(crate) fn option(socket: &impl AsFd, level: i32, name: i32) -> io::Result<i32> {
    read(socket, level, name)
}

/// Sets an option that is an `int`.
pub(crate) fn set_option(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as are passed, the size of `value`, which is live.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            mem::size_of::<i32>() as libc::socklen_t,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Which network namespace a socket belongs to.
pub(crate) fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    read(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)
}

/// The process at the other end of a Unix socket; 0 if it has no id here, which rustix's type for it
/// has no value for.
pub(crate) fn peer_process(socket: &impl AsFd) -> io::Result<u32> {
    let [process, _uid, _gid]: [i32; 3] = read(socket, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    Ok(process.unsigned_abs())
}

/// A type of which any bytes are a value.
trait Plain: Copy + Default {}
impl Plain for i32 {}
impl Plain for u64 {}
impl Plain for [i32; 3] {}

fn read<T: Plain>(socket: &impl AsFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::default();
    let mut length = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`, to the pointer, and a
    // `socklen_t` to `length`; both are live and unaliased for the call, and any bytes are a value.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        return Ok(value);
    }
    Err(io::Error::last_os_error())
}

const SO_NETNS_COOKIE: libc::c_int = 71;
