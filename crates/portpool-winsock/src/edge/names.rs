//! getaddrinfo and getnameinfo: the C library's, in the layouts of Windows.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem::MaybeUninit,
    ptr,
};

use socket2::SockAddr;

use super::{
    boundary::{guard, set_last_error},
    memory::Bytes,
    sockets::sized,
};
use crate::{
    codes::Code,
    engine::{address, startup},
};

/// An ADDRINFOA. Its address and its name are behind it, in the same allocation.
#[repr(C)]
struct AddrInfo {
    flags: c_int,
    family: c_int,
    kind: c_int,
    protocol: c_int,
    address_len: usize,
    name: *mut c_char,
    address: *mut c_void,
    next: *mut AddrInfo,
}

/// 0, or the code, which is the thread's last error too.
#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const AddrInfo,
    result: *mut *mut AddrInfo,
) -> c_int {
    answer(|| {
        startup::check()?;
        // SAFETY: the caller lets this function write the result.
        let target = unsafe { Bytes::new(result, size_of::<usize>()) };
        target.probe::<8>()?;
        // SAFETY: the hints are only read.
        let hints = hints_of(unsafe { Bytes::new(hints, size_of::<AddrInfo>()) })?;
        let (node, service) = (text(node)?, text(service)?);
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |it| it.as_ptr());
        let (node, service) = (pointer(&node), pointer(&service));
        let mut list = ptr::null_mut();
        // SAFETY: node and service are NULL or texts that live until the end; the hints are whole.
        let failed = unsafe { libc::getaddrinfo(node, service, &raw const hints, &raw mut list) };
        if failed != 0 {
            return Err(resolver_code(failed));
        }
        // SAFETY: getaddrinfo made the list and it was not freed.
        let copied = unsafe { copy_list(list) };
        // SAFETY: getaddrinfo made the list; nothing points into it any more.
        unsafe { libc::freeaddrinfo(list) };
        let first = copied?;
        if let Err(fault) = target.write(&first.expose_provenance().to_ne_bytes()) {
            // SAFETY: `copy_list` made it and nobody else has it.
            unsafe { portpool_ws_freeaddrinfo(first) };
            return Err(fault);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_freeaddrinfo(list: *mut AddrInfo) {
    let mut next = list;
    while !next.is_null() {
        let this = next;
        // SAFETY: it is an entry that `copy_list` made, which the caller gives back once.
        next = unsafe { (*this).next };
        // SAFETY: as above; it came from malloc.
        unsafe { libc::free(this.cast()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_getnameinfo(
    name: *const c_void,
    len: c_int,
    node: *mut c_char,
    node_len: u32,
    service: *mut c_char,
    service_len: u32,
    flags: c_int,
) -> c_int {
    answer(|| {
        startup::check()?;
        // SAFETY: the address is only read.
        let name = unsafe { sized(name, len) };
        let family = i32::from(u16::from_ne_bytes(name.read()?));
        let domain = address::domain(family).ok_or(Code::AFNOSUPPORT)?;
        let name = address::read(name, domain)?;
        let flags = translate(flags, &NAME_FLAGS)?;
        // SAFETY: the caller lets this function write its buffers.
        let node = unsafe { Bytes::new(node, node_len as usize) };
        // SAFETY: as above.
        let service = unsafe { Bytes::new(service, service_len as usize) };
        let mut texts = [[0_u8; NAME_SIZE]; 2];
        let [node_text, service_text] = &mut texts;
        // A buffer that was not given is not asked for.
        let size = |target: Bytes| match target.is_null() {
            true => 0,
            false => target.len().min(NAME_SIZE) as libc::socklen_t,
        };
        // SAFETY: the address is whole, and the texts are at least as long as is said.
        let failed = unsafe {
            libc::getnameinfo(
                name.as_ptr().cast(),
                name.len(),
                node_text.as_mut_ptr().cast(),
                size(node),
                service_text.as_mut_ptr().cast(),
                size(service),
                flags,
            )
        };
        if failed != 0 {
            return Err(resolver_code(failed));
        }
        for (target, text) in [node, service].into_iter().zip(&texts) {
            if size(target) > 0 {
                let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
                target.write(&text[..=end])?;
            }
        }
        Ok(())
    })
}

fn answer(work: impl FnOnce() -> Result<(), Code>) -> c_int {
    let Err(code) = guard(work) else { return 0 };
    set_last_error(code.number());
    code.number()
}

/// None for NULL.
fn text(text: *const c_char) -> Result<Option<CString>, Code> {
    // SAFETY: the text is only read.
    let text = unsafe { Bytes::new(text, usize::MAX) };
    match text.is_null() {
        true => Ok(None),
        false => text.text().map(Some),
    }
}

fn hints_of(hints: Bytes) -> Result<libc::addrinfo, Code> {
    // SAFETY: all zero is an addrinfo that hints at nothing.
    let mut ours: libc::addrinfo = unsafe { MaybeUninit::zeroed().assume_init() };
    if hints.is_null() {
        return Ok(ours);
    }
    let number = |at| Ok::<_, Code>(c_int::from_ne_bytes(hints.from(at).read()?));
    ours.ai_flags = translate(number(0)?, &INFO_FLAGS)?;
    ours.ai_family = match number(4)? {
        0 => libc::AF_UNSPEC,
        family => address::domain(family).ok_or(Code::AFNOSUPPORT)?.into(),
    };
    ours.ai_socktype = number(8)?;
    ours.ai_protocol = number(12)?;
    Ok(ours)
}

/// # Safety
/// The list is one of getaddrinfo.
unsafe fn copy_list(list: *const libc::addrinfo) -> Result<*mut AddrInfo, Code> {
    let mut first = ptr::null_mut();
    let mut place: *mut *mut AddrInfo = &raw mut first;
    let mut next = list;
    while !next.is_null() {
        // SAFETY: as the caller says.
        let theirs = unsafe { &*next };
        next = theirs.ai_next;
        // SAFETY: as the caller says.
        let Some(copied) = (unsafe { copy(theirs) }) else {
            // SAFETY: what was made so far is a list of its own.
            unsafe { portpool_ws_freeaddrinfo(first) };
            return Err(Code::NOT_ENOUGH_MEMORY);
        };
        // SAFETY: the place is `first` or the `next` of the entry made before.
        unsafe { *place = copied };
        // SAFETY: the entry was made a moment ago.
        place = unsafe { &raw mut (*copied).next };
    }
    Ok(first)
}

/// # Safety
/// The entry is one of getaddrinfo.
unsafe fn copy(theirs: &libc::addrinfo) -> Option<*mut AddrInfo> {
    // SAFETY: the entry has an address of that length, which fits a storage.
    let address = unsafe {
        SockAddr::try_init(|storage, len| {
            let count = (theirs.ai_addrlen as usize).min(size_of::<libc::sockaddr_storage>());
            ptr::copy_nonoverlapping(theirs.ai_addr.cast::<u8>(), storage.cast(), count);
            *len = theirs.ai_addrlen;
            Ok(())
        })
    };
    let address = address::encode(&address.ok()?.1);
    let name = match theirs.ai_canonname.is_null() {
        true => &[],
        // SAFETY: the entry has a name that ends with a zero.
        false => unsafe { CStr::from_ptr(theirs.ai_canonname) }.to_bytes_with_nul(),
    };
    let size = size_of::<AddrInfo>() + address.len() + name.len();
    // SAFETY: malloc has no conditions.
    let entry: *mut AddrInfo = unsafe { libc::malloc(size) }.cast();
    if entry.is_null() {
        return None;
    }
    // SAFETY: the allocation goes on behind the entry, for address and name.
    let address_at: *mut u8 = unsafe { entry.add(1) }.cast();
    // SAFETY: as above.
    let name_at = unsafe { address_at.add(address.len()) };
    // SAFETY: there is room for it.
    unsafe { ptr::copy_nonoverlapping(address.as_ptr(), address_at, address.len()) };
    // SAFETY: there is room for it.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr(), name_at, name.len()) };
    let ours = AddrInfo {
        flags: 0,
        family: address::family(theirs.ai_family.into()),
        kind: theirs.ai_socktype,
        protocol: theirs.ai_protocol,
        address_len: address.len(),
        name: if name.is_empty() {
            ptr::null_mut()
        } else {
            name_at.cast()
        },
        address: address_at.cast(),
        next: ptr::null_mut(),
    };
    // SAFETY: the allocation is large enough, and aligned as malloc does.
    unsafe { entry.write(ours) };
    Some(entry)
}

fn translate(flags: c_int, rows: &[(c_int, c_int)]) -> Result<c_int, Code> {
    let known = rows.iter().fold(0, |known, (theirs, _)| known | theirs);
    if flags & !known != 0 {
        return Err(Code::INVAL);
    }
    let set = rows.iter().filter(|(theirs, _)| flags & theirs != 0);
    Ok(set.fold(0, |ours, (_, flag)| ours | flag))
}

fn resolver_code(failed: c_int) -> Code {
    match failed {
        libc::EAI_AGAIN => Code::TRY_AGAIN,
        libc::EAI_BADFLAGS => Code::INVAL,
        libc::EAI_FAMILY => Code::AFNOSUPPORT,
        libc::EAI_MEMORY => Code::NOT_ENOUGH_MEMORY,
        libc::EAI_NONAME | libc::EAI_NODATA => Code::HOST_NOT_FOUND,
        libc::EAI_SERVICE => Code::TYPE_NOT_FOUND,
        libc::EAI_SOCKTYPE => Code::SOCKTNOSUPPORT,
        libc::EAI_OVERFLOW => Code::INSUFFICIENT_BUFFER,
        libc::EAI_SYSTEM => std::io::Error::last_os_error().into(),
        _ => Code::NO_RECOVERY,
    }
}

/// NI_MAXHOST
const NAME_SIZE: usize = 1025;

/// Of Windows, and here.
const INFO_FLAGS: [(c_int, c_int); 7] = [
    (0x001, libc::AI_PASSIVE),
    (0x002, libc::AI_CANONNAME),
    (0x004, libc::AI_NUMERICHOST),
    (0x008, libc::AI_NUMERICSERV),
    (0x100, libc::AI_ALL),
    (0x400, libc::AI_ADDRCONFIG),
    (0x800, libc::AI_V4MAPPED),
];
const NAME_FLAGS: [(c_int, c_int); 5] = [
    (0x01, libc::NI_NOFQDN),
    (0x02, libc::NI_NUMERICHOST),
    (0x04, libc::NI_NAMEREQD),
    (0x08, libc::NI_NUMERICSERV),
    (0x10, libc::NI_DGRAM),
];

/// An in6_addr that any language may share.
#[repr(C, align(2))]
struct In6Addr([u8; 16]);

#[unsafe(no_mangle)]
static portpool_ws_in6addr_any: In6Addr = In6Addr([0; 16]);

#[unsafe(no_mangle)]
static portpool_ws_in6addr_loopback: In6Addr =
    In6Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const _: () = assert!(size_of::<AddrInfo>() == 48);
