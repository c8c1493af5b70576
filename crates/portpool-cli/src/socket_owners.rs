//! Which processes have a socket bound to a port, as far as the kernel shows.
//!
//! A TCP socket that is bound but neither listens nor is connected is in no list before Linux 6.8: the
//! count the pool keeps is right where this one is lower.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use portpool::{Port, Transport};
use portpool_kernel::silent_tcp_sockets;

use crate::owner::command_line;

/// The inodes of all sockets with a local port, in this network namespace.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    all: BTreeMap<(Transport, u16), BTreeSet<u64>>,
    /// TCP sockets that neither listen nor connect.
    silent: BTreeMap<u16, BTreeSet<u64>>,
}

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
                sockets.add(transport, port, inode);
            }
        }
        for silent in silent_tcp_sockets().unwrap_or_default() {
            let (port, inode) = (silent.port.number(), silent.inode.into());
            sockets.add(Transport::Tcp, port, inode);
            sockets.silent.entry(port).or_default().insert(inode);
        }
        sockets
    }

    fn add(&mut self, transport: Transport, port: u16, inode: u64) {
        self.all.entry((transport, port)).or_default().insert(inode);
    }

    /// Whether a socket that somebody owns is on the port.
    pub(crate) fn has(&self, transport: Transport, port: Port) -> bool {
        self.all.contains_key(&(transport, port.number()))
    }

    /// How many there are that neither listen nor connect.
    pub(crate) fn silent_count(&self, transport: Transport, port: Port) -> u32 {
        let silent = self.silent.get(&port.number()).map_or(0, BTreeSet::len);
        match transport {
            Transport::Tcp => u32::try_from(silent).unwrap_or(u32::MAX),
            Transport::Udp => 0,
        }
    }

    /// The processes that have a socket on the port open, each once, with their command lines.
    pub(crate) fn processes(&self, transport: Transport, port: Port) -> Vec<(u32, Option<String>)> {
        let Some(inodes) = self.all.get(&(transport, port.number())) else {
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

/// Whether the kernel lists TCP sockets that neither listen nor connect.
pub(crate) fn lists_silent_sockets() -> bool {
    let uname = rustix::system::uname();
    is_6_8(&uname.release().to_string_lossy())
}

fn is_6_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    (next().unwrap_or(0), next().unwrap_or(0)) >= (6, 8)
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
    use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

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

    #[test]
    fn this_process_is_found_by_a_silent_socket_where_the_kernel_lists_those() {
        let socket = socket_with(
            AddressFamily::INET6,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("socket");
        bind(&socket, &SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0)).expect("bind");
        let address: SocketAddrV6 = getsockname(&socket)
            .expect("address")
            .try_into()
            .expect("IPv6");
        let port = Port::new(address.port()).expect("port");
        let sockets = Sockets::read();
        let found = u32::from(lists_silent_sockets());
        assert_eq!(sockets.silent_count(Transport::Tcp, port), found);
        let processes = sockets.processes(Transport::Tcp, port);
        assert_eq!(
            processes.iter().any(|(pid, _)| *pid == std::process::id()),
            found == 1
        );
    }

    #[test]
    fn releases_of_the_kernel_are_read() {
        for release in ["6.8.0-45-generic", "6.18.44", "7.0-rc1", "10.0"] {
            assert!(is_6_8(release), "{release}");
        }
        for release in ["6.1.0-18-amd64", "5.19.0", "6.7.12", "6", ""] {
            assert!(!is_6_8(release), "{release}");
        }
    }
}
