//! Addresses as Windows lays them out. The family has 2 bytes as on Linux, but AF_INET6 is 23.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use socket2::{Domain, SockAddr};

use crate::{codes::Code, edge::memory::Bytes};

pub(crate) const AF_UNIX: i32 = 1;
pub(crate) const AF_INET: i32 = 2;
pub(crate) const AF_INET6: i32 = 23;

pub(crate) const LEN_MAX: usize = 128;

/// The family of Linux for one of Windows.
pub(crate) fn domain(family: i32) -> Option<Domain> {
    match family {
        AF_UNIX => Some(Domain::UNIX),
        AF_INET => Some(Domain::IPV4),
        AF_INET6 => Some(Domain::IPV6),
        _ => None,
    }
}

/// The family of Windows for one of Linux.
pub(crate) fn family(domain: Domain) -> i32 {
    match domain {
        Domain::IPV4 => AF_INET,
        Domain::IPV6 => AF_INET6,
        domain => i32::from(domain),
    }
}

/// Reads the address of a socket of this family.
///
/// # Errors
/// [`Code::FAULT`] if it cannot be read, is too short or of another family.
pub(crate) fn read(bytes: Bytes, domain: Domain) -> Result<SockAddr, Code> {
    let [low, high] = bytes.read()?;
    if i32::from(u16::from_ne_bytes([low, high])) != family(domain) {
        return Err(Code::FAULT);
    }
    match domain {
        Domain::IPV4 => Ok(ipv4(bytes.read()?).into()),
        Domain::IPV6 => Ok(ipv6(bytes.read()?).into()),
        Domain::UNIX => unix(bytes),
        _ => Err(Code::FAULT),
    }
}

fn ipv4(bytes: [u8; 16]) -> SocketAddr {
    let [_, _, p0, p1, a, b, c, d, ..] = bytes;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1])).into()
}

fn ipv6(bytes: [u8; 28]) -> SocketAddr {
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|index| bytes[at + index]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[8..24]);
    SocketAddrV6::new(Ipv6Addr::from(ip), port, word(4), word(24)).into()
}

fn unix(bytes: Bytes) -> Result<SockAddr, Code> {
    let mut path = [0; UNIX_PATH_LEN_MAX];
    let len = bytes.len().saturating_sub(2).min(path.len());
    bytes.from(2).read_into(&mut path[..len])?;
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(len);
    let text = std::str::from_utf8(&path[..end]).map_err(|_| Code::FAULT)?;
    Ok(SockAddr::unix(text)?)
}

/// The bytes Windows has for an address.
pub(crate) fn encode(address: &SockAddr) -> Vec<u8> {
    match address.as_socket() {
        Some(SocketAddr::V4(address)) => {
            let mut bytes = vec![0; 16];
            bytes[..2].copy_from_slice(&(AF_INET as u16).to_ne_bytes());
            bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
            bytes[4..8].copy_from_slice(&address.ip().octets());
            bytes
        }
        Some(SocketAddr::V6(address)) => {
            let mut bytes = vec![0; 28];
            bytes[..2].copy_from_slice(&(AF_INET6 as u16).to_ne_bytes());
            bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
            bytes[4..8].copy_from_slice(&address.flowinfo().to_ne_bytes());
            bytes[8..24].copy_from_slice(&address.ip().octets());
            bytes[24..].copy_from_slice(&address.scope_id().to_ne_bytes());
            bytes
        }
        None => {
            let mut bytes = vec![0; 2];
            bytes[..2].copy_from_slice(&(family(address.domain()) as u16).to_ne_bytes());
            if let Some(path) = address.as_pathname() {
                bytes.extend_from_slice(path.as_os_str().as_encoded_bytes());
                bytes.push(0);
            }
            bytes
        }
    }
}

/// Writes an address and its length where the caller said, as `getsockname` does.
///
/// # Errors
/// [`Code::FAULT`] if there is no room for it.
pub(crate) fn write(address: &SockAddr, target: Bytes, len: Bytes) -> Result<(), Code> {
    let room = i32::from_ne_bytes(len.read()?);
    let bytes = encode(address);
    if usize::try_from(room).is_ok_and(|room| room < bytes.len()) || room < 0 {
        return Err(Code::FAULT);
    }
    target.write(&bytes)?;
    len.write(&(bytes.len() as i32).to_ne_bytes())
}

/// Of `sun_path` on Windows, without its last zero.
const UNIX_PATH_LEN_MAX: usize = 107;
