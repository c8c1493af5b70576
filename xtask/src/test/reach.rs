//! A place for what the tests build that users other than root can reach: many of the tests run their
//! programs as somebody else, and a checkout in root's home is closed to those.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::Mode;
use rustix::process::{geteuid, umask};

/// Where to build instead, if others cannot reach `target`. From here on what is made is for others to
/// read, whatever the umask was.
///
/// # Errors
///
/// Fails if the other folder cannot be made, or is not ours alone to write to.
pub(super) fn elsewhere(target: &Path) -> Result<Option<PathBuf>> {
    umask(Mode::from_raw_mode(0o022));
    if is_open(target) {
        return Ok(None);
    }
    let folder = PathBuf::from(format!("/var/tmp/portpool-tests-{}", geteuid().as_raw()));
    claim(&folder)?;
    println!(
        "tests run programs as other users, who cannot reach {}: building in {}\n",
        target.display(),
        folder.display()
    );
    Ok(Some(folder))
}

/// Whether everybody may enter the folder and all it is in. What is not there yet will be made.
fn is_open(folder: &Path) -> bool {
    folder.ancestors().all(|it| match fs::metadata(it) {
        Ok(metadata) => metadata.mode() & OTHERS_ENTER != 0,
        Err(_) => !it.exists(),
    })
}

/// Anybody may make folders where it is, so one that was there already is looked at.
fn claim(folder: &Path) -> Result<()> {
    if fs::create_dir(folder).is_ok() {
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(folder, open).with_context(|| format!("open {}", folder.display()))?;
    }
    let found = fs::symlink_metadata(folder);
    let found = found.with_context(|| format!("make {}", folder.display()))?;
    ensure!(
        found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & OTHERS_WRITE == 0,
        "{} is not ours alone to write to: remove it, or set CARGO_TARGET_DIR to a folder that others \
         can read",
        folder.display()
    );
    Ok(())
}

const OTHERS_ENTER: u32 = 0o001;
const OTHERS_WRITE: u32 = 0o022;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_a_closed_one_is_closed() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        for (mode, open) in [(0o755, true), (0o711, true), (0o700, false), (0o750, false)] {
            fs::set_permissions(outer.path(), Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
            for folder in [outer.path(), &inner, &inner.join("to come")] {
                assert_eq!(is_open(folder), open, "{} {mode:o}", folder.display());
            }
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_taken() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tests");
        claim(&folder).unwrap();
        claim(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        assert!(claim(&folder).is_err());
        let link = outer.path().join("link");
        std::os::unix::fs::symlink(outer.path(), &link).unwrap();
        assert!(claim(&link).is_err());
    }
}
