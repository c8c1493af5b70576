//! Persistent blocks: section 5 of the specification, its cases 17, 66 and 106 to 124, as far as the
//! kernel decides them.

use std::{os::unix::process::CommandExt, process::Command};

use portpool::{
    AdminError, Pool, PortRange, Refusal, Scope, Tenure, Token, Transport,
    abi::{ControlCode, Origin, Persist, Ports},
};
use portpool_testkit::{Actor, Errno};

use crate::column::Stage;
use crate::kit::{
    ACTOR, NOBODY, any_within, associated, attach_ranges, bind, bind_port, connect, exactly, grant,
    is_reserved, order, peer, port_of, range, raw_associate, raw_release, refusal, set_sysctl,
    socket, tcp, udp,
};

/// A group that nobody is in by accident.
const GROUP: u32 = 54_321;

/// Cases 106, 112, 113, 115, 116 and 121.
#[test]
fn a_persistent_block_is_made_found_and_deleted_by_exactly_its_ports() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        let lookup = |transport, ports| {
            let found = pool.lookup_persistent(transport, range(ports));
            found.expect("look up")
        };
        assert_eq!(lookup(Transport::Tcp, "20000-20003"), Some(token));
        for other in [
            "20000-20002",
            "20001-20003",
            "20000-20004",
            "20001-20004",
            "20000",
        ] {
            assert_eq!(lookup(Transport::Tcp, other), None, "{other}");
            let removed = pool.remove_persistent(Transport::Tcp, range(other));
            assert_eq!(refused(removed), Refusal::NoSuchBlock, "{other}");
        }
        assert_eq!(lookup(Transport::Udp, "20000-20003"), None);
        let removed = pool.remove_persistent(Transport::Udp, range("20000-20003"));
        assert_eq!(refused(removed), Refusal::NoSuchBlock);
        for _ in 0..3 {
            assert_eq!(bind_port(&tcp(), 20_001), Err(Errno::ACCES));
        }
        bind_port(&udp(), 20_001).expect("the other transport");
        remove(&pool, Transport::Tcp, "20000-20003");
        assert_eq!(lookup(Transport::Tcp, "20000-20003"), None);
        let again = pool.remove_persistent(Transport::Tcp, range("20000-20003"));
        assert_eq!(refused(again), Refusal::NoSuchBlock);
        bind_port(&tcp(), 20_001).expect("bind after the deletion");
    });
}

/// Case 108 and 109, and every other value that is no request.
#[test]
fn a_malformed_request_changes_nothing() {
    case!(|arena| {
        let pool = arena.pool();
        let good = persist_bytes("20000-20003", 7, Some(GROUP), Origin::New);
        let with = |at: usize, value: u16| {
            let mut bytes = good;
            bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
            bytes.to_vec()
        };
        let mut bad = vec![
            with(12, 0),
            with(14, 0),
            with(14, 0xffff),
            with(16, 4),
            with(16, 5),
        ];
        bad.extend([
            with(12, 65_530),
            with(16, 0),
            with(18, 1),
            with(20, 1),
            with(22, 1),
        ]);
        bad[5][14..16].copy_from_slice(&10u16.to_ne_bytes());
        bad.extend([good[..23].to_vec(), [good.as_slice(), &[0]].concat()]);
        for token in [0, u64::MAX] {
            let mut bytes = good;
            bytes[..8].copy_from_slice(&token.to_ne_bytes());
            bad.push(bytes.to_vec());
        }
        // Parameters before privilege: everybody hears that the request is none.
        let mut nobody = Actor::start_as(ACTOR, NOBODY);
        nobody.ask("socket s tcp4").expect("socket");
        for bytes in &bad {
            let code = ControlCode::Persist as i32;
            let answer = crate::kit::control(&tcp(), code, bytes);
            assert_eq!(answer, Err(Errno::INVAL), "{bytes:?}");
            let answer = nobody.ask(&order("s", ControlCode::Persist, bytes));
            assert_eq!(answer, Err(Errno::INVAL), "{bytes:?}");
        }
        for code in [
            ControlCode::Unpersist,
            ControlCode::Exclude,
            ControlCode::Unexclude,
        ] {
            for bytes in [
                ports_bytes(0, 1, 0, 0),
                ports_bytes(20_000, 0, 0, 0),
                ports_bytes(65_535, 2, 0, 0),
                ports_bytes(20_000, 1, 1, 0),
                ports_bytes(20_000, 1, 0, 1),
            ] {
                let answer = crate::kit::control(&tcp(), code as i32, &bytes);
                assert_eq!(answer, Err(Errno::INVAL), "{code:?} {bytes:?}");
            }
        }
        assert_eq!(pool.reservations().expect("look"), []);
    });
}

/// Cases 110, 111, 122 and 17: a port that is bound, reserved or persistent is in use for the next.
#[test]
fn what_is_taken_is_not_made_persistent_and_what_is_persistent_is_taken() {
    case!(|arena| {
        let pool = arena.pool();
        let persist = |ports: &str| {
            let token = pool.new_persistent_token().expect("token");
            pool.install_persistent(Transport::Tcp, range(ports), token, None)
        };
        let bound = tcp();
        bind_port(&bound, 20_002).expect("bind");
        assert_eq!(refused(persist("20000-20003")), Refusal::InUse);
        assert!(!is_reserved(&pool, Transport::Tcp, 20_000));
        drop(bound);
        let owner = tcp();
        grant(&pool, &owner, "20002");
        assert_eq!(refused(persist("20000-20003")), Refusal::InUse);
        drop(owner);
        persist("20000-20003").expect("persist");
        for overlapping in [
            "20000-20003",
            "20003-20004",
            "19999-20000",
            "20001",
            "19990-20010",
        ] {
            assert_eq!(
                refused(persist(overlapping)),
                Refusal::InUse,
                "{overlapping}"
            );
            let want = exactly(overlapping);
            assert_eq!(
                refusal(&pool, &tcp(), &want),
                Refusal::InUse,
                "{overlapping}"
            );
        }
        let within = any_within(4, 1, "20000-20003");
        assert_eq!(refusal(&pool, &tcp(), &within), Refusal::NoRoom);
        persist("20004-20005").expect("a neighbour");
    });
}

/// Cases 107, 114 and 120.
#[test]
fn without_the_privilege_it_is_neither_made_nor_deleted_nor_consumed_but_found() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        let mut nobody = Actor::start_as(ACTOR, NOBODY);
        // It has every capability, in a user namespace of its own.
        nobody.ask("child-by u unshare -U -r").expect("child");
        for prefix in ["", "in u "] {
            nobody
                .ask(&format!("{prefix}socket s tcp4"))
                .expect("socket");
            let persist = persist_bytes("21000-21003", 8, None, Origin::New);
            let ports = ports_bytes(20_000, 4, 0, 0);
            for (code, value) in [
                (ControlCode::Persist, persist.as_slice()),
                (ControlCode::Unpersist, &ports),
                (ControlCode::Exclude, &ports_bytes(21_000, 4, 0, 0)),
                (ControlCode::Unexclude, &ports_bytes(21_000, 4, 0, 0)),
                (ControlCode::Associate, &token.value().to_ne_bytes()),
            ] {
                let order = format!("{prefix}{}", order("s", code, value));
                assert_eq!(nobody.ask(&order), Err(Errno::ACCES), "{order}");
            }
            let plain = nobody.ask(&format!("{prefix}bind s 127.0.0.1:20000"));
            assert_eq!(plain, Err(Errno::ACCES));
        }
        assert!(portpool_testkit::sys::in_fork(|| {
            portpool_testkit::sys::become_uid(NOBODY).expect("setuid");
            let found = pool.lookup_persistent(Transport::Tcp, range("20000-20003"));
            assert_eq!(found.expect("look up"), Some(token));
        }));
    });
}

/// Case 119, rule 4: any process with the privilege, at any time, together with others.
#[test]
fn processes_with_the_privilege_consume_it_together() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        let mut others: Vec<Actor> = (0..3).map(|_| Actor::start(ACTOR)).collect();
        for (other, port) in others.iter_mut().zip(20_000..) {
            let associate = format!("associate s {}", token.value());
            other
                .ask_all(&["socket s tcp4", &associate, "bind s 127.0.0.1:0"])
                .expect("consume");
            assert_eq!(other.ask("address s"), Ok(format!("127.0.0.1:{port}")));
        }
        let mine = associated(&pool, "tcp6", token);
        assert_eq!(bind_port(&mine, 20_003), Ok(20_003));
        let fifth = associated(&pool, "tcp4", token);
        assert_eq!(bind_port(&fifth, 0), Err(Errno::NOBUFS));
        others[1].ask("close s").expect("close");
        assert_eq!(bind_port(&fifth, 0), Ok(20_001));
        // Neither its end nor that of a consumer is the end of the block.
        drop((others, mine, fifth));
        assert!(is_reserved(&pool, Transport::Tcp, 20_003));
        let (_listener, port) = peer();
        let client = associated(&pool, "tcp4", token);
        assert_eq!(connect(&client, port), Ok(20_000));
        let outside = associated(&pool, "tcp4", token);
        assert_eq!(bind_port(&outside, 20_004), Err(Errno::ADDRNOTAVAIL));
        assert_eq!(raw_associate(&udp(), token.value()), Err(Errno::INVAL));
        assert_eq!(raw_associate(&client, token.value()), Err(Errno::INVAL));
    });
}

#[test]
fn members_of_its_group_consume_it_and_others_do_not() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Udp, "20000-20003", Some(GROUP)).value();
        let associate = format!("associate s {token}");
        let mut member = Actor::spawn(Command::new(ACTOR).uid(NOBODY).gid(GROUP));
        member
            .ask_all(&["socket s udp4", &associate])
            .expect("associate");
        member.ask("bind s 127.0.0.1:0").expect("bind");
        assert_eq!(member.ask("address s"), Ok("127.0.0.1:20000".to_owned()));
        member
            .ask_all(&["socket t udp6", &associate.replace(" s ", " t ")])
            .expect("associate");
        member.ask("bind t [::1]:20003").expect("bind");
        // A member is no administrator.
        let delete = order("s", ControlCode::Unpersist, &ports_bytes(20_000, 4, 0, 0));
        assert_eq!(member.ask(&delete), Err(Errno::ACCES));
        assert_eq!(member.ask(&format!("release s {token}")), Err(Errno::INVAL));
        let mut stranger = Actor::spawn(Command::new(ACTOR).uid(GROUP).gid(GROUP + 1));
        stranger.ask("socket s udp4").expect("socket");
        assert_eq!(stranger.ask(&associate), Err(Errno::ACCES));
        // A block without a group has none, not group 0.
        let token = install(&pool, Transport::Tcp, "20000-20003", None).value();
        let mut wheel = Actor::spawn(Command::new(ACTOR).uid(NOBODY).gid(0));
        wheel.ask("socket s tcp4").expect("socket");
        assert_eq!(
            wheel.ask(&format!("associate s {token}")),
            Err(Errno::ACCES)
        );
    });
}

/// The right is judged anew when the socket is bound, for the process that binds it.
#[test]
fn an_associated_socket_gives_no_right_to_whoever_is_handed_it() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", Some(GROUP)).value();
        let (_listener, port) = peer();
        let mut owner = Actor::start(ACTOR);
        owner
            .ask_all(&["socket s tcp4", &format!("associate s {token}")])
            .expect("associate");
        owner
            .ask(&format!("euid {NOBODY}"))
            .expect("drop the privilege");
        for order in [
            "bind s 127.0.0.1:0".to_owned(),
            "bind s 127.0.0.1:20001".to_owned(),
            format!("connect s 127.0.0.1:{port}"),
        ] {
            assert_eq!(owner.ask(&order), Err(Errno::ACCES), "{order}");
        }
        owner.ask("euid 0").expect("the privilege again");
        owner.ask("bind s 127.0.0.1:20001").expect("bind");
    });
}

/// Case 66, rules 23 and 11.
#[test]
fn release_and_close_do_not_end_it() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        assert_eq!(raw_release(&tcp(), token.value()), Err(Errno::INVAL));
        let released = pool.release_on(&tcp(), token).expect_err("released");
        assert_eq!(released.refusal(), Some(Refusal::Persistent));
        let found = pool.lookup_persistent(Transport::Tcp, range("20000-20003"));
        assert_eq!(found.expect("look up"), Some(token));
        let listed = pool.reservations().expect("look");
        let tenures: Vec<Tenure> = listed.iter().map(|entry| entry.tenure).collect();
        assert_eq!(tenures, [Tenure::Persistent { group: None }]);
    });
}

/// Cases 118 and 124.
#[test]
fn deleting_it_leaves_consumers_their_ports_and_makes_the_token_unknown() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        let consumer = associated(&pool, "tcp4", token);
        bind_port(&consumer, 0).expect("bind");
        let waiting = associated(&pool, "tcp4", token);
        remove(&pool, Transport::Tcp, "20000-20003");
        assert_eq!(port_of(&consumer), 20_000);
        consumer.listen(1).expect("listen");
        connect(&tcp(), 20_000).expect("connect to the consumer");
        assert_eq!(bind_port(&waiting, 0), Err(Errno::NOBUFS));
        assert_eq!(bind_port(&waiting, 20_001), Err(Errno::NOBUFS));
        assert_eq!(raw_associate(&tcp(), token.value()), Err(Errno::INVAL));
        // The port it keeps is nobody's to reserve, the others are.
        assert_eq!(refusal(&pool, &tcp(), &exactly("20000")), Refusal::InUse);
        grant(&pool, &tcp(), "20001-20003");
        let again = install(&pool, Transport::Tcp, "20001-20003", None);
        assert_ne!(again, token);
    });
}

#[test]
fn tokens_are_of_one_namespace_for_both_kinds() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", None);
        let taken = pool.install_persistent(Transport::Udp, range("20000-20003"), token, None);
        assert_eq!(refused(taken), Refusal::DuplicateToken);
        let owner = tcp();
        let block = grant(&pool, &owner, "21000");
        let taken = pool.install_persistent(Transport::Tcp, range("22000"), block.token, None);
        assert_eq!(refused(taken), Refusal::DuplicateToken);
    });
}

#[test]
fn ports_of_automatic_choice_and_privileged_ones_follow_the_rules_of_acquire() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20999");
        let token = pool.new_persistent_token().expect("token");
        let ephemeral = pool.install_persistent(Transport::Tcp, range("40000"), token, None);
        assert_eq!(refused(ephemeral), Refusal::Ephemeral);
        let restored = pool.restore_persistent(Transport::Tcp, range("40000"), token, None);
        assert_eq!(refused(restored), Refusal::Ephemeral);
        // Reserved since the sweep: the sockets there were not counted, which a restored block waives.
        set_sysctl("ipv4/ip_local_reserved_ports", "1-32767,40000,60999-65535");
        let swept = pool.install_persistent(Transport::Tcp, range("40000"), token, None);
        assert_eq!(refused(swept), Refusal::Ephemeral);
        pool.restore_persistent(Transport::Tcp, range("40000"), token, None)
            .expect("restore");
        let low = pool.new_persistent_token().expect("token");
        pool.install_persistent(Transport::Tcp, range("80"), low, None)
            .expect("a low port");
    });
}

/// Blocks on record are there before anything is granted, whoever uses their ports.
#[test]
fn a_restored_block_guards_ports_in_use_and_leaves_their_sockets_alone() {
    case!(|arena| {
        let pool = arena.pool();
        let early = tcp();
        early.set_reuse_port(true).expect("reuse");
        bind_port(&early, 20_001).expect("bind");
        let token = pool.new_persistent_token().expect("token");
        let installed = pool.install_persistent(Transport::Tcp, range("20000-20003"), token, None);
        assert_eq!(refused(installed), Refusal::InUse);
        pool.restore_persistent(Transport::Tcp, range("20000-20003"), token, None)
            .expect("restore");
        early.listen(1).expect("listen");
        connect(&tcp(), 20_001).expect("the socket there works on");
        let late = tcp();
        late.set_reuse_port(true).expect("reuse");
        assert_eq!(bind_port(&late, 20_001), Err(Errno::ACCES));
        assert_eq!(bind(&socket("tcp6"), "[::]:20000"), Err(Errno::ACCES));
        // The consumer passes over the port that is in use.
        let consumers = [(); 2].map(|()| associated(&pool, "tcp4", token));
        let consumers = consumers.each_ref().map(|consumer| bind_port(consumer, 0));
        assert_eq!(consumers, [Ok(20_000), Ok(20_002)]);
        let overlapping = pool.new_persistent_token().expect("token");
        let overlapping =
            pool.restore_persistent(Transport::Tcp, range("20003-20004"), overlapping, None);
        assert_eq!(refused(overlapping), Refusal::InUse);
    });
}

/// It is one of the pool's reservations, and charged to no user's share.
#[test]
fn it_is_charged_to_nobody_but_the_pool() {
    case!(|arena| {
        let pool = arena.pool();
        let count = |arena: &Stage<'_>| {
            let counters = arena.pool().overview().expect("look").counters;
            (
                counters.reservations,
                counters.shared_reservations,
                counters.shared_ports,
            )
        };
        install(&pool, Transport::Tcp, "10000-12999", None);
        install(&pool, Transport::Udp, "10000-12999", Some(GROUP));
        assert_eq!(count(arena), (2, 0, 0));
        remove(&pool, Transport::Tcp, "10000-12999");
        remove(&pool, Transport::Udp, "10000-12999");
        assert_eq!(count(arena), (0, 0, 0));
    });
}

/// Attach over a running pool keeps it, detach tells that it is in force no more.
#[test]
fn attach_keeps_it_and_detach_tells_that_it_ends() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, "20000-20003", Some(GROUP));
        let consumer = associated(&pool, "tcp4", token);
        bind_port(&consumer, 0).expect("bind");
        arena.attach();
        assert_eq!(bind_port(&tcp(), 20_001), Err(Errno::ACCES));
        let listed = pool.reservations().expect("look");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].tenure, Tenure::Persistent { group: Some(GROUP) });
        associated(&pool, "tcp4", token);
        // It is no process's, so nobody loses it unasked: what is on record comes back.
        let detached = portpool_kernel::detach(arena.run(), false).expect("detach");
        assert_eq!((detached.persistent_count, detached.ended), (1, vec![]));
        bind_port(&tcp(), 20_001).expect("bind without a pool");
        arena.attach();
        assert_eq!(raw_associate(&tcp(), token.value()), Err(Errno::INVAL));
    });
}

/// A runtime reservation that a wildcard draws never falls on one.
#[test]
fn wildcard_blocks_pass_it_by() {
    bare_case!(|arena| {
        let pool = attach_ranges(arena, "20000-20009");
        install(&pool, Transport::Tcp, "20002-20007", None);
        let owner = tcp();
        for _ in 0..4 {
            let block = pool.acquire_on(&owner, &crate::kit::any(1), Scope::Associated);
            let first = block.expect("acquire").range.first().number();
            assert!(![2, 3, 4, 5, 6, 7].contains(&(first - 20_000)), "{first}");
        }
        assert_eq!(refusal(&pool, &owner, &crate::kit::any(1)), Refusal::NoRoom);
    });
}

/// Makes a persistent block that must be made.
fn install(pool: &Pool, transport: Transport, ports: &str, group: Option<u32>) -> Token {
    let token = pool.new_persistent_token().expect("token");
    pool.install_persistent(transport, range(ports), token, group)
        .unwrap_or_else(|error| panic!("{error}"));
    token
}

fn remove(pool: &Pool, transport: Transport, ports: &str) {
    pool.remove_persistent(transport, range(ports))
        .unwrap_or_else(|error| panic!("{error}"));
}

fn refused(answer: Result<(), AdminError>) -> Refusal {
    let error = answer.expect_err("granted");
    error
        .refusal()
        .unwrap_or_else(|| panic!("failed, not refused: {error}"))
}

fn persist_bytes(ports: &str, token: u64, group: Option<u32>, origin: Origin) -> [u8; 24] {
    Persist {
        range: range(ports),
        token: Token::new(token).expect("a token"),
        group,
        origin,
    }
    .to_bytes()
}

/// The value of unpersist, exclude and unexclude, any field of it.
fn ports_bytes(first: u16, count: u16, flags: u16, zero: u16) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (at, number) in [(0, first), (2, count), (4, flags), (6, zero)] {
        bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
    }
    // The same as the library makes of the same ports.
    if let Ok(range) = PortRange::from_numbers(first, count)
        && (flags, zero) == (0, 0)
    {
        let origin = Origin::New;
        assert_eq!(bytes, Ports { range, origin }.to_bytes());
    }
    bytes
}
