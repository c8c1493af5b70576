//! Places where tests end the process, to see what is made of what it left.

/// Ends the process, as `kill -9` would, if `PORTPOOL_FAULT` names this place. Only builds for
/// development listen to it.
pub(crate) fn point(operation: &str, step: &str) {
    if cfg!(any(debug_assertions, feature = "fault-points")) {
        let asked = std::env::var("PORTPOOL_FAULT");
        if asked.is_ok_and(|asked| asked == format!("{operation}:{step}")) {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }
}
