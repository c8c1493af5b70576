//! TCP sockets that are bound and neither listen nor connect: only sock_diag lists them, since Linux
//! 6.8. Older kernels list none.

use std::io;

use portpool_core::Port;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::error::{Failed, Step};

/// The ports of the bound, silent TCP sockets of the calling thread's network namespace; one may
/// come several times.
pub(crate) fn silent_tcp_ports() -> Result<Vec<Port>, Failed> {
    let mut ports = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ports.extend(ask(family as u8).step(|| "list the bound TCP sockets".into())?);
    }
    Ok(ports)
}

fn ask(family: u8) -> io::Result<Vec<Port>> {
    let diag = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    );
    let diag = match diag {
        // A kernel without sock_diag.
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(Vec::new()),
        diag => diag?,
    };
    send(&diag, &request(family), SendFlags::empty())?;
    let mut ports = Vec::new();
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let (size, _) = recv(&diag, buffer.as_mut_slice(), RecvFlags::empty())?;
        if !read_answers(&buffer[..size], &mut ports)? {
            return Ok(ports);
        }
    }
}

/// A dump of all sockets in the one state: struct nlmsghdr, then struct inet_diag_req_v2.
fn request(family: u8) -> [u8; REQUEST_SIZE] {
    let mut request = [0; REQUEST_SIZE];
    request[..4].copy_from_slice(&(REQUEST_SIZE as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[HEADER_SIZE] = family;
    request[HEADER_SIZE + 1] = libc::IPPROTO_TCP as u8;
    request[HEADER_SIZE + 4..HEADER_SIZE + 8].copy_from_slice(&BOUND_INACTIVE.to_ne_bytes());
    request
}

/// Reads a datagram of messages; false at the end of the dump.
pub(crate) fn read_answers(mut bytes: &[u8], ports: &mut Vec<Port>) -> io::Result<bool> {
    while let Some((header, _)) = bytes.split_at_checked(HEADER_SIZE) {
        let size = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        let body = bytes.get(HEADER_SIZE..size).ok_or_else(cut_short)?;
        match kind {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => return ended_by(body),
            _ => {
                // struct inet_diag_msg: four bytes, then the port in network order.
                let port = body.get(4..6).ok_or_else(cut_short)?;
                ports.extend(Port::new(u16::from_be_bytes([port[0], port[1]])));
            }
        }
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn ended_by(body: &[u8]) -> io::Result<bool> {
    let number = body.first_chunk().ok_or_else(cut_short)?;
    match -i32::from_ne_bytes(*number) {
        // A kernel that lists no TCP sockets.
        libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP => Ok(false),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

fn cut_short() -> io::Error {
    io::Error::other("an answer of sock_diag is cut short")
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The state TCP_BOUND_INACTIVE as a bit.
const BOUND_INACTIVE: u32 = 1 << 13;
const HEADER_SIZE: usize = 16;
const REQUEST_SIZE: usize = HEADER_SIZE + 56;
const BUFFER_SIZE: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_up_to_the_end_of_the_dump() {
        let message = |kind: u16, body: &[u8]| {
            let mut bytes = vec![0; HEADER_SIZE];
            bytes[..4].copy_from_slice(&((HEADER_SIZE + body.len()) as u32).to_ne_bytes());
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes.extend(body);
            bytes
        };
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, &[2, 13, 0, 0, 0x1f, 0x90, 0, 0]);
        let mut ports = Vec::new();
        assert!(read_answers(&bytes, &mut ports).expect("a message"));
        assert_eq!(ports, [Port::new(8080).expect("port")]);
        bytes.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        assert!(!read_answers(&bytes, &mut ports).expect("the end"));
        assert!(read_answers(&bytes[..20], &mut ports).is_err());
    }
}
