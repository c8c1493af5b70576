//! Looking at reservations and at single ports.

use std::time::{Duration, SystemTime};

use portpool::{Entry, Pool, PoolKind, Port, PortState, Transport, Transports};
use serde::Serialize;

use crate::{
    args::{LookArgs, PortArgs},
    exit::{Answer, Code, Failure},
    output::{self, Table},
    owner::{Owner, TreeRoot, since_boot},
    pool::Chosen,
    socket_owners::Sockets,
};

/// The command `reservations`.
pub(crate) fn reservations(args: LookArgs) -> Answer {
    let pool = args.pool.open_to_look()?;
    let entries = pool.reservations()?;
    let rows: Vec<Row> = entries.iter().map(|entry| Row::of(entry, &pool)).collect();
    if args.json {
        output::print_json(&rows)?;
        return Ok(0);
    }
    let mut table = Table::titled(["PORTS", "PID", "USER", "AGE", "TREE", "TOKEN", "COMMAND"]);
    for row in &rows {
        table.row([
            format!("{}/{}", row.ports, row.transport),
            row.owner.pid_text(),
            row.owner.user_text(),
            age_text(row.age),
            row.tree_root
                .as_ref()
                .map_or("-".to_owned(), TreeRoot::text),
            row.token.clone(),
            shortened(&row.owner.command_text()),
        ]);
    }
    output::print(&(Chosen::of(&pool).line() + &table.text()))?;
    Ok(0)
}

/// The command `port`.
pub(crate) fn port(args: &PortArgs) -> Answer {
    let spec = args.spec;
    if spec.range.count().number() > PORT_COUNT_MAX {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "{spec} are more than {PORT_COUNT_MAX} ports: look at fewer, or at all reservations \
                 with `portpool reservations`"
            ),
        ));
    }
    let pool = args.pool.open_to_look()?;
    let sockets = Sockets::read();
    let transports = spec.transports.unwrap_or(Transports::Both);
    let mut rows = Vec::new();
    for transport in transports.iter() {
        for port in spec.range.ports() {
            rows.push(PortRow::of(transport, port, &pool, &sockets)?);
        }
    }
    if args.json {
        output::print_json(&rows)?;
        return Ok(0);
    }
    // Of a range, only what there is to say something about.
    let is_single = spec.range.count().number() == 1;
    let told = rows.iter().filter(|row| is_single || row.state != "free");
    let text: String = told.map(PortRow::text).collect();
    let free_count = rows.iter().filter(|row| row.state == "free").count();
    let rest = match free_count {
        0 => String::new(),
        _ if is_single => String::new(),
        count => format!("{count} free\n"),
    };
    output::print(&(Chosen::of(&pool).line() + &text + &rest))?;
    Ok(0)
}

/// A reservation as `reservations` and `port` show it.
#[derive(Serialize)]
struct Row {
    transport: String,
    ports: String,
    first: u16,
    count: u16,
    token: String,
    owner: Owner,
    /// When it was acquired.
    since: String,
    #[serde(rename = "age_seconds", serialize_with = "seconds")]
    age: Duration,
    tree_root: Option<TreeRoot>,
    /// Whether it counts against the limits of its user.
    shared: bool,
    #[serde(flatten)]
    pool: Chosen,
}

impl Row {
    fn of(entry: &Entry, pool: &Pool) -> Row {
        Row {
            transport: entry.transport.to_string(),
            ports: entry.range.to_string(),
            first: entry.range.first().number(),
            count: entry.range.count().number(),
            token: entry.token.to_string(),
            owner: Owner::of(entry),
            since: timestamp(entry.born),
            age: since_boot().saturating_sub(Duration::from_nanos(entry.born)),
            tree_root: TreeRoot::of(entry),
            shared: entry.shared,
            pool: Chosen::of(pool),
        }
    }
}

/// One port of one transport.
#[derive(Serialize)]
struct PortRow {
    transport: String,
    port: u16,
    /// `reserved`, `in-use`, `held`, `recent` or `free`, the first that is true.
    state: &'static str,
    reservation: Option<Row>,
    socket_count: u32,
    held_by_kernel: bool,
    recently_used: bool,
    processes: Vec<Process>,
    #[serde(flatten)]
    pool: Chosen,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    command_line: Option<String>,
}

impl PortRow {
    fn of(
        transport: Transport,
        port: Port,
        pool: &Pool,
        sockets: &Sockets,
    ) -> Result<PortRow, Failure> {
        let state = pool.port(transport, port)?;
        let processes = sockets.processes(transport, port).into_iter();
        Ok(PortRow {
            transport: transport.to_string(),
            port: port.number(),
            state: match &state {
                PortState {
                    reservation: Some(_),
                    ..
                } => "reserved",
                PortState {
                    socket_count: 1.., ..
                } => "in-use",
                PortState { held: true, .. } => "held",
                PortState { recent: true, .. } => "recent",
                _ => "free",
            },
            reservation: state.reservation.as_ref().map(|entry| Row::of(entry, pool)),
            socket_count: state.socket_count,
            held_by_kernel: state.held,
            recently_used: state.recent,
            processes: processes
                .map(|(pid, command_line)| Process { pid, command_line })
                .collect(),
            pool: Chosen::of(pool),
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}/{}: {}", self.port, self.transport, self.said());
        match self.socket_count {
            0 => {}
            1 => text += ", 1 socket bound",
            count => text += &format!(", {count} sockets bound"),
        }
        text.push('\n');
        if let Some(row) = &self.reservation {
            let Row {
                owner,
                age,
                ports,
                token,
                ..
            } = row;
            text += &format!(
                "  reservation {ports} ({token}) since {}, {} ago\n  owner pid {} ({}), user {}: {}\n",
                row.since,
                age_text(*age),
                owner.pid_text(),
                owner.command,
                owner.user_text(),
                owner.command_text()
            );
            if let Some(root) = &row.tree_root {
                let root = match root.text() {
                    text if text == "owner" => "the owner".to_owned(),
                    pid => format!("pid {pid}"),
                };
                text += &format!("  {root} and its descendants may use it\n");
            }
        }
        for process in &self.processes {
            let command = process
                .command_line
                .as_deref()
                .unwrap_or("(no command line)");
            text += &format!("  socket of pid {}: {command}\n", process.pid);
        }
        text
    }

    fn said(&self) -> &'static str {
        match self.state {
            "held" => "held by the kernel or by a socket that cannot be counted",
            "recent" => "free, used within the last minute",
            "in-use" => "in use, not reserved",
            "free" if self.pool.is(PoolKind::Embedded) && self.transport == "tcp" => {
                "free, as far as can be seen: TCP sockets that do not listen are in no list"
            }
            state => state,
        }
    }
}

fn seconds<S: serde::Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(age.as_secs_f64())
}

/// Time since boot as a date. The clock may have been set since: then the date moves with it.
pub(crate) fn timestamp(nanoseconds: u64) -> String {
    let age = since_boot().saturating_sub(Duration::from_nanos(nanoseconds));
    let time = SystemTime::now()
        .checked_sub(age)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The two largest units of a duration.
pub(crate) fn age_text(age: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(COMMAND_LENGTH_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Each is looked up by itself.
const PORT_COUNT_MAX: u16 = 1024;
const COMMAND_LENGTH_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        assert_eq!(age_text(Duration::from_millis(300)), "0s");
        assert_eq!(age_text(Duration::from_secs(3_725)), "1h 2m");
    }

    #[test]
    fn long_commands_are_cut_between_characters() {
        let long = "ä".repeat(COMMAND_LENGTH_MAX + 1);
        assert_eq!(shortened(&long).chars().count(), COMMAND_LENGTH_MAX + 3);
        assert_eq!(shortened("short"), "short");
    }
}
