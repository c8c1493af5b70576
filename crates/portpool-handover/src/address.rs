//! The address that a program wants to bind, as the bytes it passed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::sys::interfaces;

/// The address in bytes that a program passed to `bind`, if the kernel would take them for one of
/// a socket of IPv4 or IPv6. What it would refuse is nothing here: it gives the right error.
pub(crate) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(part(bytes, 0)?));
    let port = u16::from_be_bytes(part(bytes, 2)?);
    match family {
        libc::AF_INET => {
            let _padding: [u8; 8] = part(bytes, 8)?;
            let ip = Ipv4Addr::from(part::<4>(bytes, 4)?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        // An old way to say 0.0.0.0 that the kernel keeps.
        libc::AF_UNSPEC => {
            let _padding: [u8; 8] = part(bytes, 8)?;
            let ip = Ipv4Addr::from(part::<4>(bytes, 4)?);
            ip.is_unspecified()
                .then(|| SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(part(bytes, 4)?);
            let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
            // Programs of the time before scopes pass less.
            let scope = part(bytes, 24).map_or(0, u32::from_ne_bytes);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

/// Whether only this machine can reach the address.
pub(crate) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The device to tie a socket to while it is bound to `address` past a guard that is tied to
/// [`GUARD_DEVICE`]; nothing if binding the address ties the socket by itself.
pub(crate) fn detour_device(address: &SocketAddr) -> Option<u32> {
    let SocketAddr::V6(address) = address else {
        return Some(SOCKET_DEVICE);
    };
    let ip = address.ip();
    if ip.is_unspecified() {
        return Some(SOCKET_DEVICE);
    }
    if needs_scope(ip) {
        return None;
    }
    // For these the kernel looks for the address on the device (6.18: ENODEV if there is none).
    let ip = IpAddr::V6(*ip).to_canonical();
    let owner = interfaces::owner_of(ip).ok().flatten();
    Some(owner.unwrap_or(LOOPBACK_DEVICE))
}

fn needs_scope(ip: &Ipv6Addr) -> bool {
    let is_link_multicast = ip.is_multicast() && matches!(ip.segments()[0] & 0xf, 1 | 2);
    ip.is_unicast_link_local() || is_link_multicast
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from + N)?.try_into().ok()
}

/// In every network namespace.
pub(crate) const LOOPBACK_DEVICE: u32 = 1;
/// Where guards are put out of the way. The kernel does not ask whether there is such a device.
pub(crate) const GUARD_DEVICE: u32 = i32::MAX as u32 - 1;
/// Where sockets are put meanwhile.
pub(crate) const SOCKET_DEVICE: u32 = i32::MAX as u32;

/// The longest address the kernel takes, `sizeof(struct sockaddr_storage)`.
pub(crate) const LENGTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let v4 = inet(libc::AF_INET, [127, 0, 0, 1], 16);
        assert_eq!(parse(&v4), "127.0.0.1:8080".parse().ok());
        let mut v6 = vec![0; 28];
        v6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        v6[2..4].copy_from_slice(&8080_u16.to_be_bytes());
        v6[23] = 1;
        assert_eq!(parse(&v6), "[::1]:8080".parse().ok());
        assert_eq!(parse(&v6[..24]), parse(&v6));
    }

    #[test]
    fn what_the_kernel_refuses_is_left_to_it() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&inet(libc::AF_INET, [0; 4], 15)), None);
        assert_eq!(parse(&inet(libc::AF_INET6, [0; 4], 23)), None);
        assert_eq!(parse(&inet(libc::AF_UNIX, [0; 4], 110)), None);
        assert_eq!(parse(&inet(libc::AF_UNSPEC, [127, 0, 0, 1], 16)), None);
        let any = inet(libc::AF_UNSPEC, [0; 4], 16);
        assert_eq!(parse(&any), "0.0.0.0:8080".parse().ok());
    }

    #[test]
    fn mapped_addresses_are_loopback_too() {
        for (text, expected) in [
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            let address = text.parse().expect("address");
            assert_eq!(is_loopback(&address), expected, "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_serves_where_the_kernel_does_not_look() {
        let device = |text: &str| detour_device(&text.parse().expect("address"));
        assert_eq!(device("192.0.2.1:1"), Some(SOCKET_DEVICE));
        assert_eq!(device("[::]:1"), Some(SOCKET_DEVICE));
        assert_eq!(device("[::1]:1"), Some(LOOPBACK_DEVICE));
        assert_eq!(device("[::ffff:127.0.0.1]:1"), Some(LOOPBACK_DEVICE));
        assert_eq!(device("[fe80::1%7]:1"), None);
        assert_eq!(device("[ff02::1%7]:1"), None);
    }

    fn inet(family: i32, ip: [u8; 4], length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&8080_u16.to_be_bytes());
        bytes[4..8].copy_from_slice(&ip);
        bytes
    }
}
