//! What outlives a boot: persistent blocks and exclusions.

use portpool::{PortRange, PortSpec, Token, Transport, Transports};
use portpool_keeper::{Admin, AdminError, StateDir, admin::Persist};
use portpool_kernel::RunDir;
use portpool_varlink::calls;
use serde_json::json;

use crate::{
    administrator::ask,
    args::{ExcludeArgs, PersistArgs, SpecArgs},
    exit::{Answer, Failure},
    group, output,
};

/// The command `persist`.
pub(crate) fn persist(args: &PersistArgs) -> Answer {
    let group = args.group.as_deref().map(group::number).transpose()?;
    let persist = Persist {
        transports: transports(args.spec),
        range: args.spec.range,
        group,
        note: args.note.clone(),
    };
    for (transport, token) in make(&persist)? {
        let range = persist.range;
        if args.json {
            output::print_json_line(&json!({
                "transport": transport.to_string(),
                "first": range.first().number(),
                "count": range.count().number(),
                "token": token.to_string(),
            }))?;
        } else {
            output::print(&format!(
                "{range}/{transport} is persistent, token {token}\n"
            ))?;
        }
    }
    Ok(0)
}

/// The command `unpersist`.
pub(crate) fn unpersist(args: &SpecArgs) -> Answer {
    let (transports, range) = (transports(args.spec), args.spec.range);
    if ask(&calls::Unpersist { transports, range })?.is_none() {
        open()?.unpersist(transports, range)?;
    }
    told(args.spec, args.json, "is not persistent any more")
}

/// The command `exclude`.
pub(crate) fn exclude(args: &ExcludeArgs) -> Answer {
    let call = calls::Exclude {
        transports: transports(args.spec),
        range: args.spec.range,
        note: args.note.as_ref().map(|note| note.text().to_owned()),
    };
    if ask(&call)?.is_none() {
        open()?.exclude(call.transports, call.range, args.note.as_ref())?;
    }
    told(
        args.spec,
        args.json,
        "is kept from automatic choice and from reservations",
    )
}

/// The command `unexclude`.
pub(crate) fn unexclude(args: &SpecArgs) -> Answer {
    let (transports, range) = (transports(args.spec), args.spec.range);
    if ask(&calls::Unexclude { transports, range })?.is_none() {
        open()?.unexclude(transports, range)?;
    }
    told(args.spec, args.json, "is excluded no more")
}

fn make(persist: &Persist) -> Result<Vec<(Transport, Token)>, Failure> {
    let call = calls::Persist {
        transports: persist.transports,
        range: persist.range,
        group: persist.group,
        note: persist.note.as_ref().map(|note| note.text().to_owned()),
    };
    if let Some(made) = ask(&call)? {
        let blocks = made.blocks.iter();
        return Ok(blocks.map(|made| (made.transport, made.token)).collect());
    }
    let made = open()?.persist(persist)?;
    Ok(made
        .iter()
        .map(|made| (made.transport, made.token))
        .collect())
}

/// To do it without a keeper.
fn open() -> Result<Admin, Failure> {
    let state = StateDir::from_env().ok_or(AdminError::NoStateDir)?;
    Ok(Admin::open(&RunDir::from_env(), &state)?)
}

fn told(spec: PortSpec, json: bool, what: &str) -> Answer {
    let range: PortRange = spec.range;
    for transport in transports(spec).iter() {
        if json {
            output::print_json_line(&json!({
                "transport": transport.to_string(),
                "first": range.first().number(),
                "count": range.count().number(),
            }))?;
        } else {
            output::print(&format!("{range}/{transport} {what}\n"))?;
        }
    }
    Ok(0)
}

/// As with `acquire`: TCP unless something else is written.
fn transports(spec: PortSpec) -> Transports {
    spec.transports.unwrap_or(Transport::Tcp.into())
}
