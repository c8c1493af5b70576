//! What doctor finds.

use portpool_testkit::{Actor, Arena, in_arena, in_bare_arena};

use crate::scene::{ACTOR, RESERVED, STRANGER, words};

#[test]
fn doctor_finds_an_attached_pool_good() {
    in_arena!(|arena| {
        let found = findings(arena, &mut Actor::start(ACTOR));
        for name in [
            "kernel",
            "kernel-types",
            "cgroup",
            "privileges",
            "mount-namespace",
            "pool",
            "programs",
            "reserved-ports",
        ] {
            assert_eq!(verdict(&found, name), Some("Good"), "{name} in {found}");
        }
    });
}

#[test]
fn doctor_says_how_to_attach_where_no_pool_is() {
    in_bare_arena!(|arena| {
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert!(found.contains("pool=Missing:portpool_attach"), "{found}");
        assert_eq!(verdict(&found, "programs"), None);
        assert_eq!(
            crate::scene::Traces::of(arena),
            crate::scene::Traces::nothing()
        );
    });
}

#[test]
fn doctor_warns_of_a_private_mount_namespace() {
    in_bare_arena!(|arena| {
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert_eq!(
            verdict(&found, "mount-namespace"),
            Some("Warning"),
            "{found}"
        );
        assert!(found.contains("nsenter_-t_1_-m"), "{found}");
    });
}

#[test]
fn doctor_works_without_privilege_and_sees_the_pool() {
    in_arena!(|arena| {
        let found = findings(arena, &mut Actor::start_as(ACTOR, STRANGER));
        assert_eq!(verdict(&found, "privileges"), Some("Warning"), "{found}");
        assert!(found.contains("run_attach_as_root"), "{found}");
        assert_ne!(
            verdict(&found, "pool"),
            Some("Missing"),
            "an attached pool is not missing: {found}"
        );
        assert_eq!(verdict(&found, "reserved-ports"), Some("Good"), "{found}");
    });
}

#[test]
fn doctor_finds_what_was_lost_from_the_sysctl() {
    in_arena!(|arena| {
        std::fs::write(RESERVED, "8080\n").expect("write the sysctl");
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert!(
            found.contains("reserved-ports=Missing:portpool_attach"),
            "{found}"
        );
        arena.attach();
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert_eq!(verdict(&found, "reserved-ports"), Some("Good"), "{found}");
    });
}

#[test]
fn doctor_finds_programs_that_are_not_linked_any_more() {
    in_arena!(|arena| {
        std::fs::remove_file(arena.run().path().join("bpf/links/pp_bind4")).expect("unlink");
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert_eq!(verdict(&found, "programs"), Some("Warning"), "{found}");
        arena.attach();
        let found = findings(arena, &mut Actor::start(ACTOR));
        assert_eq!(verdict(&found, "programs"), Some("Good"), "{found}");
    });
}

fn findings(arena: &Arena, actor: &mut Actor) -> String {
    let (run, _) = words(arena);
    actor.ask(&format!("findings {run}")).expect("findings")
}

fn verdict<'a>(found: &'a str, name: &str) -> Option<&'a str> {
    let finding = found
        .split(' ')
        .find_map(|word| word.strip_prefix(&format!("{name}=")))?;
    finding.split(':').next()
}
