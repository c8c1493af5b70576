//! What processes of one user see of one another.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use portpool::{PortRange, Transport, Transports};

use crate::kit::{
    Folder, Other, acquire, command, eventually, free_range, pool, role, specific, tell,
    wait_for_end,
};

/// Runs a role with a runtime directory of its own.
fn start(test: &str, role: &str, runtime: &Folder) -> Other {
    let mut again = command(test, role);
    again.env("XDG_RUNTIME_DIR", &runtime.0);
    Other::spawn(again)
}

fn hold(range: &str) {
    let range: PortRange = range.parse().expect("a range");
    let request = specific(Transports::Both, range);
    let ports = eventually(|| pool().acquire(&request));
    tell("held");
    wait_for_end();
    drop(ports);
    tell("released");
}

fn look() {
    match pool().reservations() {
        Ok(records) => {
            let lines = records
                .iter()
                .map(|it| format!("{} {} {}", it.transport, it.range, it.owner_pid));
            tell(lines.collect::<Vec<_>>().join(", "));
        }
        Err(error) => tell(error),
    }
}

#[test]
fn reservations_of_other_processes_are_listed_until_they_end() {
    let test = "registry::reservations_of_other_processes_are_listed_until_they_end";
    match role().as_deref() {
        Some("look") => return look(),
        Some(range) => return hold(range),
        None => {}
    }
    for runtime in [Folder::new("listed"), Folder::in_memory("listed")] {
        list_until_they_end(test, &runtime);
    }
}

fn list_until_they_end(test: &str, runtime: &Folder) {
    let seen = || {
        let mut other = start(test, "look", runtime);
        let seen = other.hear();
        other.finish();
        seen
    };
    let files = || fs::read_dir(runtime.0.join("portpool")).map_or(0, Iterator::count);
    assert_eq!(seen(), "");
    let range = free_range(2).to_string();
    let mut other = start(test, &range, runtime);
    assert_eq!(other.hear(), "held");
    let pid = other.pid();
    assert_eq!(seen(), format!("tcp {range} {pid}, udp {range} {pid}"));
    other.kill();
    assert_ne!(files(), 0);
    assert_eq!(seen(), "");
    assert_eq!(files(), 0, "whoever looks tidies up");
    let mut other = start(test, &range, runtime);
    assert_eq!(other.hear(), "held");
    other.finish();
    assert_eq!(files(), 0, "who releases tidies up");
    assert!(
        !runtime.0.join("portpool").exists(),
        "and is the last to leave"
    );
}

#[test]
fn processes_that_come_and_go_are_listed_whoever_takes_the_empty_directory_away() {
    let test =
        "registry::processes_that_come_and_go_are_listed_whoever_takes_the_empty_directory_away";
    if role().is_some() {
        for round in 0..200 {
            let ports = acquire(Transports::Udp, 1);
            let token = ports.blocks()[0].token;
            let listed = pool().reservations().expect("look");
            assert!(listed.iter().any(|it| it.token == token), "round {round}");
        }
        return tell("done");
    }
    for runtime in [Folder::new("comers"), Folder::in_memory("comers")] {
        let mut others = [(); 3].map(|()| start(test, "come and go", &runtime));
        for other in &mut others {
            assert_eq!(other.hear(), "done");
        }
        others.into_iter().for_each(Other::finish);
        assert!(!runtime.0.join("portpool").exists());
    }
}

#[test]
fn a_list_that_somebody_took_away_is_made_anew() {
    let test = "registry::a_list_that_somebody_took_away_is_made_anew";
    if let Some(registry) = role() {
        let _stays = acquire(Transports::Tcp, 1);
        fs::remove_dir_all(&registry).expect("remove");
        // It is looked after now and then.
        eventually(|| {
            let ports = acquire(Transports::Udp, 3);
            let listed = pool().reservations().expect("look");
            let ours = listed.iter().map(|it| it.token);
            let is_there = ours.into_iter().any(|it| it == ports.blocks()[0].token);
            is_there.then_some(()).ok_or(listed.len())
        });
        // The one from before is there as well.
        assert_eq!(pool().reservations().expect("look").len(), 1);
        return tell("made anew");
    }
    for runtime in [Folder::new("tidied"), Folder::in_memory("tidied")] {
        let registry = runtime.0.join("portpool");
        let mut other = start(test, &registry.to_string_lossy(), &runtime);
        assert_eq!(other.hear(), "made anew");
        other.finish();
        assert!(!registry.exists());
    }
}

#[test]
fn what_is_no_list_is_told_and_harms_nobody() {
    let test = "registry::what_is_no_list_is_told_and_harms_nobody";
    match role().as_deref() {
        Some("look") => return look(),
        Some(range) => return hold(range),
        None => {}
    }
    let runtime = Folder::in_memory("nonsense");
    let mut holder = start(test, &free_range(1).to_string(), &runtime);
    assert_eq!(holder.hear(), "held");
    let entries = fs::read_dir(runtime.0.join("portpool")).expect("list");
    let mut paths = entries.map(|it| it.expect("list").path());
    let list = paths.find(|it| it.extension().is_some_and(|it| it == "list"));
    let list = list.expect("a list");
    let good = fs::read(&list).expect("read");
    let mode = fs::metadata(&list).expect("mode").permissions().mode();
    assert_eq!(mode & 0o777, 0o400, "nobody cuts it short by accident");
    let seen = |bytes: &[u8]| {
        fs::remove_file(&list).expect("remove");
        fs::write(&list, bytes).expect("write");
        let mut other = start(test, "look", &runtime);
        let seen = other.hear();
        other.finish();
        seen
    };
    let (head, pid) = (good.len().min(256), holder.pid());
    assert!(seen(&good).ends_with(&format!(" {pid}")), "{}", seen(&good));
    assert_eq!(seen(&good[..head]), "");
    assert_eq!(seen(b""), "");
    assert!(seen(b"portpool registry 9\n").contains("another version"));
    assert!(seen(&good[..100]).contains("does not agree with its checksum"));
    let wrong: Vec<u8> = [&good[..head], &[7; 1000]].concat();
    assert!(seen(&wrong).contains("does not agree with its checksum"));
    holder.finish();
}

#[test]
fn a_port_names_its_owner() {
    let test = "registry::a_port_names_its_owner";
    if let Some(range) = role() {
        let range: PortRange = range.parse().expect("a range");
        let ports = eventually(|| pool().acquire(&specific(Transports::Tcp, range)));
        let state = pool().port(Transport::Tcp, range.first()).expect("look");
        let record = state.reservation.expect("a reservation");
        assert_eq!(record.owner_pid, std::process::id());
        assert_eq!(record.token, ports.blocks()[0].token);
        assert_eq!(state.socket_count, 0);
        let listener = ports.tcp_listener([127, 0, 0, 1].into()).expect("listen");
        let state = pool().port(Transport::Tcp, range.first()).expect("look");
        assert_eq!(state.socket_count, 1);
        drop(listener);
        let other = pool().port(Transport::Udp, range.first()).expect("look");
        assert_eq!((other.reservation, other.socket_count), (None, 0));
        return tell("named");
    }
    let runtime = Folder::new("named");
    let mut other = start(test, &free_range(1).to_string(), &runtime);
    assert_eq!(other.hear(), "named");
    other.finish();
}

#[test]
fn a_directory_that_others_may_write_to_is_not_trusted() {
    let test = "registry::a_directory_that_others_may_write_to_is_not_trusted";
    match role().as_deref() {
        Some("look") => return look(),
        Some(range) => return hold(range),
        None => {}
    }
    let runtime = Folder::new("hostile");
    let registry = runtime.0.join("portpool");
    let seen = || {
        let mut other = start(test, "look", &runtime);
        let seen = other.hear();
        other.finish();
        // The promise does not depend on the list.
        let mut other = start(test, &free_range(1).to_string(), &runtime);
        assert_eq!(other.hear(), "held");
        other.finish();
        seen
    };
    let elsewhere = Folder::new("elsewhere");
    symlink(&elsewhere.0, &registry).expect("link");
    assert!(seen().contains("a symbolic link"), "{}", seen());
    assert_eq!(fs::read_dir(&elsewhere.0).expect("list").count(), 0);
    fs::remove_file(&registry).expect("remove");
    fs::write(&registry, "").expect("write");
    assert!(seen().contains("no directory"), "{}", seen());
    fs::remove_file(&registry).expect("remove");
    fs::create_dir(&registry).expect("make");
    fs::set_permissions(&registry, PermissionsExt::from_mode(0o770)).expect("chmod");
    assert!(seen().contains("others than its owner"), "{}", seen());
    assert_eq!(fs::read_dir(&registry).expect("list").count(), 0);
}

mod as_root {
    use std::{
        fs::{self, File},
        os::fd::AsFd,
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use portpool::{Pool, Reservation, Transports};
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::{look, start};
    use crate::kit::{Folder, Other, any, command, pool, role, tell, wait_for_end, wildcard};

    #[test]
    fn a_block_is_listed_in_the_namespace_that_its_thread_has_moved_to() {
        let test =
            "registry::as_root::a_block_is_listed_in_the_namespace_that_its_thread_has_moved_to";
        if role().is_some() {
            tell("there");
            return wait_for_end();
        }
        let again = command(test, "place");
        let mut elsewhere = Command::new("unshare");
        elsewhere.arg("-n").arg(again.get_program());
        elsewhere
            .args(again.get_args())
            .env("PORTPOOL_ROLE", "place");
        let mut elsewhere = Other::spawn(elsewhere);
        assert_eq!(elsewhere.hear(), "there");
        let namespace = File::open(format!("/proc/{}/ns/net", elsewhere.pid()));
        let namespace = namespace.expect("the other namespace");
        let visit = move || {
            let request = wildcard(Transports::Tcp, any(1));
            let listed = |pool: &Pool, ports: &Reservation| {
                let records = pool.reservations().expect("look");
                let token = ports.blocks()[0].token;
                records.iter().any(|record| record.token == token)
            };
            let here = pool();
            let ours = here.acquire(&request).expect("acquire here");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("go there");
            let start = Instant::now();
            while start.elapsed() < MOVED_AFTER {
                thread::yield_now();
            }
            let there = pool();
            let theirs = there.acquire(&request).expect("acquire there");
            assert!(listed(&here, &ours) && !listed(&there, &ours));
            assert!(listed(&there, &theirs) && !listed(&here, &theirs));
        };
        thread::spawn(visit).join().expect("the visitor");
        elsewhere.finish();
    }

    /// Longer than a thread is taken to stay where it was.
    const MOVED_AFTER: Duration = Duration::from_millis(5);

    #[test]
    fn a_directory_of_another_user_is_not_trusted() {
        let test = "registry::as_root::a_directory_of_another_user_is_not_trusted";
        if role().is_some() {
            return look();
        }
        let runtime = Folder::new("foreign");
        let registry = runtime.0.join("portpool");
        fs::create_dir(&registry).expect("make");
        std::os::unix::fs::chown(&registry, Some(65534), None).expect("chown");
        let mut other = start(test, "look", &runtime);
        let seen = other.hear();
        assert!(seen.contains("belongs to another user"), "{seen}");
        other.finish();
    }
}
