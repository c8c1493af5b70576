//! The process at the other end as the kernel programs identify one: number and start.

use std::{fs, io};

use portpool::Caller;
use portpool_varlink::Peer;

/// The peer's process, unless it has ended or cannot be seen from here.
pub(super) fn of(peer: &Peer) -> Option<Caller> {
    if peer.pid == 0 {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", peer.pid)).ok()?;
    let start_ticks = start_ticks(&stat)?;
    // Asked after reading: until here the number was this process's.
    peer.lives().then_some(Caller {
        uid: peer.uid,
        pid: peer.pid,
        start_ticks,
    })
}

/// This process.
pub(super) fn own() -> io::Result<Caller> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    Ok(Caller {
        uid: rustix::process::geteuid().as_raw(),
        pid: std::process::id(),
        start_ticks: start_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?,
    })
}

/// Field 22. The second one is the name, in parentheses, and may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_whatever_a_process_is_called() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(start_ticks(&format!("77 (a) b) {rest}\n")), Some(4711));
        assert_eq!(start_ticks("77 (a"), None);
        assert_eq!(start_ticks("77 (a) S 1"), None);
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_nobody() {
        let peer = |pid| Peer {
            pid,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            pidfd: None,
        };
        assert_eq!(of(&peer(0)), None);
        let own = of(&peer(std::process::id())).unwrap();
        assert!(own.start_ticks > 0 && own.pid == std::process::id());
    }
}
