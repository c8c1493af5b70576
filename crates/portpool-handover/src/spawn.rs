//! Starts a program under the filter, and the thread that serves it.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags,
        SocketType, recvmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    Error, Guard, Options, Use,
    held::Held,
    outer::Outer,
    rest::Rest,
    supervisor::{Log, Served, Supervisor},
    sys::{filter, notify::Listener},
};

/// Set in the environment of programs that are handed ports: the name under which their supervisor
/// is found by others inside it.
pub const SUPERVISED_VARIABLE: &str = "PORTPOOL_SUPERVISED";

/// Starts a program that may bind the guarded ports, it and every process it starts.
///
/// The program and its descendants never gain privileges by an exec: set-user-ID bits and file
/// capabilities have no effect. A pre-exec hook of `command` must not bind or listen. The guards stay
/// held until none of these processes is left; while they run, this process must: without it,
/// their calls of bind and listen fail with `ENOSYS`.
///
/// Where this process is handed ports itself, its supervisor is asked to serve these guards too, for
/// the descendants of this process and as long as it lives.
///
/// # Errors
/// [`Error`] says which step failed; nothing runs then, and the guards are gone.
pub fn spawn(
    mut command: Command,
    guards: Vec<Guard>,
    options: &Options,
) -> Result<Supervised, Error> {
    if Outer::is_there() {
        return spawn_inside(command, guards, options);
    }
    let supervisor = Supervisor::new(guards, *options);
    let mut supervisor = supervisor.map_err(Error::of("socket"))?;
    // Without a reception it serves its own program only, and others are told so.
    let name = supervisor.receive_guests().unwrap_or_default();
    command.env(SUPERVISED_VARIABLE, name);
    let (here, there) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(Error::of("socketpair"))?;
    filter::install(&mut command, there);
    let child = command.spawn();
    drop(command); // And with it this process's copy of the other end.
    let received = receive(&here).map_err(Error::of("recvmsg"))?;
    let child = match (child, &received) {
        (Ok(child), _) => child,
        (Err(_), Received::Refused(errno)) => return Err(refused(*errno)),
        (Err(cause), _) => return Err(Error::Spawn { cause }),
    };
    let mut child = Tethered(Some(child));
    let Received::Listener(listener) = received else {
        return Err(Error::Filter {
            cause: io::Error::from(io::ErrorKind::UnexpectedEof),
        });
    };
    let log = supervisor.log();
    let listener = Listener::new(listener);
    let (stop, stopper) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::of("pipe"))?;
    let stopper = Arc::new(stopper);
    let kept = Arc::clone(&stopper);
    let serving = thread::Builder::new()
        .name("portpool-serve".to_owned())
        .spawn(move || {
            // Only what is written stops it, not the end of the one who could write.
            let _kept = kept;
            supervisor.serve(listener, &stop)
        })
        .map_err(Error::of("starting a thread"))?;
    let Some(child) = child.0.take() else {
        unreachable!("nobody else takes the child");
    };
    let serving = Serving::Here {
        log,
        thread: serving,
        stopper,
    };
    Ok(Supervised { child, serving })
}

/// Under another supervisor, which has a listener already.
fn spawn_inside(
    mut command: Command,
    guards: Vec<Guard>,
    options: &Options,
) -> Result<Supervised, Error> {
    let outer = Outer::ask(guards, options)?;
    let child = command.spawn().map_err(|cause| Error::Spawn { cause })?;
    Ok(Supervised {
        child,
        serving: Serving::Outside(outer),
    })
}

/// A program that is handed ports.
///
/// Dropping it ends neither the program nor the thread that serves it.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    serving: Serving,
}

/// Who serves it.
#[derive(Debug)]
enum Serving {
    Here {
        log: Arc<Mutex<Log>>,
        thread: JoinHandle<Served>,
        /// A pipe: a byte in it tells the thread to stop.
        stopper: Arc<OwnedFd>,
    },
    Outside(Outer),
}

impl Supervised {
    /// Waits until the program has ended. Processes it left behind are served on.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// The program, for its pipes or to kill it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the program and everything it started have ended.
    ///
    /// Before Linux 6.11 a process that ended counts until its parent has asked how; one that has
    /// made itself a subreaper must do so for orphans.
    ///
    /// # Panics
    /// If the thread that served them did, which is a bug.
    pub fn finish(mut self) -> Finished {
        // Without this its own end would be waited for in vain; a status asked for before is kept.
        let _ = self.child.wait();
        match self.serving {
            Serving::Here { log, thread, .. } => Finished::new(joined(thread).held, &log),
            Serving::Outside(outer) => Finished::outside(outer),
        }
    }

    /// Stops serving now, for who has seen the end of the program and does not wait for what it left
    /// behind. That must still be served, by [`Rest::serve`].
    ///
    /// # Panics
    /// As [`finish`](Supervised::finish).
    pub fn stop(self) -> (Finished, Option<Rest>) {
        match self.serving {
            Serving::Here {
                log,
                thread,
                stopper,
            } => {
                // Fails only if the thread is gone already.
                let _ = rustix::io::write(&*stopper, b"x");
                let served = joined(thread);
                let rest = served.listener.map(Rest::new);
                (Finished::new(served.held, &log), rest)
            }
            Serving::Outside(outer) => (Finished::outside(outer), None),
        }
    }

    /// The process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether a process is left that may bind the guarded ports. Under another supervisor, always.
    pub fn is_serving(&self) -> bool {
        match &self.serving {
            Serving::Here { thread, .. } => !thread.is_finished(),
            Serving::Outside(_) => true,
        }
    }

    /// How ports were handed over so far, in the order of ports.
    pub fn uses(&self) -> Vec<Use> {
        match &self.serving {
            Serving::Here { log, .. } => locked(log).uses(),
            Serving::Outside(outer) => outer.uses(),
        }
    }

    /// How many calls were left to the kernel because the calling process is closed to this one (it
    /// is not dumpable, or its memory could not be read): a guarded port was in use for it. Under
    /// another supervisor, that counts them.
    pub fn closed_call_count(&self) -> u64 {
        match &self.serving {
            Serving::Here { log, .. } => locked(log).closed_call_count,
            Serving::Outside(_) => 0,
        }
    }
}

/// What is left of a program that was handed ports.
#[derive(Debug)]
pub struct Finished {
    /// Those that are still held: all, unless a socket was swapped in for a guard and it or its
    /// connections linger. They may be on a network device that does not exist, which lets in
    /// whoever ties a socket to another device. None under another supervisor: it let go of them.
    pub guards: Vec<Guard>,
    /// As [`Supervised::uses`].
    pub uses: Vec<Use>,
    /// As [`Supervised::closed_call_count`].
    pub closed_call_count: u64,
}

impl Finished {
    fn new(held: Vec<Held>, log: &Mutex<Log>) -> Finished {
        let log = locked(log);
        Finished {
            // Only now: a process leaves its filter (6.18) before it closes its sockets, and one that
            // was waited for has done both.
            guards: held.into_iter().filter_map(Held::into_guard).collect(),
            uses: log.uses(),
            closed_call_count: log.closed_call_count,
        }
    }

    fn outside(outer: Outer) -> Finished {
        let uses = outer.uses();
        outer.end();
        Finished {
            guards: Vec::new(),
            uses,
            closed_call_count: 0,
        }
    }
}

fn joined(serving: JoinHandle<Served>) -> Served {
    match serving.join() {
        Ok(served) => served,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub(crate) fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a program that would not be served.
struct Tethered(Option<Child>);

impl Drop for Tethered {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

enum Received {
    Listener(OwnedFd),
    /// The filter was refused with this error number.
    Refused(i32),
    /// The child did not get that far.
    Nothing,
}

fn receive(channel: &OwnedFd) -> rustix::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0_u8; 4];
    let mut text = [IoSliceMut::new(&mut bytes)];
    let answer = rustix::io::retry_on_intr(|| {
        recvmsg(channel, &mut text, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(listener) = descriptors.next()
        {
            return Ok(Received::Listener(listener));
        }
    }
    Ok(match answer.bytes {
        4 => Received::Refused(i32::from_ne_bytes(bytes)),
        _ => Received::Nothing,
    })
}

fn refused(errno: i32) -> Error {
    match errno {
        libc::EBUSY => Error::OtherListener,
        libc::EINVAL | libc::ENOSYS => Error::Unsupported,
        _ => Error::Filter {
            cause: io::Error::from_raw_os_error(errno),
        },
    }
}
