//! Sockets for programs that know how to take them.

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
};

use portpool::{
    Transport, Transports,
    handover::{PortSocket, SocketState, from_environment},
    process,
};

use crate::kit::{Other, acquire, command, eventually, intrusions, role, tell, wait_for_end};

#[test]
fn listeners_keep_every_port_and_serve() {
    let ports = acquire(Transports::Both, 2);
    let range = ports.range();
    let sockets = ports.into_listeners().expect("listeners");
    assert_eq!(sockets.len(), 4);
    for port in range.ports() {
        for transport in Transport::ALL {
            assert_eq!(intrusions(transport, port), Vec::<String>::new());
        }
    }
    for socket in sockets {
        let address = (Ipv4Addr::LOCALHOST, socket.port().number());
        match socket.into_tcp() {
            Ok(listener) => {
                TcpStream::connect(address).expect("connect");
                listener.accept().expect("accept");
            }
            Err(socket) => {
                let socket = socket.into_udp().expect("UDP");
                let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
                client.send_to(b"hello", address).expect("send");
                assert_eq!(socket.recv(&mut [0; 9]).expect("receive"), 5);
            }
        }
    }
}

#[test]
fn ports_consumed_on_loopback_can_be_handed_over_still() {
    // A child that another test starts just now may have a copy of the closed listener.
    let sockets = eventually(|| {
        let ports = acquire(Transports::Tcp, 2);
        let listener = ports.tcp_listener(Ipv4Addr::LOCALHOST.into());
        drop(listener.expect("listen"));
        ports.into_listeners()
    });
    for port in sockets.iter().map(PortSocket::port) {
        assert_eq!(intrusions(Transport::Tcp, port), Vec::<String>::new());
    }
    for socket in sockets {
        let address = (Ipv4Addr::LOCALHOST, socket.port().number());
        let listener = socket.into_tcp().expect("TCP");
        TcpStream::connect(address).expect("connect");
        listener.accept().expect("accept");
    }
}

#[test]
fn a_udp_listener_starts_with_an_empty_queue() {
    let ports = acquire(Transports::Udp, 1);
    let address = (Ipv4Addr::LOCALHOST, ports.range().first().number());
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    client.send_to(b"too early", address).expect("send");
    let sockets = ports.into_listeners().expect("listeners");
    let socket = sockets.into_iter().next().expect("one");
    let socket = socket.into_udp().expect("UDP");
    client.send_to(b"now", address).expect("send");
    assert_eq!(socket.recv(&mut [0; 9]).expect("receive"), 3);
}

#[test]
fn a_program_takes_its_sockets_back_from_the_environment() {
    let test = "handover::a_program_takes_its_sockets_back_from_the_environment";
    match role().as_deref() {
        Some("pass") => {
            let sockets = acquire(Transports::Both, 1).into_listeners();
            let sockets = sockets.expect("listeners").into_iter();
            let sockets = sockets.map(|socket| match socket.transport() {
                Transport::Tcp => socket.named("web"),
                Transport::Udp => socket,
            });
            let error = process::exec_with_sockets(command(test, "take"), sockets);
            panic!("{error}");
        }
        Some(_) => {
            let inherited = from_environment().expect("sockets");
            let names: Vec<&str> = inherited.iter().map(|it| it.name.as_str()).collect();
            assert_eq!((names[0], names.len()), ("web", 2));
            assert_eq!(&names[1][..4], "udp-");
            assert!(from_environment().expect("no more").is_empty());
            let mut inherited = inherited.into_iter();
            let listener = TcpListener::from(inherited.next().expect("one").socket);
            tell(listener.local_addr().expect("address").port());
            listener.accept().expect("accept");
            return tell("accepted");
        }
        None => {}
    }
    let mut other = Other::start(test, "pass");
    let port: u16 = other.hear().parse().expect("a port");
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
    assert_eq!(other.hear(), "accepted");
    drop(client);
    other.finish();
}

#[test]
fn python_serves_from_sockets_it_is_started_with() {
    let test = "handover::python_serves_from_sockets_it_is_started_with";
    if let Some(state) = role() {
        let state = match state.as_str() {
            "bound" => SocketState::Bound,
            _ => SocketState::Listening,
        };
        let sockets = acquire(Transports::Tcp, 2).into_sockets(state);
        let mut python = Command::new("python3");
        python.args(["-u", "-c", PYTHON]);
        let error = process::exec_with_sockets(python, sockets.expect("sockets"));
        panic!("{error}");
    }
    for state in ["listening", "bound"] {
        let mut again: Command = command(test, state);
        let child = again.stdout(Stdio::piped()).spawn().expect("start");
        let mut child = Killed(child);
        let lines = BufReader::new(child.0.stdout.take().expect("output")).lines();
        let lines = lines.map(|line| line.expect("a line"));
        let told = lines.map(|line| line.split_once("ports ").map(|it| it.1.to_owned()));
        let ports = told.flatten().next().expect("the ports");
        for port in ports
            .split(' ')
            .map(|port| port.parse::<u16>().expect("a port"))
        {
            let mut text = String::new();
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
            client.read_to_string(&mut text).expect("read");
            assert_eq!(text, format!("tcp-{port}"));
        }
    }
}

#[test]
fn a_program_that_cannot_be_started_leaves_the_descriptors_alone() {
    let test = "handover::a_program_that_cannot_be_started_leaves_the_descriptors_alone";
    if role().is_some() {
        let before = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = before.local_addr().expect("address");
        let sockets = acquire(Transports::Tcp, 20).into_listeners();
        let missing = Command::new("/nonexistent/program");
        let error = process::exec_with_sockets(missing, sockets.expect("listeners"));
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(before.local_addr().expect("still open"), address);
        let opened: Vec<UdpSocket> = (0..30)
            .map(|_| UdpSocket::bind("127.0.0.1:0").expect("bind"))
            .collect();
        drop(opened);
        tell("alone");
        return wait_for_end();
    }
    let mut other = Other::start(test, "fail");
    assert_eq!(other.hear(), "alone");
    other.finish();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PYTHON: &str = "
import os, socket
assert int(os.environ['LISTEN_PID']) == os.getpid()
names = os.environ['LISTEN_FDNAMES'].split(':')
found = [socket.socket(fileno=3 + i) for i in range(int(os.environ['LISTEN_FDS']))]
for one in found:
    one.listen()
print('ports', *(one.getsockname()[1] for one in found))
for one, name in zip(found, names):
    client, _ = one.accept()
    client.sendall(name.encode())
    client.close()
";
