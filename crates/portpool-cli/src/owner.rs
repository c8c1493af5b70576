//! The owner of a reservation, as far as this process can see it.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use portpool::Entry;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::output::printable;

/// Who owns a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Owner {
    /// Its process id as this process numbers it, if it can be told.
    pub(crate) pid: Option<u32>,
    /// Its process id in the initial pid namespace.
    initial_pid: u32,
    /// Its process id as it sees itself.
    own_pid: u32,
    /// The inode of its pid namespace.
    pid_namespace: u32,
    /// Its name when it acquired.
    pub(crate) command: String,
    /// Its command line now.
    pub(crate) command_line: Option<String>,
    /// Effective uid when it acquired.
    pub(crate) uid: u32,
    /// The name of that user.
    user: Option<String>,
}

impl Owner {
    pub(crate) fn of(entry: &Entry) -> Owner {
        let pid = pid_seen(entry, pid_namespace());
        let alive = pid.filter(|pid| start_ticks(*pid) == Some(ticks(entry.owner_start)));
        Owner {
            pid,
            initial_pid: entry.owner_pid,
            own_pid: entry.owner_pid_seen,
            pid_namespace: entry.pid_namespace,
            command: printable(&entry.command),
            command_line: alive.and_then(command_line),
            uid: entry.uid,
            user: user_name(entry.uid),
        }
    }

    /// Its process id, or what it is elsewhere.
    pub(crate) fn pid_text(&self) -> String {
        match self.pid {
            Some(pid) => pid.to_string(),
            None => format!("{}@pid:{}", self.own_pid, self.pid_namespace),
        }
    }

    /// Its user by name, else by number.
    pub(crate) fn user_text(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// What it runs: the command line if the process is still there, else the name it had.
    pub(crate) fn command_text(&self) -> String {
        self.command_line
            .clone()
            .unwrap_or_else(|| self.command.clone())
    }
}

/// The process whose descendants may consume without associating.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TreeRoot {
    /// Its process id as this process numbers it, if it can be told.
    pid: Option<u32>,
    /// Its process id in the initial pid namespace.
    initial_pid: u32,
    /// Whether it is the owner itself.
    is_owner: bool,
}

impl TreeRoot {
    pub(crate) fn of(entry: &Entry) -> Option<TreeRoot> {
        let (initial_pid, start) = entry.tree_root?;
        let reader = pid_namespace();
        let is_owner = (initial_pid, start) == (entry.owner_pid, entry.owner_start);
        let pid = if is_owner {
            pid_seen(entry, reader)
        } else {
            (reader == Some(INITIAL_PID_NAMESPACE)).then_some(initial_pid)
        };
        Some(TreeRoot {
            pid,
            initial_pid,
            is_owner,
        })
    }

    /// Its process id, or what it is elsewhere.
    pub(crate) fn text(&self) -> String {
        match self.pid {
            _ if self.is_owner => "owner".to_owned(),
            Some(pid) => pid.to_string(),
            None => format!("{}@initial", self.initial_pid),
        }
    }
}

/// Time since boot, also while suspended.
pub(crate) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// The command line of a process, with blanks between, if it has one.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    let line = printable(&words.join(" "));
    (!line.is_empty()).then_some(line)
}

/// The process id of the owner as a process of the pid namespace `reader` numbers it.
fn pid_seen(entry: &Entry, reader: Option<u32>) -> Option<u32> {
    match reader? {
        namespace if namespace == entry.pid_namespace => Some(entry.owner_pid_seen),
        INITIAL_PID_NAMESPACE => Some(entry.owner_pid),
        // It may have a third number here, which nobody recorded.
        _ => None,
    }
}

fn pid_namespace() -> Option<u32> {
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    u32::try_from(inode).ok()
}

fn start_ticks(pid: u32) -> Option<u64> {
    stat_field(pid, 22)
}

/// Whether the first process is an ancestor of the second.
pub(crate) fn is_ancestor(ancestor: u32, of: u32) -> bool {
    let parents = std::iter::successors(Some(u64::from(of)), |pid| {
        stat_field(u32::try_from(*pid).ok()?, 4).filter(|parent| *parent != 0)
    });
    let mut parents = parents.skip(1).take(ANCESTOR_COUNT_MAX);
    parents.any(|parent| parent == u64::from(ancestor))
}

/// A number of /proc/PID/stat, of those after the name in parentheses, which may itself hold any byte.
fn stat_field(pid: u32, number: usize) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
    // The first after the name is the third of the line.
    fields.split_whitespace().nth(number - 3)?.parse().ok()
}

/// Time since boot in the ticks of /proc, 100 a second on every architecture.
fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / 10_000_000
}

/// From /etc/passwd alone: users of a directory service keep their number.
fn user_name(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| printable(name))
    })
}

/// As many as the kernel pool looks at.
const ANCESTOR_COUNT_MAX: usize = 64;
/// PROC_PID_INIT_INO.
const INITIAL_PID_NAMESPACE: u32 = 4_026_531_836;

#[cfg(test)]
mod tests {
    use portpool::{Token, Transport};

    use super::*;

    #[test]
    fn the_number_shown_is_the_one_the_reader_knows() {
        let entry = entry();
        assert_eq!(pid_seen(&entry, Some(77)), Some(5));
        assert_eq!(pid_seen(&entry, Some(INITIAL_PID_NAMESPACE)), Some(5_000));
        assert_eq!(pid_seen(&entry, Some(78)), None);
        assert_eq!(pid_seen(&entry, None), None);
    }

    #[test]
    fn this_process_started_before_now() {
        let start = start_ticks(std::process::id()).expect("/proc/self/stat");
        assert!(start <= ticks(u64::try_from(since_boot().as_nanos()).expect("a short uptime")));
        assert!(command_line(std::process::id()).is_some());
    }

    #[test]
    fn only_those_above_are_ancestors() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert!(is_ancestor(parent, own));
        assert!(!is_ancestor(own, own) && !is_ancestor(own, parent));
    }

    #[test]
    fn users_without_a_name_keep_their_number() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        let owner = Owner::of(&Entry {
            uid: 4_000_000_001,
            ..entry()
        });
        assert_eq!(owner.user_text(), "4000000001");
    }

    fn entry() -> Entry {
        Entry {
            token: Token::new(1).expect("token"),
            transport: Transport::Tcp,
            range: "8080".parse().expect("range"),
            tenure: portpool::Tenure::Runtime,
            uid: 0,
            owner_pid: 5_000,
            owner_pid_seen: 5,
            pid_namespace: 77,
            owner_start: 0,
            tree_root: None,
            born: 0,
            shared: false,
            command: "x".to_owned(),
        }
    }
}
