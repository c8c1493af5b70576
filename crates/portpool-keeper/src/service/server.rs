//! Accepting connections, a thread for each, and turning away what is too much.

use std::{io, sync::Arc, thread, time::Instant};

use portpool_varlink::{Connection, Fault, Peer, Reply};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    KeeperError,
    keeper::Keeper,
    limits::{CONNECTIONS_MAX, CONNECTIONS_PER_UID_MAX, STACK_SIZE},
    listener::Listener,
    session::Session,
    stop::Stop,
};

/// Serves until it is told to stop.
pub(super) fn serve(
    keeper: &Arc<Keeper>,
    listener: &Listener,
    stop: &Stop,
) -> Result<(), KeeperError> {
    loop {
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(KeeperError::step(
                    "wait for connections".to_owned(),
                    error.into(),
                ));
            }
        }
        if stop.is_asked() {
            return Ok(());
        }
        match listener.accept() {
            Ok(None) => {}
            Ok(Some(socket)) => welcome(keeper, Connection::new(socket)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of descriptors or memory: what is open goes on, and this must not spin.
                stop.wait(ACCEPT_PAUSE);
            }
        }
    }
}

fn welcome(keeper: &Arc<Keeper>, mut connection: Connection) {
    let peer = match Peer::of(&connection) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(%error, "a peer went before it was seen");
            return;
        }
    };
    let Some(seat) = keeper.seats.take(peer.uid) else {
        keeper.metrics.turned_away();
        tracing::debug!(uid = peer.uid, pid = peer.pid, "turned away");
        return turn_away(&mut connection);
    };
    let (uid, pid) = (peer.uid, peer.pid);
    let keeper = Arc::clone(keeper);
    let builder = thread::Builder::new()
        .name("peer".to_owned())
        .stack_size(STACK_SIZE);
    let started: io::Result<_> = builder.spawn(move || {
        Session::new(keeper, connection, peer).run();
        drop(seat);
    });
    if let Err(error) = started {
        tracing::warn!(%error, uid, pid, "cannot start a thread for a connection");
    }
}

/// The answer to the call that is on its way, without waiting for it or for anything.
fn turn_away(connection: &mut Connection) {
    let fault = Fault::TooMany(format!(
        "the keeper takes {CONNECTIONS_MAX} connections, {CONNECTIONS_PER_UID_MAX} of one user: close some \
         or try again later"
    ));
    let reply = Reply {
        error: Some(fault.name().to_owned()),
        parameters: Some(fault.parameters()),
        continues: false,
    };
    // Whoever is gone already does not hear it.
    drop(connection.send(&reply, &[], Instant::now()));
}

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
