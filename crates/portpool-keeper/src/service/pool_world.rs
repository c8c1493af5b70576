//! The world of grants as it is: the kernel pool of this network namespace and its sysctls.

use std::{
    fs::File,
    io::{self, Read},
    ops::Deref,
};

use portpool::{Caller, Pool};
use portpool_core::{Port, PortRange, RangeSet, Transports};
use portpool_kernel::{Reason, RunDir};

use super::{
    caller,
    world::{Found, World},
};

/// The kernel pool, and what is kept from automatic choice for it.
#[derive(Clone, Debug)]
pub(super) struct PoolWorld {
    run: RunDir,
    pool: Pool,
    /// This process.
    own: Caller,
}

impl PoolWorld {
    pub(super) fn new(run: RunDir, pool: Pool) -> io::Result<PoolWorld> {
        let own = caller::own()?;
        Ok(PoolWorld { run, pool, own })
    }

    /// Where the pool is.
    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    fn look_at(&self, transports: Transports, port: Port) -> Result<Found, String> {
        for transport in transports.iter() {
            let state = self.pool.port(transport, port).map_err(text)?;
            if state.excluded {
                return Ok(Found::Excluded(format!(
                    "the administrator has excluded {port}/{transport}: choose other ports"
                )));
            }
            if let Some(record) = state.reservation {
                return Ok(Found::Taken(format!(
                    "{port}/{transport} is reserved by process {} ({})",
                    record.owner_pid, record.command
                )));
            }
            if state.socket_count > 0 || state.held {
                return Ok(Found::Taken(format!(
                    "a socket is bound to {port}/{transport}"
                )));
            }
        }
        Ok(Found::Free)
    }
}

impl World for PoolWorld {
    fn ephemeral(&self) -> Result<PortRange, String> {
        let text = read(EPHEMERAL)?;
        let mut numbers = text
            .split_whitespace()
            .map(|word| word.parse().ok().and_then(Port::new));
        let range = match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(first), Some(last)) => PortRange::between(first, last),
            _ => None,
        };
        range.ok_or_else(|| format!("{EPHEMERAL}: unexpected text {text:?}"))
    }

    fn ports_per_uid(&self) -> Result<u32, String> {
        let overview = self.pool.overview().map_err(text)?;
        Ok(overview.config.limits.ports_per_uid_max)
    }

    fn is_kept(&self, range: PortRange) -> Result<bool, String> {
        let range = RangeSet::from(range);
        let attached = portpool_kernel::kept_for(&self.run, Reason::Attached).map_err(text)?;
        if !range.difference(&attached).is_empty() {
            return Ok(false);
        }
        // Somebody may have taken the entries out since.
        let reserved: RangeSet = read(RESERVED)?.parse().map_err(text)?;
        Ok(range.difference(&reserved).is_empty())
    }

    fn make_grantable(&self, range: PortRange) -> Result<(), String> {
        portpool_kernel::make_grantable(&self.run, Reason::Granted, &range.into()).map_err(text)
    }

    fn let_go(&self, range: PortRange) -> Result<bool, String> {
        let ports = RangeSet::from(range);
        portpool_kernel::let_go(&self.run, Reason::Granted, &ports).map_err(text)?;
        Ok(ports.intersection(&self.made_grantable()?).is_empty())
    }

    fn made_grantable(&self) -> Result<RangeSet, String> {
        portpool_kernel::kept_for(&self.run, Reason::Granted).map_err(text)
    }

    fn look(&self, transports: Transports, range: PortRange) -> Result<Found, String> {
        for port in range.ports() {
            let found = self.look_at(transports, port)?;
            if found != Found::Free {
                return Ok(found);
            }
        }
        Ok(Found::Free)
    }

    fn taken(&self, transports: Transports) -> Result<RangeSet, String> {
        let records = self.pool.reservations().map_err(text)?;
        let records = records
            .iter()
            .filter(|it| transports.contains(it.transport));
        let mut taken: RangeSet = records.map(|record| record.range).collect();
        for transport in transports.iter() {
            taken = taken.union(&self.pool.excluded(transport).map_err(text)?);
        }
        Ok(taken)
    }

    fn open_window(
        &self,
        transports: Transports,
        range: PortRange,
        caller: Caller,
        deadline: u64,
    ) -> Result<(), String> {
        for transport in transports.iter() {
            self.pool
                .open_window(transport, range, caller, deadline)
                .map_err(text)?;
        }
        Ok(())
    }

    fn close_window(&self, transports: Transports, range: PortRange) -> Result<(), String> {
        // One with the same block replaces the one before, and this process claims nothing.
        let deadline = self.now() + CLOSING_TIME_NS;
        self.open_window(transports, range, self.own, deadline)
    }

    fn blocks(&self) -> Result<RangeSet, String> {
        let records = self.pool.reservations().map_err(text)?;
        Ok(records.iter().map(|record| record.range).collect())
    }

    fn now(&self) -> u64 {
        Pool::since_boot()
    }

    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        // Where there is none, all start at the same place: slower, not wrong.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        u64::from_ne_bytes(bytes)
    }
}

impl Deref for PoolWorld {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.pool
    }
}

/// Reads in one go, as the kernel answers it.
fn read(path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{path}: {error}");
    let mut text = vec![0; LENGTH_MAX];
    let length = File::open(path)
        .and_then(|mut file| file.read(&mut text))
        .map_err(failed)?;
    text.truncate(length);
    String::from_utf8(text).map_err(|error| format!("{path}: {error}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// In the future, as the kernel wants it, and not for long.
const CLOSING_TIME_NS: u64 = 1_000_000_000;
/// More than the longest list has: 32,768 single ports.
const LENGTH_MAX: usize = 256 * 1024;
