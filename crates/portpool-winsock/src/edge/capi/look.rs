//! Looking at a pool.

use std::{ffi::c_int, mem::size_of, ptr};

use portpool::Port;

use super::{
    boundary::{answer, null, place, shared},
    open::Handle,
    reserve::one_transport,
    types::{CEntry, CPort},
    wrong::Wrong,
};

/// `struct portpool_list`.
pub(super) struct List(Vec<CEntry>);

/// Every live reservation.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `list` is null or valid for writing.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_list(pool: *mut Handle, list: *mut *mut List) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { shared(pool, "pool") }?;
        // SAFETY: the caller's promise.
        let place = unsafe { place(list, "list") }?;
        let entries = handle.pool.reservations()?;
        let list = List(entries.iter().map(CEntry::from).collect());
        place.put(Box::into_raw(Box::new(list)));
        Ok(0)
    })
}

/// How many entries.
///
/// # Safety
/// `list` is null or came from `portpool_list`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_list_count(list: *const List) -> usize {
    // SAFETY: the caller's promise.
    unsafe { list.as_ref() }.map_or(0, |list| list.0.len())
}

/// One entry, or null.
///
/// # Safety
/// `list` is null or came from `portpool_list`.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_list_entry(
    list: *const List,
    index: usize,
) -> *const CEntry {
    // SAFETY: the caller's promise.
    let entry = unsafe { list.as_ref() }.and_then(|list| list.0.get(index));
    entry.map_or(ptr::null(), ptr::from_ref)
}

/// Frees a list.
///
/// # Safety
/// `list` is null, or came from `portpool_list` and is not used again.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_list_free(list: *mut List) {
    if !list.is_null() {
        // SAFETY: a list is a box that `portpool_list` gave away, and this is its last use.
        drop(unsafe { Box::from_raw(list) });
    }
}

/// Who has a port.
///
/// # Safety
/// `pool` is null or came from `portpool_open`; `state` is null, or valid for reading and writing as many
/// bytes as its first member says.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn portpool_look(
    pool: *mut Handle,
    transport: u32,
    port: u16,
    state: *mut CPort,
) -> c_int {
    answer(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { shared(pool, "pool") }?;
        if state.is_null() {
            return Err(null("state"));
        }
        // SAFETY: the caller's promise; not null.
        let size = unsafe { ptr::read(&raw const (*state).size) };
        if size as usize != size_of::<CPort>() {
            let text = format!("a state of {size} bytes: start from PORTPOOL_PORT_INIT");
            return Err(Wrong::argument(text));
        }
        // SAFETY: the caller's promise, and it is as large as this version writes.
        let place = unsafe { place(state, "state") }?;
        let transport = one_transport(transport)?;
        let port = Port::new(port)
            .ok_or_else(|| Wrong::argument("port 0 is nobody's: pass 1 to 65535"))?;
        place.put(CPort::from(&handle.pool.port(transport, port)?));
        Ok(0)
    })
}
