//! WSAStartup and WSACleanup: counted, and the pool lives in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portpool::Pool;

use super::sockets;
use crate::{choices, codes::Code};

struct Started {
    count: u32,
    /// Opened when it is first needed.
    pool: Option<Pool>,
}

/// Counts one user more and says which version it gets.
///
/// # Errors
/// Versions before 1.0.
pub(crate) fn start(wanted: u16) -> Result<u16, Code> {
    // The low byte is the major version.
    let [major, minor] = wanted.to_le_bytes();
    let version = match (major, minor) {
        (0, _) => return Err(Code::VERNOTSUPPORTED),
        (1, 0) => 0x0001,
        (1, _) => 0x0101,
        (2, 0) => 0x0002,
        (2, 1) => 0x0102,
        _ => VERSION_MAX,
    };
    let mut started = started();
    started.count = started.count.checked_add(1).ok_or(Code::PROCLIM)?;
    Ok(version)
}

/// Counts one user less; with the last one all sockets are closed.
///
/// # Errors
/// There is none.
pub(crate) fn clean_up() -> Result<(), Code> {
    let mut started = started();
    started.count = started.count.checked_sub(1).ok_or(Code::NOTINITIALISED)?;
    if started.count > 0 {
        return Ok(());
    }
    drop(started);
    sockets::close_all();
    self::started().pool = None;
    Ok(())
}

/// # Errors
/// WSAStartup was not called.
pub(crate) fn check() -> Result<(), Code> {
    match started().count {
        0 => Err(Code::NOTINITIALISED),
        _ => Ok(()),
    }
}

/// The pool of this process, which does not change until WSACleanup. It never waits: it is the engine
/// that asks the keeper, because it must be able to do other things meanwhile.
///
/// # Errors
/// There is no pool that can be used.
pub(crate) fn pool() -> Result<Pool, Code> {
    let mut started = started();
    if let Some(pool) = &started.pool {
        return Ok(pool.clone());
    }
    let pool = Pool::builder().ask_keeper(false).open();
    let pool = pool.map_err(|_| choices::SERVICE_UNREACHABLE)?;
    started.pool = Some(pool.clone());
    Ok(pool)
}

/// The pool, if a reservation was asked for before.
pub(crate) fn pool_if_open() -> Option<Pool> {
    started().pool.clone()
}

fn started() -> MutexGuard<'static, Started> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

static STARTED: Mutex<Started> = Mutex::new(Started {
    count: 0,
    pool: None,
});

/// 2.2
pub(crate) const VERSION_MAX: u16 = 0x0202;
