//! The results of overlapped operations, and cancelling them.

use std::ffi::{c_int, c_void};

use super::{
    boundary::truth,
    memory::Bytes,
    overlapped::{PENDING, Structure},
};
use crate::{
    choices,
    codes::Code,
    engine::{
        events, operations,
        sockets::{self, Number},
        threads,
    },
};

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAGetOverlappedResult(
    socket: Number,
    structure: *mut c_void,
    count: *mut u32,
    waits: c_int,
    flags: *mut u32,
) -> c_int {
    // SAFETY: as the caller of this function says.
    truth(|| unsafe { get(socket, structure, count, waits != 0, flags) })
}

/// Cancels the pending operations of a socket that the calling thread issued.
#[unsafe(no_mangle)]
extern "C" fn CancelIo(socket: Number) -> c_int {
    truth(|| {
        let socket = sockets::find(socket)?;
        let issuer = threads::current()?.id();
        match operations::cancel_some(socket.id(), None, Some(issuer)) {
            // Nothing to cancel is no error here.
            Err(Code::NOT_FOUND) => Ok(()),
            answer => answer,
        }
    })
}

/// Cancels one pending operation of a socket, or all.
#[unsafe(no_mangle)]
extern "C" fn CancelIoEx(socket: Number, structure: *const c_void) -> c_int {
    truth(|| {
        let socket = sockets::find(socket)?;
        let structure = (!structure.is_null()).then(|| structure.addr());
        operations::cancel_some(socket.id(), structure, None)
    })
}

/// # Safety
/// The caller lets this function write the count and the flags.
pub(super) unsafe fn get(
    socket: Number,
    structure: *mut c_void,
    count: *mut u32,
    waits: bool,
    flags: *mut u32,
) -> Result<(), Code> {
    sockets::find(socket)?;
    // SAFETY: nothing is written to it here.
    let structure = Structure::of_operation(unsafe { Bytes::new(structure, Structure::SIZE) });
    // SAFETY: as the caller says.
    let count = unsafe { Bytes::new(count, size_of::<u32>()) };
    // SAFETY: as the caller says.
    let flags = unsafe { Bytes::new(flags, size_of::<u32>()) };
    // Either may lie in the structure: to probe it there could undo a completion that comes meanwhile.
    let look = || {
        count.probe::<4>()?;
        flags.probe::<4>()?;
        structure.read()
    };
    let (status, bytes) = match operations::look(look)? {
        (PENDING, _) if !waits => return Err(Code::IO_INCOMPLETE),
        (PENDING, _) => {
            await_end(structure)?;
            operations::look(|| structure.read())?
        }
        done => done,
    };
    match u32::try_from(status) {
        Ok(0) => {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            count.write(&bytes.to_ne_bytes())?;
            flags.write(&0_u32.to_ne_bytes())
        }
        Ok(code) => Err(Code::from_number(code.cast_signed())),
        Err(_) => Err(Code::INVALID_PARAMETER),
    }
}

fn await_end(structure: Structure) -> Result<(), Code> {
    let Some(operation) = operations::find(structure.address()) else {
        // It may have ended just now. What is still pending then was never started here.
        return match operations::look(|| structure.read())? {
            (PENDING, _) => Err(Code::INVALID_PARAMETER),
            _ => Ok(()),
        };
    };
    if operation.tells_event() && !events::is_event(structure.event()?) {
        return Err(choices::NO_EVENT_TO_WAIT_FOR);
    }
    // On the operation itself, not on the event: so it ends with a routine too, and whoever resets
    // the event.
    let _result = operation.wait();
    Ok(())
}
