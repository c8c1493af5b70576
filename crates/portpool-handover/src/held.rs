//! One guarded port, and every way past its guard.
//!
//! Why the kernel lets these pass: two sockets that are tied to different devices never collide, one
//! that is tied to none collides with both. So guard and socket are put on different devices for
//! the bind, and the guard goes on keeping out everybody who is on none. Both TCP's bind and its listen
//! check for collisions; UDP has the bind only.
//!
//! `SO_REUSEPORT` is never set on a guard: for TCP the kernel remembers it per port, and lets others
//! in for as long as the port is bound.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use portpool_core::{Port, Transport};

use crate::{
    Guard, Technique,
    address::{self, GUARD_DEVICE, LOOPBACK_DEVICE, SOCKET_DEVICE},
    call::Call,
    guard::{Family, Twins, bind_to, plain},
    socket::Socket,
    swap::swap,
    sys::notify::Answer,
};

/// A guarded port.
#[derive(Debug)]
pub(crate) struct Held {
    transport: Transport,
    port: Port,
    /// Nothing while a socket that was swapped in has its place.
    guard: Option<OwnedFd>,
    twins: Twins,
    netns_cookie: u64,
    /// Whether this process may untie sockets from devices (`CAP_NET_RAW`).
    may_untie: bool,
    /// Whether the guard is on [`GUARD_DEVICE`].
    is_aside: bool,
    /// Whether a process of the tree may have the port.
    was_handed: bool,
    /// Whether a socket with `SO_REUSEPORT` may listen.
    has_group: bool,
    lent: Option<Lent>,
}

/// A program's socket that is in the place of the guard.
#[derive(Debug)]
struct Lent {
    family: Family,
    cookie: u64,
    /// Whether it is to have `SO_REUSEADDR` once it listens.
    reuses_address: bool,
    /// Whether holding the port anew would succeed only if this socket is gone.
    keeps_out: bool,
}

/// What came of a call, and how.
pub(crate) type Outcome = (Answer, Option<Technique>);

impl Held {
    pub(crate) fn new(guard: Guard, may_untie: bool) -> io::Result<Held> {
        let cookie = Socket::new(guard.socket.as_fd())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSOCK))?
            .0
            .netns_cookie()?;
        Ok(Held {
            transport: guard.transport,
            port: guard.port,
            guard: Some(guard.socket),
            // Who may untie has no need of them, and each would be in the way of a bind.
            twins: if may_untie {
                Twins::default()
            } else {
                guard.twins
            },
            netns_cookie: cookie,
            may_untie,
            is_aside: false,
            was_handed: false,
            has_group: false,
            lent: None,
        })
    }

    /// Binds a program's socket to the port.
    pub(crate) fn bind(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        address: &SocketAddr,
        strict: bool,
    ) -> io::Result<Outcome> {
        self.regain();
        let technique = match self.transport {
            Transport::Udp => self.bind_udp(socket, address)?,
            Transport::Tcp => self.bind_tcp(call, socket, address, strict)?,
        };
        self.was_handed = true;
        Ok((answer_of(technique), Some(technique)))
    }

    /// Has a program's socket that is bound to the port listen.
    pub(crate) fn listen(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        strict: bool,
    ) -> io::Result<Outcome> {
        if socket.device()? != 0 {
            self.put_aside()?;
            let technique = match address::is_loopback(&socket.address()?) {
                true => Technique::Pin,
                false => Technique::OwnDevice,
            };
            // Nothing is in its way any more.
            return Ok((Answer::Continue, Some(technique)));
        }
        let backlog = call.backlog();
        let reuses_port = socket.reuses_port()?;
        let technique = if self.has_lent(socket) {
            self.listen_lent(socket, backlog, strict)?
        } else if self.may_untie && !(reuses_port && self.has_group) {
            self.has_group |= reuses_port;
            self.detour(socket, SOCKET_DEVICE, || socket.listen(backlog))?;
            Technique::Detour
        } else if self
            .in_the_way(family_of(socket, &socket.address()?)?)
            .is_empty()
        {
            return Ok((Answer::Continue, Some(Technique::Unguarded)));
        } else if strict {
            Technique::Refused
        } else {
            let address = socket.address()?;
            self.window(socket, &address, || socket.listen(backlog))?;
            Technique::Window
        };
        Ok((answer_of(technique), Some(technique)))
    }

    /// Holds the port again if the socket that was in the place of its guard is gone.
    pub(crate) fn regain(&mut self) {
        if !self.wants_regain() {
            return;
        }
        let Some(family) = self.lent.as_ref().map(|lent| lent.family) else {
            return;
        };
        let Ok(socket) = regained(self.transport, family, self.port.number()) else {
            return;
        };
        match family {
            Family::V4 | Family::Both => self.guard = Some(socket),
            Family::V6Only => self.twins.v6 = Some(socket),
        }
        // A pair without a third: the one of IPv4 is the guard then.
        self.guard = self.guard.take().or_else(|| self.twins.v4.take());
        self.lent = None;
        self.is_aside = false;
        self.was_handed = false;
    }

    /// Whether [`regain`](Held::regain) is worth a try.
    pub(crate) fn wants_regain(&self) -> bool {
        let Some(lent) = &self.lent else { return false };
        lent.keeps_out && self.in_the_way(lent.family).is_empty()
    }

    /// Whether a process has a socket of the port, or had a connection a moment ago.
    pub(crate) fn is_used(&mut self) -> io::Result<bool> {
        self.regain();
        if !self.was_handed {
            return Ok(false); // Nobody but us could have let it in.
        }
        if self.lent.is_some() {
            return Ok(true);
        }
        // Tied to loopback it collides with every socket but those that are aside.
        self.put_aside()?;
        let (probe, family) = match plain(self.transport, Family::Both) {
            Ok(probe) => (probe, Family::Both),
            Err(_) => (plain(self.transport, Family::V4)?, Family::V4),
        };
        let (socket, _) = Socket::new(probe.as_fd())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSOCK))?;
        socket.set_device(LOOPBACK_DEVICE)?;
        let is_used = bind_to(&probe, family, self.port.number()).is_err();
        drop(probe);
        self.put_back()?;
        if !is_used {
            self.has_group = false;
        }
        Ok(is_used)
    }

    pub(crate) fn netns_cookie(&self) -> u64 {
        self.netns_cookie
    }

    /// The guard, if it is still, or again, held.
    pub(crate) fn into_guard(mut self) -> Option<Guard> {
        self.regain();
        Some(Guard {
            transport: self.transport,
            port: self.port,
            socket: self.guard?,
            twins: self.twins,
        })
    }

    fn bind_udp(&mut self, socket: Socket<'_>, address: &SocketAddr) -> io::Result<Technique> {
        let Some(device) = free_device(socket, address)? else {
            return self.bind_on_its_device(socket, address);
        };
        self.put_aside()?;
        socket.set_device(device)?;
        let bound = socket.bind(address);
        // The guard stays aside: on the same device it would get some of the datagrams.
        socket.disconnect()?;
        bound.map(|()| Technique::Detour)
    }

    fn bind_tcp(
        &mut self,
        call: &Call<'_>,
        socket: Socket<'_>,
        address: &SocketAddr,
        strict: bool,
    ) -> io::Result<Technique> {
        let Some(device) = free_device(socket, address)? else {
            return self.bind_on_its_device(socket, address);
        };
        let is_loopback = address::is_loopback(address);
        let reuses_port = socket.reuses_port()?;
        // Sockets that share a port share its connections only if they were on the same device when
        // they started to listen: those of a loopback address are better left there.
        if self.may_untie && !(is_loopback && reuses_port) {
            if self.has_group && reuses_port {
                self.is_used()?; // Forgets the group if it is gone.
            }
            self.detour(socket, device, || socket.bind(address))?;
            return Ok(Technique::Detour);
        }
        if is_loopback {
            return self.pin(socket, address);
        }
        let family = family_of(socket, address)?;
        if address.ip().is_unspecified() && self.lend(call, socket, family)? {
            return Ok(Technique::Swap);
        }
        if self.in_the_way(family).is_empty() {
            socket.bind(address)?;
            self.lent = Some(Lent {
                family,
                cookie: socket.cookie()?,
                reuses_address: socket.reuses_address()?,
                keeps_out: false,
            });
            return Ok(Technique::Unguarded);
        }
        if strict {
            return Ok(Technique::Refused);
        }
        self.window(socket, address, || socket.bind(address))?;
        Ok(Technique::Window)
    }

    fn bind_on_its_device(
        &mut self,
        socket: Socket<'_>,
        address: &SocketAddr,
    ) -> io::Result<Technique> {
        self.put_aside()?;
        socket.bind(address)?;
        Ok(Technique::OwnDevice)
    }

    /// The socket stays on the loopback device: to untie it needs privilege, and makes no difference
    /// to what can reach it.
    fn pin(&mut self, socket: Socket<'_>, address: &SocketAddr) -> io::Result<Technique> {
        self.put_aside()?;
        if self.was_handed && !socket.reuses_port()? {
            rehearse(socket, address)?;
        }
        socket.set_device(LOOPBACK_DEVICE)?;
        socket.bind(address)?;
        Ok(Technique::Pin)
    }

    /// Puts the socket on `device` while the call is made and the guard is aside, both back after.
    fn detour(
        &mut self,
        socket: Socket<'_>,
        device: u32,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.put_aside()?;
        let done = socket.set_device(device).and_then(|()| act());
        let untied = socket.set_device(0);
        self.put_back()?;
        done.and(untied)
    }

    /// Makes the call while guard and socket have `SO_REUSEADDR`.
    fn window(
        &mut self,
        socket: Socket<'_>,
        address: &SocketAddr,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let reused_address = socket.reuses_address()?;
        let guards = self.in_the_way(family_of(socket, address)?);
        socket.set_reuses_address(true)?;
        let opened: io::Result<()> = guards.iter().try_for_each(|it| it.set_reuses_address(true));
        let done = opened.and_then(|()| act());
        // All of them, whatever comes: one that stays open is open to everybody.
        let closed: Vec<_> = guards
            .iter()
            .map(|it| it.set_reuses_address(false))
            .collect();
        socket.set_reuses_address(reused_address)?;
        closed.into_iter().collect::<io::Result<()>>()?;
        done
    }

    /// Swaps in the socket that is bound to exactly what is wanted, and says whether it could.
    fn lend(&mut self, call: &Call<'_>, socket: Socket<'_>, family: Family) -> io::Result<bool> {
        if self.is_aside || self.lent.is_some() {
            return Ok(false);
        }
        let is_guard = self.guard.as_ref().and_then(family_of_held) == Some(family);
        let place = match family {
            _ if is_guard => &mut self.guard,
            Family::V4 => &mut self.twins.v4,
            Family::V6Only => &mut self.twins.v6,
            Family::Both => return Ok(false),
        };
        let Some(twin) = place else { return Ok(false) };
        if !swap(call, socket, twin)? {
            return Ok(false);
        }
        let cookie = rustix::net::sockopt::socket_cookie(&*twin)?;
        *place = None;
        self.lent = Some(Lent {
            family,
            cookie,
            reuses_address: socket.reuses_address()?,
            keeps_out: true,
        });
        Ok(true)
    }

    /// What is held beside the lent socket goes only here: until it listens, it needs the help.
    fn listen_lent(
        &mut self,
        socket: Socket<'_>,
        backlog: i32,
        strict: bool,
    ) -> io::Result<Technique> {
        let Some(lent) = &mut self.lent else {
            return Ok(Technique::Unguarded);
        };
        let was_guard = lent.keeps_out;
        lent.keeps_out = true;
        let (family, reuses_address) = (lent.family, lent.reuses_address);
        let held = [&mut self.guard, &mut self.twins.v4, &mut self.twins.v6];
        for socket in held {
            socket.take_if(|it| family_of_held(it).is_none_or(|it| it.collides(family)));
        }
        if !was_guard {
            socket.listen(backlog)?;
            return Ok(Technique::Unguarded);
        }
        match socket.listen(backlog) {
            // A listening socket keeps others out with the option too. Without it the connections
            // it leaves behind would keep the program itself out for a minute after a restart.
            Ok(()) => socket.set_reuses_address(reuses_address)?,
            // These are connections of that kind, and only with the option it gets past them.
            Err(error) if is_in_use(&error) && reuses_address && !strict => {
                socket.set_reuses_address(true)?;
                socket.listen(backlog)?;
                return Ok(Technique::Window);
            }
            Err(error) => return Err(error),
        }
        Ok(Technique::Swap)
    }

    fn has_lent(&self, socket: Socket<'_>) -> bool {
        let cookie = self.lent.as_ref().map(|lent| lent.cookie);
        cookie.is_some() && socket.cookie().ok() == cookie
    }

    /// Once aside, without privilege there is no way back.
    fn put_aside(&mut self) -> io::Result<()> {
        if !self.is_aside {
            self.sockets()
                .try_for_each(|it| it.set_device(GUARD_DEVICE))?;
            self.is_aside = true;
        }
        Ok(())
    }

    fn put_back(&mut self) -> io::Result<()> {
        if self.may_untie && self.transport == Transport::Tcp {
            self.sockets().try_for_each(|it| it.set_device(0))?;
            self.is_aside = false;
        }
        Ok(())
    }

    fn sockets(&self) -> impl Iterator<Item = Socket<'_>> {
        let all = [&self.guard, &self.twins.v4, &self.twins.v6];
        let held = all.into_iter().flatten();
        held.filter_map(|socket| Some(Socket::new(socket.as_fd())?.0))
    }

    /// What is held of addresses of this family.
    fn in_the_way(&self, family: Family) -> Vec<Socket<'_>> {
        let held = [&self.guard, &self.twins.v4, &self.twins.v6];
        let held = held.into_iter().flatten();
        let colliding = held.filter(|it| family_of_held(it).is_none_or(|it| it.collides(family)));
        colliding
            .filter_map(|socket| Some(Socket::new(socket.as_fd())?.0))
            .collect()
    }
}

/// Where to put the socket for a detour; nothing if it is, or will be by its address, on a device.
fn free_device(socket: Socket<'_>, address: &SocketAddr) -> io::Result<Option<u32>> {
    let is_free = socket.device()? == 0;
    Ok(is_free.then(|| address::detour_device(address)).flatten())
}

/// Whether binding would work, tried on another socket: one that is on a device already and then is
/// not bound could not be freed from it.
fn rehearse(socket: Socket<'_>, address: &SocketAddr) -> io::Result<()> {
    let family = match (socket.is_v6()?, socket.is_v6_only()?) {
        (false, _) => Family::V4,
        (true, true) => Family::V6Only,
        (true, false) => Family::Both,
    };
    let rehearsal = plain(Transport::Tcp, family)?;
    let (rehearsal, _) = Socket::new(rehearsal.as_fd())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSOCK))?;
    rehearsal.set_reuses_address(socket.reuses_address()?)?;
    rehearsal.set_device(LOOPBACK_DEVICE)?;
    rehearsal.bind(address)
}

/// Bound with `SO_REUSEADDR`, to be let in by connections that ended; a live socket still refuses.
fn regained(transport: Transport, family: Family, port: u16) -> io::Result<OwnedFd> {
    let socket = plain(transport, family)?;
    let (options, _) =
        Socket::new(socket.as_fd()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTSOCK))?;
    options.set_reuses_address(true)?;
    bind_to(&socket, family, port)?;
    options.set_reuses_address(false)?;
    Ok(socket)
}

/// The addresses that collide with `address` on this socket.
fn family_of(socket: Socket<'_>, address: &SocketAddr) -> io::Result<Family> {
    Ok(match address {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => Family::V4,
        SocketAddr::V6(v6) if v6.ip().is_unspecified() && !socket.is_v6_only()? => Family::Both,
        SocketAddr::V6(_) => Family::V6Only,
    })
}

fn family_of_held(socket: &OwnedFd) -> Option<Family> {
    let (socket, _) = Socket::new(socket.as_fd())?;
    Some(match (socket.is_v6().ok()?, socket.is_v6_only().ok()?) {
        (false, _) => Family::V4,
        (true, true) => Family::V6Only,
        (true, false) => Family::Both,
    })
}

fn is_in_use(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}

fn answer_of(technique: Technique) -> Answer {
    match technique {
        Technique::Refused => Answer::Fail(libc::EACCES),
        _ => Answer::Done,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn a_server_past_both_windows_is_alone_whoever_got_in() {
        for (at_bind, is_before) in [(true, true), (true, false), (false, true), (false, false)] {
            let guard = Guard::hold_any(Transport::Tcp).expect("hold");
            let port = guard.port().number();
            let mut held = Held::new(guard, false).expect("held");
            let server = plain(Transport::Tcp, Family::V4).expect("socket");
            let (socket, _) = Socket::new(server.as_fd()).expect("a socket");
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let mut intruders = Vec::new();
            let mut pass = |is_entered: bool, act: &dyn Fn() -> io::Result<()>| {
                held.window(socket, &address, || {
                    if is_entered && is_before {
                        intruders.push(entered(port));
                    }
                    act()?;
                    if is_entered && !is_before {
                        intruders.push(entered(port));
                    }
                    Ok(())
                })
            };
            pass(at_bind, &|| socket.bind(&address)).expect("bind");
            pass(!at_bind, &|| socket.listen(1)).expect("listen");
            let when = format!("at bind {at_bind}, before {is_before}");
            let intruder = intruders.pop().expect("it tried");
            // A server that listens lets in nobody, even while its guard does.
            assert_eq!(intruder.is_ok(), at_bind || is_before, "{when}");
            entered(port).expect_err("another one");
            if let Ok(intruder) = intruder {
                rustix::net::listen(&intruder, 1).expect_err("the one that got in");
            }
        }
    }

    /// Somebody of the same user with both options, who has the best chances.
    fn entered(port: u16) -> io::Result<OwnedFd> {
        let socket = plain(Transport::Tcp, Family::V4)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        bind_to(&socket, Family::V4, port)?;
        Ok(socket)
    }
}
