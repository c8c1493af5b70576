//! The same numbers in TCP and UDP at once, all or nothing.

use portpool::{Refusal, Transport, Transports};

use crate::column::reserved_errno;
use crate::kit::{
    any, any_within, assert_empty, attach_ranges, bind_port, exactly, grant, is_reserved, refused,
    request, tcp, udp,
};

#[test]
fn both_transports_get_the_same_numbers() {
    case!(|arena| {
        let pool = arena.pool();
        for want in [
            exactly("20000-20003"),
            any(4),
            any_within(4, 4, "21000-21999"),
        ] {
            let reservation = pool
                .acquire(&request(Transports::Both, want))
                .expect("acquire");
            let [first, second] = reservation.blocks() else {
                panic!("{:?}", reservation.blocks());
            };
            assert_eq!(first.range, second.range);
            assert_ne!(first.token, second.token);
            assert_eq!(first.transport, Transport::Tcp);
            assert_eq!(second.transport, Transport::Udp);
            for port in reservation.ports().map(portpool::Port::number) {
                assert_eq!(bind_port(&tcp(), port), Err(reserved_errno()));
                assert_eq!(bind_port(&udp(), port), Err(reserved_errno()));
            }
        }
        assert_empty(&pool);
    });
}

#[test]
fn a_busy_port_of_one_transport_leaves_nothing_of_the_other() {
    case!(|arena| {
        let pool = arena.pool();
        let wanted = request(Transports::Both, exactly("20000-20199"));
        for busy in [20_000, 20_100, 20_199] {
            let sockets = [tcp(), udp()];
            for socket in &sockets {
                bind_port(socket, busy).expect("bind");
                assert_eq!(refused(pool.acquire(&wanted)), Refusal::InUse);
                assert_eq!(pool.reservations().expect("look"), []);
            }
            drop(sockets);
            let socket = udp();
            bind_port(&socket, busy).expect("bind");
            assert_eq!(refused(pool.acquire(&wanted)), Refusal::InUse);
            assert!(!is_reserved(&pool, Transport::Tcp, 20_000));
            assert_eq!(bind_port(&tcp(), busy), Ok(busy));
        }
        drop(pool.acquire(&wanted).expect("acquire"));
    });
}

/// A wildcard looks at both transports before it chooses.
#[test]
fn a_wildcard_of_both_finds_the_numbers_free_in_both() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20009");
        let (stream, datagram) = (tcp(), udp());
        grant(&pool, &stream, "20000-20003");
        grant(&pool, &datagram, "20006-20009");
        let wanted = request(Transports::Both, any_within(2, 1, "20000-20009"));
        let reservation = pool.acquire(&wanted).expect("acquire");
        assert_eq!(reservation.range(), crate::kit::range("20004-20005"));
        assert_eq!(refused(pool.acquire(&wanted)), Refusal::NoRoom);
    });
}
