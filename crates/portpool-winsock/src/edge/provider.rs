//! The service provider's side: the table of WSPStartup, and the threads that routines are queued for.

use std::{
    ffi::{c_int, c_void},
    sync::{Mutex, PoisonError},
};

use super::{
    boundary::{answer_told, guard, told},
    ioctl::WSPIoctl,
    memory::Bytes,
    overlapped::{QueueApc, Target},
    results, sockets,
};
use crate::{
    codes::Code,
    engine::{
        events,
        sockets::Number,
        startup,
        threads::{self, Routine},
    },
};

/// A WSPUPCALLTABLE, of which this provider needs one slot.
#[repr(C)]
#[derive(Clone, Copy)]
struct UpcallTable {
    slots_before: [usize; 10],
    queue_apc: Option<QueueApc>,
    slots_after: [usize; 4],
}

/// A WSPPROC_TABLE; what is not provided is 0.
#[derive(Default)]
struct ProcTable([usize; 30]);

#[unsafe(no_mangle)]
unsafe extern "C" fn WSPStartup(
    wanted: u16,
    data: *mut c_void,
    _protocol: *const c_void,
    upcalls: UpcallTable,
    table: *mut c_void,
) -> c_int {
    let answer = guard(|| {
        let version = startup::start(wanted)?;
        // SAFETY: the caller lets this function fill its WSPDATA.
        let data = unsafe { Bytes::new(data, WSPDATA_SIZE) };
        // SAFETY: the caller lets this function fill its table.
        let table = unsafe { Bytes::new(table, size_of::<ProcTable>()) };
        let filled = data
            .write(&wsp_data(version))
            .and_then(|()| table.write(&proc_table()));
        if let Err(fault) = filled {
            startup::clean_up()?;
            return Err(fault);
        }
        *queue_apc_of_caller() = upcalls.queue_apc;
        Ok(())
    });
    answer.map_or_else(Code::number, |()| 0)
}

unsafe extern "C" fn wsp_cleanup(error: *mut c_int) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    told(error, startup::clean_up)
}

unsafe extern "C" fn wsp_socket(
    family: c_int,
    kind: c_int,
    protocol: c_int,
    _info: *const c_void,
    _group: u32,
    flags: u32,
    error: *mut c_int,
) -> Number {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    answer_told(sockets::INVALID_SOCKET, error, || {
        sockets::create(family, kind, protocol, flags)
    })
}

unsafe extern "C" fn wsp_closesocket(socket: Number, error: *mut c_int) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    told(error, || crate::engine::sockets::close(socket))
}

unsafe extern "C" fn wsp_bind(
    socket: Number,
    name: *const c_void,
    len: c_int,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    // SAFETY: the address is only read.
    told(error, || unsafe { sockets::bind(socket, name, len) })
}

unsafe extern "C" fn wsp_getsockname(
    socket: Number,
    name: *mut c_void,
    len: *mut c_int,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    // SAFETY: as the caller of this function says.
    told(error, || unsafe { sockets::getsockname(socket, name, len) })
}

unsafe extern "C" fn wsp_get_overlapped_result(
    socket: Number,
    structure: *mut c_void,
    count: *mut u32,
    waits: c_int,
    flags: *mut u32,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    answer_told(0, error, || {
        // SAFETY: as the caller of this function says.
        unsafe { results::get(socket, structure, count, waits != 0, flags) }?;
        Ok(1)
    })
}

/// Has a function run on a thread when that waits alertably.
#[unsafe(no_mangle)]
unsafe extern "C" fn WPUQueueApc(
    thread: *const c_void,
    function: Option<unsafe extern "C" fn(usize)>,
    context: usize,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    // SAFETY: the thread id is only read.
    let thread = unsafe { Bytes::new(thread, THREAD_ID_SIZE) };
    told(error, || {
        let function = function.ok_or(Code::FAULT)?;
        let thread = thread_of(thread.read_words()?)?;
        thread.check()?;
        // SAFETY: the caller gave it to be called so.
        let work = Box::new(move || unsafe { function(context) });
        thread.queue(Routine { socket: None, work })
    })
}

/// Names the calling thread, for routines from elsewhere.
#[unsafe(no_mangle)]
unsafe extern "C" fn WPUOpenCurrentThread(thread: *mut c_void, error: *mut c_int) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    // SAFETY: the caller lets this function write the thread id.
    let thread = unsafe { Bytes::new(thread, THREAD_ID_SIZE) };
    told(error, || {
        thread.probe::<THREAD_ID_SIZE>()?;
        let current = threads::current()?;
        let id = current.id();
        let handle = events::open_thread(current)?;
        let mut bytes = [0; THREAD_ID_SIZE];
        bytes[..8].copy_from_slice(&handle.to_ne_bytes());
        bytes[8..].copy_from_slice(&id.to_ne_bytes());
        thread.write(&bytes)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WPUCloseThread(thread: *const c_void, error: *mut c_int) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    // SAFETY: the thread id is only read.
    let thread = unsafe { Bytes::new(thread, THREAD_ID_SIZE) };
    told(error, || {
        let [handle, _] = thread.read_words()?;
        events::close_thread(handle).map_err(|_| Code::FAULT)
    })
}

/// Where the routine of a WSPIoctl goes. The thread id is copied: the caller may use its memory for
/// other things, and close the id, before the routine is queued.
pub(super) fn target(thread: Bytes) -> Result<Target, Code> {
    let words = thread.read_words()?;
    match *queue_apc_of_caller() {
        Some(queue_apc) => Ok(Target::Upcall(queue_apc, words)),
        None => Ok(Target::Thread(thread_of(words)?)),
    }
}

fn thread_of([handle, id]: [u64; 2]) -> Result<std::sync::Arc<threads::Thread>, Code> {
    let thread = events::thread(handle).map_err(|_| Code::FAULT)?;
    if thread.id() == id {
        Ok(thread)
    } else {
        Err(Code::FAULT)
    }
}

impl Bytes {
    /// A WSATHREADID.
    fn read_words(self) -> Result<[u64; 2], Code> {
        let handle = u64::from_ne_bytes(self.read()?);
        let rest = u64::from_ne_bytes(self.from(8).read()?);
        Ok([handle, rest])
    }
}

fn wsp_data(version: u16) -> [u8; WSPDATA_SIZE] {
    let mut bytes = [0; WSPDATA_SIZE];
    bytes[..2].copy_from_slice(&version.to_ne_bytes());
    bytes[2..4].copy_from_slice(&startup::VERSION_MAX.to_ne_bytes());
    for (index, letter) in b"portpool".iter().enumerate() {
        bytes[4 + index * 2] = *letter;
    }
    bytes
}

fn proc_table() -> Vec<u8> {
    let mut table = ProcTable::default();
    let slots: [(usize, *const c_void); 7] = [
        (3, wsp_bind as *const c_void),
        (5, wsp_cleanup as *const c_void),
        (6, wsp_closesocket as *const c_void),
        (11, wsp_get_overlapped_result as *const c_void),
        (13, wsp_getsockname as *const c_void),
        (16, WSPIoctl as *const c_void),
        (28, wsp_socket as *const c_void),
    ];
    for (slot, function) in slots {
        table.0[slot] = function.expose_provenance();
    }
    table.0.iter().flat_map(|slot| slot.to_ne_bytes()).collect()
}

fn queue_apc_of_caller() -> std::sync::MutexGuard<'static, Option<QueueApc>> {
    QUEUE_APC.lock().unwrap_or_else(PoisonError::into_inner)
}

static QUEUE_APC: Mutex<Option<QueueApc>> = Mutex::new(None);

/// WSATHREADID
pub(super) const THREAD_ID_SIZE: usize = 16;
const WSPDATA_SIZE: usize = 516;
const _: () = assert!(size_of::<UpcallTable>() == 15 * 8);
