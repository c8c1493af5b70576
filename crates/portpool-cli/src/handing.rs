//! Handing ports of the embedded pool to the command that `run` starts, and sockets of either pool.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

use clap::{Args, ValueEnum};
use portpool::{
    Reservation, Technique, Transport, Want,
    handover::SocketState,
    process::{close_inherited, exec_with_sockets, tether},
};
use portpool_handover::{Error, Guard, HoldError, Options, Rest};
use rustix::process::{Pid, setsid};

use crate::{
    acquire::Held,
    exit::{Answer, Code, Failure},
    explain::{Explain, Report},
    run::cannot_start,
    selectors::Selectors,
    supervise::supervise,
};

#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "How the program gets its ports")]
pub(crate) struct HandingArgs {
    /// Refuse a bind or listen (EACCES) rather than let others in for a moment.
    ///
    /// The kernel pool never does; the embedded one has to, without CAP_NET_RAW, for some TCP
    /// sockets that are not on a loopback address.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Say on stderr, at the end, how the program got each port.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    pub(crate) explain: Option<Explain>,
    /// What a bind to port 0 gets, in the embedded pool. [default: block for TCP, kernel for UDP]
    ///
    /// In the kernel pool it is what the kernel chooses; the other two are refused there.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "fd")]
    pub(crate) zero: Option<Zero>,
    /// Become the program, and pass it a socket for each port as LISTEN_FDS says.
    ///
    /// For programs that take sockets, as from systemd. The ports are free again when it closes
    /// them.
    #[arg(long)]
    pub(crate) fd: bool,
    /// How far the TCP sockets passed are.
    #[arg(
        long,
        value_enum,
        value_name = "STATE",
        requires = "fd",
        default_value = "listening"
    )]
    pub(crate) fd_state: FdState,
}

/// What a bind to port 0 gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Zero {
    /// A port of the block that nobody uses; what the kernel chooses if there is none.
    Block,
    /// What the kernel chooses.
    Kernel,
    /// EACCES.
    Error,
}

/// How far a socket that is passed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FdState {
    /// They listen, as most programs expect.
    Listening,
    /// They are bound; the program listens itself.
    Bound,
}

/// Runs the command, which is let past the sockets that hold its ports.
pub(crate) fn run(
    mut command: Command,
    mut held: Held,
    selectors: &Selectors,
    args: &HandingArgs,
    report: Report,
) -> Answer {
    let guards = guards(&mut held, selectors, args.strict)?;
    let program = command.get_program().to_owned();
    tether(&mut command);
    let options = options(args);
    let mut served = None;
    let status = supervise(|| {
        let started = portpool_handover::spawn(command, guards, &options);
        let started = started.map_err(|error| match error {
            Error::Spawn { cause } => cannot_start(&program, &cause),
            error => refused(&error),
        })?;
        let started = served.insert(started);
        let id = i32::try_from(started.id()).ok().and_then(Pid::from_raw);
        id.ok_or_else(|| Failure::new(Code::Failed, "the command has no process id"))
    })?;
    if let Some(served) = served {
        let (finished, rest) = served.stop();
        report.handed(&finished).tell(args.explain);
        // The ports end with the command, not with what it leaves behind.
        drop((finished, held));
        rest.map_or(Ok(()), leave)?;
    }
    Ok(status)
}

/// Has a process of its own answer what the command left behind.
fn leave(rest: Rest) -> Result<(), Failure> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("portpool")
        .arg("rest")
        .stdin(OwnedFd::from(rest));
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    started.map(drop).map_err(|error| {
        Failure::failed(
            "processes left behind cannot bind or listen any more",
            error,
        )
    })
}

/// The command `rest`: answers what is left behind, at its stdin, until that has ended.
pub(crate) fn serve_rest() -> Answer {
    close_inherited().map_err(|error| Failure::failed("close what was inherited", error))?;
    let _ = rustix::thread::set_name(c"portpool-rest");
    setsid().map_err(|error| Failure::failed("start a session", error))?;
    drop(std::env::set_current_dir("/"));
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let listener = listener.map_err(|error| Failure::failed("open stdin", error))?;
    let served = Rest::from(listener).serve();
    served.map_err(|error| Failure::failed("answer what was left behind", error))?;
    Ok(0)
}

/// Becomes the command, with a socket for each port. Comes back only with the reason why not.
pub(crate) fn exec(command: Command, held: Held, args: &HandingArgs, report: &Report) -> Failure {
    let state = match args.fd_state {
        FdState::Listening => SocketState::Listening,
        FdState::Bound => SocketState::Bound,
    };
    let mut sockets = Vec::new();
    for reservation in held.into_reservations() {
        match reservation.into_sockets(state) {
            Ok(more) => sockets.extend(more),
            Err(error) => return Failure::new(Code::Failed, error.to_string()),
        }
    }
    let program = command.get_program().to_owned();
    report.passed().tell(args.explain);
    cannot_start(&program, &exec_with_sockets(command, sockets))
}

fn options(args: &HandingArgs) -> Options {
    let mut options = Options::default();
    options.strict = args.strict;
    if let Some(zero) = args.zero {
        let zero = match zero {
            Zero::Block => portpool_handover::Zero::Block,
            Zero::Kernel => portpool_handover::Zero::Kernel,
            Zero::Error => portpool_handover::Zero::Error,
        };
        (options.tcp_zero, options.udp_zero) = (zero, zero);
    }
    options
}

/// The holds of all ports, as the supervisor wants them.
fn guards(held: &mut Held, selectors: &Selectors, strict: bool) -> Result<Vec<Guard>, Failure> {
    let reserve = reserve().map_err(|error| {
        let text = format!(
            "no descriptors are left to hand ports over with: {error}: raise the limit (`ulimit -Hn`) \
             or ask for fewer ports"
        );
        Failure::new(Code::Failed, text)
    })?;
    let mut guards = Vec::new();
    for (reservation, request) in held.reservations_mut().zip(selectors.requests()) {
        // Ports that the kernel let portpool choose are known to nobody yet.
        let is_secret = matches!(request.want, Want::Wildcard(_));
        let needs_twins = needs_twins(reservation) && (is_secret || !strict);
        for hold in reservation.take_holds() {
            let (transport, port) = (hold.transport(), hold.port());
            let mut guard = Guard::new(transport, port, hold.into())
                .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
            if needs_twins {
                add_twins(&mut guard)?;
            }
            guards.push(guard);
        }
    }
    drop(reserve);
    Ok(guards)
}

/// Without privilege a program gets the port of every address only by way of twins.
fn needs_twins(reservation: &Reservation) -> bool {
    reservation.technique(Transport::Tcp, Ipv4Addr::UNSPECIFIED.into()) == Technique::Window
}

/// Where there is no descriptor for them the guard does without: what that means for a bind is decided,
/// and reported, when it comes.
fn add_twins(guard: &mut Guard) -> Result<(), Failure> {
    match guard.add_twins() {
        Err(HoldError::Taken { cause, .. }) if is_out_of_descriptors(&cause) => Ok(()),
        Err(error) => Err(Failure::new(
            Code::Failed,
            format!("{error}: another program was quicker, try again"),
        )),
        Ok(()) => Ok(()),
    }
}

/// Kept free for the supervisor, which opens a few descriptors for each call it serves.
fn reserve() -> io::Result<Vec<File>> {
    (0..RESERVE_COUNT)
        .map(|_| File::open("/dev/null"))
        .collect()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

fn refused(error: &Error) -> Failure {
    let way_out = match error {
        Error::Nested | Error::OtherListener | Error::Unsupported | Error::Filter { .. } => {
            "; or run it with --fd if it takes sockets, or in the kernel pool (`portpool attach` as root)"
        }
        _ => "",
    };
    Failure::new(Code::Failed, format!("{error}{way_out}"))
}

const RESERVE_COUNT: usize = 32;
