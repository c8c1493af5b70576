//! What grants change outside this process, so that their order can be tested without a kernel.

use portpool::Caller;
use portpool_core::{PortRange, RangeSet, Transports};

/// What is the matter with ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nobody uses them.
    Free,
    /// Somebody has one of them now, and may not have it later.
    Taken(String),
    /// The administrator excluded one of them.
    Excluded(String),
}

/// The kernel pool and the sysctl.
pub(super) trait World: Send + Sync + 'static {
    /// Where automatic choice picks from.
    fn ephemeral(&self) -> Result<PortRange, String>;

    /// How many ports the kernel grants one user without privilege.
    fn ports_per_uid(&self) -> Result<u32, String>;

    /// Whether automatic choice was kept from all of these when sockets were last swept: then anybody
    /// may claim them.
    fn is_kept(&self, range: PortRange) -> Result<bool, String>;

    /// What is the matter with ports that everybody may claim, if all these are such and the kernel grants
    /// so many to one user: all that most requests take to be answered.
    fn look_if_kept(
        &self,
        transports: Transports,
        range: PortRange,
        charge: u32,
    ) -> Result<Option<Found>, String> {
        let is_open = charge <= self.ports_per_uid()? && self.is_kept(range)?;
        is_open.then(|| self.look(transports, range)).transpose()
    }

    /// Keeps automatic choice from these from here on, and counts the sockets that use them already.
    fn make_grantable(&self, range: PortRange) -> Result<(), String>;

    /// Gives these back to automatic choice, as far as this keeper took them; whether it has them. What
    /// somebody claimed in the last moment stays.
    fn let_go(&self, range: PortRange) -> Result<bool, String>;

    /// Of what was made grantable, the ports that were not let go of.
    fn made_grantable(&self) -> Result<RangeSet, String>;

    fn look(&self, transports: Transports, range: PortRange) -> Result<Found, String>;

    /// Ports of reservations and exclusions, of either of the transports.
    fn taken(&self, transports: Transports) -> Result<RangeSet, String>;

    fn open_window(
        &self,
        transports: Transports,
        range: PortRange,
        caller: Caller,
        deadline: u64,
    ) -> Result<(), String>;

    /// From here on nobody claims through it.
    fn close_window(&self, transports: Transports, range: PortRange) -> Result<(), String>;

    /// The ports of all reservations, of both transports.
    fn blocks(&self) -> Result<RangeSet, String>;

    /// Nanoseconds since boot.
    fn now(&self) -> u64;

    /// For placing blocks, and nothing that must not be guessed.
    fn chance(&self) -> u64;
}
