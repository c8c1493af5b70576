//! What the keeper counts, as Prometheus reads it.
//!
//! Counters run along with events; what the pool is like at the moment is read when somebody asks.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use portpool::{Pool, Refusal, Transport};
use portpool_core::abi::{ControlCode, Operation, Tenure, refusal_of};
use portpool_kernel::{RunDir, events::Tally};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The counters, and how to show them.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    claims: Counter,
    refusals: Family<ByReason, Counter>,
    conflicts: Counter,
    counted: Mutex<BTreeMap<(Operation, Option<i32>), u64>>,
    events_lost: Counter,
    calls: Family<ByMethod, Counter>,
    connections_refused: Counter,
    store_seconds: Histogram,
    now: Now,
}

/// Read at the moment of asking.
#[derive(Debug, Default)]
struct Now {
    reservations: Family<ByTenure, Gauge>,
    ports: Family<ByState, Gauge>,
    ports_of_uid: Family<ByUid, Gauge>,
    connections: Gauge,
    watchers: Gauge,
    waiting: Gauge,
    windows: Gauge,
    /// 0 if the pool could not be read: then what is above is of the last time it could.
    is_readable: Gauge<i64, std::sync::atomic::AtomicI64>,
}

/// What the keeper itself has to do at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Connections that are open.
    pub(super) connections: u32,
    /// Of these, readers of events.
    pub(super) watchers: usize,
    /// Requests that wait for ports.
    pub(super) waiting: usize,
    /// Windows that are open or were claimed through.
    pub(super) windows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTenure {
    transport: &'static str,
    tenure: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    transport: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUid {
    transport: &'static str,
    uid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    operation: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMethod {
    method: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Everything at 0.
    pub(super) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("portpool");
        let metrics = Metrics {
            claims: Counter::default(),
            refusals: Family::default(),
            conflicts: Counter::default(),
            counted: Mutex::default(),
            events_lost: Counter::<u64, AtomicU64>::default(),
            calls: Family::default(),
            connections_refused: Counter::default(),
            // From a write that the disk's cache takes to one that waits for a busy disk.
            store_seconds: Histogram::new([
                0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
            ]),
            now: Now::default(),
            registry: Registry::default(),
        };
        let now = &metrics.now;
        registry.register("claims", "Claims granted", metrics.claims.clone());
        let help = "What the pool refused, by operation and reason";
        registry.register("refusals", help, metrics.refusals.clone());
        let help = "Claims of ports that somebody had or was about to have";
        registry.register("claim_conflicts", help, metrics.conflicts.clone());
        let help = "Events of the pool that came too fast to be counted";
        registry.register("events_lost", help, metrics.events_lost.clone());
        registry.register("keeper_calls", "Calls answered", metrics.calls.clone());
        let help = "Connections turned away";
        registry.register(
            "keeper_connections_refused",
            help,
            metrics.connections_refused.clone(),
        );
        let help = "A durable change: record, kernel and sysctl";
        let unit = Unit::Seconds;
        registry.register_with_unit("store", help, unit, metrics.store_seconds.clone());
        registry.register(
            "reservations",
            "Live reservations",
            now.reservations.clone(),
        );
        registry.register(
            "ports",
            "Ports by what is the matter with them",
            now.ports.clone(),
        );
        let help = "Reserved ports of a user, by the uid of who made the reservation";
        registry.register("reserved_ports", help, now.ports_of_uid.clone());
        registry.register(
            "keeper_connections",
            "Open connections",
            now.connections.clone(),
        );
        registry.register("keeper_watchers", "Readers of events", now.watchers.clone());
        registry.register(
            "keeper_queue",
            "Requests that wait for ports",
            now.waiting.clone(),
        );
        let help = "Blocks taken from the ephemeral range";
        registry.register("keeper_windows", help, now.windows.clone());
        let help = "Whether the pool could be read just now";
        registry.register("pool_readable", help, now.is_readable.clone());
        Metrics {
            registry,
            ..metrics
        }
    }

    /// So many events were not read in time.
    pub(super) fn lost(&self, count: u64) {
        self.events_lost.inc_by(count);
    }

    /// A call was answered.
    pub(super) fn called(&self, method: &'static str, is_ok: bool) {
        let result = if is_ok { "ok" } else { "error" };
        self.calls.get_or_create(&ByMethod { method, result }).inc();
    }

    /// A connection was turned away.
    pub(super) fn turned_away(&self) {
        self.connections_refused.inc();
    }

    /// A durable change took so long.
    pub(super) fn stored(&self, time: Duration) {
        self.store_seconds.observe(time.as_secs_f64());
    }

    /// The text that Prometheus reads.
    pub(super) fn text(
        &self,
        pool: &Pool,
        run: &RunDir,
        cookie: u64,
        load: Load,
    ) -> Result<String, fmt::Error> {
        let now = &self.now;
        now.connections.set(load.connections.into());
        now.watchers.set(count(load.watchers));
        now.waiting.set(count(load.waiting));
        now.windows.set(count(load.windows));
        let answers = portpool_kernel::events::tallies(run, cookie);
        let is_readable = self.look(pool).is_ok() && answers.is_ok();
        now.is_readable.set(i64::from(is_readable));
        self.count(&answers.unwrap_or_default());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        // What is too large to be told in one go is not told in half.
        match text.len() {
            0..TEXT_SIZE_MAX => Ok(text),
            _ => {
                text.clear();
                writeln!(text, "# too many users to list\n# EOF")?;
                Ok(text)
            }
        }
    }

    /// Takes over what the kernel has counted since the last time.
    fn count(&self, answers: &[Tally]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in answers {
            let before = counted.insert((answer.operation, answer.errno), answer.count);
            // Less than before is a pool that was attached anew.
            let before = before.filter(|before| *before <= answer.count).unwrap_or(0);
            let more = answer.count - before;
            if more == 0 {
                continue;
            }
            let is_claim = answer.operation == Operation::Control(ControlCode::Acquire);
            let refusal = answer
                .errno
                .and_then(|errno| refusal_of(answer.operation, errno));
            match (answer.errno, refusal) {
                (Some(0), _) if is_claim => drop(self.claims.inc_by(more)),
                (Some(0), _) => continue,
                (_, Some(Refusal::InUse | Refusal::Busy)) if is_claim => {
                    self.conflicts.inc_by(more);
                }
                _ => {}
            }
            if answer.errno != Some(0) {
                let labels = ByReason {
                    operation: operation_name(answer.operation),
                    reason: refusal.map_or("other", Refusal::name),
                };
                self.refusals.get_or_create(&labels).inc_by(more);
            }
        }
    }

    fn look(&self, pool: &Pool) -> Result<(), portpool::LookError> {
        let overview = pool.overview()?;
        let records = pool.reservations()?;
        let now = &self.now;
        let mut reservations = BTreeMap::new();
        let mut uids = BTreeMap::new();
        for record in &records {
            let tenure = match record.tenure {
                Tenure::Runtime => "runtime",
                Tenure::Persistent { .. } => "persistent",
            };
            *reservations.entry((record.transport, tenure)).or_insert(0) += 1;
            let ports = i64::from(record.range.count().number());
            *uids.entry((record.transport, record.uid)).or_insert(0) += ports;
        }
        now.ports_of_uid.clear();
        for ((transport, uid), ports) in uids {
            let transport = name(transport);
            now.ports_of_uid
                .get_or_create(&ByUid { transport, uid })
                .set(ports);
        }
        for transport in Transport::ALL {
            for tenure in ["runtime", "persistent"] {
                let live = reservations.get(&(transport, tenure)).copied().unwrap_or(0);
                let transport = name(transport);
                now.reservations
                    .get_or_create(&ByTenure { transport, tenure })
                    .set(live);
            }
            let ports = overview.transport(transport);
            for (state, ports) in [
                ("reserved", ports.reserved_count),
                ("in_use", ports.in_use_count),
                ("free", ports.free_count),
            ] {
                let transport = name(transport);
                now.ports
                    .get_or_create(&ByState { transport, state })
                    .set(ports.into());
            }
        }
        Ok(())
    }
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Control(ControlCode::Probe) => "probe",
        Operation::Control(ControlCode::Acquire) => "acquire",
        Operation::Control(ControlCode::Release) => "release",
        Operation::Control(ControlCode::Associate) => "associate",
        Operation::Control(ControlCode::Persist) => "persist",
        Operation::Control(ControlCode::Unpersist) => "unpersist",
        Operation::Control(ControlCode::Exclude) => "exclude",
        Operation::Control(ControlCode::Unexclude) => "unexclude",
        Operation::Control(ControlCode::Window) => "window",
        Operation::Control(ControlCode::Lend) => "lend",
        Operation::Bind => "bind",
        Operation::Connect => "connect",
    }
}

fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn count(number: usize) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// About 100,000 users with reservations.
const TEXT_SIZE_MAX: usize = 8 * 1024 * 1024;
