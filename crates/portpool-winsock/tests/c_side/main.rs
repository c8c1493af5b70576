//! The C interfaces, as C and C++ programs see them.
#![forbid(unsafe_code)]

mod api;
mod install;
mod toolchain;
