//! What an error number says.

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
};

use super::{boundary::answer, memory::Bytes};
use crate::codes::{Code, TEXTS};

/// The text of an error number, which lives as long as the process.
#[unsafe(no_mangle)]
extern "C" fn portpool_wsa_strerror(number: c_int) -> *const c_char {
    text(number).unwrap_or("Unknown error.\0").as_ptr().cast()
}

#[unsafe(no_mangle)]
extern "C" fn gai_strerrorA(number: c_int) -> *const c_char {
    portpool_wsa_strerror(number)
}

/// The text of an error number, in the caller's buffer or in one of its own. The answer is its length.
#[unsafe(no_mangle)]
unsafe extern "C" fn FormatMessageA(
    flags: u32,
    _source: *const c_void,
    number: u32,
    _language: u32,
    buffer: *mut c_void,
    size: u32,
    _arguments: *const c_void,
) -> u32 {
    answer(0, || {
        let message = message(flags, number)?;
        // SAFETY: as the caller of this function says.
        unsafe { give(flags, message.as_bytes(), 1, buffer, size) }
    })
}

/// As [`FormatMessageA`], in units of 16 bits.
#[unsafe(no_mangle)]
unsafe extern "C" fn FormatMessageW(
    flags: u32,
    _source: *const c_void,
    number: u32,
    _language: u32,
    buffer: *mut c_void,
    size: u32,
    _arguments: *const c_void,
) -> u32 {
    answer(0, || {
        let message = message(flags, number)?;
        let bytes: Vec<u8> = message.encode_utf16().flat_map(u16::to_ne_bytes).collect();
        // SAFETY: as the caller of this function says.
        unsafe { give(flags, &bytes, 2, buffer, size) }
    })
}

/// As [`FormatMessageA`], in units of 32 bits, which WCHAR has with PORTPOOL_MSVC_COMPAT.
#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_format_message(
    flags: u32,
    _source: *const c_void,
    number: u32,
    _language: u32,
    buffer: *mut c_void,
    size: u32,
    _arguments: *const c_void,
) -> u32 {
    answer(0, || {
        let message = message(flags, number)?;
        let units = message.chars().map(u32::from);
        let bytes: Vec<u8> = units.flat_map(u32::to_ne_bytes).collect();
        // SAFETY: as the caller of this function says.
        unsafe { give(flags, &bytes, 4, buffer, size) }
    })
}

/// Frees what FormatMessage allocated.
#[unsafe(no_mangle)]
unsafe extern "C" fn LocalFree(memory: *mut c_void) -> *mut c_void {
    // SAFETY: it came from malloc, as the caller says by giving it back.
    unsafe { libc::free(memory) };
    ptr::null_mut()
}

/// With a zero at its end.
fn text(number: i32) -> Option<&'static str> {
    let row = TEXTS.iter().find(|(listed, ..)| *listed == number);
    row.map(|(_, _, text)| *text)
}

/// The text with the end of line that Windows puts there, and a zero.
fn message(flags: u32, number: u32) -> Result<String, Code> {
    let is_known = flags & FROM_SYSTEM != 0 && flags & (FROM_STRING | FROM_MODULE) == 0;
    let text = is_known.then(|| text(number.cast_signed())).flatten();
    let text = text.ok_or(NO_SUCH_MESSAGE)?.trim_end_matches('\0');
    match flags & WIDTH_MASK {
        // No width means lines as they are; any other leaves out the end of the line.
        0 => Ok(format!("{text}\r\n\0")),
        _ => Ok(format!("{text} \0")),
    }
}

/// # Safety
/// The caller lets this library write its buffer, which has `size` units, or the place of a pointer.
unsafe fn give(
    flags: u32,
    message: &[u8],
    unit: usize,
    buffer: *mut c_void,
    size: u32,
) -> Result<u32, Code> {
    let units = message.len() / unit;
    if flags & ALLOCATE_BUFFER == 0 {
        if (size as usize) < units {
            return Err(Code::INSUFFICIENT_BUFFER);
        }
        // SAFETY: as the caller says.
        unsafe { Bytes::new(buffer, size as usize * unit) }.write(message)?;
        return Ok(units as u32 - 1);
    }
    // SAFETY: as the caller says.
    let place = unsafe { Bytes::new(buffer, size_of::<usize>()) };
    place.probe::<8>()?;
    // SAFETY: malloc has no conditions.
    let copy: *mut u8 = unsafe { libc::malloc(message.len().max(size as usize * unit)) }.cast();
    if copy.is_null() {
        return Err(Code::NOT_ENOUGH_MEMORY);
    }
    // SAFETY: there is room for it.
    unsafe { ptr::copy_nonoverlapping(message.as_ptr(), copy, message.len()) };
    place.write(&copy.expose_provenance().to_ne_bytes())?;
    Ok(units as u32 - 1)
}

const ALLOCATE_BUFFER: u32 = 0x0100;
const FROM_STRING: u32 = 0x0400;
const FROM_MODULE: u32 = 0x0800;
const FROM_SYSTEM: u32 = 0x1000;
const WIDTH_MASK: u32 = 0xff;
/// ERROR_MR_MID_NOT_FOUND
const NO_SUCH_MESSAGE: Code = Code::from_number(317);
