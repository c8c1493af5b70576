//! WSAStartup, WSACleanup and the last error of a thread.

use std::ffi::{c_int, c_void};

use super::{
    boundary::{guard, last_error, set_last_error, status},
    memory::Bytes,
};
use crate::{codes::Code, engine::startup};

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAStartup(wanted: u16, data: *mut c_void) -> c_int {
    let answer = guard(|| {
        // SAFETY: the caller lets this function fill its WSADATA.
        let data = unsafe { Bytes::new(data, WSADATA_SIZE) };
        // The version is for the program to look at, so it is told even if it does not suit.
        let (version, answer) = match startup::start(wanted) {
            Ok(version) => (version, Ok(())),
            Err(code) => (startup::VERSION_MAX, Err(code)),
        };
        if let Err(fault) = data.write(&wsa_data(version)) {
            if answer.is_ok() {
                startup::clean_up()?;
            }
            return Err(fault);
        }
        answer
    });
    answer.map_or_else(Code::number, |()| 0)
}

#[unsafe(no_mangle)]
extern "C" fn WSACleanup() -> c_int {
    status(startup::clean_up)
}

#[unsafe(no_mangle)]
extern "C" fn WSAGetLastError() -> c_int {
    last_error()
}

#[unsafe(no_mangle)]
extern "C" fn WSASetLastError(number: c_int) {
    set_last_error(number);
}

#[unsafe(no_mangle)]
extern "C" fn GetLastError() -> u32 {
    last_error().cast_unsigned()
}

#[unsafe(no_mangle)]
extern "C" fn SetLastError(number: u32) {
    set_last_error(number.cast_signed());
}

/// A WSADATA of 64 bits. The limits are for programs of Winsock 1.1.
fn wsa_data(version: u16) -> [u8; WSADATA_SIZE] {
    let mut bytes = [0; WSADATA_SIZE];
    bytes[..2].copy_from_slice(&version.to_ne_bytes());
    bytes[2..4].copy_from_slice(&startup::VERSION_MAX.to_ne_bytes());
    if version < 0x0002 || version.to_le_bytes()[0] == 1 {
        bytes[4..6].copy_from_slice(&i16::MAX.to_ne_bytes());
    }
    bytes[16..16 + DESCRIPTION.len()].copy_from_slice(DESCRIPTION);
    bytes[273..273 + STATUS.len()].copy_from_slice(STATUS);
    bytes
}

const WSADATA_SIZE: usize = 408;
const DESCRIPTION: &[u8] = b"portpool: Winsock 2.2 for port reservations";
const STATUS: &[u8] = b"Running";
const _: () = assert!(DESCRIPTION.len() <= 256 && STATUS.len() <= 128);
