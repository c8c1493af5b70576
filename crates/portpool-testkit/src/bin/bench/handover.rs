//! What a program pays that is handed its ports: its binds and listens, and all its other calls.
//!
//! Two children do the same, one under the supervisor and one not, and time it themselves.

use std::{
    cell::RefCell,
    env,
    io::{BufRead, BufReader, Write, stdin, stdout},
    os::fd::OwnedFd,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use portpool::{Port, Transport};
use portpool_handover::{Guard, Options, Supervised, spawn};
use rustix::{net::listen, process::getppid};

use crate::{
    meter::{Comparison, Subject, compare, nanoseconds},
    report::Report,
    stage::{POOL_FIRST, Side, Stage, bind_to, socket},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    stage.enter(Side::Unguarded);
    let first = POOL_FIRST + 1;
    let guards = (first..first + BURST).map(|port| {
        let port = Port::new(port).expect("a port");
        Guard::hold(Transport::Tcp, port).expect("hold")
    });
    let mut supervised = spawn(child(first), guards.collect(), &Options::default());
    let supervised_child = supervised.as_mut().expect("start").child();
    let handed = RefCell::new(Pipes::of(supervised_child));
    let mut direct = child(first + BURST).spawn().expect("start");
    let plain = RefCell::new(Pipes::of(&mut direct));
    let ratio = |order: &str| compared(stage, &handed, &plain, order);
    report.add("handover/bind", 40.0, ratio("bind"));
    report.add("handover/listen", 40.0, ratio("listen"));
    report.add("handover/other_syscalls", 2.0, ratio("other"));
    drop((handed, plain));
    direct.wait().expect("wait");
    drop(supervised.map(Supervised::finish));
}

fn compared(
    stage: &Stage,
    handed: &RefCell<Pipes>,
    plain: &RefCell<Pipes>,
    order: &str,
) -> Comparison {
    let handed = Subject::timed(Side::Unguarded, || handed.borrow_mut().ask(order));
    let plain = Subject::timed(Side::Unguarded, || plain.borrow_mut().ask(order));
    compare(stage, handed, plain)
}

/// This program, as one that binds the ports from `first` on.
fn child(first: u16) -> Command {
    let mut command = Command::new(env::current_exe().expect("own path"));
    command.args([CHILD, &first.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

struct Pipes {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pipes {
    fn of(child: &mut std::process::Child) -> Pipes {
        Pipes {
            orders: child.stdin.take().expect("a pipe"),
            answers: BufReader::new(child.stdout.take().expect("a pipe")),
        }
    }

    /// Nanoseconds of one call.
    fn ask(&mut self, order: &str) -> f64 {
        writeln!(self.orders, "{order}").expect("order");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim_end().parse().expect("nanoseconds")
    }
}

/// The child: times one burst of what each line of its input says.
pub(crate) fn obey(first: u16) {
    for line in stdin().lines() {
        let line = line.expect("an order");
        let sockets: Vec<OwnedFd> = (0..BURST).map(|_| socket(Transport::Tcp)).collect();
        let bind_all = || {
            for (port, socket) in (first..).zip(&sockets) {
                bind_to(socket, port);
            }
        };
        let time = match &*line {
            "bind" => timed(BURST.into(), bind_all),
            "listen" => {
                bind_all();
                timed(BURST.into(), || {
                    sockets.iter().for_each(|it| listen(it, 1).expect("listen"));
                })
            }
            "other" => timed(OTHER_COUNT, || {
                for _ in 0..OTHER_COUNT {
                    let _ = getppid();
                }
            }),
            _ => panic!("unknown order {line:?}"),
        };
        writeln!(stdout(), "{time}").expect("answer");
    }
}

fn timed(count: u32, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    nanoseconds(start.elapsed(), count)
}

/// The word that makes this program the child.
pub(crate) const CHILD: &str = "--child";
const BURST: u16 = 16;
const OTHER_COUNT: u32 = 256;
