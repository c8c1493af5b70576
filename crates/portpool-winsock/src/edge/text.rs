//! What an error number says.

use std::ffi::{c_char, c_int};

use crate::codes::TEXTS;

/// The text of an error number, which lives as long as the process.
#[unsafe(no_mangle)]
extern "C" fn portpool_wsa_strerror(number: c_int) -> *const c_char {
    text(number).as_ptr().cast()
}

#[unsafe(no_mangle)]
extern "C" fn gai_strerrorA(number: c_int) -> *const c_char {
    portpool_wsa_strerror(number)
}

/// With a zero at its end.
pub(crate) fn text(number: i32) -> &'static str {
    let row = TEXTS.iter().find(|(listed, ..)| *listed == number);
    row.map_or("Unknown error.\0", |(_, _, text)| text)
}
