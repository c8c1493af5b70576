//! One pool for both families: cases 20, 47 and 57, rule 5.

use std::net::SocketAddr;

use portpool::{Refusal, Scope};
use portpool_testkit::Errno;

use crate::column::reserved_errno;
use crate::kit::{associated, bind, exactly, grant, lapse, peer, port_of, refusal, socket, tcp};

#[test]
fn a_block_acquired_in_one_family_is_consumed_in_both() {
    case!(|arena| {
        let pool = arena.pool();
        for (owner, kinds) in [
            ("tcp4", ["tcp4", "tcp6"]),
            ("tcp6", ["tcp4", "tcp6"]),
            ("udp4", ["udp4", "udp6"]),
            ("udp6", ["udp4", "udp6"]),
        ] {
            let owner = socket(owner);
            let token = grant(&pool, &owner, "20000-20003").token;
            let four = associated(&pool, kinds[0], token);
            assert_eq!(bind(&four, "127.0.0.1:0"), Ok(20_000));
            let six = associated(&pool, kinds[1], token);
            assert_eq!(bind(&six, "[::1]:0"), Ok(20_001));
            let mapped = associated(&pool, kinds[1], token);
            mapped.set_only_v6(false).expect("dual");
            assert_eq!(bind(&mapped, "[::ffff:127.0.0.1]:0"), Ok(20_002));
            drop((four, six, mapped));
            lapse(&pool, owner, &[token]);
        }
    });
}

/// A port counts as one, also where the kernel would let two families share it.
#[test]
fn a_dual_stack_socket_and_a_v6only_socket_use_up_their_port() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20002").token;
        let dual = associated(&pool, "tcp6", token);
        dual.set_only_v6(false).expect("dual");
        assert_eq!(bind(&dual, "[::]:0"), Ok(20_000));
        let v6only = associated(&pool, "tcp6", token);
        v6only.set_only_v6(true).expect("v6only");
        assert_eq!(bind(&v6only, "[::]:0"), Ok(20_001));
        let four = associated(&pool, "tcp4", token);
        assert_eq!(bind(&four, "0.0.0.0:0"), Ok(20_002));
        // Asked for by number, the ordinary rules hold: v6only and IPv4 may share.
        let sharing = associated(&pool, "tcp4", token);
        assert_eq!(bind(&sharing, "0.0.0.0:20000"), Err(Errno::ADDRINUSE));
        assert_eq!(bind(&sharing, "0.0.0.0:20001"), Ok(20_001));
    });
}

#[test]
fn a_block_is_reserved_in_both_families_at_once() {
    case!(|arena| {
        let pool = arena.pool();
        for (owner, others) in [("tcp4", "tcp6"), ("udp6", "udp4")] {
            let owner = socket(owner);
            let token = grant(&pool, &owner, "20000-20003").token;
            assert_eq!(
                refusal(&pool, &socket(others), &exactly("20003-20009")),
                Refusal::InUse
            );
            let v6only = socket(if others.starts_with("tcp") {
                "tcp6"
            } else {
                "udp6"
            });
            v6only.set_only_v6(true).expect("v6only");
            assert_eq!(bind(&v6only, "[::]:20000"), Err(reserved_errno()));
            lapse(&pool, owner, &[token]);
        }
    });
}

/// Rule 17 for every pair of families.
#[test]
fn connecting_takes_a_port_of_the_block_in_both_families() {
    case!(|arena| {
        let pool = arena.pool();
        let six_listener = socket("tcp6");
        six_listener.set_only_v6(false).expect("dual");
        let port = bind(&six_listener, "[::]:0").expect("bind");
        six_listener.listen(16).expect("listen");
        let owner = tcp();
        let token = pool
            .acquire_on(&owner, &exactly("20000-20007"), Scope::Associated)
            .expect("acquire")
            .token;
        let mut open = Vec::new();
        for (kind, to) in [
            ("tcp4", format!("127.0.0.1:{port}")),
            ("tcp6", format!("[::1]:{port}")),
            ("tcp6", format!("[::ffff:127.0.0.1]:{port}")),
        ] {
            let consumer = associated(&pool, kind, token);
            let to: SocketAddr = to.parse().expect("address");
            consumer
                .connect(&to.into())
                .unwrap_or_else(|error| panic!("{kind} to {to}: {error}"));
            assert_eq!(usize::from(port_of(&consumer)), 20_000 + open.len());
            open.push(consumer);
        }
        drop(peer());
    });
}
