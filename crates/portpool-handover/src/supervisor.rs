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
    time::{Duration, Instant},
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
    group::{Group, Key},
    guard::{Family, plain},
    held::{Held, Outcome},
    packet,
    socket::Socket,
    spawn::locked,
    sys::notify::{Answer, Listener},
};

/// What is known of the ports, and the rules.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The first is of our own program.
    groups: Vec<Group>,
    may_untie: bool,
    /// When it was last tried to hold ports again.
    regained: Instant,
    /// Where supervisors inside this one come in.
    reception: Option<OwnedFd>,
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
            groups: vec![Group::own(held, options)],
            may_untie,
            regained: Instant::now(),
            reception: None,
        })
    }

    /// Lets supervisors inside this one come in, and says under which name.
    pub(crate) fn receive_guests(&mut self) -> io::Result<String> {
        let (name, reception) = packet::reception()?;
        self.reception = Some(reception);
        Ok(name)
    }

    pub(crate) fn log(&self) -> Arc<Mutex<Log>> {
        Arc::clone(&self.groups[0].log)
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
            held: self.groups.swap_remove(0).held.into_values().collect(),
            listener: (!is_over).then_some(listener),
        }
    }

    /// Waits for the next call, and attends to guests meanwhile.
    fn wait(&mut self, listener: &Listener, stop: &OwnedFd) -> Event {
        loop {
            let is_short = self.all_held().any(|held| held.wants_regain());
            // By the clock: calls that come one after the other must not put it off.
            if is_short && self.regained.elapsed() >= REGAIN_INTERVAL {
                self.all_held().for_each(Held::regain);
                self.regained = Instant::now();
            }
            let left = REGAIN_INTERVAL.saturating_sub(self.regained.elapsed());
            let timeout = is_short.then_some(Timespec {
                tv_sec: 0,
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut watched = vec![
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            let guests = self.groups.iter().filter_map(Group::connection);
            watched.extend(guests.map(|guest| PollFd::from_borrowed_fd(guest, PollFlags::IN)));
            let reception = self.reception.iter();
            watched.extend(reception.map(|it| PollFd::new(it, PollFlags::IN)));
            match poll(&mut watched, timeout.as_ref()) {
                Ok(0) => {}
                Ok(_) => {
                    let seen: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
                    match (seen[0].contains(PollFlags::IN), seen[0].is_empty()) {
                        (true, _) => return Event::Call,
                        (false, false) => return Event::Over,
                        (false, true) if !seen[1].is_empty() => return Event::Stop,
                        (false, true) => self.attend(&seen[2..]),
                    }
                }
                Err(Errno::INTR) => {}
                // Out of memory, at worst: without a listener the callers get errors, not ports.
                Err(_) => return Event::Over,
            }
        }
    }

    /// Attends to the guests that were seen to want something, and lets the next one in.
    fn attend(&mut self, seen: &[PollFlags]) {
        let guest_count = self.groups.len() - 1;
        let (guests, reception) = seen.split_at(guest_count.min(seen.len()));
        // Backwards: who is gone makes the others move up.
        for place in (1..=guests.len()).rev() {
            if guests[place - 1].is_empty() {
                continue;
            }
            let mut group = self.groups.remove(place);
            let is_taken = |key| self.groups.iter().any(|it| it.held.contains_key(&key));
            if group.attend(self.may_untie, is_taken).is_ok() {
                self.groups.insert(place, group);
            }
        }
        let is_wanted = reception.iter().any(|it| !it.is_empty());
        if let Some(socket) = self.reception.as_ref().filter(|_| is_wanted) {
            match packet::accept(socket) {
                // One too many is sent away, and says so to its user.
                Ok(connection) if self.groups.len() <= GUEST_COUNT_MAX => {
                    self.groups.extend(Group::of_guest(connection));
                }
                Ok(_) => {}
                // Rather none any more than to be asked again at once, for ever.
                Err(_) => self.reception = None,
            }
        }
    }

    fn all_held(&mut self) -> impl Iterator<Item = &mut Held> {
        self.groups.iter_mut().flat_map(|it| it.held.values_mut())
    }

    /// The group of a port.
    fn group(&mut self, key: Key) -> Option<&mut Group> {
        self.groups.iter_mut().find(|it| it.held.contains_key(&key))
    }

    fn judge(&mut self, call: &Call<'_>) -> Answer {
        let judged = match call.notification.number {
            libc::SYS_bind => self.bind(call),
            libc::SYS_listen => self.listen(call),
            _ => Ok(Answer::Continue),
        };
        judged.unwrap_or_else(|Closed| {
            locked(&self.groups[0].log).closed_call_count += 1;
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
        let Some(group) = self
            .group(key)
            .filter(|it| it.is_for(call.notification.thread))
        else {
            return Answer::Continue;
        };
        let strict = group.options.strict;
        let Some(held) = group.held.get_mut(&key) else {
            return Answer::Continue;
        };
        if socket.netns_cookie().ok() != Some(held.netns_cookie()) {
            return Answer::Continue;
        }
        let outcome = held.bind(call, socket, address, strict);
        note(&group.log, key, outcome)
    }

    fn bind_zero(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        transport: Transport,
        address: &SocketAddr,
    ) -> Answer {
        // The last that came in of those it belongs to is the innermost.
        let thread = call.notification.thread;
        let Some(group) = self.groups.iter_mut().rfind(|it| it.is_for(thread)) else {
            return Answer::Continue;
        };
        let zero = match transport {
            Transport::Tcp => group.options.tcp_zero,
            Transport::Udp => group.options.udp_zero,
        };
        match zero {
            Zero::Kernel => return Answer::Continue,
            Zero::Error => return Answer::Fail(libc::EACCES),
            Zero::Block if socket.defers_port() => return Answer::Continue,
            Zero::Block => {}
        }
        let keys = group.held.keys().filter(|(its, _)| *its == transport);
        let keys: Vec<Key> = keys.copied().rev().collect();
        for key in keys {
            let held = self.group(key).and_then(|it| it.held.get_mut(&key));
            if held.is_none_or(|held| held.is_used().unwrap_or(true)) {
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
        let thread = call.notification.thread;
        let Some(group) = self.group(key).filter(|it| it.is_for(thread)) else {
            return Ok(Answer::Continue);
        };
        let strict = group.options.strict;
        let Some(held) = group.held.get_mut(&key) else {
            return Ok(Answer::Continue);
        };
        let is_foreign = socket.netns_cookie().ok() != Some(held.netns_cookie());
        // One that listens already changes its backlog, and collides with nobody.
        if is_foreign || socket.is_listening().unwrap_or(true) {
            return Ok(Answer::Continue);
        }
        let outcome = held.listen(call, socket, strict);
        Ok(note(&group.log, key, outcome))
    }

    fn holds(&self, port: Port) -> bool {
        let all = Transport::ALL.into_iter();
        let mut keys = all.map(|transport| (transport, port));
        keys.any(|key| self.groups.iter().any(|it| it.held.contains_key(&key)))
    }
}

fn note(log: &Mutex<Log>, key: Key, outcome: io::Result<Outcome>) -> Answer {
    match outcome {
        Ok((answer, technique)) => {
            if let Some(technique) = technique {
                let mut log = locked(log);
                *log.counts.entry((key.0, key.1, technique)).or_default() += 1;
            }
            answer
        }
        Err(error) => Answer::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
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

/// As many as a user may nest or run beside each other inside one.
const GUEST_COUNT_MAX: usize = 256;
/// How long a port whose swapped-in socket was closed may stay without a guard.
const REGAIN_INTERVAL: Duration = Duration::from_millis(20);
