//! TCP sockets that are bound and neither listen nor connect: only sock_diag lists them, since Linux
//! 6.8. Older kernels list none.

use std::io;

use portpool_core::Port;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::error::{Failed, Step};

/// A TCP socket that is bound and neither listens nor connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilentSocket {
    /// Its port.
    pub port: Port,
    /// Its inode, as links in `/proc/PID/fd` name it.
    pub inode: u32,
}

/// The bound, silent TCP sockets of the calling thread's network namespace, which `/proc/net` does not
/// list; one may come several times. None before Linux 6.8.
///
/// # Errors
/// If the kernel does not answer.
pub fn silent_tcp_sockets() -> Result<Vec<SilentSocket>, Failed> {
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        sockets.extend(ask(family as u8).step(|| "list the bound TCP sockets".into())?);
    }
    Ok(sockets)
}

fn ask(family: u8) -> io::Result<Vec<SilentSocket>> {
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
    let mut sockets = Vec::new();
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let (size, _) = recv(&diag, buffer.as_mut_slice(), RecvFlags::empty())?;
        if !read_answers(&buffer[..size], &mut sockets)? {
            return Ok(sockets);
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
pub(crate) fn read_answers(mut bytes: &[u8], sockets: &mut Vec<SilentSocket>) -> io::Result<bool> {
    while let Some((header, _)) = bytes.split_at_checked(HEADER_SIZE) {
        let size = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        let body = bytes.get(HEADER_SIZE..size).ok_or_else(cut_short)?;
        match kind {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => return ended_by(body),
            _ => sockets.extend(socket(body).ok_or_else(cut_short)?),
        }
        bytes = bytes.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Reads a struct inet_diag_msg: four bytes, then the port in network order, and at the end the inode.
/// A socket may have lost its port meanwhile.
fn socket(message: &[u8]) -> Option<Option<SilentSocket>> {
    let port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let inode = u32::from_ne_bytes(*message.get(68..)?.first_chunk()?);
    Some(Port::new(port).map(|port| SilentSocket { port, inode }))
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
        let mut body = [0; 72];
        body[..6].copy_from_slice(&[2, 13, 0, 0, 0x1f, 0x90]);
        body[68..].copy_from_slice(&4711u32.to_ne_bytes());
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, &body);
        let mut sockets = Vec::new();
        assert!(read_answers(&bytes, &mut sockets).expect("a message"));
        let port = Port::new(8080).expect("port");
        assert_eq!(sockets, [SilentSocket { port, inode: 4711 }]);
        bytes.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        assert!(!read_answers(&bytes, &mut sockets).expect("the end"));
        assert!(read_answers(&bytes[..20], &mut sockets).is_err());
        let short = message(SOCK_DIAG_BY_FAMILY, &body[..68]);
        assert!(read_answers(&short, &mut sockets).is_err());
    }
}
