//! Memory that a caller named: read and written through the kernel, so that a bad pointer is an
//! answer and not a crash.
//!
//! `process_vm_readv` with the caller's memory on the local side is the kernel's own check of a
//! buffer, and one that tools for finding memory errors know. Where a sandbox forbids that call the
//! bytes take the way through a pipe.

use std::ffi::{CString, c_void};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::codes::Code;

/// Some bytes of the caller's, which may be none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    address: usize,
    len: usize,
}

impl Bytes {
    /// # Safety
    /// If the memory can be written, the caller of this library lets it write there.
    pub(crate) unsafe fn new<T>(pointer: *const T, len: usize) -> Bytes {
        Bytes {
            address: pointer.addr(),
            len,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        self.address == 0
    }

    pub(crate) fn address(self) -> usize {
        self.address
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The bytes from `offset` on.
    pub(crate) fn from(self, offset: usize) -> Bytes {
        Bytes {
            address: self.address.wrapping_add(offset),
            len: self.len.saturating_sub(offset),
        }
    }

    /// The first bytes.
    ///
    /// # Errors
    /// [`Code::FAULT`] if there are fewer, or they cannot be read.
    pub(crate) fn read<const N: usize>(self) -> Result<[u8; N], Code> {
        let mut bytes = [0; N];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// As [`read`](Bytes::read), as many as `bytes` takes.
    pub(crate) fn read_into(self, bytes: &mut [u8]) -> Result<(), Code> {
        if self.is_null() || self.len < bytes.len() {
            return Err(Code::FAULT);
        }
        copy(Direction::In, self.address, bytes.as_mut_ptr(), bytes.len())
    }

    /// The text from here on, which ends with a zero.
    ///
    /// # Errors
    /// [`Code::FAULT`] if it cannot be read, [`Code::INVAL`] if it goes on for too long.
    pub(crate) fn text(self) -> Result<CString, Code> {
        if self.is_null() {
            return Err(Code::FAULT);
        }
        let mut text = Vec::new();
        while text.len() < TEXT_LEN_MAX {
            // Byte by byte: what is behind the end is not there, or somebody else's, as tools that find
            // memory errors know.
            match self.from(text.len()).read()? {
                [0] => return CString::new(text).map_err(|_| Code::INVAL),
                [byte] => text.push(byte),
            }
        }
        Err(Code::INVAL)
    }

    /// Writes the first bytes, or none.
    ///
    /// # Errors
    /// [`Code::FAULT`] if there is no room for them, or it cannot be written.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Code> {
        if self.is_null() || self.len < bytes.len() {
            return Err(Code::FAULT);
        }
        // What lies in two pages could be written in part.
        if self.address % PAGE_SIZE + bytes.len() > PAGE_SIZE {
            self.write_onto_itself(bytes.len())?;
        }
        let source = bytes.as_ptr().cast_mut();
        copy(Direction::Out, self.address, source, bytes.len())
    }

    /// Whether the first `N` bytes can be read and written; changes nothing.
    pub(crate) fn probe<const N: usize>(self) -> Result<(), Code> {
        if self.is_null() || self.len < N {
            return Err(Code::FAULT);
        }
        self.write_onto_itself(N)
    }

    /// Without a look at what is in it: it may be output that nobody has set yet.
    fn write_onto_itself(self, len: usize) -> Result<(), Code> {
        match transfer(Direction::Out, self.address, self.address, len) {
            Err(Miss::Forbidden) => {
                let mut bytes = vec![0; len];
                copy(Direction::In, self.address, bytes.as_mut_ptr(), len)?;
                copy(Direction::Out, self.address, bytes.as_mut_ptr(), len)
            }
            answer => answer.map_err(|_| Code::FAULT),
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    /// From the caller's memory.
    In,
    /// Into the caller's memory.
    Out,
}

/// Copies between `theirs`, which may be no memory at all, and `ours`, which is.
fn copy(direction: Direction, theirs: usize, ours: *mut u8, len: usize) -> Result<(), Code> {
    if len == 0 {
        return Ok(());
    }
    match transfer(direction, theirs, ours.expose_provenance(), len) {
        Err(Miss::Forbidden) => copy_through_pipe(direction, theirs, ours, len),
        answer => answer.map_err(|_| Code::FAULT),
    }
}

enum Miss {
    Fault,
    /// This process may not make the call.
    Forbidden,
}

/// As [`copy`], where `ours` may be memory of theirs as well.
fn transfer(direction: Direction, theirs: usize, ours: usize, len: usize) -> Result<(), Miss> {
    let local = vector(theirs, len);
    let remote = vector(ours, len);
    // SAFETY: getpid has no arguments.
    let process = unsafe { libc::getpid() };
    let copied = match direction {
        // SAFETY: the kernel reads `theirs` as far as it is mapped, and writes `ours`, which `copy` says
        // has len bytes.
        Direction::In => unsafe { libc::process_vm_writev(process, &local, 1, &remote, 1, 0) },
        // SAFETY: the kernel reads `ours` as far as it is mapped, and writes `theirs` as far as it may
        // be written, which the caller of the library has allowed (`Bytes::new`).
        Direction::Out => unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) },
    };
    match usize::try_from(copied) {
        Ok(copied) if copied == len => Ok(()),
        Err(_) if is_forbidden() => Err(Miss::Forbidden),
        Ok(_) | Err(_) => Err(Miss::Fault),
    }
}

/// Whether the call failed because this process may not make it.
fn is_forbidden() -> bool {
    let errno = std::io::Error::last_os_error().raw_os_error();
    matches!(errno, Some(libc::EPERM | libc::ENOSYS | libc::EACCES))
}

fn copy_through_pipe(
    direction: Direction,
    theirs: usize,
    ours: *mut u8,
    len: usize,
) -> Result<(), Code> {
    use std::os::fd::AsRawFd;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (reader, writer) = (reader.as_raw_fd(), writer.as_raw_fd());
    let mut done = 0;
    while done < len {
        let step = (len - done).min(PIPE_SIZE);
        let theirs: *mut c_void = std::ptr::with_exposed_provenance_mut(theirs + done);
        // SAFETY: done is less than len, so this is inside `ours` or just past its end.
        let ours: *mut c_void = unsafe { ours.add(done) }.cast();
        let (source, target) = match direction {
            Direction::In => (theirs, ours),
            Direction::Out => (ours, theirs),
        };
        // SAFETY: as in `copy`: one side is ours and has `step` bytes, the other the kernel checks.
        let written = unsafe { libc::write(writer, source, step) };
        let Some(written) = usize::try_from(written).ok().filter(|it| *it > 0) else {
            return Err(Code::FAULT);
        };
        // SAFETY: as above.
        let read = unsafe { libc::read(reader, target, written) };
        if usize::try_from(read) != Ok(written) {
            return Err(Code::FAULT);
        }
        done += written;
    }
    Ok(())
}

fn vector(base: usize, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(base),
        iov_len: len,
    }
}

/// Longer than any name or address.
const TEXT_LEN_MAX: usize = 8192;

/// No page is smaller.
const PAGE_SIZE: usize = 4096;

/// What a pipe always takes at once.
const PIPE_SIZE: usize = 4096;
