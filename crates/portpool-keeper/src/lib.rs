//! What outlives a boot: the records of persistent blocks and exclusions, and the one place where
//! records, the kernel pool and the sysctl change together.
//!
//! - [`store`] keeps records through crashes, and says so when it cannot.
//! - [`admin`] persists, excludes, takes back, and reconciles what a crash left half done. The
//!   command and the keeper go through it; a lock makes them take turns.
//!
//! Absent here: enforcing anything, which the kernel programs do without this crate, and words for
//! people beyond errors.
#![forbid(unsafe_code)]

pub mod admin;
pub mod service;
pub mod store;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use admin::{Admin, AdminError};
pub use store::{StateDir, Store, StoreError};
