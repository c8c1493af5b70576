//! Raw socket options, for tests of what a careless or hostile caller gets.
#![allow(unsafe_code)]

mod map;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
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
