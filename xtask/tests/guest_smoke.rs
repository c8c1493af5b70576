//! What the kernel matrix promises its guests: root, cgroup v2, bpffs, loopback, MPTCP.
//!
//! Ignored elsewhere, where it would only say something about the developer's machine.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

#[test]
#[ignore = "for a guest of the kernel matrix"]
fn cgroup_v2_is_mounted_and_takes_a_new_group() {
    assert!(mounted("/sys/fs/cgroup", "cgroup2"));
    let group = Path::new("/sys/fs/cgroup/guest_smoke");
    fs::create_dir(group).unwrap();
    assert!(group.join("cgroup.procs").exists());
    fs::remove_dir(group).unwrap();
}

#[test]
#[ignore = "for a guest of the kernel matrix"]
fn bpf_has_a_file_system_and_type_information() {
    assert!(mounted("/sys/fs/bpf", "bpf"));
    assert!(Path::new("/sys/kernel/btf/vmlinux").exists());
}

#[test]
#[ignore = "for a guest of the kernel matrix"]
fn loopback_takes_tcp_and_udp_of_both_families() {
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let any_port = SocketAddr::new(address, 0);
        TcpListener::bind(any_port).unwrap();
        UdpSocket::bind(any_port).unwrap();
    }
}

#[test]
#[ignore = "for a guest of the kernel matrix"]
fn mptcp_sockets_can_be_created() {
    for domain in [Domain::IPV4, Domain::IPV6] {
        Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)).unwrap();
    }
}

fn mounted(point: &str, kind: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| {
        let words: Vec<_> = line.split(' ').collect();
        words[4] == point && line.contains(&format!(" - {kind} "))
    })
}
