//! What is in force is made what is on record: after a crash, after attach, after anybody's meddling.

use std::collections::BTreeMap;

use portpool_core::{PortRange, RangeSet, Token, Transport, abi::Origin};
use portpool_kernel::Reason;

use super::{ActiveBlock, AdminError, InForce, work::Work};
use crate::store::{Block, Boot, Change, Records, Store};

/// What reconciling did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reconciled {
    /// Blocks and exclusions that were put in force.
    pub restored: usize,
    /// Blocks and ports of exclusions that were in force and not on record, and are gone.
    pub removed: usize,
    /// What is on record and cannot be put in force.
    pub conflicts: Vec<Conflict>,
}

/// Something on record that cannot be put in force now. It stays on record.
#[derive(Debug)]
pub struct Conflict {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// What is in its way.
    pub error: AdminError,
}

impl<S: Store, K: InForce> Work<S, K> {
    pub(super) fn reconcile(&mut self) -> Result<Reconciled, AdminError> {
        let records = self.store.records()?;
        let (persistent, excluded) = ports_of(&records);
        let mut reconciled = Reconciled::default();
        // Away with what is in the way first, and the sysctl before what needs it.
        remove_unrecorded(&mut self.in_force, &records, &mut reconciled)?;
        self.in_force
            .make_grantable(Reason::Persistent, &persistent)?;
        let active = self.in_force.blocks()?;
        let in_force = &mut self.in_force;
        let (tokens, changes) = tokens(&records, &active, &self.boot, || in_force.new_token())?;
        if !changes.is_empty() {
            self.store.commit(&changes)?;
        }
        put_back(&mut self.in_force, &records, &tokens, &mut reconciled)?;
        self.in_force
            .keep_exactly(Reason::Persistent, &persistent)?;
        self.in_force.keep_exactly(Reason::Excluded, &excluded)?;
        Ok(reconciled)
    }
}

/// Ends what is in force and not on record.
pub(super) fn remove_unrecorded(
    in_force: &mut impl InForce,
    records: &Records,
    reconciled: &mut Reconciled,
) -> Result<(), AdminError> {
    let recorded: BTreeMap<_, _> = records
        .blocks
        .iter()
        .map(|block| ((block.transport, block.range), block.group))
        .collect();
    for active in in_force.blocks()? {
        if recorded.get(&(active.transport, active.range)) != Some(&active.group) {
            in_force.remove(active.transport, active.range)?;
            reconciled.removed += 1;
        }
    }
    for transport in Transport::ALL {
        let wanted = excluded_of(records, transport);
        let unwanted = in_force.excluded(transport)?.difference(&wanted);
        for range in unwanted.iter() {
            in_force.unexclude(transport, range)?;
            reconciled.removed += usize::from(range.count().number());
        }
    }
    Ok(())
}

/// A token for each block: the one it has, else the one it had in this boot, else a new one; and
/// what of it is to be recorded before it is used.
pub(super) fn tokens(
    records: &Records,
    active: &[ActiveBlock],
    boot: &Boot,
    mut new_token: impl FnMut() -> Result<Token, AdminError>,
) -> Result<(Vec<Token>, Vec<Change>), AdminError> {
    let active: BTreeMap<_, _> = active.iter().map(key_and_token).collect();
    let mut changes = Vec::new();
    let mut tokens = Vec::with_capacity(records.blocks.len());
    for block in &records.blocks {
        let Block {
            transport, range, ..
        } = *block;
        let recorded = recorded_token(block, boot);
        let token = match active.get(&(transport, range)).copied().or(recorded) {
            Some(token) => token,
            None => new_token()?,
        };
        if recorded != Some(token) {
            changes.push(Change::RenameBlock(transport, range, boot.clone(), token));
        }
        tokens.push(token);
    }
    Ok((tokens, changes))
}

/// Puts in force what is on record and is not yet; `tokens` are those of the blocks.
pub(super) fn put_back(
    in_force: &mut impl InForce,
    records: &Records,
    tokens: &[Token],
    reconciled: &mut Reconciled,
) -> Result<(), AdminError> {
    let active = in_force.blocks()?;
    let active: BTreeMap<_, _> = active.iter().map(key_and_token).collect();
    for (block, token) in records.blocks.iter().zip(tokens) {
        if active.contains_key(&(block.transport, block.range)) {
            continue;
        }
        let Block {
            transport,
            range,
            group,
            ..
        } = *block;
        let token = *token;
        let wanted = ActiveBlock {
            transport,
            range,
            token,
            group,
        };
        let done = in_force.install(&wanted, Origin::Restored);
        note_done(transport, range, done, reconciled)?;
    }
    for transport in Transport::ALL {
        let excluded = in_force.excluded(transport)?;
        let missing = excluded_of(records, transport).difference(&excluded);
        for range in missing.iter() {
            let done = in_force.exclude(transport, range, Origin::Restored);
            note_done(transport, range, done, reconciled)?;
        }
    }
    Ok(())
}

/// All ports of blocks, and all excluded ports.
pub(super) fn ports_of(records: &Records) -> (RangeSet, RangeSet) {
    let blocks = records.blocks.iter().map(|block| block.range);
    let exclusions = records.exclusions.iter().map(|exclusion| exclusion.range);
    (blocks.collect(), exclusions.collect())
}

/// The token that a block has on record for this boot.
fn recorded_token(block: &Block, boot: &Boot) -> Option<Token> {
    let (named, token) = block.token.as_ref()?;
    (named == boot).then_some(*token)
}

fn note_done(
    transport: Transport,
    range: PortRange,
    done: Result<(), AdminError>,
    reconciled: &mut Reconciled,
) -> Result<(), AdminError> {
    match done {
        Ok(()) => reconciled.restored += 1,
        // Somebody has the ports, or the port is beyond what this process may reserve.
        Err(
            error @ (AdminError::SharingViolation { .. }
            | AdminError::Kernel(_)
            | AdminError::AccessDenied { .. }),
        ) => reconciled.conflicts.push(Conflict {
            transport,
            range,
            error,
        }),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn key_and_token(block: &ActiveBlock) -> ((Transport, PortRange), Token) {
    ((block.transport, block.range), block.token)
}

fn excluded_of(records: &Records, transport: Transport) -> RangeSet {
    let exclusions = records.exclusions.iter();
    let exclusions = exclusions.filter(|exclusion| exclusion.transport == transport);
    exclusions.map(|exclusion| exclusion.range).collect()
}
