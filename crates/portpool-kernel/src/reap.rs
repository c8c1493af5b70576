//! Pools of network namespaces that are gone.
//!
//! The kernel does not say which cookies live. A pool is taken to be dead only if nothing in it is
//! reserved or bound, and no process, no open file and no mount of any process still names a
//! namespace with its cookie: doubt keeps it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    thread,
};

use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::{
    detach::forget_added,
    error::{Error, Failed, Step},
    files::RunDir,
    namespace::NetNamespace,
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
    let living = living_cookies()?;
    let dead: Vec<u64> = idle
        .into_iter()
        .filter(|cookie| !living.contains(cookie))
        .collect();
    for cookie in &dead {
        let index = pools.config(*cookie)?.map(|config| config.index);
        pools.remove(*cookie)?;
        pools.remove_maps(*cookie, index);
        // Its sysctl went with it.
        forget_added(run, *cookie, &portpool_core::RangeSet::new())?;
    }
    Ok(dead.len())
}

/// Cookies of all namespaces that some process is in, holds open or has mounted.
fn living_cookies() -> Result<BTreeSet<u64>, Failed> {
    let mut seen = BTreeSet::new();
    let mut cookies = BTreeSet::new();
    for path in namespace_files() {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        if seen.insert((metadata.dev(), metadata.ino())) {
            cookies.insert(cookie_of(file).step(|| format!("enter {}", path.display()))?);
        }
    }
    Ok(cookies)
}

/// Files that stand for network namespaces.
fn namespace_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return files;
    };
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in processes.flatten() {
        if !process.file_name().to_str().is_some_and(is_pid) {
            continue;
        }
        let process = process.path();
        let tasks = fs::read_dir(process.join("task"))
            .into_iter()
            .flatten()
            .flatten();
        files.extend(tasks.map(|task| task.path().join("ns/net")));
        let open = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        files.extend(
            open.map(|fd| fd.path())
                .filter(|path| names_namespace(path)),
        );
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        let root = process.join("root");
        files.extend(
            mounts
                .lines()
                .filter_map(mounted_namespace)
                .map(|path| root.join(path)),
        );
    }
    files
}

fn names_namespace(path: &std::path::Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
}

/// The mount point, relative to the root, of a network namespace in a line of mountinfo.
fn mounted_namespace(line: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(3);
    let root = words.next()?;
    let point = words.next()?;
    root.starts_with("net:[")
        .then(|| PathBuf::from(point.trim_start_matches('/')))
}

/// The cookie of a namespace, found by going there in a thread that ends.
fn cookie_of(namespace: File) -> std::io::Result<u64> {
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
        .map_err(|_| std::io::Error::other("the visiting thread died"))?
}
