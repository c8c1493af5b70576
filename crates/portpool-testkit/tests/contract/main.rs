//! The contract of either pool, through the library and, where another process or a raw call is meant,
//! through actors and raw socket options. Each case runs against the kernel pool and, unless it does
//! not apply, against the embedded one; module `column` has the table of what differs.
//!
//! "Case" and "rule" are those of the specification of port reservations: the cases of its section 9
//! and the rules of its section 1.3. Runs on every kernel of the matrix, so nothing here needs more
//! than busybox.

#[macro_use]
mod column;

mod acquire;
mod associate;
mod both;
mod consume;
mod errno;
mod exclude;
mod family;
mod input;
mod kit;
mod lend;
mod persistent;
mod plain;
mod release;
mod tree;
mod unreadable;
mod wildcard;
mod window;
