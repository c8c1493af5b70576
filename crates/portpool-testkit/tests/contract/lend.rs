//! Lends: a tree of processes consumes a persistent block without associating.

use std::{os::unix::process::CommandExt, process::Command};

use portpool::{Lend, Pool, Refusal, Token, Transport, abi};
use portpool_testkit::{Actor, Errno};

use crate::kit::{ACTOR, NOBODY, bind_port, control, grant, order, range, tcp, udp};

const GROUP: u32 = 54_321;

#[test]
fn a_lend_lets_the_tree_bind_plainly_until_it_is_dropped() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, None);
        let mut stranger = Actor::start(ACTOR);
        stranger.ask("socket s tcp4").expect("socket");
        let mut child = Actor::start_as(ACTOR, NOBODY);
        child.ask("child c").expect("grandchild");
        for prefix in ["", "in c "] {
            child
                .ask(&format!("{prefix}socket s tcp4"))
                .expect("socket");
            assert_eq!(bind(&mut child, prefix, 20_000), Err(Errno::ACCES));
        }
        let lend = lend(&pool, Transport::Tcp, token);
        for prefix in ["", "in c "] {
            bind(&mut child, prefix, 20_000).expect("bind");
            child
                .ask(&format!("{prefix}socket s tcp4"))
                .expect("socket");
        }
        // This process is the root; its own plain bind works, and the token gives no more right.
        bind_port(&tcp(), 20_001).expect("bind");
        let associate = format!("associate s {}", token.value());
        assert_eq!(child.ask(&associate), Err(Errno::ACCES));
        // The other transport is nobody's, ports outside are strangers' ports as ever.
        bind_port(&udp(), 20_000).expect("bind");
        let kept = tcp();
        bind_port(&kept, 20_003).expect("bind");
        drop(lend);
        assert_eq!(bind_port(&tcp(), 20_001), Err(Errno::ACCES));
        assert_eq!(bind(&mut child, "", 20_000), Err(Errno::ACCES));
        kept.listen(1).expect("what is bound stays bound");
    });
}

#[test]
fn several_lends_go_on_side_by_side_and_each_ends_by_itself() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, None);
        let mut lenders: Vec<Actor> = (0..3).map(|_| Actor::start(ACTOR)).collect();
        for lender in &mut lenders {
            let lend = lend_order("l", token, 0);
            lender
                .ask_all(&["socket l tcp4", &lend, "child c"])
                .expect("lend");
            bind(lender, "in c ", 20_000).expect("bind");
        }
        // Twice by one process: the first end leaves the second.
        let (first, second) = (
            lend(&pool, Transport::Tcp, token),
            lend(&pool, Transport::Tcp, token),
        );
        drop(first);
        bind_port(&tcp(), 20_001).expect("bind");
        drop(second);
        assert_eq!(bind_port(&tcp(), 20_001), Err(Errno::ACCES));
        lenders[0].ask("close l").expect("close");
        assert_eq!(bind(&mut lenders[0], "in c ", 20_000), Err(Errno::ACCES));
        lenders[1].kill();
        bind(&mut lenders[2], "in c ", 20_000).expect("bind");
        let mut lender = lenders.remove(2);
        drop(lenders);
        bind(&mut lender, "", 20_000).expect("bind");
    });
}

/// kill -9 of the lender: what it started goes on, and binds no more.
#[test]
fn the_end_of_the_lender_is_the_end_of_the_lend() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, None);
        let mut root = Actor::start(ACTOR);
        let lend = lend_order("l", token, root.pid());
        root.ask_all(&["child lender", "child worker", "in lender socket l tcp4"])
            .expect("children");
        root.ask(&format!("in lender {lend}"))
            .expect("lend to the parent");
        bind(&mut root, "in worker ", 20_000).expect("bind");
        root.ask("end lender").expect("kill the lender");
        assert_eq!(bind(&mut root, "in worker ", 20_000), Err(Errno::ACCES));
        assert_eq!(pool.reservations().expect("look").len(), 1);
        assert_eq!(pool.overview().expect("look").counters.reservations, 1);
    });
}

#[test]
fn only_who_may_consume_it_may_lend_it() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, Some(GROUP));
        let mut member = Actor::spawn(Command::new(ACTOR).uid(NOBODY).gid(GROUP));
        let mut nobody = Actor::start_as(ACTOR, NOBODY);
        let lend = lend_order("s", token, 0);
        nobody.ask("child-by u unshare -U -r").expect("child");
        for prefix in ["", "in u "] {
            nobody
                .ask(&format!("{prefix}socket s tcp4"))
                .expect("socket");
            assert_eq!(nobody.ask(&format!("{prefix}{lend}")), Err(Errno::ACCES));
            assert_eq!(bind(&mut nobody, prefix, 20_000), Err(Errno::ACCES));
        }
        // A member lends to itself and to its children, not to a process of others.
        let to_me = lend_order("s", token, std::process::id());
        assert_eq!(
            member.ask_all(&["socket s tcp4", &to_me]),
            Err(Errno(libc::ESRCH))
        );
        member.ask(&lend).expect("lend");
        member.ask("child c").expect("child");
        bind(&mut member, "in c ", 20_000).expect("bind");
        bind(&mut member, "", 20_000).expect("bind");
        // One lend a socket, and each is charged as a reservation.
        assert_eq!(member.ask(&lend), Err(Errno(libc::EMFILE)));
        assert_eq!(
            pool.overview().expect("look").counters.shared_reservations,
            1
        );
        member.kill();
        assert_eq!(
            pool.overview().expect("look").counters.shared_reservations,
            0
        );
    });
}

#[test]
fn only_a_persistent_block_that_is_there_is_lent() {
    case!(|arena| {
        let pool = arena.pool();
        let token = install(&pool, Transport::Tcp, None);
        let owner = tcp();
        let runtime = grant(&pool, &owner, "21000").token;
        let refused = |transport, token| {
            let error = pool.lend(transport, token, None).expect_err("lent");
            error.refusal()
        };
        let unknown = Token::new(99).expect("a token");
        for (transport, token) in [
            (Transport::Tcp, unknown),
            (Transport::Tcp, runtime),
            (Transport::Udp, token),
        ] {
            assert_eq!(refused(transport, token), Some(Refusal::UnknownToken));
        }
        let good = abi::Lend { token, root: None }.to_bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            bytes.to_vec()
        };
        // A start without a process, a reserved field, wrong sizes.
        for bytes in [with(8, 1), with(20, 1), good[..23].to_vec(), vec![0; 25]] {
            let answer = control(&tcp(), abi::ControlCode::Lend as i32, &bytes);
            assert_eq!(answer, Err(Errno::INVAL), "{bytes:?}");
        }
        // What is deleted is lent to nobody, also if its ports are persistent again.
        let lend = lend(&pool, Transport::Tcp, token);
        pool.remove_persistent(Transport::Tcp, range("20000-20003"))
            .expect("delete");
        bind_port(&tcp(), 20_000).expect("nobody's port");
        install(&pool, Transport::Tcp, None);
        assert_eq!(bind_port(&tcp(), 20_000), Err(Errno::ACCES));
        drop(lend);
    });
}

fn install(pool: &Pool, transport: Transport, group: Option<u32>) -> Token {
    let token = pool.new_persistent_token().expect("token");
    pool.install_persistent(transport, range("20000-20003"), token, group)
        .unwrap_or_else(|error| panic!("{error}"));
    token
}

fn lend(pool: &Pool, transport: Transport, token: Token) -> Lend {
    let lend = pool.lend(transport, token, None);
    lend.unwrap_or_else(|error| panic!("{error}"))
}

fn lend_order(name: &str, token: Token, root: u32) -> String {
    let root = (root != 0).then_some(root);
    order(
        name,
        abi::ControlCode::Lend,
        &abi::Lend { token, root }.to_bytes(),
    )
}

/// A plain bind of a new socket by an actor.
fn bind(actor: &mut Actor, prefix: &str, port: u16) -> Result<String, Errno> {
    actor
        .ask(&format!("{prefix}socket b tcp4"))
        .expect("socket");
    let answer = actor.ask(&format!("{prefix}bind b 127.0.0.1:{port}"));
    actor.ask(&format!("{prefix}close b")).expect("close");
    answer
}
