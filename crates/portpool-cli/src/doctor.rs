//! What this machine can do, what is missing, and how to get it.

use std::process::{Command, Stdio};

use anstyle::{AnsiColor, Style};
use portpool::{Pool, PoolKind};
use portpool_kernel::{Finding, RunDir, Verdict};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::{
    args::LookArgs,
    exit::{Answer, Code, Failure},
    output::{self, Cell, Table},
    pool::{Chosen, takes_tcp_without_gap},
};

/// The command `doctor`.
pub(crate) fn doctor(args: LookArgs) -> Answer {
    let opened = args.pool.open_to_look();
    let mut findings = vec![chosen(&opened)];
    let of_kernel = portpool_kernel::doctor(&RunDir::from_env());
    match &opened {
        Ok(pool) if pool.kind() == PoolKind::Embedded => {
            findings.extend(of_embedded(pool));
            findings.extend(of_kernel.into_iter().map(not_needed));
        }
        Ok(pool) => findings.extend(of_kernel.into_iter().map(|it| as_user(it, pool))),
        Err(_) => findings.extend(of_kernel),
    }
    if args.json {
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

fn chosen(opened: &Result<Pool, Failure>) -> Finding {
    let name = "pool-kind";
    match opened {
        Ok(pool) => Finding {
            name,
            verdict: match pool.guards_caller() {
                true => Verdict::Good,
                false => Verdict::Warning,
            },
            seen: Chosen::of(pool).text(),
            next_step: (!pool.guards_caller())
                .then(|| "start programs in the cgroup that attach was given".to_owned()),
        },
        Err(failure) => Finding {
            name,
            verdict: Verdict::Missing,
            seen: failure.text().to_owned(),
            next_step: None,
        },
    }
}

/// What the embedded pool needs.
fn of_embedded(pool: &Pool) -> Vec<Finding> {
    let warned = |name, seen: String, next_step: Option<String>| Finding {
        name,
        verdict: match next_step {
            None => Verdict::Good,
            Some(_) => Verdict::Warning,
        },
        seen,
        next_step,
    };
    let tcp = match takes_tcp_without_gap(pool) {
        true => warned("wildcard-tcp", "handed over without a gap".to_owned(), None),
        false => {
            let next_step = "serve on loopback addresses, refuse it with --strict, get CAP_NET_RAW, \
                             or attach the kernel pool";
            let seen = "some TCP sockets that are not on a loopback address are handed over in a \
                        window, for want of CAP_NET_RAW";
            warned("wildcard-tcp", seen.to_owned(), Some(next_step.to_owned()))
        }
    };
    let registry = match pool.reservations() {
        Ok(entries) => {
            let seen = format!("reservations of this user are listed: {}", entries.len());
            warned("registry", seen, None)
        }
        Err(error) => {
            let seen = "reservations hold, but are not listed".to_owned();
            warned("registry", seen, Some(error.to_string()))
        }
    };
    vec![hand_over(), tcp, descriptors(), registry]
}

/// Tried, since a sandbox may forbid any step of it.
fn hand_over() -> Finding {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let options = portpool_handover::Options::default();
    let tried = portpool_handover::spawn(command, Vec::new(), &options);
    let problem = tried.map(|served| drop(served.finish())).err();
    Finding {
        name: "hand-over",
        verdict: match problem {
            None => Verdict::Good,
            // Acquire works all the same, and so do programs that take sockets.
            Some(_) => Verdict::Warning,
        },
        seen: match &problem {
            None => "unmodified programs can be handed held ports".to_owned(),
            Some(error) => format!("run cannot hand over ports: {error}"),
        },
        next_step: problem.map(|_| {
            "run --fd for programs that take sockets, or attach the kernel pool".to_owned()
        }),
    }
}

fn descriptors() -> Finding {
    let limits = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.map_or("no limit".to_owned(), |it| it.to_string());
    Finding {
        name: "descriptors",
        verdict: Verdict::Good,
        seen: format!(
            "one is taken for each port and transport: {} at once, {} where it takes that",
            number(limits.current),
            number(limits.maximum)
        ),
        next_step: None,
    }
}

/// What the kernel pool lacks is no harm to the other one.
fn not_needed(finding: Finding) -> Finding {
    match finding.verdict {
        Verdict::Good | Verdict::Warning => finding,
        Verdict::Missing => Finding {
            verdict: Verdict::Warning,
            seen: format!("for a kernel pool: {}", finding.seen),
            ..finding
        },
    }
}

/// The finding as it is for who may use a pool but not administer it: its maps may be closed to this
/// process, or not be shown here at all, while its sockets are guarded and can reserve.
fn as_user(finding: Finding, pool: &Pool) -> Finding {
    if finding.name != "pool" || finding.verdict == Verdict::Good {
        return finding;
    }
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
