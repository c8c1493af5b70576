//! The contract of the kernel pool, through the library.

use portpool_testkit::{Actor, Errno, in_arena};

const ACTOR: &str = env!("CARGO_BIN_EXE_portpool-actor");

#[test]
fn a_stranger_cannot_bind_a_reserved_port() {
    in_arena!(|_| {
        let mut owner = Actor::start(ACTOR);
        owner
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
        let mut stranger = Actor::start_as(ACTOR, 65_534);
        stranger.ask("socket s tcp4").expect("socket");
        assert_eq!(stranger.ask("bind s 127.0.0.1:20001"), Err(Errno::ACCES));
        owner.kill();
        stranger
            .ask("bind s 127.0.0.1:20001")
            .expect("bind after the owner's end");
    });
}
