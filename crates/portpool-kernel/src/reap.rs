//! Pools of network namespaces that are gone.
//!
//! The kernel does not say which cookies live. A pool is taken to be dead only if nothing in it is
//! reserved or bound, and no process, no open file and no mount of any process still names a
//! namespace with its cookie: doubt keeps it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::{
    error::{Error, Failed, Step},
    files::RunDir,
    ledger,
    namespace::{NetNamespace, is_nested_pid_namespace},
    pool::Pools,
};

/// Takes away the pools of dead namespaces; how many there were.
pub(crate) fn dead_namespaces(
    run: &RunDir,
    pools: &Pools,
    own: NetNamespace,
) -> Result<usize, Error> {
    let mut idle = Vec::new();
    for cookie in pools.cookies()? {
        // Maps that cannot be read say nothing, so the pool stays.
        if cookie != own.cookie
            && pools
                .maps(cookie)
                .and_then(|maps| maps.is_idle())
                .unwrap_or(false)
        {
            idle.push(cookie);
        }
    }
    if idle.is_empty() {
        return Ok(0);
    }
    // From here the processes that hold the others cannot be seen.
    if is_nested_pid_namespace() {
        return Ok(0);
    }
    let Some(living) = living_cookies()? else {
        return Ok(0);
    };
    let dead: Vec<u64> = idle
        .into_iter()
        .filter(|cookie| !living.contains(cookie))
        .collect();
    for cookie in &dead {
        let index = pools.config(*cookie)?.map(|config| config.index);
        pools.remove(*cookie)?;
        pools.remove_maps(*cookie, index);
        // Its sysctl went with it.
        ledger::forget(run, *cookie)?;
    }
    Ok(dead.len())
}

/// Cookies of all namespaces that some process is in, holds open or has mounted; `None` if a
/// shortage kept us from looking. Processes that may not be looked into at all are passed over.
fn living_cookies() -> Result<Option<BTreeSet<u64>>, Failed> {
    let mut seen = BTreeSet::new();
    let mut cookies = BTreeSet::new();
    let Ok(files) = namespace_files() else {
        return Ok(None);
    };
    for path in files {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_shortage(&error) => return Ok(None),
            Err(_) => continue,
        };
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        if seen.insert((metadata.dev(), metadata.ino())) {
            cookies.insert(cookie_of(file).step(|| format!("enter {}", path.display()))?);
        }
    }
    Ok(Some(cookies))
}

/// Whether an error is about ourselves rather than about what was looked at.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// Files that stand for network namespaces.
fn namespace_files() -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in entries(Path::new("/proc"))? {
        let name = process.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(is_pid) {
            continue;
        }
        let tasks = entries(&process.join("task"))?;
        files.extend(tasks.iter().map(|task| task.join("ns/net")));
        let open = entries(&process.join("fd"))?;
        files.extend(open.into_iter().filter(|path| names_namespace(path)));
        let mounts = match fs::read_to_string(process.join("mountinfo")) {
            Err(error) if is_shortage(&error) => return Err(error),
            mounts => mounts.unwrap_or_default(),
        };
        let root = process.join("root");
        let mounted = mounts.lines().filter_map(mounted_namespace);
        files.extend(mounted.map(|path| root.join(path)));
    }
    Ok(files)
}

/// What is in a directory; nothing if it cannot be read, as that of a process that has ended.
fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

fn names_namespace(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
}

/// The mount point, relative to the root, of a network namespace in a line of mountinfo.
pub(crate) fn mounted_namespace(line: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(3);
    let root = words.next()?;
    let point = words.next()?;
    root.starts_with("net:[")
        .then(|| PathBuf::from(point.trim_start_matches('/')))
}

/// The cookie of a namespace, found by going there in a thread that ends.
fn cookie_of(namespace: File) -> io::Result<u64> {
    let visit = thread::spawn(move || {
        move_into_thread_name_spaces(
            std::os::fd::AsFd::as_fd(&namespace),
            ThreadNameSpaceType::NETWORK,
        )?;
        NetNamespace::current()
            .map(|found| found.cookie)
            .map_err(|failed| failed.cause)
    });
    visit
        .join()
        .map_err(|_| io::Error::other("the visiting thread died"))?
}
