//! The OVERLAPPED of an operation: where its state and its result go, and who is told.

use std::{
    ffi::{c_int, c_void},
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use portpool::Block;

use super::memory::Bytes;
use crate::{
    codes::Code,
    engine::{
        events::{self, Handle},
        ioctl::{self, Done},
        sockets::Socket,
        threads::{Routine, SocketId, Thread},
    },
};
/// An OVERLAPPED of the caller's. It has to stay where it is until the operation is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Structure(Bytes);

impl Structure {
    /// Of an OVERLAPPED.
    pub(crate) const SIZE: usize = 32;

    /// One for a new operation.
    ///
    /// # Errors
    /// [`Code::FAULT`] if it cannot be written.
    pub(crate) fn new(bytes: Bytes) -> Result<Structure, Code> {
        bytes.probe::<{ Structure::SIZE }>()?;
        Ok(Structure(bytes))
    }

    /// One that may be of a pending operation: to probe it could undo a completion that comes meanwhile.
    pub(crate) fn of_operation(bytes: Bytes) -> Structure {
        Structure(bytes)
    }

    /// The event to signal: the lowest bit of the member says something else.
    pub(crate) fn event(self) -> Result<Handle, Code> {
        let handle = u64::from_ne_bytes(self.0.from(EVENT_AT).read()?);
        Ok(handle & !1)
    }

    /// The status, and the bytes of output once that is not [`PENDING`]: for [`look`](crate::engine::operations::look).
    pub(crate) fn read(self) -> Result<(u64, u64), Code> {
        let status = u64::from_ne_bytes(self.0.read()?);
        let bytes = u64::from_ne_bytes(self.0.from(8).read()?);
        Ok((status, bytes))
    }

    fn begin(self) {
        // It was there when the operation was issued; if it is no more there is nobody to tell.
        let _ = self.0.write(&PENDING.to_ne_bytes());
    }

    fn finish(self, result: Result<Done, Code>) {
        let (status, bytes) = match result {
            Ok(done) => (0, u64::from(done.bytes)),
            Err(code) => (u64::from(code.number().unsigned_abs()), 0),
        };
        let _ = self.0.from(8).write(&bytes.to_ne_bytes());
        // Last: who sees that it is not pending may read all the rest, the output, too.
        fence(Ordering::Release);
        let _ = self.0.write(&status.to_ne_bytes());
    }

    pub(crate) fn address(self) -> usize {
        self.0.address()
    }
}

/// A completion routine of the caller's.
#[derive(Clone, Copy)]
pub(crate) struct CompletionRoutine(unsafe extern "C" fn(u32, u32, *mut c_void, u32));

impl CompletionRoutine {
    /// # Errors
    /// [`Code::FAULT`] if there is nothing at that address.
    ///
    /// # Safety
    /// NULL, or a completion routine as Winsock has them, which may be called with the structure of the
    /// call it is given to.
    pub(crate) unsafe fn new(pointer: *const c_void) -> Result<Option<CompletionRoutine>, Code> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: it is only read.
        let code = unsafe { Bytes::new(pointer, 1) };
        code.read::<1>()?;
        // SAFETY: as the caller says.
        let routine = unsafe {
            std::mem::transmute::<*const c_void, unsafe extern "C" fn(u32, u32, *mut c_void, u32)>(
                pointer,
            )
        };
        Ok(Some(CompletionRoutine(routine)))
    }

    fn call(self, result: Result<Done, Code>, structure: Structure) {
        let (code, bytes) = match result {
            Ok(done) => (0, done.bytes),
            Err(code) => (code.number().unsigned_abs(), 0),
        };
        let structure = std::ptr::with_exposed_provenance_mut(structure.address());
        // SAFETY: the caller gave it to be called so (`CompletionRoutine::new`).
        unsafe { (self.0)(code, bytes, structure, 0) }
    }
}

/// Who is told that an operation is done.
#[derive(Clone)]
pub(crate) enum Told {
    /// Whoever looks, and who waits for the event, if it is one.
    Event(Handle),
    /// A routine, on this thread.
    Routine(CompletionRoutine, Target),
}

/// How a routine gets to its thread.
#[derive(Clone)]
pub(crate) enum Target {
    Thread(Arc<Thread>),
    /// By what the caller of WSPStartup gave, with a copy of the thread id.
    Upcall(QueueApc, [u64; 2]),
}

/// An LPWPUQUEUEAPC.
pub(crate) type QueueApc =
    unsafe extern "C" fn(*mut [u64; 2], unsafe extern "C" fn(usize), usize, *mut c_int) -> c_int;

/// Where an operation reports to.
#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) output: Bytes,
    /// Nothing for a call that waits itself.
    pub(crate) overlapped: Option<(Structure, Told)>,
}

impl Report {
    pub(crate) fn structure(&self) -> Option<usize> {
        self.overlapped
            .as_ref()
            .map(|(structure, _)| structure.address())
    }

    pub(crate) fn tells_event(&self) -> bool {
        matches!(self.overlapped, Some((_, Told::Event(_))))
    }

    /// The operation is pending now.
    pub(crate) fn begin(&self) {
        let Some((structure, told)) = &self.overlapped else {
            return;
        };
        if let Told::Event(event) = told {
            // No event is legal: there are other ways to look.
            let _ = events::set(*event, false);
        }
        structure.begin();
    }

    /// Stores the output; without room for it nothing stays reserved.
    pub(crate) fn store(&self, socket: &Socket, block: &Block) -> Result<Done, Code> {
        ioctl::store(socket, block, self.output)
    }

    /// Lets the result be seen, and signals the event if there is one.
    pub(crate) fn publish(&self, result: Result<Done, Code>) {
        let Some((structure, told)) = &self.overlapped else {
            return;
        };
        structure.finish(result);
        if let Told::Event(event) = told {
            let _ = events::set(*event, true);
        }
    }

    /// Has the routine run, if there is one.
    pub(crate) fn announce(&self, result: Result<Done, Code>, socket: SocketId) {
        let Some((structure, told)) = self.overlapped.clone() else {
            return;
        };
        match told {
            Told::Event(_) => {}
            Told::Routine(routine, Target::Thread(thread)) => {
                let work = Box::new(move || routine.call(result, structure));
                let socket = Some(socket);
                // A thread that has ended waits for nothing.
                let _ = thread.queue(Routine { socket, work });
            }
            Told::Routine(routine, Target::Upcall(queue_apc, thread)) => {
                let work: Work = Box::new(move || routine.call(result, structure));
                call_up(queue_apc, thread, work);
            }
        }
    }
}

type Work = Box<dyn FnOnce()>;

fn call_up(queue_apc: QueueApc, mut thread: [u64; 2], work: Work) {
    let context = Box::into_raw(Box::new(work));
    let mut error = 0;
    // SAFETY: the caller of WSPStartup gave it to be called so; the two pointers are to locals.
    let queued = unsafe {
        queue_apc(
            &raw mut thread,
            run_work,
            context.expose_provenance(),
            &raw mut error,
        )
    };
    if queued != 0 {
        // SAFETY: it was refused, so nobody will call `run_work` with it; it came from a box above.
        drop(unsafe { Box::from_raw(context) });
    }
}

/// Runs on the thread of the routine.
unsafe extern "C" fn run_work(context: usize) {
    let work: *mut Work = std::ptr::with_exposed_provenance_mut(context);
    // SAFETY: `call_up` made it from a box, and it is queued once.
    let work = unsafe { Box::from_raw(work) };
    work();
}

/// STATUS_PENDING
pub(crate) const PENDING: u64 = 0x103;
const EVENT_AT: usize = 24;
