//! Who is in the group of a persistent block, and who only says so.

use std::process::Command;

use portpool::{Pool, PortRange, Token, Transport};
use portpool_testkit::{Actor, Errno, in_arena};

use crate::common::ACTOR;

const BLOCK: &str = "20000-20003";

/// The kernel keeps supplementary groups sorted, up to 65,536: each of them counts, no other does.
#[test]
fn each_of_many_supplementary_groups_gives_the_right_and_none_beside_them() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for count in [1, 2, 3, 64, 1_000] {
            let groups: Vec<u32> = (0..count).map(|number| 50_000 + 2 * number).collect();
            let mut member = with_groups(&groups);
            let last = groups[groups.len() - 1];
            let beside = [1, 49_999, 50_001, last + 1, 70_000, u32::MAX - 1];
            for group in [groups[0], groups[groups.len() / 2], last] {
                assert_eq!(
                    consume(&pool, &mut member, group),
                    Ok(()),
                    "{group} of {count}"
                );
            }
            for group in beside {
                let answer = consume(&pool, &mut member, group);
                assert_eq!(answer, Err(Errno::ACCES), "{group} beside {count}");
            }
        }
        let mut nobody = with_groups(&[]);
        assert_eq!(consume(&pool, &mut nobody, 50_000), Err(Errno::ACCES));
    });
}

/// Group 0 of a user namespace of one's own is one's own group outside.
#[test]
fn a_group_is_that_of_the_initial_user_namespace() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let mut member = with_groups(&[]);
        member.ask("child-by u unshare -U -r").expect("child");
        for (group, expected) in [(0, Err(Errno::ACCES)), (NOGROUP, Ok(()))] {
            let token = persist(&pool, group).value();
            member.ask("in u socket s tcp4").expect("socket");
            let answer = member.ask(&format!("in u associate s {token}"));
            assert_eq!(answer.map(drop), expected, "group {group}");
            pool.remove_persistent(Transport::Tcp, block())
                .expect("delete");
        }
    });
}

/// Associates with and binds a port of a block with this group.
fn consume(pool: &Pool, actor: &mut Actor, group: u32) -> Result<(), Errno> {
    let token = persist(pool, group).value();
    actor.ask("socket s tcp4").expect("socket");
    let answer = actor.ask(&format!("associate s {token}"));
    let answer = answer.and_then(|_| actor.ask("bind s 127.0.0.1:0"));
    actor.ask("close s").expect("close");
    pool.remove_persistent(Transport::Tcp, block())
        .expect("delete");
    answer.map(drop)
}

fn persist(pool: &Pool, group: u32) -> Token {
    let token = pool.new_persistent_token().expect("token");
    pool.install_persistent(Transport::Tcp, block(), token, Some(group))
        .unwrap_or_else(|error| panic!("{error}"));
    token
}

fn block() -> PortRange {
    BLOCK.parse().expect("range")
}

/// An actor without privilege, with these supplementary groups.
fn with_groups(groups: &[u32]) -> Actor {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534"]);
    match groups {
        [] => command.arg("--clear-groups"),
        _ => {
            let list: Vec<String> = groups.iter().map(u32::to_string).collect();
            command.args(["--groups", &list.join(",")])
        }
    };
    Actor::spawn(command.arg(ACTOR))
}

const NOGROUP: u32 = 65_534;
