//! The id of this process, of which every operation of the embedded pool asks whether it is still the
//! same: forks must not take what their parent holds for their own.

use std::{
    io, mem, process,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

/// As [`process::id`], which is a system call each time; this one is a memory access. The id stands in a page
/// that the kernel empties in every fork, however that was made.
pub(crate) fn process_id() -> u32 {
    let known = known();
    if ptr::eq(known, &raw const NO_PAGE) {
        return process::id();
    }
    match known.load(Ordering::Relaxed) {
        0 => {
            // Threads that meet here store the same.
            let id = process::id();
            known.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Where the id stands once it is known.
fn known() -> &'static AtomicU32 {
    let found = NonNull::new(KNOWN.load(Ordering::Acquire));
    let page = found.unwrap_or_else(|| {
        let made = emptied_by_fork().unwrap_or(NonNull::from(&NO_PAGE));
        let none = ptr::null_mut();
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        match KNOWN.compare_exchange(none, made.as_ptr(), success, failure) {
            Ok(_) => made,
            Err(other) => {
                // Another thread was first. Its page is never null.
                unmap(made);
                NonNull::new(other).unwrap_or(made)
            }
        }
    });
    // SAFETY: it points to `NO_PAGE` or to the start of a page of zeros that is never unmapped once it
    // is in `KNOWN`; both are valid as an `AtomicU32`, which is all they are ever used as.
    unsafe { page.as_ref() }
}

/// A page of zeros that is one again in a fork (Linux 4.14).
fn emptied_by_fork() -> io::Result<NonNull<AtomicU32>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping at an address of the kernel's choice changes nothing that is there already.
    let page = unsafe { libc::mmap(ptr::null_mut(), LENGTH, access, kind, -1, 0) };
    let page = match NonNull::new(page.cast::<AtomicU32>()) {
        Some(made) if page != libc::MAP_FAILED => made,
        _ => return Err(io::Error::last_os_error()),
    };
    // SAFETY: the mapping was made above and nobody else knows of it.
    let advised = unsafe { libc::madvise(page.as_ptr().cast(), LENGTH, libc::MADV_WIPEONFORK) };
    if advised == 0 {
        return Ok(page);
    }
    let error = io::Error::last_os_error();
    unmap(page);
    Err(error)
}

fn unmap(page: NonNull<AtomicU32>) {
    if !ptr::eq(page.as_ptr(), &raw const NO_PAGE) {
        // SAFETY: a mapping of this length that no reference points into: it never got into `KNOWN`.
        unsafe { libc::munmap(page.as_ptr().cast(), LENGTH) };
    }
}

static KNOWN: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
/// Stands for a page where there can be none; never written to.
static NO_PAGE: AtomicU32 = AtomicU32::new(0);

/// The kernel rounds it up to a page.
const LENGTH: usize = mem::size_of::<AtomicU32>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_knows_itself_by_its_own_id() {
        assert_eq!(process_id(), process::id());
        // SAFETY: the child makes plain system calls and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_own = process_id() == process::id() && process_id() == process::id();
            // SAFETY: ends the child at once, with nothing of the parent's run again.
            unsafe { libc::_exit(i32::from(!is_own)) };
        }
        let mut status = 0;
        // SAFETY: writes an int to the pointer, which is live.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(process_id(), process::id());
    }
}
