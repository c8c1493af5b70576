//! Section 5 of the specification, cases 106 to 125, through administration, and section 7 for
//! exclusions.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    thread,
};

use portpool::{Refusal, Request, Token, Transport, Transports, Want};
use portpool_keeper::{Admin, AdminError, admin::Kind};
use portpool_testkit::{in_arena, in_bare_arena};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use socket2::{Domain, Socket, Type};

use super::kit::{
    RESERVED, admin, bind, block, code, consume, errno_of_bind, persist, range, reserved, set,
    state,
};

/// Cases 106, 112, 113, 115 and 116.
#[test]
fn a_persistent_block_is_made_found_and_ended_by_exactly_its_ports() {
    in_arena!(|arena| {
        let mut admin = admin(arena);
        let token = persist(&mut admin, "5000-5003");
        assert_eq!(
            admin
                .lookup(Transport::Tcp, range("5000-5003"))
                .expect("look up"),
            token
        );
        for other in ["5000-5002", "5001-5003", "5001-5004", "5000", "4999-5004"] {
            assert_eq!(
                code(admin.lookup(Transport::Tcp, range(other))),
                1168,
                "{other}"
            );
            assert_eq!(
                code(admin.unpersist(Transports::Tcp, range(other))),
                1168,
                "{other}"
            );
        }
        assert_eq!(code(admin.lookup(Transport::Udp, range("5000-5003"))), 1168);
        assert_eq!(
            code(admin.unpersist(Transports::Udp, range("5000-5003"))),
            1168
        );
        assert_eq!(
            code(admin.unpersist(Transports::Both, range("5000-5003"))),
            1168
        );
        assert_eq!(errno_of_bind(5001), libc::EACCES);
        admin
            .unpersist(Transports::Tcp, range("5000-5003"))
            .expect("unpersist");
        assert_eq!(
            code(admin.unpersist(Transports::Tcp, range("5000-5003"))),
            1168
        );
        assert_eq!(code(admin.lookup(Transport::Tcp, range("5000-5003"))), 1168);
        assert_eq!(errno_of_bind(5001), 0);
    });
}

/// Cases 108 and 109: what is no range is none before anybody is asked.
#[test]
fn what_is_no_range_is_an_invalid_parameter() {
    for (first, count) in [(0, 4), (5000, 0), (65_530, 10)] {
        let error = portpool::PortRange::from_numbers(first, count).expect_err("no range");
        assert_eq!(AdminError::from(error).windows_code(), Some(87));
    }
}

/// Cases 110, 111 and 122, and an exclusion.
#[test]
fn what_is_taken_is_not_made_persistent() {
    in_arena!(|arena| {
        let (mut admin, pool) = (admin(arena), arena.pool());
        let mut refused = |ports: &str| {
            let answer = admin.persist(&block(Transports::Tcp, ports));
            assert_eq!(code(answer), 32, "{ports}");
        };
        let bound = bind(5001).expect("bind");
        refused("5000-5003");
        drop(bound);
        let want = Want::Specific(range("5003"));
        let transports = Transports::Tcp;
        let owned = pool
            .acquire(&Request { transports, want })
            .expect("acquire");
        refused("5000-5003");
        drop(owned);
        persist(&mut admin, "5000-5003");
        let before = admin.list().expect("list");
        for ports in ["5000-5003", "5003-5006", "4990-5010", "5001", "4999-5000"] {
            assert_eq!(
                code(admin.persist(&block(Transports::Tcp, ports))),
                32,
                "{ports}"
            );
        }
        assert_eq!(admin.list().expect("list"), before);
        // The other transport has ports of its own.
        admin
            .persist(&block(Transports::Udp, "5000-5003"))
            .expect("persist");
    });
}

#[test]
fn both_transports_are_made_persistent_or_neither_is() {
    in_arena!(|arena| {
        let (mut admin, before) = (admin(arena), reserved());
        for ports in ["5000-5003", "40000-40003"] {
            let number = range(ports).last().number();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).expect("bind");
            assert_eq!(code(admin.persist(&block(Transports::Both, ports))), 32);
            drop(socket);
            assert_eq!(admin.list().expect("list"), []);
            assert_eq!((errno_of_bind(number), reserved()), (0, before.clone()));
            let made = admin
                .persist(&block(Transports::Both, ports))
                .expect("persist");
            assert_eq!(made.len(), 2);
            assert_ne!(made[0].token, made[1].token);
            admin
                .unpersist(Transports::Udp, range(ports))
                .expect("unpersist");
            // TCP's half still needs the entry in the sysctl.
            assert!(set(ports).difference(&reserved()).is_empty());
            admin
                .unpersist(Transports::Tcp, range(ports))
                .expect("unpersist");
            assert_eq!(reserved(), before);
        }
    });
}

/// Cases 107, 114 and 120, and that root without the capability is nobody (rule 5).
#[test]
fn who_is_no_administrator_may_look_and_change_nothing() {
    in_arena!(|arena| {
        let mut owner = admin(arena);
        let token = persist(&mut owner, "5000-5003");
        let listed = owner.list().expect("list");
        let lacking = |run: fn(&portpool_testkit::Arena, Token)| {
            let arena = &arena;
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Of this thread alone; CAP_BPF as well, or it would own the maps.
                    let own = CapabilitySets {
                        effective: CapabilitySet::DAC_OVERRIDE,
                        permitted: CapabilitySet::DAC_OVERRIDE,
                        inheritable: CapabilitySet::empty(),
                    };
                    set_capabilities(None, own).expect("give up capabilities");
                    run(arena, token);
                });
            });
        };
        lacking(|arena, token| {
            let found = arena
                .pool()
                .lookup_persistent(Transport::Tcp, range("5000-5003"));
            assert_eq!(found.expect("look up"), Some(token));
            let mut admin = admin(arena);
            assert_eq!(
                admin
                    .lookup(Transport::Tcp, range("5000-5003"))
                    .expect("look up"),
                token
            );
            for answer in [
                admin.persist(&block(Transports::Tcp, "6000")).map(drop),
                admin.exclude(Transports::Tcp, range("6000"), None),
            ] {
                answer.expect_err("not permitted");
            }
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
            let refused = arena
                .pool()
                .associate(&socket, token)
                .expect_err("associate");
            assert_eq!(refused.refusal(), Some(Refusal::ForeignToken));
        });
        assert_eq!(owner.list().expect("list"), listed);
        assert_eq!(errno_of_bind(6000), 0);
    });
}

/// Cases 119, 121 and 124.
#[test]
fn a_block_is_consumed_by_its_token_and_its_end_leaves_sockets_their_ports() {
    in_arena!(|arena| {
        let (mut admin, pool) = (admin(arena), arena.pool());
        let token = persist(&mut admin, "5000-5003");
        assert_eq!(errno_of_bind(5000), libc::EACCES);
        let (socket, port) = consume(&pool, Transport::Tcp, token);
        assert_eq!(port, 5000);
        admin
            .unpersist(Transports::Tcp, range("5000-5003"))
            .expect("unpersist");
        socket.listen(1).expect("listen");
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        let refused = pool.associate(&other, token).expect_err("associate");
        assert_eq!(refused.refusal(), Some(Refusal::UnknownToken));
        // The port is in use until it is closed.
        assert_eq!(
            code(admin.persist(&block(Transports::Tcp, "5000-5003"))),
            32
        );
        drop(socket);
        let again = persist(&mut admin, "5000-5003");
        assert_ne!(again, token);
    });
}

#[test]
fn a_block_in_the_ephemeral_range_is_kept_from_automatic_choice_as_long_as_it_lives() {
    in_arena!(|arena| {
        let (mut admin, before) = (admin(arena), reserved());
        persist(&mut admin, "40000-40003");
        assert!(set("40000-40003").difference(&reserved()).is_empty());
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007").expect("narrow");
        for _ in 0..40 {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
            socket.connect((Ipv4Addr::LOCALHOST, 9)).expect("connect");
            let port = socket.local_addr().expect("address").port();
            assert!((40_004..40_008).contains(&port), "{port}");
        }
        admin
            .unpersist(Transports::Tcp, range("40000-40003"))
            .expect("unpersist");
        assert_eq!(reserved(), before);
    });
}

/// A block there needs no entry of its own: those of the pool do, and somebody may have taken them out.
#[test]
fn a_block_in_the_pools_ranges_is_made_once_the_sysctl_has_all_of_the_pools_entries() {
    in_arena!(|arena| {
        let (mut admin, before) = (admin(arena), reserved());
        persist(&mut admin, "20000-20003");
        assert_eq!(reserved(), before);
        fs::write(RESERVED, "20004-20007\n").expect("write the sysctl");
        persist(&mut admin, "20004-20007");
        assert!(before.difference(&reserved()).is_empty(), "{}", reserved());
        for ports in ["20000-20003", "20004-20007"] {
            admin
                .unpersist(Transports::Tcp, range(ports))
                .expect("unpersist");
        }
        assert!(before.difference(&reserved()).is_empty(), "{}", reserved());
    });
}

/// Section 7: netsh's kind, cases 16 and 27.
#[test]
fn an_exclusion_keeps_automatic_choice_and_reservations_away_and_lets_binds_through() {
    in_arena!(|arena| {
        let (mut admin, pool, before) = (admin(arena), arena.pool(), reserved());
        let note = "for the printer".parse().expect("note");
        admin
            .exclude(Transports::Tcp, range("40000-40009"), Some(&note))
            .expect("exclude");
        assert!(set("40000-40009").difference(&reserved()).is_empty());
        assert_eq!(errno_of_bind(40_005), 0);
        for ports in ["40000", "40009-40010"] {
            let want = Want::Specific(range(ports));
            let request = Request {
                transports: Transports::Tcp,
                want,
            };
            let refused = pool.acquire(&request).expect_err("excluded");
            let expected = if ports == "40000" {
                Refusal::InUse
            } else {
                Refusal::Ephemeral
            };
            assert!([Some(expected), Some(Refusal::Ephemeral)].contains(&refused.refusal()));
            assert_eq!(code(admin.persist(&block(Transports::Tcp, ports))), 32);
            assert_eq!(code(admin.exclude(Transports::Tcp, range(ports), None)), 32);
        }
        let [entry] = &admin.list().expect("list")[..] else {
            panic!("one exclusion");
        };
        assert_eq!(
            (entry.kind, entry.note.as_ref()),
            (Kind::Exclusion, Some(&note))
        );
        assert_eq!(
            code(admin.unexclude(Transports::Tcp, range("40000-40008"))),
            1168
        );
        assert_eq!(
            code(admin.unexclude(Transports::Udp, range("40000-40009"))),
            1168
        );
        admin
            .unexclude(Transports::Tcp, range("40000-40009"))
            .expect("unexclude");
        assert_eq!(
            code(admin.unexclude(Transports::Tcp, range("40000-40009"))),
            1168
        );
        assert_eq!(reserved(), before);
        let bound = bind(40_005).expect("bind");
        assert_eq!(
            code(admin.exclude(Transports::Tcp, range("40000-40009"), None)),
            32
        );
        drop(bound);
        assert_eq!(reserved(), before);
    });
}

/// What an administrator writes into the sysctl is his protection, no exclusion.
#[test]
fn an_entry_of_the_sysctl_alone_is_no_exclusion() {
    in_bare_arena!(|arena| {
        fs::write(RESERVED, "40000\n").expect("write the sysctl");
        arena.attach();
        let mut admin = admin(arena);
        persist(&mut admin, "40000");
        admin
            .unpersist(Transports::Tcp, range("40000"))
            .expect("unpersist");
        assert!(set("40000").difference(&reserved()).is_empty());
        assert_eq!(admin.list().expect("list"), []);
    });
}

#[test]
fn where_no_pool_is_nothing_can_be_administrated() {
    in_bare_arena!(|arena| {
        let refused = Admin::open(arena.run(), &state(arena)).expect_err("no pool");
        assert!(matches!(refused, AdminError::NotAttached), "{refused}");
        assert!(!state(arena).path().exists());
    });
}
