//! Which ports are wanted: the selectors of `acquire` and `run` as requests, in the order written.

use std::ffi::OsString;

use clap::{ArgGroup, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use portpool::{
    Alignment, PortCount, PortRange, PortSpec, Request, Transport, Transports, Want, Wildcard,
};

/// At least one request, none of which contradicts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selectors(Vec<Request>);

impl Selectors {
    /// The requests in the order of the command line.
    pub(crate) fn requests(&self) -> &[Request] {
        &self.0
    }

    /// How many ports of a transport they ask for.
    pub(crate) fn port_count(&self, transport: Transport) -> usize {
        let asked = self
            .0
            .iter()
            .filter(|request| request.transports.contains(transport));
        asked
            .map(|request| usize::from(count(&request.want).number()))
            .sum()
    }

    /// The positions of the requests in the order to acquire them: exact ports before the others,
    /// which must not land on them, and large blocks before small ones, which fit more gaps.
    pub(crate) fn acquire_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|index| match self.0[*index].want {
            Want::Specific(_) => (0, 0),
            Want::Wildcard(wanted) => (1, u16::MAX - wanted.count.number()),
        });
        order
    }

    /// The same selectors as arguments.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        for Request { transports, want } in &self.0 {
            let (option, value) = match want {
                Want::Specific(range) => ("port", format!("{range}/{transports}")),
                Want::Wildcard(wanted) => (option_of(*transports), wanted.count.to_string()),
            };
            args.push(format!("--{option}={value}").into());
        }
        args.extend(self.wildcards().next().into_iter().flat_map(|wanted| {
            let align = format!("--align={}", wanted.alignment).into();
            let within = wanted
                .within
                .map(|within| format!("--within={within}").into());
            [Some(align), within].into_iter().flatten()
        }));
        args
    }

    fn wildcards(&self) -> impl Iterator<Item = &Wildcard> {
        self.0.iter().filter_map(|request| match &request.want {
            Want::Specific(_) => None,
            Want::Wildcard(wanted) => Some(wanted),
        })
    }

    /// # Errors
    /// What is wrong with them together, and what to do about it.
    fn checked(self, flags: &Flags) -> Result<Selectors, String> {
        if let Some(wanted) = self.wildcards().next() {
            let largest = self.wildcards().map(|wanted| wanted.count).max();
            if let (Some(within), Some(count)) = (wanted.within, largest)
                && count > within.count()
            {
                return Err(format!(
                    "{count} ports do not fit into --within {within}, which has {}: widen it or ask \
                     for fewer",
                    within.count()
                ));
            }
        } else if flags.align.is_some() || flags.within.is_some() {
            return Err(
                "--align and --within say where any free ports are taken from: ask for some with -t, \
                 -u or -b, or leave them out"
                    .to_owned(),
            );
        }
        for (index, request) in self.0.iter().enumerate() {
            if let Some(other) = self.0[..index].iter().find(|other| overlap(request, other)) {
                return Err(format!(
                    "{other} and {request} have a port in common: name each port once"
                ));
            }
        }
        Ok(self)
    }
}

impl FromArgMatches for Selectors {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Selectors, clap::Error> {
        let flags = Flags::from_arg_matches(matches)?;
        let mut requests = Vec::new();
        for (id, transports) in COUNTS {
            let counts = matches.get_many::<PortCount>(id).into_iter().flatten();
            let places = matches.indices_of(id).into_iter().flatten();
            requests.extend(places.zip(counts.map(|count| flags.wildcard(transports, *count))));
        }
        let specs = flags.port.iter().map(|spec| Request {
            transports: spec.transports.unwrap_or(Transports::Tcp),
            want: Want::Specific(spec.range),
        });
        requests.extend(matches.indices_of("port").into_iter().flatten().zip(specs));
        requests.sort_by_key(|(place, _)| *place);
        let selectors = Selectors(requests.into_iter().map(|(_, request)| request).collect());
        selectors
            .checked(&flags)
            .map_err(|message| clap::Error::raw(ErrorKind::ArgumentConflict, message))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Selectors::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Selectors {
    fn augment_args(command: Command) -> Command {
        Flags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args_for_update(command)
    }
}

/// The selectors as options, each kind by itself.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("ports").args(["tcp", "udp", "both", "port"]).required(true).multiple(true))]
struct Flags {
    /// Any N consecutive TCP ports; repeatable, as all selectors are.
    #[arg(short, long, value_name = "N", help_heading = HEADING)]
    tcp: Vec<PortCount>,
    /// Any N consecutive UDP ports.
    #[arg(short, long, value_name = "N", help_heading = HEADING)]
    udp: Vec<PortCount>,
    /// Any N consecutive ports, the same numbers of TCP and of UDP.
    #[arg(short, long, value_name = "N", help_heading = HEADING)]
    both: Vec<PortCount>,
    /// Exactly these: 8080, 8080-8083, 8080/udp, 5000-5019/both; TCP unless named.
    #[arg(short, long, value_name = "SPEC", help_heading = HEADING)]
    port: Vec<PortSpec>,
    /// Blocks of any ports start at a multiple of K.
    #[arg(long, value_name = "K", help_heading = HEADING)]
    align: Option<Alignment>,
    /// Blocks of any ports lie in this range.
    #[arg(long, value_name = "A-B", help_heading = HEADING)]
    within: Option<PortRange>,
}

impl Flags {
    fn wildcard(&self, transports: Transports, count: PortCount) -> Request {
        let wanted = Wildcard {
            count,
            alignment: self.align.unwrap_or_default(),
            within: self.within,
        };
        Request {
            transports,
            want: Want::Wildcard(wanted),
        }
    }
}

fn count(want: &Want) -> PortCount {
    match want {
        Want::Specific(range) => range.count(),
        Want::Wildcard(wanted) => wanted.count,
    }
}

fn option_of(transports: Transports) -> &'static str {
    let mut options = COUNTS.iter();
    options
        .find(|(_, of)| *of == transports)
        .map_or("both", |(option, _)| option)
}

fn overlap(one: &Request, other: &Request) -> bool {
    let (Want::Specific(range), Want::Specific(with)) = (one.want, other.want) else {
        return false;
    };
    let mut transports = one.transports.iter();
    range.overlaps(with) && transports.any(|transport| other.transports.contains(transport))
}

const HEADING: &str = "Selectors (all are granted, or none)";

/// The options that take a count.
const COUNTS: [(&str, Transports); 3] = [
    ("tcp", Transports::Tcp),
    ("udp", Transports::Udp),
    ("both", Transports::Both),
];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn requests_come_in_the_order_written() {
        let selectors = parse("-p 8080 -t 2 -b 1 -p 53/udp -t 3").unwrap();
        let texts: Vec<String> = selectors
            .requests()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "8080 (tcp)",
                "any 2 ports (tcp)",
                "any port (tcp and udp)",
                "53 (udp)",
                "any 3 ports (tcp)"
            ]
        );
    }

    #[test]
    fn exact_ports_and_large_blocks_are_acquired_first() {
        let selectors = parse("-t 2 -p 8080 -u 9").unwrap();
        assert_eq!(selectors.acquire_order(), [1, 2, 0]);
    }

    #[test]
    fn ports_are_counted_for_each_transport() {
        let selectors = parse("-t 2 -b 3 -p 5000-5004/udp").unwrap();
        assert_eq!(selectors.port_count(Transport::Tcp), 5);
        assert_eq!(selectors.port_count(Transport::Udp), 8);
    }

    #[test]
    fn selectors_read_back_what_they_print() {
        for line in [
            "-t 2 --align 4",
            "-p 8080 -u 1 -b 7 --within 20000-20100",
            "-p 8080-8083/both -p 53/udp",
        ] {
            let selectors = parse(line).unwrap();
            let args: Vec<String> = selectors
                .to_args()
                .into_iter()
                .map(|arg| arg.into_string().unwrap())
                .collect();
            assert_eq!(parse(&args.join(" ")).unwrap(), selectors, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_granted_together_is_named() {
        for (line, part) in [
            ("", "--tcp"),
            ("-t 0", "\"0\""),
            ("-t 65536", "\"65536\""),
            ("-t two", "\"two\""),
            ("-p 80/sctp", "80/sctp"),
            ("-p 9-1", "9-1"),
            ("-t 1 --align 0", "\"0\""),
            ("-t 5 --within 20000-20003", "5 ports do not fit"),
            ("-p 8080 --align 2", "--align and --within"),
            ("-p 8080-8083 -p 8083", "8080-8083 (tcp) and 8083 (tcp)"),
            ("-p 8080/both -p 8080/udp", "in common"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
        assert!(parse("-p 8080 -p 8080/udp").is_ok());
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        selectors: Selectors,
    }

    fn parse(line: &str) -> Result<Selectors, clap::Error> {
        let words = ["portpool"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.selectors)
    }
}
