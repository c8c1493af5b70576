//! The grammar of the command: what can be written and what it says about itself.
//!
//! Absent here: what the commands do, and what several selectors mean together (`selectors`).

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, builder::styling, value_parser};
use portpool::{Limits, PortRange, PortSpec};

use portpool_keeper::{service::MetricsAddress, store::Note};

use crate::{grant::Format, handing::HandingArgs, pool::PoolArgs, selectors::Selectors};

/// Reserve ports, enforced by the kernel, or held where that is not set up.
#[derive(Debug, Parser)]
#[command(
    name = "portpool",
    version,
    styles = STYLES,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_long_help = AFTER_HELP,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in ports of its own.
    ///
    /// The program and everything it starts may bind the ports as if nothing were special about them;
    /// everybody else is refused. The ports are free again the moment it ends, also when portpool or the
    /// program is killed. No privilege and no set-up is needed: where no kernel pool is attached portpool
    /// holds the ports and lets the program past.
    #[command(
        after_long_help = RUN_HELP,
        override_usage = "portpool run <SELECTOR>... [OPTIONS] -- <COMMAND> [ARGS]..."
    )]
    Run(RunArgs),
    /// Reserve ports, print them, and hold them.
    ///
    /// Plainly, the ports are kept from everybody: no process can bind them while they are held. With
    /// --while the process named and all its descendants may, in the kernel pool.
    #[command(
        after_long_help = ACQUIRE_HELP,
        override_usage = "portpool acquire <SELECTOR>... [OPTIONS]"
    )]
    Acquire(AcquireArgs),
    /// Show every reservation and who has it.
    Reservations(LookArgs),
    /// Show who has a port.
    ///
    /// Names the reservation and its owner, and the processes with a socket on the port: all of them for
    /// root, those of the same user for others.
    Port(PortArgs),
    /// Show which pool there is and why, its limits and how much is left.
    Status(LookArgs),
    /// Look at what this machine can do and what is missing.
    ///
    /// Ends with status 1 if the pool cannot work as things are: the one that --pool or PORTPOOL_POOL
    /// names, or else the one that would be chosen.
    Doctor(LookArgs),
    /// Make a block persistent: reserved until it is unpersisted, also after a reboot (as root, or in
    /// the group of the keeper).
    ///
    /// Nobody binds its ports plainly. A process with CAP_NET_ADMIN over the network namespace, or a
    /// member of the group, consumes it: with `portpool run -p`, or by associating a socket with its
    /// token, which is another after each boot.
    Persist(PersistArgs),
    /// End a persistent block (as root, or in the group of the keeper).
    ///
    /// Sockets bound to its ports keep them.
    Unpersist(SpecArgs),
    /// Keep ports from automatic choice and from reservations, also after a reboot (as root, or in the
    /// group of the keeper).
    ///
    /// Explicit binds succeed as ever. It is refused while a port is bound or reserved.
    Exclude(ExcludeArgs),
    /// End an exclusion (as root, or in the group of the keeper).
    Unexclude(SpecArgs),
    /// Attach the pool to this network namespace (as root).
    ///
    /// From then on every socket created in the cgroup, the root cgroup unless told, is guarded. The pool
    /// needs no process and stays until detach. Over an attached pool this replaces the programs and
    /// lets go of no reservation; what is not told stays as it is.
    Attach(AttachArgs),
    /// Take the pool away from this network namespace (as root).
    ///
    /// With the last pool everything else of portpool goes as well: programs, pins, sysctl entries.
    Detach(DetachArgs),
    /// Keep what needs a privilege or a memory (as root).
    ///
    /// Attaches the pool if it is not attached, makes blocks grantable that automatic choice could pick,
    /// and tells and counts what happens. Everything reserved goes on without it. It stays in the
    /// foreground until SIGTERM or SIGINT.
    #[command(after_long_help = KEEPER_HELP)]
    Keeper(KeeperArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages.
    Man(ManArgs),
    /// The background half of `acquire --while`.
    #[command(hide = true)]
    Hold(HoldArgs),
    /// What answers programs that `run` has left behind.
    #[command(hide = true)]
    Rest,
}

impl Command {
    /// Whether it makes files that everybody is to read and root alone to write, whatever the umask is
    /// that it was started with. Programs that it runs keep that one.
    pub(crate) fn makes_shared_files(&self) -> bool {
        match self {
            Command::Attach(_)
            | Command::Detach(_)
            | Command::Keeper(_)
            | Command::Persist(_)
            | Command::Unpersist(_)
            | Command::Exclude(_)
            | Command::Unexclude(_) => true,
            Command::Run(_)
            | Command::Acquire(_)
            | Command::Hold(_)
            | Command::Rest
            | Command::Reservations(_)
            | Command::Port(_)
            | Command::Status(_)
            | Command::Doctor(_)
            | Command::Completions(_)
            | Command::Man(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[command(flatten)]
    pub(crate) handing: HandingArgs,
    /// The program and its arguments; write -- before it if it could be taken for an option.
    #[arg(required = true, trailing_var_arg = true, num_args = 1.., value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// How to print what was reserved.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Hold until end of file on stdin.
    ///
    /// The default if stdin is a pipe or a socket. SIGTERM and SIGINT end it as well, except what it
    /// was started to ignore: a shell without job control does that with SIGINT for what it starts with &.
    #[arg(long, conflicts_with = "tree_root")]
    pub(crate) until_eof: bool,
    /// Return at once and hold in the background until process PID ends.
    ///
    /// PID must be an ancestor of this command with the same user, such as $$ of the script that
    /// runs it. It and its descendants may use the ports, in the kernel pool; in the embedded one
    /// they are kept from everybody, and this says so.
    #[arg(long = "while", value_name = "PID", value_parser = value_parser!(u32).range(1..))]
    pub(crate) tree_root: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[arg(long = "while", value_name = "PID", required = true)]
    pub(crate) tree_root: u32,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Waiting {
    /// While the ports are taken, try again for this long: 500ms, 10s, 2m.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// A port or a range: 8080, 8080/udp, 8080-8083/tcp. Both transports unless one is named.
    pub(crate) spec: PortSpec,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PersistArgs {
    /// A port or a range: 8080, 8080/udp, 5000-5019/both. TCP unless a transport is named; both is all
    /// or nothing.
    pub(crate) spec: PortSpec,
    /// Something about it, for those who look.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<Note>,
    /// A group, by name or number, whose members may consume it as well.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExcludeArgs {
    /// A port or a range: 8080, 8080/udp, 5000-5019/both. TCP unless a transport is named; both is all
    /// or nothing.
    pub(crate) spec: PortSpec,
    /// Something about it, for those who look.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<Note>,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// Exactly the ports it was made with, and TCP unless a transport is named.
    pub(crate) spec: PortSpec,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Guard and count only sockets created in this cgroup v2 directory.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Where blocks of any ports are drawn from; repeatable. [default: 20000-32767 and 61000-65535,
    /// without the ports of /etc/services]
    #[arg(long = "range", value_name = "A-B")]
    pub(crate) ranges: Vec<PortRange>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Attach though the pins, and with them the guard, end with this private mount namespace.
    #[arg(long)]
    pub(crate) private_mounts: bool,
    /// Attach without what is on record: persistent blocks and exclusions.
    ///
    /// For when the records are damaged, which otherwise is a reason not to attach.
    #[arg(long)]
    pub(crate) without_records: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LimitArgs {
    /// Ports one user may hold. [default: 1024]
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = limit(1, Limits::PORTS_CEILING))]
    ports_per_uid: Option<u32>,
    /// Reservations one user may hold. [default: 64]
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = limit(1, Limits::RESERVATIONS_CEILING))]
    reservations_per_uid: Option<u32>,
    /// Reservations one owner socket may hold. [default: 32]
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = limit(1, Limits::RESERVATIONS_PER_SOCKET_CEILING))]
    reservations_per_socket: Option<u32>,
    /// Reservations in all. [default: 16384]
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = limit(1, Limits::RESERVATIONS_CEILING))]
    reservations: Option<u32>,
    /// The share of the pool, in percent, that all users without CAP_NET_ADMIN may hold together.
    /// [default: 50]
    #[arg(long, value_name = "N", help_heading = LIMITS, value_parser = limit(0, 100))]
    shared_percent: Option<u32>,
}

impl LimitArgs {
    /// `base` with what was told, or nothing if nothing was.
    pub(crate) fn over(self, base: impl FnOnce() -> Limits) -> Option<Limits> {
        let told = [
            self.ports_per_uid,
            self.reservations_per_uid,
            self.reservations_per_socket,
            self.reservations,
            self.shared_percent,
        ];
        if told.iter().all(Option::is_none) {
            return None;
        }
        let base = base();
        let [ports, per_uid, per_socket, all, shared] = told;
        Some(Limits {
            ports_per_uid_max: ports.unwrap_or(base.ports_per_uid_max),
            reservations_per_uid_max: per_uid.unwrap_or(base.reservations_per_uid_max),
            reservations_per_socket_max: per_socket.unwrap_or(base.reservations_per_socket_max),
            reservations_max: all.unwrap_or(base.reservations_max),
            shared_percent: shared.unwrap_or(base.shared_percent),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct KeeperArgs {
    /// Attach to this cgroup v2 directory if no pool is attached.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Attach, if no pool is attached, though the guard ends with this private mount namespace.
    #[arg(long)]
    pub(crate) private_mounts: bool,
    /// Who may administer beside root: the name or the number of a group.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Where Prometheus reads metrics: unix:PATH or a loopback address and port.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<MetricsAddress>,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// End all reservations that live; without it they are a reason to refuse.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to, such as /usr/local/share/man/man1: one file a command. Without it the main page goes
    /// to stdout.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Text as a duration, with a unit, since a bare 10 could be meant either way.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a number with a unit, such as 500ms, 10s or 2m".to_owned())
}

fn limit(min: u32, max: u32) -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(i64::from(min)..=i64::from(max))
}

const LIMITS: &str = "Limits";

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default().bold())
    .placeholder(styling::AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Exit status:
  0    done
  1    refused or failed, also doctor if something is missing
  2    the command line is wrong
  3    no kernel pool is attached in this network namespace, or it guards another cgroup
  124  the ports were still taken when --wait was over
  126  run: the program cannot be started
  127  run: the program was not found
  N    run: the status of the program; 128+N if signal N killed it

Environment:
  PORTPOOL_POOL       which pool, unless --pool says: kernel, embedded, auto [default: auto]
  PORTPOOL_RUN_DIR    where the kernel pool shows itself [default: /run/portpool]
  PORTPOOL_STATE_DIR  where persistent blocks and exclusions are on record [default:
                      /var/lib/portpool in the network namespace of process 1, nowhere in others]
  XDG_RUNTIME_DIR     where this user's reservations of the embedded pool are listed

Stdout carries only the answer; everything else goes to stderr.";

const RUN_HELP: &str = "\
The program finds its ports in the environment and in its arguments:
  PORT           the first TCP port, the first UDP port if there is no TCP
  PORTPOOL_TCP   all TCP ports, as ranges with a blank between: 20000-20003 20010
  PORTPOOL_UDP   all UDP ports, likewise
  {port}         in ARGS: as PORT
  {tcp} {udp}    in ARGS: the first port of that transport
  {tcp.1}        in ARGS: TCP port 1, counted from 0 over all of them; likewise {udp.1}
Ports come in the order of the selectors. {{port}} stands for {port} itself; other braces
mean nothing.

SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH and SIGCONT are passed on to the
program, except what the terminal has sent to both already, and what the program itself sends
as long as it is in the process group of portpool: that may have been for the whole group. A
signal that portpool was started to ignore, as with nohup, stays ignored.

With --fd it finds sockets instead, at descriptors 3 and up, and LISTEN_FDS, LISTEN_PID and
LISTEN_FDNAMES (tcp-20000:udp-20000) in the environment.

Exit status: that of the program, 128+N if signal N killed it, 127 if it was not found, 126
if it cannot be started; 1, 2, 3 and 124 of portpool's own as `portpool --help` lists them.

Examples:
  portpool run -t 1 -- python3 -m http.server {port}
  portpool run -p 8080 -u 2 --align 2 -- ./media --rtp {udp.0} --rtcp {udp.1}
  portpool run -p 8000 --fd -- gunicorn app:app";

const KEEPER_HELP: &str = "\
Programs talk to it by Varlink at keeper.sock in the run directory (interface io.portpool),
or at the socket that systemd passes. A second keeper of the same directory is refused.

Environment:
  PORTPOOL_RUN_DIR  where the pool shows itself [default: /run/portpool]
  PORTPOOL_LOG      what is logged: error, warn, info, debug, trace [default: info]

Lines go to the journal if stderr is it, else to stderr.";

const ACQUIRE_HELP: &str = "\
Exit status: 0 once the ports were held and are given back, or with --while once they are
held; 1, 2, 3 and 124 as `portpool --help` lists them.

Examples:
  portpool acquire -p 8080-8083 -p 53/udp
  eval \"$(portpool acquire -t 2 --while $$ --format shell)\"

eval hides that nothing could be reserved, also from set -e. A script that must not go on then:
  ports=$(portpool acquire -t 2 --while $$ --format shell) || exit
  eval \"$ports\"";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "10", "-1s", "s", "1 parsec"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_not_told_keep_their_base() {
        let base = Limits {
            reservations_max: 7,
            ..Limits::DEFAULT
        };
        let parse = |line: &[&str]| match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::Attach(args)) => args.limits,
            other => panic!("{other:?}"),
        };
        let limits = parse(&["portpool", "attach", "--ports-per-uid", "5"]).over(|| base);
        assert_eq!(
            limits.map(|limits| (limits.ports_per_uid_max, limits.reservations_max)),
            Some((5, 7))
        );
        assert_eq!(parse(&["portpool", "attach"]).over(|| base), None);
    }
}
