//! Records that survive reboots.
//!
//! A [`Store`] knows nothing of the kernel: whether a record can be had is decided before it is
//! committed, by `admin`.

mod directory;
mod error;
mod record;
mod rows;
mod schema;
mod sqlite;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;

use portpool_core::{PortRange, Transport};

pub use directory::StateDir;
pub use error::StoreError;
pub use record::{Block, Boot, Change, Exclusion, NOTE_LENGTH_MAX, Note, NoteError, Records};
pub(crate) use rows::random_token;
pub use sqlite::Sqlite;

/// Durable records. Each commit is all or nothing, and once it answers it outlives a power cut.
pub trait Store {
    /// All records, by transport and first port.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read or are damaged.
    fn records(&mut self) -> Result<Records, StoreError>;

    /// The blocks that have a port of the range, by first port.
    ///
    /// # Errors
    /// As [`records`](Store::records).
    fn blocks_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Block>, StoreError>;

    /// The exclusions that have a port of the range, by first port.
    ///
    /// # Errors
    /// As [`records`](Store::records).
    fn exclusions_meeting(
        &mut self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<Exclusion>, StoreError>;

    /// Makes all of the changes, durably, or none.
    ///
    /// # Errors
    /// [`StoreError`]. After [`StoreError::Failed`] it is not known which of the two happened, and
    /// this store commits nothing any more.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}
