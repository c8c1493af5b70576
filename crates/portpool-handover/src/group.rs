//! Guarded ports with the same rules, for the same processes: those of this supervisor, and those of
//! each one inside it that has asked this one to serve them.

use std::{
    collections::BTreeMap,
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process,
    sync::{Arc, Mutex},
};

use portpool_core::{Port, Transport};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use crate::{
    Guard, Options,
    ancestry::is_of_tree,
    guard::Twins,
    held::Held,
    message::{Reply, Request, USE_COUNT_MAX},
    packet,
    socket::Socket,
    spawn::locked,
    supervisor::Log,
};

/// A port of a transport.
pub(crate) type Key = (Transport, Port);

/// Ports and the processes that may have them.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) held: BTreeMap<Key, Held>,
    pub(crate) options: Options,
    pub(crate) log: Arc<Mutex<Log>>,
    /// Nothing for the program of this supervisor.
    guest: Option<Guest>,
}

/// A supervisor inside this one.
#[derive(Debug)]
struct Guest {
    connection: OwnedFd,
    process: u32,
    /// Guards that are not served yet.
    brought: BTreeMap<Key, Guard>,
}

impl Group {
    pub(crate) fn own(held: BTreeMap<Key, Held>, options: Options) -> Group {
        Group {
            held,
            options,
            log: Arc::default(),
            guest: None,
        }
    }

    /// For who has come in, if that is a process of ours.
    pub(crate) fn of_guest(connection: OwnedFd) -> Option<Group> {
        let process = packet::peer(&connection).ok()?;
        let is_ours = process != process::id() && is_of_tree(process, process::id());
        is_ours.then(|| Group {
            held: BTreeMap::new(),
            options: Options::default(),
            log: Arc::default(),
            guest: Some(Guest {
                connection,
                process,
                brought: BTreeMap::new(),
            }),
        })
    }

    pub(crate) fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.guest.as_ref().map(|guest| guest.connection.as_fd())
    }

    /// Whether this thread is of a process that may have the ports.
    pub(crate) fn is_for(&self, thread: u32) -> bool {
        let guest = self.guest.as_ref();
        guest.is_none_or(|guest| is_of_tree(thread, guest.process))
    }

    /// Does what the guest asks for, and answers; an error if it is gone or talks nonsense.
    pub(crate) fn attend(
        &mut self,
        may_untie: bool,
        is_taken: impl Fn(Key) -> bool,
    ) -> io::Result<()> {
        let Some(guest) = &self.guest else {
            return Ok(());
        };
        let received = packet::receive(&guest.connection, RecvFlags::DONTWAIT)?;
        let (bytes, sockets) = received.ok_or(Errno::CONNRESET)?;
        let request = Request::from_bytes(&bytes).ok_or(Errno::PROTO)?;
        let reply = match self.obey(request, sockets, may_untie, is_taken) {
            Ok(reply) => reply,
            Err(error) => Reply::Refused(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        match &self.guest {
            Some(guest) => packet::send(
                &guest.connection,
                &reply.to_bytes(),
                &[],
                SendFlags::DONTWAIT,
            ),
            None => Ok(()),
        }
    }

    fn obey(
        &mut self,
        request: Request,
        sockets: Vec<OwnedFd>,
        may_untie: bool,
        is_taken: impl Fn(Key) -> bool,
    ) -> io::Result<Reply> {
        let guest = self.guest.as_mut().ok_or(Errno::INVAL)?;
        match request {
            Request::Guard {
                transport,
                port,
                has_v4,
                has_v6,
            } => {
                let key = (transport, port);
                if is_taken(key) || guest.brought.contains_key(&key) {
                    return Err(Errno::EXIST.into());
                }
                let mut sockets = sockets.into_iter();
                let socket = sockets.next().ok_or(Errno::INVAL)?;
                let guard = Guard::new(transport, port, socket);
                let mut guard = guard.map_err(|_| Errno::INVAL)?;
                let mut twin = |is_sent: bool| match is_sent.then(|| sockets.next()).flatten() {
                    // Not whatever else a descriptor may stand for.
                    Some(twin) if Socket::new(twin.as_fd()).is_some() => Ok(Some(twin)),
                    None if !is_sent => Ok(None),
                    _ => Err(Errno::INVAL),
                };
                guard.twins = Twins {
                    v4: twin(has_v4)?,
                    v6: twin(has_v6)?,
                };
                guest.brought.insert(key, guard);
            }
            Request::Serve(options) => {
                self.options = options;
                for (key, guard) in mem::take(&mut guest.brought) {
                    self.held.insert(key, Held::new(guard, may_untie)?);
                }
            }
            Request::Report { from } => {
                let uses = locked(&self.log).uses().into_iter();
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                return Ok(Reply::Uses(uses.skip(from).take(USE_COUNT_MAX).collect()));
            }
            Request::End => self.held.clear(),
        }
        Ok(Reply::Done)
    }
}
