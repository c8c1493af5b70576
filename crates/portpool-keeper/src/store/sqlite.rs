//! The store in a SQLite file.
//!
//! One transaction a commit, in the write-ahead log, synced before it answers. The file is judged
//! before anything is written to it: a foreign, newer or damaged one stays byte for byte what it is.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use portpool_core::{PortRange, Transport};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig};

use super::{Block, Change, Exclusion, Records, StateDir, Store, StoreError, rows, schema};

/// Records in `STATE_DIR/store.sqlite`.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// What the disk said when a write failed.
    failure: Option<String>,
    /// Where the file was copied to because it may only be read; goes with this value.
    copy: Option<Copy>,
}

impl Sqlite {
    /// Opens the records to change them; the file is made if it is not there, and an older format
    /// becomes the one of this program. One caller at a time, as `admin` sees to.
    ///
    /// # Errors
    /// [`StoreError`], with nothing written.
    pub fn open(state: &StateDir) -> Result<Sqlite, StoreError> {
        let path = state.store();
        prepare(state.path(), &path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Sqlite::connect(&path, &path, flags)?;
        let found = store.judge()?;
        store.begin_writing().map_err(|error| store.error(&error))?;
        if found < schema::VERSION {
            store.migrate(found)?;
        }
        store.records()?;
        Ok(store)
    }

    /// Opens the records to read them; nothing if there are none yet. A directory that may only be
    /// read will do.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_to_read(state: &StateDir) -> Result<Option<Sqlite>, StoreError> {
        let path = state.store();
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(StoreError::Unreadable { path, cause }),
            Ok(_) => {}
        }
        let read = match may_write(&path) {
            true => Sqlite::read_in_place(&path),
            false => Err(StoreError::ReadOnly { path: path.clone() }),
        };
        match read {
            // Reading a log needs an index beside it, which somebody must be able to make.
            Err(
                error @ (StoreError::ReadOnly { .. }
                | StoreError::Full { .. }
                | StoreError::Failed { .. }
                | StoreError::Unreadable { .. }),
            ) => match Copy::of(&path) {
                Ok(copy) => Sqlite::read_copy(&path, copy).map(Some),
                Err(_) => Err(error),
            },
            read => read.map(Some),
        }
    }

    fn read_in_place(path: &Path) -> Result<Sqlite, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Sqlite::connect(path, path, flags)?.judged_to_read()
    }

    fn read_copy(path: &Path, copy: Copy) -> Result<Sqlite, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Sqlite::connect(&copy.file(path), path, flags)?;
        store.copy = Some(copy);
        store.judged_to_read()
    }

    fn judged_to_read(mut self) -> Result<Sqlite, StoreError> {
        let found = self.judge()?;
        if found < schema::VERSION {
            self.migrate_in_memory(found)?;
        }
        self.records()?;
        Ok(self)
    }

    fn connect(file: &Path, path: &Path, flags: OpenFlags) -> Result<Sqlite, StoreError> {
        let unreadable = |error: rusqlite::Error| classify(path, &error);
        let connection = Connection::open_with_flags(file, flags).map_err(unreadable)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(unreadable)?;
        // Closing a file that was not judged, or judged damaged, must not write to it.
        for (option, on) in [
            (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            // Without it some statements are planned anew with each value of a parameter.
            (DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true),
        ] {
            connection.set_db_config(option, on).map_err(unreadable)?;
        }
        Ok(Sqlite {
            connection,
            path: path.to_owned(),
            failure: None,
            copy: None,
        })
    }

    /// The format of the file, if it is one of ours and whole.
    fn judge(&self) -> Result<u32, StoreError> {
        let checked = |error| self.error(&error);
        let (application, found) = schema::identity(&self.connection).map_err(checked)?;
        // SQLite takes a file without a whole header for an empty one. Ours never is.
        let length = fs::metadata(&self.path).map_or(0, |file| file.len());
        if length < HEADER_LENGTH {
            return Err(self.damaged(format!("it has only {length} bytes")));
        }
        if application != schema::APPLICATION {
            let path = self.path.clone();
            return Err(StoreError::Foreign { path });
        }
        if found > schema::VERSION {
            return Err(StoreError::Newer {
                path: self.path.clone(),
                found,
                own: schema::VERSION,
            });
        }
        let complaint = schema::complaint(&self.connection).map_err(checked)?;
        match complaint {
            Some(what) => Err(self.damaged(what)),
            None if found == 0 => Err(self.damaged("its format number is lost".to_owned())),
            None => Ok(found),
        }
    }

    fn begin_writing(&self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }

    fn migrate(&mut self, found: u32) -> Result<(), StoreError> {
        let migrated = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                // Somebody may have been faster.
                let (_, now) = schema::identity(&transaction)?;
                if now == found {
                    schema::migrate(&transaction, found)?;
                }
                transaction.commit()
            });
        migrated.map_err(|error| self.failed(&error))
    }

    /// Reads an older format without touching the file.
    fn migrate_in_memory(&mut self, found: u32) -> Result<(), StoreError> {
        let migrated = Connection::open_in_memory().and_then(|mut memory| {
            schema::copy(&self.connection, &mut memory)?;
            let transaction = memory.transaction()?;
            schema::migrate(&transaction, found)?;
            transaction.commit()?;
            Ok(memory)
        });
        self.connection = migrated.map_err(|error| self.error(&error))?;
        Ok(())
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            what,
        }
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        classify(&self.path, error)
    }

    /// A write that failed. If it is not known what reached the disk, nothing is written any more:
    /// trying again could succeed while the lost pages stay lost.
    fn failed(&mut self, error: &rusqlite::Error) -> StoreError {
        let error = classify(&self.path, error);
        if let StoreError::Failed { what, .. } = &error {
            self.failure = Some(what.clone());
        }
        error
    }
}

impl Store for Sqlite {
    fn records(&mut self) -> Result<Records, StoreError> {
        let read = rows::read(&self.connection).map_err(|error| self.error(&error))?;
        read.map_err(|what| self.damaged(what))
    }

    fn blocks_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Block>, StoreError> {
        let found = rows::blocks_meeting(&self.connection, transport, range);
        found.map_err(|error| self.error(&error))
    }

    fn exclusions_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Exclusion>, StoreError> {
        let found = rows::exclusions_meeting(&self.connection, transport, range);
        found.map_err(|error| self.error(&error))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if self.copy.is_some() {
            let path = self.path.clone();
            return Err(StoreError::ReadOnly { path });
        }
        if let Some(what) = &self.failure {
            return Err(StoreError::Failed {
                path: self.path.clone(),
                what: what.clone(),
            });
        }
        let committed = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                write(&transaction, changes)?;
                transaction.commit()
            });
        committed.map_err(|error| self.failed(&error))
    }
}

fn write(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let mut difference = 0;
    for change in changes {
        difference ^= rows::write(transaction, change)?;
    }
    rows::reseal(transaction, difference)
}

/// Makes the directory and a store without records, for their owner alone and durably: aside, and
/// then put in its place whole.
fn prepare(directory: &Path, path: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path: path.into() },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full { path: path.into() }
        }
        _ => StoreError::Unreadable {
            path: path.into(),
            cause,
        },
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(_) => {
            use rustix::fs::{Access, access};
            return access(path, Access::WRITE_OK).map_err(|error| failed(error.into()));
        }
    }
    if !directory.is_dir() {
        make_directory(directory).map_err(failed)?;
    }
    let aside = path.with_extension("new");
    for left in [aside.clone(), aside.with_extension("new-journal")] {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(&aside).map_err(failed)?;
    create(&aside).map_err(|error| classify(path, &error))?;
    fs::rename(&aside, path).map_err(failed)?;
    sync_directory(directory).map_err(failed)
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn create(path: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    schema::create(&transaction)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn may_write(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let directory = path.parent().unwrap_or(Path::new("/"));
    [path, directory]
        .iter()
        .all(|path| access(*path, Access::WRITE_OK).is_ok())
}

/// A private copy of the file and its log.
#[derive(Debug)]
struct Copy(PathBuf);

impl Copy {
    fn of(path: &Path) -> io::Result<Copy> {
        let name = format!("portpool-{:016x}", rows::random()?);
        // In memory where that can be: the disk may be full, and that the reason.
        let places = [PathBuf::from("/run"), std::env::temp_dir()];
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        let made = places.into_iter().find_map(|place| {
            let path = place.join(&name);
            builder.create(&path).is_ok().then_some(path)
        });
        let copy = Copy(made.ok_or(io::ErrorKind::NotFound)?);
        fs::copy(path, copy.file(path))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        match fs::copy(&log, copy.file(Path::new(&log))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(copy),
        }
    }

    fn file(&self, original: &Path) -> PathBuf {
        self.0.join(original.file_name().unwrap_or_default())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// What SQLite says, as what it means for the records.
fn classify(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode as Code;
    let path = path.to_owned();
    let what = error.to_string();
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => StoreError::Full { path },
        Some(Code::ReadOnly) => StoreError::ReadOnly { path },
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreError::Busy { path },
        Some(Code::CannotOpen | Code::PermissionDenied) => StoreError::Unreadable {
            path,
            cause: io::Error::other(what),
        },
        Some(Code::SystemIoFailure) => StoreError::Failed { path, what },
        _ => StoreError::Damaged { path, what },
    }
}

const HEADER_LENGTH: u64 = 512;

/// So many pages in the log are moved into the file; then the log is written anew from its start, over
/// what has a place on the disk. Of a log that grows the place has to be synced as well.
const LOG_PAGES: u32 = 64;

/// Whoever looks at the file with another program holds it for moments only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
