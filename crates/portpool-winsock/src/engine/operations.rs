//! Operations that wait for an answer, and how they complete.
//!
//! One thread watches the answers of all that wait, and ends when none does. An operation is either
//! pending or done, under a lock of its own: whoever completes or cancels it does so once, and a claim
//! is made under that lock, so that nothing is reserved for an operation that was cancelled.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use portpool::PortRange;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
};

use super::{
    asker::Asked,
    ioctl::{self, Done},
    sockets::Socket,
    threads::{SocketId, ThreadId},
};
use crate::{
    choices,
    codes::Code,
    edge::{overlapped::Report, signals::block_signals},
};

/// An operation that was started.
pub(crate) struct Operation {
    number: u64,
    socket: SocketId,
    issuer: ThreadId,
    range: PortRange,
    state: Mutex<State>,
    done: Condvar,
}

enum State {
    Pending {
        socket: Arc<Socket>,
        asked: Arc<dyn Asked>,
        report: Report,
    },
    Done(Result<Done, Code>),
}

/// What is to become of an operation.
pub(crate) struct Order {
    pub(crate) socket: Arc<Socket>,
    pub(crate) issuer: ThreadId,
    pub(crate) range: PortRange,
    pub(crate) asked: Arc<dyn Asked>,
    pub(crate) report: Report,
}

/// Lets an operation wait for its answer.
///
/// # Errors
/// Too many wait already, or no thread can be had.
pub(crate) fn start(order: Order) -> Result<Arc<Operation>, Code> {
    let operation = Arc::new(Operation {
        number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
        socket: order.socket.id(),
        issuer: order.issuer,
        range: order.range,
        state: Mutex::new(State::Pending {
            socket: order.socket,
            asked: order.asked,
            report: order.report,
        }),
        done: Condvar::new(),
    });
    let mut registry = registry();
    if registry.pending.len() >= OPERATION_COUNT_MAX {
        return Err(choices::OVER_A_LIMIT);
    }
    match &registry.bell {
        Some(bell) => ring(bell),
        None => registry.start_watching()?,
    }
    if let State::Pending { report, socket, .. } = &*operation.state() {
        if socket.is_closed() {
            return Err(choices::INTERRUPTED);
        }
        // From now on it is pending for whoever looks; before it is in the list, where it completes.
        report.begin();
    }
    registry.pending.push(operation.clone());
    Ok(operation)
}

/// Cancels those of a socket that is being closed. The calls that wait for theirs are interrupted.
pub(crate) fn cancel_of_socket(socket: SocketId) {
    cancel(|it| it.socket == socket, choices::INTERRUPTED);
}

/// Cancels the overlapped ones of a socket; a call that waits for its own goes on waiting.
pub(crate) fn flush(socket: SocketId) {
    let overlapped = |it: &Operation| it.socket == socket && it.is_overlapped();
    cancel(overlapped, Code::OPERATION_ABORTED);
}

/// Cancels those that an ending thread issued.
pub(crate) fn cancel_of_thread(thread: ThreadId) {
    cancel(|it| it.issuer == thread, Code::OPERATION_ABORTED);
}

/// Cancels those of a socket with this structure, or any, and of this thread, or any.
///
/// # Errors
/// [`Code::NOT_FOUND`] if there is none.
pub(crate) fn cancel_some(
    socket: SocketId,
    structure: Option<usize>,
    issuer: Option<ThreadId>,
) -> Result<(), Code> {
    let count = cancel(
        |it| {
            it.socket == socket
                && it.is_overlapped()
                && structure.is_none_or(|structure| it.structure() == Some(structure))
                && issuer.is_none_or(|issuer| it.issuer == issuer)
        },
        Code::OPERATION_ABORTED,
    );
    if count > 0 {
        Ok(())
    } else {
        Err(Code::NOT_FOUND)
    }
}

/// Looks at a structure while no pending operation completes: who finds one done finds all of its result.
pub(crate) fn look<T>(look: impl FnOnce() -> T) -> T {
    let _registry = registry();
    look()
}

/// The pending operation with this structure.
pub(crate) fn find(structure: usize) -> Option<Arc<Operation>> {
    let pending = registry().pending.clone();
    pending
        .into_iter()
        .find(|it| it.structure() == Some(structure))
}

impl Operation {
    /// Waits until it is done.
    pub(crate) fn wait(&self) -> Result<Done, Code> {
        let mut state = self.state();
        loop {
            if let State::Done(result) = &*state {
                return *result;
            }
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether it tells by an event, not by a routine.
    pub(crate) fn tells_event(&self) -> bool {
        match &*self.state() {
            State::Pending { report, .. } => report.tells_event(),
            State::Done(_) => false,
        }
    }

    fn structure(&self) -> Option<usize> {
        match &*self.state() {
            State::Pending { report, .. } => report.structure(),
            State::Done(_) => None,
        }
    }

    fn is_overlapped(&self) -> bool {
        self.structure().is_some()
    }

    /// Looks for the answer.
    fn advance(&self) {
        let mut state = self.state();
        let State::Pending {
            socket,
            asked,
            report,
        } = &*state
        else {
            return;
        };
        let Some(answer) = asked.answer() else {
            return;
        };
        // Claimed while what was granted is still being held for this process.
        let result = answer.and_then(|()| ioctl::claim(socket, self.range));
        let result = result.and_then(|block| report.store(socket, &block));
        self.finish(&mut state, result);
    }

    /// Ends it without an answer; whether it was still pending. A call that waits gets `interrupted`.
    fn abort(&self, interrupted: Code) -> bool {
        let mut state = self.state();
        let State::Pending { report, .. } = &*state else {
            return false;
        };
        let code = match report.structure() {
            Some(_) => Code::OPERATION_ABORTED,
            None => interrupted,
        };
        self.finish(&mut state, Err(code));
        true
    }

    fn finish(&self, state: &mut State, result: Result<Done, Code>) {
        let before = std::mem::replace(state, State::Done(result));
        let State::Pending { report, .. } = before else {
            return;
        };
        {
            // Who finds it pending finds it here, and who does not finds its result. Whoever uses its
            // structure and event for another operation does so after this.
            let mut registry = registry();
            registry.pending.retain(|it| it.number != self.number);
            report.publish(result);
            if let Some(bell) = &registry.bell {
                ring(bell);
            }
        }
        report.announce(result, self.socket);
        self.done.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cancel(is_meant: impl Fn(&Operation) -> bool, interrupted: Code) -> usize {
    let pending = registry().pending.clone();
    let meant = pending.iter().filter(|operation| is_meant(operation));
    meant
        .filter(|operation| operation.abort(interrupted))
        .count()
}

struct Registry {
    pending: Vec<Arc<Operation>>,
    /// Wakes the thread that watches, while there is one.
    bell: Option<Arc<OwnedFd>>,
    process: u32,
}

impl Registry {
    /// A fork has neither the thread nor the questions of its parent.
    fn forget_those_of_a_parent(&mut self) {
        if self.process != process::id() {
            self.process = process::id();
            self.bell = None;
            // Dropping one would close connections that are the parent's: closing the copies is right.
            self.pending.clear();
        }
    }

    fn start_watching(&mut self) -> Result<(), Code> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let theirs = bell.clone();
        let watching = thread::Builder::new()
            .name("portpool-winsock".to_owned())
            .spawn(move || watch(&theirs));
        watching.map_err(|error| Code::of(&error))?;
        self.bell = Some(bell);
        Ok(())
    }
}

/// Waits for answers until no operation is left.
fn watch(bell: &OwnedFd) {
    block_signals();
    loop {
        let asked = {
            let mut registry = registry();
            if registry.pending.is_empty() {
                registry.bell = None;
                return;
            }
            let pending = registry.pending.clone();
            drop(registry);
            questions(pending)
        };
        if await_any(bell, &asked).is_err() {
            thread::yield_now();
        }
        for (operation, _) in &asked {
            operation.advance();
        }
    }
}

type Questions = Vec<(Arc<Operation>, Arc<dyn Asked>)>;

fn questions(pending: Vec<Arc<Operation>>) -> Questions {
    let question = |operation: Arc<Operation>| {
        let asked = match &*operation.state() {
            State::Pending { asked, .. } => asked.clone(),
            State::Done(_) => return None,
        };
        Some((operation, asked))
    };
    pending.into_iter().filter_map(question).collect()
}

fn await_any(bell: &OwnedFd, asked: &Questions) -> io::Result<()> {
    let descriptors = asked.iter().map(|(_, asked)| asked.descriptor());
    let watched = std::iter::once(bell.as_fd()).chain(descriptors);
    let mut watched: Vec<PollFd<'_>> = watched
        .map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN))
        .collect();
    match poll(&mut watched, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    // Whatever it was rung for, the list is looked at anew.
    let mut count = [0; 8];
    match rustix::io::read(bell, &mut count) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ring(bell: &OwnedFd) {
    // Full is rung already.
    let _rung = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn registry() -> MutexGuard<'static, Registry> {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.forget_those_of_a_parent();
    registry
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);
static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    pending: Vec::new(),
    bell: None,
    process: 0,
});

/// Operations that wait at the same time.
const OPERATION_COUNT_MAX: usize = 1024;
