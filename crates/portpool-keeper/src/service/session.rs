//! One peer: its calls, one after the other, each answered in time or not at all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portpool::Caller;
use portpool_varlink::{
    Call, Connection, ConnectionError, Fault, Peer, Reply, ServiceAnswer, ServiceCard,
    calls::{
        Acquire, Describe, Done, Exclude, Granted as Answer, Happened, List, Lookup, Method,
        Persist, Release, Unexclude, Unpersist, Watch,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    grants::{Applicant, Granted, Held, Request, Woken},
    hub::Waiter,
    keeper::Keeper,
    limits::{CALL_TIMEOUT, IDLE_TIMEOUT, REPLY_TIMEOUT},
    pool_world::PoolWorld,
};

/// A connection and what it holds.
pub(super) struct Session {
    keeper: Arc<Keeper>,
    connection: Connection,
    peer: Peer,
    /// As the kernel is to know it; nothing if the process was gone already.
    caller: Option<Caller>,
    held: Vec<Held<PoolWorld>>,
}

impl Session {
    /// A session with a peer.
    pub(super) fn new(keeper: Arc<Keeper>, connection: Connection, peer: Peer) -> Session {
        let caller = super::caller::of(&peer);
        Session {
            keeper,
            connection,
            peer,
            caller,
            held: Vec::new(),
        }
    }

    /// Answers until the peer goes, is too slow, or sends what is no call.
    pub(super) fn run(mut self) {
        let (uid, pid) = (self.peer.uid, self.peer.pid);
        match self.serve() {
            Ok(()) | Err(ConnectionError::Closed) => tracing::trace!(uid, pid, "disconnected"),
            Err(error) => tracing::debug!(uid, pid, %error, "connection ended"),
        }
    }

    fn serve(&mut self) -> Result<(), ConnectionError> {
        loop {
            let idle = Instant::now() + IDLE_TIMEOUT;
            let received = self.connection.receive(Some(idle), CALL_TIMEOUT)?;
            let call: Call = serde_json::from_slice(&received.text)
                .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
            if call.upgrade {
                return Err(ConnectionError::Malformed(
                    "there is nothing to upgrade to".to_owned(),
                ));
            }
            let (method, is_oneway) = (call.method.clone(), call.oneway);
            tracing::trace!(uid = self.peer.uid, pid = self.peer.pid, method, "call");
            let answer = match CARD.answer(&call) {
                Ok(ServiceAnswer::Reply(parameters)) => Ok(parameters),
                Ok(ServiceAnswer::Method(name)) if name == "Watch" => match self.watch(&call) {
                    Ok(()) => return self.stream(),
                    Err(fault) => Err(fault),
                },
                Ok(ServiceAnswer::Method(name)) => {
                    self.dispatch(&name, call, &received.descriptors)
                }
                Err(fault) => Err(fault),
            };
            drop(received);
            self.count(&method, answer.is_ok());
            if is_oneway {
                continue;
            }
            let reply = match answer {
                Ok(parameters) => Reply {
                    parameters: Some(parameters),
                    ..Reply::default()
                },
                Err(fault) => Reply {
                    parameters: Some(fault.parameters()),
                    error: Some(fault.name().to_owned()),
                    continues: false,
                },
            };
            self.send(&reply)?;
        }
    }

    fn dispatch(
        &mut self,
        name: &str,
        call: Call,
        passed: &[std::os::fd::OwnedFd],
    ) -> Result<Map<String, Value>, Fault> {
        if name == "Describe" {
            let Describe {} = parse(call)?;
            return said(&self.keeper.describe()?);
        }
        // The namespace before all else, once it is known: what is here is nobody's business elsewhere.
        if name == "Acquire" {
            let asked: Acquire = parse(call)?;
            let socket = match asked.socket {
                None => None,
                Some(index) => match passed.get(index as usize) {
                    None => return Err(Fault::InvalidParameter("socket".to_owned())),
                    passed => passed,
                },
            };
            self.keeper.access.check_namespace(&self.peer, socket)?;
            return self.acquire(&asked);
        }
        self.keeper.access.check_namespace(&self.peer, None)?;
        let keeper = Arc::clone(&self.keeper);
        match name {
            "Release" => self.release(parse(call)?),
            "Lookup" => said(&keeper.lookup(parse::<Lookup>(call)?)?),
            "List" => {
                let is_administrator = keeper.access.is_administrator(&self.peer);
                said(&keeper.list(&parse::<List>(call)?, is_administrator)?)
            }
            "Persist" => said(
                &self
                    .for_administrators()?
                    .persist(&parse::<Persist>(call)?)?,
            ),
            "Unpersist" => said(
                &self
                    .for_administrators()?
                    .unpersist(parse::<Unpersist>(call)?)?,
            ),
            "Exclude" => said(
                &self
                    .for_administrators()?
                    .exclude(&parse::<Exclude>(call)?)?,
            ),
            "Unexclude" => said(
                &self
                    .for_administrators()?
                    .unexclude(parse::<Unexclude>(call)?)?,
            ),
            _ => Err(Fault::MethodNotFound(call.method)),
        }
    }

    fn for_administrators(&self) -> Result<&Keeper, Fault> {
        self.keeper.access.check_administrator(&self.peer)?;
        Ok(&self.keeper)
    }

    fn acquire(&mut self, asked: &Acquire) -> Result<Map<String, Value>, Fault> {
        let request = Request::parse(asked)?;
        let Some(caller) = self.caller else {
            return Err(Fault::Failed(
                "the process that connected has ended, or is not to be seen from here: connect from the \
                 process that is to own the ports"
                    .to_owned(),
            ));
        };
        // Before who asks is looked at, and what it takes to wait is made: most ports are to be had so.
        if let Some(range) = self.keeper.grants.free_for_all(&request)? {
            let deadline = None;
            return said(&Answer { range, deadline });
        }
        let applicant = Applicant {
            caller,
            is_administrator: self.keeper.access.is_administrator(&self.peer),
        };
        let failed = |error: std::io::Error| Fault::Failed(format!("cannot wait: {error}"));
        let waiter = self.keeper.hub.wait().map_err(failed)?;
        let connection = &self.connection;
        let granted = self
            .keeper
            .grants
            .acquire(applicant, &request, |time| pause(connection, &waiter, time))?;
        let answer = match granted {
            Granted::Open(range) => Answer {
                range,
                deadline: None,
            },
            Granted::Window(held) => {
                let answer = Answer {
                    range: held.range(),
                    deadline: Some(held.deadline()),
                };
                self.held.push(held);
                answer
            }
        };
        said(&answer)
    }

    fn release(&mut self, asked: Release) -> Result<Map<String, Value>, Fault> {
        let count = self.held.len();
        // What was claimed meanwhile stays with its block.
        self.held.retain(|held| held.range() != asked.range);
        match self.held.len() < count {
            true => said(&Done {}),
            false => Err(Fault::NotFound(format!(
                "{}: this connection was not granted exactly these ports",
                asked.range
            ))),
        }
    }

    fn watch(&self, call: &Call) -> Result<(), Fault> {
        if !call.more {
            return Err(Fault::ExpectedMore);
        }
        let Watch {} = parse(call.clone())?;
        self.keeper.access.check_namespace(&self.peer, None)
    }

    fn stream(&mut self) -> Result<(), ConnectionError> {
        let failed = |call| move |cause| ConnectionError::Io { call, cause };
        let watcher = self.keeper.hub.watch().map_err(failed("eventfd"))?;
        self.count(Watch::NAME, true);
        let mut next = Some(Happened::default());
        loop {
            while let Some(happened) = next {
                let parameters = said(&happened)
                    .map_err(|fault| ConnectionError::Malformed(fault.to_string()))?;
                self.send(&Reply {
                    parameters: Some(parameters),
                    continues: true,
                    error: None,
                })?;
                next = watcher.take();
            }
            let mut fds = [
                PollFd::new(&watcher, PollFlags::IN),
                PollFd::new(&self.connection, PollFlags::RDHUP),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("poll")(error.into())),
            }
            if self.connection.is_gone() {
                return Err(ConnectionError::Closed);
            }
            next = watcher.take();
        }
    }

    fn send(&mut self, reply: &Reply) -> Result<(), ConnectionError> {
        self.connection
            .send(reply, &[], Instant::now() + REPLY_TIMEOUT)
    }

    /// Counts by the names of the interface alone: what strangers call is one more.
    fn count(&self, method: &str, is_ok: bool) {
        let known = METHODS.iter().find(|name| **name == method);
        self.keeper
            .metrics
            .called(known.copied().unwrap_or("other"), is_ok);
    }
}

/// Waits until something has happened, the time is over, or the peer is gone.
fn pause(connection: &Connection, waiter: &Waiter, time: Duration) -> Woken {
    let timeout = Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    let mut fds = [
        PollFd::new(waiter, PollFlags::IN),
        PollFd::new(connection, PollFlags::RDHUP),
    ];
    // Interrupted is as good as woken: the caller looks again.
    let _ = poll(&mut fds, Some(&timeout));
    waiter.reset();
    match connection.is_gone() {
        true => Woken::Gone,
        false => Woken::Again,
    }
}

pub(super) fn parse<M: Method>(call: Call) -> Result<M, Fault> {
    let parameters = Value::Object(call.parameters.unwrap_or_default());
    serde_json::from_value(parameters).map_err(|error| {
        let text = error.to_string();
        // serde puts the name of a field that is missing or unknown in backticks.
        let name = text.split('`').nth(1).unwrap_or("parameters");
        Fault::InvalidParameter(name.to_owned())
    })
}

fn said(reply: &impl Serialize) -> Result<Map<String, Value>, Fault> {
    match serde_json::to_value(reply) {
        Ok(Value::Object(parameters)) => Ok(parameters),
        _ => Err(Fault::Failed("the answer cannot be written".to_owned())),
    }
}

const CARD: ServiceCard = ServiceCard {
    vendor: "portpool",
    product: "portpool keeper",
    version: env!("CARGO_PKG_VERSION"),
    url: "https://varlink.org",
};

const METHODS: [&str; 10] = [
    Acquire::NAME,
    Describe::NAME,
    Exclude::NAME,
    List::NAME,
    Lookup::NAME,
    Persist::NAME,
    Release::NAME,
    Unexclude::NAME,
    Unpersist::NAME,
    Watch::NAME,
];
