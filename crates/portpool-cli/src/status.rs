//! Which pool there is, its limits, and how much of it is left.

use std::{collections::BTreeSet, time::Duration};

use portpool::{
    Entry, LookError, Overview, Pool, PoolKind, PoolState, PortRange, RangeSet, Tenure, Transport,
};
use portpool_keeper::store::Records;
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::{
    args::LookArgs,
    cgroup,
    exit::{Answer, Code, Failure},
    look::{age_text, timestamp},
    output::{self, Table, printable},
    owner::since_boot,
    pool::{Chosen, takes_tcp_without_gap},
    records,
};

/// The command `status`.
pub(crate) fn status(args: LookArgs) -> Answer {
    let pool = match args.pool.open_to_look() {
        Ok(pool) => pool,
        Err(failure) if args.json && failure.code == Code::NoPool => {
            output::print_json(&json!({ "attached": false }))?;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    match (pool.kind(), args.json) {
        (PoolKind::Embedded, true) => output::print_json(&embedded_json(&pool))?,
        (PoolKind::Embedded, false) => output::print(&embedded_text(&pool))?,
        (PoolKind::Kernel | PoolKind::Automatic, _) => kernel(&pool, args.json)?,
    }
    Ok(0)
}

fn kernel(pool: &Pool, json: bool) -> Result<(), Failure> {
    match (pool.overview(), json) {
        (Ok(overview), true) => output::print_json(&kernel_json(pool, &overview)),
        (Ok(overview), false) => output::print(&kernel_text(pool, &overview)),
        (Err(error), true) => output::print_json(&blind_json(pool, &error)),
        (Err(error), false) => output::print(&format!(
            "{}the pool is attached, but cannot be looked at: {}\nexact ports and --within work all \
             the same\n",
            Chosen::of(pool).line(),
            printable(&error.to_string())
        )),
    }
}

fn embedded_json(pool: &Pool) -> Value {
    let choice = pool.choice();
    let listed = pool.reservations();
    let transports = Transport::ALL.map(|transport| {
        json!({
            "transport": transport.to_string(),
            "reserved": listed.as_ref().ok().map(|_| reserved_count(pool, transport)),
        })
    });
    let limits = getrlimit(Resource::Nofile);
    json!({
        "pool": choice.kind.name(),
        "pool_reason": choice.reason,
        "guards_this_process": true,
        "attached": false,
        "readable": listed.is_ok(),
        "reason": listed.as_ref().err().map(ToString::to_string),
        "reservations": listed.as_ref().ok().map(Vec::len),
        "transports": transports,
        "tcp_without_gap": takes_tcp_without_gap(pool),
        "descriptors": { "soft": limits.current, "hard": limits.maximum },
    })
}

fn embedded_text(pool: &Pool) -> String {
    let mut table = Table::default();
    table.row(["pool", &Chosen::of(pool).text()]);
    match pool.reservations() {
        Ok(entries) => {
            table.row(["reservations", &format!("{} of this user", entries.len())]);
            for transport in Transport::ALL {
                let reserved = format!("{} ports reserved", reserved_count(pool, transport));
                table.row([transport.to_string(), reserved]);
            }
        }
        Err(error) => table.row(["reservations", &format!("not listed: {error}")]),
    }
    let tcp = match takes_tcp_without_gap(pool) {
        true => "ports of every address are handed over without a gap",
        false => {
            "ports of loopback addresses and of UDP are handed over without a gap; of other addresses \
             some in a window, for want of CAP_NET_RAW (--strict refuses it, --explain tells)"
        }
    };
    table.row(["hand-over", tcp]);
    let limits = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.map_or("no limit".to_owned(), |it| it.to_string());
    let descriptors = format!(
        "one a port and transport: {}, raised to {} where it takes that",
        number(limits.current),
        number(limits.maximum)
    );
    table.row(["descriptors", &descriptors]);
    table.text()
}

fn reserved_count(pool: &Pool, transport: Transport) -> u32 {
    let entries = pool.reservations().unwrap_or_default();
    let of = entries.iter().filter(|entry| entry.transport == transport);
    of.map(|entry| u32::from(entry.range.count().number()))
        .sum()
}

fn kernel_json(pool: &Pool, overview: &Overview) -> Value {
    let Overview {
        config, counters, ..
    } = overview;
    let transports = Transport::ALL.map(|transport| {
        let of = overview.transport(transport);
        let largest = of.largest_free.map(|range| range.to_string());
        json!({
            "transport": transport.to_string(),
            "reserved": of.reserved_count,
            "in_use": of.in_use_count,
            "free_in_ranges": of.free_count,
            "largest_free": largest,
        })
    });
    let choice = pool.choice();
    json!({
        "pool": choice.kind.name(),
        "pool_reason": choice.reason,
        "guards_this_process": pool.guards_caller(),
        "attached": true,
        "readable": true,
        "ready": config.state == PoolState::Ready,
        "since": timestamp(config.attached),
        "cgroup": cgroup::path_of(config.cgroup),
        "guards_every_cgroup": config.cgroup == cgroup::ROOT_ID,
        "ranges": config.ranges.iter().map(|range| range.to_string()).collect::<Vec<_>>(),
        "limits": {
            "ports_per_uid": config.limits.ports_per_uid_max,
            "reservations_per_uid": config.limits.reservations_per_uid_max,
            "reservations_per_socket": config.limits.reservations_per_socket_max,
            "reservations": config.limits.reservations_max,
            "shared_percent": config.limits.shared_percent,
        },
        "reservations": counters.reservations,
        "shared_reservations": counters.shared_reservations,
        "shared_ports": counters.shared_ports,
        "transports": transports,
        "persistent": persistent(pool).len(),
        "excluded": Transport::ALL.map(|transport| json!({
            "transport": transport.to_string(),
            "ports": pool.excluded(transport).unwrap_or_default().to_string(),
        })),
        "not_in_force": not_in_force(pool, &records::read().unwrap_or_default()),
        "records_error": records::read().err().map(|error| error.to_string()),
    })
}

fn persistent(pool: &Pool) -> Vec<Entry> {
    let mut entries = pool.reservations().unwrap_or_default();
    entries.retain(|entry| entry.tenure != Tenure::Runtime);
    entries
}

/// What is on record and something is in its way.
fn not_in_force(pool: &Pool, records: &Records) -> Vec<String> {
    let blocks: BTreeSet<_> = persistent(pool)
        .iter()
        .map(|entry| (entry.transport, entry.range))
        .collect();
    let excluded = Transport::ALL.map(|transport| pool.excluded(transport).unwrap_or_default());
    let is_excluded = |transport: Transport, range: PortRange| {
        let ports = RangeSet::from(range);
        ports.difference(&excluded[transport.index()]).is_empty()
    };
    let lines = records::lines(records).filter(|(transport, range, _)| {
        !blocks.contains(&(*transport, *range)) && !is_excluded(*transport, *range)
    });
    lines
        .map(|(transport, range, note)| format!("{range}/{transport}{note}"))
        .collect()
}

/// What the administrator made, where there is something to say about it.
fn administered(pool: &Pool) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let count = persistent(pool).len();
    if count > 0 {
        rows.push(("persistent", format!("{count} blocks")));
    }
    for (name, transport) in [
        ("excluded tcp", Transport::Tcp),
        ("excluded udp", Transport::Udp),
    ] {
        let ports = pool.excluded(transport).unwrap_or_default();
        if !ports.is_empty() {
            rows.push((name, ports.to_string()));
        }
    }
    match records::read() {
        Ok(records) => {
            let missing = not_in_force(pool, &records);
            if !missing.is_empty() {
                rows.push(("NOT in force", printable(&missing.join(", "))));
            }
        }
        Err(error) => rows.push(("records", printable(&error.to_string()))),
    }
    rows
}

fn blind_json(pool: &Pool, error: &LookError) -> Value {
    let choice = pool.choice();
    json!({
        "pool": choice.kind.name(),
        "pool_reason": choice.reason,
        "guards_this_process": pool.guards_caller(),
        "attached": true,
        "readable": false,
        "reason": error.to_string(),
    })
}

fn kernel_text(pool: &Pool, overview: &Overview) -> String {
    let Overview {
        config, counters, ..
    } = overview;
    let limits = &config.limits;
    let age = since_boot().saturating_sub(Duration::from_nanos(config.attached));
    let mut table = Table::default();
    table.row(["pool", &Chosen::of(pool).text()]);
    table.row([
        "state",
        &format!("{}, attached {} ago", state(config.state), age_text(age)),
    ]);
    table.row(["guards", &guarded(config.cgroup)]);
    table.row(["ranges", &config.ranges.to_string()]);
    table.row([
        "reservations",
        &format!("{} of {}", counters.reservations, limits.reservations_max),
    ]);
    for (name, text) in administered(pool) {
        table.row([name, &text]);
    }
    for transport in Transport::ALL {
        let of = overview.transport(transport);
        let largest = of
            .largest_free
            .map_or("none".to_owned(), |range| range.to_string());
        let counts = format!(
            "{} ports reserved, {} in use, {} of the ranges free, largest free block {largest}",
            of.reserved_count, of.in_use_count, of.free_count
        );
        table.row([transport.to_string(), counts]);
    }
    let per_uid = format!(
        "{} ports and {} reservations a user, {} reservations a socket, {} % of the pool without \
         CAP_NET_ADMIN",
        limits.ports_per_uid_max,
        limits.reservations_per_uid_max,
        limits.reservations_per_socket_max,
        limits.shared_percent
    );
    table.row(["limits", &per_uid]);
    table.text()
}

fn state(state: PoolState) -> &'static str {
    match state {
        PoolState::Ready => "ready",
        PoolState::Sweeping => "counting the sockets there were before, grants nothing yet",
    }
}

fn guarded(id: u64) -> String {
    if id == cgroup::ROOT_ID {
        return "every socket of this network namespace".to_owned();
    }
    let path = cgroup::path_of(id).map(|path| path.display().to_string());
    let path = path.unwrap_or_else(|| format!("the cgroup with id {id}, not mounted here"));
    format!("ONLY sockets created in {path}: all others can take reserved ports")
}
