//! portpool's own bpf file system.

use std::{fs, path::Path};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{
    error::{Error, Failed, Step},
    files::RunDir,
};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Whether a bpf file system is mounted at the path.
pub(crate) fn is_bpf(path: &Path) -> bool {
    // A mount point of its own, not a directory in somebody else's bpf file system.
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type.cast_unsigned() == BPF_FS_MAGIC)
}

/// Mounts the bpf file system of a run directory if it is not there. True if it was mounted now.
pub(crate) fn mount_bpf(run: &RunDir, allow_private: bool) -> Result<bool, Error> {
    let path = run.bpf();
    if is_bpf(&path) {
        return Ok(false);
    }
    if !allow_private && is_private() {
        return Err(Error::PrivateMounts(run.path().to_owned()));
    }
    let what = || format!("mount a bpf file system at {}", path.display());
    fs::create_dir_all(&path).step(what)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", &path, "bpf", flags, c"mode=0755").step(what)?;
    Ok(true)
}

pub(crate) fn unmount_bpf(run: &RunDir) -> Result<(), Failed> {
    let path = run.bpf();
    if is_bpf(&path) {
        unmount(&path, UnmountFlags::empty()).step(|| format!("unmount {}", path.display()))?;
    }
    if path.is_dir() {
        fs::remove_dir(&path).step(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// Whether this process lives in another mount namespace than process 1. Unreadable means yes:
/// better to ask once too often than to lose the guard.
pub(crate) fn is_private() -> bool {
    let own = fs::read_link("/proc/self/ns/mnt");
    let first = fs::read_link("/proc/1/ns/mnt");
    !matches!((own, first), (Ok(own), Ok(first)) if own == first)
}
