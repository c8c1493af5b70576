//! The ledger against a naive account of who entered what: changes of ours, edits by an administrator,
//! and ends of the process between any two steps, as chance or a fuzzer decides.

use std::io;

use portpool_core::{Port, PortRange, RangeSet};

use super::{Entries, Reason, State, World, plan::carry_out};
use crate::error::Failed;

/// Decides: a number below the one given, which is not 0, or nothing any more.
pub(crate) type Decide<'a> = dyn FnMut(u32) -> Option<u32> + 'a;

/// A history, as long as there are decisions, and its end.
///
/// # Panics
/// If the sysctl is ever another than it should be.
pub(crate) fn follow(decide: &mut Decide<'_>) {
    let mut machine = Machine::default();
    let mut state = State::default();
    while step(&mut machine, &mut state, decide).is_some() {}
    machine.steps_left = None;
    state = machine.noted.clone();
    carry_out(&mut machine, &mut state, &Entries::default(), false).expect("close");
    assert_eq!(machine.sysctl, machine.his);
}

fn step(machine: &mut Machine, state: &mut State, decide: &mut Decide<'_>) -> Option<()> {
    match decide(5)? {
        0 | 1 => machine.administrator_edits(decide)?,
        2 => {
            // Killed at some step: what was noted is all that is known of it.
            let entries = machine.entries(decide)?;
            machine.steps_left = Some(decide(6)?);
            drop(carry_out(machine, state, &entries, true));
            machine.steps_left = None;
            *state = machine.noted.clone();
        }
        _ => {
            let entries = machine.entries(decide)?;
            carry_out(machine, state, &entries, true).expect("change");
            let both = machine.his.union(&entries.all());
            assert_eq!(machine.sysctl, both);
        }
    }
    Some(())
}

/// A sysctl, an administrator, and a file.
#[derive(Default)]
struct Machine {
    sysctl: RangeSet,
    /// What the administrator entered.
    his: RangeSet,
    noted: State,
    /// How many more steps are taken before the process ends.
    steps_left: Option<u32>,
    /// Whether somebody empties the sysctl after every write.
    is_contended: bool,
    replaced: u32,
}

impl Machine {
    /// The ways in which people edit: read, change, write.
    fn administrator_edits(&mut self, decide: &mut Decide<'_>) -> Option<()> {
        let range = RangeSet::from(range(decide)?);
        match decide(2)? {
            // Where a port is ours already, or would be had the process not ended just then, nobody
            // can see that he entered it too.
            0 => {
                let new = range.difference(&self.sysctl).difference(&self.noted.may);
                self.his = self.his.union(&new);
                self.sysctl = self.sysctl.union(&new);
            }
            // What he takes out of ours comes back: so only what is his alone.
            _ => {
                let out = range.intersection(&self.his).difference(&self.noted.may);
                self.his = self.his.difference(&out);
                self.sysctl = self.sysctl.difference(&out);
            }
        }
        Some(())
    }

    fn entries(&self, decide: &mut Decide<'_>) -> Option<Entries> {
        let entries = self.noted.entries.clone();
        let reason = Reason::ALL[decide(4)? as usize];
        let ports = entries.of(reason);
        let range = RangeSet::from(range(decide)?);
        let ports = match decide(2)? {
            0 => ports.union(&range),
            _ => ports.difference(&range),
        };
        Some(entries.with(reason, ports))
    }

    fn step(&mut self) -> Result<(), Failed> {
        match &mut self.steps_left {
            Some(0) => Err(Failed {
                what: "end".to_owned(),
                cause: io::ErrorKind::Interrupted.into(),
            }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl World for Machine {
    fn reserved(&mut self) -> Result<RangeSet, Failed> {
        self.step()?;
        Ok(self.sysctl.clone())
    }

    fn add(&mut self, ports: &RangeSet) -> Result<(), Failed> {
        self.step()?;
        self.sysctl = self.sysctl.union(ports);
        if self.is_contended {
            self.sysctl = RangeSet::new();
        }
        Ok(())
    }

    fn replace(&mut self, ports: &RangeSet) -> Result<(), Failed> {
        self.step()?;
        self.sysctl = ports.clone();
        self.replaced += 1;
        Ok(())
    }

    fn note(&mut self, state: &State) -> Result<(), Failed> {
        self.step()?;
        self.noted = state.clone();
        Ok(())
    }
}

fn range(decide: &mut Decide<'_>) -> Option<PortRange> {
    let first = 1 + decide(60)?;
    let last = first + decide(20)?;
    let port = |number| Port::new(u16::try_from(number).ok()?);
    PortRange::between(port(first)?, port(last)?)
}

#[cfg(test)]
mod tests {
    use portpool_testkit::Chance;

    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_ours_goes_and_what_is_the_administrators_stays() {
        let seed = Chance::seed();
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        for _ in 0..2_000 {
            let mut left = chance.below(200);
            follow(&mut |bound| {
                left = left.checked_sub(1)?;
                Some(chance.below(bound))
            });
        }
    }

    #[test]
    fn a_list_written_anew_is_the_administrators_word() {
        let (mut machine, mut state) = (Machine::default(), State::default());
        let entries = Entries::default()
            .with(Reason::Attached, set("1-100,300-400"))
            .with(Reason::Persistent, set("200"));
        carry_out(&mut machine, &mut state, &entries, true).expect("enter");
        machine.sysctl = set("50,350-360,500");
        carry_out(&mut machine, &mut state, &entries, true).expect("enter again");
        assert_eq!(machine.sysctl, set("1-100,200,300-400,500"));
        carry_out(&mut machine, &mut state, &Entries::default(), false).expect("close");
        assert_eq!(machine.sysctl, set("50,350-360,500"));
    }

    #[test]
    fn a_port_of_ours_that_was_taken_out_is_no_reason_to_keep_the_rest_of_its_range() {
        let (mut machine, mut state) = (Machine::default(), State::default());
        let entries = Entries::default().with(Reason::Attached, set("1-100"));
        carry_out(&mut machine, &mut state, &entries, true).expect("enter");
        machine.sysctl = set("1-79,81-100");
        carry_out(&mut machine, &mut state, &entries, true).expect("enter again");
        assert_eq!(machine.sysctl, set("1-100"));
        carry_out(&mut machine, &mut state, &Entries::default(), false).expect("close");
        assert_eq!(machine.sysctl, RangeSet::new());
    }

    #[test]
    fn what_does_not_fit_one_write_stays_until_it_does() {
        let (mut machine, mut state) = (Machine::default(), State::default());
        let odd = |count: u16| -> RangeSet {
            let ports = (0..count).filter_map(|n| Port::new(10_001 + 2 * n));
            ports.map(PortRange::single).collect()
        };
        let with = |ports: RangeSet| Entries::default().with(Reason::Persistent, ports);
        carry_out(&mut machine, &mut state, &with(odd(2_000)), true).expect("enter");
        carry_out(&mut machine, &mut state, &with(odd(1_999)), true).expect("take one out");
        assert_eq!((machine.sysctl.clone(), machine.replaced), (odd(2_000), 0));
        carry_out(&mut machine, &mut state, &with(odd(100)), true).expect("take most out");
        assert_eq!((machine.sysctl.clone(), machine.replaced), (odd(100), 1));
        machine.sysctl = machine.sysctl.union(&odd(3_000).difference(&odd(2_000)));
        carry_out(&mut machine, &mut state, &Entries::default(), false).expect("close");
        assert_eq!(machine.sysctl, odd(3_000).difference(&odd(2_000)));
    }

    #[test]
    fn who_changes_the_sysctl_all_the_time_is_told_of() {
        let mut machine = Machine {
            is_contended: true,
            ..Machine::default()
        };
        let entries = Entries::default().with(Reason::Granted, set("40000"));
        let error = carry_out(&mut machine, &mut State::default(), &entries, true);
        match error {
            Err(Error::SysctlLost { missing }) => assert_eq!(missing, set("40000")),
            other => panic!("{other:?}"),
        }
    }

    fn set(text: &str) -> RangeSet {
        text.parse().expect("ports")
    }
}
