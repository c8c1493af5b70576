//! Users without a right to a port, as threads of the test with a uid of their own.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use socket2::{SockAddr, Socket, Type};

use crate::{Errno, sys::become_uid};

/// What one bind of a TCP socket with each option got, as another user.
///
/// For every address a bind without options, with `SO_REUSEADDR`, and with both reuse options.
pub fn bind_as(uid: u32, addresses: &[SocketAddr]) -> Vec<(SocketAddr, Result<(), Errno>)> {
    thread::scope(|scope| {
        let binds = scope.spawn(|| {
            become_uid(uid).expect("another uid");
            let options = [(false, false), (true, false), (true, true)];
            let all = addresses
                .iter()
                .flat_map(|it| options.map(|options| (*it, options)));
            all.map(|(address, (reuses_address, reuses_port))| {
                let bound = bound(&address.into(), reuses_address, reuses_port);
                let number = |error: io::Error| Errno(error.raw_os_error().unwrap_or(0));
                (address, bound.map(drop).map_err(number))
            })
            .collect()
        });
        binds.join().expect("the thread of another user")
    })
}

/// Binds and listens on one TCP address with both reuse options, over and over.
#[derive(Debug)]
pub struct Spinner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    tries: AtomicU64,
    binds: AtomicU64,
    listens: AtomicU64,
}

/// How often somebody tried, bound, and then listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wins {
    /// Sockets it tried with.
    pub tries: u64,
    /// How many of them it bound.
    pub binds: u64,
    /// How many of those listened.
    pub listens: u64,
}

impl Spinner {
    /// Starts to spin as this user; returns once the first try is over.
    pub fn start(uid: u32, address: SocketAddr) -> Spinner {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            become_uid(uid).expect("another uid");
            while !own.is_over.load(Ordering::Relaxed) {
                own.spin(&address.into());
            }
        });
        while shared.tries.load(Ordering::Relaxed) == 0 && !thread.is_finished() {
            thread::yield_now();
        }
        let thread = Some(thread);
        Spinner { shared, thread }
    }

    /// Ends it.
    pub fn end(mut self) -> Wins {
        self.stop().expect("the spinning thread");
        Wins {
            tries: self.shared.tries.load(Ordering::Relaxed),
            binds: self.shared.binds.load(Ordering::Relaxed),
            listens: self.shared.listens.load(Ordering::Relaxed),
        }
    }

    fn stop(&mut self) -> thread::Result<()> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It has ended, unless a test failed.
        drop(self.stop());
    }
}

impl Shared {
    fn spin(&self, address: &SockAddr) {
        if let Ok(socket) = bound(address, true, true) {
            self.binds.fetch_add(1, Ordering::Relaxed);
            let listens = u64::from(socket.listen(1).is_ok());
            self.listens.fetch_add(listens, Ordering::Relaxed);
        }
        self.tries.fetch_add(1, Ordering::Relaxed);
    }
}

fn bound(address: &SockAddr, reuses_address: bool, reuses_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    socket.set_reuse_address(reuses_address)?;
    socket.set_reuse_port(reuses_port)?;
    socket.bind(address)?;
    Ok(socket)
}
