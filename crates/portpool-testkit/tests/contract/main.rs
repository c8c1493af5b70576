//! The contract of the kernel pool, through the library and, where another process or a raw call is
//! meant, through actors and raw socket options.
//!
//! "Case" and "rule" are those of the specification of port reservations: the cases of its section 9
//! and the rules of its section 1.3. Runs on every kernel of the matrix, so nothing here needs more
//! than busybox.

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
