//! Raw socket options, for tests of what a careless or hostile caller gets.
#![allow(unsafe_code)]

mod ring;

pub use ring::Ring;

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

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

/// The newest part of the kernel's log, as much as fits; how many bytes came.
pub fn kernel_log(buffer: &mut [u8]) -> usize {
    const READ_ALL: i32 = 3;
    let length = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
    // SAFETY: the kernel writes at most `length` bytes, the size of `buffer`.
    let size = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    usize::try_from(size).expect("read the kernel's log as root")
}
