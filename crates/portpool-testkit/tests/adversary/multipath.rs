//! Multipath TCP sockets, whose ports are bound by sockets of the kernel's.

use portpool::{Refusal, Transport};
use portpool_testkit::{Errno, Size, in_arena, in_bare_arena};

use crate::common::{
    Kind, V4, V6, bind, claimable, connect, counted, errno, in_use, owner, port_of, tool,
    wait_until,
};

#[test]
fn multipath_sockets_leak_no_port() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        for round in 0..Size::multipath_rounds() {
            let ip = if round % 2 == 0 { V4 } else { V6 };
            let socket = Kind::Mptcp.open(ip);
            match round % 5 {
                0 => bind(&socket, ip, 20_004).expect("bind"),
                1 => {
                    bind(&socket, ip, 0).expect("bind to any port");
                    socket.listen(1).expect("listen");
                }
                2 => {
                    assert_eq!(errno(bind(&socket, ip, 20_001)), Some(Errno::ACCES));
                    bind(&socket, ip, 20_004).expect("bind after a refusal");
                }
                3 => {
                    bind(&socket, ip, 0).expect("bind to any port");
                    assert_ne!(errno(connect(&socket, ip, 9)), None);
                    drop(bind(&socket, ip, 0));
                }
                _ => {
                    let other = Kind::Tcp.open(ip);
                    bind(&other, ip, 20_005).expect("bind");
                    other.listen(1).expect("listen");
                    assert_eq!(errno(bind(&socket, ip, 20_005)), Some(Errno::ADDRINUSE));
                }
            }
            if round % 100 < 5 {
                assert!(in_use(&pool) <= 1);
                drop(socket);
                assert_eq!(in_use(&pool), 0, "round {round}");
            }
        }
        for port in [20_004, 20_005] {
            assert_eq!(claimable(&pool, Transport::Tcp, port), Ok(()));
        }
    });
}

#[test]
fn multipath_connections_leak_no_port() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for round in 0..Size::multipath_rounds() / 20 {
            let ip = if round % 2 == 0 { V4 } else { V6 };
            let listener = Kind::Mptcp.open(ip);
            bind(&listener, ip, 20_000).expect("bind");
            listener.listen(4).expect("listen");
            let client = Kind::Mptcp.open(ip);
            // A reset, so that the next round finds the port without TIME_WAIT.
            client
                .set_linger(Some(std::time::Duration::ZERO))
                .expect("SO_LINGER");
            connect(&client, ip, 20_000).expect("connect");
            let (accepted, _) = listener.accept().expect("accept");
            assert_eq!(counted(&pool, Transport::Tcp, 20_000), 1);
            drop(client);
            drop(accepted);
            drop(listener);
            assert_eq!(in_use(&pool), 0, "round {round}");
            wait_until("the connection is gone", || {
                let socket = Kind::Tcp.open(ip);
                bind(&socket, ip, 20_000).is_ok()
            });
        }
        assert_eq!(claimable(&pool, Transport::Tcp, 20_000), Ok(()));
    });
}

#[test]
fn a_multipath_socket_bound_before_attach_is_counted_until_it_is_closed() {
    in_bare_arena!(|arena| {
        let sockets: Vec<_> = [(V4, false), (V6, false), (V4, true), (V6, true)]
            .into_iter()
            .zip(20_000..)
            .map(|((ip, listens), port)| {
                let socket = Kind::Mptcp.open(ip);
                bind(&socket, ip, port).expect("bind");
                if listens {
                    socket.listen(1).expect("listen");
                }
                socket
            })
            .collect();
        arena.attach();
        let pool = arena.pool();
        // Attaching again counts nothing twice.
        arena.attach();
        for socket in sockets {
            let port = port_of(&socket);
            assert_eq!(counted(&pool, Transport::Tcp, port), 1, "{port}");
            assert_eq!(claimable(&pool, Transport::Tcp, port), Err(Refusal::InUse));
            drop(socket);
            assert_eq!(claimable(&pool, Transport::Tcp, port), Ok(()), "{port}");
        }
        assert_eq!(in_use(&pool), 0);
    });
}

/// A further path of a connection is bound by the kernel, to a port of its own: the count moved there
/// from the port that the program had bound.
#[test]
fn a_further_path_does_not_take_the_count_from_the_first() {
    in_arena!(|arena| {
        let pool = arena.pool();
        tool("ip mptcp limits set subflow 4 add_addr_accepted 4").expect("limits");
        tool("ip mptcp endpoint add 127.0.0.2 subflow").expect("endpoint");
        let listener = Kind::Mptcp.open(V4);
        bind(&listener, V4, 20_000).expect("bind");
        listener.listen(4).expect("listen");
        let client = Kind::Mptcp.open(V4);
        bind(&client, V4, 20_001).expect("bind the client");
        connect(&client, V4, 20_000).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        accepted.send(b"x").expect("send");
        wait_until("there is a second path", || {
            let table = std::fs::read_to_string("/proc/self/net/tcp").expect("read");
            table.contains(": 0200007F:")
        });
        for port in [20_000, 20_001] {
            assert_eq!(counted(&pool, Transport::Tcp, port), 1, "{port}");
            assert_eq!(claimable(&pool, Transport::Tcp, port), Err(Refusal::InUse));
        }
        assert_eq!(in_use(&pool), 2);
        drop((client, accepted, listener));
        assert_eq!(in_use(&pool), 0);
    });
}

#[test]
fn a_multipath_socket_is_served_no_control_code() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let block = crate::common::claim_range(&pool, Transport::Tcp, 20_000, 1);
        let block = block.expect("claim");
        let socket = Kind::Mptcp.open(V4);
        assert!(matches!(
            block.associate(&socket),
            Err(portpool::AssociateError::UnsupportedSocket)
        ));
    });
}
