//! Socket options that rustix has no name for. The only unsafe code of this crate.
#![expect(
    unsafe_code,
    reason = "getsockopt of credentials and of the namespace has no safe wrapper"
)]

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// The namespace of a socket.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = [0_u64];
    let count = option(socket, SO_NETNS_COOKIE, &mut cookie)?;
    match count {
        1 => Ok(cookie[0]),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A descriptor of the process at the other end; nothing where the kernel does not know the option.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut number: [RawFd; 1] = [-1];
    match option(socket, SO_PEERPIDFD, &mut number) {
        Ok(_) if number[0] >= 0 => {
            // SAFETY: the call succeeded, so the number is a new descriptor that nobody else owns; the
            // kernel opens it close-on-exec.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(number[0]) }))
        }
        Ok(_) => Ok(None),
        Err(error) => match error.raw_os_error() {
            // ESRCH, EINVAL: the process has ended and was waited for.
            Some(libc::ENOPROTOOPT | libc::ENODATA | libc::ESRCH | libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The supplementary groups of the process at the other end.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        match option(socket, SO_PEERGROUPS, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && groups.len() < 65_536 => {
                groups = vec![0; groups.len() * 4];
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads an option of integers; how many the kernel wrote.
fn option<T: Integer>(
    socket: BorrowedFd<'_>,
    name: libc::c_int,
    values: &mut [T],
) -> io::Result<usize> {
    let size = mem::size_of_val(values);
    let mut length = libc::socklen_t::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `values`, which is borrowed
    // exclusively and of integers, for which any bytes are a value; and a length to `length`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            values.as_mut_ptr().cast(),
            ptr::from_mut(&mut length),
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(length as usize / mem::size_of::<T>())
}

/// Types for which any bytes are a value.
trait Integer: Copy {}
impl Integer for u64 {}
impl Integer for u32 {}
impl Integer for i32 {}

const SO_PEERGROUPS: libc::c_int = 59;
const SO_NETNS_COOKIE: libc::c_int = 71;
const SO_PEERPIDFD: libc::c_int = 77;
