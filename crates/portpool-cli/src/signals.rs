//! Signals: those that end a hold, and those that `run` passes on.

use std::{fs, io, os::unix::net::UnixStream};

use signal_hook::{
    consts::signal::{
        SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
    },
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
};

/// A descriptor that is readable once SIGTERM or SIGINT has come.
pub(crate) fn ends() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in heeded(&[SIGTERM, SIGINT]) {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// SIGCHLD, and the signals to pass on to a command, each with its sender.
pub(crate) fn to_pass_on() -> io::Result<SignalsInfo<WithOrigin>> {
    SignalsInfo::new(heeded(&PASSED_ON).chain([SIGCHLD]))
}

/// Those of `signals` that this process was not started to ignore. A shell ignores SIGINT for what
/// it starts in the background, nohup SIGHUP, and both expect the same of what that starts: taking
/// such a signal would undo it, as a caught signal is back to its default after exec.
fn heeded(signals: &[i32]) -> impl Iterator<Item = i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    signals
        .iter()
        .copied()
        .filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}

fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

const PASSED_ON: [i32; 8] = [
    SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored(status), 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored(""), 0);
    }
}
