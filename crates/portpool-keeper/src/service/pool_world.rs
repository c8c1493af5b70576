//! The world of grants as it is: the kernel pool of this network namespace and its sysctls.

use std::{fs::File, io, ops::Deref, os::unix::fs::FileExt, sync::Arc};

use portpool::{Caller, Pool, View};
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
    /// The sysctls of this network namespace, which stay those of it.
    ephemeral: Arc<File>,
    reserved: Arc<File>,
}

impl PoolWorld {
    pub(super) fn new(run: RunDir, pool: Pool) -> io::Result<PoolWorld> {
        let own = caller::own()?;
        let open = |path| File::open(path).map(Arc::new);
        Ok(PoolWorld {
            run,
            pool,
            own,
            ephemeral: open(EPHEMERAL)?,
            reserved: open(RESERVED)?,
        })
    }

    /// Where the pool is.
    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    fn is_kept_in(&self, view: &View, range: PortRange) -> Result<bool, String> {
        if !view.is_kept_clear(range).map_err(text)? {
            return Ok(false);
        }
        // Somebody may have taken the entries out since.
        let reserved: RangeSet = read(&self.reserved, RESERVED)?.parse().map_err(text)?;
        Ok(RangeSet::from(range).difference(&reserved).is_empty())
    }
}

fn look_in(view: &View, transports: Transports, range: PortRange) -> Result<Found, String> {
    for transport in transports.iter() {
        let Some((port, state)) = view.first_taken(transport, range).map_err(text)? else {
            continue;
        };
        if state.excluded {
            return Ok(Found::Excluded(format!(
                "the administrator has excluded {port}/{transport}: choose other ports"
            )));
        }
        return Ok(Found::Taken(match state.reservation {
            Some(record) => format!(
                "{port}/{transport} is reserved by process {} ({})",
                record.owner_pid, record.command
            ),
            None => format!("a socket is bound to {port}/{transport}"),
        }));
    }
    Ok(Found::Free)
}

impl World for PoolWorld {
    fn ephemeral(&self) -> Result<PortRange, String> {
        let text = read(&self.ephemeral, EPHEMERAL)?;
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
        let config = self
            .pool
            .view()
            .and_then(|view| view.config())
            .map_err(text)?;
        Ok(config.limits.ports_per_uid_max)
    }

    fn is_kept(&self, range: PortRange) -> Result<bool, String> {
        self.is_kept_in(&self.pool.view().map_err(text)?, range)
    }

    fn look_if_kept(
        &self,
        transports: Transports,
        range: PortRange,
        charge: u32,
    ) -> Result<Option<Found>, String> {
        let view = self.pool.view().map_err(text)?;
        let most = view.config().map_err(text)?.limits.ports_per_uid_max;
        let is_open = charge <= most && self.is_kept_in(&view, range)?;
        is_open
            .then(|| look_in(&view, transports, range))
            .transpose()
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
        look_in(&self.pool.view().map_err(text)?, transports, range)
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

/// Reads a sysctl that is open. In one go, as the kernel answers it; it clears as much memory as it is
/// given room, so that a list of ports has much only if it does not fit little.
fn read(file: &File, path: &str) -> Result<String, String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    let mut text = vec![0; LENGTH_USUAL];
    let mut length = file.read_at(&mut text, 0).map_err(failed)?;
    if length == text.len() && !text.ends_with(b"\n") {
        text = vec![0; LENGTH_MAX];
        length = file.read_at(&mut text, 0).map_err(failed)?;
    }
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
const LENGTH_USUAL: usize = 4 * 1024;
/// More than the longest list has: 32,768 single ports.
const LENGTH_MAX: usize = 256 * 1024;
