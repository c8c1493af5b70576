//! Raw socket options, for tests of what a careless or hostile caller gets, and the size of maps.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
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

/// How many bytes of kernel memory the map pinned at `path` takes, as the kernel tells it.
pub fn map_bytes(path: &Path) -> io::Result<u64> {
    let map = open_pin(path)?;
    let lines = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let bytes = lines.lines().find_map(|line| line.strip_prefix("memlock:"));
    bytes
        .and_then(|bytes| bytes.trim().parse().ok())
        .ok_or_else(|| io::Error::other("a map without memlock"))
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // Mirrors the member of `union bpf_attr` for BPF_OBJ_GET: the path, then descriptor and flags, 0.
    let mut request = [path.as_ptr().expose_provenance() as u64, 0];
    // SAFETY: the kernel reads as many bytes as `request` has and a string that ends with a zero byte
    // at the address in it; both are live for the call, and it writes nothing.
    let map = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET,
            request.as_mut_ptr(),
            size_of_val(&request),
        )
    };
    if map < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the number is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(map as i32) })
}

const BPF_OBJ_GET: libc::c_int = 7;
