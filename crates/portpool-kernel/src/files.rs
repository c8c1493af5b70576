//! Where the pins and the notes of a pool are.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use portpool_core::abi;
use rustix::fs::{FlockOperation, flock};

use crate::error::{Failed, Step};

/// The run directory: `PORTPOOL_RUN_DIR`, else `/run/portpool`.
///
/// ```text
/// RUN_DIR/lock                       one attach or detach at a time
/// RUN_DIR/events-lock                one reader of events at a time
/// RUN_DIR/reserved-COOKIE            what is ours in ip_local_reserved_ports
/// RUN_DIR/bpf/                       portpool's own bpf file system
/// RUN_DIR/bpf/abi-2                  the layout version
/// RUN_DIR/bpf/maps/, links/          maps and links of the one program set
/// RUN_DIR/bpf/pool-COOKIE/           maps of one network namespace's pool
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The directory the environment names.
    pub fn from_env() -> RunDir {
        RunDir(env::var_os("PORTPOOL_RUN_DIR").map_or_else(|| "/run/portpool".into(), Into::into))
    }

    /// A directory of one's own.
    pub fn new(path: impl Into<PathBuf>) -> RunDir {
        RunDir(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn bpf(&self) -> PathBuf {
        self.0.join("bpf")
    }

    pub(crate) fn version(&self) -> PathBuf {
        self.bpf().join(format!("abi-{}", abi::VERSION))
    }

    pub(crate) fn maps(&self) -> PathBuf {
        self.bpf().join("maps")
    }

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.bpf().join("links")
    }

    pub(crate) fn pool(&self, cookie: u64) -> PathBuf {
        self.bpf().join(format!("pool-{cookie}"))
    }

    /// What another version left in the bpf file system, if anything.
    pub(crate) fn other_version(&self) -> Option<String> {
        let entries = fs::read_dir(self.bpf()).ok()?;
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let own = format!("abi-{}", abi::VERSION);
        names
            .filter(|name| *name != own)
            .find_map(|name| name.strip_prefix("abi-").map(Into::into))
    }

    /// Makes the directory and takes its lock; blocks while another attach or detach runs.
    pub(crate) fn lock(&self) -> Result<File, Failed> {
        let what = || format!("make {}", self.0.display());
        if !self.0.is_dir() {
            fs::create_dir_all(&self.0).step(what)?;
            fs::set_permissions(&self.0, fs::Permissions::from_mode(0o755)).step(what)?;
        }
        self.locked("lock", FlockOperation::LockExclusive)
    }

    /// Takes the lock of the one reader of events, or says that another has it.
    pub(crate) fn lock_events(&self) -> Result<File, Failed> {
        self.locked("events-lock", FlockOperation::NonBlockingLockExclusive)
    }

    fn locked(&self, name: &str, how: FlockOperation) -> Result<File, Failed> {
        let path = self.0.join(name);
        let what = || format!("lock {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            // Who can open it can lock it.
            .mode(0o600)
            .open(&path)
            .step(what)?;
        flock(&file, how).step(what)?;
        Ok(file)
    }

    /// What is ours in `ip_local_reserved_ports`, for a pool.
    pub(crate) fn ledger(&self, cookie: u64) -> PathBuf {
        self.0.join(format!("reserved-{cookie}"))
    }
}
