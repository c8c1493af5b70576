//! Peers that mean harm, and peers that are broken: nobody else waits for them.

use std::{
    fs,
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use portpool_testkit::{Arena, in_arena};
use portpool_varlink::{
    Client, Fault,
    calls::{Describe, List},
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::kit::{Keeper, LONG, until};

#[test]
fn who_never_reads_keeps_nobody_waiting() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut deaf: Vec<UnixStream> = (0..16).map(|_| connect(&keeper)).collect();
        for stream in &mut deaf {
            stream.set_nonblocking(true).unwrap();
            // More calls than the answers to them have room for.
            while stream.write(b"{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"io.portpool\"}}\0").is_ok() {}
        }
        answers(&keeper);
        // They are put out, and their places are free again.
        for stream in &mut deaf {
            until("it is put out", || {
                rustix::event::poll(
                    &mut [rustix::event::PollFd::new(
                        &*stream,
                        rustix::event::PollFlags::HUP,
                    )],
                    Some(&rustix::event::Timespec::default()),
                ) == Ok(1)
            });
        }
        answers(&keeper);
    });
}

#[test]
fn half_messages_large_messages_and_nonsense_end_only_their_own_connection() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut halves: Vec<UnixStream> = (0..16).map(|_| connect(&keeper)).collect();
        for stream in &mut halves {
            stream.write_all(b"{\"method\":\"io.portpool.Li").unwrap();
        }
        let deep = [vec![b'['; 60_000], vec![0]].concat();
        let large = vec![b' '; 64 * 1024 + 1];
        let upgrade = b"{\"method\":\"io.portpool.Describe\",\"upgrade\":true}\0".to_vec();
        for nonsense in [
            deep,
            large,
            upgrade,
            b"\0".to_vec(),
            b"{}\0".to_vec(),
            b"\xff\0".to_vec(),
        ] {
            let mut stream = connect(&keeper);
            // It may be put out before it has said all.
            drop(stream.write_all(&nonsense));
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer));
            assert_eq!(answer, b"", "{:?}", &nonsense[..nonsense.len().min(50)]);
            answers(&keeper);
        }
        let largest = format!(
            "{{\"method\":\"io.portpool.Describe\"{}}}\0",
            " ".repeat(64 * 1024 - 33)
        );
        assert_eq!(largest.len(), 64 * 1024 + 1);
        let mut stream = connect(&keeper);
        stream.write_all(largest.as_bytes()).unwrap();
        let mut answer = [0; 14];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"{\"parameters\":");
        drop(halves);
        answers(&keeper);
    });
}

#[test]
fn a_hundred_descriptors_are_closed_in_the_keeper() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        answers(&keeper);
        let (probe, passed) = UnixStream::pair().unwrap();
        for count in [5, 100] {
            let stream = connect(&keeper);
            let passed = vec![passed.as_fd(); count];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(128))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
            let call = IoSlice::new(b"{\"method\":\"io.portpool.Describe\"}\0");
            sendmsg(&stream, &[call], &mut control, SendFlags::NOSIGNAL).unwrap();
            let mut answer = Vec::new();
            drop((&stream).read_to_end(&mut answer));
            assert_eq!(answer, b"");
        }
        // Within the limit they are kept for as long as the call lasts.
        let mut client = keeper.client();
        client
            .call_with(&Describe {}, &[passed.as_fd(); 4], Some(LONG))
            .unwrap();
        drop(passed);
        probe.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(rustix::io::read(&probe, &mut [0; 1]), Ok(0));
    });
}

#[test]
fn thousands_of_connections_of_one_user_leave_room_for_others() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let mut crowd = Crowd::start(&keeper, 3_000);
        let start = Instant::now();
        answers(&keeper);
        println!("answered after {:?}", start.elapsed());
        let other = Crowd::start(&keeper, 1);
        assert!(threads_of(&keeper) < 200, "{}", threads_of(&keeper));
        assert_eq!(crowd.turned_away, "TooMany");
        drop(other);
        crowd.end();
        until("their places are free", || threads_of(&keeper) < 20);
        answers(&keeper);
    });
}

#[test]
fn who_turns_away_says_so() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        // Root has more places than others, and an end as well.
        let crowd: Vec<UnixStream> = (0..600).map(|_| connect(&keeper)).collect();
        let answer = keeper
            .client()
            .call(&List::default(), Some(LONG))
            .unwrap_err();
        assert!(
            matches!(answer.fault(), Some(Fault::TooMany(_))),
            "{answer}"
        );
        drop(crowd);
        until("their places are free", || {
            keeper.client().call(&Describe {}, Some(LONG)).is_ok()
        });
    });
}

/// Connections of another user, from a process of its own.
struct Crowd {
    child: Child,
    turned_away: String,
}

impl Crowd {
    fn start(keeper: &Keeper, count: u32) -> Crowd {
        let program = "import resource, socket, sys\n\
            resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))\n\
            open_, error = [], ''\n\
            for n in range(int(sys.argv[2])):\n    \
                s = socket.socket(socket.AF_UNIX)\n    \
                s.connect(sys.argv[1])\n    \
                open_.append(s)\n\
            s.settimeout(1)\n\
            try: error = s.recv(4096).decode()\n\
            except OSError: pass\n\
            print('TooMany' if 'io.portpool.TooMany' in error else 'in', flush=True)\n\
            sys.stdin.read()\n";
        let mut child = Command::new("prlimit")
            .args([
                "--nofile=8192:8192",
                "setpriv",
                "--reuid=7000",
                "--regid=7000",
                "--clear-groups",
            ])
            .args(["/usr/bin/python3", "-c", program])
            .arg(keeper.socket())
            .arg(count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python3");
        let mut turned_away = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut turned_away).unwrap();
        let turned_away = turned_away.trim().to_owned();
        Crowd { child, turned_away }
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

/// The keeper answers a call on a new connection.
fn answers(keeper: &Keeper) {
    let mut client = Client::connect(keeper.socket(), LONG).unwrap();
    client.call(&Describe {}, Some(LONG)).unwrap();
}

fn connect(keeper: &Keeper) -> UnixStream {
    let stream = UnixStream::connect(keeper.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

fn threads_of(keeper: &Keeper) -> usize {
    fs::read_dir(format!("/proc/{}/task", keeper.pid()))
        .unwrap()
        .count()
}
