//! Looking at a pool: who has which port, and how much is left.

use std::sync::Arc;

use portpool_core::{
    Port, PortBitmap, PortRange, RangeSet, Transport,
    abi::{Counters, PoolConfig, Record, occupancy, ports_in_use},
};

use crate::{
    choice::{Source, in_use},
    claim::since_boot,
    embedded,
    error::{Failure, LookError},
    maps::Maps,
    pool::Pool,
};

/// One port of one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The reservation that has it.
    pub reservation: Option<Record>,
    /// How many sockets are bound to it. In the embedded pool, TCP sockets that are bound and do
    /// nothing are not seen.
    pub socket_count: u32,
    /// Whether the kernel itself has it, or a socket that cannot be counted.
    pub held: bool,
    /// Whether the administrator keeps it from reservations. Only the kernel pool knows exclusions.
    pub excluded: bool,
    /// Whether a socket on it was closed within the last minute: placement avoids it for a while.
    pub recent: bool,
}

impl PortState {
    /// Whether nobody has it and it may be reserved, as far as can be seen.
    pub fn is_free(&self) -> bool {
        let is_used = self.socket_count > 0 || self.held;
        self.reservation.is_none() && !is_used && !self.excluded
    }
}

/// A whole pool at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// How it was attached.
    pub config: PoolConfig,
    /// What all reservations together take.
    pub counters: Counters,
    /// TCP's ports.
    pub tcp: TransportOverview,
    /// UDP's ports.
    pub udp: TransportOverview,
}

impl Overview {
    /// The ports of one transport.
    pub fn transport(&self, transport: Transport) -> &TransportOverview {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        }
    }
}

/// The ports of one transport at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportOverview {
    /// Ports that reservations have.
    pub reserved_count: u32,
    /// Ports that a socket is bound to or the kernel itself has.
    pub in_use_count: u32,
    /// Ports of the pool's ranges that can be had.
    pub free_count: u32,
    /// The longest run of those.
    pub largest_free: Option<PortRange>,
}

impl Pool {
    /// Every live reservation, by transport and first port. In the embedded pool these are the
    /// user's own; those of other users show only as ports that are taken.
    ///
    /// ```no_run
    /// for entry in portpool::Pool::open()?.reservations()? {
    ///     println!("{} {}: {} {}", entry.transport, entry.range, entry.owner_pid, entry.command);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LookError`] where this process cannot read the state of the pool.
    pub fn reservations(&self) -> Result<Vec<Record>, LookError> {
        if self.is_embedded() {
            return embedded::reservations(self.netns_cookie());
        }
        self.maps()?.records()
    }

    /// Who has a port.
    ///
    /// # Errors
    /// [`LookError`] where this process cannot read the state of the pool.
    pub fn port(&self, transport: Transport, port: Port) -> Result<PortState, LookError> {
        if self.is_embedded() {
            return embedded::port(self.netns_cookie(), transport, port);
        }
        let maps = self.maps()?;
        let element = maps.occupancy(transport).map_err(Failure::of("bpf"))?;
        state_of(&maps, &element, transport, port)
    }

    /// The first port of a range that is not free, and who has it; nothing if all of them are.
    ///
    /// # Errors
    /// [`LookError`] where this process cannot read the state of the pool.
    pub fn first_taken(
        &self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Option<(Port, PortState)>, LookError> {
        if !self.is_embedded() {
            return self.view()?.first_taken(transport, range);
        }
        for port in range.ports() {
            let state = embedded::port(self.netns_cookie(), transport, port)?;
            if !state.is_free() {
                return Ok(Some((port, state)));
            }
        }
        Ok(None)
    }

    /// The kernel pool as it is attached now, for who has several questions about it.
    ///
    /// # Errors
    /// As [`overview`](Pool::overview).
    pub fn view(&self) -> Result<View, LookError> {
        match self.is_embedded() {
            true => Err(LookError::KernelOnly),
            false => self.maps().map(View),
        }
    }

    /// The limits of the pool and how much of it is taken.
    ///
    /// # Errors
    /// [`LookError`] where this process cannot read the state of the pool, and of the embedded pool,
    /// which has neither.
    pub fn overview(&self) -> Result<Overview, LookError> {
        if self.is_embedded() {
            return Err(LookError::KernelOnly);
        }
        let maps = self.maps()?;
        let config = maps.config()?;
        let (tcp, counters) = survey(&maps, Transport::Tcp, &config.ranges)?;
        let (udp, _) = survey(&maps, Transport::Udp, &config.ranges)?;
        Ok(Overview {
            config,
            counters,
            tcp,
            udp,
        })
    }
}

/// A kernel pool that was attached when this was made: each answer is of the moment of asking, and once the pool
/// is detached no answer is of any worth.
#[derive(Debug)]
pub struct View(Arc<Maps>);

impl View {
    /// How the pool was attached: its ranges and limits.
    ///
    /// # Errors
    /// [`LookError`] if it cannot be read, and if it was detached.
    pub fn config(&self) -> Result<PoolConfig, LookError> {
        self.0.config()
    }

    /// Whether everybody may claim these ports while nobody has them: automatic choice has been kept from
    /// all of them since sockets were last counted. A claim looks at `net.ipv4.ip_local_reserved_ports` as
    /// well, where entries may have been lost.
    ///
    /// # Errors
    /// [`LookError`] if it cannot be read.
    pub fn is_kept_clear(&self, range: PortRange) -> Result<bool, LookError> {
        for (word, wanted) in words_of(range) {
            let kept = self.0.kept_in_word(word).map_err(Failure::of("bpf"))?;
            if wanted & !kept != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first port of a range that is not free, and who has it; nothing if all of them are.
    ///
    /// # Errors
    /// [`LookError`] if it cannot be read.
    pub fn first_taken(
        &self,
        transport: Transport,
        range: PortRange,
    ) -> Result<Option<(Port, PortState)>, LookError> {
        let maps = &self.0;
        let element = maps.occupancy(transport).map_err(Failure::of("bpf"))?;
        for (word, wanted) in words_of(range) {
            let mut taken = occupancy::barred_in_word(&element, word);
            if occupancy::is_word_in_use(&element, word) {
                let counts = maps.counts(transport, word).map_err(Failure::of("bpf"))?;
                taken |= ports_in_use(&counts);
            }
            let within = range
                .ports()
                .filter(|port| u32::from(port.number()) / 64 == word);
            let is_taken = |port: &Port| taken >> (port.number() % 64) & 1 == 1;
            if taken & wanted != 0
                && let Some(port) = within.into_iter().find(is_taken)
            {
                return Ok(Some((port, state_of(maps, &element, transport, port)?)));
            }
        }
        Ok(None)
    }
}

/// The words that a range has ports in, each with a mask of these.
fn words_of(range: PortRange) -> impl Iterator<Item = (u32, u64)> {
    let (first, last) = (range.first().number(), range.last().number());
    (first / 64..=last / 64).map(move |word| {
        let from = if word == first / 64 { first % 64 } else { 0 };
        let to = if word == last / 64 { last % 64 } else { 63 };
        (u32::from(word), u64::MAX << from & u64::MAX >> (63 - to))
    })
}

/// What the maps, of which `element` was read before, say of a port.
fn state_of(
    maps: &Maps,
    element: &[u8],
    transport: Transport,
    port: Port,
) -> Result<PortState, LookError> {
    let word = u32::from(port.number()) / 64;
    let counts = maps.counts(transport, word).map_err(Failure::of("bpf"))?;
    let at = usize::from(port.number() % 64) * 4;
    let reservation = match occupancy::claimed(element).contains(port) {
        true => maps
            .records()?
            .into_iter()
            .find(|record| record.transport == transport && record.range.contains(port)),
        false => None,
    };
    Ok(PortState {
        reservation,
        socket_count: u32::from_ne_bytes([
            counts[at],
            counts[at + 1],
            counts[at + 2],
            counts[at + 3],
        ]),
        held: occupancy::held(element).contains(port),
        excluded: occupancy::excluded(element).contains(port),
        recent: occupancy::recent(element, since_boot()).contains(port),
    })
}

fn survey(
    maps: &Maps,
    transport: Transport,
    ranges: &RangeSet,
) -> Result<(TransportOverview, Counters), LookError> {
    let element = maps.occupancy(transport).map_err(Failure::of("bpf"))?;
    let mut used = in_use(maps, transport, &element).map_err(Failure::of("bpf"))?;
    used.union_with(&occupancy::held(&element));
    let reserved = occupancy::claimed(&element);
    let mut taken = used.clone();
    taken.union_with(&reserved);
    taken.union_with(&occupancy::excluded(&element));
    let (free_count, largest_free) = free_in(&taken, ranges);
    let overview = TransportOverview {
        reserved_count: reserved.count(),
        in_use_count: used.count(),
        free_count,
        largest_free,
    };
    Ok((overview, Counters::from_bytes(&element)))
}

/// How many ports of `ranges` are not taken, and the longest run of them, the lowest if several are.
fn free_in(taken: &PortBitmap, ranges: &RangeSet) -> (u32, Option<PortRange>) {
    let free: RangeSet = ranges
        .iter()
        .flat_map(PortRange::ports)
        .filter(|port| !taken.contains(*port))
        .map(PortRange::single)
        .collect();
    let largest = free.iter().rev().max_by_key(|range| range.count());
    (free.len_ports(), largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_range_have_its_ports_and_no_others() {
        for text in [
            "1", "63", "64", "1-64", "20-70", "63-128", "100-300", "1-65535", "65535",
        ] {
            let range: PortRange = text.parse().expect("range");
            let mut expected = PortBitmap::empty();
            expected.set_range(range);
            let mut words = [0; PortBitmap::WORD_COUNT];
            for (word, mask) in words_of(range) {
                words[word as usize] = mask;
            }
            assert_eq!(PortBitmap::from_words(&words), expected, "{text}");
        }
    }

    #[test]
    fn what_is_left_is_counted_within_the_ranges() {
        let ranges = "20000-20009,30000-30003".parse().expect("ranges");
        let mut taken = PortBitmap::empty();
        taken.set_range("20003-20004".parse().expect("range"));
        let largest = Some("20005-20009".parse().expect("range"));
        assert_eq!(free_in(&taken, &ranges), (12, largest));
        taken.set_range(PortRange::ALL);
        assert_eq!(free_in(&taken, &ranges), (0, None));
    }

    #[test]
    fn of_two_longest_runs_the_lower_is_named() {
        let ranges = "20000-20004".parse().expect("ranges");
        let mut taken = PortBitmap::empty();
        taken.set_range("20002".parse().expect("range"));
        let lower = Some("20000-20001".parse().expect("range"));
        assert_eq!(free_in(&taken, &ranges), (4, lower));
    }
}
