//! Two network namespaces, and processes that go from one to the other.

use std::{fs::File, os::fd::AsFd, process::Command};

use portpool::{OpenError, Pool, PoolKind, Refusal, Transport};
use portpool_testkit::{Actor, Arena, Errno, in_arena, in_bare_arena, marks};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::{ACTOR, Kind, bind, claim_range, claimable, counted, errno, owner};

#[test]
fn a_socket_stays_with_the_pool_of_the_namespace_it_was_made_in() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        let elsewhere = Elsewhere::make();
        for kind in Kind::ALL {
            let old = kind.open(ANY);
            elsewhere.visit(|| {
                assert_eq!(errno(bind(&old, ANY, 20_001)), Some(Errno::ACCES));
                bind(&old, ANY, 20_004).expect("bind the old socket");
            });
            let transport = kind.transport();
            assert_eq!(claimable(&pool, transport, 20_004), Err(Refusal::InUse));
            elsewhere.visit(|| drop(old));
            assert_eq!(claimable(&pool, transport, 20_004), Ok(()), "{kind:?}");
        }
    });
}

#[test]
fn a_namespace_without_pool_is_as_without_portpool() {
    in_arena!(|arena| {
        let _owner = owner(20_000, 4);
        let mut elsewhere = Elsewhere::make();
        let actor = &mut elsewhere.actor;
        for (kind, reserved) in [
            ("tcp4", "20001"),
            ("udp4", "20001"),
            ("mptcp4", "20002"),
            ("tcp6", "20003"),
        ] {
            let any = if kind == "tcp6" { "[::]" } else { "0.0.0.0" };
            actor.ask(&format!("socket s {kind}")).expect("socket");
            let unknown = Errno(libc::ENOPROTOOPT);
            if !kind.starts_with("mptcp") {
                assert_eq!(actor.ask("acquire s 20000 4 9"), Err(unknown), "{kind}");
                assert_eq!(actor.ask("associate s 7"), Err(unknown));
                assert_eq!(actor.ask("release s 7"), Err(unknown));
            }
            let bound = actor.ask(&format!("bind s {any}:{reserved}"));
            assert_eq!(bound, Ok(String::new()), "{kind}");
        }
        let run = arena.run().path().to_owned();
        elsewhere.visit(|| {
            let opened = Pool::builder().kind(PoolKind::Kernel).run_dir(run).open();
            assert!(matches!(opened, Err(OpenError::NotAttached)));
        });
    });
}

#[test]
fn the_same_numbers_in_two_namespaces_are_strangers_to_each_other() {
    in_arena!(|arena| {
        let here = arena.pool();
        let elsewhere = Elsewhere::make();
        let block = claim_range(&here, Transport::Tcp, 20_000, 4).expect("here");
        let (there, other_block) = elsewhere.visit(|| {
            let pool = attached_here(arena);
            let block = claim_range(&pool, Transport::Tcp, 20_000, 4).expect("there");
            (pool, block)
        });
        assert_ne!(here.netns_cookie(), there.netns_cookie());
        // A token is known to its own pool only.
        let socket = Kind::Tcp.open(ANY);
        let token = other_block.blocks()[0].token;
        assert!(here.release_on(&socket, token).is_err());
        assert!(here.associate(&socket, token).is_err());

        let mine = block.tcp_listener(ANY).expect("bind here");
        let theirs = elsewhere.visit(|| other_block.tcp_listener(ANY).expect("bind there"));
        assert_eq!(mine.local_addr().ok(), theirs.local_addr().ok());
        assert_eq!(counted(&here, Transport::Tcp, 20_000), 1);
        assert_eq!(counted(&there, Transport::Tcp, 20_000), 1);
        drop((mine, block));
        assert_eq!(claimable(&here, Transport::Tcp, 20_000), Ok(()));
        assert_eq!(there.reservations().expect("look").len(), 1);
        elsewhere.visit(|| {
            let answer = claimable(&there, Transport::Tcp, 20_000);
            assert_eq!(answer, Err(Refusal::InUse));
            portpool_kernel::detach(arena.run(), true).expect("detach there");
        });
        drop((theirs, other_block));
        assert_eq!(claimable(&here, Transport::Tcp, 20_000), Ok(()));
    });
}

/// A pool that is detached forgets its sockets, and the next one of that namespace finds them; the
/// programs stayed attached all the while for the sake of the other namespace.
#[test]
fn sockets_of_a_detached_pool_are_counted_by_the_next() {
    in_arena!(|arena| {
        let elsewhere = Elsewhere::make();
        elsewhere.visit(|| {
            attached_here(arena);
            let sockets = Kind::ALL.map(|kind| {
                let socket = kind.open(ANY);
                let port = 20_000 + kind as u16;
                bind(&socket, ANY, port).expect("bind");
                (kind, port, socket)
            });
            for round in 0..3 {
                portpool_kernel::detach(arena.run(), true).expect("detach");
                let pool = attached_here(arena);
                for (kind, port, _) in &sockets {
                    let count = counted(&pool, kind.transport(), *port);
                    assert_eq!(count, 1, "{kind:?} in round {round}");
                }
            }
            let pool = pool_here(arena);
            for (kind, port, socket) in sockets {
                drop(socket);
                assert_eq!(claimable(&pool, kind.transport(), port), Ok(()), "{kind:?}");
            }
            portpool_kernel::detach(arena.run(), true).expect("detach");
        });
    });
}

/// A multipath socket closed while its namespace had no pool left its count behind, and the next
/// socket at the same address was not counted.
#[test]
fn sockets_closed_without_a_pool_leave_nothing_to_the_next() {
    in_arena!(|arena| {
        let elsewhere = Elsewhere::make();
        elsewhere.visit(|| {
            for _ in 0..5 {
                attached_here(arena);
                let opened = |first: u16| -> Vec<_> {
                    let sockets = (first..first + 200).map(|port| {
                        let socket = Kind::Mptcp.open(ANY);
                        bind(&socket, ANY, port).expect("bind");
                        socket
                    });
                    sockets.collect()
                };
                let before = opened(20_000);
                portpool_kernel::detach(arena.run(), true).expect("detach");
                drop(before);
                let after = opened(21_000);
                let pool = attached_here(arena);
                for port in 21_000..21_200 {
                    assert_eq!(counted(&pool, Transport::Tcp, port), 1, "{port}");
                }
                drop(after);
                let overview = pool.overview().expect("look");
                assert_eq!(overview.tcp.in_use_count, 0);
                portpool_kernel::detach(arena.run(), true).expect("detach");
            }
        });
    });
}

/// A slot is found by the address of its socket, which is another socket's soon.
#[test]
fn a_socket_closed_without_a_pool_has_no_slot_any_more() {
    in_arena!(|arena| {
        let elsewhere = Elsewhere::make();
        elsewhere.visit(|| {
            attached_here(arena);
            let sockets: Vec<_> = (20_000..20_100)
                .flat_map(|port| [Kind::Tcp, Kind::Udp].map(|kind| (kind, port)))
                .map(|(kind, port)| {
                    let socket = kind.open(ANY);
                    bind(&socket, ANY, port).expect("bind");
                    socket
                })
                .collect();
            assert_eq!(marks::slots_taken(arena), sockets.len());
            portpool_kernel::detach(arena.run(), true).expect("detach");
            assert_eq!(marks::slots_taken(arena), sockets.len());
            drop(sockets);
            assert_eq!(marks::slots_taken(arena), 0);
        });
    });
}

#[test]
fn a_namespace_made_by_a_user_namespace_passes_the_pool_by() {
    in_bare_arena!(|arena| {
        arena.attach();
        let _owner = owner(20_000, 4);
        let mut actor = Actor::spawn(Command::new("unshare").args(["-U", "-r", "-n", ACTOR]));
        actor
            .ask_all(&["socket s tcp4", "bind s 0.0.0.0:20001"])
            .expect("bind in a namespace of its own");
        let unknown = Errno(libc::ENOPROTOOPT);
        assert_eq!(actor.ask("acquire s 20000 4 9"), Err(unknown));
    });
}

const ANY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// Another network namespace, which lives as long as a process in it.
struct Elsewhere {
    actor: Actor,
    namespace: File,
}

impl Elsewhere {
    fn make() -> Elsewhere {
        let mut actor = Actor::spawn(Command::new("unshare").args(["-n", ACTOR]));
        // An answer says that unshare has done its work.
        actor.ask("socket first unix").expect("socket");
        let path = format!("/proc/{}/ns/net", actor.pid());
        let namespace = File::open(path).expect("its namespace");
        Elsewhere { actor, namespace }
    }

    /// Does `work` in a thread that has moved there.
    fn visit<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let visitor = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.namespace.as_fd(), network).expect("setns");
                work()
            });
            visitor.join().expect("the visit")
        })
    }
}

fn attached_here(arena: &Arena) -> Pool {
    portpool_kernel::attach(&arena.options()).expect("attach here");
    pool_here(arena)
}

fn pool_here(arena: &Arena) -> Pool {
    arena.pool()
}
