//! Reserve ports on Linux, enforced in the kernel.
#![deny(unsafe_code)]

mod choice;
mod claim;
mod error;
mod look;
mod maps;
mod pool;
pub mod process;
mod reservation;
mod socket;
mod sys;

pub use error::{
    AcquireError, AssociateError, BindError, Failure, LookError, OpenError, ReleaseError,
};
pub use look::{Overview, PortState, TransportOverview};
pub use pool::{Builder, Pool};
pub use portpool_core::{
    Alignment, Limits, ParseError, Port, PortCount, PortRange, PortSpec, RangeError, RangeSet,
    Refusal, Request, Token, Transport, Transports, Want, Wildcard,
    abi::{self, Counters, PoolConfig, PoolState, Record as Entry, Scope},
};
pub use reservation::{Block, Reservation};
