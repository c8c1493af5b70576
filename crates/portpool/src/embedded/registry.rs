//! The directory in which the processes of one user list what they hold.
//!
//! Only a list: what is missing in it is held all the same, what is wrong in it grants nothing. It is
//! trusted only if nobody else can write to it.

use std::{
    env, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, unlinkat},
    io::Errno,
    process::geteuid,
};

use crate::error::LookError;

/// The open directory.
#[derive(Debug)]
pub(crate) struct Registry {
    path: PathBuf,
    directory: OwnedFd,
}

impl Registry {
    /// The user's directory, or nothing if no process of the user ever made it.
    ///
    /// # Errors
    /// [`LookError::UntrustedRegistry`] if others could have written to it.
    pub(crate) fn find() -> Result<Option<Registry>, LookError> {
        let path = registry_path();
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = match openat(rustix::fs::CWD, &path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(untrusted(path, "it is no directory, or a symbolic link"));
            }
            Err(error) => return Err(unreadable(path, error)),
        };
        let status = fstat(&directory).map_err(|error| unreadable(path.clone(), error))?;
        if status.st_uid != geteuid().as_raw() {
            return Err(untrusted(path, "it belongs to another user"));
        }
        if status.st_mode & 0o077 != 0 {
            return Err(untrusted(path, "others than its owner may use it"));
        }
        Ok(Some(Registry { path, directory }))
    }

    /// The user's directory, made if it is not there.
    pub(crate) fn create() -> Result<Registry, LookError> {
        let path = registry_path();
        for _ in 0..TRY_COUNT_MAX {
            match mkdirat(rustix::fs::CWD, &path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(unreadable(path, error)),
            }
            // Somebody else may just have taken it away.
            if let Some(registry) = Registry::find()? {
                return Ok(registry);
            }
        }
        Err(unreadable(path, Errno::NOENT))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it that end in `suffix`, without that.
    pub(crate) fn names(&self, suffix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(suffix).map(str::to_owned));
        }
        Ok(names)
    }

    pub(crate) fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(file)
    }

    /// Makes a file that must not be there yet. Nobody else may write to it, not even by accident.
    pub(crate) fn make(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(
            &self.directory,
            name,
            flags | OFlags::RDWR,
            Mode::RUSR,
        )?)
    }

    /// Takes the directory away if nothing is left in it; who is just making a file in it makes it anew.
    pub(crate) fn leave(&self) {
        let _ = rustix::fs::rmdir(&self.path);
    }

    /// Takes a file away; one that is not there does not matter.
    pub(crate) fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, name, AtFlags::empty());
    }
}

fn registry_path() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("portpool"),
        None => PathBuf::from(format!("/tmp/portpool-{}", geteuid().as_raw())),
    }
}

fn untrusted(path: PathBuf, problem: &'static str) -> LookError {
    LookError::UntrustedRegistry { path, problem }
}

fn unreadable(path: PathBuf, error: Errno) -> LookError {
    LookError::Registry {
        path,
        cause: error.into(),
    }
}

const TRY_COUNT_MAX: u32 = 64;
