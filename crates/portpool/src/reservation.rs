//! A reservation of this process, which ends when it is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use portpool_core::{Port, PortRange, Refusal, Token, Transport};

use crate::{embedded, error::ReleaseError, pool, sys::process_id};

/// The ports of one transport that a reservation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// TCP or UDP.
    pub transport: Transport,
    /// The ports.
    pub range: PortRange,
    /// The name of the reservation.
    pub token: Token,
}

/// Ports that are this process's own until it is dropped or released.
///
/// It owns one silent socket for each transport, whose end is the end of the reservation. Sockets
/// bound from the block outlive it and keep their ports.
///
/// ```no_run
/// use portpool::{Alignment, Pool, PortCount, Request, Transports, Want, Wildcard};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // An even port and the odd one after it, for RTP and RTCP.
/// let pair = Wildcard {
///     alignment: Alignment::new(2).expect("2 is not 0"),
///     ..Wildcard::new(PortCount::new(2).expect("2 is not 0"))
/// };
/// let request = Request { transports: Transports::Udp, want: Want::Wildcard(pair) };
/// let ports = Pool::open()?.acquire(&request)?;
/// let rtp = ports.udp_socket([0, 0, 0, 0].into())?;
/// let rtcp = ports.udp_socket([0, 0, 0, 0].into())?;
/// assert_eq!(rtp.local_addr()?.port() + 1, rtcp.local_addr()?.port());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the ports are free again as soon as the reservation is dropped"]
pub struct Reservation {
    /// One or two, on the same numbers.
    blocks: ArrayVec<Block, TRANSPORT_COUNT>,
    guard: Guard,
    range: PortRange,
    process: u32,
}

/// What keeps the ports.
#[derive(Debug)]
pub(crate) enum Guard {
    /// The owner socket of each block.
    Kernel(Vec<OwnedFd>),
    /// The holds of each block.
    Embedded {
        held: embedded::Blocks,
        is_strict: bool,
    },
}

impl Reservation {
    /// `blocks` are never empty and have the same range.
    pub(crate) fn new(blocks: &[Block], sockets: Vec<OwnedFd>) -> Reservation {
        let range = blocks[0].range;
        Reservation {
            blocks: blocks.iter().copied().collect(),
            guard: Guard::Kernel(sockets),
            range,
            process: process_id(),
        }
    }

    /// As [`new`](Reservation::new), for blocks that this process holds.
    pub(crate) fn embedded(held: embedded::Blocks, is_strict: bool) -> Reservation {
        let blocks: ArrayVec<Block, TRANSPORT_COUNT> = held.iter().map(|held| held.block).collect();
        let range = blocks[0].range;
        Reservation {
            blocks,
            guard: Guard::Embedded { held, is_strict },
            range,
            process: process_id(),
        }
    }

    /// Gives the ports back. Dropping does the same, but tells nobody if it goes wrong.
    ///
    /// Sockets bound from the block keep their ports.
    ///
    /// # Errors
    /// The first [`ReleaseError`]; the owner sockets are closed all the same.
    pub fn release(self) -> Result<(), ReleaseError> {
        let Guard::Kernel(sockets) = &self.guard else {
            return self.release_held();
        };
        let released: Vec<_> = self
            .blocks
            .iter()
            .zip(sockets)
            .map(|(block, socket)| pool::release(socket.as_fd(), block.token))
            .collect();
        let released: Result<(), ReleaseError> = released.into_iter().collect();
        released.map_err(|error| match error {
            ReleaseError::Refused { token, .. } if !self.is_own() => ReleaseError::Refused {
                token,
                refusal: Refusal::ForeignToken,
            },
            other => other,
        })
    }

    /// The blocks, one for each transport.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block of a transport, if it was acquired.
    pub fn block(&self, transport: Transport) -> Option<Block> {
        let mut blocks = self.blocks.iter();
        blocks.find(|block| block.transport == transport).copied()
    }

    /// The ports, the same of each transport.
    pub fn range(&self) -> PortRange {
        self.range
    }

    /// Every port, lowest first.
    pub fn ports(&self) -> impl DoubleEndedIterator<Item = Port> + Clone + use<> {
        self.range.ports()
    }

    /// The sockets whose end is the end of the reservation, one for each transport.
    ///
    /// The reservation lasts until the last copy of such a descriptor is closed: whoever is given
    /// one keeps the ports reserved, but only the process that acquired may associate or release.
    ///
    /// A reservation of the embedded pool has none: it ends when it is dropped or released, or with
    /// the process.
    pub fn owner_sockets(&self) -> impl Iterator<Item = (Transport, BorrowedFd<'_>)> {
        let sockets = match &self.guard {
            Guard::Kernel(sockets) => sockets.as_slice(),
            Guard::Embedded { .. } => &[],
        };
        self.blocks
            .iter()
            .zip(sockets)
            .map(|(block, socket)| (block.transport, socket.as_fd()))
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What a release answers by the rules of the kernel pool; dropping does it.
    fn release_held(&self) -> Result<(), ReleaseError> {
        let gone = self
            .blocks
            .iter()
            .find(|block| !embedded::is_held(block.token));
        let (token, refusal) = match (self.is_own(), gone) {
            (true, None) => return Ok(()),
            (true, Some(block)) => (block.token, Refusal::UnknownToken),
            (false, _) => (self.blocks[0].token, Refusal::ForeignToken),
        };
        Err(ReleaseError::Refused { token, refusal })
    }

    /// Whether the calling process acquired it, rather than being a fork of that one.
    pub(crate) fn is_own(&self) -> bool {
        self.process == process_id()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Guard::Embedded { held, .. } = &self.guard else {
            return;
        };
        for held in held {
            match self.is_own() {
                true => embedded::release(held),
                false => held.close_copies(),
            }
        }
    }
}

/// TCP and UDP.
pub(crate) const TRANSPORT_COUNT: usize = Transport::ALL.len();
