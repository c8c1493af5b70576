//! A socket's owner can use up its option memory. Then nothing is granted that could not be counted.
//!
//! Marks need that memory only where no slot is free for them, so most of these fill the slots first.

use portpool::{Refusal, Transport};
use portpool_testkit::{Errno, in_arena, marks, sys::set_raw};
use socket2::Socket;

use crate::common::{
    Kind, V4, V6, bind, claim_range, claimable, counted, errno, in_use, owner, port_of,
};

#[test]
fn a_socket_without_option_memory_is_counted_like_any_other_while_slots_are_free() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        for kind in [Kind::Tcp, Kind::Udp] {
            let socket = exhausted(kind);
            assert_eq!(errno(bind(&socket, V4, 20_001)), Some(Errno::ACCES));
            bind(&socket, V4, 20_004).expect("a slot is free");
            assert_eq!(counted(&pool, kind.transport(), 20_004), 1);
            assert_eq!(
                claimable(&pool, kind.transport(), 20_004),
                Err(Refusal::InUse)
            );
            drop(socket);
            assert_eq!(claimable(&pool, kind.transport(), 20_004), Ok(()));
            assert_eq!(in_use(&pool), 0);
            assert_eq!(marks::slots_taken(arena), 0);
        }
    });
}

#[test]
fn a_socket_that_finds_no_free_slot_is_counted_and_associated_all_the_same() {
    in_arena!(|arena| {
        let pool = arena.pool();
        marks::fill_slots(arena);
        for transport in Transport::ALL {
            let kind = Kind::of(transport);
            let block = claim_range(&pool, transport, 20_000, 2).expect("claim");
            let consumers: Vec<Socket> = (0..2)
                .map(|_| {
                    let socket = kind.open(V4);
                    block.associate(&socket).expect("associate");
                    bind(&socket, V4, 0).expect("bind to a port of the block");
                    socket
                })
                .collect();
            let mut ports: Vec<u16> = consumers.iter().map(port_of).collect();
            ports.sort_unstable();
            assert_eq!(ports, [20_000, 20_001]);
            let stranger = kind.open(V4);
            assert_eq!(errno(bind(&stranger, V4, 20_001)), Some(Errno::ACCES));
            bind(&stranger, V4, 20_002).expect("bind");
            assert_eq!(claimable(&pool, transport, 20_002), Err(Refusal::InUse));
            drop((block, consumers, stranger));
            assert_eq!(in_use(&pool), 0);
            assert_eq!(claimable(&pool, transport, 20_002), Ok(()));
        }
    });
}

#[test]
fn a_socket_without_option_memory_cannot_bind_uncounted() {
    in_arena!(|arena| {
        let pool = arena.pool();
        marks::fill_slots(arena);
        let _owner = owner(20_000, 4);
        for kind in [Kind::Tcp, Kind::Udp] {
            let socket = exhausted(kind);
            for (port, refusal) in [(20_001, Errno::ACCES), (20_004, Errno::NOBUFS)] {
                let refused = errno(bind(&socket, V4, port));
                assert_eq!(refused, Some(refusal), "{kind:?} {port}");
            }
            assert_eq!(port_of(&socket), 0);
            bind(&socket, V4, 0).expect("a port that nobody can claim needs no memory");
            assert_eq!(
                claimable(&pool, kind.transport(), port_of(&socket)),
                Err(Refusal::Ephemeral)
            );
            assert_eq!(in_use(&pool), 0);
            drop(socket);
            assert_eq!(claimable(&pool, kind.transport(), 20_004), Ok(()));
        }
    });
}

#[test]
fn a_socket_without_option_memory_acquires_and_associates_nothing() {
    in_arena!(|arena| {
        let pool = arena.pool();
        marks::fill_slots(arena);
        for transport in Transport::ALL {
            let kind = Kind::of(transport);
            let block = claim_range(&pool, transport, 20_000, 4).expect("claim");
            let socket = exhausted(kind);
            match block.associate(&socket) {
                Err(portpool::AssociateError::Refused {
                    refusal: Refusal::NoMemory,
                    ..
                }) => {}
                other => panic!("associate without memory: {other:?}"),
            }
            let want = portpool::Want::Specific(
                portpool::PortRange::from_numbers(20_010, 4).expect("range"),
            );
            match pool.acquire_on(&socket, &want, portpool::Scope::Associated) {
                Err(portpool::AcquireError::Refused {
                    refusal: Refusal::NoMemory | Refusal::PoolFull,
                    ..
                }) => {}
                other => panic!("acquire without memory: {other:?}"),
            }
            let reservations = pool.reservations().expect("look");
            assert_eq!(reservations.len(), 1);
            assert_eq!(pool.overview().expect("look").counters.reservations, 1);
            drop(block);
            assert_eq!(claimable(&pool, transport, 20_010), Ok(()));
        }
    });
}

#[test]
fn a_bound_socket_that_uses_up_its_memory_stays_counted() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let kinds = [Kind::Tcp, Kind::Udp];
        for (kind, has_slot) in kinds
            .map(|kind| (kind, true))
            .into_iter()
            .chain(kinds.map(|kind| (kind, false)))
        {
            if !has_slot {
                marks::fill_slots(arena);
            }
            let socket = kind.open(V4);
            bind(&socket, V4, 20_000).expect("bind");
            exhaust(&socket);
            assert_eq!(counted(&pool, kind.transport(), 20_000), 1);
            assert_eq!(
                claimable(&pool, kind.transport(), 20_000),
                Err(Refusal::InUse)
            );
            drop(socket);
            assert_eq!(claimable(&pool, kind.transport(), 20_000), Ok(()));
        }
    });
}

#[test]
fn a_socket_without_option_memory_bound_before_attach_keeps_its_port() {
    portpool_testkit::in_bare_arena!(|arena| {
        let sockets = [Kind::Tcp, Kind::Udp].map(|kind| {
            let socket = exhausted(kind);
            bind(&socket, V4, 20_000).expect("bind without a pool");
            (kind, socket)
        });
        arena.attach();
        let pool = arena.pool();
        for (kind, socket) in sockets {
            assert_eq!(
                claimable(&pool, kind.transport(), 20_000),
                Err(Refusal::InUse),
                "{kind:?}"
            );
            drop(socket);
            arena.attach();
            assert_eq!(claimable(&pool, kind.transport(), 20_000), Ok(()));
        }
    });
}

#[test]
fn a_multipath_socket_without_option_memory_binds_counted_or_not_at_all() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        for ip in [V4, V6] {
            let socket = Kind::Mptcp.open(ip);
            exhaust(&socket);
            assert_ne!(errno(bind(&socket, ip, 20_001)), None);
            if bind(&socket, ip, 20_004).is_ok() {
                assert_eq!(counted(&pool, Transport::Tcp, 20_004), 1);
                assert_eq!(
                    claimable(&pool, Transport::Tcp, 20_004),
                    Err(Refusal::InUse)
                );
            }
            drop(socket);
            assert_eq!(claimable(&pool, Transport::Tcp, 20_004), Ok(()));
        }
    });
}

fn exhausted(kind: Kind) -> Socket {
    let socket = kind.open(V4);
    exhaust(&socket);
    socket
}

/// Takes option memory until none is left for a mark: UDP joins groups, TCP takes keys.
fn exhaust(socket: &Socket) {
    // The memberships allowed for one socket are a limit of their own.
    std::fs::write("/proc/sys/net/ipv4/igmp_max_memberships", "100000").expect("igmp");
    let take = match socket.r#type().expect("SO_TYPE") {
        socket2::Type::DGRAM => join,
        _ => add_key,
    };
    for number in 0..1_000_000 {
        match take(socket, number).map_err(|error| error.raw_os_error()) {
            Ok(()) => {}
            Err(Some(libc::ENOBUFS | libc::ENOMEM)) if number > 0 => return fill_up(socket),
            // Multipath sockets take no keys.
            Err(Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT)) => return fill_up(socket),
            Err(error) => panic!("step {number}: {error:?}"),
        }
    }
    panic!("option memory has no end here");
}

/// Joins one more multicast group.
fn join(socket: &Socket, number: u32) -> std::io::Result<()> {
    let group = std::net::Ipv4Addr::from(0xe801_0000 + number);
    let mut request = Vec::from(group.octets());
    request.extend(std::net::Ipv4Addr::LOCALHOST.octets());
    let level = libc::IPPROTO_IP;
    set_raw(socket, level, libc::IP_ADD_MEMBERSHIP, &request, 8)
}

/// Adds the signature key of one more peer.
fn add_key(socket: &Socket, number: u32) -> std::io::Result<()> {
    // struct tcp_md5sig: the peer as a sockaddr_storage, its key.
    let mut request = [0; 216];
    request[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    request[4..8].copy_from_slice(&(0x0a00_0001 + number).to_be_bytes());
    request[130..132].copy_from_slice(&3_u16.to_ne_bytes());
    request[136..139].copy_from_slice(b"key");
    let length = request.len() as i64;
    set_raw(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_MD5SIG,
        &request,
        length,
    )
}

/// Attaches the largest filter there is room for, which takes what is left in small change.
fn fill_up(socket: &Socket) {
    for count in (1..=400_u16).rev() {
        let accept = libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0xffff,
        };
        if portpool_testkit::sys::attach_filter(socket, &vec![accept; usize::from(count)]).is_ok() {
            return;
        }
    }
}
