//! What this machine can do, what is missing, and how to get it.

use std::{fs, io, path::Path};

use portpool_core::PortRange;

use crate::{
    cgroup,
    files::RunDir,
    mounts,
    namespace::{NetNamespace, is_nested_pid_namespace},
    pool::Pools,
    programs, sysctl,
};

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// The kernel pool cannot work so.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A short name that does not change.
    pub name: &'static str,
    /// How it is to be taken.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do, if anything.
    pub next_step: Option<String>,
}

/// Looks at everything the kernel pool needs and at the pool itself. Changes nothing.
pub fn doctor(run: &RunDir) -> Vec<Finding> {
    let mut findings = vec![
        kernel(),
        kernel_types(),
        cgroup_hierarchy(),
        privileges(),
        mount_namespace(run),
    ];
    findings.push(pid_namespace());
    findings.extend(automatic_choice());
    findings.extend(pool(run));
    findings
}

/// `bpf_set_retval` came with 5.18; 6.1 is the oldest kernel the programs are tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let version = (numbers.next(), numbers.next());
    let new_enough =
        matches!(version, (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL);
    finding("kernel", new_enough, format!("Linux {release}"), || {
        "use Linux 6.1 or newer".to_owned()
    })
}

fn kernel_types() -> Finding {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let seen = if path.exists() {
        "the kernel describes its types (BTF)"
    } else {
        "no BTF"
    };
    finding("kernel-types", path.exists(), seen.to_owned(), || {
        "use a kernel with CONFIG_DEBUG_INFO_BTF=y and mount sysfs".to_owned()
    })
}

fn cgroup_hierarchy() -> Finding {
    let mount = cgroup::mount_point();
    let seen = mount
        .as_ref()
        .map_or("no cgroup v2 mount".to_owned(), |path| {
            format!("cgroup v2 at {}", path.display())
        });
    finding("cgroup", mount.is_some(), seen, || {
        "mount -t cgroup2 none /sys/fs/cgroup".to_owned()
    })
}

/// Numbers of linux/capability.h.
const CAPABILITIES: [(&str, u32); 4] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

fn privileges() -> Finding {
    let effective = effective_capabilities().unwrap_or(0);
    let lacking: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(_, bit)| effective >> bit & 1 == 0)
        .map(|(name, _)| *name)
        .collect();
    let seen = if lacking.is_empty() {
        "all capabilities that attach needs".to_owned()
    } else {
        format!("attach lacks {}", lacking.join(", "))
    };
    Finding {
        name: "privileges",
        // An attached pool is used without any.
        verdict: if lacking.is_empty() {
            Verdict::Good
        } else {
            Verdict::Warning
        },
        seen,
        next_step: (!lacking.is_empty())
            .then(|| "run attach as root; using the pool needs no privilege".into()),
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn mount_namespace(run: &RunDir) -> Finding {
    let mounted = mounts::is_bpf(&run.bpf());
    let private = mounts::is_private();
    Finding {
        name: "mount-namespace",
        verdict: if private && !mounted {
            Verdict::Warning
        } else {
            Verdict::Good
        },
        seen: if private {
            "a private mount namespace: a bpf file system mounted here ends with it".to_owned()
        } else {
            "the initial mount namespace".to_owned()
        },
        next_step: (private && !mounted)
            .then(|| "attach with nsenter -t 1 -m, or with --private-mounts".to_owned()),
    }
}

fn pid_namespace() -> Finding {
    let nested = is_nested_pid_namespace();
    Finding {
        name: "pid-namespace",
        verdict: if nested {
            Verdict::Warning
        } else {
            Verdict::Good
        },
        seen: if nested {
            "a nested pid namespace: attach cannot count sockets of processes outside".to_owned()
        } else {
            "the initial pid namespace".to_owned()
        },
        next_step: nested.then(|| "attach from the initial pid namespace".to_owned()),
    }
}

fn automatic_choice() -> Vec<Finding> {
    let (Ok(ephemeral), Ok(reserved)) = (sysctl::ephemeral(), sysctl::reserved()) else {
        return vec![finding(
            "sysctl",
            false,
            "/proc/sys/net/ipv4 cannot be read".into(),
            || "mount proc".to_owned(),
        )];
    };
    let left = u32::from(ephemeral.count().number()) - covered(ephemeral, &reserved);
    vec![Finding {
        name: "ephemeral-range",
        verdict: if left < EPHEMERAL_COUNT_MIN {
            Verdict::Warning
        } else {
            Verdict::Good
        },
        seen: format!(
            "automatic choice takes from {ephemeral}, {left} ports after ip_local_reserved_ports"
        ),
        next_step: (left < EPHEMERAL_COUNT_MIN)
            .then(|| "widen net.ipv4.ip_local_port_range or reserve less of it".to_owned()),
    }]
}

/// Below this, clients may soon find no port.
const EPHEMERAL_COUNT_MIN: u32 = 1_000;

fn covered(range: PortRange, ports: &portpool_core::RangeSet) -> u32 {
    let overlaps = ports.iter().filter_map(|other| other.intersection(range));
    overlaps
        .map(|range| u32::from(range.count().number()))
        .sum()
}

fn pool(run: &RunDir) -> Vec<Finding> {
    let Ok(namespace) = NetNamespace::current() else {
        return Vec::new();
    };
    let attach = || "portpool attach".to_owned();
    if let Some(found) = run.other_version() {
        let seen = format!("programs of layout version {found} are attached");
        return vec![finding("pool", false, seen, || {
            "detach with their own version".to_owned()
        })];
    }
    let config = Pools::look(run).and_then(|pools| pools.config(namespace.cookie));
    let config = match config {
        Ok(Some(config)) => config,
        Err(failed) if failed.cause.kind() != io::ErrorKind::NotFound => {
            return vec![Finding {
                name: "pool",
                verdict: Verdict::Warning,
                seen: failed.to_string(),
                next_step: Some("look as root".to_owned()),
            }];
        }
        _ => {
            let seen = format!("no pool in {}", run.path().display());
            return vec![finding("pool", false, seen, attach)];
        }
    };
    let mut findings = vec![Finding {
        name: "pool",
        verdict: Verdict::Good,
        seen: format!("attached, wildcard blocks from {}", config.ranges),
        next_step: None,
    }];
    findings.push(links(run));
    if let Ok(reserved) = sysctl::reserved() {
        let missing = config.ranges.difference(&reserved);
        findings.push(finding(
            "reserved-ports",
            missing.is_empty(),
            if missing.is_empty() {
                "automatic choice is kept from the wildcard ranges".to_owned()
            } else {
                format!("net.ipv4.ip_local_reserved_ports lost {missing}")
            },
            attach,
        ));
    }
    findings
}

fn links(run: &RunDir) -> Finding {
    let broken: Vec<&str> = programs::linked_cgroups(run)
        .into_iter()
        .filter(|(_, cgroup)| !cgroup.is_some_and(|id| id != 0))
        .map(|(name, _)| name)
        .collect();
    Finding {
        name: "programs",
        verdict: if broken.is_empty() {
            Verdict::Good
        } else {
            Verdict::Warning
        },
        seen: if broken.is_empty() {
            "all programs are linked to their cgroup".to_owned()
        } else {
            format!("not seen to be linked: {}", broken.join(", "))
        },
        next_step: (!broken.is_empty())
            .then(|| "look as root; if it says so there too, portpool attach".to_owned()),
    }
}

fn finding(
    name: &'static str,
    good: bool,
    seen: String,
    next_step: impl FnOnce() -> String,
) -> Finding {
    let verdict = if good {
        Verdict::Good
    } else {
        Verdict::Missing
    };
    Finding {
        name,
        verdict,
        seen,
        next_step: (!good).then(next_step),
    }
}
