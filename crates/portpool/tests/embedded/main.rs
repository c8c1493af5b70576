//! The embedded pool: no test here needs root, but those in a module `as_root`, or a kernel pool.

mod acquire;
mod consume;
mod handover;
mod kind;
mod kit;
mod life;
mod registry;
mod stranger;
