//! What a guest's console says about the programs.

use std::collections::BTreeMap;
use std::fmt;

use super::program::Program;

/// The verdicts under one kernel.
pub(crate) struct Report {
    release: String,
    /// Exit code of each program, in the order they ran; none without a verdict.
    codes: Vec<(String, Option<String>)>,
    /// What the test harness in a program said of each test, by program and test.
    tests: BTreeMap<(String, String), String>,
    /// Modules that did not load.
    modules_failed: Vec<String>,
    ended: bool,
}

impl Report {
    /// Reads the console of the guest that ran `programs`.
    pub(crate) fn new(release: &str, programs: &[Program], console: &[String]) -> Self {
        let mut report = Self {
            release: release.to_owned(),
            codes: programs
                .iter()
                .map(|program| (program.name.clone(), None))
                .collect(),
            tests: BTreeMap::new(),
            modules_failed: Vec::new(),
            ended: false,
        };
        let mut program = String::new();
        let mut test = None;
        for line in console {
            if let Some(verdict) = line.strip_prefix("MATRIX ") {
                report.read_verdict(verdict, &mut program);
                test = None;
                continue;
            }
            let mut text = line.as_str();
            if let Some((name, rest)) = line
                .strip_prefix("test ")
                .and_then(|l| l.split_once(" ... "))
            {
                test = Some(name);
                text = rest;
            }
            if let Some(outcome) = outcome(text)
                && let Some(name) = test.take()
            {
                report
                    .tests
                    .insert((program.clone(), name.to_owned()), outcome.to_owned());
            }
        }
        report
    }

    /// Why the run under this kernel is a failure; empty if it is not.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let release = &self.release;
        let mut complaints = Vec::new();
        for module in &self.modules_failed {
            complaints.push(format!("{release}: module {module} did not load"));
        }
        for (name, code) in &self.codes {
            match code.as_deref() {
                Some("0") => {}
                Some(code) => complaints.push(format!("{release}: {name} exited with {code}")),
                None => complaints.push(format!("{release}: {name} gave no verdict")),
            }
        }
        if !self.ended {
            complaints.push(format!(
                "{release}: the guest ended before its programs did"
            ));
        }
        complaints
    }

    /// Tests of which the two kernels say different things.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut both: Vec<_> = self.tests.keys().chain(other.tests.keys()).collect();
        both.sort();
        both.dedup();
        both.into_iter()
            .filter(|key| self.tests.get(*key) != other.tests.get(*key))
            .map(|key| {
                let says = |report: &Self| match report.tests.get(key) {
                    Some(outcome) => format!("{outcome} under {}", report.release),
                    None => format!("absent under {}", report.release),
                };
                format!("{} {}: {}, {}", key.0, key.1, says(self), says(other))
            })
            .collect()
    }

    fn read_verdict(&mut self, verdict: &str, program: &mut String) {
        if verdict == "end" {
            self.ended = true;
        } else if let Some(name) = verdict.strip_suffix(" start") {
            name.clone_into(program);
        } else if let Some((name, code)) = verdict.split_once(" exit=") {
            if let Some(entry) = self
                .codes
                .iter_mut()
                .find(|it| it.0 == name && it.1.is_none())
            {
                entry.1 = Some(code.to_owned());
            }
        } else if let Some(module) = verdict.strip_prefix("module ") {
            self.modules_failed
                .push(module.trim_end_matches(" failed").to_owned());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self
            .codes
            .iter()
            .filter(|entry| entry.1.as_deref() == Some("0"))
            .count();
        write!(
            f,
            "{}: {passed} of {} programs passed",
            self.release,
            self.codes.len()
        )?;
        write!(f, ", {} tests reported", self.tests.len())
    }
}

/// What libtest says of a test after `test <name> ... `. The kernel or a child process may write
/// in between, so the outcome is the last word, perhaps on a later line.
fn outcome(text: &str) -> Option<&'static str> {
    if text.starts_with("ignored") {
        return Some("ignored");
    }
    ["ok", "FAILED"]
        .into_iter()
        .find(|word| text.split_whitespace().last() == Some(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(release: &str, console: &str) -> Report {
        let program = Program {
            name: "p:t".to_owned(),
            file: "t".into(),
            arguments: Vec::new(),
            companions: Vec::new(),
        };
        let console: Vec<String> = console.lines().map(str::to_owned).collect();
        Report::new(release, &[program], &console)
    }

    #[test]
    fn a_program_that_exits_with_zero_passes() {
        let report = report("6.1", "MATRIX p:t start\nMATRIX p:t exit=0\nMATRIX end");
        assert!(report.complaints().is_empty());
    }

    #[test]
    fn a_program_that_fails_or_gives_no_verdict_fails_the_run() {
        let failed = report("6.1", "MATRIX p:t start\nMATRIX p:t exit=101\nMATRIX end");
        assert_eq!(failed.complaints(), ["6.1: p:t exited with 101"]);
        let silent = report("6.1", "MATRIX p:t start\nKernel panic - not syncing");
        assert_eq!(silent.complaints().len(), 2);
    }

    #[test]
    fn output_between_a_test_and_its_outcome_does_not_hide_it() {
        let quiet = report("6.1", "MATRIX p:t start\ntest a ... ok");
        let noisy = report("6.18", "MATRIX p:t start\ntest a ... [1.0] noise\nmore\nok");
        assert!(quiet.differences(&noisy).is_empty());
    }

    #[test]
    fn kernels_that_disagree_about_a_test_fail_the_run() {
        let old = report(
            "6.1",
            "MATRIX p:t start\ntest a ... ok\ntest b ... ignored, no MPTCP",
        );
        let new = report("6.18", "MATRIX p:t start\ntest a ... ok\ntest b ... ok");
        assert_eq!(
            old.differences(&new),
            ["p:t b: ignored under 6.1, ok under 6.18"]
        );
        assert!(old.differences(&old).is_empty());
    }
}
