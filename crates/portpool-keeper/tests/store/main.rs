//! The store in its file: what survives, what is refused, what is left alone.

mod files;
mod formats;
mod kit;
mod records;
