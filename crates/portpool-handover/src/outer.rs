//! The supervisor around this one, which serves our program as well: the kernel allows one listener
//! over a process.

use std::{
    env, fs, io,
    os::fd::{AsFd, OwnedFd},
    process,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use crate::{
    Error, Guard, Options, SUPERVISED_VARIABLE, Use,
    ancestry::is_of_tree,
    message::{Reply, Request},
    packet,
};

/// A connection to it, for as long as our guards are to be served.
#[derive(Debug)]
pub(crate) struct Outer(OwnedFd);

impl Outer {
    /// Whether there is one. The variable alone may have been handed on by hand; the filter alone may
    /// be anybody's.
    pub(crate) fn is_there() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let is_filtered = status.lines().any(|line| line.trim_end() == "Seccomp:\t2");
        is_filtered && env::var_os(SUPERVISED_VARIABLE).is_some()
    }

    /// Hands it the guards.
    pub(crate) fn ask(guards: Vec<Guard>, options: &Options) -> Result<Outer, Error> {
        let name = env::var(SUPERVISED_VARIABLE).map_err(|_| Error::Nested)?;
        // In another network namespace, for one, it cannot be reached.
        let connection = packet::enter(&name).map_err(|_| Error::Nested)?;
        let peer = packet::peer(&connection).map_err(|_| Error::Nested)?;
        if !is_of_tree(process::id(), peer) {
            return Err(Error::Nested);
        }
        let outer = Outer(connection);
        for guard in guards {
            let (transport, port) = (guard.transport, guard.port);
            match outer.give(guard).map_err(Error::of("sendmsg"))? {
                Reply::Done => {}
                Reply::Refused(libc::EEXIST) => return Err(Error::OfOuter { transport, port }),
                _ => return Err(Error::Nested),
            }
        }
        match outer.request(Request::Serve(*options)) {
            Ok(Reply::Done) => Ok(outer),
            _ => Err(Error::Nested),
        }
    }

    /// How the ports were handed over so far, as far as it still says.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        loop {
            let from = u32::try_from(uses.len()).unwrap_or(u32::MAX);
            match self.request(Request::Report { from }) {
                Ok(Reply::Uses(more)) if !more.is_empty() => uses.extend(more),
                _ => return uses,
            }
        }
    }

    /// Has it let go of the guards; they are gone when this returns.
    pub(crate) fn end(self) {
        // Without an answer it is gone itself, and they with it.
        let _ = self.request(Request::End);
    }

    fn give(&self, guard: Guard) -> io::Result<Reply> {
        let twins = [&guard.twins.v4, &guard.twins.v6];
        let [has_v4, has_v6] = twins.map(Option::is_some);
        let request = Request::Guard {
            transport: guard.transport,
            port: guard.port,
            has_v4,
            has_v6,
        };
        let mut sockets = vec![guard.socket.as_fd()];
        sockets.extend(twins.into_iter().flatten().map(AsFd::as_fd));
        packet::send(&self.0, &request.to_bytes(), &sockets, SendFlags::empty())?;
        // A guard that is swapped in for a socket must have no second descriptor.
        drop(guard);
        self.reply()
    }

    fn request(&self, request: Request) -> io::Result<Reply> {
        packet::send(&self.0, &request.to_bytes(), &[], SendFlags::empty())?;
        self.reply()
    }

    fn reply(&self) -> io::Result<Reply> {
        let received = packet::receive(&self.0, RecvFlags::empty())?;
        let (bytes, _) = received.ok_or(Errno::CONNRESET)?;
        Reply::from_bytes(&bytes).ok_or(Errno::PROTO.into())
    }
}
