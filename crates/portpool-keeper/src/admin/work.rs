//! The changes themselves, one step after the other.

use std::time::{Duration, SystemTime};

use portpool_core::{PortRange, RangeSet, Token, Transport, Transports, abi::Origin};
use portpool_kernel::Reason;

use super::{ActiveBlock, AdminError, InForce, Kind, Listed, Persist, Persisted, fault};
use crate::store::{Block, Boot, Change, Exclusion, Note, Store};

/// Records and what is in force.
#[derive(Debug)]
pub(super) struct Work<S, K> {
    pub(super) store: S,
    pub(super) in_force: K,
    pub(super) boot: Boot,
    /// Whether a step that should have been taken or taken back was not.
    is_unfinished: bool,
}

impl<S: Store, K: InForce> Work<S, K> {
    pub(super) fn new(store: S, in_force: K, boot: Boot) -> Work<S, K> {
        Work {
            store,
            in_force,
            boot,
            is_unfinished: false,
        }
    }

    /// Whether the last change left something half done; asked once.
    pub(super) fn take_unfinished(&mut self) -> bool {
        std::mem::take(&mut self.is_unfinished)
    }

    pub(super) fn persist(&mut self, persist: &Persist) -> Result<Vec<Persisted>, AdminError> {
        let Persist {
            transports, range, ..
        } = *persist;
        for transport in transports.iter() {
            self.refuse_if_recorded(transport, range)?;
        }
        let ports = RangeSet::from(range);
        let mut installed = Vec::new();
        let made = self.persist_steps(persist, &mut installed);
        if made.is_err() {
            for block in &installed {
                let ActiveBlock {
                    transport, range, ..
                } = *block;
                self.take_back(|in_force| in_force.remove(transport, range).map(drop));
            }
            self.take_back_kept(Reason::Persistent, &ports);
        }
        made
    }

    fn persist_steps(
        &mut self,
        persist: &Persist,
        installed: &mut Vec<ActiveBlock>,
    ) -> Result<Vec<Persisted>, AdminError> {
        let Persist {
            transports,
            range,
            group,
            ref note,
        } = *persist;
        let ports = RangeSet::from(range);
        self.in_force.make_grantable(Reason::Persistent, &ports)?;
        fault::point("persist", "kept-clear");
        let mut changes = Vec::new();
        for transport in transports.iter() {
            let token = self.in_force.new_token()?;
            let block = ActiveBlock {
                transport,
                range,
                token,
                group,
            };
            self.in_force.install(&block, Origin::New)?;
            installed.push(block);
            fault::point("persist", &format!("installed-{transport}"));
            changes.push(Change::AddBlock(Block {
                transport,
                range,
                group,
                note: note.clone(),
                created: now(),
                token: Some((self.boot.clone(), token)),
            }));
        }
        self.store.commit(&changes)?;
        fault::point("persist", "committed");
        let answers = installed.iter().map(|block| Persisted {
            transport: block.transport,
            range,
            token: block.token,
        });
        Ok(answers.collect())
    }

    pub(super) fn unpersist(
        &mut self,
        transports: Transports,
        range: PortRange,
    ) -> Result<(), AdminError> {
        for transport in transports.iter() {
            let met = self.store.blocks_meeting(transport, range)?;
            if !met.iter().any(|block| block.range == range) {
                return Err(not_found(transport, range, BLOCK));
            }
        }
        let delete = |transport| Change::DeleteBlock(transport, range);
        let changes: Vec<Change> = transports.iter().map(delete).collect();
        self.store.commit(&changes)?;
        fault::point("unpersist", "committed");
        for transport in transports.iter() {
            self.follow(|in_force| in_force.remove(transport, range).map(drop))?;
            fault::point("unpersist", &format!("removed-{transport}"));
        }
        self.follow_kept(Reason::Persistent, range)?;
        fault::point("unpersist", "let-go");
        Ok(())
    }

    pub(super) fn exclude(
        &mut self,
        transports: Transports,
        range: PortRange,
        note: Option<&Note>,
    ) -> Result<(), AdminError> {
        for transport in transports.iter() {
            self.refuse_if_recorded(transport, range)?;
        }
        let mut excluded = Vec::new();
        let made = self.exclude_steps(transports, range, note, &mut excluded);
        if made.is_err() {
            for transport in excluded {
                self.take_back(|in_force| in_force.unexclude(transport, range).map(drop));
            }
            self.take_back_kept(Reason::Excluded, &RangeSet::from(range));
        }
        made
    }

    fn exclude_steps(
        &mut self,
        transports: Transports,
        range: PortRange,
        note: Option<&Note>,
        excluded: &mut Vec<Transport>,
    ) -> Result<(), AdminError> {
        // First, so that who uses the ports has been counted when the kernel judges.
        let ports = RangeSet::from(range);
        self.in_force.make_grantable(Reason::Excluded, &ports)?;
        fault::point("exclude", "kept-clear");
        for transport in transports.iter() {
            self.in_force.exclude(transport, range, Origin::New)?;
            excluded.push(transport);
            fault::point("exclude", &format!("excluded-{transport}"));
        }
        let add = |transport| {
            Change::AddExclusion(Exclusion {
                transport,
                range,
                note: note.cloned(),
                created: now(),
            })
        };
        let changes: Vec<Change> = transports.iter().map(add).collect();
        self.store.commit(&changes)?;
        fault::point("exclude", "committed");
        Ok(())
    }

    pub(super) fn unexclude(
        &mut self,
        transports: Transports,
        range: PortRange,
    ) -> Result<(), AdminError> {
        for transport in transports.iter() {
            let met = self.store.exclusions_meeting(transport, range)?;
            if !met.iter().any(|exclusion| exclusion.range == range) {
                return Err(not_found(transport, range, EXCLUSION));
            }
        }
        let delete = |transport| Change::DeleteExclusion(transport, range);
        let changes: Vec<Change> = transports.iter().map(delete).collect();
        self.store.commit(&changes)?;
        fault::point("unexclude", "committed");
        for transport in transports.iter() {
            self.follow(|in_force| in_force.unexclude(transport, range).map(drop))?;
            fault::point("unexclude", &format!("unexcluded-{transport}"));
        }
        self.follow_kept(Reason::Excluded, range)?;
        fault::point("unexclude", "let-go");
        Ok(())
    }

    pub(super) fn lookup(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Token, AdminError> {
        let blocks = self.in_force.blocks()?;
        let found = blocks
            .into_iter()
            .find(|block| (block.transport, block.range) == (transport, range));
        found
            .map(|block| block.token)
            .ok_or(not_found(transport, range, BLOCK))
    }

    pub(super) fn list(&mut self) -> Result<Vec<Listed>, AdminError> {
        let records = self.store.records()?;
        let active = self.in_force.blocks()?;
        let mut listed = Vec::with_capacity(records.blocks.len() + records.exclusions.len());
        for block in records.blocks {
            let key = (block.transport, block.range);
            let found = active.iter().find(|it| (it.transport, it.range) == key);
            listed.push(Listed {
                kind: Kind::Block {
                    group: block.group,
                    token: found.map(|found| found.token),
                },
                transport: block.transport,
                range: block.range,
                note: block.note,
                created: block.created,
                is_in_force: found.is_some(),
            });
        }
        let [tcp, udp] = Transport::ALL.map(|transport| self.in_force.excluded(transport));
        let (tcp, udp) = (tcp?, udp?);
        for exclusion in records.exclusions {
            let excluded = match exclusion.transport {
                Transport::Tcp => &tcp,
                Transport::Udp => &udp,
            };
            listed.push(Listed {
                kind: Kind::Exclusion,
                transport: exclusion.transport,
                range: exclusion.range,
                note: exclusion.note,
                created: exclusion.created,
                is_in_force: RangeSet::from(exclusion.range)
                    .difference(excluded)
                    .is_empty(),
            });
        }
        Ok(listed)
    }

    fn refuse_if_recorded(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<(), AdminError> {
        let blocks = self.store.blocks_meeting(transport, range)?;
        let exclusions = self.store.exclusions_meeting(transport, range)?;
        let why = match (blocks.first(), exclusions.first()) {
            (Some(block), _) => format!("{} is a persistent block already", block.range),
            (_, Some(exclusion)) => format!("{} is excluded", exclusion.range),
            _ => return Ok(()),
        };
        Err(AdminError::SharingViolation {
            transport,
            range,
            why,
        })
    }

    /// A step of what is on record already, so that there is no way back.
    fn follow(
        &mut self,
        step: impl FnOnce(&mut K) -> Result<(), AdminError>,
    ) -> Result<(), AdminError> {
        step(&mut self.in_force).map_err(|error| {
            self.is_unfinished = true;
            AdminError::HalfDone(Box::new(error))
        })
    }

    /// Lets automatic choice have what no other record needs to be kept from it.
    fn follow_kept(&mut self, reason: Reason, range: PortRange) -> Result<(), AdminError> {
        let ports = self.unneeded(reason, &RangeSet::from(range));
        let ports = ports.inspect_err(|_| self.is_unfinished = true)?;
        self.follow(|in_force| in_force.let_go(reason, &ports))
    }

    /// A step that takes back what must not stay. There is nobody to tell but the error that is on
    /// its way, and the next turn.
    fn take_back(&mut self, step: impl FnOnce(&mut K) -> Result<(), AdminError>) {
        if step(&mut self.in_force).is_err() {
            self.is_unfinished = true;
        }
    }

    fn take_back_kept(&mut self, reason: Reason, ports: &RangeSet) {
        match self.unneeded(reason, ports) {
            Ok(ports) => self.take_back(|in_force| in_force.let_go(reason, &ports)),
            Err(_) => self.is_unfinished = true,
        }
    }

    /// What of `ports` no record of the reason's kind has, of either transport.
    fn unneeded(&mut self, reason: Reason, ports: &RangeSet) -> Result<RangeSet, AdminError> {
        let mut unneeded = ports.clone();
        for range in ports.iter() {
            for transport in Transport::ALL {
                let needed: RangeSet = match reason {
                    Reason::Excluded => self
                        .store
                        .exclusions_meeting(transport, range)?
                        .iter()
                        .map(|exclusion| exclusion.range)
                        .collect(),
                    _ => self
                        .store
                        .blocks_meeting(transport, range)?
                        .iter()
                        .map(|block| block.range)
                        .collect(),
                };
                unneeded = unneeded.difference(&needed);
            }
        }
        Ok(unneeded)
    }
}

fn not_found(transport: Transport, range: PortRange, what: &'static str) -> AdminError {
    AdminError::NotFound {
        transport,
        range,
        what,
    }
}

/// Now, to the second: as it will be read back.
fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.map_or(0, |since| since.as_secs()))
}

const BLOCK: &str = "persistent block";
const EXCLUSION: &str = "exclusion";
