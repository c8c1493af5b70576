//! The calls on sockets. Buffers go to the kernel as they are: it checks them itself.

use std::{
    ffi::{c_char, c_int, c_void},
    io,
    net::Shutdown,
    os::fd::AsRawFd,
};

use socket2::SockAddr;

use super::{
    boundary::{SOCKET_ERROR, answer, status},
    memory::Bytes,
};
use crate::{
    choices,
    codes::Code,
    engine::{
        address,
        sockets::{self, Number, Socket, retry},
    },
};

pub(super) const INVALID_SOCKET: Number = Number::MAX;

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_socket(family: c_int, kind: c_int, protocol: c_int) -> Number {
    answer(INVALID_SOCKET, || {
        sockets::create(family, kind, protocol, true)
    })
}

/// `info` describes a protocol of a provider; there is one provider and it needs none.
#[unsafe(no_mangle)]
extern "C" fn WSASocketA(
    family: c_int,
    kind: c_int,
    protocol: c_int,
    _info: *const c_void,
    _group: u32,
    flags: u32,
) -> Number {
    answer(INVALID_SOCKET, || create(family, kind, protocol, flags))
}

pub(super) fn create(
    family: c_int,
    kind: c_int,
    protocol: c_int,
    flags: u32,
) -> Result<Number, Code> {
    let is_overlapped = flags & WSA_FLAG_OVERLAPPED != 0;
    sockets::create(family, kind, protocol, is_overlapped)
}

#[unsafe(no_mangle)]
extern "C" fn WSASocketW(
    family: c_int,
    kind: c_int,
    protocol: c_int,
    info: *const c_void,
    group: u32,
    flags: u32,
) -> Number {
    WSASocketA(family, kind, protocol, info, group, flags)
}

#[unsafe(no_mangle)]
extern "C" fn closesocket(socket: Number) -> c_int {
    status(|| sockets::close(socket))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_bind(socket: Number, name: *const c_void, len: c_int) -> c_int {
    // SAFETY: the address is only read.
    status(|| unsafe { bind(socket, name, len) })
}

/// # Safety
/// As [`Bytes::new`].
pub(super) unsafe fn bind(socket: Number, name: *const c_void, len: c_int) -> Result<(), Code> {
    let socket = sockets::find(socket)?;
    // SAFETY: the address is only read.
    let name = unsafe { sized(name, len) };
    socket.bind(&address::read(name, socket.domain())?)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_connect(socket: Number, name: *const c_void, len: c_int) -> c_int {
    status(|| {
        let socket = sockets::find(socket)?;
        // SAFETY: the address is only read.
        let name = unsafe { sized(name, len) };
        let peer = address::read(name, socket.domain())?;
        socket.bind_to_connect(&peer)?;
        match socket.raw().connect(&peer) {
            // A signal came: the connection goes on being made without us.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => socket.await_connection(),
            // What is under way on Linux would have blocked on Windows.
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Err(Code::WOULDBLOCK),
            Err(error) if socket.is_associated() && !socket.is_bound() => {
                Err(choices::bind_failed(&error, true))
            }
            answer => Ok(answer?),
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_listen(socket: Number, backlog: c_int) -> c_int {
    status(|| sockets::find(socket)?.listen(backlog))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_accept(
    socket: Number,
    name: *mut c_void,
    len: *mut c_int,
) -> Number {
    answer(INVALID_SOCKET, || {
        let (accepted, peer) = sockets::find(socket)?.accept()?;
        // SAFETY: the caller lets this function write the address and its length.
        let written = unsafe { write_address(&peer, name, len) };
        if let (false, Err(fault)) = (name.is_null(), written) {
            sockets::close(accepted)?;
            return Err(fault);
        }
        Ok(accepted)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_getsockname(
    socket: Number,
    name: *mut c_void,
    len: *mut c_int,
) -> c_int {
    // SAFETY: the caller lets this function write the address and its length.
    status(|| unsafe { getsockname(socket, name, len) })
}

/// # Safety
/// The caller lets this function write the address and its length.
pub(super) unsafe fn getsockname(
    socket: Number,
    name: *mut c_void,
    len: *mut c_int,
) -> Result<(), Code> {
    let socket = sockets::find(socket)?;
    if !socket.is_bound() {
        return Err(Code::INVAL);
    }
    let address = socket.raw().local_addr()?;
    // SAFETY: as the caller says.
    unsafe { write_address(&address, name, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_getpeername(
    socket: Number,
    name: *mut c_void,
    len: *mut c_int,
) -> c_int {
    status(|| {
        let address = sockets::find(socket)?.raw().peer_addr()?;
        // SAFETY: the caller lets this function write the address and its length.
        unsafe { write_address(&address, name, len) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_send(
    socket: Number,
    data: *const c_char,
    len: c_int,
    flags: c_int,
) -> c_int {
    answer(SOCKET_ERROR, || {
        let socket = sockets::find(socket)?;
        let (len, flags) = (length(len)?, message_flags(flags)?);
        // SAFETY: the kernel reads the data as far as it is mapped.
        transferred(|| unsafe { libc::send(socket.raw().as_raw_fd(), data.cast(), len, flags) })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_recv(
    socket: Number,
    data: *mut c_char,
    len: c_int,
    flags: c_int,
) -> c_int {
    answer(SOCKET_ERROR, || {
        let socket = sockets::find(socket)?;
        let (len, flags) = (length(len)?, message_flags(flags)?);
        receive(&socket, len, |flags_more| {
            // SAFETY: the caller lets this function write its buffer; the kernel checks it.
            transferred(|| unsafe {
                libc::recv(
                    socket.raw().as_raw_fd(),
                    data.cast(),
                    len,
                    flags | flags_more,
                )
            })
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_sendto(
    socket: Number,
    data: *const c_char,
    len: c_int,
    flags: c_int,
    name: *const c_void,
    name_len: c_int,
) -> c_int {
    if name.is_null() {
        // SAFETY: as the caller of this function says.
        return unsafe { portpool_ws_send(socket, data, len, flags) };
    }
    answer(SOCKET_ERROR, || {
        let socket = sockets::find(socket)?;
        let (len, flags) = (length(len)?, message_flags(flags)?);
        // SAFETY: the address is only read.
        let name = unsafe { sized(name, name_len) };
        let peer = address::read(name, socket.domain())?;
        // Left to itself the kernel would choose any port.
        socket.bind_in_block(Some(&peer))?;
        // SAFETY: the kernel reads the data as far as it is mapped; the address is a whole one.
        transferred(|| unsafe {
            libc::sendto(
                socket.raw().as_raw_fd(),
                data.cast(),
                len,
                flags,
                peer.as_ptr().cast(),
                peer.len(),
            )
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_recvfrom(
    socket: Number,
    data: *mut c_char,
    len: c_int,
    flags: c_int,
    name: *mut c_void,
    name_len: *mut c_int,
) -> c_int {
    answer(SOCKET_ERROR, || {
        let socket = sockets::find(socket)?;
        let (len, flags) = (length(len)?, message_flags(flags)?);
        let mut peer = None;
        let count = receive(&socket, len, |flags_more| {
            let call = |storage: *mut libc::sockaddr, storage_len: *mut libc::socklen_t| {
                let number = socket.raw().as_raw_fd();
                // SAFETY: the caller lets this function write its buffer; the kernel checks it. The
                // address goes to memory of that length.
                transferred(|| unsafe {
                    let flags = flags | flags_more;
                    libc::recvfrom(number, data.cast(), len, flags, storage, storage_len)
                })
            };
            // SAFETY: recvfrom sets the length to what it wrote.
            let answer =
                unsafe { SockAddr::try_init(|storage, len| Ok(call(storage.cast(), len))) };
            let (count, from) = answer?;
            peer = Some(from);
            count
        })?;
        if let (false, Some(peer)) = (name.is_null(), peer.filter(|it| it.len() > 2)) {
            // SAFETY: the caller lets this function write the address and its length.
            unsafe { write_address(&peer, name, name_len) }?;
        }
        Ok(count)
    })
}

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_shutdown(socket: Number, how: c_int) -> c_int {
    status(|| {
        let socket = sockets::find(socket)?;
        let how = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Err(Code::INVAL),
        };
        Ok(socket.raw().shutdown(how)?)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ioctlsocket(socket: Number, command: i32, argument: *mut u32) -> c_int {
    status(|| {
        let socket = sockets::find(socket)?;
        // SAFETY: the caller lets this function write its argument.
        let argument = unsafe { Bytes::new(argument, size_of::<u32>()) };
        match command.cast_unsigned() {
            FIONBIO => socket.set_nonblocking(u32::from_ne_bytes(argument.read()?) != 0),
            FIONREAD => {
                let count = rustix::io::ioctl_fionread(socket.raw())?;
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                argument.write(&count.to_ne_bytes())
            }
            _ => Err(Code::OPNOTSUPP),
        }
    })
}

impl Socket {
    fn await_connection(&self) -> Result<(), Code> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let mut watched = [PollFd::new(self.raw(), PollFlags::OUT)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(self.raw().take_error()?.map_or(Ok(()), Err)?)
    }
}

/// Calls `call` with the flags that tell how much there was. What does not fit of a datagram is lost
/// on Linux and an error on Windows.
fn receive(
    socket: &Socket,
    len: usize,
    call: impl FnOnce(c_int) -> Result<c_int, Code>,
) -> Result<c_int, Code> {
    if socket.transport() == Some(portpool::Transport::Tcp) {
        return call(0);
    }
    let count = call(libc::MSG_TRUNC)?;
    match usize::try_from(count) {
        Ok(count) if count > len => Err(Code::MSGSIZE),
        _ => Ok(count),
    }
}

/// The number of bytes that a system call moved.
fn transferred(mut call: impl FnMut() -> isize) -> Result<c_int, Code> {
    let count = retry(|| match call() {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count),
    })?;
    // It is not more than was asked for, which was an int.
    Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
}

/// # Safety
/// The caller lets this function write the address and its length.
unsafe fn write_address(
    address: &SockAddr,
    name: *mut c_void,
    len: *mut c_int,
) -> Result<(), Code> {
    // SAFETY: as the caller says.
    let name = unsafe { Bytes::new(name, address::LEN_MAX) };
    // SAFETY: as the caller says.
    let len = unsafe { Bytes::new(len, size_of::<c_int>()) };
    address::write(address, name, len)
}

/// # Safety
/// As [`Bytes::new`].
pub(super) unsafe fn sized(pointer: *const c_void, len: c_int) -> Bytes {
    // SAFETY: as the caller says.
    unsafe { Bytes::new(pointer, usize::try_from(len).unwrap_or(0)) }
}

fn length(len: c_int) -> Result<usize, Code> {
    usize::try_from(len).map_err(|_| Code::FAULT)
}

fn message_flags(flags: c_int) -> Result<c_int, Code> {
    let mut ours = libc::MSG_NOSIGNAL;
    for (theirs, flag) in MESSAGE_FLAGS {
        if flags & theirs != 0 {
            ours |= flag;
        }
    }
    let known = MESSAGE_FLAGS
        .iter()
        .fold(0, |known, (theirs, _)| known | theirs);
    if flags & !known == 0 {
        Ok(ours)
    } else {
        Err(Code::OPNOTSUPP)
    }
}

/// MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_WAITALL.
const MESSAGE_FLAGS: [(c_int, c_int); 4] = [
    (0x1, libc::MSG_OOB),
    (0x2, libc::MSG_PEEK),
    (0x4, libc::MSG_DONTROUTE),
    (0x8, libc::MSG_WAITALL),
];
const WSA_FLAG_OVERLAPPED: u32 = 0x01;
const FIONBIO: u32 = 0x8004_667e;
const FIONREAD: u32 = 0x4004_667f;
