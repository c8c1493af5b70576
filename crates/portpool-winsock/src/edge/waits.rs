//! Events and waiting, under the names of Winsock and of the system.

use std::{
    ffi::{c_int, c_void},
    time::Duration,
};

use super::{
    boundary::{answer, truth},
    memory::Bytes,
};
use crate::{
    codes::Code,
    engine::events::{self, Handle, Waited},
};

#[unsafe(no_mangle)]
extern "C" fn WSACreateEvent() -> Handle {
    answer(NO_HANDLE, || events::create(true, false))
}

#[unsafe(no_mangle)]
extern "C" fn WSACloseEvent(event: Handle) -> c_int {
    truth(|| events::close(event))
}

#[unsafe(no_mangle)]
extern "C" fn WSASetEvent(event: Handle) -> c_int {
    truth(|| events::set(event, true))
}

#[unsafe(no_mangle)]
extern "C" fn WSAResetEvent(event: Handle) -> c_int {
    truth(|| events::set(event, false))
}

/// Events have no names here, and no attributes.
#[unsafe(no_mangle)]
extern "C" fn CreateEventA(
    _attributes: *const c_void,
    is_manual: c_int,
    is_signalled: c_int,
    name: *const c_void,
) -> Handle {
    answer(NO_HANDLE, || {
        if !name.is_null() {
            return Err(Code::NOT_SUPPORTED);
        }
        events::create(is_manual != 0, is_signalled != 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn CreateEventW(
    attributes: *const c_void,
    is_manual: c_int,
    is_signalled: c_int,
    name: *const c_void,
) -> Handle {
    CreateEventA(attributes, is_manual, is_signalled, name)
}

#[unsafe(no_mangle)]
extern "C" fn SetEvent(event: Handle) -> c_int {
    WSASetEvent(event)
}

#[unsafe(no_mangle)]
extern "C" fn ResetEvent(event: Handle) -> c_int {
    WSAResetEvent(event)
}

#[unsafe(no_mangle)]
extern "C" fn CloseHandle(handle: Handle) -> c_int {
    truth(|| events::close(handle).or_else(|_| events::close_thread(handle)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAWaitForMultipleEvents(
    count: u32,
    handles: *const Handle,
    for_all: c_int,
    timeout: u32,
    is_alertable: c_int,
) -> u32 {
    // SAFETY: the handles are only read.
    unsafe { WaitForMultipleObjectsEx(count, handles, for_all, timeout, is_alertable) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WaitForMultipleObjects(
    count: u32,
    handles: *const Handle,
    for_all: c_int,
    timeout: u32,
) -> u32 {
    // SAFETY: the handles are only read.
    unsafe { WaitForMultipleObjectsEx(count, handles, for_all, timeout, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WaitForMultipleObjectsEx(
    count: u32,
    handles: *const Handle,
    for_all: c_int,
    timeout: u32,
    is_alertable: c_int,
) -> u32 {
    answer(WAIT_FAILED, || {
        let count = count as usize;
        if count == 0 || count > WAIT_COUNT_MAX {
            return Err(Code::INVALID_PARAMETER);
        }
        let mut bytes = [0; WAIT_COUNT_MAX * 8];
        // SAFETY: the handles are only read.
        let handles = unsafe { Bytes::new(handles, count * 8) };
        handles.read_into(&mut bytes[..count * 8])?;
        let (handles, _) = bytes[..count * 8].as_chunks();
        let handles: Vec<Handle> = handles
            .iter()
            .map(|it| Handle::from_ne_bytes(*it))
            .collect();
        wait(&handles, for_all != 0, timeout, is_alertable != 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn WaitForSingleObject(handle: Handle, timeout: u32) -> u32 {
    WaitForSingleObjectEx(handle, timeout, 0)
}

#[unsafe(no_mangle)]
extern "C" fn WaitForSingleObjectEx(handle: Handle, timeout: u32, is_alertable: c_int) -> u32 {
    answer(WAIT_FAILED, || {
        wait(&[handle], false, timeout, is_alertable != 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn Sleep(timeout: u32) {
    SleepEx(timeout, 0);
}

/// 0 when the time has passed, or WAIT_IO_COMPLETION.
#[unsafe(no_mangle)]
extern "C" fn SleepEx(timeout: u32, is_alertable: c_int) -> u32 {
    let slept = answer(0, || wait(&[], false, timeout, is_alertable != 0));
    if slept == WAIT_IO_COMPLETION {
        slept
    } else {
        0
    }
}

fn wait(handles: &[Handle], for_all: bool, timeout: u32, is_alertable: bool) -> Result<u32, Code> {
    let timeout = (timeout != INFINITE).then(|| Duration::from_millis(timeout.into()));
    Ok(
        match events::wait(handles, for_all, timeout, is_alertable)? {
            // At most 63.
            Waited::Signalled(index) => index as u32,
            Waited::Alerted => WAIT_IO_COMPLETION,
            Waited::TimedOut => WAIT_TIMEOUT,
        },
    )
}

const NO_HANDLE: Handle = 0;
const INFINITE: u32 = u32::MAX;
const WAIT_COUNT_MAX: usize = 64;
const WAIT_IO_COMPLETION: u32 = 0xc0;
const WAIT_TIMEOUT: u32 = 258;
const WAIT_FAILED: u32 = u32::MAX;
