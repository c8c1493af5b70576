//! The path of a cgroup that the pool knows by its id.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The cgroup v2 directory with this id, if it is mounted here. The root of the hierarchy has id 1.
pub(crate) fn path_of(id: u64) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let root = mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system
            .starts_with("cgroup2 ")
            .then(|| mount.split(' ').nth(4))?
    })?;
    search(Path::new(root), id)
}

/// The cgroup v2 of this process, as it is named here.
pub(crate) fn own() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.map(str::to_owned)
}

fn search(directory: &Path, id: u64) -> Option<PathBuf> {
    if fs::metadata(directory).ok()?.ino() == id {
        return Some(directory.to_owned());
    }
    let entries = fs::read_dir(directory).ok()?.flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .into_iter()
        .find_map(|entry| search(&entry.path(), id))
}

pub(crate) const ROOT_ID: u64 = 1;
