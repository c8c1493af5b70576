//! What this machine can do, what is missing, and how to get it.

use anstyle::{AnsiColor, Style};
use portpool::{Pool, PoolKind};
use portpool_kernel::{Finding, RunDir, Verdict};
use serde::Serialize;

use crate::{
    exit::{Answer, Code},
    output::{self, Cell, Table},
};

/// The command `doctor`.
pub(crate) fn doctor(json: bool) -> Answer {
    let findings: Vec<Finding> = portpool_kernel::doctor(&RunDir::from_env())
        .into_iter()
        .map(as_user)
        .collect();
    if json {
        let rows: Vec<Row<'_>> = findings.iter().map(Row::of).collect();
        output::print_json(&rows)?;
    } else {
        output::print(&text(&findings))?;
    }
    let is_missing = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Missing);
    Ok(if is_missing { Code::Failed.status() } else { 0 })
}

/// The finding as it is for who may use a pool but not administer it: its maps may be closed to this
/// process, or not be shown here at all, while its sockets are guarded and can reserve.
fn as_user(finding: Finding) -> Finding {
    if finding.name != "pool" || finding.verdict == Verdict::Good {
        return finding;
    }
    let Ok(pool) = Pool::builder().kind(PoolKind::Kernel).open() else {
        return finding;
    };
    match pool.overview() {
        Ok(overview) => Finding {
            verdict: Verdict::Good,
            seen: format!("attached, wildcard blocks from {}", overview.config.ranges),
            next_step: None,
            ..finding
        },
        Err(error) => Finding {
            verdict: Verdict::Warning,
            seen: "attached, but this process cannot look at it".to_owned(),
            next_step: Some(error.to_string()),
            ..finding
        },
    }
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    verdict: &'static str,
    seen: &'a str,
    next_step: Option<&'a str>,
}

impl Row<'_> {
    fn of(finding: &Finding) -> Row<'_> {
        Row {
            name: finding.name,
            verdict: name(finding.verdict),
            seen: &finding.seen,
            next_step: finding.next_step.as_deref(),
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut table = Table::default();
    for finding in findings {
        let verdict = Cell::styled(name(finding.verdict), style(finding.verdict));
        table.row([verdict, finding.name.into(), Cell::from(&finding.seen)]);
        if let Some(next_step) = &finding.next_step {
            table.row(["", "", &format!("next step: {next_step}")]);
        }
    }
    table.text()
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Warning => "warning",
        Verdict::Missing => "missing",
    }
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Good => AnsiColor::Green.on_default(),
        Verdict::Warning => AnsiColor::Yellow.on_default(),
        Verdict::Missing => AnsiColor::Red.on_default().bold(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_step_stands_below_what_it_is_for() {
        let finding = Finding {
            name: "cgroup",
            verdict: Verdict::Missing,
            seen: "no cgroup v2 mount".to_owned(),
            next_step: Some("mount one".to_owned()),
        };
        let text = anstream::adapter::strip_str(&text(&[finding])).to_string();
        assert_eq!(
            text,
            "missing  cgroup  no cgroup v2 mount\n                 next step: mount one\n"
        );
    }
}
