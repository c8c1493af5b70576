//! What the ledger knows, and its file.

use std::{fmt, str::FromStr};

use portpool_core::RangeSet;

/// Why a port is kept from automatic choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It lies in the pool's wildcard ranges or outside the ephemeral range.
    Attached,
    /// The administrator excluded it.
    Excluded,
    /// A persistent block has it.
    Persistent,
    /// It was made grantable for a request, or its block still lives.
    Granted,
}

impl Reason {
    pub(crate) const ALL: [Reason; 4] = [
        Reason::Attached,
        Reason::Excluded,
        Reason::Persistent,
        Reason::Granted,
    ];

    fn word(self) -> &'static str {
        match self {
            Reason::Attached => "attached",
            Reason::Excluded => "excluded",
            Reason::Persistent => "persistent",
            Reason::Granted => "granted",
        }
    }
}

/// What is to be in the sysctl, by reason. A port may have several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries([RangeSet; Reason::ALL.len()]);

impl Entries {
    pub(crate) fn of(&self, reason: Reason) -> &RangeSet {
        &self.0[reason as usize]
    }

    pub(crate) fn with(mut self, reason: Reason, ports: RangeSet) -> Entries {
        self.0[reason as usize] = ports;
        self
    }

    pub(crate) fn all(&self) -> RangeSet {
        self.0.iter().flat_map(RangeSet::iter).collect()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// What is wanted.
    pub(crate) entries: Entries,
    /// Ports of ours that the administrator has entered as well.
    pub(crate) shared: RangeSet,
    /// All that may be in the sysctl because of us: noted before it is written.
    pub(crate) may: RangeSet,
    /// All of ours that was in the sysctl when it was last written.
    pub(crate) done: RangeSet,
}

impl State {
    /// Whether the sysctl, which is `now`, has all that is entered and nothing of ours beyond.
    pub(crate) fn is_in_force(&self, now: &RangeSet) -> bool {
        let wanted = self.entries.all();
        self.may == wanted && wanted.difference(now).is_empty()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for reason in Reason::ALL {
            writeln!(f, "{} {}", reason.word(), self.entries.of(reason))?;
        }
        writeln!(f, "shared {}", self.shared)?;
        writeln!(f, "may {}", self.may)?;
        writeln!(f, "done {}", self.done)
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!("it does not begin with {HEAD:?}"));
        }
        let mut next = |word: &str| -> Result<RangeSet, String> {
            let line = lines.next().ok_or(format!("it has no line {word:?}"))?;
            let ports = line.split_once(' ').filter(|(found, _)| *found == word);
            let (_, ports) = ports.ok_or(format!("line {word:?} is {line:?}"))?;
            ports.parse().map_err(|error| format!("{word}: {error}"))
        };
        let mut entries = Entries::default();
        for reason in Reason::ALL {
            entries = entries.with(reason, next(reason.word())?);
        }
        Ok(State {
            entries,
            shared: next("shared")?,
            may: next("may")?,
            done: next("done")?,
        })
    }
}

const HEAD: &str = "portpool ledger 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_reads_back_what_it_wrote() {
        let set = |text: &str| text.parse::<RangeSet>().expect("ports");
        let state = State {
            entries: Entries::default()
                .with(Reason::Attached, set("1-32767,61000-65535"))
                .with(Reason::Granted, set("40000-40003")),
            shared: set("8080"),
            may: set("1-65535"),
            done: set("1-32767"),
        };
        assert_eq!(state.to_string().parse(), Ok(state));
        let empty = State::default();
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }

    #[test]
    fn a_file_that_is_no_ledger_is_not_guessed() {
        let whole = State::default().to_string();
        for text in [
            "",
            "1-32767",
            &whole[..whole.len() - 8],
            &whole.replace("may", "9"),
        ] {
            assert!(text.parse::<State>().is_err(), "{text}");
        }
    }
}
