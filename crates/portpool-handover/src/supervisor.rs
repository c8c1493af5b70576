//! Serves the calls of the programs under one filter, one after the other.
//!
//! Whatever is not a bind or listen on a guarded port is left to the kernel, also if the address was
//! changed behind our back: then the guard refuses it. What is done here is done with our own
//! copy of the address.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
};

use portpool_core::{Port, Transport};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    Guard, Options, Technique, Use, Zero,
    address::LOOPBACK_DEVICE,
    call::{Call, Closed},
    guard::{Family, plain},
    held::{Held, Outcome},
    socket::Socket,
    spawn::locked,
    sys::notify::{Answer, Listener},
};

/// What is known of the ports, and the rules.
#[derive(Debug)]
pub(crate) struct Supervisor {
    held: BTreeMap<(Transport, Port), Held>,
    options: Options,
    log: Arc<Mutex<Log>>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    counts: BTreeMap<(Transport, Port, Technique), u64>,
    pub(crate) closed_call_count: u64,
}

impl Log {
    pub(crate) fn uses(&self) -> Vec<Use> {
        let counts = self.counts.iter();
        let uses = counts.map(|(&(transport, port, technique), &call_count)| Use {
            transport,
            port,
            technique,
            call_count,
        });
        uses.collect()
    }
}

/// What is left after serving.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) held: Vec<Held>,
    /// Nothing if no process is left.
    pub(crate) listener: Option<Listener>,
}

/// What was waited for.
enum Event {
    Call,
    /// No process is left.
    Over,
    Stop,
}

impl Supervisor {
    pub(crate) fn new(guards: Vec<Guard>, options: Options) -> io::Result<Supervisor> {
        let may_untie = may_untie()?;
        let mut held = BTreeMap::new();
        for guard in guards {
            let key = (guard.transport(), guard.port());
            held.insert(key, Held::new(guard, may_untie)?);
        }
        Ok(Supervisor {
            held,
            options,
            log: Arc::default(),
        })
    }

    pub(crate) fn log(&self) -> Arc<Mutex<Log>> {
        Arc::clone(&self.log)
    }

    /// Serves until no process is left under the filter or `stop` says so; gives back the ports.
    pub(crate) fn serve(mut self, listener: Listener, stop: &OwnedFd) -> Served {
        let is_over = loop {
            match self.wait(&listener, stop) {
                Event::Call => {}
                Event::Over => break true,
                Event::Stop => break false,
            }
            // The caller may have been killed meanwhile: nobody waits for an answer then.
            let Ok(notification) = listener.receive() else {
                continue;
            };
            let call = Call::new(&listener, notification);
            let answer = self.judge(&call);
            let _ = listener.answer(notification.id, answer);
        };
        Served {
            held: self.held.into_values().collect(),
            listener: (!is_over).then_some(listener),
        }
    }

    /// Waits for the next call.
    fn wait(&mut self, listener: &Listener, stop: &OwnedFd) -> Event {
        loop {
            let is_short = self.held.values().any(Held::wants_regain);
            let timeout = is_short.then_some(REGAIN_INTERVAL);
            let mut watched = [
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            match poll(&mut watched, timeout.as_ref()) {
                Ok(0) => self.held.values_mut().for_each(Held::regain),
                Ok(_) => {
                    let [calls, stop] = watched.map(|it| it.revents());
                    return match (calls.contains(PollFlags::IN), calls.is_empty()) {
                        (true, _) => Event::Call,
                        (false, false) => Event::Over,
                        (false, true) if !stop.is_empty() => Event::Stop,
                        (false, true) => continue,
                    };
                }
                Err(Errno::INTR) => {}
                // Out of memory, at worst: without a listener the callers get errors, not ports.
                Err(_) => return Event::Over,
            }
        }
    }

    fn judge(&mut self, call: &Call<'_>) -> Answer {
        let judged = match call.notification.number {
            libc::SYS_bind => self.bind(call),
            libc::SYS_listen => self.listen(call),
            _ => Ok(Answer::Continue),
        };
        judged.unwrap_or_else(|Closed| {
            locked(&self.log).closed_call_count += 1;
            Answer::Continue
        })
    }

    fn bind(&mut self, call: &Call<'_>) -> Result<Answer, Closed> {
        let Some(address) = call.address()? else {
            return Ok(Answer::Continue);
        };
        let wanted = Port::new(address.port());
        // Asked before anything else, because most binds are none of our business.
        if wanted.is_some_and(|port| !self.holds(port)) {
            return Ok(Answer::Continue);
        }
        let Some(owned) = call.socket()? else {
            return Ok(Answer::Continue);
        };
        let Some((socket, transport)) = Socket::new(owned.as_fd()) else {
            return Ok(Answer::Continue);
        };
        // The kernel refuses both, and must not find the socket changed.
        let fits = socket.is_v6().is_ok_and(|is_v6| is_v6 == address.is_ipv6());
        if !fits || socket.port().is_some() {
            return Ok(Answer::Continue);
        }
        Ok(match wanted {
            Some(port) => self.bind_one(call, socket, (transport, port), &address),
            None => self.bind_zero(call, socket, transport, &address),
        })
    }

    fn bind_one(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        key: (Transport, Port),
        address: &SocketAddr,
    ) -> Answer {
        let strict = self.options.strict;
        let Some(held) = self.held.get_mut(&key) else {
            return Answer::Continue;
        };
        if socket.netns_cookie().ok() != Some(held.netns_cookie()) {
            return Answer::Continue;
        }
        let outcome = held.bind(call, socket, address, strict);
        self.note(key, outcome)
    }

    fn bind_zero(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        transport: Transport,
        address: &SocketAddr,
    ) -> Answer {
        let zero = match transport {
            Transport::Tcp => self.options.tcp_zero,
            Transport::Udp => self.options.udp_zero,
        };
        match zero {
            Zero::Kernel => return Answer::Continue,
            Zero::Error => return Answer::Fail(libc::EACCES),
            Zero::Block if socket.defers_port() => return Answer::Continue,
            Zero::Block => {}
        }
        let keys = self.held.keys().filter(|(its, _)| *its == transport);
        let keys: Vec<_> = keys.copied().rev().collect();
        for key in keys {
            let Some(held) = self.held.get_mut(&key) else {
                continue;
            };
            if held.is_used().unwrap_or(true) {
                continue;
            }
            let mut chosen = *address;
            chosen.set_port(key.1.number());
            let answer = self.bind_one(call, socket, key, &chosen);
            if answer != Answer::Fail(libc::EADDRINUSE) {
                return answer;
            }
        }
        Answer::Continue
    }

    fn listen(&mut self, call: &Call<'_>) -> Result<Answer, Closed> {
        let Some(owned) = call.socket()? else {
            return Ok(Answer::Continue);
        };
        let Some((socket, Transport::Tcp)) = Socket::new(owned.as_fd()) else {
            return Ok(Answer::Continue);
        };
        let Some(port) = socket.port() else {
            return Ok(Answer::Continue); // The kernel chooses one, never a guarded one.
        };
        let key = (Transport::Tcp, port);
        let strict = self.options.strict;
        let Some(held) = self.held.get_mut(&key) else {
            return Ok(Answer::Continue);
        };
        let is_foreign = socket.netns_cookie().ok() != Some(held.netns_cookie());
        // One that listens already changes its backlog, and collides with nobody.
        if is_foreign || socket.is_listening().unwrap_or(true) {
            return Ok(Answer::Continue);
        }
        let outcome = held.listen(call, socket, strict);
        Ok(self.note(key, outcome))
    }

    fn note(&mut self, key: (Transport, Port), outcome: io::Result<Outcome>) -> Answer {
        match outcome {
            Ok((answer, technique)) => {
                if let Some(technique) = technique {
                    let mut log = locked(&self.log);
                    *log.counts.entry((key.0, key.1, technique)).or_default() += 1;
                }
                answer
            }
            Err(error) => Answer::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn holds(&self, port: Port) -> bool {
        let mut all = Transport::ALL.into_iter();
        all.any(|transport| self.held.contains_key(&(transport, port)))
    }
}

/// Tried, because the capability may be one over another network namespace than ours.
fn may_untie() -> io::Result<bool> {
    let scratch: OwnedFd = match plain(Transport::Tcp, Family::Both) {
        Ok(socket) => socket,
        Err(_) => plain(Transport::Tcp, Family::V4)?,
    };
    let (socket, _) =
        Socket::new(scratch.as_fd()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSOCK))?;
    socket.set_device(LOOPBACK_DEVICE)?;
    Ok(socket.set_device(0).is_ok())
}

/// How long a port whose swapped-in socket was closed may stay without a guard.
const REGAIN_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
