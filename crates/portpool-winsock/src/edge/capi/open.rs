//! Opening a pool.

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int},
    mem::size_of,
    os::unix::ffi::OsStrExt,
};

use portpool::{Pool, PoolKind};

use super::{
    boundary::{answer, place, shared},
    types::{self, Options},
    wrong::Wrong,
};

/// `struct portpool`.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) pool: Pool,
    reason: CString,
}

/// Opens a pool.
///
/// # Safety
/// `options` is null or valid for reading, with a `run_dir` that is null or a string; `pool` is null or
/// valid for writing.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_open(
    options: *const Options,
    pool: *mut *mut Handle,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { place(pool, "pool") }?;
        let mut builder = Pool::builder();
        if !options.is_null() {
            // SAFETY: the caller's promise; not null.
            let options = unsafe { shared(options, "options") }?;
            if let Some(kind) = checked_kind(options)? {
                builder = builder.kind(kind);
            }
            builder = builder.strict(options.flags & types::STRICT != 0);
            if !options.run_dir.is_null() {
                // SAFETY: the caller's promise: a string; not null.
                let run_dir = unsafe { CStr::from_ptr(options.run_dir) };
                builder = builder.run_dir(OsStr::from_bytes(run_dir.to_bytes()));
            }
        }
        let pool = builder.open()?;
        let reason = CString::new(pool.choice().reason).unwrap_or_default();
        place.put(Box::into_raw(Box::new(Handle { pool, reason })));
        Ok(0)
    })
}

/// What is asked for; nothing if the environment decides.
fn checked_kind(options: &Options) -> Result<Option<PoolKind>, Wrong> {
    if options.size as usize != size_of::<Options>() {
        let text = format!(
            "options of {} bytes: start from PORTPOOL_OPTIONS_INIT",
            options.size
        );
        return Err(Wrong::argument(text));
    }
    if options.flags & !types::STRICT != 0 || options.reserved != 0 {
        let text = "options with an unknown flag: this version knows PORTPOOL_STRICT only";
        return Err(Wrong::argument(text));
    }
    match options.kind {
        0 => Ok(None),
        1 => Ok(Some(PoolKind::Kernel)),
        2 => Ok(Some(PoolKind::Embedded)),
        other => {
            let text = format!("kind {other}: pass PORTPOOL_KIND_AUTO, _KERNEL or _EMBEDDED");
            Err(Wrong::argument(text))
        }
    }
}

/// Closes a pool.
///
/// # Safety
/// `pool` is null, or came from `portpool_open` and is not used again.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_close(pool: *mut Handle) {
    if !pool.is_null() {
        // SAFETY: a handle is a box that `portpool_open` gave away, and this is its last use.
        drop(unsafe { Box::from_raw(pool) });
    }
}

/// Which kind of pool.
///
/// # Safety
/// `pool` is null, or came from `portpool_open`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_kind(pool: *const Handle) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { shared(pool, "pool") }?;
        Ok(match handle.pool.kind() {
            PoolKind::Kernel => types::KIND_KERNEL,
            PoolKind::Embedded => types::KIND_EMBEDDED,
            PoolKind::Automatic => 0,
        })
    })
}

/// Why of this kind.
///
/// # Safety
/// `pool` is null, or came from `portpool_open`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_reason(pool: *const Handle) -> *const c_char {
    // SAFETY: the caller's promise.
    match unsafe { pool.as_ref() } {
        Some(handle) => handle.reason.as_ptr(),
        None => std::ptr::null(),
    }
}
