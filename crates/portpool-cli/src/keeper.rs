//! The keeper in the foreground.

use std::{fs, io};

use portpool_keeper::{
    StateDir,
    service::{self, Options},
};
use portpool_kernel::{AttachOptions, RunDir};

use crate::{
    args::KeeperArgs,
    exit::{Answer, Code, Failure},
};

/// The command `keeper`.
pub(crate) fn keeper(args: &KeeperArgs) -> Answer {
    let group = args.group.as_deref().map(group_number).transpose()?;
    let options = Options {
        attach: AttachOptions {
            run: RunDir::from_env(),
            cgroup: args.cgroup.clone(),
            ranges: None,
            limits: None,
            private_mounts: args.private_mounts,
        },
        state: StateDir::from_env(),
        group,
        metrics: args.metrics.clone(),
    };
    match service::run(&options) {
        Ok(()) => Ok(0),
        Err(service::KeeperError::Open(error)) => Err(error.into()),
        Err(error) => Err(Failure::new(Code::Failed, error.to_string())),
    }
}

/// The number of a group of `/etc/group`, which may be given as such.
fn group_number(group: &str) -> Result<u32, Failure> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group");
    let number = groups.map(|groups| number_in(&groups, group));
    let unknown = || io::Error::other("no such group: name one of /etc/group, or give its number");
    match number {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(Failure::failed(&format!("--group {group}"), unknown())),
        Err(error) => Err(Failure::failed("read /etc/group", error)),
    }
}

fn number_in(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let number = fields.nth(1)?.parse().ok()?;
        is_it.then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nportpool-x:x:7:\nbroken\nportpool:x:999:alice,bob\n";
        assert_eq!(number_in(groups, "portpool"), Some(999));
        assert_eq!(number_in(groups, "port"), None);
        assert_eq!(group_number("77").ok(), Some(77));
        assert!(group_number("no such group anywhere").is_err());
    }
}
