//! Stands in for the keeper: makes ports grantable and keeps persistent blocks with the real
//! administration, its records and the real kernel pool, and answers over the real interface. Access is
//! judged by the user alone, and there is one thread for each connection.
//!
//! It answers while the file `open` is there, so that a test can have an operation pending; the file
//! `restart` has it open its records anew, as after its end, and `reboot` as after another boot: the pool
//! is gone and the boot's id is another. They go when that is done.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    process::Command,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use portpool::{Caller, Pool, PoolKind, PortRange, RangeSet, Refusal};
use portpool_keeper::{Admin, AdminError, StateDir, admin::Persist};
use portpool_kernel::Reason;
use portpool_testkit::Arena;
use portpool_varlink::{Call, Connection, Fault, Peer, Reply, calls};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The keeper of an arena.
pub(crate) struct Keeper<'a> {
    arena: &'a Arena,
    state: TempDir,
    admin: Mutex<Admin>,
    has_ended: AtomicBool,
}

impl<'a> Keeper<'a> {
    /// Over fresh records and the arena's pool.
    pub(crate) fn new(arena: &'a Arena) -> Keeper<'a> {
        let state = tempfile::tempdir().expect("a folder for records");
        let admin = Mutex::new(open(arena, &state));
        let has_ended = AtomicBool::new(false);
        Keeper {
            arena,
            state,
            admin,
            has_ended,
        }
    }

    /// Runs `work` while the keeper listens.
    pub(crate) fn serve(&self, work: impl FnOnce()) {
        let listener = UnixListener::bind(self.file("keeper.sock")).expect("listen");
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(self.file("keeper.sock"), everybody).expect("let everybody ask");
        listener.set_nonblocking(true).expect("do not block");
        fs::write(self.gate(), "").expect("open the gate");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !self.has_ended.load(Ordering::Acquire) {
                    match listener.accept() {
                        Ok((stream, _)) => self.answer_in_thread(scope, OwnedFd::from(stream)),
                        Err(_) => pause(),
                    }
                    self.restart_if_asked();
                }
            });
            // Also when `work` fails, or the scope would wait for ever.
            let _end = End(&self.has_ended);
            work();
        });
    }

    /// The administration that it uses.
    pub(crate) fn admin(&self) -> MutexGuard<'_, Admin> {
        self.admin.lock().expect("the administration")
    }

    /// The file that has to be there for an answer.
    pub(crate) fn gate(&self) -> PathBuf {
        self.file("open")
    }

    /// A shell command that has it do what a file of this name asks for, and waits for that.
    pub(crate) fn command(&self, name: &str) -> String {
        let file = self.file(name);
        let file = file.display();
        format!("touch {file}; while [ -e {file} ]; do sleep 0.01; done")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.arena.run().path().join(name)
    }

    fn restart_if_asked(&self) {
        for name in ["restart", "reboot"] {
            if !self.file(name).exists() {
                continue;
            }
            let mut admin = self.admin();
            if name == "reboot" {
                self.boot();
            }
            *admin = open(self.arena, &self.state);
            admin.reconcile().expect("reconcile");
            fs::remove_file(self.file(name)).expect("tell that it is done");
        }
    }

    /// Leaves of the pool what a boot leaves. The mount is seen in the arena alone.
    fn boot(&self) {
        portpool_kernel::detach(self.arena.run(), true).expect("detach");
        let file = self.state.path().join("boot_id");
        fs::write(&file, "00000000-0000-4000-8000-000000000118\n").expect("write a boot's id");
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(file).arg(BOOT_ID);
        assert!(mount.status().expect("run mount").success(), "{mount:?}");
        self.arena.attach();
    }

    fn answer_in_thread<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, socket: OwnedFd) {
        scope.spawn(move || {
            let peer = Peer::of(&socket).expect("who asks");
            let mut connection = Connection::new(socket);
            while !self.has_ended.load(Ordering::Acquire) && !connection.is_gone() {
                if !self.gate().exists() {
                    pause();
                    continue;
                }
                match connection.try_receive() {
                    Ok(Some(received)) => {
                        let call: Call = serde_json::from_slice(&received.text).expect("a call");
                        let reply = reply_of(self.decide(&peer, call));
                        // Before the answer, as the keeper does: a reservation lives as long as any
                        // copy of its owner socket.
                        drop(received);
                        // The asker may hang up at any moment.
                        drop(connection.send(&reply, &[], Instant::now() + LONG));
                    }
                    Ok(None) => pause(),
                    Err(_) => return,
                }
            }
        });
    }

    fn decide(&self, peer: &Peer, call: Call) -> Result<Value, Fault> {
        let method = call.method.as_str();
        let said = Value::Object(call.parameters.unwrap_or_default());
        match method {
            "io.portpool.Acquire" => self.grant(peer, &parsed(said)?),
            "io.portpool.Lookup" => {
                let lookup: calls::Lookup = parsed(said)?;
                let token = self.admin().lookup(lookup.transport, lookup.range);
                value(&calls::Named {
                    token: token.map_err(fault)?,
                })
            }
            _ if peer.uid != 0 => Err(Fault::NotAllowed("only root may".to_owned())),
            "io.portpool.Persist" => {
                let persist: calls::Persist = parsed(said)?;
                let made = self.admin().persist(&Persist {
                    transports: persist.transports,
                    range: persist.range,
                    group: None,
                    note: None,
                });
                let blocks = made.map_err(fault)?.into_iter().map(|made| calls::Block {
                    transport: made.transport,
                    token: made.token,
                });
                value(&calls::Persisted {
                    blocks: blocks.collect(),
                })
            }
            "io.portpool.Unpersist" => {
                let unpersist: calls::Unpersist = parsed(said)?;
                let gone = self
                    .admin()
                    .unpersist(unpersist.transports, unpersist.range);
                gone.map_err(fault)?;
                Ok(Value::Object(Map::new()))
            }
            other => Err(Fault::MethodNotImplemented(other.to_owned())),
        }
    }

    fn grant(&self, peer: &Peer, acquire: &calls::Acquire) -> Result<Value, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Failed(error.to_string());
        let range: PortRange = acquire
            .range
            .ok_or(Fault::InvalidParameter("range".to_owned()))?;
        // One at a time, as all that changes the sysctl.
        let _turn = self.admin();
        let ports: RangeSet = [range].into_iter().collect();
        portpool_kernel::make_grantable(self.arena.run(), Reason::Granted, &ports)
            .map_err(|error| failed(&error))?;
        let pool = self.arena.pool();
        assert_eq!(pool.kind(), PoolKind::Kernel);
        let deadline = Pool::since_boot() + u64::try_from(LONG.as_nanos()).expect("a short time");
        for transport in acquire.transports.iter() {
            let caller = Caller {
                uid: peer.uid,
                pid: peer.pid,
                start_ticks: start_ticks(peer.pid),
            };
            pool.open_window(transport, range, caller, deadline)
                .map_err(|error| match error.refusal() {
                    Some(refusal) => Fault::refused(refusal, error.to_string()),
                    None => failed(&error),
                })?;
        }
        let deadline = Some(deadline);
        value(&calls::Granted { range, deadline })
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn open(arena: &Arena, state: &TempDir) -> Admin {
    let state = StateDir::new(state.path().join("state"));
    Admin::open(arena.run(), &state).expect("open the administration")
}

fn parsed<T: DeserializeOwned>(said: Value) -> Result<T, Fault> {
    serde_json::from_value(said).map_err(|error| Fault::InvalidParameter(error.to_string()))
}

fn value(answer: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(answer).map_err(|error| Fault::Failed(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn fault(error: AdminError) -> Fault {
    let text = error.to_string();
    match error {
        AdminError::SharingViolation { .. } => Fault::refused(Refusal::InUse, text),
        AdminError::NotFound { .. } => Fault::NotFound(text),
        AdminError::AccessDenied { .. } => Fault::NotAllowed(text),
        _ => Fault::Failed(text),
    }
}

fn reply_of(decided: Result<Value, Fault>) -> Reply {
    match decided {
        Ok(value) => Reply {
            parameters: value.as_object().cloned(),
            ..Reply::default()
        },
        Err(fault) => Reply {
            error: Some(fault.name().to_owned()),
            parameters: Some(fault.parameters()),
            ..Reply::default()
        },
    }
}

/// The 22nd word of the process's line, counted behind its name, which may have spaces.
fn start_ticks(pid: u32) -> u64 {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = line.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().nth(19);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "polls a condition, which has a deadline elsewhere"
)]
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const LONG: Duration = Duration::from_secs(20);
