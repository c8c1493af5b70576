//! Threads that wait, and the routines that are queued for them.
//!
//! A routine runs on its own thread only, and only while that waits alertably. The routines of one
//! socket run one after the other, whichever threads they are for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::operations;
use crate::codes::Code;

/// A thread that has called this library.
#[derive(Debug)]
pub(crate) struct Thread {
    id: ThreadId,
    inner: Mutex<Inner>,
    woken: Condvar,
}

/// Never given twice.
pub(crate) type ThreadId = u64;

/// The identity of a socket, never given twice, unlike its number.
pub(crate) type SocketId = u64;

#[derive(Debug, Default)]
struct Inner {
    is_woken: bool,
    has_ended: bool,
    queue: VecDeque<Routine>,
}

/// What runs on a thread that waits alertably.
pub(crate) struct Routine {
    /// The socket whose routines do not overlap.
    pub(crate) socket: Option<SocketId>,
    pub(crate) work: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Routine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routine")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// The calling thread.
///
/// # Errors
/// The thread is ending.
pub(crate) fn current() -> Result<Arc<Thread>, Code> {
    CURRENT
        .try_with(|current| current.0.clone())
        .map_err(|_| Code::INVAL)
}

impl Thread {
    fn new() -> Arc<Thread> {
        let thread = Arc::new(Thread {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            inner: Mutex::default(),
            woken: Condvar::new(),
        });
        lock(&THREADS).insert(thread.id, Arc::downgrade(&thread));
        thread
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    /// Whether one routine more can be queued.
    ///
    /// # Errors
    /// The thread has ended, or too many wait already.
    pub(crate) fn check(&self) -> Result<(), Code> {
        let inner = lock(&self.inner);
        match () {
            () if inner.has_ended => Err(Code::FAULT),
            () if inner.queue.len() >= ROUTINE_COUNT_MAX => Err(Code::NOBUFS),
            () => Ok(()),
        }
    }

    /// Queues a routine.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) fn queue(&self, routine: Routine) -> Result<(), Code> {
        let mut inner = lock(&self.inner);
        if inner.has_ended {
            return Err(Code::FAULT);
        }
        inner.queue.push_back(routine);
        drop(inner);
        self.wake();
        Ok(())
    }

    /// Has the thread look again at what it waits for.
    pub(crate) fn wake(&self) {
        lock(&self.inner).is_woken = true;
        self.woken.notify_one();
    }

    /// Waits to be woken; false when the deadline has passed.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut inner = lock(&self.inner);
        loop {
            if std::mem::take(&mut inner.is_woken) {
                return true;
            }
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            inner = match left {
                Some(left) => {
                    let waited = self.woken.wait_timeout(inner, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .woken
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Runs what is queued for this thread, which is the calling one; whether anything was.
    pub(crate) fn run_routines(&self) -> bool {
        let mut has_run = false;
        while let Some(routine) = self.next() {
            (routine.work)();
            has_run = true;
            if let Some(socket) = routine.socket {
                lock(&BUSY).remove(&socket);
                wake_all();
            }
        }
        has_run
    }

    /// The first routine whose socket has none running; that one has now.
    fn next(&self) -> Option<Routine> {
        let mut inner = lock(&self.inner);
        let mut busy = lock(&BUSY);
        let is_free = |routine: &Routine| routine.socket.is_none_or(|it| !busy.contains(&it));
        let index = inner.queue.iter().position(is_free)?;
        let routine = inner.queue.remove(index)?;
        busy.extend(routine.socket);
        Some(routine)
    }
}

/// The thread of this thread-local, which ends with it.
struct Current(Arc<Thread>);

impl Drop for Current {
    fn drop(&mut self) {
        lock(&THREADS).remove(&self.0.id);
        {
            let mut inner = lock(&self.0.inner);
            inner.has_ended = true;
            inner.queue.clear();
        }
        operations::cancel_of_thread(self.0.id);
    }
}

fn wake_all() {
    let threads: Vec<Arc<Thread>> = lock(&THREADS).values().filter_map(Weak::upgrade).collect();
    for thread in threads {
        thread.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static CURRENT: Current = Current(Thread::new());
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static THREADS: Mutex<BTreeMap<ThreadId, Weak<Thread>>> = Mutex::new(BTreeMap::new());
/// Sockets one of whose routines runs.
static BUSY: Mutex<BTreeSet<SocketId>> = Mutex::new(BTreeSet::new());

/// Routines that wait for one thread.
const ROUTINE_COUNT_MAX: usize = 4096;
