//! Whether two ever had one port, judged from the logs of the fighters alone.

use std::{collections::BTreeMap, fs, path::Path};

/// What was certainly owned, from when to when.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    start: u64,
    end: u64,
    /// A block that was reserved, or a port that was bound.
    is_block: bool,
    is_udp: bool,
    first: u16,
    count: u16,
    /// The reservation, 0 for a bind without one.
    token: u64,
}

/// Reads every log in a directory and checks it. How many tenures there were.
///
/// # Panics
/// If a port had two owners at once.
pub(crate) fn check(logs: &Path) -> usize {
    let tenures = read(logs);
    let mut by_port: BTreeMap<(bool, u16), Vec<Tenure>> = BTreeMap::new();
    for tenure in &tenures {
        for port in tenure.first..tenure.first + tenure.count {
            by_port
                .entry((tenure.is_udp, port))
                .or_default()
                .push(*tenure);
        }
    }
    for ((_, port), mut tenures) in by_port {
        tenures.sort_by_key(|tenure| tenure.start);
        let mut live: Vec<Tenure> = Vec::new();
        for tenure in tenures {
            live.retain(|other| other.end > tenure.start);
            for other in &live {
                assert!(
                    !quarrels(&tenure, other),
                    "port {port} had two owners: {other:?} and {tenure:?}"
                );
            }
            live.push(tenure);
        }
    }
    tenures.len()
}

/// Two binds are the kernel's own matter; a block stands only beside binds by its own right.
fn quarrels(one: &Tenure, other: &Tenure) -> bool {
    (one.is_block || other.is_block) && (one.is_block == other.is_block || one.token != other.token)
}

/// The tenure, its last event, who has it, and whether its end was written down.
struct Story {
    tenure: Tenure,
    last: u64,
    holder: Option<usize>,
    ended: bool,
}

fn read(logs: &Path) -> Vec<Tenure> {
    let mut events = Vec::new();
    let mut last_words = Vec::new();
    for (log, entry) in fs::read_dir(logs).expect("logs").flatten().enumerate() {
        let text = fs::read_to_string(entry.path()).expect("a log");
        let before = events.len();
        events.extend(text.lines().filter_map(|line| event(line, log)));
        last_words.push(
            events[before..]
                .iter()
                .map(|event: &Event| event.time)
                .max()
                .unwrap_or(0),
        );
    }
    events.sort_by_key(|event| event.time);
    let mut stories: BTreeMap<u64, Story> = BTreeMap::new();
    for event in events {
        if event.what == "got" || event.what == "bound" {
            let story = Story {
                tenure: event.tenure,
                last: event.time,
                holder: Some(event.log),
                ended: false,
            };
            assert!(
                stories.insert(event.id, story).is_none(),
                "an id came twice"
            );
            continue;
        }
        let story = stories.get_mut(&event.id).expect("what goes on has begun");
        if !story.ended {
            story.last = event.time;
            story.ended = event.what == "end";
            story.holder = (event.what == "received").then_some(event.log);
        }
    }
    let tenures = stories.into_values().map(|story| Tenure {
        // Who was killed had it as long as there is a word of theirs.
        end: story.holder.map_or(story.last, |log| last_words[log]),
        ..story.tenure
    });
    tenures.collect()
}

struct Event {
    time: u64,
    what: String,
    id: u64,
    log: usize,
    tenure: Tenure,
}

/// A line of a log; nothing if kill -9 cut it off.
fn event(line: &str, log: usize) -> Option<Event> {
    let words: Vec<&str> = line.split(' ').collect();
    let [time, what, id, udp, first, count, token] = words[..] else {
        return None;
    };
    let time = time.parse().ok()?;
    Some(Event {
        time,
        what: what.to_owned(),
        id: id.parse().ok()?,
        log,
        tenure: Tenure {
            start: time,
            end: time,
            is_block: what == "got",
            is_udp: udp == "1",
            first: first.parse().ok()?,
            count: count.parse().ok()?,
            token: token.parse().ok()?,
        },
    })
}

#[test]
fn the_checker_finds_two_owners_of_one_port() {
    let quarrel = |second: &str| {
        let logs = tempfile::tempdir().expect("directory");
        fs::write(
            logs.path().join("1"),
            "10 got 1 0 20000 4 7\n20 bound 2 0 20001 1 7\n90 end 1 0 20000 4 7\n",
        )
        .expect("write");
        fs::write(logs.path().join("2"), second).expect("write");
        std::panic::catch_unwind(|| check(logs.path())).is_err()
    };
    assert!(
        quarrel("30 got 3 0 20003 2 8\n40 end 3 0 20003 2 8\n"),
        "two blocks"
    );
    assert!(
        quarrel("30 bound 3 0 20002 1 0\n40 end 3 0 20002 1 0\n"),
        "a stranger's bind"
    );
    assert!(
        quarrel("5 bound 3 0 20002 1 0\n40 end 3 0 20002 1 0\n"),
        "a block over a bound port"
    );
    assert!(
        quarrel("5 bound 3 0 20002 1 0\n20 sent 4 0 1 1 0\n").eq(&true),
        "what goes on has begun"
    );
    assert!(
        !quarrel("30 got 3 1 20000 4 8\n40 end 3 1 20000 4 8\n"),
        "the other transport"
    );
    assert!(
        !quarrel("90 got 3 0 20000 1 8\n95 end 3 0 20000 1 8\n"),
        "one after the other"
    );
}
