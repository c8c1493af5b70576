//! All interleavings of attach, which begins to count a port and sweeps, with binds, closes and a claim.
//!
//! The steps are those of `sweep.h`, `post_bind.h`, `release.h` and `attach.rs`. What is proved: a port
//! is granted only if every socket on it is counted, and nothing is counted twice or for ever. What is
//! shown: without the wait for programs that run, or with grants before the sweep, there is a
//! counterexample. What the counts of ports and words do to each other is in `model.rs`.

use std::collections::HashSet;

/// How many sockets are bound to the port: by strangers, without a right.
const SOCKETS: usize = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    counting: bool,
    kept: bool,
    claimed: bool,
    bound: i8,
    sockets: [Socket; SOCKETS],
    claim: Claim,
    attach: Attach,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Socket {
    /// Whether its mark says that it is counted.
    is_marked: bool,
    does: Does,
}

/// The socket has its port in all of these but the first, the last and `Refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Does {
    #[default]
    Unbound,
    ReadCounting,
    Raise,
    Mark,
    GiveBackEarlier,
    Judge,
    Undo,
    GiveBack,
    /// Judged without being counted.
    JudgeUncounted,
    Bound,
    Refused,
    /// What the mark said is given back.
    Closing,
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Claim {
    #[default]
    ReadKept,
    SetBit,
    ReadCount,
    ClearBit,
    Granted,
    Refused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Attach {
    #[default]
    StartCounting,
    Wait,
    /// Looks at a socket, and keeps its file open until it goes on.
    Visit(usize),
    Raise(usize),
    Mark(usize),
    Lower(usize),
    Grant,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AsWritten,
    WithoutWait,
    GrantFirst,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Actor {
    Socket(usize),
    Claim,
    Attach,
}

impl World {
    /// What can come of the actor's next step: nothing if it is over or must wait.
    fn next(self, actor: Actor, order: Order) -> Vec<World> {
        match actor {
            Actor::Socket(number) => self.socket(number).into_iter().collect(),
            Actor::Claim => self.claim().into_iter().collect(),
            Actor::Attach => {
                let mut after: Vec<World> = self.attach(order).into_iter().collect();
                if let Attach::Visit(number @ 0..SOCKETS) = self.attach
                    && self.sockets[number].may_be_overlooked()
                {
                    after.push(World {
                        attach: Attach::Visit(number + 1),
                        ..self
                    });
                }
                after
            }
        }
    }

    fn socket(self, number: usize) -> Option<World> {
        let mut after = self;
        let socket = &mut after.sockets[number];
        let verdict = if self.claimed {
            Does::Undo
        } else {
            Does::Bound
        };
        socket.does = match socket.does {
            Does::Unbound => Does::ReadCounting,
            Does::ReadCounting if self.counting => Does::Raise,
            Does::ReadCounting => Does::JudgeUncounted,
            Does::JudgeUncounted if self.claimed => Does::Refused,
            Does::JudgeUncounted => Does::Bound,
            Does::Raise => {
                after.bound += 1;
                Does::Mark
            }
            Does::Mark => match std::mem::replace(&mut socket.is_marked, true) {
                true => Does::GiveBackEarlier,
                false => Does::Judge,
            },
            Does::GiveBackEarlier => {
                after.bound -= 1;
                Does::Judge
            }
            Does::Judge => verdict,
            Does::Undo => match std::mem::take(&mut socket.is_marked) {
                true => Does::GiveBack,
                false => Does::Refused,
            },
            Does::GiveBack => {
                after.bound -= 1;
                Does::Refused
            }
            // The release runs with the last close of the file, and whoever looks at it keeps it open.
            Does::Bound | Does::Refused if self.attach.holds() == Some(number) => return None,
            Does::Bound | Does::Refused => match std::mem::take(&mut socket.is_marked) {
                true => Does::Closing,
                false => Does::Closed,
            },
            Does::Closing => {
                after.bound -= 1;
                Does::Closed
            }
            Does::Closed => return None,
        };
        Some(after)
    }

    fn claim(self) -> Option<World> {
        let mut after = self;
        after.claim = match self.claim {
            // Asked again until it may.
            Claim::ReadKept if !self.kept => return None,
            Claim::ReadKept => Claim::SetBit,
            Claim::SetBit => {
                after.claimed = true;
                Claim::ReadCount
            }
            Claim::ReadCount if self.bound == 0 => Claim::Granted,
            Claim::ReadCount => Claim::ClearBit,
            Claim::ClearBit => {
                after.claimed = false;
                Claim::Refused
            }
            Claim::Granted | Claim::Refused => return None,
        };
        Some(after)
    }

    fn attach(self, order: Order) -> Option<World> {
        let mut after = self;
        after.attach = match self.attach {
            Attach::StartCounting => {
                after.counting = true;
                after.kept = order == Order::GrantFirst;
                Attach::Wait
            }
            Attach::Wait => {
                let runs_on = |socket: &Socket| socket.does == Does::JudgeUncounted;
                if order != Order::WithoutWait && self.sockets.iter().any(runs_on) {
                    return None;
                }
                Attach::Visit(0)
            }
            Attach::Visit(SOCKETS) => Attach::Grant,
            Attach::Visit(number) => {
                let socket = self.sockets[number];
                match socket.has_port() && !socket.is_marked {
                    true => Attach::Raise(number),
                    false => Attach::Visit(number + 1),
                }
            }
            Attach::Raise(number) => {
                after.bound += 1;
                Attach::Mark(number)
            }
            Attach::Mark(number) => {
                match std::mem::replace(&mut after.sockets[number].is_marked, true) {
                    true => Attach::Lower(number),
                    false => Attach::Visit(number + 1),
                }
            }
            Attach::Lower(number) => {
                after.bound -= 1;
                Attach::Visit(number + 1)
            }
            Attach::Grant => {
                after.kept = true;
                Attach::Over
            }
            Attach::Over => return None,
        };
        Some(after)
    }

    /// A port is somebody's, or a stranger's, or nobody's; and in the end nothing is counted.
    fn judge(self, is_over: bool) -> Result<(), String> {
        let is_used = self.sockets.iter().any(|socket| socket.does == Does::Bound);
        if self.claim == Claim::Granted && is_used {
            return Err(format!("claimed and bound: {self:?}"));
        }
        if is_over && self.bound != 0 {
            return Err(format!("counted for ever: {self:?}"));
        }
        if self.bound < 0 {
            return Err(format!("counted too seldom: {self:?}"));
        }
        Ok(())
    }
}

impl Socket {
    /// The kernel stores the port before the program reads whether it is counted, with no barrier
    /// between: another processor may not see it yet. A count, and the program's end, are barriers.
    fn may_be_overlooked(self) -> bool {
        matches!(self.does, Does::ReadCounting | Does::JudgeUncounted)
    }

    fn has_port(self) -> bool {
        !matches!(
            self.does,
            Does::Unbound | Does::Refused | Does::Closing | Does::Closed
        )
    }
}

impl Attach {
    /// The socket whose file it keeps open.
    fn holds(self) -> Option<usize> {
        match self {
            Attach::Raise(number) | Attach::Mark(number) | Attach::Lower(number) => Some(number),
            _ => None,
        }
    }
}

/// Runs every interleaving; the number of states, or one that must not be.
fn explore(order: Order) -> Result<usize, String> {
    let mut actors: Vec<Actor> = (0..SOCKETS).map(Actor::Socket).collect();
    actors.extend([Actor::Claim, Actor::Attach]);
    let start = World::default();
    let mut seen = HashSet::from([start]);
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        let mut is_over = true;
        for actor in &actors {
            for after in world.next(*actor, order) {
                is_over = false;
                if seen.insert(after) {
                    open.push(after);
                }
            }
        }
        world.judge(is_over)?;
    }
    Ok(seen.len())
}

#[test]
fn no_interleaving_with_the_sweep_grants_a_bound_port_or_counts_for_ever() {
    let states = explore(Order::AsWritten).expect("right");
    println!("{states} states");
}

#[test]
fn sweeping_without_waiting_for_running_binds_would_grant_a_bound_port() {
    let error = explore(Order::WithoutWait).expect_err("a counterexample");
    assert!(error.starts_with("claimed and bound"), "{error}");
}

#[test]
fn granting_before_the_sweep_would_grant_a_bound_port() {
    let error = explore(Order::GrantFirst).expect_err("a counterexample");
    assert!(error.starts_with("claimed and bound"), "{error}");
}
