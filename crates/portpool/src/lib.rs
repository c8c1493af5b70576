//! Reserve ports on Linux, enforced in the kernel, or held by this process where that is not set up.
//!
//! A program says "these 20 ports are mine", and from that moment no other process can take them:
//! not by binding one, not by binding port 0, not as the port of an outgoing connection, not with
//! `SO_REUSEADDR`. It binds them when it likes. When it ends, in whatever way, they are free again.
//!
//! The pool is a set of eBPF programs that root attaches once with `portpool attach`. There is no
//! daemon to talk to: acquire, associate and release are one `setsockopt` each. This library needs
//! no privilege, starts no thread and does not sleep, except where a function says that it waits.
//!
//! ```no_run
//! use portpool::{Pool, PortCount, Request, Transports, Want, Wildcard};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Pool::open()?;
//! let want = Want::Wildcard(Wildcard::new(PortCount::new(20).expect("20 is not 0")));
//! let ports = pool.acquire(&Request { transports: Transports::Tcp, want })?;
//! println!("reserved {}", ports.range());
//!
//! let listener = ports.tcp_listener([127, 0, 0, 1].into())?;
//! assert!(ports.ports().any(|port| port.number() == listener.local_addr().unwrap().port()));
//! ports.release()?; // or drop it, or end: the listener keeps its own port in any case
//! # Ok(())
//! # }
//! ```
//!
//! # Two pools
//!
//! Where no pool is attached [`Pool::open`] opens the *embedded* one: this process keeps a bound,
//! silent socket on every port it reserves. It needs no privilege and no set-up, and the same calls
//! work; [`Pool::choice`] says which pool it is and why. A stranger sees `EADDRINUSE` instead of
//! `EACCES`, a bind goes through the library ([`Reservation::bind`]) since a plain one meets the own
//! hold, and [`Technique`] says for which sockets the port is open for a moment when they bind.
//! `docs/embedded-pool.md` lists every difference. What follows below about cgroups, limits, maps and
//! errno is the kernel pool's. To have that one or an error, ask for [`PoolKind::Kernel`].
//!
//! # The words
//!
//! - A [`Request`] wants exact ports ([`Want::Specific`]) or any consecutive ones
//!   ([`Want::Wildcard`], with an alignment and a range if it matters), of TCP, of UDP, or the same
//!   numbers of both.
//! - A [`Reservation`] has a [`Block`] for each transport. It ends when it is dropped or released,
//!   when its last owner socket is closed, and with the process, `kill -9` included.
//! - To *consume* a port is to bind it. A socket must be *associated* for it, which the functions of
//!   [`Reservation`] do; even this process's own plain bind of a reserved port is refused.
//! - [`Scope::Tree`] lets programs that know nothing of reservations bind ports of the block, if
//!   they are started by this process: see [`process`].
//!
//! # What it does not do
//!
//! - A reservation guards ports, not addresses: all addresses, IPv4 and IPv6 at once.
//! - The pool is that of one network namespace, the one the calling thread is in when it makes a
//!   socket. It guards sockets created in the cgroup it was attached to, by default all.
//! - Ports that automatic choice could pick are never granted ([`Refusal::Ephemeral`]): those must be
//!   in `net.ipv4.ip_local_reserved_ports`, as they were when `portpool attach` ran last. Attach
//!   enters the ranges of the pool, which wildcard blocks come from, and all ports outside
//!   `net.ipv4.ip_local_port_range`.
//! - A fork has another process id and may not associate or release. The owner sockets it inherits
//!   keep the reservation alive until it closes them or starts a program.
//! - `sendto` on an unbound UDP socket and `listen` on an unbound TCP socket choose a port without
//!   asking the pool: use [`Reservation::send_to`] and [`Reservation::listen`].
//! - MPTCP sockets cannot own or be associated; 32-bit programs see no pool.
//! - One user may hold 1,024 ports in 64 reservations, all without `CAP_NET_ADMIN` together half of
//!   the pool; [`Pool::overview`] tells the limits of this one.
//!
//! # Looking
//!
//! [`Pool::reservations`], [`Pool::port`] and [`Pool::overview`] read maps that everybody may read,
//! under `/run/portpool` or the directory that `PORTPOOL_RUN_DIR` names. In a container or a sandbox
//! where these are out of reach they answer a [`LookError`]; exact ports are acquired as ever, and
//! wildcard blocks are found by trying.
//!
//! # Errors
//!
//! Each operation has its own error type. A *refusal*, the pool's no, is in it as a [`Refusal`] to
//! match on; anything else is a [`Failure`] with the system call and its error.
//!
//! ```no_run
//! use portpool::{Pool, Refusal, Request, Transports, Want};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pool = Pool::open()?;
//! let want = Want::Specific("8080-8083".parse()?);
//! match pool.acquire(&Request { transports: Transports::Both, want }) {
//!     Ok(ports) => println!("have {}", ports.range()),
//!     Err(error) if error.refusal() == Some(Refusal::InUse) => println!("taken"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a program sees that issues the control codes itself, at level [`abi::LEVEL`]:
//!
#![doc = include_str!("errno.md")]
#![deny(unsafe_code)]

mod admin;
mod choice;
mod claim;
mod embedded;
mod error;
pub mod handover;
mod keeper;
mod kind;
mod look;
mod maps;
mod pool;
pub mod process;
mod reservation;
mod socket;
mod sys;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use admin::{AdminError, Caller, Lend};
pub use embedded::Technique;
pub use error::{
    AcquireError, AssociateError, BindError, Failure, LookError, OpenError, ReleaseError,
};
pub use kind::{Choice, PoolKind};
pub use look::{Overview, PortState, TransportOverview, View};
pub use pool::{Builder, Pool};
pub use portpool_core::{
    Alignment, Limits, ParseError, Port, PortCount, PortRange, PortSpec, RangeError, RangeSet,
    Refusal, Request, Token, Transport, Transports, Want, Wildcard,
    abi::{self, Counters, PoolConfig, PoolState, Record as Entry, Scope, Tenure},
};
pub use reservation::{Block, Reservation};

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Pool>();
    shared_between_threads::<Reservation>();
};

#[cfg(test)]
mod tests {
    use portpool_core::abi::{ControlCode, ERRNO_TABLE, Operation};

    #[test]
    fn the_documented_table_is_the_one_of_the_kernel_abi() {
        let rows = ERRNO_TABLE.iter().map(|row| {
            let operation = match row.operation {
                Operation::Control(ControlCode::Probe) => "probe (99)",
                Operation::Control(ControlCode::Acquire) => "acquire (100)",
                Operation::Control(ControlCode::Release) => "release (101)",
                Operation::Control(ControlCode::Associate) => "associate (102)",
                Operation::Control(ControlCode::Persist) => "persist (103)",
                Operation::Control(ControlCode::Unpersist) => "unpersist (104)",
                Operation::Control(ControlCode::Exclude) => "exclude (105)",
                Operation::Control(ControlCode::Unexclude) => "unexclude (106)",
                Operation::Control(ControlCode::Window) => "window (107)",
                Operation::Control(ControlCode::Lend) => "lend (108)",
                Operation::Bind => "`bind`",
                Operation::Connect => "`connect`",
            };
            let (refusal, errno) = (row.refusal, row.errno);
            let name = errno_name(errno);
            format!("| {operation} | [`{refusal:?}`](Refusal::{refusal:?}) | `{name}` {errno} |\n")
        });
        let head = "| operation | refusal | errno |\n| --- | --- | --- |\n".to_owned();
        let wanted: String = std::iter::once(head).chain(rows).collect();
        assert_eq!(
            include_str!("errno.md"),
            wanted,
            "errno.md should be:\n{wanted}"
        );
    }

    fn errno_name(errno: i32) -> &'static str {
        match errno {
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EACCES => "EACCES",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::EINVAL => "EINVAL",
            libc::EMFILE => "EMFILE",
            libc::ENOSPC => "ENOSPC",
            libc::EPROTO => "EPROTO",
            libc::ENOPROTOOPT => "ENOPROTOOPT",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EADDRINUSE => "EADDRINUSE",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            libc::ENOBUFS => "ENOBUFS",
            libc::EDQUOT => "EDQUOT",
            _ => "unnamed",
        }
    }
}
