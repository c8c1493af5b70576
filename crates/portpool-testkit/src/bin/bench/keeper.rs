//! What asking the keeper costs, against the least that any two processes could do.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use portpool::{Transport, Transports};
use portpool_varlink::{
    Client, SOCKET_NAME,
    calls::{Acquire, Describe},
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::{
    meter::{Subject, compare},
    report::Report,
    stage::{POOL_FIRST, Side, Stage, range, socket},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    let keeper = Keeper::start(stage);
    let mut client = keeper.client();
    let passed = socket(Transport::Tcp);
    // Ports that automatic choice cannot pick: what is measured is the asking, not the sweep of all
    // sockets that a window takes.
    let call = Acquire {
        socket: Some(0),
        ..Acquire::exactly(Transports::Tcp, range(POOL_FIRST + 1, 1))
    };
    let measured = Subject::new(Side::Guarded, 4, || {
        let granted = client.call_with(&call, &[passed.as_fd()], Some(PATIENCE));
        assert!(granted.expect("granted").deadline.is_none());
    });
    let (own, other) = pair();
    let pong = thread::spawn(move || pong(&other));
    let baseline = Subject::new(Side::Guarded, 4, || {
        send(&own, passed.as_fd()).expect("ping");
        assert!(receive(&own).is_some(), "pong");
    });
    let found = compare(stage, measured, baseline);
    report.add("keeper/acquire_round_trip", 2.5, found);
    drop(own);
    pong.join().expect("pong");
}

/// The keeper as a process of its own, on the same processor.
struct Keeper {
    child: Child,
    path: std::path::PathBuf,
}

impl Keeper {
    fn start(stage: &Stage) -> Keeper {
        // Its sockets are to be guarded like those of whoever asks.
        stage.enter(Side::Guarded);
        let own = std::env::current_exe().expect("own path");
        let child = Command::new(own.with_file_name("portpool"))
            .args(["keeper", "--private-mounts"])
            .env("PORTPOOL_RUN_DIR", stage.run())
            .env(
                "PORTPOOL_STATE_DIR",
                stage.run().with_file_name("bench-state"),
            )
            .env("PORTPOOL_LOG", "error")
            .stdin(Stdio::null())
            .spawn()
            .expect("start the keeper: `cargo xtask bench` builds it");
        let path = stage.run().join(SOCKET_NAME);
        Keeper { child, path }
    }

    fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Client::connect(&self.path, PATIENCE)
                && client.call(&Describe {}, Some(PATIENCE)).is_ok()
            {
                return client;
            }
            assert!(Instant::now() < deadline, "the keeper does not answer");
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, with a deadline"
            )]
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socketpair(family, kind, SocketFlags::CLOEXEC, None).expect("socketpair")
}

/// Answers each message with a descriptor by one with a descriptor, until the other side closes.
fn pong(socket: &OwnedFd) {
    while let Some(descriptor) = receive(socket) {
        if send(socket, descriptor.as_fd()).is_err() {
            return;
        }
    }
}

fn send(socket: &OwnedFd, descriptor: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(
        socket,
        &[IoSlice::new(&[0; 64])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    })
}

const PATIENCE: Duration = Duration::from_secs(60);
