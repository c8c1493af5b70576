//! A place of its own for a test: cgroup, network namespace, mount namespace, pool.
//!
//! The pins live in a bpf file system mounted in the private mount namespace, so programs and maps
//! go with the last process of the arena, whatever kills it. The process outside kills what is
//! left in the cgroup and removes it.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use portpool::{Pool, PoolKind};
use portpool_kernel::{AttachOptions, Attached, RunDir};
use tempfile::TempDir;

const CGROUP_VARIABLE: &str = "PORTPOOL_ARENA";
const POOL_VARIABLE: &str = "PORTPOOL_POOL";

/// The arena a test's body runs in.
#[derive(Debug)]
pub struct Arena {
    cgroup: PathBuf,
    run: RunDir,
}

impl Arena {
    /// The cgroup everything in the arena is in.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The run directory of the arena's pool.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// Options that attach to the arena's cgroup.
    pub fn options(&self) -> AttachOptions {
        AttachOptions {
            run: self.run.clone(),
            cgroup: Some(self.cgroup.clone()),
            ranges: None,
            limits: None,
            private_mounts: true,
        }
    }

    /// Attaches a pool.
    pub fn attach(&self) -> Attached {
        portpool_kernel::attach(&self.options()).expect("attach in the arena")
    }

    /// The arena's pool, opened.
    pub fn pool(&self) -> Pool {
        Pool::builder()
            .kind(PoolKind::Kernel)
            .run_dir(self.run.path())
            .open()
            .expect("open the arena's pool")
    }

    fn detach(&self) {
        match portpool_kernel::detach(&self.run, true) {
            Ok(_) | Err(portpool_kernel::Error::NotAttached) => {}
            Err(error) => panic!("detach the arena's pool: {error}"),
        }
    }
}

/// Runs `body` in an arena with an attached pool, in a process of its own. `test` is the path of
/// the test function, as [`in_arena!`](crate::in_arena) finds it.
pub fn isolated(test: &str, body: impl FnOnce(&Arena)) {
    unattached(test, |arena| {
        arena.attach();
        body(arena);
    });
}

/// Like [`isolated`], with no pool attached.
pub fn unattached(test: &str, body: impl FnOnce(&Arena)) {
    match env::var_os(CGROUP_VARIABLE) {
        Some(cgroup) => inside(PathBuf::from(cgroup), body),
        None => outside(test_name(test), None),
    }
}

/// Like [`unattached`], once for each of `kinds`, in an arena where `PORTPOOL_POOL` says it.
pub fn for_each_pool(test: &str, kinds: &[PoolKind], body: impl FnOnce(&Arena)) {
    if let Some(cgroup) = env::var_os(CGROUP_VARIABLE) {
        return inside(PathBuf::from(cgroup), body);
    }
    for kind in kinds {
        println!("in the {kind} pool");
        outside(test_name(test), Some(*kind));
    }
}

/// Runs the whole of a program in an arena with no pool: the program is started again with its own
/// arguments. Its output goes where the program's goes, and so does the code it ends with.
pub fn program(body: impl FnOnce(&Arena) -> ExitCode) -> ExitCode {
    if let Some(cgroup) = env::var_os(CGROUP_VARIABLE) {
        return inside(PathBuf::from(cgroup), body);
    }
    let staging = Staging::prepare();
    let mut command = staging.command(env::args_os().skip(1));
    let mut child = portpool::process::spawn_tethered(&mut command).expect("start the arena");
    let status = child.wait().expect("wait for the arena");
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => panic!("the program in the arena failed: {}", describe(status)),
    }
}

fn inside<T>(cgroup: PathBuf, body: impl FnOnce(&Arena) -> T) -> T {
    bring_loopback_up();
    let arena = Arena {
        cgroup,
        run: RunDir::from_env(),
    };
    let answer = body(&arena);
    arena.detach();
    answer
}

fn outside(test: &str, kind: Option<PoolKind>) {
    let staging = Staging::prepare();
    let mut command = staging.command([
        test,
        "--exact",
        "--nocapture",
        "--include-ignored",
        "--test-threads=1",
    ]);
    if let Some(kind) = kind {
        command.env(POOL_VARIABLE, kind.to_string());
    }
    // Kept from the output of this test: it would count the test twice.
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = portpool::process::spawn_tethered(&mut command).expect("start the arena");
    let output = child.wait_with_output().expect("wait for the arena");
    drop(staging);
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
        panic!("the test in the arena failed: {}", describe(output.status));
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or(-1)),
    }
}

/// `crate::module::test::here` without the crate and `here`: the name libtest knows.
pub fn test_name(path: &str) -> &str {
    let path = path.strip_suffix("::here").unwrap_or(path);
    path.split_once("::").map_or(path, |(_, name)| name)
}

fn bring_loopback_up() {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip link set lo up failed"
    );
}

/// What an arena needs from outside; goes with this value.
struct Staging {
    cgroup: TestCgroup,
    // Made outside, so that nothing in the arena can leave it behind.
    run: TempDir,
}

impl Staging {
    fn prepare() -> Staging {
        assert!(
            rustix::process::geteuid().is_root(),
            "the kernel pool needs root: run this with sudo"
        );
        let cgroup = TestCgroup::create();
        let run = tempfile::Builder::new()
            .prefix("portpool-")
            .tempdir()
            .expect("temporary directory");
        // Everybody may look at a pool, so the way to its pins is open too.
        fs::set_permissions(
            run.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("open the run directory");
        Staging { cgroup, run }
    }

    /// This program, started in the arena.
    fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let program = env::current_exe().expect("own path");
        let mut command = Command::new("sh");
        // The cgroup is entered before any socket is made: hooks follow the cgroup of creation.
        command
            .args([
                "-c",
                "echo $$ > \"$0/cgroup.procs\" && exec unshare -m -n \"$@\"",
            ])
            .arg(&self.cgroup.path)
            .arg(program)
            .args(arguments)
            .env(CGROUP_VARIABLE, &self.cgroup.path)
            .env("PORTPOOL_RUN_DIR", self.run.path().join("run"))
            .env("XDG_RUNTIME_DIR", self.run.path())
            .env_remove(POOL_VARIABLE)
            .env_remove("PORTPOOL_STATE_DIR");
        command
    }
}

/// A cgroup that is emptied and removed with this value.
struct TestCgroup {
    path: PathBuf,
}

impl TestCgroup {
    fn create() -> TestCgroup {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portpool-test-{}-{number}", std::process::id());
        let path = cgroup_mount().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        TestCgroup { path }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        drop(fs::write(self.path.join("cgroup.kill"), "1"));
        while fs::remove_dir(&self.path).is_err() {
            if Instant::now() > deadline {
                eprintln!("could not remove {}", self.path.display());
                return;
            }
            for nested in fs::read_dir(&self.path).into_iter().flatten().flatten() {
                drop(fs::remove_dir(nested.path()));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, with a deadline"
            )]
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn cgroup_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = mounts
        .lines()
        .find(|line| line.contains(" - cgroup2 "))
        .expect("a cgroup2 mount");
    PathBuf::from(line.split(' ').nth(4).expect("a mount point"))
}
