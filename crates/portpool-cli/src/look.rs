//! Looking at reservations and at single ports.

use std::time::{Duration, SystemTime};

use portpool::{
    Entry, Pool, PoolKind, Port, PortRange, PortState, RangeSet, Tenure, Transport, Transports,
};
use portpool_keeper::store::{Exclusion, Records};
use serde::Serialize;

use crate::{
    args::{LookArgs, PortArgs},
    exit::{Answer, Code, Failure},
    output::{self, Table},
    owner::{Owner, TreeRoot, since_boot},
    pool::Chosen,
    records,
    socket_owners::{Sockets, lists_silent_sockets},
};

/// The command `reservations`.
pub(crate) fn reservations(args: LookArgs) -> Answer {
    let pool = args.pool.open_to_look()?;
    let entries = pool.reservations()?;
    let records = records::read().unwrap_or_default();
    let row = |entry| Row::of(entry, &pool, &records);
    let rows: Vec<Row> = entries.iter().map(row).collect();
    let exclusions = ExclusionRow::all(&pool, &records)?;
    if args.json {
        let rows = rows.into_iter().map(Listed::Reservation);
        let exclusions = exclusions.into_iter().map(Listed::Exclusion);
        output::print_json(&rows.chain(exclusions).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let mut table = Table::titled(["PORTS", "PID", "USER", "AGE", "TREE", "TOKEN", "COMMAND"]);
    for row in &rows {
        table.row([
            format!("{}/{}", row.ports, row.transport),
            row.pid_text(),
            row.user_text(),
            age_text(row.age),
            row.tree_root
                .as_ref()
                .map_or("-".to_owned(), TreeRoot::text),
            row.token.clone(),
            shortened(&row.command_text()),
        ]);
    }
    for row in &exclusions {
        let ports = format!("{}/{}", row.ports, row.transport);
        let none = || "-".to_owned();
        let what = row.text();
        table.row([
            ports,
            none(),
            none(),
            none(),
            none(),
            none(),
            shortened(&what),
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
    let records = records::read().unwrap_or_default();
    let transports = spec.transports.unwrap_or(Transports::Both);
    let mut rows = Vec::new();
    for transport in transports.iter() {
        for port in spec.range.ports() {
            rows.push(PortRow::of((transport, port), &pool, &sockets, &records)?);
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
    /// `runtime` or `persistent`.
    kind: &'static str,
    /// The group whose members may consume a persistent block.
    group: Option<u32>,
    /// What the administrator said about a persistent block; only who may read the records sees it.
    note: Option<String>,
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
    fn of(entry: &Entry, pool: &Pool, records: &Records) -> Row {
        let (kind, group) = match entry.tenure {
            Tenure::Runtime => ("runtime", None),
            Tenure::Persistent { group } => ("persistent", group),
        };
        Row {
            transport: entry.transport.to_string(),
            ports: entry.range.to_string(),
            first: entry.range.first().number(),
            count: entry.range.count().number(),
            token: entry.token.to_string(),
            kind,
            group,
            note: records::note_of(records, entry),
            owner: Owner::of(entry),
            since: timestamp(entry.born),
            age: since_boot().saturating_sub(Duration::from_nanos(entry.born)),
            tree_root: TreeRoot::of(entry),
            shared: entry.shared,
            pool: Chosen::of(pool),
        }
    }
}

/// A persistent block is nobody's: who installed it does not matter.
impl Row {
    /// What `port` says of it.
    fn told(&self) -> String {
        let Row {
            owner,
            ports,
            token,
            since,
            ..
        } = self;
        let age = age_text(self.age);
        if self.is_persistent() {
            let note = self.note.as_ref();
            let note = note.map_or(String::new(), |note| format!("  note: {note}\n"));
            let group = self.group.map_or(String::new(), |group| {
                format!(", and members of group {group}")
            });
            return format!(
                "  persistent block {ports} ({token}), in force for {age}\n{note}  for CAP_NET_ADMIN \
                 over the network namespace{group}\n"
            );
        }
        format!(
            "  reservation {ports} ({token}) since {since}, {age} ago\n  owner pid {} ({}), user {}: \
             {}\n",
            owner.pid_text(),
            owner.command,
            owner.user_text(),
            owner.command_text()
        )
    }

    fn is_persistent(&self) -> bool {
        self.kind == "persistent"
    }

    fn pid_text(&self) -> String {
        match self.is_persistent() {
            true => "-".to_owned(),
            false => self.owner.pid_text(),
        }
    }

    fn user_text(&self) -> String {
        match (self.is_persistent(), self.group) {
            (true, Some(group)) => format!("group {group}"),
            (true, None) => "-".to_owned(),
            (false, _) => self.owner.user_text(),
        }
    }

    fn command_text(&self) -> String {
        match (self.is_persistent(), &self.note) {
            (true, Some(note)) => format!("(persistent) {note}"),
            (true, None) => "(persistent)".to_owned(),
            (false, _) => self.owner.command_text(),
        }
    }
}

/// A line of `reservations --json`. Each has the same names; what an exclusion has none of is null.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Reservation(Row),
    Exclusion(ExclusionRow),
}

/// An exclusion as `reservations` shows it: no reservation, but what keeps others away.
#[derive(Serialize)]
struct ExclusionRow {
    transport: String,
    ports: String,
    first: u16,
    count: u16,
    token: Option<String>,
    /// `exclusion`.
    kind: &'static str,
    group: Option<u32>,
    /// What the administrator said about it; only who may read the records sees it.
    note: Option<String>,
    owner: Option<Owner>,
    /// When it was made, for who may read the records.
    since: Option<String>,
    #[serde(rename = "age_seconds")]
    age: Option<f64>,
    tree_root: Option<TreeRoot>,
    shared: bool,
    #[serde(flatten)]
    pool: Chosen,
}

impl ExclusionRow {
    /// What is excluded in the pool: as it was asked for if that is on record, else by runs of ports.
    fn all(pool: &Pool, records: &Records) -> Result<Vec<ExclusionRow>, Failure> {
        if pool.kind() != PoolKind::Kernel {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for transport in Transport::ALL {
            let mut excluded = pool
                .excluded(transport)
                .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
            let mut of_transport = Vec::new();
            for exclusion in &records.exclusions {
                let ports = RangeSet::from(exclusion.range);
                let is_in_force = ports.difference(&excluded).is_empty();
                if exclusion.transport == transport && is_in_force {
                    excluded = excluded.difference(&ports);
                    of_transport.push((exclusion.range, Some(exclusion)));
                }
            }
            of_transport.extend(excluded.iter().map(|range| (range, None)));
            of_transport.sort_by_key(|(range, _)| *range);
            let row = |(range, record)| ExclusionRow::of(transport, range, record, pool);
            found.extend(of_transport.into_iter().map(row));
        }
        Ok(found)
    }

    fn of(
        transport: Transport,
        range: PortRange,
        record: Option<&Exclusion>,
        pool: &Pool,
    ) -> ExclusionRow {
        ExclusionRow {
            transport: transport.to_string(),
            ports: range.to_string(),
            first: range.first().number(),
            count: range.count().number(),
            token: None,
            kind: "exclusion",
            group: None,
            note: record
                .and_then(|record| record.note.as_ref())
                .map(ToString::to_string),
            owner: None,
            since: record
                .map(|record| humantime::format_rfc3339_seconds(record.created).to_string()),
            age: None,
            tree_root: None,
            shared: false,
            pool: Chosen::of(pool),
        }
    }

    fn text(&self) -> String {
        match &self.note {
            Some(note) => format!("(excluded) {note}"),
            None => "(excluded)".to_owned(),
        }
    }
}

/// One port of one transport.
#[derive(Serialize)]
struct PortRow {
    transport: String,
    port: u16,
    /// `reserved`, `in-use`, `held`, `excluded`, `recent` or `free`, the first that is true.
    state: &'static str,
    reservation: Option<Row>,
    socket_count: u32,
    held_by_kernel: bool,
    /// Whether the administrator keeps it from automatic choice and from reservations.
    excluded: bool,
    /// What he said about that; only who may read the records sees it.
    exclusion_note: Option<String>,
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
        (transport, port): (Transport, Port),
        pool: &Pool,
        sockets: &Sockets,
        records: &Records,
    ) -> Result<PortRow, Failure> {
        let mut state = pool.port(transport, port)?;
        // The embedded pool counts what it finds in /proc; its own holds are not meant.
        if pool.kind() == PoolKind::Embedded && state.reservation.is_none() {
            state.socket_count += sockets.silent_count(transport, port);
        }
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
                PortState { excluded: true, .. } => "excluded",
                PortState { recent: true, .. } => "recent",
                _ => "free",
            },
            reservation: state
                .reservation
                .as_ref()
                .map(|entry| Row::of(entry, pool, records)),
            socket_count: state.socket_count,
            held_by_kernel: state.held,
            excluded: state.excluded,
            exclusion_note: records::exclusion_of(records, transport, port)
                .filter(|_| state.excluded)
                .and_then(|(_, note)| note),
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
            text += &row.told();
            if let Some(root) = &row.tree_root {
                let root = match root.text() {
                    text if text == "owner" => "the owner".to_owned(),
                    pid => format!("pid {pid}"),
                };
                text += &format!("  {root} and its descendants may use it\n");
            }
        }
        if let Some(note) = &self.exclusion_note {
            text += &format!("  note: {note}\n");
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
            "excluded" => "excluded by the administrator: no reservation gets it, a bind does",
            "free"
                if self.pool.is(PoolKind::Embedded)
                    && self.transport == "tcp"
                    && !lists_silent_sockets() =>
            {
                "free, as far as can be seen: TCP sockets that do not listen are in no list before \
                 Linux 6.8"
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
