//! WSAIoctl.

use std::ffi::{c_int, c_void};

use super::{boundary::status, memory::Bytes};
use crate::engine::ioctl::{Call, ioctl};

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAIoctl(
    socket: u64,
    code: u32,
    input: *const c_void,
    input_len: u32,
    output: *mut c_void,
    output_len: u32,
    count: *mut u32,
    _overlapped: *mut c_void,
    _routine: *const c_void,
) -> c_int {
    status(|| {
        let call = Call {
            socket,
            code,
            // SAFETY: input is only read.
            input: unsafe { Bytes::new(input, input_len as usize) },
            // SAFETY: the caller lets this function write its output.
            output: unsafe { Bytes::new(output, output_len as usize) },
            // SAFETY: the caller lets this function write the count.
            count: unsafe { Bytes::new(count, size_of::<u32>()) },
        };
        ioctl(&call)
    })
}
