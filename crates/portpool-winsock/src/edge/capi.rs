//! The plain C interface, `include/portpool.h`: what its functions do is said there.
//!
//! Every function looks alike: [`boundary`] turns what the caller gave into types that cannot be
//! wrong, the library does the work, and what went wrong becomes a number and a sentence. Deliberately
//! absent: rules of any kind, state of its own, and the Winsock names.

mod boundary;
mod consume;
mod last_error;
mod look;
mod on;
mod open;
mod reserve;
mod types;
mod version;
mod wrong;

// The library's own callers go through C; the tests compare the layouts.
#[cfg(test)]
mod tests;
