//! What attach does to `net.ipv4.ip_local_reserved_ports`, and what detach leaves of it.

use std::fs;

use portpool::RangeSet;
use portpool_kernel::{AttachOptions, attach, detach};
use portpool_testkit::in_bare_arena;

use crate::scene::{RESERVED, reserved};

#[test]
fn the_administrators_entries_survive_attach_and_detach() {
    in_bare_arena!(|arena| {
        let entries = "22,8080,20000-20010,32700-33000,40000-40010,61000-61001";
        write(entries);
        arena.attach();
        for entry in [
            "22",
            "8080",
            "20000-20010",
            "32700-33000",
            "40000-40010",
            "61000-65535",
        ] {
            assert!(covers(entry), "{entry} of {}", reserved());
        }
        arena.attach();
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), entries);
    });
}

#[test]
fn entries_made_while_attached_are_kept() {
    in_bare_arena!(|arena| {
        write("40000-40010");
        arena.attach();
        write(&format!("{},50000", reserved()));
        arena.attach();
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), "40000-40010,50000");
    });
}

#[test]
fn entries_taken_out_while_attached_stay_out() {
    in_bare_arena!(|arena| {
        write("40000-40010,50000");
        arena.attach();
        let all: RangeSet = reserved().parse().expect("ranges");
        write(
            &all.difference(&"50000".parse().expect("ranges"))
                .to_string(),
        );
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), "40000-40010");
    });
}

#[test]
fn what_was_lost_from_the_sysctl_is_entered_again_by_attaching_again() {
    in_bare_arena!(|arena| {
        arena.attach();
        write("");
        arena.attach();
        assert!(covers("20000-29999"), "{}", reserved());
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), "");
    });
}

#[test]
fn ranges_no_longer_the_pools_are_given_back_to_automatic_choice() {
    in_bare_arena!(|arena| {
        write("40050");
        let with = |ranges: &str| AttachOptions {
            ranges: Some(ranges.parse().expect("ranges")),
            ..arena.options()
        };
        attach(&with("40000-40099")).expect("attach");
        assert!(covers("40000-40099"), "{}", reserved());
        attach(&with("41000-41099")).expect("attach again");
        assert!(covers("41000-41099"), "{}", reserved());
        assert!(!covers("40000") && !covers("40099"), "{}", reserved());
        assert!(covers("40050"), "{}", reserved());
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), "40050");
    });
}

fn write(entries: &str) {
    fs::write(RESERVED, format!("{entries}\n")).expect("write the sysctl");
}

fn covers(entry: &str) -> bool {
    let now: RangeSet = reserved().parse().expect("ranges");
    let entry: RangeSet = entry.parse().expect("ranges");
    entry.difference(&now).is_empty()
}
