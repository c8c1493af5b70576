//! The socket between a supervisor and another one inside it: packets, some with sockets.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg, socket_with,
    },
};

use crate::{message::PACKET_SIZE_MAX, sys::options::peer_process};

/// A name nobody guesses, and a socket at which those who know it come in.
pub(crate) fn reception() -> io::Result<(String, OwnedFd)> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let name = bytes.map(|byte| format!("{byte:02x}")).concat();
    let socket = unix()?;
    bind(&socket, &address(&name)?)?;
    listen(&socket, BACKLOG)?;
    Ok((name, socket))
}

/// A connection to the one whose name this is.
pub(crate) fn enter(name: &str) -> io::Result<OwnedFd> {
    let socket = unix()?;
    retry_on_intr(|| connect(&socket, &address(name)?))?;
    Ok(socket)
}

/// The next one who came in.
pub(crate) fn accept(reception: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(retry_on_intr(|| {
        accept_with(reception, SocketFlags::CLOEXEC)
    })?)
}

/// The process at the other end, or 0 if it has no id here.
pub(crate) fn peer(connection: &OwnedFd) -> io::Result<u32> {
    peer_process(connection)
}

/// Sends a packet; never waits if `flags` say so.
pub(crate) fn send(
    connection: &OwnedFd,
    bytes: &[u8],
    sockets: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKET_COUNT_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(Errno::TOOBIG.into());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    retry_on_intr(|| sendmsg(connection, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// Takes the next packet; nothing if the other end is closed.
pub(crate) fn receive(
    connection: &OwnedFd,
    flags: RecvFlags,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_SIZE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKET_COUNT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| {
        recvmsg(
            connection,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            flags,
        )
    })?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    // No descriptors were left for all of them, or the packet is none of ours.
    let cut = ReturnFlags::CTRUNC | ReturnFlags::TRUNC;
    if received.flags.intersects(cut) {
        return Err(Errno::MFILE.into());
    }
    bytes.truncate(received.bytes);
    Ok((received.bytes > 0).then_some((bytes, sockets)))
}

fn unix() -> io::Result<OwnedFd> {
    let kind = SocketType::SEQPACKET;
    Ok(socket_with(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn address(name: &str) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new_abstract_name(format!("portpool-{name}").as_bytes())
}

const BACKLOG: i32 = 16;
/// A guard and its twins.
const SOCKET_COUNT_MAX: usize = 3;
