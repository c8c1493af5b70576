//! The C interfaces, as C and C++ programs see them.
#![forbid(unsafe_code)]

mod api;
mod conformance;
mod install;
mod keeper;
mod memory;
mod races;
mod toolchain;
