//! Ports made grantable while the pool runs, and given back to automatic choice.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use portpool::{
    Caller, Pool, Port, PortRange, RangeSet, Refusal, Request, Reservation, Transport, Transports,
    Want,
};
use portpool_keeper::{Admin, AdminError, StateDir, admin::Persist};
use portpool_kernel::{
    AttachOptions, KeptClear, Reason, attach, detach, keep_exactly, kept_for, let_go,
    make_grantable,
};
use portpool_testkit::{Arena, Size, in_arena, in_bare_arena, sys::bpf::Map};

use crate::scene::{RESERVED, reserved};

#[test]
fn a_port_of_the_ephemeral_range_is_granted_once_it_was_made_grantable() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        make_grantable(run, Reason::Persistent, &set("40000-40003")).expect("make grantable");
        let block = acquire(&pool, "40000-40003").expect("acquire");
        assert!(covers("40000-40003"), "{}", reserved());
        drop(block);
        let_go(run, Reason::Persistent, &set("40000-40003")).expect("let go");
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        assert!(!covers("40000"), "{}", reserved());
        detach(run, false).expect("detach");
        assert_eq!(reserved(), "");
    });
}

#[test]
fn what_automatic_choice_took_before_is_seen_before_a_port_is_granted() {
    in_arena!(|arena| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 20_000)).expect("listen");
        let address = listener.local_addr().expect("address");
        // Chosen by connect: no hook sees it.
        let stream = TcpStream::connect(address).expect("connect");
        let port = stream.local_addr().expect("address").port();
        let spec = port.to_string();
        make_grantable(arena.run(), Reason::Persistent, &set(&spec)).expect("make grantable");
        assert_eq!(refusal(&arena.pool(), &spec), Refusal::InUse);
        drop(stream);
        drop(acquire(&arena.pool(), &spec).expect("acquire when it is closed"));
    });
}

#[test]
fn a_port_made_grantable_for_a_request_is_not_everybodys() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        make_grantable(run, Reason::Granted, &set("40000-40003")).expect("make grantable");
        assert!(covers("40000-40003"), "{}", reserved());
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        // Something else that is made grantable does not open it either.
        make_grantable(run, Reason::Persistent, &set("50000")).expect("make grantable");
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        arena.attach();
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        keep_exactly(run, Reason::Granted, &RangeSet::new()).expect("let go");
        assert!(!covers("40000"), "{}", reserved());
        assert!(covers("50000"), "{}", reserved());
    });
}

#[test]
fn a_port_that_somebody_has_stays_kept_clear_when_it_is_let_go() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        make_grantable(run, Reason::Persistent, &set("40000-40009")).expect("make grantable");
        let block = acquire(&pool, "40002-40003").expect("acquire");
        let_go(run, Reason::Persistent, &set("40000-40009")).expect("let go");
        assert!(covers("40002-40003"), "{}", reserved());
        assert!(!covers("40001") && !covers("40004"), "{}", reserved());
        let granted = kept_for(run, Reason::Granted).expect("look");
        assert_eq!(granted, set("40002-40003"));
        drop(block);
        let_go(run, Reason::Granted, &granted).expect("let go");
        assert!(!covers("40002"), "{}", reserved());
    });
}

#[test]
fn a_live_block_stays_kept_clear_when_the_ephemeral_range_is_widened_over_it() {
    in_arena!(|arena| {
        let block = acquire(&arena.pool(), "8080-8083").expect("acquire");
        fs::write(PORT_RANGE, "1024 65535").expect("widen the range");
        arena.attach();
        assert!(covers("8080-8083"), "{}", reserved());
        assert!(!covers("8079") && !covers("8084"), "{}", reserved());
        drop(block);
        attach(&AttachOptions {
            ranges: Some(set("20000-20999")),
            ..arena.options()
        })
        .expect("attach");
        assert!(covers("20000-20999"), "{}", reserved());
    });
}

/// A persistent block in the pool's ranges is not entered for its own sake: the ranges keep it clear. Those
/// may change, also where attach knows nothing of records.
#[test]
fn a_persistent_block_stays_kept_clear_when_the_pool_gets_other_ranges() {
    in_arena!(|arena| {
        let (run, ports) = (arena.run(), set("40000-40003"));
        let attach_with = |ranges: &str| {
            attach(&AttachOptions {
                ranges: Some(set(ranges)),
                ..arena.options()
            })
            .expect("attach");
        };
        let noted = || kept_for(run, Reason::Persistent).expect("look");
        attach_with("40000-40999");
        let mut kept_clear = KeptClear::open(run).expect("open");
        assert!(kept_clear.is_attached(&ports).expect("look"));
        make_grantable(run, Reason::Persistent, &ports).expect("make grantable");
        assert_eq!(noted(), RangeSet::new());
        let pool = arena.pool();
        let range = "40000-40003".parse().expect("range");
        let token = pool.new_persistent_token().expect("token");
        pool.install_persistent(Transport::Tcp, range, token, None)
            .expect("install");

        attach_with("20000-20999");
        assert!(covers("40000-40003"), "{}", reserved());
        assert!(!covers("40004"), "{}", reserved());
        assert_eq!(noted(), ports);
        assert!(!kept_clear.is_attached(&ports).expect("look"));

        attach_with("40000-40999");
        assert_eq!(noted(), RangeSet::new());
        assert!(kept_clear.is_attached(&ports).expect("look"));
        pool.remove_persistent(Transport::Tcp, range)
            .expect("remove");
        let_go(run, Reason::Persistent, &ports).expect("let go");
        assert!(covers("40000-40003"), "{}", reserved());
        attach_with("20000-20999");
        assert!(!covers("40000"), "{}", reserved());
    });
}

/// An attach that knows nothing of records takes no turns with whoever administrates.
#[test]
fn a_block_made_while_the_pool_gets_other_ranges_is_kept_clear_or_refused() {
    in_arena!(|arena: &Arena| {
        let mut admin = Admin::open(arena.run(), &state_of(arena)).expect("open");
        let block = block("40000-40003");
        let is_over = AtomicBool::new(false);
        let (mut made, mut refused) = (0, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for ranges in ["40000-40999", "20000-20999"].repeat(Size::asked().pick(2, 50)) {
                    let options = AttachOptions {
                        ranges: Some(set(ranges)),
                        ..arena.options()
                    };
                    attach(&options).expect("attach");
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                match admin.persist(&block) {
                    Ok(_) => {
                        made += 1;
                        assert!(covers("40000-40003"), "{}", reserved());
                        let ended = admin.unpersist(block.transports, block.range);
                        ended.expect("unpersist");
                    }
                    Err(AdminError::Kernel(error)) => {
                        refused += 1;
                        assert_eq!(error.refusal(), Some(Refusal::Ephemeral));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        println!("{made} made, {refused} refused");
        assert!(made > 0);
        // Nobody has anything any more.
        keep_exactly(arena.run(), Reason::Granted, &RangeSet::new()).expect("let go");
        assert!(!covers("40000"), "{}", reserved());
    });
}

/// Such an attach leaves entries in ledger and sysctl of ports that the kernel grants nobody.
#[test]
fn a_block_is_made_where_an_attach_was_stopped_before_its_sweep() {
    in_arena!(|arena: &Arena| {
        let kept = arena
            .run()
            .path()
            .join(format!("bpf/pool-{}/kept", arena.pool().netns_cookie()));
        let kept = Map::open(&kept).expect("open the map");
        let mut admin = Admin::open(arena.run(), &state_of(arena)).expect("open");
        let ports = RangeSet::from(block("20000-20003").range);
        let mut kept_clear = KeptClear::open(arena.run()).expect("open");
        for _ in 0..2 {
            kept.write(&(20_000_u32 / 64).to_ne_bytes(), &[0; 8])
                .expect("write");
            assert_eq!(refusal(&arena.pool(), "20000-20003"), Refusal::Ephemeral);
            assert!(kept_clear.is_attached(&ports).expect("look"));
            admin.persist(&block("20000-20003")).expect("persist");
            admin
                .unpersist(Transports::Tcp, block("20000-20003").range)
                .expect("unpersist");
        }
        drop(acquire(&arena.pool(), "20000-20003").expect("acquire"));
    });
}

fn state_of(arena: &Arena) -> StateDir {
    let around = arena.run().path().parent().expect("a directory around it");
    StateDir::new(around.join("state"))
}

fn block(range: &str) -> Persist {
    Persist {
        transports: Transports::Tcp,
        range: range.parse().expect("range"),
        group: None,
        note: None,
    }
}

#[test]
fn what_the_pool_keeps_clear_is_asked_of_the_sysctl_as_it_is() {
    in_arena!(|arena| {
        let (run, ports) = (arena.run(), set("20000-20003"));
        let mut kept_clear = KeptClear::open(run).expect("open");
        let mut is_attached = |ports: &str| kept_clear.is_attached(&set(ports)).expect("look");
        assert!(is_attached("20000-20003"));
        assert!(!is_attached("40000-40003"));
        assert!(!is_attached("32767-32768"));
        // Also where what is missing is something else.
        fs::write(RESERVED, "20000-20003\n").expect("write the sysctl");
        assert!(!is_attached("20000-20003"));
        make_grantable(run, Reason::Persistent, &ports).expect("mend");
        assert!(is_attached("20000-20003"));
        detach(run, false).expect("detach");
        assert!(!is_attached("20000-20003"));
        arena.attach();
        assert!(is_attached("20000-20003"));
    });
}

#[test]
fn the_administrators_own_entry_keeps_automatic_choice_away_and_is_granted() {
    in_bare_arena!(|arena| {
        fs::write(RESERVED, "40000\n").expect("write the sysctl");
        arena.attach();
        let (pool, run) = (arena.pool(), arena.run());
        drop(acquire(&pool, "40000").expect("acquire"));
        // Ours and his: his stays.
        make_grantable(run, Reason::Persistent, &set("39999-40001")).expect("make grantable");
        let_go(run, Reason::Persistent, &set("39999-40001")).expect("let go");
        assert!(
            covers("40000") && !covers("39999") && !covers("40001"),
            "{}",
            reserved()
        );
        drop(acquire(&pool, "40000").expect("acquire"));
        detach(run, false).expect("detach");
        assert_eq!(reserved(), "40000");
    });
}

/// `sysctl --system`, as packages run it, writes what its files say and knows nothing of us.
#[test]
fn a_sysctl_written_anew_is_mended_and_its_words_stay() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        make_grantable(run, Reason::Persistent, &set("40000-40003")).expect("make grantable");
        fs::write(RESERVED, "8080,40001,50000\n").expect("write the sysctl");
        assert_eq!(refusal(&pool, "40000-40003"), Refusal::Ephemeral);
        make_grantable(run, Reason::Persistent, &set("40000-40003")).expect("mend");
        drop(acquire(&pool, "40000-40003").expect("acquire"));
        detach(run, false).expect("detach");
        assert_eq!(reserved(), "8080,40001,50000");
    });
}

/// A port whose entry was gone for a while may be somebody's: it is not granted on old knowledge.
#[test]
fn a_port_whose_entry_was_lost_is_swept_before_it_is_granted_again() {
    in_arena!(|arena| {
        let run = arena.run();
        fs::write(RESERVED, "\n").expect("empty the sysctl");
        fs::write(PORT_RANGE, "20000 20007").expect("narrow the range");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 9_000)).expect("listen");
        let address = listener.local_addr().expect("address");
        let stream = TcpStream::connect(address).expect("connect");
        let port = stream.local_addr().expect("address").port();
        assert!((20_000..20_008).contains(&port), "{port}");
        make_grantable(run, Reason::Persistent, &set("40000")).expect("make grantable");
        assert!(covers("20000-29999"), "{}", reserved());
        assert_eq!(refusal(&arena.pool(), &port.to_string()), Refusal::InUse);
    });
}

/// Nor through a window that was opened before the entry went.
#[test]
fn a_window_over_a_port_whose_entry_was_lost_grants_nothing() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        make_grantable(run, Reason::Granted, &set("40000")).expect("make grantable");
        let later = Pool::since_boot() + 600_000_000_000;
        let range: PortRange = "40000".parse().expect("range");
        pool.open_window(Transport::Tcp, range, myself(), later)
            .expect("open a window");
        let kept: RangeSet = reserved().parse().expect("ports");
        let edited = kept.difference(&set("40000"));
        fs::write(RESERVED, format!("{edited}\n")).expect("take one out");
        fs::write(PORT_RANGE, "40000 40001").expect("narrow the range");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 9_000)).expect("listen");
        let address = listener.local_addr().expect("address");
        let streams = [(); 2].map(|()| TcpStream::connect(address).expect("connect"));
        // Mends what is entered, and has no reason of its own to count sockets.
        let_go(run, Reason::Persistent, &set("51000")).expect("mend");
        assert_eq!(refusal(&pool, "40000"), Refusal::Ephemeral);
        make_grantable(run, Reason::Granted, &set("40000")).expect("make grantable again");
        assert_eq!(refusal(&pool, "40000"), Refusal::InUse);
        drop(streams);
        drop(acquire(&pool, "40000").expect("acquire when it is closed"));
    });
}

/// What has been claimed stays guarded, whoever took its entry out meanwhile.
#[test]
fn a_block_claimed_through_a_window_gets_its_entry_back() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        make_grantable(run, Reason::Granted, &set("40000-40001")).expect("make grantable");
        let later = Pool::since_boot() + 600_000_000_000;
        let range: PortRange = "40000-40001".parse().expect("range");
        pool.open_window(Transport::Tcp, range, myself(), later)
            .expect("open a window");
        let block = acquire(&pool, "40000-40001").expect("acquire");
        fs::write(RESERVED, "\n").expect("empty the sysctl");
        for mend in 0..2 {
            match mend {
                0 => let_go(run, Reason::Persistent, &set("51000")).expect("mend"),
                _ => drop(arena.attach()),
            }
            assert!(covers("40000-40001"), "{mend}: {}", reserved());
            fs::write(RESERVED, "\n").expect("empty the sysctl");
        }
        drop(block);
    });
}

#[test]
fn ten_thousand_single_ports_are_made_grantable_and_let_go() {
    in_arena!(|arena| {
        let (pool, run) = (arena.pool(), arena.run());
        let ports: RangeSet = (0..10_000)
            .filter_map(|number| Port::new(33_001 + 2 * number))
            .map(PortRange::single)
            .collect();
        make_grantable(run, Reason::Persistent, &ports).expect("make grantable");
        let now: RangeSet = reserved().parse().expect("ports");
        assert!(ports.difference(&now).is_empty());
        drop(acquire(&pool, "52999").expect("acquire"));
        assert_eq!(refusal(&pool, "52998"), Refusal::Ephemeral);
        detach(run, false).expect("detach");
        assert_eq!(reserved(), "");
    });
}

#[test]
fn edits_by_others_at_the_same_time_lose_nothing_of_ours_for_good() {
    in_bare_arena!(|arena| {
        fs::write(RESERVED, "50000\n").expect("write the sysctl");
        arena.attach();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            // As people do it: read, change, write, and whatever came in between is lost.
            scope.spawn(|| {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let entry = set(&(50_100 + number % 100).to_string());
                    let before: RangeSet = reserved().parse().expect("ports");
                    fs::write(RESERVED, format!("{}\n", before.union(&entry))).expect("write");
                    let before: RangeSet = reserved().parse().expect("ports");
                    fs::write(RESERVED, format!("{}\n", before.difference(&entry))).expect("write");
                    number += 1;
                }
            });
            for round in 0..Size::grant_rounds() {
                let ports = set(&format!("{}-{}", 40_000 + round % 50, 40_060));
                // Beaten eight times in a row: refused, and tried again.
                while keep_exactly(arena.run(), Reason::Persistent, &ports).is_err() {}
            }
            is_over.store(true, Ordering::Relaxed);
        });
        keep_exactly(arena.run(), Reason::Persistent, &set("40000-40003")).expect("keep");
        assert!(
            covers("20000-29999") && covers("40000-40003"),
            "{}",
            reserved()
        );
        detach(arena.run(), false).expect("detach");
        // What he read before we took it out and wrote after, nobody can tell from his own.
        let left: RangeSet = reserved().parse().expect("ports");
        let possible = set("40000-40060,50000,50100-50199");
        assert!(left.difference(&possible).is_empty(), "{left}");
    });
}

#[test]
fn nothing_is_made_grantable_where_no_pool_is() {
    in_bare_arena!(|arena| {
        let ports = set("40000");
        for result in [
            make_grantable(arena.run(), Reason::Persistent, &ports),
            let_go(arena.run(), Reason::Persistent, &ports),
            kept_for(arena.run(), Reason::Persistent).map(drop),
        ] {
            let error = result.expect_err("no pool");
            assert!(
                matches!(error, portpool_kernel::Error::NotAttached),
                "{error}"
            );
        }
        assert_eq!(reserved(), "");
    });
}

/// A half-done grant is undone: here the sysctl may not be written.
#[test]
fn what_cannot_be_made_grantable_leaves_all_as_it_was() {
    in_arena!(|arena: &Arena| {
        let before = reserved();
        crate::scene::run(&["mount", "--bind", RESERVED, RESERVED]);
        crate::scene::run(&["mount", "-o", "remount,bind,ro", RESERVED]);
        make_grantable(arena.run(), Reason::Persistent, &set("40000")).expect_err("read-only");
        crate::scene::run(&["umount", RESERVED]);
        assert_eq!(reserved(), before);
        assert!(
            kept_for(arena.run(), Reason::Persistent)
                .expect("look")
                .is_empty()
        );
        detach(arena.run(), false).expect("detach");
        assert_eq!(reserved(), "");
    });
}

fn acquire(pool: &Pool, ports: &str) -> Result<Reservation, portpool::AcquireError> {
    let range: PortRange = ports.parse().expect("range");
    let transports = Transports::from(Transport::Tcp);
    pool.acquire(&Request {
        transports,
        want: Want::Specific(range),
    })
}

fn refusal(pool: &Pool, ports: &str) -> Refusal {
    let error = acquire(pool, ports).expect_err("refused");
    error.refusal().unwrap_or_else(|| panic!("{error}"))
}

fn covers(ports: &str) -> bool {
    let now: RangeSet = reserved().parse().expect("ports");
    set(ports).difference(&now).is_empty()
}

fn set(ports: &str) -> RangeSet {
    ports.parse().expect("ports")
}

/// This process, as windows name it.
fn myself() -> Caller {
    let stat = fs::read_to_string("/proc/self/stat").expect("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let start = fields.split_whitespace().nth(19).expect("a start");
    Caller {
        uid: rustix::process::geteuid().as_raw(),
        pid: std::process::id(),
        start_ticks: start.parse().expect("a number"),
    }
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
