//! The memory of another process.

use std::{io, ptr};

/// Copies `length` bytes at `address` of the process of thread `thread`, all of them or none.
pub(crate) fn read(thread: u32, address: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; length];
    let here = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: length,
    };
    let there = libc::iovec {
        iov_base: ptr::with_exposed_provenance_mut(address as usize),
        iov_len: length,
    };
    // SAFETY: the kernel writes at most `length` bytes to the vector, which has that many and is
    // borrowed by nobody else; `there` is an address in another process that is only read.
    let count = unsafe {
        libc::process_vm_readv(
            thread as libc::pid_t,
            &raw const here,
            1,
            &raw const there,
            1,
            0,
        )
    };
    match usize::try_from(count) {
        Ok(count) if count == length => Ok(bytes),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
