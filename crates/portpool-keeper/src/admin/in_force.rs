//! What is in force: the kernel pool and the sysctl.

use portpool::{Pool, PoolKind, Refusal, Tenure};
use portpool_core::{PortRange, RangeSet, Token, Transport, abi::Origin};
use portpool_kernel::{KeptClear, Reason, RunDir};

use super::AdminError;

/// A persistent block as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveBlock {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// Its name.
    pub token: Token,
    /// Whose members may consume it.
    pub group: Option<u32>,
}

/// What enforces blocks and exclusions. Every step is all or nothing and lasts until the pool is
/// detached; none is durable.
pub trait InForce {
    /// All persistent blocks.
    ///
    /// # Errors
    /// [`AdminError`] if they cannot be read.
    fn blocks(&mut self) -> Result<Vec<ActiveBlock>, AdminError>;

    /// The excluded ports of a transport.
    ///
    /// # Errors
    /// [`AdminError`] if they cannot be read.
    fn excluded(&mut self, transport: Transport) -> Result<RangeSet, AdminError>;

    /// Installs a block.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    fn install(&mut self, block: &ActiveBlock, origin: Origin) -> Result<(), AdminError>;

    /// Removes the block with exactly these ports; false if there is none.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    fn remove(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError>;

    /// Excludes ports.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    fn exclude(
        &mut self,
        transport: Transport,
        range: PortRange,
        origin: Origin,
    ) -> Result<(), AdminError>;

    /// Ends the exclusion of ports; false if one of them is not excluded.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    fn unexclude(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError>;

    /// Keeps ports from automatic choice and counts who has them.
    ///
    /// # Errors
    /// [`AdminError`], with nothing changed.
    fn make_grantable(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError>;

    /// Lets automatic choice have ports again.
    ///
    /// # Errors
    /// [`AdminError`]; the ports may or may not be kept from it then.
    fn let_go(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError>;

    /// Both in one: exactly these ports.
    ///
    /// # Errors
    /// As those.
    fn keep_exactly(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError>;

    /// A token that nothing has.
    ///
    /// # Errors
    /// [`AdminError`] if no number can be drawn.
    fn new_token(&mut self) -> Result<Token, AdminError>;
}

/// The kernel pool of a network namespace: that of the thread that calls.
#[derive(Debug)]
pub struct KernelPool {
    run: RunDir,
    pool: Pool,
    kept_clear: Option<KeptClear>,
}

impl KernelPool {
    /// The pool of this network namespace.
    ///
    /// # Errors
    /// [`AdminError::NotAttached`], or that it is of another version.
    pub fn open(run: &RunDir) -> Result<KernelPool, AdminError> {
        let builder = Pool::builder().kind(PoolKind::Kernel).run_dir(run.path());
        let pool = builder.open().map_err(|error| match error.refusal() {
            Some(Refusal::NotAttached) => AdminError::NotAttached,
            _ => AdminError::Open(error),
        })?;
        Ok(KernelPool {
            run: run.clone(),
            pool,
            kept_clear: None,
        })
    }

    fn kept_clear(&mut self) -> Result<&mut KeptClear, AdminError> {
        let kept_clear = match self.kept_clear.take() {
            Some(kept_clear) => kept_clear,
            None => KeptClear::open(&self.run).map_err(portpool_kernel::Error::from)?,
        };
        Ok(self.kept_clear.insert(kept_clear))
    }
}

impl InForce for KernelPool {
    fn blocks(&mut self) -> Result<Vec<ActiveBlock>, AdminError> {
        let records = self.pool.reservations().map_err(AdminError::Look)?;
        let blocks = records
            .into_iter()
            .filter_map(|record| match record.tenure {
                Tenure::Persistent { group } => Some(ActiveBlock {
                    transport: record.transport,
                    range: record.range,
                    token: record.token,
                    group,
                }),
                Tenure::Runtime => None,
            });
        Ok(blocks.collect())
    }

    fn excluded(&mut self, transport: Transport) -> Result<RangeSet, AdminError> {
        self.pool
            .excluded(transport)
            .map_err(|error| AdminError::refused(None, error))
    }

    fn install(&mut self, block: &ActiveBlock, origin: Origin) -> Result<(), AdminError> {
        let ActiveBlock {
            transport,
            range,
            token,
            group,
        } = *block;
        let pool = &self.pool;
        let install = || match origin {
            Origin::New => pool.install_persistent(transport, range, token, group),
            Origin::Restored => pool.restore_persistent(transport, range, token, group),
        };
        let mut installed = install();
        let refusal = installed
            .as_ref()
            .err()
            .and_then(portpool::AdminError::refusal);
        if refusal == Some(Refusal::Ephemeral) {
            // Somebody has attached with other ranges since the ports were made grantable, or is just doing so, or
            // was stopped at it. With the lock of the run directory it is done for good.
            portpool_kernel::make_grantable(&self.run, Reason::Persistent, &range.into())?;
            installed = install();
        }
        installed.map_err(|error| AdminError::refused(Some((transport, range)), error))
    }

    fn remove(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError> {
        found(
            transport,
            range,
            self.pool.remove_persistent(transport, range),
        )
    }

    fn exclude(
        &mut self,
        transport: Transport,
        range: PortRange,
        origin: Origin,
    ) -> Result<(), AdminError> {
        let excluded = match origin {
            Origin::New => self.pool.exclude(transport, range),
            Origin::Restored => self.pool.restore_exclusion(transport, range),
        };
        excluded.map_err(|error| AdminError::refused(Some((transport, range)), error))
    }

    fn unexclude(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError> {
        found(transport, range, self.pool.unexclude(transport, range))
    }

    fn make_grantable(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        // So it is with most blocks.
        let is_attached = reason == Reason::Persistent
            && self
                .kept_clear()?
                .is_attached(ports)
                .map_err(portpool_kernel::Error::from)?;
        if is_attached {
            return Ok(());
        }
        Ok(portpool_kernel::make_grantable(&self.run, reason, ports)?)
    }

    fn let_go(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        Ok(portpool_kernel::let_go(&self.run, reason, ports)?)
    }

    fn keep_exactly(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        Ok(portpool_kernel::keep_exactly(&self.run, reason, ports)?)
    }

    fn new_token(&mut self) -> Result<Token, AdminError> {
        self.pool
            .new_persistent_token()
            .map_err(|error| AdminError::refused(None, error))
    }
}

/// Whether there was something to end.
fn found(
    transport: Transport,
    range: PortRange,
    ended: Result<(), portpool::AdminError>,
) -> Result<bool, AdminError> {
    match ended {
        Ok(()) => Ok(true),
        Err(error) if error.refusal() == Some(Refusal::NoSuchBlock) => Ok(false),
        Err(error) => Err(AdminError::refused(Some((transport, range)), error)),
    }
}
