//! What can go wrong with records.

use std::{io, path::PathBuf};

/// Why records cannot be read or changed. No records are ever overwritten because of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {cause}{}", hint(.cause))]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It was written by a newer portpool.
    #[error(
        "{path} has format {found}, this program knows up to {own}: use the portpool that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        own: u32,
    },
    /// It belongs to another application.
    #[error("{path} is no store of portpool: move it away, or set PORTPOOL_STATE_DIR")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// What is in it cannot be right.
    #[error(
        "{path} is damaged ({what}): it was left as it is; put a backup in its place, or move it \
         away to start without records"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The file system may only be read.
    #[error("{path} cannot be written: the directory or its file system is read-only")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// There is no room. Nothing was changed.
    #[error("no room to write {path}: nothing was changed; make room and try again")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else keeps the file locked. Nothing was changed.
    #[error("{path} is locked by another program: nothing was changed; end it and try again")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Writing failed, and it is not known what reached the disk.
    #[error(
        "writing {path} failed ({what}): the disk may have lost what was written; nothing is \
         written any more until the disk has been looked at"
    )]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        what: String,
    },
    /// An earlier write failed.
    #[error(
        "{path} is not written any more since a write failed: look at the disk, then reboot, or \
         remove {mark} if nothing is lost"
    )]
    Stopped {
        /// The file.
        path: PathBuf,
        /// What says so until the next boot.
        mark: PathBuf,
    },
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => " (records are root's)",
        _ => "",
    }
}
