//! A file in memory, written to without system calls.

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

/// The start of a file as words that this process writes and others read.
#[derive(Debug)]
pub(crate) struct SharedWords {
    first: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping is of the process, not of a thread, and is accessed by atomic stores only.
unsafe impl Send for SharedWords {}

impl SharedWords {
    /// Maps `count` words of a file that is open for reading and writing.
    ///
    /// The caller sees to it that the file has them, and the memory for them: a store to a page that cannot be
    /// had ends the process with SIGBUS. That is nothing unsafe, but nothing to be wished for either.
    pub(crate) fn map(file: BorrowedFd<'_>, count: usize) -> io::Result<SharedWords> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let (length, file) = (count * mem::size_of::<AtomicU64>(), file.as_raw_fd());
        // SAFETY: a mapping at an address of the kernel's choice changes nothing that is there already.
        let mapped =
            unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, file, 0) };
        match NonNull::new(mapped.cast::<AtomicU64>()) {
            Some(first) if mapped != libc::MAP_FAILED => Ok(SharedWords { first, count }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Writes a word, after all that was stored before.
    pub(crate) fn store(&self, index: usize, value: u64) {
        assert!(index < self.count, "word {index} of {}", self.count);
        // SAFETY: the index is within the mapping, which starts at a page, so that every word in it is
        // aligned, and is there as long as `self`. Others may write to the file too: any bytes are a
        // valid u64, and nothing is ever read.
        let word = unsafe { self.first.add(index).as_ref() };
        word.store(value, Ordering::Release);
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let length = self.count * mem::size_of::<AtomicU64>();
        // SAFETY: the mapping is of this length and nothing refers to it after `self`. In a fork it is
        // there as well.
        unsafe { libc::munmap(self.first.as_ptr().cast(), length) };
    }
}
