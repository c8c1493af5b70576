//! Which network device has an address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// The index of the device that has `address`, in the network namespace of this thread.
pub(crate) fn owner_of(address: IpAddr) -> io::Result<Option<u32>> {
    let list = List::new()?;
    let mut next = list.0;
    while !next.is_null() {
        // SAFETY: not null, and an entry of a list that lives as long as `list`.
        let entry = unsafe { &*next };
        // SAFETY: the address of an entry is null or points to an address of its family.
        if unsafe { ip(entry.ifa_addr) } == Some(address) {
            // SAFETY: the name of an entry is a string that ends with a zero byte.
            let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
            return Ok(Some(index).filter(|index| *index != 0));
        }
        next = entry.ifa_next;
    }
    Ok(None)
}

struct List(*mut libc::ifaddrs);

impl List {
    fn new() -> io::Result<List> {
        let mut first = ptr::null_mut();
        // SAFETY: the pointer is to a live pointer, which the call sets.
        if unsafe { libc::getifaddrs(&raw mut first) } == 0 {
            return Ok(List(first));
        }
        Err(io::Error::last_os_error())
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the list came from getifaddrs and is freed once, here.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// # Safety
/// `address` must be null or point to an address with the size of its family.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, so by the contract there is at least a family to read.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: by the contract an address of this family is a sockaddr_in.
            let inet = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(inet.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: by the contract an address of this family is a sockaddr_in6.
            let inet = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(inet.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_its_address_and_nobody_a_foreign_one() {
        assert_eq!(owner_of(Ipv4Addr::LOCALHOST.into()).expect("list"), Some(1));
        let foreign: IpAddr = "192.0.2.77".parse().expect("address");
        assert_eq!(owner_of(foreign).expect("list"), None);
    }
}
