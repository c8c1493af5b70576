//! Plain sockets against reservations: cases 55 to 60, rules 29 to 32.

use portpool::Scope;
use portpool_testkit::{Actor, Errno};

use crate::column::reserved_errno;
use crate::kit::{
    ACTOR, NOBODY, any, bind, bind_port, connect, grant, peer, port_of, socket, tcp, udp,
};

#[test]
fn a_stranger_cannot_bind_a_reserved_port() {
    case!(|_| {
        let mut owner = Actor::start(ACTOR);
        owner
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
        let mut stranger = Actor::start_as(ACTOR, NOBODY);
        stranger.ask("socket s tcp4").expect("socket");
        assert_eq!(
            stranger.ask("bind s 127.0.0.1:20001"),
            Err(reserved_errno())
        );
        owner.kill();
        stranger
            .ask("bind s 127.0.0.1:20001")
            .expect("bind after the owner's end");
    });
}

/// Cases 55, 57 and 58, rules 5, 6, 29 and 32: any process, address, family and reuse option.
#[test]
fn a_plain_bind_into_a_block_is_refused_with_eacces() {
    case!(|arena| {
        let pool = arena.pool();
        let owners = (tcp(), udp());
        grant(&pool, &owners.0, "20000-20003");
        grant(&pool, &owners.1, "20000-20003");
        for uid in [0, NOBODY] {
            let mut stranger = Actor::start_as(ACTOR, uid);
            for (kinds, address) in [
                (["tcp4", "udp4"], "127.0.0.1"),
                (["tcp4", "udp4"], "127.0.0.77"),
                (["tcp4", "udp4"], "0.0.0.0"),
                (["tcp6", "udp6"], "[::1]"),
                (["tcp6", "udp6"], "[::]"),
                (["tcp6", "udp6"], "[::ffff:127.0.0.1]"),
                (["mptcp4", "mptcp6"], ""),
            ] {
                for kind in kinds {
                    for option in ["", "reuseaddr", "reuseport", "v6only"] {
                        let address = match (address, kind) {
                            ("", "mptcp6") => "[::1]",
                            ("", _) => "127.0.0.1",
                            (address, _) => address,
                        };
                        let is_v6 = kind.ends_with('6');
                        let is_mapped = address.contains("ffff");
                        if option == "v6only" && (!is_v6 || is_mapped) {
                            continue;
                        }
                        let mut orders = vec![format!("socket s {kind}")];
                        if !option.is_empty() {
                            orders.push(format!("option s {option}"));
                        }
                        for order in orders {
                            stranger.ask(&order).expect("prepare");
                        }
                        for port in [20_000, 20_003] {
                            assert_eq!(
                                stranger.ask(&format!("bind s {address}:{port}")),
                                Err(reserved_errno()),
                                "{kind} {option} {address}:{port} as {uid}"
                            );
                        }
                        // Refused, it is as it was.
                        stranger
                            .ask(&format!("bind s {address}:20004"))
                            .expect("bind beside the block");
                        stranger.ask("close s").expect("close");
                    }
                }
            }
        }
    });
}

/// Case 56, rule 30: in the owner process too, and also on the owner socket.
#[test]
fn the_owner_process_itself_needs_an_association() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let block = grant(&pool, &owner, "20000-20003");
        assert_eq!(bind_port(&tcp(), 20_000), Err(reserved_errno()));
        assert_eq!(bind_port(&owner, 20_000), Err(reserved_errno()));
        pool.associate(&owner, block.token).expect("associate");
        assert_eq!(bind_port(&owner, 20_000), Ok(20_000));
    });
}

/// Case 59, rule 31: with the whole range of automatic choice opened onto live blocks.
#[test]
fn automatic_choice_never_gives_a_reserved_port() {
    case!(|arena| {
        let pool = arena.pool();
        let owners = (tcp(), udp());
        for owner in [&owners.0, &owners.1] {
            for _ in 0..16 {
                pool.acquire_on(owner, &any(100), Scope::Associated)
                    .expect("acquire");
            }
        }
        let reserved: Vec<_> = pool.reservations().expect("look");
        let (_listener, port) = peer();
        let check = |port: u16, transport, call: &str| {
            assert_ne!(port, 0, "{call}");
            let port = portpool::Port::new(port).expect("a port");
            let owner = reserved
                .iter()
                .find(|entry| entry.transport == transport && entry.range.contains(port));
            assert!(owner.is_none(), "{call} got {port} of {owner:?}");
        };
        crate::kit::set_sysctl("ipv4/ip_local_port_range", "1024 65535");
        for _ in 0..500 {
            for kind in ["tcp4", "tcp6"] {
                let bound = bind_port(&socket(kind), 0).expect("bind(0)");
                check(bound, portpool::Transport::Tcp, "bind(0)");
            }
            let bound = bind_port(&udp(), 0).expect("bind(0)");
            check(bound, portpool::Transport::Udp, "bind(0)");
            let local = connect(&tcp(), port).expect("connect");
            check(local, portpool::Transport::Tcp, "connect");
            let local = connect(&udp(), port).expect("connect");
            check(local, portpool::Transport::Udp, "connect");
            let sender = udp();
            let to: std::net::SocketAddr = "127.0.0.1:9".parse().expect("address");
            sender.send_to(b"x", &to.into()).expect("sendto");
            check(port_of(&sender), portpool::Transport::Udp, "sendto");
            let listener = tcp();
            listener.listen(1).expect("listen");
            check(port_of(&listener), portpool::Transport::Tcp, "listen");
        }
    });
}

/// Ports that nobody reserved are bound as ever.
#[test]
fn ports_beside_a_block_are_untouched() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        grant(&pool, &owner, "20000-20003");
        for port in [19_999, 20_004] {
            let first = tcp();
            assert_eq!(bind_port(&first, port), Ok(port));
            assert_eq!(bind_port(&tcp(), port), Err(Errno::ADDRINUSE));
            assert_eq!(bind(&tcp(), &format!("127.0.0.2:{port}")), Ok(port));
        }
    });
}
