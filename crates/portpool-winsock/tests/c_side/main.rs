//! The C interfaces, as C and C++ programs see them.
#![forbid(unsafe_code)]

mod api;
mod conformance;
mod install;
mod memory;
mod toolchain;
