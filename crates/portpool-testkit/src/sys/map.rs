//! The size of pinned maps.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

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
