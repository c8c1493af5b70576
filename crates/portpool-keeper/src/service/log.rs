//! Where log lines go: to the journal if this process writes to it, else to stderr.

use std::{env, io::IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. `PORTPOOL_LOG` says what (`debug`, or per module), else INFO and above.
pub(super) fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("PORTPOOL_LOG")
        .from_env_lossy();
    let registry = Registry::default().with(filter);
    let journal = is_journal()
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let started = match journal {
        Some(journal) => registry
            .with(journal.with_field_prefix(Some("PORTPOOL".to_owned())))
            .try_init(),
        None => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal());
            registry.with(lines).try_init()
        }
    };
    // Whoever has set up logging before this has it as they want it.
    drop(started);
}

/// Whether stderr is the journal, as `JOURNAL_STREAM` says.
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = rustix::fs::fstat(rustix::stdio::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
