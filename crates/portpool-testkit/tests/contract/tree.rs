//! Scope tree: the root process and its descendants consume without associating.

use std::fs;

use portpool::{Refusal, Scope, Transport};
use portpool_testkit::{Actor, Errno};

use crate::kit::{
    ACTOR, NOBODY, RawAcquire, TREE, bind_port, control, exactly, is_reserved, refused, tcp, udp,
};

#[test]
fn descendants_of_the_root_bind_plainly_and_strangers_do_not() {
    case!(|arena| {
        let pool = arena.pool();
        let mut owner = root("tree");
        // The root itself, its child, its grandchild, each also after an exec.
        for prefix in ["", "in c ", "in c in c "] {
            if !prefix.is_empty() {
                let parent = &prefix[..prefix.len() - "in c ".len()];
                owner.ask(&format!("{parent}child c")).expect("child");
                bind(&mut owner, prefix, 20_001).expect("bind");
                owner.ask(&format!("{prefix}exec")).expect("exec");
            }
            for port in [20_000, 20_003] {
                bind(&mut owner, prefix, port).unwrap_or_else(|error| {
                    panic!("{prefix:?} bind {port}: {error:?}");
                });
            }
            // The right is to the ports of the block, and neither to associate nor to release.
            let orders = ["socket s tcp4", "associate s 7", "release s 7"];
            let [socket, associate, release] = orders.map(|order| format!("{prefix}{order}"));
            owner.ask(&socket).expect("socket");
            if !prefix.is_empty() {
                assert_eq!(owner.ask(&associate), Err(Errno::ACCES));
                assert_eq!(owner.ask(&release), Err(Errno::INVAL));
            }
        }
        // The parent of the root, a sibling and a sibling's child.
        assert_eq!(bind_port(&tcp(), 20_000), Err(Errno::ACCES));
        let mut sibling = Actor::start(ACTOR);
        sibling.ask("child c").expect("child");
        for prefix in ["", "in c "] {
            assert_eq!(bind(&mut sibling, prefix, 20_000), Err(Errno::ACCES));
        }
        assert!(is_reserved(&pool, Transport::Tcp, 20_000));
    });
}

#[test]
fn a_descendant_of_another_uid_keeps_the_right() {
    case!(|_| {
        let mut owner = root("tree");
        owner.ask(&format!("child c {NOBODY}")).expect("child");
        bind(&mut owner, "in c ", 20_000).expect("bind");
    });
}

#[test]
fn an_ancestor_can_be_named_as_the_root() {
    case!(|arena| {
        let pool = arena.pool();
        let mut shell = Actor::start(ACTOR);
        let pid = shell.pid();
        shell
            .ask_all(&[
                "child c",
                "child d",
                "in c socket o tcp4",
                &format!("in c acquire o 20000 4 7 tree {pid}"),
            ])
            .expect("acquire");
        for prefix in ["", "in c ", "in d "] {
            bind(&mut shell, prefix, 20_000).expect("bind");
        }
        assert_eq!(bind_port(&tcp(), 20_000), Err(Errno::ACCES));
        // The root consumes; only the owner associates and releases.
        shell.ask_all(&["socket s tcp4"]).expect("socket");
        assert_eq!(shell.ask("associate s 7"), Err(Errno::ACCES));
        assert_eq!(shell.ask("release s 7"), Err(Errno::INVAL));
        let entries = pool.reservations().expect("look");
        assert_eq!(entries[0].tree_root.map(|(pid, _)| pid), Some(pid));
        assert_ne!(entries[0].owner_pid, pid);
        // It ends with its owner, not with its root.
        shell.ask("end c").expect("end");
        assert_eq!(pool.reservations().expect("look"), []);
    });
}

#[test]
fn only_an_ancestor_with_the_same_uids_and_user_namespace_can_be_the_root() {
    case!(|arena| {
        let pool = arena.pool();
        let mut shell = Actor::start(ACTOR);
        let pid = shell.pid();
        shell
            .ask_all(&["child c", "child d", &format!("child n {NOBODY}")])
            .expect("children");
        shell.ask("child-by u unshare -U").expect("child");
        let sibling = shell.ask("in d pid").expect("pid");
        for (name, root, whose) in [
            ("c", sibling.as_str(), "a sibling"),
            ("c", "4194303", "nobody"),
            ("n", &pid.to_string(), "a parent of another uid"),
            ("u", &pid.to_string(), "a parent in another user namespace"),
        ] {
            shell
                .ask(&format!("in {name} socket o tcp4"))
                .expect("socket");
            assert_eq!(
                shell.ask(&format!("in {name} acquire o 20000 4 7 tree {root}")),
                Err(Errno(libc::ESRCH)),
                "{whose}"
            );
        }
        // A child is no ancestor.
        shell.ask("socket o tcp4").expect("socket");
        assert_eq!(
            shell.ask(&format!("acquire o 20000 4 7 tree {sibling}")),
            Err(Errno(libc::ESRCH))
        );
        let scope = Scope::Tree {
            root: Some(pid),
            zero_from_block: false,
        };
        assert_eq!(
            refused(pool.acquire_on(&tcp(), &exactly("20000"), scope)),
            Refusal::NotAncestor
        );
        assert_eq!(pool.reservations().expect("look"), []);
    });
}

/// Process ids come again: the start of the process tells whether it is the one that was meant.
#[test]
fn a_root_is_named_by_its_pid_and_its_start() {
    case!(|_| {
        let owner = tcp();
        let stat = fs::read_to_string("/proc/self/stat").expect("stat");
        let after_name = stat.rsplit(')').next().expect("fields");
        let start = after_name.split_whitespace().nth(19).expect("field 22");
        let start: u64 = start.parse().expect("a number");
        let request = RawAcquire {
            flags: 1,
            root_pid: std::process::id(),
            ..RawAcquire::new(20_000, 1, 7)
        };
        for wrong in [1, start - 1, start + 1, u64::MAX] {
            let root_start = wrong;
            let answer = RawAcquire {
                root_start,
                ..request
            }
            .on(&owner);
            assert_eq!(answer, Err(Errno(libc::ESRCH)), "{wrong}");
        }
        let root_start = start;
        RawAcquire {
            root_start,
            ..request
        }
        .on(&owner)
        .expect("the right start");
        assert_eq!(bind_port(&tcp(), 20_000), Ok(20_000));
    });
}

#[test]
fn port_zero_is_served_from_the_block_for_the_root_itself_only() {
    case!(|_| {
        let mut owner = root("zero");
        owner.ask("child c").expect("child");
        let block = 20_000..20_004;
        // The highest free ports first, so that a child that counts up from the first is not met.
        for port in [20_003, 20_002] {
            let name = format!("z{port}");
            owner.ask(&format!("socket {name} tcp4")).expect("socket");
            owner
                .ask(&format!("bind {name} 127.0.0.1:0"))
                .expect("bind");
            assert_eq!(port_of(&mut owner, "", &name), port);
        }
        // Not UDP, not a child, not another euid.
        owner
            .ask_all(&["socket u udp4", "bind u 127.0.0.1:0"])
            .expect("bind");
        assert!(!block.contains(&port_of(&mut owner, "", "u")));
        for order in ["in c socket s tcp4", "in c bind s 127.0.0.1:0"] {
            owner.ask(order).expect("bind");
        }
        assert!(!block.contains(&port_of(&mut owner, "in c ", "s")));
        owner
            .ask_all(&["euid 65534", "socket e tcp4", "bind e 127.0.0.1:0"])
            .expect("bind");
        assert!(!block.contains(&port_of(&mut owner, "", "e")));
        owner.ask("euid 0").expect("back");
        // An exhausted block leaves the choice to the kernel.
        for name in ["a", "b", "c"] {
            owner.ask(&format!("socket {name} tcp6")).expect("socket");
            owner.ask(&format!("bind {name} [::1]:0")).expect("bind");
        }
        assert_eq!(port_of(&mut owner, "", "a"), 20_001);
        assert_eq!(port_of(&mut owner, "", "b"), 20_000);
        assert!(!block.contains(&port_of(&mut owner, "", "c")));
        // So does the end of the reservation.
        owner
            .ask_all(&[
                "close a",
                "release o 7",
                "socket a tcp4",
                "bind a 127.0.0.1:0",
            ])
            .expect("bind");
        assert!(!block.contains(&port_of(&mut owner, "", "a")));
    });
}

#[test]
fn port_zero_is_served_neither_for_udp_nor_without_a_tree() {
    case!(|arena| {
        let pool = arena.pool();
        let request = RawAcquire {
            flags: 3,
            ..RawAcquire::new(20_000, 1, 7)
        };
        assert_eq!(request.on(&udp()), Err(Errno::INVAL));
        assert_eq!(
            RawAcquire {
                flags: 2,
                ..request
            }
            .on(&tcp()),
            Err(Errno::INVAL)
        );
        assert_eq!(pool.reservations().expect("look"), []);
        let owner = tcp();
        pool.acquire_on(&owner, &exactly("20000-20003"), TREE)
            .expect("acquire");
        let port = bind_port(&tcp(), 0).expect("bind(0)");
        assert!(!(20_000..20_004).contains(&port), "{port}");
        control(&tcp(), 99, &portpool::abi::probe_bytes()).expect("probe");
    });
}

/// The walk up the tree ends after 64 processes, the caller included.
#[test]
fn a_tree_is_64_generations_deep() {
    case!(|_| {
        let mut owner = root("tree");
        for depth in 0..65 {
            let prefix = "in c ".repeat(depth);
            owner.ask(&format!("{prefix}child c")).expect("child");
        }
        for (depth, expected) in [
            (1, Ok(())),
            (32, Ok(())),
            (63, Ok(())),
            (64, Err(Errno::ACCES)),
            (65, Err(Errno::ACCES)),
        ] {
            let prefix = "in c ".repeat(depth);
            assert_eq!(bind(&mut owner, &prefix, 20_000), expected, "{depth}");
        }
    });
}

#[test]
fn the_right_of_a_tree_ends_with_the_release() {
    case!(|arena| {
        let pool = arena.pool();
        let mut owner = root("tree");
        owner
            .ask_all(&[
                "child c",
                "in c socket kept tcp4",
                "in c bind kept 127.0.0.1:20000",
            ])
            .expect("bind");
        owner.ask("release o 7").expect("release");
        // What is bound stays bound.
        assert_eq!(port_of(&mut owner, "in c ", "kept"), 20_000);
        let other = tcp();
        pool.acquire_on(&other, &exactly("20001-20003"), Scope::Associated)
            .expect("acquire");
        for prefix in ["", "in c "] {
            assert_eq!(bind(&mut owner, prefix, 20_001), Err(Errno::ACCES));
        }
        // With the owner's end as with a release.
        let mut shell = Actor::start(ACTOR);
        let pid = shell.pid();
        shell
            .ask_all(&[
                "child c",
                "in c socket o tcp4",
                &format!("in c acquire o 21000 4 8 tree {pid}"),
            ])
            .expect("acquire");
        bind(&mut shell, "", 21_000).expect("bind");
        shell.ask("end c").expect("end");
        pool.acquire_on(&other, &exactly("21000-21003"), Scope::Associated)
            .expect("acquire");
        assert_eq!(bind(&mut shell, "", 21_000), Err(Errno::ACCES));
    });
}

/// One process as the root of as many trees as a socket may own, and of one more.
#[test]
fn a_root_has_at_most_32_trees() {
    case!(|arena| {
        let pool = arena.pool();
        let owners = [tcp(), udp()];
        for number in 0..32_u16 {
            let ports = (20_000 + number).to_string();
            pool.acquire_on(&owners[usize::from(number % 2)], &exactly(&ports), TREE)
                .expect("acquire");
        }
        assert_eq!(
            refused(pool.acquire_on(&owners[0], &exactly("20032"), TREE)),
            Refusal::SocketLimit
        );
        assert_eq!(pool.reservations().expect("look").len(), 32);
        assert!(!is_reserved(&pool, Transport::Tcp, 20_032));
        assert_eq!(bind_port(&tcp(), 20_030), Ok(20_030));
    });
}

/// An actor that owns TCP 20000-20003 as token 7 on its socket `o`.
fn root(scope: &str) -> Actor {
    let mut owner = Actor::start(ACTOR);
    owner
        .ask_all(&["socket o tcp4", &format!("acquire o 20000 4 7 {scope}")])
        .expect("acquire");
    owner
}

/// Binds a fresh socket and closes it again.
fn bind(actor: &mut Actor, prefix: &str, port: u16) -> Result<(), Errno> {
    actor
        .ask(&format!("{prefix}socket b tcp4"))
        .expect("socket");
    let answer = actor.ask(&format!("{prefix}bind b 127.0.0.1:{port}"));
    actor.ask(&format!("{prefix}close b")).expect("close");
    answer.map(drop)
}

fn port_of(actor: &mut Actor, prefix: &str, name: &str) -> u16 {
    let address = actor
        .ask(&format!("{prefix}address {name}"))
        .expect("address");
    let (_, port) = address.rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}
