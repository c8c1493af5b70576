//! C and C++ programs against the headers and the library, as users build them.

mod calls;
mod headers;
mod keeper;
mod pending;
mod reservations;
mod samples;
mod toolchain;
