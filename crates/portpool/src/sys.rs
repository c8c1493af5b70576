//! The system calls that have no safe wrapper elsewhere: the control codes, `bpf(2)` for reading
//! pinned maps, what a child does between fork and exec, descriptors
//! that go from one program to the next under a number, and memory that is shared with other processes or
//! with no fork.
//!
//! The only module with unsafe code. Nothing is decided here.
#![expect(
    unsafe_code,
    reason = "setsockopt at our level, bpf(2), pre_exec, numbered descriptors and mappings have no safe \
              wrapper"
)]

mod process_id;
mod shared_words;

pub(crate) use process_id::process_id;
pub(crate) use shared_words::SharedWords;

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
    ptr,
};

use portpool_core::abi::{ControlCode, LEVEL};
use rustix::{
    io::FdFlags,
    process::{Pid, Signal},
};

/// Issues a control code on a socket.
pub(crate) fn control(socket: BorrowedFd<'_>, code: ControlCode, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes from the pointer, which is the length of the slice it
    // was taken from, and writes none; the descriptor is open as long as it is borrowed.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            LEVEL,
            code as libc::c_int,
            value.as_ptr().cast(),
            length,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Closes a descriptor by the bare system call, which takes a hundredth less of a socket's life than
/// dropping it does.
pub(crate) fn close(descriptor: OwnedFd) {
    // SAFETY: the descriptor was owned, so that nobody else uses its number, and is given up here.
    unsafe { rustix::io::close(descriptor.into_raw_fd()) };
}

/// The cookie of the network namespace a socket belongs to.
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = mem::size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`, to the pointer, and a
    // `socklen_t` to `length`; both are live and unaliased for the call, and any bytes are a u64.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 {
        return Ok(cookie);
    }
    Err(io::Error::last_os_error())
}

/// Kinds of maps whose values are plain bytes of the size they declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapKind {
    Hash = 1,
    Array = 2,
}

/// A map opened for reading, whose keys have `K` and whose values have `V` bytes.
#[derive(Debug)]
pub(crate) struct Map<const K: usize, const V: usize>(OwnedFd);

impl<const K: usize, const V: usize> Map<K, V> {
    /// Opens the map pinned at `path`, and refuses one of another kind or other sizes.
    pub(crate) fn open(path: &Path, kind: MapKind) -> io::Result<Map<K, V>> {
        let map = open_pin(path)?;
        let found = describe(map.as_fd())?;
        let wanted = (kind as u32, K as u32, V as u32);
        if (found.kind, found.key_size, found.value_size) != wanted {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the map has another layout than this version reads",
            ));
        }
        Ok(Map(map))
    }

    /// Reads the value of `key` into `value`; false if the map has no such key.
    pub(crate) fn read(&self, key: [u8; K], value: &mut [u8; V]) -> io::Result<bool> {
        let mut element = Element {
            map: self.0.as_raw_fd() as u32,
            zero: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.as_mut_ptr().expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: a lookup reads K bytes at `key` and writes V bytes at `value`: `open` made sure
        // that these are the sizes of this map, whose kind has no larger values than it declares.
        // Both are live for the call and `value` is borrowed exclusively.
        let answer = unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) };
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every value. One that comes or goes meanwhile may or may not be among them, and one may be
    /// there twice.
    pub(crate) fn values(&self) -> io::Result<Vec<[u8; V]>> {
        let mut found = Vec::new();
        let mut position = None;
        let mut room = BATCH_COUNT;
        loop {
            let mut keys = vec![[0; K]; room];
            let mut values = vec![[0; V]; room];
            match self.batch(position, &mut keys, &mut values) {
                Batch::Some { count, next } => {
                    found.extend_from_slice(&values[..count]);
                    position = Some(next);
                }
                Batch::Last { count } => {
                    found.extend_from_slice(&values[..count]);
                    return Ok(found);
                }
                // A bucket of the hash is never split over two batches.
                Batch::NoRoom if room < BATCH_COUNT_MAX => room *= 2,
                Batch::NoRoom => return Err(io::Error::from_raw_os_error(libc::ENOSPC)),
                Batch::Failed(error) => return Err(error),
            }
        }
    }

    fn batch(&self, from: Option<u32>, keys: &mut [[u8; K]], values: &mut [[u8; V]]) -> Batch {
        let mut next = 0_u32;
        let mut request = BatchRequest {
            in_batch: from.as_ref().map_or(0, |position| {
                ptr::from_ref(position).expose_provenance() as u64
            }),
            out_batch: ptr::from_mut(&mut next).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: keys.len().min(values.len()) as u32,
            map: self.0.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel writes at most `count` keys of K and values of V bytes, the sizes of
        // this map as `open` made sure, into slices of at least `count` such elements; it reads a
        // u32 at `in_batch` unless that is null and writes one at `out_batch`, as a hash or an
        // array does. All are live for the call, those written to are borrowed exclusively.
        let answer = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut request) };
        let count = (request.count as usize).min(keys.len());
        match answer {
            Ok(_) => Batch::Some { count, next },
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Batch::Last { count },
                Some(libc::ENOSPC) => Batch::NoRoom,
                _ => Batch::Failed(error),
            },
        }
    }
}

/// Has the child of `command` killed as soon as the thread that spawns it ends, and start with no
/// signal blocked.
pub(crate) fn tether(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure runs in the forked child and makes plain system calls only: it neither
    // allocates nor takes a lock nor touches memory that another thread of the parent changes.
    unsafe { command.pre_exec(move || enter_tether(parent)) };
}

fn enter_tether(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before that call sends no signal any more.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    unblock_signals()
}

/// Lets the calling thread take every signal.
pub(crate) fn unblock_signals() -> io::Result<()> {
    // SAFETY: a signal set is an array of integers, for which zeros are a valid value.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live signal set that nothing else refers to.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: the set is initialised; the null pointer says that the earlier mask is not wanted.
    let answer = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
    if answer == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Closes every descriptor from 3 on.
pub(crate) fn close_from_three() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call touches no memory. That nobody owns these descriptors is what the one caller
    // asks of its own, in its documentation.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    if answer == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Leaves `socket` open in the child of `command`, and only there, under its present number.
pub(crate) fn pass(command: &mut Command, socket: OwnedFd) -> RawFd {
    let number = socket.as_raw_fd();
    // SAFETY: the closure runs in the forked child and makes one plain system call: it neither
    // allocates nor takes a lock. It owns the descriptor, so the number cannot be reused before.
    unsafe {
        command.pre_exec(move || Ok(rustix::io::fcntl_setfd(&socket, FdFlags::empty())?));
    }
    number
}

/// Turns this process into the program of `command`, with `sockets` at descriptors 3 and up. Comes
/// back only if that failed, with every descriptor as it was.
pub(crate) fn exec_with(mut command: Command, sockets: &[OwnedFd]) -> io::Error {
    let above = FIRST_PASSED + sockets.len() as RawFd;
    // Copies out of the way of the numbers that are written to below.
    let copies: io::Result<Vec<OwnedFd>> = sockets
        .iter()
        .map(|socket| Ok(rustix::io::fcntl_dupfd_cloexec(socket, above)?))
        .collect();
    let copies = match copies {
        Ok(copies) => copies,
        Err(error) => return error,
    };
    let saved: Vec<Option<(OwnedFd, libc::c_int)>> = (FIRST_PASSED..above)
        .map(|number| save(number, above))
        .collect();
    let placed = Vec::from_iter(copies.iter().map(AsRawFd::as_raw_fd));
    // SAFETY: nothing forks here: the closure runs in this process, just before the exec, and makes
    // plain system calls only. The descriptors it copies are open as long as `copies`, which lives
    // until after the exec has failed.
    unsafe {
        command.pre_exec(move || {
            for (number, copy) in (FIRST_PASSED..).zip(&placed) {
                replace(*copy, number, 0)?;
            }
            Ok(())
        });
    }
    let error = command.exec();
    for (number, saved) in (FIRST_PASSED..).zip(&saved) {
        match saved {
            // What fails here was open a moment ago, and there is nobody left to tell.
            Some((copy, flags)) => drop(replace(copy.as_raw_fd(), number, *flags)),
            None => {
                // SAFETY: takes a number and touches no memory. Nothing had this one before it was
                // written to above, so nobody owns it; if it was not, the answer is EBADF.
                let _ = unsafe { libc::close(number) };
            }
        }
    }
    error
}

/// A copy of what is open under a number, and its flags.
fn save(number: RawFd, above: RawFd) -> Option<(OwnedFd, libc::c_int)> {
    // SAFETY: F_GETFD reads a flag of the descriptor table and is answered with EBADF if it is free.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    // SAFETY: as above; the number that comes back is new and nobody else's.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, above) };
    if flags < 0 || copy < 0 {
        return None;
    }
    // SAFETY: the call succeeded, so the number is a new descriptor that nobody else owns.
    Some((unsafe { OwnedFd::from_raw_fd(copy) }, flags))
}

fn replace(from: RawFd, number: RawFd, flags: libc::c_int) -> io::Result<()> {
    let close = match flags & libc::FD_CLOEXEC {
        0 => 0,
        _ => libc::O_CLOEXEC,
    };
    // SAFETY: takes two numbers and touches no memory. Whoever owns what was open under `number` has
    // it back by the end of `exec_with`, or is gone with the exec.
    let answer = unsafe { libc::dup3(from, number, close) };
    if answer >= 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Takes over the descriptors that this process was started with, all or none. The caller sees to
/// it that this happens once, and that the environment speaks of this process.
pub(crate) fn adopt(
    first: RawFd,
    count: RawFd,
    accept: impl Fn(BorrowedFd<'_>) -> bool,
) -> io::Result<Vec<OwnedFd>> {
    for number in first..first + count {
        // SAFETY: F_GETFD reads a flag of the descriptor table; a free number is answered with EBADF.
        let is_open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
        // SAFETY: it was open a moment ago and was passed to this process for nobody but the caller,
        // so nobody closes it; should somebody do so, the calls on it fail with EBADF.
        if !is_open || !accept(unsafe { BorrowedFd::borrow_raw(number) }) {
            let text = format!("descriptor {number}, which LISTEN_FDS promises, is no open socket");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    let mut adopted = Vec::new();
    for number in first..first + count {
        // SAFETY: it is open and belongs to nobody yet: whoever started this process says that it is
        // for the caller, who asks only once.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        adopted.push(socket);
    }
    Ok(adopted)
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = Pin {
        path: path.as_ptr().expose_provenance() as u64,
        zero: 0,
        flags: BPF_F_RDONLY,
    };
    // SAFETY: the kernel reads a string that ends with a zero byte at `path`, which is live for the
    // call, and writes nothing.
    let map = unsafe { bpf(BPF_OBJ_GET, &mut request) }?;
    // SAFETY: the call succeeded, so the number is a new descriptor that nobody else owns; the
    // kernel opens it close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(map) })
}

fn describe(map: BorrowedFd<'_>) -> io::Result<Description> {
    let mut description = Description::default();
    let mut request = Describe {
        object: map.as_raw_fd() as u32,
        size: mem::size_of::<Description>() as u32,
        description: ptr::from_mut(&mut description).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `size` bytes, the size of `description`, to it; it is live
    // and unaliased for the call, and any bytes are a valid value of it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(description)
}

/// # Safety
/// Every pointer that `command` has the kernel read or write through `attributes` must be valid for
/// the sizes the command takes from `attributes` or from the map.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and may write as many bytes as are passed, the size of `attributes`,
    // which is borrowed exclusively; the pointers inside are the caller's to answer for.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_mut(attributes),
            mem::size_of::<A>(),
        )
    };
    if answer >= 0 {
        return Ok(answer as RawFd);
    }
    Err(io::Error::last_os_error())
}

enum Batch {
    Some { count: usize, next: u32 },
    Last { count: usize },
    NoRoom,
    Failed(io::Error),
}

// Mirror the members of `union bpf_attr` in <linux/bpf.h>.

#[repr(C)]
struct Element {
    map: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct BatchRequest {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Pin {
    path: u64,
    zero: u32,
    flags: u32,
}

#[repr(C)]
struct Describe {
    object: u32,
    size: u32,
    description: u64,
}

/// Mirrors the start of `struct bpf_map_info` in <linux/bpf.h>; the kernel leaves out the rest.
#[derive(Default)]
#[repr(C)]
struct Description {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

const _: () = assert!(mem::size_of::<Element>() == 32 && mem::size_of::<BatchRequest>() == 56);
const _: () = assert!(mem::size_of::<Pin>() == 16 && mem::size_of::<Describe>() == 16);

/// The descriptors below are standard input, output and error.
const FIRST_PASSED: RawFd = 3;

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_F_RDONLY: u32 = 1 << 3;

const SO_NETNS_COOKIE: libc::c_int = 71;

const BATCH_COUNT: usize = 256;
const BATCH_COUNT_MAX: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tethered_child_starts_with_no_signal_blocked() {
        // SAFETY: a signal set is an array of integers, for which zeros are a valid value.
        let mut blocked: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to a live signal set that nothing else refers to.
        unsafe { libc::sigaddset(&raw mut blocked, libc::SIGTERM) };
        // SAFETY: the set is live; only this thread's mask changes, and the thread ends with the test.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, ptr::null_mut()) };
        let mut command = Command::new("grep");
        command.args(["SigBlk", "/proc/self/status"]);
        let untied = command.output().expect("spawn");
        assert_eq!(untied.stdout, b"SigBlk:\t0000000000004000\n");
        tether(&mut command);
        let tethered = command.output().expect("spawn");
        assert_eq!(tethered.stdout, b"SigBlk:\t0000000000000000\n");
    }

    #[test]
    fn a_path_that_is_no_pin_is_not_opened() {
        let file = Map::<4, 4>::open(Path::new("/proc/self/status"), MapKind::Array);
        assert!(file.is_err());
        let nothing = Map::<4, 4>::open(Path::new("/nonexistent/map"), MapKind::Hash);
        let error = nothing.expect_err("no such path");
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::ENOENT | libc::EPERM | libc::ENOSYS)
        ));
    }

    #[test]
    fn a_fork_may_neither_consume_nor_release() {
        use crate::{
            Pool, PoolKind, PortCount, Refusal, Request, Transports, Want, Wildcard,
            error::{AssociateError, BindError},
        };

        let pool = Pool::builder().kind(PoolKind::Embedded).open();
        let request = Request {
            transports: Transports::Tcp,
            want: Want::Wildcard(Wildcard::new(PortCount::ONE)),
        };
        let ports = pool.expect("open").acquire(&request).expect("acquire");
        let ip = [127, 0, 0, 1].into();
        // SAFETY: the child uses what other threads of this program do not: sockets and its own
        // copy of the list of reservations; the allocator is made ready for forks by the C library.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let bound = ports.tcp_listener(ip).map(drop);
            let foreign = AssociateError::Refused {
                token: ports.blocks()[0].token,
                refusal: Refusal::ForeignToken,
            };
            let foreign = BindError::Associate(foreign).to_string();
            let is_refused = bound.is_err_and(|error| error.to_string() == foreign);
            let released = ports.release().map_err(|error| error.refusal());
            let is_good = is_refused && released == Err(Some(Refusal::ForeignToken));
            // SAFETY: ends the child at once, with nothing of the parent's run again.
            unsafe { libc::_exit(i32::from(!is_good)) };
        }
        let mut status = 0;
        // SAFETY: writes an int to the pointer, which is live.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        drop(ports.tcp_listener(ip).expect("the parent may"));
        let listed = Pool::builder().kind(PoolKind::Embedded).open();
        let listed = listed.expect("open").reservations().expect("look");
        assert!(listed.iter().any(|it| it.token == ports.blocks()[0].token));
    }
}
