//! Sockets that strangers got from elsewhere, or had before.

use std::{io::IoSlice, mem::MaybeUninit, os::fd::OwnedFd};

use portpool_testkit::{Actor, Errno, in_arena, in_bare_arena};
use rustix::{
    net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use socket2::Socket;

use crate::common::{ACTOR, Kind, V4, V6, bind, connect, counted, errno, owner, port_of};

#[test]
fn an_associated_socket_is_worth_nothing_in_the_hands_of_a_stranger() {
    in_arena!(|_| {
        let mut owner = owner(20_000, 4);
        for (kind, token) in [("tcp4", 7), ("udp4", 8)] {
            owner
                .ask_all(&[&format!("socket a {kind}"), &format!("associate a {token}")])
                .expect("associate");
            let socket = taken_from(&mut owner, "a");
            for port in [20_001, 0] {
                assert_eq!(errno(bind(&socket, V4, port)), Some(Errno::ACCES));
                let copy = socket.try_clone().expect("dup");
                assert_eq!(errno(bind(&copy, V4, port)), Some(Errno::ACCES));
                let sent = through_a_socket(&socket);
                assert_eq!(errno(bind(&sent, V4, port)), Some(Errno::ACCES));
            }
            assert_eq!(errno(connect(&socket, V4, 9)), Some(Errno::ACCES));
            assert_eq!(port_of(&socket), 0, "{kind}");
            owner.ask("bind a 127.0.0.1:0").expect("the owner's bind");
            assert_eq!(port_of(&socket), 20_000);
        }
    });
}

#[test]
fn the_owner_socket_gives_no_right_to_a_stranger_that_shares_it() {
    in_arena!(|_| {
        let mut owner = owner(20_000, 4);
        for (name, kind) in [("t", Kind::Tcp), ("u", Kind::Udp)] {
            let socket = taken_from(&mut owner, name);
            assert_eq!(errno(bind(&socket, V4, 20_001)), Some(Errno::ACCES));
            // While it is open here the reservation outlives its process, and still nobody else may.
            let other = kind.open(V4);
            owner.ask(&format!("close {name}")).expect("close");
            assert_eq!(errno(bind(&other, V4, 20_001)), Some(Errno::ACCES));
            drop(socket);
            assert_eq!(errno(bind(&other, V4, 20_001)), None);
        }
    });
}

#[test]
fn a_socket_made_before_the_reservation_is_refused_after_it() {
    in_arena!(|_| {
        let sockets: Vec<(Kind, Socket)> = Kind::ALL.map(|kind| (kind, kind.open(V4))).into();
        for (_, socket) in &sockets {
            socket.set_reuse_address(true).expect("SO_REUSEADDR");
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
        }
        let _owner = owner(20_000, 4);
        for (kind, socket) in &sockets {
            assert_eq!(
                errno(bind(socket, V4, 20_001)),
                Some(Errno::ACCES),
                "{kind:?}"
            );
        }
    });
}

#[test]
fn a_socket_made_before_the_attach_is_refused_after_it() {
    in_bare_arena!(|arena| {
        let sockets: Vec<(Kind, Socket)> = Kind::ALL
            .into_iter()
            .flat_map(|kind| [(kind, kind.open(V4)), (kind, kind.open(V6))])
            .collect();
        arena.attach();
        let _owner = owner(20_000, 4);
        for (kind, socket) in &sockets {
            let address = socket.local_addr().expect("getsockname");
            let ip = address.as_socket().map_or(V4, |address| match address {
                std::net::SocketAddr::V4(_) => V4,
                std::net::SocketAddr::V6(_) => V6,
            });
            assert_eq!(
                errno(bind(socket, ip, 20_001)),
                Some(Errno::ACCES),
                "{kind:?}"
            );
        }
    });
}

#[test]
fn a_disconnected_socket_is_refused_like_a_new_one() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        let listener = std::net::TcpListener::bind((V4, 0)).expect("listener");
        let peer = listener.local_addr().expect("address").port();
        for (kind, ip) in [(Kind::Tcp, V4), (Kind::Udp, V4), (Kind::Udp, V6)] {
            for bound_first in [false, true] {
                let socket = kind.open(ip);
                socket.set_reuse_address(true).expect("SO_REUSEADDR");
                if bound_first {
                    bind(&socket, ip, 0).expect("bind to any port");
                }
                connect(&socket, ip, peer).expect("connect");
                // The port is given back, though getsockname may go on naming it.
                disconnect(&socket);
                assert_eq!(
                    errno(bind(&socket, ip, 20_001)),
                    Some(Errno::ACCES),
                    "{kind:?} {ip} bound first: {bound_first}"
                );
                assert_eq!(counted(&pool, kind.transport(), 20_001), 0);
            }
        }
    });
}

#[test]
fn a_child_of_the_owner_is_a_stranger_without_tree_scope() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _block = crate::common::claim_range(&pool, portpool::Transport::Tcp, 20_000, 4);
        let mut child = Actor::start(ACTOR);
        child.ask("socket s tcp4").expect("socket");
        assert_eq!(child.ask("bind s 127.0.0.1:20001"), Err(Errno::ACCES));
    });
}

/// The socket of an actor, as if it had been handed over.
fn taken_from(actor: &mut Actor, name: &str) -> Socket {
    let number = actor.ask(&format!("fd {name}")).expect("its descriptor");
    descriptor_of(actor.pid(), &number)
}

/// A copy of another process's descriptor.
pub(crate) fn descriptor_of(pid: u32, number: &str) -> Socket {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open");
    let number = number.parse().expect("a descriptor");
    let socket: OwnedFd =
        pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()).expect("pidfd_getfd");
    Socket::from(socket)
}

/// The same socket after a passage as SCM_RIGHTS.
fn through_a_socket(socket: &Socket) -> Socket {
    let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let descriptors = [std::os::fd::AsFd::as_fd(socket)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(
        &near,
        &[IoSlice::new(b"x")],
        &mut message,
        SendFlags::empty(),
    )
    .expect("sendmsg");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [std::io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(&far, &mut data, &mut message, RecvFlags::empty()).expect("recvmsg");
    let arrived = message.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Socket::from(arrived.expect("a descriptor"))
}

fn disconnect(socket: &Socket) {
    rustix::net::connect_unspec(socket).expect("connect to AF_UNSPEC");
}
