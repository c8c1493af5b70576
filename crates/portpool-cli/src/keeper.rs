//! The keeper in the foreground.

use portpool_keeper::{
    StateDir,
    service::{self, Options},
};
use portpool_kernel::{AttachOptions, RunDir};

use crate::{
    args::KeeperArgs,
    exit::{Answer, Code, Failure},
    group,
};

/// The command `keeper`.
pub(crate) fn keeper(args: &KeeperArgs) -> Answer {
    let group = args.group.as_deref().map(group::number).transpose()?;
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
