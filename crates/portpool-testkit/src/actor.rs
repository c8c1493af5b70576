//! Another process, told over a pipe what to do with sockets; see `bin/actor.rs` for what it can.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// An error number as a system call answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// `EACCES`.
    pub const ACCES: Errno = Errno(libc::EACCES);
    /// `EINVAL`.
    pub const INVAL: Errno = Errno(libc::EINVAL);
    /// `EADDRINUSE`.
    pub const ADDRINUSE: Errno = Errno(libc::EADDRINUSE);
    /// `EADDRNOTAVAIL`.
    pub const ADDRNOTAVAIL: Errno = Errno(libc::EADDRNOTAVAIL);
    /// `ENOBUFS`.
    pub const NOBUFS: Errno = Errno(libc::ENOBUFS);
    /// `EOPNOTSUPP`.
    pub const OPNOTSUPP: Errno = Errno(libc::EOPNOTSUPP);
}

/// A process that acts on sockets; killed with this value.
pub struct Actor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one with the caller's uid. `program` is `env!("CARGO_BIN_EXE_portpool-actor")`.
    pub fn start(program: &str) -> Actor {
        Actor::spawn(&mut Command::new(program))
    }

    /// Starts one as another uid and gid, without any privilege.
    pub fn start_as(program: &str, uid: u32) -> Actor {
        Actor::spawn(Command::new(program).uid(uid).gid(uid))
    }

    /// Starts one by a command that ends in running the actor, such as `unshare -n ACTOR`.
    pub fn spawn(command: &mut Command) -> Actor {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let orders = child.stdin.take().expect("the actor's stdin");
        let answers = BufReader::new(child.stdout.take().expect("the actor's stdout"));
        Actor {
            child,
            orders,
            answers,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order without waiting for the answer.
    pub fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}")
            .and_then(|()| self.orders.flush())
            .expect("order the actor");
    }

    /// The answer to the oldest order without one.
    pub fn answer(&mut self) -> Result<String, Errno> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("hear the actor");
        let line = line.trim_end();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ok", value) => Ok(value.to_owned()),
            ("err", number) => Err(Errno(number.parse().expect("an errno"))),
            _ => panic!("the actor answered {line:?}"),
        }
    }

    /// Gives an order and waits for its answer.
    pub fn ask(&mut self, order: &str) -> Result<String, Errno> {
        self.tell(order);
        self.answer()
    }

    /// Gives several orders, one after the other, and answers the first error or the last value.
    pub fn ask_all(&mut self, orders: &[&str]) -> Result<String, Errno> {
        orders
            .iter()
            .try_fold(String::new(), |_, order| self.ask(order))
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().expect("wait for the actor");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
