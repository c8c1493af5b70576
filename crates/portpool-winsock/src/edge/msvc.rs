//! What programs for another C library expect, as far as it needs no variable arguments: the headers
//! have the rest.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr,
};

use crate::engine::formats::{narrow_format, wide_format};

/// A `wchar_t` of this system.
type Wide = i32;

/// The arguments of a program as wide strings, which live as long as it. Called when it starts.
#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_arguments(
    count: c_int,
    arguments: *const *const c_char,
) -> *mut *mut Wide {
    // Or printf could not print a wide letter, nor wprintf a narrow one, beyond ASCII. A program that
    // wants other letters says so later; without this locale it has those of ASCII.
    // SAFETY: a program has one thread when it starts.
    unsafe { libc::setlocale(libc::LC_CTYPE, c"C.UTF-8".as_ptr()) };
    let count = usize::try_from(count).unwrap_or(0);
    let mut wide = Vec::with_capacity(count + 1);
    for index in 0..count {
        // SAFETY: a program has as many arguments as it is told.
        let argument = unsafe { *arguments.add(index) };
        // SAFETY: each is a text that ends with a zero.
        let argument = unsafe { CStr::from_ptr(argument) }.to_string_lossy();
        let letters = argument.chars().map(wide_of).chain([0]);
        wide.push(Vec::leak(letters.collect()).as_mut_ptr());
    }
    wide.push(ptr::null_mut());
    Vec::leak(wide).as_mut_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_format(format: *const c_char) -> *mut c_char {
    if format.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: a format is a text that ends with a zero.
    let format = unsafe { CStr::from_ptr(format) };
    allocate(&narrow_format(format.to_bytes()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_wide_format(format: *const Wide) -> *mut Wide {
    if format.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: a format is a text that ends with a zero.
    let format = wide_format(unsafe { letters(format) });
    let bytes: Vec<u8> = format
        .iter()
        .chain([&0])
        .flat_map(|it| it.to_ne_bytes())
        .collect();
    // SAFETY: malloc has no conditions.
    let copy: *mut u8 = unsafe { libc::malloc(bytes.len()) }.cast();
    if !copy.is_null() {
        // SAFETY: there is room for it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len()) };
    }
    copy.cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_narrow(text: *const Wide) -> *mut c_char {
    // SAFETY: a text that ends with a zero, as the caller says.
    let text = unsafe { letters(text) };
    allocate(string(text).as_bytes())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_wtoi(text: *const Wide) -> c_int {
    // SAFETY: as the caller of this function says.
    let number = unsafe { portpool_msvc_wtoi64(text) };
    number.clamp(c_int::MIN.into(), c_int::MAX.into()) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_wtoi64(text: *const Wide) -> i64 {
    if text.is_null() {
        return 0;
    }
    // SAFETY: a text that ends with a zero, as the caller says.
    number(&string(unsafe { letters(text) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_msvc_atoi64(text: *const c_char) -> i64 {
    if text.is_null() {
        return 0;
    }
    // SAFETY: a text that ends with a zero, as the caller says.
    number(&unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

/// The number a text begins with, 0 if none; one that is too large is the largest.
fn number(text: &str) -> i64 {
    let text = text.trim_start();
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let number = digits.fold(0_i64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    if is_negative { -number } else { number }
}

/// # Safety
/// The text ends with a zero.
unsafe fn letters<'a>(text: *const Wide) -> &'a [Wide] {
    let mut len = 0;
    // SAFETY: there is a zero at the end, and this stops at it.
    while unsafe { *text.add(len) } != 0 {
        len += 1;
    }
    // SAFETY: so many were just read.
    unsafe { std::slice::from_raw_parts(text, len) }
}

fn string(letters: &[Wide]) -> String {
    let letter =
        |it: &Wide| char::from_u32(it.cast_unsigned()).unwrap_or(char::REPLACEMENT_CHARACTER);
    letters.iter().map(letter).collect()
}

fn wide_of(letter: char) -> Wide {
    u32::from(letter).cast_signed()
}

/// In memory that `free` takes; NULL if there is none.
fn allocate(text: &[u8]) -> *mut c_char {
    let Ok(text) = CString::new(text) else {
        return ptr::null_mut();
    };
    // SAFETY: it ends with a zero.
    unsafe { libc::strdup(text.as_ptr()) }
}
