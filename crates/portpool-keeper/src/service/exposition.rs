//! Where the metrics are read: one small HTTP answer to whatever GET, on a Unix socket or a loopback port.
//!
//! No server of files, no keep-alive, nothing of what is asked is looked at beyond its first line.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{KeeperError, limits::STACK_SIZE};

/// Where metrics are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A Unix socket, for its owner and group.
    Unix(PathBuf),
    /// A port of a loopback address.
    Loopback(SocketAddr),
}

impl FromStr for MetricsAddress {
    type Err = String;

    /// # Errors
    /// Anything but `unix:PATH` and a loopback address with a port.
    fn from_str(text: &str) -> Result<MetricsAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("a path is missing after unix:".to_owned()),
                path => Ok(MetricsAddress::Unix(path.into())),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsAddress::Loopback(address)),
            Ok(_) => Err(
                "metrics say who holds which ports: give a loopback address such as 127.0.0.1:9000"
                    .to_owned(),
            ),
            Err(_) => {
                Err("expected unix:PATH or a loopback address such as 127.0.0.1:9000".to_owned())
            }
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetricsAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            MetricsAddress::Loopback(address) => address.fmt(f),
        }
    }
}

/// Serves `text` at the address in a thread of its own, until this process ends.
///
/// # Errors
/// If it cannot be listened there.
pub(super) fn serve(
    address: &MetricsAddress,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> Result<(), KeeperError> {
    let failed = |cause| KeeperError::step(format!("listen for metrics at {address}"), cause);
    let text = Arc::new(text);
    match address {
        MetricsAddress::Unix(path) => {
            let listener = listen_at(path).map_err(failed)?;
            spawn("metrics", move || {
                accept_all(|| listener.accept().map(|(stream, _)| stream), &text);
            })
        }
        MetricsAddress::Loopback(address) => {
            let listener = TcpListener::bind(address).map_err(failed)?;
            spawn("metrics", move || {
                accept_all(|| listener.accept().map(|(stream, _)| stream), &text);
            })
        }
    }
}

/// A stream that waits no longer than told.
trait Patience: Read + Write + Send + 'static {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()>;
}

impl Patience for std::os::unix::net::UnixStream {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

impl Patience for std::net::TcpStream {
    fn limit(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

fn listen_at(path: &PathBuf) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        // Of an earlier keeper; anything else stays.
        Ok(it) if it.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn accept_all<S: Patience, T: Fn() -> String + Send + Sync + 'static>(
    mut accept: impl FnMut() -> io::Result<S>,
    text: &Arc<T>,
) {
    let readers = Arc::new(AtomicU32::new(0));
    loop {
        let Ok(mut stream) = accept() else {
            // Out of descriptors or memory: whoever waits keeps waiting.
            pause();
            continue;
        };
        // Who is slow takes the place of a reader, never of this loop.
        if readers.fetch_add(1, Ordering::Relaxed) >= READERS_MAX {
            readers.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (text, readers_then) = (Arc::clone(text), Arc::clone(&readers));
        let started = spawn("metrics-reader", move || {
            if let Err(error) = answer(&mut stream, &*text) {
                tracing::debug!(%error, "metrics were not read");
            }
            // Before it closes: who has the whole answer may come again.
            readers_then.fetch_sub(1, Ordering::Relaxed);
            drop(stream);
        });
        if started.is_err() {
            readers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn answer(stream: &mut impl Patience, text: &impl Fn() -> String) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut request = Vec::new();
    while !request.windows(4).any(|it| it == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || request.len() > REQUEST_SIZE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.limit(left, ANSWER_TIMEOUT)?;
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            size => request.extend_from_slice(&chunk[..size]),
        }
    }
    let (status, body) = match request.starts_with(b"GET ") {
        true => ("200 OK", text()),
        false => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n\
         Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), KeeperError> {
    let builder = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_SIZE);
    let started = builder.spawn(run);
    started
        .map(drop)
        .map_err(|cause| KeeperError::step(format!("start the thread {name}"), cause))
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells when descriptors are to be had again"
)]
fn pause() {
    thread::sleep(Duration::from_millis(50));
}

const READERS_MAX: u32 = 8;
const REQUEST_SIZE_MAX: usize = 8 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn metrics_are_told_on_loopback_and_unix_sockets_only() {
        for text in [
            "127.0.0.1:9000",
            "[::1]:9000",
            "unix:/run/portpool/metrics.sock",
        ] {
            assert_eq!(text.parse::<MetricsAddress>().unwrap().to_string(), text);
        }
        for text in [
            "0.0.0.0:9000",
            "192.0.2.1:9000",
            "[::]:9000",
            "9000",
            "unix:",
            "",
        ] {
            assert!(text.parse::<MetricsAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn whoever_asks_as_http_does_gets_the_text() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("metrics.sock");
        serve(&MetricsAddress::Unix(path.clone()), || {
            "portpool_x 1\n# EOF\n".to_owned()
        })
        .unwrap();
        let ask = |request: &str| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nportpool_x 1\n# EOF\n"),
            "{answer}"
        );
        assert!(ask("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        // Readers that say nothing do not keep others out.
        let _silent: Vec<_> = (2..READERS_MAX)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        assert!(ask("GET / HTTP/1.0\r\n\r\n").ends_with("# EOF\n"));
    }
}
