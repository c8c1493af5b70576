//! Which version of the library runs.

use std::ffi::{CStr, c_char};

/// Mirrors `PORTPOOL_MAKE_VERSION` of the crate's version.
#[unsafe(no_mangle)]
pub(super) extern "C" fn portpool_version() -> u32 {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) << 24
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 12
        | part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// The crate's version.
#[unsafe(no_mangle)]
pub(super) extern "C" fn portpool_version_text() -> *const c_char {
    VERSION.as_ptr()
}

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };
