//! Finding the cgroup v2 hierarchy and a cgroup in it.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::error::{Error, Step};

/// A cgroup, opened.
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
    pub(crate) directory: File,
    /// As the kernel numbers it: the inode of its directory.
    pub(crate) id: u64,
}

impl Cgroup {
    /// Opens the cgroup at `path`, the root of the hierarchy if `None`.
    pub(crate) fn open(path: Option<&Path>) -> Result<Cgroup, Error> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => mount_point().ok_or(Error::NoCgroup)?,
        };
        if !path.join("cgroup.procs").is_file() || !path.join("cgroup.controllers").is_file() {
            return Err(Error::NotACgroup(path));
        }
        let directory = File::open(&path).step(|| format!("open {}", path.display()))?;
        let id = directory
            .metadata()
            .step(|| format!("look at {}", path.display()))?
            .ino();
        Ok(Cgroup {
            path,
            directory,
            id,
        })
    }
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
pub(crate) fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(cgroup2_mount)
}

/// The mount point of a line of mountinfo, if it is of cgroup v2.
pub(crate) fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    if file_system.split(' ').next() != Some("cgroup2") {
        return None;
    }
    mount.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_2_mount_is_found() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(v1), None);
        assert_eq!(cgroup2_mount(v2), Some("/sys/fs/cgroup/unified".into()));
    }
}
