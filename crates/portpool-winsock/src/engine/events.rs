//! Events, and waiting for them. A handle is a number that is never given twice, so that one that was
//! closed is known to be none.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::threads::{self, Thread};
use crate::codes::Code;

/// A HANDLE.
pub(crate) type Handle = u64;

#[derive(Debug)]
struct Event {
    is_signalled: bool,
    /// Otherwise a wait that is satisfied by it resets it.
    is_manual: bool,
    waiting: Vec<Arc<Thread>>,
}

#[derive(Debug)]
struct Handles {
    next: Handle,
    events: BTreeMap<Handle, Event>,
    threads: BTreeMap<Handle, Arc<Thread>>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The event with this index, or the first of all.
    Signalled(usize),
    /// Routines have run.
    Alerted,
    TimedOut,
}

/// Makes an event.
///
/// # Errors
/// There are too many.
pub(crate) fn create(is_manual: bool, is_signalled: bool) -> Result<Handle, Code> {
    let mut handles = handles();
    let handle = handles.number()?;
    let event = Event {
        is_signalled,
        is_manual,
        waiting: Vec::new(),
    };
    handles.events.insert(handle, event);
    Ok(handle)
}

/// Makes a handle of a thread.
///
/// # Errors
/// There are too many.
pub(crate) fn open_thread(thread: Arc<Thread>) -> Result<Handle, Code> {
    let mut handles = handles();
    let handle = handles.number()?;
    handles.threads.insert(handle, thread);
    Ok(handle)
}

/// The thread of a handle.
///
/// # Errors
/// It is none of a thread.
pub(crate) fn thread(handle: Handle) -> Result<Arc<Thread>, Code> {
    handles()
        .threads
        .get(&handle)
        .cloned()
        .ok_or(Code::INVALID_HANDLE)
}

/// Drops the handle of a thread.
///
/// # Errors
/// It is none of a thread.
pub(crate) fn close_thread(handle: Handle) -> Result<(), Code> {
    let closed = handles().threads.remove(&handle);
    closed.map(drop).ok_or(Code::INVALID_HANDLE)
}

/// Ends an event; who waits for it waits in vain and is told.
///
/// # Errors
/// It is none.
pub(crate) fn close(handle: Handle) -> Result<(), Code> {
    let event = handles()
        .events
        .remove(&handle)
        .ok_or(Code::INVALID_HANDLE)?;
    event.waiting.iter().for_each(|thread| thread.wake());
    Ok(())
}

/// Signals or resets an event.
///
/// # Errors
/// It is none.
pub(crate) fn set(handle: Handle, is_signalled: bool) -> Result<(), Code> {
    let mut handles = handles();
    let event = handles
        .events
        .get_mut(&handle)
        .ok_or(Code::INVALID_HANDLE)?;
    event.is_signalled = is_signalled;
    if is_signalled {
        event.waiting.iter().for_each(|thread| thread.wake());
    }
    Ok(())
}

pub(crate) fn is_event(handle: Handle) -> bool {
    handles().events.contains_key(&handle)
}

/// Waits for one of these, or for all. With no events this sleeps.
///
/// An event that is signalled goes before routines that are queued.
///
/// # Errors
/// A handle is no event, or was closed meanwhile.
pub(crate) fn wait(
    wanted: &[Handle],
    for_all: bool,
    timeout: Option<Duration>,
    is_alertable: bool,
) -> Result<Waited, Code> {
    // Too long for a clock is for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let thread = threads::current()?;
    let _waiting = Waiting::new(wanted, thread.clone())?;
    loop {
        if let Some(index) = take(wanted, for_all)? {
            return Ok(Waited::Signalled(index));
        }
        if is_alertable && thread.run_routines() {
            return Ok(Waited::Alerted);
        }
        if !thread.park(deadline) {
            // Woken at the last moment, perhaps.
            return match take(wanted, for_all)? {
                Some(index) => Ok(Waited::Signalled(index)),
                None if is_alertable && thread.run_routines() => Ok(Waited::Alerted),
                None => Ok(Waited::TimedOut),
            };
        }
    }
}

/// Satisfies a wait, if it can be: then what resets by itself is reset.
fn take(wanted: &[Handle], for_all: bool) -> Result<Option<usize>, Code> {
    let mut handles = handles();
    let mut signalled = Vec::with_capacity(wanted.len());
    for (index, handle) in wanted.iter().enumerate() {
        let event = handles.events.get(handle).ok_or(Code::INVALID_HANDLE)?;
        if event.is_signalled {
            signalled.push(index);
        }
    }
    if signalled.is_empty() || for_all && signalled.len() < wanted.len() {
        return Ok(None);
    }
    let first = signalled[0];
    signalled.truncate(if for_all { wanted.len() } else { 1 });
    for index in signalled {
        if let Some(event) = handles.events.get_mut(&wanted[index]) {
            event.is_signalled &= event.is_manual;
        }
    }
    Ok(Some(first))
}

/// A thread that is on the lists of the events it waits for.
struct Waiting<'a> {
    wanted: &'a [Handle],
    thread: Arc<Thread>,
}

impl Waiting<'_> {
    fn new(wanted: &[Handle], thread: Arc<Thread>) -> Result<Waiting<'_>, Code> {
        let mut handles = handles();
        if wanted.iter().any(|it| !handles.events.contains_key(it)) {
            return Err(Code::INVALID_HANDLE);
        }
        for handle in wanted {
            if let Some(event) = handles.events.get_mut(handle) {
                event.waiting.push(thread.clone());
            }
        }
        Ok(Waiting { wanted, thread })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut handles = handles();
        for handle in self.wanted {
            if let Some(event) = handles.events.get_mut(handle) {
                event.waiting.retain(|it| !Arc::ptr_eq(it, &self.thread));
            }
        }
    }
}

impl Handles {
    fn number(&mut self) -> Result<Handle, Code> {
        if self.events.len() + self.threads.len() >= HANDLE_COUNT_MAX {
            return Err(Code::NOT_ENOUGH_MEMORY);
        }
        let number = self.next;
        // As on Windows the two lowest bits are free: the lowest one of hEvent means something.
        self.next += 4;
        Ok(number)
    }
}

fn handles() -> MutexGuard<'static, Handles> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

static HANDLES: Mutex<Handles> = Mutex::new(Handles {
    // Far from descriptors, which are no handles.
    next: 1 << 32,
    events: BTreeMap::new(),
    threads: BTreeMap::new(),
});

const HANDLE_COUNT_MAX: usize = 65_536;
