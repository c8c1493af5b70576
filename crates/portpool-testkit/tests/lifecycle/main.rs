//! Attaching, attaching again, failing to, detaching: what it does to those who have ports, and
//! that nothing is left.

mod again;
mod detach;
mod doctor;
mod events;
mod failures;
mod grant;
mod killed;
mod namespaces;
mod scene;
mod sysctl;
