//! Who is told when something happens: readers of events, and requests that wait for ports.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portpool_varlink::calls::{Event, Happened};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::limits::{EVENTS_PER_MESSAGE, EVENTS_QUEUED_MAX};

/// Where those that wait are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    watchers: BTreeMap<u64, Arc<Queue>>,
    waiting: BTreeMap<u64, Arc<OwnedFd>>,
}

/// Events that one reader has not read yet. When there are too many the oldest go, and are counted.
#[derive(Debug)]
struct Queue {
    events: Mutex<Backlog>,
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<Event>,
    lost: u64,
}

impl Hub {
    /// Tells everybody.
    pub(super) fn tell(&self, event: &Event) {
        let table = self.lock();
        for queue in table.watchers.values() {
            queue.push(event.clone());
        }
        table.waiting.values().for_each(ring);
    }

    /// Says that so many events could not be read from the kernel.
    pub(super) fn tell_lost(&self, count: u64) {
        let table = self.lock();
        for queue in table.watchers.values() {
            queue.lock().lost += count;
            ring(&queue.bell);
        }
        table.waiting.values().for_each(ring);
    }

    /// Events from now on.
    pub(super) fn watch(&self) -> io::Result<Watcher> {
        let queue = Arc::new(Queue {
            events: Mutex::default(),
            bell: bell()?,
        });
        let id = self
            .lock()
            .enter(|table, id| table.watchers.insert(id, Arc::clone(&queue)));
        let hub = self.clone();
        Ok(Watcher { hub, id, queue })
    }

    /// A bell that rings whenever something happens.
    pub(super) fn wait(&self) -> io::Result<Waiter> {
        let bell = Arc::new(bell()?);
        let id = self
            .lock()
            .enter(|table, id| table.waiting.insert(id, Arc::clone(&bell)));
        let hub = self.clone();
        Ok(Waiter { hub, id, bell })
    }

    /// How many read events.
    pub(super) fn watcher_count(&self) -> usize {
        self.lock().watchers.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn enter<T>(&mut self, insert: impl FnOnce(&mut Table, u64) -> T) -> u64 {
        let id = self.next;
        self.next += 1;
        insert(self, id);
        id
    }
}

/// One reader of events. Its descriptor is readable when there are some.
#[derive(Debug)]
pub(super) struct Watcher {
    hub: Hub,
    id: u64,
    queue: Arc<Queue>,
}

impl Watcher {
    /// The next events, if there are any.
    pub(super) fn take(&self) -> Option<Happened> {
        let mut backlog = self.queue.lock();
        if backlog.events.is_empty() && backlog.lost == 0 {
            silence(&self.queue.bell);
            return None;
        }
        let count = backlog.events.len().min(EVENTS_PER_MESSAGE);
        let events = backlog.events.drain(..count).collect();
        let lost = std::mem::take(&mut backlog.lost);
        Some(Happened { events, lost })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.bell.as_fd()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.lock().watchers.remove(&self.id);
    }
}

/// One that waits. Its descriptor is readable once something has happened.
#[derive(Debug)]
pub(super) struct Waiter {
    hub: Hub,
    id: u64,
    bell: Arc<OwnedFd>,
}

impl Waiter {
    /// Before looking: what happens from here on rings again.
    pub(super) fn reset(&self) {
        silence(&self.bell);
    }

    /// Until something happens or the time is over.
    pub(super) fn wait(&self, time: Duration) {
        let timeout = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // Interrupted is as good as woken.
        let _ = poll(
            &mut [PollFd::new(&*self.bell, PollFlags::IN)],
            Some(&timeout),
        );
    }
}

impl AsFd for Waiter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.hub.lock().waiting.remove(&self.id);
    }
}

impl Queue {
    fn push(&self, event: Event) {
        let mut backlog = self.lock();
        if backlog.events.len() >= EVENTS_QUEUED_MAX {
            backlog.events.pop_front();
            backlog.lost += 1;
        }
        backlog.events.push_back(event);
        drop(backlog);
        ring(&self.bell);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Backlog> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

fn ring(bell: &impl AsFd) {
    // Full means that it rings already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn silence(bell: &impl AsFd) {
    // Nothing to read means that it does not ring.
    let _ = rustix::io::read(bell, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use portpool_varlink::calls::{Tenure, What};

    fn event(pid: u32) -> Event {
        Event {
            what: What::Born,
            time: 1,
            tenure: Tenure::Runtime,
            transport: portpool_core::Transport::Tcp,
            range: "8080".parse().unwrap(),
            token: portpool_core::Token::new(1).unwrap(),
            uid: 0,
            pid,
            command: String::new(),
        }
    }

    fn rings(bell: &impl AsFd) -> bool {
        poll(
            &mut [PollFd::new(bell, PollFlags::IN)],
            Some(&Timespec::default()),
        ) == Ok(1)
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_events_and_is_told_how_many() {
        let hub = Hub::default();
        let watcher = hub.watch().unwrap();
        assert!(watcher.take().is_none() && !rings(&watcher));
        let count = EVENTS_QUEUED_MAX as u32 + 10;
        (0..count).for_each(|pid| hub.tell(&event(pid)));
        assert!(rings(&watcher));
        let first = watcher.take().unwrap();
        assert_eq!((first.lost, first.events[0].pid), (10, 10));
        assert_eq!(first.events.len(), EVENTS_PER_MESSAGE);
        let rest: usize = std::iter::from_fn(|| watcher.take())
            .map(|it| it.events.len())
            .sum();
        assert_eq!(rest + EVENTS_PER_MESSAGE, EVENTS_QUEUED_MAX);
        assert!(!rings(&watcher));
        hub.tell_lost(3);
        assert_eq!(watcher.take().unwrap().lost, 3);
    }

    #[test]
    fn who_waits_is_woken_and_forgotten_when_gone() {
        let hub = Hub::default();
        let waiter = hub.wait().unwrap();
        assert!(!rings(&waiter));
        hub.tell(&event(1));
        assert!(rings(&waiter));
        waiter.reset();
        assert!(!rings(&waiter));
        hub.tell_lost(1);
        assert!(rings(&waiter));
        drop((waiter, hub.watch().unwrap()));
        let table = hub.lock();
        assert!(table.waiting.is_empty() && table.watchers.is_empty());
    }
}
