//! Sockets bound before the pool was attached are counted like all others.

use std::{fs, io::IoSlice, mem::MaybeUninit, os::fd::AsFd};

use portpool::{Pool, Refusal, Transport};
use portpool_testkit::{Actor, in_bare_arena};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use socket2::Socket;

use crate::common::{ACTOR, Kind, V4, V6, bind, claimable, connect, counted, in_use, port_of};

#[test]
fn sockets_bound_before_attach_keep_their_ports_until_they_are_closed() {
    in_bare_arena!(|arena| {
        let mut sockets: Vec<(Transport, Socket)> = Vec::new();
        let mut port = 20_000;
        for kind in Kind::ALL {
            for ip in [V4, V6] {
                for use_it in [only_bound, listening, connected] {
                    let socket = kind.open(ip);
                    bind(&socket, ip, port).expect("bind");
                    use_it(&socket, kind, ip);
                    sockets.push((kind.transport(), socket));
                    port += 1;
                }
            }
        }
        arena.attach();
        let pool = arena.pool();
        assert_eq!(in_use(&pool) as usize, sockets.len());
        arena.attach();
        for (transport, socket) in sockets {
            ends_with_its_socket(&pool, transport, socket);
        }
        assert_eq!(in_use(&pool), 0);
    });
}

#[test]
fn a_socket_shared_before_attach_is_counted_once_until_its_last_close() {
    in_bare_arena!(|arena| {
        let mut other = Actor::start(ACTOR);
        other
            .ask_all(&["socket s tcp4", "bind s 127.0.0.1:20000"])
            .expect("bind");
        let number = other.ask("fd s").expect("its descriptor");
        let shared = crate::passed::descriptor_of(other.pid(), &number);
        let copy = shared.try_clone().expect("dup");
        arena.attach();
        let pool = arena.pool();
        assert_eq!(counted(&pool, Transport::Tcp, 20_000), 1);
        for close in [
            Box::new(move || other.kill()) as Box<dyn FnOnce()>,
            Box::new(move || drop(shared)),
            Box::new(move || drop(copy)),
        ] {
            assert_eq!(
                claimable(&pool, Transport::Tcp, 20_000),
                Err(Refusal::InUse)
            );
            close();
        }
        assert_eq!(claimable(&pool, Transport::Tcp, 20_000), Ok(()));
    });
}

#[test]
fn a_group_bound_before_attach_is_counted_member_by_member() {
    in_bare_arena!(|arena| {
        let mut processes: Vec<Actor> = Vec::new();
        for _ in 0..5 {
            let mut process = Actor::start(ACTOR);
            process
                .ask_all(&[
                    "socket s udp4",
                    "option s reuseport",
                    "bind s 127.0.0.1:20000",
                ])
                .expect("join the group");
            processes.push(process);
        }
        arena.attach();
        let pool = arena.pool();
        for left in (1..=5).rev() {
            assert_eq!(counted(&pool, Transport::Udp, 20_000), left);
            assert_eq!(
                claimable(&pool, Transport::Udp, 20_000),
                Err(Refusal::InUse)
            );
            processes.pop().expect("a process").kill();
        }
        assert_eq!(claimable(&pool, Transport::Udp, 20_000), Ok(()));
    });
}

#[test]
fn a_socket_in_flight_during_attach_keeps_its_port() {
    in_bare_arena!(|arena| {
        let mut flights = Vec::new();
        for (port, kind, listens) in [
            (20_000, Kind::Udp, false),
            (20_001, Kind::Tcp, true),
            (20_002, Kind::Mptcp, true),
            (20_003, Kind::Tcp, false),
            (20_004, Kind::Mptcp, false),
        ] {
            let socket = kind.open(V4);
            bind(&socket, V4, port).expect("bind");
            if listens {
                socket.listen(1).expect("listen");
            }
            flights.push((kind, port, send_away(&socket)));
        }
        arena.attach();
        let pool = arena.pool();
        for (kind, port, flight) in flights {
            assert_eq!(
                claimable(&pool, kind.transport(), port),
                Err(Refusal::InUse),
                "{kind:?} {port}"
            );
            drop(flight);
            // What was only held is looked at again with the next attach.
            arena.attach();
            assert_eq!(
                claimable(&pool, kind.transport(), port),
                Ok(()),
                "{kind:?} {port}"
            );
        }
    });
}

/// What was bound to any port before attach and lost that port is counted like one bound after.
#[test]
fn an_automatic_port_from_before_attach_is_counted_until_close() {
    in_bare_arena!(|arena| {
        let sockets = [Kind::Tcp, Kind::Udp].map(|kind| (kind, kind.open(V4)));
        let ephemeral = fs::read(PORT_RANGE).expect("read the range");
        fs::write(PORT_RANGE, "20000 20999").expect("move the range");
        for (_, socket) in &sockets {
            bind(socket, V4, 0).expect("bind to any port");
        }
        fs::write(PORT_RANGE, ephemeral).expect("put the range back");
        arena.attach();
        let pool = arena.pool();
        assert_eq!(in_use(&pool), 2);
        for (kind, socket) in sockets {
            let port = port_of(&socket);
            assert_eq!(counted(&pool, kind.transport(), port), 1);
            drop(connect(&socket, V4, 9));
            rustix::net::connect_unspec(&socket).expect("disconnect");
            assert_eq!(counted(&pool, kind.transport(), port), 1);
            bind(&socket, V4, 0).expect("bind again");
            assert_eq!(counted(&pool, kind.transport(), port), 0);
            assert_eq!(counted(&pool, kind.transport(), port_of(&socket)), 0);
        }
        assert_eq!(in_use(&pool), 0);
    });
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

fn only_bound(_: &Socket, _: Kind, _: std::net::IpAddr) {}

fn listening(socket: &Socket, kind: Kind, _: std::net::IpAddr) {
    if kind != Kind::Udp {
        socket.listen(4).expect("listen");
    }
}

fn connected(socket: &Socket, kind: Kind, ip: std::net::IpAddr) {
    // Connected to itself: TCP by a simultaneous open.
    if kind != Kind::Mptcp {
        let port = port_of(socket);
        connect(socket, ip, port).expect("connect");
    }
}

fn ends_with_its_socket(pool: &Pool, transport: Transport, socket: Socket) {
    let port = port_of(&socket);
    assert_eq!(counted(pool, transport, port), 1, "{transport} {port}");
    assert_eq!(claimable(pool, transport, port), Err(Refusal::InUse));
    drop(socket);
    assert_eq!(
        claimable(pool, transport, port),
        Ok(()),
        "{transport} {port}"
    );
}

/// Sends the socket off and keeps nothing but the far end it has not arrived at.
fn send_away(socket: &Socket) -> std::os::unix::net::UnixStream {
    let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let descriptors = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = rustix::net::sendmsg(
        &near,
        &[IoSlice::new(b"x")],
        &mut message,
        SendFlags::empty(),
    );
    sent.expect("sendmsg");
    far
}
