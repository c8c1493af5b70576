//! WSAIoctl and WSPIoctl: the same, but for the thread that a routine is for and where an error goes.

use std::ffi::{c_int, c_void};

use super::{
    boundary::{status, told},
    memory::Bytes,
    overlapped::{CompletionRoutine, Structure, Target, Told},
    provider,
};
use crate::{
    codes::Code,
    engine::{
        ioctl::{Call, Overlapped, ioctl},
        threads,
    },
};

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAIoctl(
    socket: u64,
    code: u32,
    input: *const c_void,
    input_len: u32,
    output: *mut c_void,
    output_len: u32,
    count: *mut u32,
    overlapped: *mut c_void,
    routine: *const c_void,
) -> c_int {
    status(|| {
        // SAFETY: as the caller of this function says.
        let call = unsafe {
            call(
                socket,
                code,
                (input, input_len),
                (output, output_len),
                count,
            )
        };
        ioctl(&call, || {
            // SAFETY: as the caller of this function says.
            unsafe {
                completion(overlapped, routine, || {
                    Ok(Target::Thread(threads::current()?))
                })
            }
        })
    })
}

#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn WSPIoctl(
    socket: u64,
    code: u32,
    input: *const c_void,
    input_len: u32,
    output: *mut c_void,
    output_len: u32,
    count: *mut u32,
    overlapped: *mut c_void,
    routine: *const c_void,
    thread: *const c_void,
    error: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the error.
    let error = unsafe { Bytes::new(error, size_of::<c_int>()) };
    told(error, || {
        // SAFETY: as the caller of this function says.
        let call = unsafe {
            call(
                socket,
                code,
                (input, input_len),
                (output, output_len),
                count,
            )
        };
        // SAFETY: the thread id is only read.
        let thread = unsafe { Bytes::new(thread, provider::THREAD_ID_SIZE) };
        ioctl(&call, || {
            // SAFETY: as the caller of this function says.
            unsafe { completion(overlapped, routine, || provider::target(thread)) }
        })
    })
}

/// # Safety
/// The caller lets this library write output and count.
unsafe fn call(
    socket: u64,
    code: u32,
    (input, input_len): (*const c_void, u32),
    (output, output_len): (*mut c_void, u32),
    count: *mut u32,
) -> Call {
    Call {
        socket,
        code,
        // SAFETY: input is only read.
        input: unsafe { Bytes::new(input, input_len as usize) },
        // SAFETY: as the caller says.
        output: unsafe { Bytes::new(output, output_len as usize) },
        // SAFETY: as the caller says.
        count: unsafe { Bytes::new(count, size_of::<u32>()) },
    }
}

/// How the call completes. Without a structure it is synchronous, whatever else was given.
///
/// # Safety
/// The caller lets this library write the structure until the operation is done, and call the routine.
unsafe fn completion(
    structure: *mut c_void,
    routine: *const c_void,
    target: impl FnOnce() -> Result<Target, Code>,
) -> Result<Overlapped, Code> {
    if structure.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    let structure = Structure::new(unsafe { Bytes::new(structure, Structure::SIZE) })?;
    // SAFETY: as the caller says.
    let told = match unsafe { CompletionRoutine::new(routine) }? {
        None => Told::Event(structure.event()?),
        Some(routine) => {
            let target = target()?;
            if let Target::Thread(thread) = &target {
                thread.check()?;
            }
            Told::Routine(routine, target)
        }
    };
    Ok(Some((structure, told)))
}
