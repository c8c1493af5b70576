//! Unusual addresses and options of a bind, and sockets that are none of the pool's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portpool_testkit::{
    Errno, in_arena,
    sys::{bind_raw, set_raw},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{Kind, V4, V6, bind, counted, errno, in_use, owner};

#[test]
fn a_reserved_port_is_refused_at_every_address() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        let addresses: [IpAddr; 8] = [
            Ipv4Addr::new(127, 1, 2, 3).into(),
            Ipv4Addr::BROADCAST.into(),
            Ipv4Addr::new(127, 255, 255, 255).into(),
            Ipv4Addr::new(224, 0, 0, 1).into(),
            // Of no interface here: the reservation is judged first.
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        ];
        for kind in Kind::ALL {
            for ip in addresses {
                let socket = kind.open(ip);
                assert_eq!(
                    errno(bind(&socket, ip, 20_001)),
                    Some(Errno::ACCES),
                    "{kind:?} {ip}"
                );
            }
        }
        assert_eq!(in_use(&pool), 0);
    });
}

#[test]
fn an_address_of_no_family_is_refused_like_any() {
    in_arena!(|_| {
        let _owner = owner(20_000, 4);
        for kind in Kind::ALL {
            let socket = kind.open(V4);
            // Linux takes AF_UNSPEC for AF_INET where the address is 0.0.0.0.
            assert_eq!(
                errno(bind_raw(&socket, &unspecified(20_001))),
                Some(Errno::ACCES),
                "{kind:?}"
            );
            assert_eq!(
                errno(bind_raw(&socket, &unspecified(20_004))),
                None,
                "{kind:?}"
            );
        }
    });
}

#[test]
fn no_option_of_a_socket_opens_a_reserved_port() {
    in_arena!(|_| {
        let _owner = owner(20_000, 4);
        for kind in Kind::ALL {
            for (name, set) in OPTIONS {
                let socket = kind.open(V4);
                if let Err(error) = set(&socket) {
                    // Multipath sockets lack some, UDP lacks TCP's, Linux 6.1 the port range.
                    let may_lack = ["TCP_REPAIR", "IP_LOCAL_PORT_RANGE"].contains(name);
                    assert!(kind == Kind::Mptcp || may_lack, "{name}: {error}");
                    continue;
                }
                for port in [20_000, 20_001, 20_003] {
                    assert_eq!(
                        errno(bind(&socket, V4, port)),
                        Some(Errno::ACCES),
                        "{kind:?} with {name}"
                    );
                }
            }
        }
    });
}

#[test]
fn v6_options_open_no_reserved_port() {
    in_arena!(|_| {
        let _owner = owner(20_000, 4);
        for kind in [Kind::Tcp, Kind::Udp] {
            let socket = kind.open(V6);
            socket.set_freebind_v6(true).expect("IPV6_FREEBIND");
            socket
                .set_ip_transparent_v6(true)
                .expect("IPV6_TRANSPARENT");
            socket.bind_device(Some(b"lo")).expect("SO_BINDTODEVICE");
            assert_eq!(errno(bind(&socket, V6, 20_001)), Some(Errno::ACCES));
            let elsewhere = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
            assert_eq!(errno(bind(&socket, elsewhere, 20_001)), Some(Errno::ACCES));
        }
    });
}

#[test]
fn sockets_that_bind_no_port_of_the_pool_are_left_alone() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        let others = [
            (Type::DGRAM, Protocol::UDPLITE),
            (Type::RAW, Protocol::TCP),
            (Type::RAW, Protocol::UDP),
            (Type::RAW, Protocol::ICMPV4),
        ];
        let mut kept = Vec::new();
        for (kind, protocol) in others {
            let socket = match Socket::new(Domain::IPV4, kind, Some(protocol)) {
                // Linux 7.1 has no UDP-Lite any more.
                Err(_) if protocol == Protocol::UDPLITE => continue,
                socket => socket.expect("socket"),
            };
            assert_eq!(errno(bind(&socket, V4, 20_001)), None, "{protocol:?}");
            kept.push(socket);
        }
        let unix = Socket::new(Domain::UNIX, Type::STREAM, None).expect("socket");
        let name = socket2::SockAddr::unix("\0portpool-20001").expect("address");
        unix.bind(&name).expect("bind a Unix socket");
        let netlink = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None);
        let netlink = netlink.expect("socket");
        let mut address = [0_u8; 12];
        address[..2].copy_from_slice(&(libc::AF_NETLINK as u16).to_ne_bytes());
        bind_raw(&netlink, &address).expect("bind a netlink socket");
        assert_eq!(in_use(&pool), 0);
        assert_eq!(counted(&pool, portpool::Transport::Udp, 20_001), 0);
    });
}

type Set = fn(&Socket) -> std::io::Result<()>;

const OPTIONS: &[(&str, Set)] = &[
    ("IP_FREEBIND", |s| s.set_freebind_v4(true)),
    ("IP_TRANSPARENT", |s| s.set_ip_transparent_v4(true)),
    ("SO_BINDTODEVICE", |s| s.bind_device(Some(b"lo"))),
    ("IP_BIND_ADDRESS_NO_PORT", |s| {
        set_number(s, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
    }),
    ("IP_LOCAL_PORT_RANGE", |s| {
        set_number(
            s,
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            20_003 << 16 | 20_000,
        )
    }),
    ("TCP_REPAIR", |s| {
        set_number(s, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)
    }),
    ("SO_MARK", |s| {
        set_number(s, libc::SOL_SOCKET, libc::SO_MARK, 7)
    }),
    ("SO_BROADCAST", |s| s.set_broadcast(true)),
];

pub(crate) const IP_LOCAL_PORT_RANGE: i32 = 51;

pub(crate) fn set_number(
    socket: &Socket,
    level: i32,
    name: i32,
    number: u32,
) -> std::io::Result<()> {
    set_raw(socket, level, name, &number.to_ne_bytes(), 4)
}

fn unspecified(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address
}
