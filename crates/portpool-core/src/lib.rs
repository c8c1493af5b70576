//! The rules of portpool: what a port, a range and a request are, where a block is placed, what is
//! refused and why.
//!
//! Pure code: nothing here does I/O, reads a clock or draws a random number; whoever needs time,
//! chance or the state of the kernel passes the value in. System calls, error numbers, files and
//! words for people live in the crates that depend on this one.
#![forbid(unsafe_code)]

pub mod abi;
mod free_runs;
mod limits;
mod mix;
mod occupancy;
mod parse_error;
mod placement;
mod port_spec;
mod range;
mod range_set;
mod refusal;
mod request;
mod starts;
mod token;
mod transport;

pub use limits::{LimitError, Limits};
pub use occupancy::{Occupancy, PortBitmap};
pub use parse_error::ParseError;
pub use placement::{CANDIDATE_COUNT_MAX, candidates, place};
pub use port_spec::PortSpec;
pub use range::{Port, PortCount, PortRange, RangeError};
pub use range_set::RangeSet;
pub use refusal::Refusal;
pub use request::{Alignment, Request, Want, Wildcard};
pub use token::Token;
pub use transport::{Transport, Transports};
