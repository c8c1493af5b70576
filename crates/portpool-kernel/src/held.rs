//! Ports that are in use though no hook can count them: sockets of the kernel itself, sockets of
//! other cgroups, sockets on their way between processes while the sweep ran.
//!
//! Found by looking at what the kernel lists; looked at again with every attach.

use std::{fs, thread, time::Duration};

use portpool_core::{
    Port, PortBitmap, Transport,
    abi::{COUNTS_SIZE, counts_key, occupancy, ports_in_use},
};

use crate::{
    diag,
    error::{Failed, Step},
    pool::PoolMaps,
    programs::Programs,
};

/// Makes the held ports of the pool at `index` what the kernel lists and nobody counts.
///
/// A kernel socket bound meanwhile sets its own bit; bits not set before the look are not cleared,
/// nor those the sweep has just set.
pub(crate) fn look(programs: &mut Programs, maps: &PoolMaps, index: u32) -> Result<(), Failed> {
    let mut holds = Vec::with_capacity(2 * PortBitmap::WORD_COUNT);
    let swept = programs.swept_holds()?;
    let counting = maps.counting()?;
    for transport in Transport::ALL {
        let before = occupancy::held(&maps.occupancy(transport)?);
        let first = Look::now(maps, transport)?;
        // A socket seen once may just be closing: only one seen twice is held.
        #[expect(
            clippy::disallowed_methods,
            reason = "two looks need time between them"
        )]
        thread::sleep(SETTLE_TIME);
        let second = Look::now(maps, transport)?;
        for word in 0..PortBitmap::WORD_COUNT {
            let uncounted = first.uncounted.words()[word] & second.uncounted.words()[word];
            let set = uncounted & counting.words()[word];
            let listed = first.listed.words()[word] | second.listed.words()[word];
            let kept = listed | swept[holds.len()];
            holds.push((set, before.words()[word] & !kept));
        }
    }
    programs.hold(index, &holds)
}

/// Longer than a bind or close takes.
const SETTLE_TIME: Duration = Duration::from_millis(2);

/// The sockets of one transport that the kernel lists in this network namespace.
struct Look {
    /// Ports with any socket.
    listed: PortBitmap,
    /// Ports with a socket that a program could have bound, though none is counted there.
    uncounted: PortBitmap,
}

impl Look {
    fn now(maps: &PoolMaps, transport: Transport) -> Result<Look, Failed> {
        let mut look = Look {
            listed: PortBitmap::empty(),
            uncounted: PortBitmap::empty(),
        };
        for family in ["", "6"] {
            let path = format!("/proc/thread-self/net/{transport}{family}");
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                text => text.step(|| format!("read {path}"))?,
            };
            for socket in text.lines().skip(1).filter_map(listed_socket) {
                look.note(maps, transport, &socket)?;
            }
        }
        if transport == Transport::Tcp {
            for socket in diag::silent_tcp_sockets()? {
                look.note_bound(maps, transport, socket.port)?;
            }
        }
        Ok(look)
    }

    fn note(
        &mut self,
        maps: &PoolMaps,
        transport: Transport,
        socket: &ListedSocket,
    ) -> Result<(), Failed> {
        let ListedSocket { port, .. } = *socket;
        if socket.state == TIME_WAIT && transport == Transport::Tcp {
            return Ok(());
        }
        // What nobody holds open any more goes by itself.
        if socket.inode == 0 && socket.state != LISTEN && transport == Transport::Tcp {
            self.listed.set(port);
            return Ok(());
        }
        self.note_bound(maps, transport, port)
    }

    fn note_bound(
        &mut self,
        maps: &PoolMaps,
        transport: Transport,
        port: Port,
    ) -> Result<(), Failed> {
        self.listed.set(port);
        let mut bytes = [0; COUNTS_SIZE];
        let key = counts_key(transport, u32::from(port.number()) / 64).to_ne_bytes();
        maps.counts
            .open()?
            .lookup(&key, &mut bytes)
            .step(|| "read the counts".into())?;
        if ports_in_use(&bytes) >> (port.number() % 64) & 1 == 0 {
            self.uncounted.set(port);
        }
        Ok(())
    }
}

const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListedSocket {
    port: Port,
    state: u8,
    /// 0 if no program holds it open.
    inode: u64,
}

/// A line of /proc/net/tcp or udp.
pub(crate) fn listed_socket(line: &str) -> Option<ListedSocket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    Some(ListedSocket {
        port: Port::new(u16::from_str_radix(port, 16).ok()?)?,
        state: u8::from_str_radix(words.get(3)?, 16).ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_list_is_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    1000 0 4711 1 0000000000000000 100 0 0 10 0";
        let port = Port::new(8080).expect("port");
        let expected = ListedSocket {
            port,
            state: LISTEN,
            inode: 4711,
        };
        assert_eq!(listed_socket(line), Some(expected));
        assert_eq!(listed_socket("  sl  local_address"), None);
    }
}
