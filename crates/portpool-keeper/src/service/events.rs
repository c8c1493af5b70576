//! What the kernel pool tells: a log line for each birth and death, and the word to whoever waits.

use std::{sync::Arc, thread};

use portpool_core::abi::{self, What};
use portpool_kernel::{RunDir, events::Events};
use portpool_varlink::calls;
use rustix::event::{PollFd, PollFlags, poll};

use super::{KeeperError, keeper::Keeper, limits::STACK_SIZE};

/// Reads events in a thread of its own, from here on, until this process ends.
///
/// # Errors
/// If no thread can be started. Where events cannot be read the keeper goes on without, and says so.
pub(super) fn start(keeper: &Arc<Keeper>, run: &RunDir) -> Result<(), KeeperError> {
    let events = match Events::open(run) {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "births and deaths of reservations are not told");
            return Ok(());
        }
    };
    let keeper = Arc::clone(keeper);
    let builder = thread::Builder::new()
        .name("events".to_owned())
        .stack_size(STACK_SIZE);
    let started = builder.spawn(move || read(&keeper, events));
    started
        .map(drop)
        .map_err(|cause| KeeperError::step("start the thread that reads events".to_owned(), cause))
}

fn read(keeper: &Keeper, mut events: Events) {
    let mut dropped = 0;
    loop {
        while let Some(event) = events.next_event() {
            // The run directory may have pools of other namespaces.
            if event.pool_index == keeper.pool_index {
                log(&event);
                keeper.hub.tell(&told(event));
            }
        }
        match events.dropped_count() {
            Ok(count) if count > dropped => {
                let lost = count - dropped;
                tracing::warn!(lost, "births and deaths came faster than they were read");
                keeper.metrics.lost(lost);
                keeper.hub.tell_lost(lost);
                dropped = count;
            }
            _ => {}
        }
        let mut fds = [PollFd::new(&events, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "cannot wait for events: births and deaths are not told any more");
                return;
            }
        }
    }
}

/// The one line of a birth or a death.
fn log(event: &abi::Event) {
    let abi::Event {
        transport,
        range,
        token,
        uid,
        owner_pid: pid,
        ref command,
        ..
    } = *event;
    let tenure = match event.tenure {
        abi::Tenure::Runtime => "runtime",
        abi::Tenure::Persistent { .. } => "persistent",
    };
    let what = event.what.name();
    tracing::info!(%range, %transport, %token, tenure, uid, pid, %command, "reservation {what}");
}

fn told(event: abi::Event) -> calls::Event {
    calls::Event {
        what: match event.what {
            What::Born => calls::What::Born,
            What::Released => calls::What::Released,
            What::Closed => calls::What::Closed,
            What::Deleted => calls::What::Deleted,
        },
        time: event.time,
        tenure: match event.tenure {
            abi::Tenure::Runtime => calls::Tenure::Runtime,
            abi::Tenure::Persistent { .. } => calls::Tenure::Persistent,
        },
        transport: event.transport,
        range: event.range,
        token: event.token,
        uid: event.uid,
        pid: event.owner_pid,
        command: event.command,
    }
}
