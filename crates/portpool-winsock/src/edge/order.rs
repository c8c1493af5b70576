//! Byte orders, and addresses as text.

use std::{
    ffi::{c_char, c_int, c_void},
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    boundary::{answer, status},
    memory::Bytes,
};
use crate::{
    codes::Code,
    engine::{
        address::{AF_INET, AF_INET6},
        sockets::{self, Number},
    },
};

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_htonl(number: u32) -> u32 {
    number.to_be()
}

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_ntohl(number: u32) -> u32 {
    u32::from_be(number)
}

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_htons(number: u16) -> u16 {
    number.to_be()
}

#[unsafe(no_mangle)]
extern "C" fn portpool_ws_ntohs(number: u16) -> u16 {
    u16::from_be(number)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAHtonl(socket: Number, number: u32, target: *mut u32) -> c_int {
    // SAFETY: the caller lets this function write there.
    let target = unsafe { Bytes::new(target, 4) };
    status(|| store(socket, target, &number.to_be_bytes()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSANtohl(socket: Number, number: u32, target: *mut u32) -> c_int {
    // SAFETY: as the caller of this function says.
    unsafe { WSAHtonl(socket, number, target) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSAHtons(socket: Number, number: u16, target: *mut u16) -> c_int {
    // SAFETY: the caller lets this function write there.
    let target = unsafe { Bytes::new(target, 2) };
    status(|| store(socket, target, &number.to_be_bytes()))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn WSANtohs(socket: Number, number: u16, target: *mut u16) -> c_int {
    // SAFETY: as the caller of this function says.
    unsafe { WSAHtons(socket, number, target) }
}

fn store(socket: Number, target: Bytes, bytes: &[u8]) -> Result<(), Code> {
    sockets::find(socket)?;
    target.write(bytes)
}

/// 1, 0 for a text that is no address, -1 for an error.
#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_inet_pton(
    family: c_int,
    text: *const c_char,
    target: *mut c_void,
) -> c_int {
    // Neither this nor its opposite needs a program that has started up.
    answer(-1, || {
        let text = string(text)?;
        // SAFETY: the caller lets this function write the address.
        let target = unsafe { Bytes::new(target, 16) };
        let bytes = match family {
            AF_INET => text.parse().map(|ip: Ipv4Addr| ip.octets().to_vec()),
            AF_INET6 => text.parse().map(|ip: Ipv6Addr| ip.octets().to_vec()),
            _ => return Err(Code::AFNOSUPPORT),
        };
        let Ok(bytes) = bytes else { return Ok(0) };
        target.write(&bytes)?;
        Ok(1)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_inet_ntop(
    family: c_int,
    address: *const c_void,
    text: *mut c_char,
    size: usize,
) -> *const c_char {
    answer(std::ptr::null(), || {
        // SAFETY: the address is only read.
        let address = unsafe { Bytes::new(address, 16) };
        let mut printed = match family {
            AF_INET => Ipv4Addr::from(address.read::<4>()?).to_string(),
            AF_INET6 => Ipv6Addr::from(address.read::<16>()?).to_string(),
            _ => return Err(Code::AFNOSUPPORT),
        };
        printed.push('\0');
        // SAFETY: the caller lets this function write its buffer.
        let target = unsafe { Bytes::new(text, size) };
        if size < printed.len() {
            return Err(Code::INVALID_PARAMETER);
        }
        target.write(printed.as_bytes())?;
        Ok(text.cast_const())
    })
}

/// INADDR_NONE for a text that is no IPv4 address.
#[unsafe(no_mangle)]
extern "C" fn portpool_ws_inet_addr(text: *const c_char) -> u32 {
    answer(u32::MAX, || {
        let text = string(text)?;
        let ip: Result<Ipv4Addr, _> = text.parse();
        Ok(ip.map_or(u32::MAX, |ip| u32::from_ne_bytes(ip.octets())))
    })
}

thread_local! {
    static PRINTED: std::cell::RefCell<[u8; 16]> = const { std::cell::RefCell::new([0; 16]) };
}

/// The text lives until the thread prints its next address.
#[unsafe(no_mangle)]
extern "C" fn portpool_ws_inet_ntoa(address: u32) -> *mut c_char {
    let printed = Ipv4Addr::from(address.to_ne_bytes()).to_string();
    PRINTED.with_borrow_mut(|buffer| {
        *buffer = [0; 16];
        // At most 15 characters: 255.255.255.255.
        buffer[..printed.len()].copy_from_slice(printed.as_bytes());
        buffer.as_mut_ptr().cast()
    })
}

fn string(text: *const c_char) -> Result<String, Code> {
    // SAFETY: the text is only read.
    let text = unsafe { Bytes::new(text, usize::MAX) }.text()?;
    text.into_string().map_err(|_| Code::INVAL)
}
