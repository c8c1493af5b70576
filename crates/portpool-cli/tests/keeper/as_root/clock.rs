//! Somebody sets the clock while the keeper runs: deadlines are none of it, and dates are only shown.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use portpool::{PortRange, Transports};
use portpool_keeper::{StateDir, Store, store::Sqlite};
use portpool_testkit::{Arena, in_arena};
use portpool_varlink::{
    Fault,
    calls::{Acquire, Describe, EntryKind, Persist},
};

use crate::kit::{Keeper, LONG, reserved_ports, state_dir, until};

/// In seconds: decades ahead, back to before anything was made, and to before the epoch.
const JUMPS: [i64; 3] = [40 * YEAR, -40 * YEAR, -80 * YEAR];

#[test]
fn a_clock_that_is_set_ends_nothing_and_holds_nothing_up() {
    in_arena!(|arena: &Arena| {
        let clock = Clock::new(arena);
        let keeper = Keeper::start_with(arena, &[], &clock.environment());
        let before = reserved_ports();
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 45_001)).unwrap();
        // Both begin before the clock is set, and one is idle meanwhile.
        let mut idle = keeper.client();
        idle.call(&Describe {}, Some(LONG)).unwrap();
        let mut patient = keeper.client().start(&waiting("45000-45003", 3_600_000));
        let patient = patient.as_mut().unwrap();
        for (number, jump) in JUMPS.into_iter().enumerate() {
            clock.set(jump);
            let made = 46_000 + 10 * number as u16;
            let persist = Persist {
                transports: Transports::Tcp,
                range: PortRange::from_numbers(made, 4).unwrap(),
                group: None,
                note: None,
            };
            keeper.client().call(&persist, Some(LONG)).unwrap();
            let brief = keeper
                .client()
                .call(&waiting("45000", 50), Some(LONG))
                .unwrap_err();
            assert!(matches!(brief.fault(), Some(Fault::TimedOut(_))), "{brief}");
            idle.call(&Describe {}, Some(LONG)).unwrap();
            assert_eq!(patient.poll().unwrap(), None, "{jump}");
        }
        drop(busy);
        assert!(patient.wait(Some(LONG)).unwrap().is_some());
        let years: Vec<i64> = created(arena).iter().map(|it| year_of(*it)).collect();
        let now = year_of(SystemTime::now());
        assert_eq!(years, [now + 40, now - 40, 1970], "the clock was not set");
        // What is on record does not depend on it.
        drop(keeper);
        let keeper = Keeper::start(arena);
        let entries = keeper.client().list(Some(LONG)).unwrap();
        let kinds: Vec<_> = entries.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [EntryKind::Persistent; 3]);
        until("only what is persistent is kept", || {
            reserved_ports().difference(&before).len_ports() == 12
        });
    });
}

/// The wall clock of a program, so many seconds from the machine's.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    fn new(arena: &Arena) -> Clock {
        let place = |name| arena.run().path().with_file_name(name);
        let (source, library) = (place("clock.c"), place("clock.so"));
        fs::write(&source, SOURCE).unwrap();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        assert!(status.expect("start cc").success());
        let offset = place("clock.offset");
        let clock = Clock { library, offset };
        clock.set(0);
        clock
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("TEST_CLOCK_OFFSET", self.offset.to_str().unwrap()),
        ]
    }

    fn set(&self, seconds: i64) {
        let aside = self.offset.with_extension("new");
        fs::write(&aside, seconds.to_string()).unwrap();
        fs::rename(&aside, &self.offset).unwrap();
    }
}

/// When the blocks on record were made, by their ports.
fn created(arena: &Arena) -> Vec<SystemTime> {
    let state = StateDir::new(state_dir(arena));
    let mut store = Sqlite::open_to_read(&state).unwrap().unwrap();
    let blocks = store.records().unwrap().blocks;
    blocks.iter().map(|block| block.created).collect()
}

/// The nearest year; what is decades apart is told apart by it.
fn year_of(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    1970 + since.unwrap_or(Duration::ZERO).as_secs() as i64 / YEAR
}

fn waiting(text: &str, wait_ms: u64) -> Acquire {
    Acquire {
        wait_ms: Some(wait_ms),
        ..Acquire::exactly(Transports::Tcp, text.parse().unwrap())
    }
}

const YEAR: i64 = 31_556_952;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now)
{
	char text[32] = "";
	int answer = syscall(SYS_clock_gettime, id, now);
	int file = id == CLOCK_REALTIME ? open(getenv("TEST_CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC) : -1;

	if (file < 0)
		return answer;
	if (read(file, text, sizeof(text) - 1) > 0)
		now->tv_sec += atol(text);
	close(file);
	return answer;
}
"#;
