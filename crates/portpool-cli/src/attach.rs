//! Attaching and detaching the pool of this network namespace.

use portpool::{Limits, Pool, PoolKind};
use portpool_keeper::{
    AdminError, StateDir,
    admin::{self, Reattached},
};
use portpool_kernel::{AttachOptions, Attached, RunDir};

use crate::{
    args::AttachArgs,
    exit::{Answer, Code, Failure},
    output::{self, WARNING, printable},
};

/// The command `attach`.
pub(crate) fn attach(args: &AttachArgs) -> Answer {
    let options = AttachOptions {
        run: RunDir::from_env(),
        cgroup: args.cgroup.clone(),
        ranges: (!args.ranges.is_empty()).then(|| args.ranges.iter().copied().collect()),
        limits: args.limits.over(present_limits),
        private_mounts: args.private_mounts,
    };
    let state = StateDir::from_env().filter(|_| !args.without_records);
    let Reattached {
        attached,
        reconciled,
        warnings,
        ..
    } = admin::attach(&options, state.as_ref()).map_err(|error| match error {
        AdminError::Store(error) => Failure::new(
            Code::Failed,
            format!(
                "not attached, since what is on record could not be put back: {error}; --without-records \
                 attaches without it"
            ),
        ),
        error => error.into(),
    })?;
    let conflicts = reconciled
        .conflicts
        .iter()
        .map(|conflict| format!("on record, but not in force: {}", conflict.error));
    for warning in attached
        .warnings
        .iter()
        .cloned()
        .chain(warnings)
        .chain(conflicts)
    {
        anstream::eprintln!("{WARNING}warning:{WARNING:#} {}", printable(&warning));
    }
    let mut text = text(&attached);
    if reconciled.restored > 0 {
        text += &format!(
            "put back {} blocks and exclusions on record\n",
            reconciled.restored
        );
    }
    output::print(&text)?;
    Ok(0)
}

/// The command `detach`.
pub(crate) fn detach(force: bool) -> Answer {
    let detached = portpool_kernel::detach(&RunDir::from_env(), force)?;
    let ended = match detached.ended.len() {
        0 => String::new(),
        count => format!(", {count} reservations ended"),
    };
    let on_record = match detached.persistent_count {
        0 => String::new(),
        count => format!(", {count} persistent blocks come back with the next attach"),
    };
    let rest = if detached.others_remain {
        "; other network namespaces keep their pools"
    } else {
        ""
    };
    output::print(&format!("detached{ended}{on_record}{rest}\n"))?;
    Ok(0)
}

/// Those of the pool that attach goes over, so that setting one limit does not reset the others.
fn present_limits() -> Limits {
    // Who attaches may well be outside of the cgroup that is guarded.
    let overview = Pool::builder()
        .kind(PoolKind::Kernel)
        .open_to_look()
        .ok()
        .and_then(|pool| pool.overview().ok());
    overview.map_or(Limits::DEFAULT, |overview| overview.config.limits)
}

fn text(attached: &Attached) -> String {
    let verb = if attached.is_new {
        "attached to"
    } else {
        "attached again to"
    };
    let mut text = format!(
        "{verb} {}; blocks of any ports come from {}\n",
        printable(&attached.cgroup.display().to_string()),
        attached.pool.ranges
    );
    if attached.reaped > 0 {
        text += &format!(
            "took away {} pools of network namespaces that are gone\n",
            attached.reaped
        );
    }
    text
}
