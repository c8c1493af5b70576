//! The fuzz targets of this crate: what must hold of its parsers whatever they are given.

use std::net::SocketAddr;

use crate::{
    address,
    message::{PACKET_SIZE_MAX, Reply, Request},
    sys::memory,
};

/// A packet between supervisors is a message, of which it is the only spelling, or it is none.
pub fn message(bytes: &[u8]) {
    let packet = &bytes[..bytes.len().min(PACKET_SIZE_MAX)];
    if let Some(request) = Request::from_bytes(packet) {
        assert_eq!(request.to_bytes(), packet);
    }
    if let Some(reply) = Reply::from_bytes(packet) {
        assert_eq!(reply.to_bytes(), packet);
    }
}

/// What a program passed to `bind` is read from its memory as it is there, and then as the kernel reads
/// it: too short or of another family is none.
pub fn sockaddr(bytes: &[u8]) {
    let length = bytes.len().min(address::LENGTH_MAX);
    let place = bytes.as_ptr().expose_provenance() as u64;
    let thread = rustix::thread::gettid().as_raw_pid().cast_unsigned();
    let read = memory::read(thread, place, length).expect("our own memory");
    assert_eq!(read, bytes[..length]);
    let family = bytes
        .first_chunk()
        .map(|it| i32::from(u16::from_ne_bytes(*it)));
    let is_any = bytes.get(4..8) == Some(&[0; 4]);
    let needed = match family {
        Some(libc::AF_INET) => Some(16),
        Some(libc::AF_UNSPEC) if is_any => Some(16),
        Some(libc::AF_INET6) => Some(24),
        _ => None,
    };
    let parsed = address::parse(&read);
    assert_eq!(
        parsed.is_some(),
        needed.is_some_and(|needed| length >= needed)
    );
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.port().to_be_bytes(), read[2..4]);
    match parsed {
        SocketAddr::V4(v4) => assert_eq!(v4.ip().octets(), read[4..8]),
        SocketAddr::V6(v6) => assert_eq!(v6.ip().octets(), read[8..24]),
    }
    let is_loopback = address::is_loopback(&parsed);
    assert!(!(is_loopback && parsed.ip().is_unspecified()));
}

#[cfg(test)]
mod tests {
    use portpool_fuzz::exercise;

    #[test]
    fn any_packet_is_a_message_or_none() {
        exercise("message", super::message);
    }

    #[test]
    fn any_address_of_a_program_is_read_as_the_kernel_reads_it() {
        exercise("sockaddr", super::sockaddr);
    }
}
