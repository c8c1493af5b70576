//! How a program got its ports: what `run --explain` says, and what it says without being asked.

use clap::ValueEnum;
use portpool::{Pool, Transport};
use portpool_handover::{Finished, Technique, Use};
use serde::Serialize;

use crate::{grant::Grant, output::WARNING, pool::Chosen};

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Explain {
    /// Lines for people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// What is known of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pool: Chosen,
    ports: Vec<PortReport>,
    /// Calls of processes that are closed to this one.
    closed_call_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PortReport {
    transport: String,
    port: u16,
    /// None if no process bound it, as far as can be seen.
    uses: Vec<UseReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct UseReport {
    technique: &'static str,
    /// Calls of bind and listen, where they are seen.
    call_count: Option<u64>,
    /// Whether nobody else fitted in at any moment.
    gap_free: bool,
}

impl Report {
    pub(crate) fn new(pool: &Pool, grant: &Grant) -> Report {
        let ports = Transport::ALL.into_iter().flat_map(|transport| {
            grant.ports(transport).map(move |port| PortReport {
                transport: transport.to_string(),
                port: port.number(),
                uses: Vec::new(),
            })
        });
        Report {
            pool: Chosen::of(pool),
            ports: ports.collect(),
            closed_call_count: 0,
        }
    }

    /// Every bind was decided by the kernel pool, which leaves no moment.
    pub(crate) fn decided_by_kernel(self) -> Report {
        self.all_by("kernel")
    }

    /// The program was passed sockets that had the ports.
    pub(crate) fn passed(&self) -> Report {
        self.clone().all_by("socket")
    }

    /// The supervisor let the program past the holds.
    pub(crate) fn handed(mut self, finished: &Finished) -> Report {
        for used in &finished.uses {
            let of_port = self.ports.iter_mut().find(|port| port.is_of(used));
            if let Some(port) = of_port {
                port.uses.push(UseReport::of(used));
            }
        }
        self.closed_call_count = finished.closed_call_count;
        self
    }

    /// Says on stderr what was asked for, and without that what a user has to know.
    pub(crate) fn tell(&self, explain: Option<Explain>) {
        match explain {
            Some(Explain::Text) => anstream::eprint!("{}", self.text()),
            Some(Explain::Json) => {
                let text = serde_json::to_string(self).unwrap_or_default();
                anstream::eprintln!("{text}");
            }
            None => anstream::eprint!("{}", self.warnings()),
        }
    }

    fn all_by(mut self, technique: &'static str) -> Report {
        for port in &mut self.ports {
            port.uses = vec![UseReport {
                technique,
                call_count: None,
                gap_free: true,
            }];
        }
        self
    }

    fn text(&self) -> String {
        let mut text = format!("portpool: {}", self.pool.line());
        for port in &self.ports {
            if port.uses.is_empty() {
                text += &format!("portpool: {}: never bound\n", port.name());
            }
            for used in &port.uses {
                text += &format!("portpool: {}: {}\n", port.name(), used.text());
            }
        }
        text + &self.closed_text()
    }

    fn warnings(&self) -> String {
        let is_open = |port: &&PortReport| port.uses.iter().any(|it| it.technique == WINDOW);
        let open: Vec<String> = self
            .ports
            .iter()
            .filter(is_open)
            .map(PortReport::name)
            .collect();
        if open.is_empty() {
            return String::new();
        }
        format!(
            "{WARNING}warning:{WARNING:#} {}: for some microseconds others could have taken it too, \
             because there is no CAP_NET_RAW: serve on a loopback address, refuse it with --strict, \
             or attach the kernel pool\n",
            open.join(", ")
        )
    }

    fn closed_text(&self) -> String {
        match self.closed_call_count {
            0 => String::new(),
            count => format!(
                "portpool: {count} calls of processes that are closed to portpool (not dumpable) were \
                 left to the kernel, for which the ports are taken\n"
            ),
        }
    }
}

impl PortReport {
    fn is_of(&self, used: &Use) -> bool {
        (self.port, &*self.transport) == (used.port.number(), &used.transport.to_string())
    }

    fn name(&self) -> String {
        format!("{}/{}", self.port, self.transport)
    }
}

impl UseReport {
    fn of(used: &Use) -> UseReport {
        UseReport {
            technique: used.technique.word(),
            call_count: Some(used.call_count),
            gap_free: used.technique.is_gap_free(),
        }
    }

    fn text(&self) -> String {
        let calls = match self.call_count {
            None => String::new(),
            Some(1) => ", 1 call".to_owned(),
            Some(count) => format!(", {count} calls"),
        };
        let meaning = match self.technique {
            "swap" => "no gap until the program closes the socket",
            "window" => "others could have taken it at that moment",
            "unguarded" => "as without portpool, after a swap",
            "refused" => "refused, because --strict forbids a window",
            _ => "no gap",
        };
        format!("{}{calls}: {meaning}", self.technique)
    }
}

const WINDOW: &str = Technique::Window.word();
