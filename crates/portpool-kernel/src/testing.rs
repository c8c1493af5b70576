//! For tests elsewhere: sweeps alone, and the fuzz targets of this crate: what must hold of its parsers
//! whatever they are given.

use portpool_core::{PortRange, RangeSet, abi::RANGE_COUNT_MAX};

use crate::{
    Error, RunDir, cgroup, diag, held, ledger, namespace, programs::Programs, reap, sysctl,
};

/// Sweeps up the sockets of all processes as attach does, many times.
///
/// # Errors
/// As attaching.
pub fn sweep(run: &RunDir, times: u32) -> Result<(), Error> {
    let _lock = run.lock()?;
    let mut programs = Programs::open(run)?;
    for _ in 0..times {
        programs.sweep()?;
    }
    Ok(())
}

/// A ledger's file is read as one that is written as it reads, or refused with the reason; and by the same
/// bytes as decisions, what is ours goes from the sysctl and what is the administrator's stays.
pub fn ledger(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    if *kind == b'm' {
        let mut rest = bytes;
        return ledger::model::follow(&mut |bound| {
            let (byte, after) = rest.split_first()?;
            rest = after;
            Some(u32::from(*byte) % bound)
        });
    }
    match String::from_utf8_lossy(bytes).parse::<ledger::State>() {
        Ok(state) => assert_eq!(state.to_string().parse(), Ok(state)),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// What the kernel and the administrator write, text and netlink, is read line by line, or not.
pub fn listings(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    let default: RangeSet = "20000-32767,61000-65535".parse().expect("ranges");
    let left = namespace::without_services(default.clone(), text);
    assert!(left.difference(&default).is_empty());
    assert!(left.iter().len() <= RANGE_COUNT_MAX);
    if let Some(ephemeral) = sysctl::parse_ephemeral(text) {
        let kept = sysctl::kept_clear(&left, ephemeral);
        assert!(left.difference(&kept).is_empty());
        assert!(kept.union(&ephemeral.into()) == RangeSet::from(PortRange::ALL));
    }
    if let Ok(ports) = text.parse::<RangeSet>() {
        let chunks = sysctl::chunks(&ports);
        let read = chunks.iter().map(|chunk| chunk.parse::<RangeSet>());
        let again = read.flat_map(|set| {
            set.expect("what we write is read")
                .iter()
                .collect::<Vec<_>>()
        });
        assert_eq!(again.collect::<RangeSet>(), ports);
    }
    for line in text.lines() {
        let _ = held::listed_socket(line);
        let _ = cgroup::cgroup2_mount(line);
        let mounted = reap::mounted_namespace(line);
        assert!(mounted.is_none_or(|path| path.is_relative()));
    }
    let mut sockets = Vec::new();
    let _ = diag::read_answers(bytes, &mut sockets);
    assert!(sockets.len() <= bytes.len() / 16);
}

#[cfg(test)]
mod tests {
    use portpool_fuzz::exercise_slow;

    #[test]
    fn any_text_is_a_ledger_or_is_refused_and_any_history_ends_well() {
        exercise_slow("ledger", super::ledger);
    }

    #[test]
    fn any_listing_is_read_as_far_as_it_is_one() {
        exercise_slow("listings", super::listings);
    }
}
