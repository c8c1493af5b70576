//! The rules of portpool.
#![forbid(unsafe_code)]
