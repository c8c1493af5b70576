//! The C interfaces of portpool: the plain one of `include/portpool.h`.
//!
//! What a call decides is decided by the library `portpool`; here are pointers, numbers and threads.

mod capi;
