//! Administration over a store and a kernel that fail, forget and die at any step, against one map.
//!
//! After any number of ends the next turn makes what is in force what is on record; what was answered
//! is on record, and what was not is there as a whole or not at all.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use portpool_core::{Port, PortRange, RangeSet, Token, Transport, Transports, abi::Origin};
use portpool_keeper::{
    Admin, AdminError, Store, StoreError,
    admin::{ActiveBlock, InForce, Kind, Persist},
    store::{Block, Boot, Change, Exclusion, Records},
};
use portpool_kernel::Reason;
use portpool_testkit::{Chance, Size};

#[test]
fn what_was_answered_is_on_record_and_what_is_on_record_is_in_force() {
    let seed = Chance::seed();
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    for _ in 0..Size::model_lives() {
        live(&mut chance);
    }
}

/// One machine from its first boot on, with mishaps.
fn live(chance: &mut Chance) {
    let machine = Rc::new(RefCell::new(Machine::default()));
    let mut known = Known::default();
    let mut admin = open(&machine, 0);
    for boot in 0..40 {
        // Half of the commands meet a mishap at one of its steps.
        let mishap = match chance.below(6) {
            0 => Some(Mishap::Death),
            1 => Some(Mishap::Trouble),
            2 => Some(Mishap::Failure),
            _ => None,
        };
        let at = chance.below(10);
        machine.borrow_mut().mishap = mishap.map(|mishap| (mishap, at));
        let command = Command::random(chance);
        let answer = command.carry_out(&mut admin);
        let was_met = machine.borrow_mut().mishap.take().is_none() && mishap.is_some();
        known.learn(&command, answer.is_ok(), was_met);
        if !was_met {
            assert_eq!(answer.is_ok(), known.expected, "{command:?}: {answer:?}");
        }
        machine.borrow_mut().is_dead = false;
        if was_met && matches!(mishap, Some(Mishap::Death)) || chance.once_in(10) {
            if chance.once_in(3) {
                machine.borrow_mut().restart();
            }
            admin = open(&machine, boot);
            admin.reconcile().expect("reconcile");
        } else if was_met {
            // The same process goes on, unless its store refuses to.
            if machine.borrow().has_failed {
                admin = open(&machine, boot);
            }
            // Any turn mends, also one that has nothing to do.
            let nowhere = PortRange::single(Port::LAST);
            let answer = admin.unpersist(Transports::Tcp, nowhere);
            assert!(
                matches!(answer, Err(AdminError::NotFound { .. })),
                "{answer:?}"
            );
        }
        known.settle(&machine.borrow().records);
        check(&machine.borrow());
        // Asked through the front door it looks the same.
        let listed = admin.list().expect("list");
        let listed: Vec<_> = listed
            .iter()
            .map(|entry| (entry.kind == Kind::Exclusion, entry.transport, entry.range))
            .collect();
        assert_eq!(listed.len(), known.blocks.len() + known.exclusions.len());
        for (is_exclusion, transport, range) in listed {
            let entries = match is_exclusion {
                true => &known.exclusions,
                false => &known.blocks,
            };
            assert!(entries.contains(&(transport, range)), "{range}/{transport}");
        }
    }
}

/// What is in force is what is on record, exactly.
fn check(machine: &Machine) {
    let blocks: BTreeMap<_, _> = machine
        .records
        .blocks
        .iter()
        .map(|block| ((block.transport, block.range), block.group))
        .collect();
    let active: BTreeMap<_, _> = machine
        .active
        .iter()
        .map(|block| ((block.transport, block.range), block.group))
        .collect();
    assert_eq!(active, blocks);
    for block in &machine.records.blocks {
        let (named, token) = block.token.as_ref().expect("a token");
        let active = machine.active.iter();
        let found = active.filter(|active| active.token == *token);
        assert_eq!(found.count(), 1, "{block:?}");
        assert_eq!(named.id(), machine.boot.to_string());
    }
    for transport in Transport::ALL {
        let excluded = machine.records.exclusions.iter();
        let excluded = excluded.filter(|exclusion| exclusion.transport == transport);
        let wanted: RangeSet = excluded.map(|exclusion| exclusion.range).collect();
        assert_eq!(machine.excluded[transport.index()], wanted);
    }
    let (mut persistent, mut excluded) = (RangeSet::new(), RangeSet::new());
    for block in &machine.records.blocks {
        persistent.insert(block.range);
    }
    for exclusion in &machine.records.exclusions {
        excluded.insert(exclusion.range);
    }
    assert_eq!(machine.kept_for(Reason::Persistent), &persistent);
    assert_eq!(machine.kept_for(Reason::Excluded), &excluded);
}

#[derive(Debug)]
enum Command {
    Persist(Persist),
    Unpersist(Transports, PortRange),
    Exclude(Transports, PortRange),
    Unexclude(Transports, PortRange),
    List,
}

impl Command {
    fn random(chance: &mut Chance) -> Command {
        let transports =
            [Transports::Tcp, Transports::Udp, Transports::Both][chance.below(3) as usize];
        // Few ranges, so that they meet and are met again.
        let first = 1 + chance.below(6);
        let last = first + chance.below(3);
        let port = |number| Port::new(u16::try_from(number).expect("small")).expect("not 0");
        let range = PortRange::between(port(first), port(last)).expect("in order");
        match chance.below(9) {
            0..=3 => Command::Persist(Persist {
                transports,
                range,
                group: chance.once_in(2).then_some(7),
                note: None,
            }),
            4 | 5 => Command::Unpersist(transports, range),
            6 => Command::Exclude(transports, range),
            7 => Command::Unexclude(transports, range),
            _ => Command::List,
        }
    }

    fn carry_out(&self, admin: &mut Admin<Disk, Kernel>) -> Result<(), AdminError> {
        match self {
            Command::Persist(persist) => admin.persist(persist).map(drop),
            Command::Unpersist(transports, range) => admin.unpersist(*transports, *range),
            Command::Exclude(transports, range) => admin.exclude(*transports, *range, None),
            Command::Unexclude(transports, range) => admin.unexclude(*transports, *range),
            Command::List => admin.list().map(|listed| {
                assert!(listed.iter().all(|entry| entry.is_in_force), "{listed:?}");
                let blocks = listed.iter();
                assert!(
                    blocks
                        .filter(|entry| entry.kind != Kind::Exclusion)
                        .all(|entry| matches!(entry.kind, Kind::Block { token: Some(_), .. }))
                );
            }),
        }
    }
}

/// What an administrator who keeps a list knows.
#[derive(Debug, Default)]
struct Known {
    blocks: Entries,
    exclusions: Entries,
    /// The other list that may be true since a command ended without an answer.
    perhaps: Option<(Entries, Entries)>,
    /// Whether the last command should have succeeded.
    expected: bool,
}

type Entries = std::collections::BTreeSet<(Transport, PortRange)>;

impl Known {
    fn learn(&mut self, command: &Command, is_answered: bool, was_met: bool) {
        let (mut blocks, mut exclusions) = (self.blocks.clone(), self.exclusions.clone());
        self.expected = match command {
            Command::Persist(persist) => {
                add(&mut blocks, &exclusions, persist.transports, persist.range)
            }
            Command::Unpersist(transports, range) => end(&mut blocks, *transports, *range),
            Command::Exclude(transports, range) => {
                add(&mut exclusions, &blocks, *transports, *range)
            }
            Command::Unexclude(transports, range) => end(&mut exclusions, *transports, *range),
            Command::List => true,
        };
        match (is_answered, was_met) {
            (true, _) => (self.blocks, self.exclusions) = (blocks, exclusions),
            // No answer: it may be so or so.
            (false, true) if self.expected => self.perhaps = Some((blocks, exclusions)),
            (false, _) => {}
        }
    }

    /// Compares the list with what is on record.
    fn settle(&mut self, records: &Records) {
        let blocks: Entries = records
            .blocks
            .iter()
            .map(|block| (block.transport, block.range))
            .collect();
        let exclusions: Entries = records
            .exclusions
            .iter()
            .map(|exclusion| (exclusion.transport, exclusion.range))
            .collect();
        let recorded = (blocks, exclusions);
        if self.perhaps.take() == Some(recorded.clone()) {
            (self.blocks, self.exclusions) = recorded.clone();
        }
        assert_eq!((self.blocks.clone(), self.exclusions.clone()), recorded);
    }
}

fn add(to: &mut Entries, others: &Entries, transports: Transports, range: PortRange) -> bool {
    let is_free = |entries: &Entries| {
        entries
            .iter()
            .all(|(transport, other)| !transports.contains(*transport) || !other.overlaps(range))
    };
    let is_possible = is_free(to) && is_free(others);
    if is_possible {
        to.extend(transports.iter().map(|transport| (transport, range)));
    }
    is_possible
}

fn end(of: &mut Entries, transports: Transports, range: PortRange) -> bool {
    let wanted: Entries = transports
        .iter()
        .map(|transport| (transport, range))
        .collect();
    let is_possible = wanted.is_subset(of);
    if is_possible {
        of.retain(|entry| !wanted.contains(entry));
    }
    is_possible
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// The process ends: no step after this has an effect.
    Death,
    /// This step and all others of the command fail.
    Trouble,
    /// This step fails; the next ones work.
    Failure,
}

/// The disk, the kernel, and what happens to them.
#[derive(Default)]
struct Machine {
    records: Records,
    active: Vec<ActiveBlock>,
    excluded: [RangeSet; 2],
    kept: BTreeMap<u8, RangeSet>,
    boot: u32,
    next_token: u64,
    /// What happens, and after how many more steps.
    mishap: Option<(Mishap, u32)>,
    is_dead: bool,
    /// Whether a write of the disk failed, so that its store commits nothing more.
    has_failed: bool,
}

enum Step {
    Done,
    Failed,
}

impl Machine {
    fn step(&mut self) -> Step {
        if self.is_dead {
            return Step::Failed;
        }
        match &mut self.mishap {
            Some((mishap, 0)) => {
                self.is_dead = !matches!(mishap, Mishap::Failure);
                self.mishap = None;
                Step::Failed
            }
            Some((_, left)) => {
                *left -= 1;
                Step::Done
            }
            None => Step::Done,
        }
    }

    /// The records stay, everything else is gone.
    fn restart(&mut self) {
        self.active.clear();
        self.excluded = Default::default();
        self.kept.clear();
        self.boot += 1;
    }

    fn kept_for(&self, reason: Reason) -> &RangeSet {
        static NOTHING: RangeSet = RangeSet::new();
        self.kept.get(&(reason as u8)).unwrap_or(&NOTHING)
    }

    fn apply(&mut self, change: &Change) {
        let Records { blocks, exclusions } = &mut self.records;
        match change {
            Change::AddBlock(block) => blocks.push(block.clone()),
            Change::DeleteBlock(transport, range) => {
                blocks.retain(|block| (block.transport, block.range) != (*transport, *range));
            }
            Change::RenameBlock(transport, range, boot, token) => {
                let block = blocks
                    .iter_mut()
                    .find(|block| (block.transport, block.range) == (*transport, *range));
                block.expect("the block").token = Some((boot.clone(), *token));
            }
            Change::AddExclusion(exclusion) => exclusions.push(exclusion.clone()),
            Change::DeleteExclusion(transport, range) => {
                exclusions.retain(|it| (it.transport, it.range) != (*transport, *range));
            }
        }
        blocks.sort_by_key(|block| (block.transport, block.range));
        exclusions.sort_by_key(|exclusion| (exclusion.transport, exclusion.range));
    }
}

type Shared = Rc<RefCell<Machine>>;

fn open(machine: &Shared, _: u32) -> Admin<Disk, Kernel> {
    machine.borrow_mut().has_failed = false;
    let boot = Boot::new(machine.borrow().boot.to_string());
    Admin::over(Disk(machine.clone()), Kernel(machine.clone()), boot)
}

struct Disk(Shared);

impl Disk {
    fn error(full: bool) -> StoreError {
        let path = "disk".into();
        match full {
            true => StoreError::Full { path },
            false => StoreError::Failed {
                path,
                what: "it broke".to_owned(),
            },
        }
    }
}

impl Store for Disk {
    fn records(&mut self) -> Result<Records, StoreError> {
        let mut machine = self.0.borrow_mut();
        match machine.step() {
            Step::Done => Ok(machine.records.clone()),
            Step::Failed => Err(Disk::error(true)),
        }
    }

    fn blocks_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Block>, StoreError> {
        let mut blocks = self.records()?.blocks;
        blocks.retain(|block| block.transport == transport && block.range.overlaps(range));
        Ok(blocks)
    }

    fn exclusions_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Exclusion>, StoreError> {
        let mut exclusions = self.records()?.exclusions;
        exclusions.retain(|it| it.transport == transport && it.range.overlaps(range));
        Ok(exclusions)
    }

    /// Three ways to fail: nothing written and room missing, nothing written and not known, and
    /// all written and not known.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut machine = self.0.borrow_mut();
        if machine.has_failed {
            return Err(Disk::error(false));
        }
        for is_full in [true, false] {
            if matches!(machine.step(), Step::Failed) {
                machine.has_failed = !is_full;
                return Err(Disk::error(is_full));
            }
        }
        changes.iter().for_each(|change| machine.apply(change));
        if matches!(machine.step(), Step::Failed) {
            machine.has_failed = true;
            return Err(Disk::error(false));
        }
        Ok(())
    }
}

struct Kernel(Shared);

impl Kernel {
    /// A step with its effect, or neither, or the effect and then death.
    fn act<T>(
        &mut self,
        effect: impl FnOnce(&mut Machine) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        let mut machine = self.0.borrow_mut();
        match machine.step() {
            Step::Done => effect(&mut machine),
            Step::Failed => Err(AdminError::Failed {
                what: "mishap".to_owned(),
                cause: std::io::ErrorKind::Other.into(),
            }),
        }
    }
}

impl InForce for Kernel {
    fn blocks(&mut self) -> Result<Vec<ActiveBlock>, AdminError> {
        self.act(|machine| Ok(machine.active.clone()))
    }

    fn excluded(&mut self, transport: Transport) -> Result<RangeSet, AdminError> {
        self.act(|machine| Ok(machine.excluded[transport.index()].clone()))
    }

    fn install(&mut self, block: &ActiveBlock, _: Origin) -> Result<(), AdminError> {
        let kept = |machine: &Machine| {
            let wanted = RangeSet::from(block.range);
            wanted
                .difference(machine.kept_for(Reason::Persistent))
                .is_empty()
        };
        self.act(|machine| {
            assert!(kept(machine), "{block:?} could be chosen automatically");
            let meets = |other: &ActiveBlock| {
                other.transport == block.transport && other.range.overlaps(block.range)
            };
            let excluded = &machine.excluded[block.transport.index()];
            let is_excluded = !excluded.intersection(&block.range.into()).is_empty();
            if machine.active.iter().any(meets) || is_excluded {
                return Err(in_use(block.transport, block.range));
            }
            machine.active.push(block.clone());
            Ok(())
        })
    }

    fn remove(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError> {
        self.act(|machine| {
            let before = machine.active.len();
            let active = &mut machine.active;
            active.retain(|block| (block.transport, block.range) != (transport, range));
            Ok(machine.active.len() < before)
        })
    }

    fn exclude(
        &mut self,
        transport: Transport,
        range: PortRange,
        _: Origin,
    ) -> Result<(), AdminError> {
        self.act(|machine| {
            let meets =
                |block: &ActiveBlock| block.transport == transport && block.range.overlaps(range);
            let excluded = &mut machine.excluded[transport.index()];
            let is_excluded = !excluded.intersection(&range.into()).is_empty();
            if is_excluded || machine.active.iter().any(meets) {
                return Err(in_use(transport, range));
            }
            excluded.insert(range);
            Ok(())
        })
    }

    fn unexclude(&mut self, transport: Transport, range: PortRange) -> Result<bool, AdminError> {
        self.act(|machine| {
            let excluded = &mut machine.excluded[transport.index()];
            let is_there = RangeSet::from(range).difference(excluded).is_empty();
            if is_there {
                excluded.remove(range);
            }
            Ok(is_there)
        })
    }

    fn make_grantable(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        self.act(|machine| {
            let kept = machine.kept_for(reason).union(ports);
            machine.kept.insert(reason as u8, kept);
            Ok(())
        })
    }

    fn let_go(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        self.act(|machine| {
            let kept = machine.kept_for(reason).difference(ports);
            machine.kept.insert(reason as u8, kept);
            Ok(())
        })
    }

    fn keep_exactly(&mut self, reason: Reason, ports: &RangeSet) -> Result<(), AdminError> {
        self.act(|machine| {
            machine.kept.insert(reason as u8, ports.clone());
            Ok(())
        })
    }

    fn new_token(&mut self) -> Result<Token, AdminError> {
        self.act(|machine| {
            machine.next_token += 1;
            Ok(Token::new(machine.next_token).expect("not 0"))
        })
    }
}

fn in_use(transport: Transport, range: PortRange) -> AdminError {
    AdminError::SharingViolation {
        transport,
        range,
        why: "taken".to_owned(),
    }
}
