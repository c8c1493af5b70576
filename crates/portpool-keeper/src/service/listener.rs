//! The keeper's socket: one keeper a run directory, whoever made the socket.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use portpool_varlink::SOCKET_NAME;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
    net::{SocketFlags, accept_with, sockopt::socket_acceptconn},
};

use super::KeeperError;

/// A listening socket and the right to serve it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    /// What to remove at the end; a socket that was passed is its maker's.
    path: Option<PathBuf>,
    /// Ends with the process, however that ends.
    _lock: File,
}

impl Listener {
    /// The socket that was passed, else one of its own.
    ///
    /// # Errors
    /// [`KeeperError::AnotherKeeper`] if one serves this run directory.
    pub(super) fn open(
        run_dir: &Path,
        passed: Option<UnixListener>,
    ) -> Result<Listener, KeeperError> {
        let lock = lock(&run_dir.join(LOCK_NAME))?;
        if let Some(socket) = passed {
            return Ok(Listener {
                socket,
                path: None,
                _lock: lock,
            });
        }
        let path = run_dir.join(SOCKET_NAME);
        // Whoever has the lock is the only keeper here: what lies about is of one that died. Made
        // aside and moved into place, so that nobody finds it before it listens.
        let aside = run_dir.join(format!("{SOCKET_NAME}.new"));
        let made = || -> io::Result<UnixListener> {
            remove(&aside)?;
            let socket = UnixListener::bind(&aside)?;
            // Everybody may ask; what they may have is judged by who they are.
            fs::set_permissions(&aside, Permissions::from_mode(0o666))?;
            socket.set_nonblocking(true)?;
            fs::rename(&aside, &path)?;
            Ok(socket)
        };
        let socket = made()
            .map_err(|cause| KeeperError::step(format!("listen at {}", path.display()), cause))?;
        Ok(Listener {
            socket,
            path: Some(path),
            _lock: lock,
        })
    }

    /// A connection, if one waits.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(connection) => Ok(Some(connection)),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // There is nobody left to tell, and the next keeper takes a stale one away.
            drop(remove(path));
        }
    }
}

/// The socket that systemd, or whoever started this process, listens on already. To be called before
/// anything is opened: what is promised and not there would be taken for what got its number.
pub(super) fn passed() -> Result<Option<UnixListener>, KeeperError> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(None),
        1 => {}
        count => return Err(KeeperError::PassedSockets(count)),
    }
    let failed = |cause| KeeperError::step("take the socket of LISTEN_FDS".to_owned(), cause);
    let socket = passed.take_unix_listener(0).map_err(failed)?;
    if let Some(socket) = &socket {
        if !socket_acceptconn(socket).is_ok_and(|listens| listens) {
            return Err(failed(io::Error::other(
                "descriptor 3 is no socket that listens",
            )));
        }
        socket.set_nonblocking(true).map_err(failed)?;
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)
            .map_err(|error| failed(error.into()))?;
    }
    Ok(socket)
}

fn lock(path: &Path) -> Result<File, KeeperError> {
    let failed = |error: io::Error| KeeperError::step(format!("lock {}", path.display()), error);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let mut file = File::from(file);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            drop((&file).take(20).read_to_string(&mut pid));
            return Err(KeeperError::AnotherKeeper {
                run_dir: path.parent().unwrap_or(path).to_owned(),
                pid: pid.trim().parse().ok(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    let note = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    note(&mut file).map_err(failed)?;
    Ok(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

const LOCK_NAME: &str = "keeper.lock";

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_second_keeper_is_refused_and_told_of_the_first() {
        let folder = TempDir::new().unwrap();
        let first = Listener::open(folder.path(), None).unwrap();
        let error = Listener::open(folder.path(), None).unwrap_err();
        let pid = std::process::id();
        assert!(
            error.to_string().contains(&format!("process {pid}")),
            "{error}"
        );
        drop(first);
        assert!(!folder.path().join(SOCKET_NAME).exists());
        Listener::open(folder.path(), None).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(SOCKET_NAME);
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(folder.path().join("keeper.sock.new")).unwrap());
        let listener = Listener::open(folder.path(), None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        assert!(listener.accept().unwrap().is_none());
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
    }
}
