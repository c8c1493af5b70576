//! What the kernel pool tells: a log line for each birth and death, and the word to whoever waits.

use std::{sync::Arc, thread};

use portpool_core::abi::{self, What};
use portpool_kernel::{RunDir, events::Events};
use portpool_varlink::calls;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
    let run = run.clone();
    let builder = thread::Builder::new()
        .name("events".to_owned())
        .stack_size(STACK_SIZE);
    let started = builder.spawn(move || read(&keeper, &run, events));
    started
        .map(drop)
        .map_err(|cause| KeeperError::step("start the thread that reads events".to_owned(), cause))
}

/// Reads for ever: when the pool has been detached and attached again, from then on.
fn read(keeper: &Keeper, run: &RunDir, mut events: Events) {
    let mut index = keeper.pool_index;
    loop {
        if let Err(error) = tell_of_one_pool(keeper, &mut events, index) {
            tracing::error!(%error, "cannot wait for events: births and deaths are not told any more");
            return;
        }
        // Only one may be open at a time.
        drop(events);
        (events, index) = loop {
            // Its place in the table is known once it is attached.
            if let Ok(config) = keeper.world.view().and_then(|view| view.config())
                && let Ok(events) = Events::open(run)
            {
                break (events, config.index);
            }
            let _ = poll(&mut [], Some(&LOOK_PAUSE));
        };
        tracing::info!("the pool was attached anew: births and deaths are told from here on");
    }
}

/// Tells what happens until the pool is not the one that `events` are of.
fn tell_of_one_pool(
    keeper: &Keeper,
    events: &mut Events,
    index: u32,
) -> Result<(), rustix::io::Errno> {
    let mut dropped = 0;
    loop {
        while let Some(event) = events.next_event() {
            // The run directory may have pools of other namespaces.
            if event.pool_index == index {
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
        let mut fds = [PollFd::new(&*events, PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK_PAUSE)) {
            Ok(0) if !events.are_current() => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
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

/// How often it is looked whether the pool was detached.
const LOOK_PAUSE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
