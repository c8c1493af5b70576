//! Which processes have a socket bound to a port, as far as /proc shows.
//!
//! A TCP socket that is bound but neither listens nor is connected is in no list of /proc: the count
//! the pool keeps is right where this one is lower.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use portpool::{Port, Transport};

use crate::owner::command_line;

/// The inodes of all sockets with a local port, in this network namespace.
#[derive(Debug, Default)]
pub(crate) struct Sockets(BTreeMap<(Transport, u16), BTreeSet<u64>>);

impl Sockets {
    pub(crate) fn read() -> Sockets {
        let mut sockets = Sockets::default();
        for (transport, name) in [
            (Transport::Tcp, "tcp"),
            (Transport::Tcp, "tcp6"),
            (Transport::Udp, "udp"),
            (Transport::Udp, "udp6"),
        ] {
            let text = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
            for (port, inode) in text.lines().filter_map(socket) {
                sockets
                    .0
                    .entry((transport, port))
                    .or_default()
                    .insert(inode);
            }
        }
        sockets
    }

    /// Whether a socket that somebody owns is on the port.
    pub(crate) fn has(&self, transport: Transport, port: Port) -> bool {
        self.0.contains_key(&(transport, port.number()))
    }

    /// The processes that have a socket on the port open, each once, with their command lines.
    pub(crate) fn processes(&self, transport: Transport, port: Port) -> Vec<(u32, Option<String>)> {
        let Some(inodes) = self.0.get(&(transport, port.number())) else {
            return Vec::new();
        };
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| has_open(*pid, inodes))
            .collect();
        pids.sort_unstable();
        pids.into_iter()
            .map(|pid| (pid, command_line(pid)))
            .collect()
    }
}

/// The local port and the inode of a line of /proc/net/tcp and its kin. An accepted or closing socket
/// without an owner has inode 0.
fn socket(line: &str) -> Option<(u16, u64)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let inode = fields.nth(7)?.parse().ok().filter(|inode| *inode != 0)?;
    Some((u16::from_str_radix(port, 16).ok()?, inode))
}

fn has_open(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|entry| socket_inode(&entry.path()).is_some_and(|inode| inodes.contains(&inode)))
}

fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   \
                    33        0 4711 1 0000000000000000 100 0 0 10 0";
        assert_eq!(socket(line), Some((8080, 4711)));
        assert_eq!(
            socket("  sl  local_address rem_address   st tx_queue"),
            None
        );
    }

    #[test]
    fn this_process_is_found_by_its_socket() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = Port::new(socket.local_addr().expect("address").port()).expect("port");
        let processes = Sockets::read().processes(Transport::Udp, port);
        assert!(processes.iter().any(|(pid, _)| *pid == std::process::id()));
    }
}
