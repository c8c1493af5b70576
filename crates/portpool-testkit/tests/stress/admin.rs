//! Administration at the same instant as claims and binds: of two who cross, never both win.

use portpool::{
    AcquireError, AdminError, Caller, Pool, PortRange, RangeSet, Refusal, Scope, Token, Transport,
    Want,
};
use portpool_kernel::{Reason, make_grantable};
use portpool_testkit::{Size, in_arena};
use socket2::Socket;

use crate::crossing::{Tally, bind, claim, nothing_left, tcp};
use crate::duel::duel;

const FIRST: u16 = 20_000;

fn rounds() -> u32 {
    Size::asked().pick(4_000, 500_000)
}

#[test]
fn a_claim_and_an_exclusion_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let excluded = range(FIRST + 199, 200);
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| (),
            |()| claim(&pool, &owner, FIRST, 200),
            |()| won(pool.exclude(Transport::Tcp, excluded)),
            |round, (), claimed, excludes| {
                tally.count(claimed.is_some(), excludes);
                assert!(claimed.is_none() || !excludes, "round {round}: both");
                if let Some(token) = claimed {
                    pool.release_on(&owner, token).expect("release");
                }
                if excludes {
                    pool.unexclude(Transport::Tcp, excluded).expect("unexclude");
                }
            },
        );
        tally.print("claim against exclusion");
        // What was refused has left nothing.
        assert!(pool.excluded(Transport::Tcp).expect("look").is_empty());
        nothing_left(arena, owner);
    });
}

#[test]
fn a_persistent_block_and_a_plain_bind_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let block = range(FIRST, 3);
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| tcp(),
            |_| persist(&pool, block),
            |stranger| bind(stranger, FIRST + 1),
            |round, _, persistent, bound| {
                tally.count(persistent.is_some(), bound);
                assert!(persistent.is_none() || !bound, "round {round}: both");
                if persistent.is_some() {
                    pool.remove_persistent(Transport::Tcp, block)
                        .expect("delete");
                }
            },
        );
        tally.print("persist against bind");
        nothing_left(arena, tcp());
    });
}

#[test]
fn the_bind_into_a_deleted_block_and_the_next_claim_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let block = range(FIRST, 1);
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                let token = persist(&pool, block).expect("persist");
                let socket = tcp();
                pool.associate(&socket, token).expect("associate");
                socket
            },
            |_| {
                pool.remove_persistent(Transport::Tcp, block)
                    .expect("delete");
                claim(&pool, &owner, FIRST, 1)
            },
            |socket| bind(socket, 0),
            |round, _, claimed, bound| {
                tally.count(claimed.is_some(), bound);
                assert!(claimed.is_none() || !bound, "round {round}: both");
                if let Some(token) = claimed {
                    pool.release_on(&owner, token).expect("release");
                }
            },
        );
        tally.print("delete and claim against bind");
        nothing_left(arena, owner);
    });
}

#[test]
fn of_two_deletions_exactly_one_ends_the_block() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let block = range(FIRST, 70);
        let delete = || match pool.remove_persistent(Transport::Tcp, block) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.refusal(), Some(Refusal::NoSuchBlock), "{error}");
                false
            }
        };
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                persist(&pool, block).expect("the ports of the last round are free");
            },
            |()| delete(),
            |()| delete(),
            |round, (), one, other| {
                tally.count(one, other);
                assert!(one != other, "round {round}: deleted {one} and {other}");
            },
        );
        tally.print("delete against delete");
        nothing_left(arena, tcp());
    });
}

/// Both sides are the process that the window names.
#[test]
fn a_window_is_used_once_however_many_threads_try() {
    in_arena!(|arena| {
        let ephemeral = "40000-40003";
        let ports = RangeSet::from(ephemeral.parse::<PortRange>().expect("range"));
        make_grantable(arena.run(), Reason::Granted, &ports).expect("make them grantable");
        let pool = arena.pool();
        let (owner, other) = (tcp(), tcp());
        let caller = myself();
        let attempt = |socket: &Socket| {
            let range: PortRange = ephemeral.parse().expect("range");
            match pool.acquire_on(socket, &Want::Specific(range), Scope::Associated) {
                Ok(block) => Some(block.token),
                Err(AcquireError::Refused {
                    refusal: Refusal::InUse | Refusal::Ephemeral,
                    ..
                }) => None,
                Err(error) => panic!("claim: {error}"),
            }
        };
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                let deadline = Pool::since_boot() + 60_000_000_000;
                let range = ephemeral.parse().expect("range");
                pool.open_window(Transport::Tcp, range, caller, deadline)
                    .expect("open a window");
            },
            |()| attempt(&owner),
            |()| attempt(&other),
            |round, (), one, two| {
                tally.count(one.is_some(), two.is_some());
                // The other may have met the claim while it was looking, and the window with it.
                assert!(
                    one.is_some() != two.is_some(),
                    "round {round}: {one:?}, {two:?}"
                );
                for (socket, token) in [(&owner, one), (&other, two)] {
                    token
                        .into_iter()
                        .for_each(|token| pool.release_on(socket, token).expect("release"));
                }
                assert_eq!(attempt(&owner), None, "round {round}: a third time");
            },
        );
        tally.print("claim against claim through a window");
        drop(other);
        nothing_left(arena, owner);
    });
}

#[test]
fn a_lend_that_ends_while_its_tree_binds_leaves_nothing() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let block = range(FIRST, 4);
        let token = persist(&pool, block).expect("persist");
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                let lend = pool.lend(Transport::Tcp, token, None).expect("lend");
                (std::sync::Mutex::new(Some(lend)), tcp())
            },
            |(lend, _)| {
                drop(lend.lock().expect("lock").take());
                true
            },
            |(_, socket)| bind(socket, FIRST),
            |round, _, _, bound| {
                tally.count(true, bound);
                assert!(!bind(&tcp(), FIRST + 1), "round {round}: the lend goes on");
            },
        );
        tally.print("end of a lend against bind");
        pool.remove_persistent(Transport::Tcp, block)
            .expect("delete");
        nothing_left(arena, tcp());
    });
}

fn persist(pool: &Pool, range: PortRange) -> Option<Token> {
    let token = pool.new_persistent_token().expect("token");
    won(pool.install_persistent(Transport::Tcp, range, token, None)).then_some(token)
}

/// Whether it was done, rather than refused as in use.
fn won(answer: Result<(), AdminError>) -> bool {
    match answer {
        Ok(()) => true,
        Err(error) if error.refusal() == Some(Refusal::InUse) => false,
        Err(error) => panic!("{error}"),
    }
}

fn range(first: u16, count: u16) -> PortRange {
    PortRange::from_numbers(first, count).expect("range")
}

fn myself() -> Caller {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let start = after_name.split_whitespace().nth(19).expect("a start");
    Caller {
        uid: 0,
        pid: std::process::id(),
        start_ticks: start.parse().expect("a number"),
    }
}
