//! Looking at pinned maps and attached programs with nothing of the product in between.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// A pinned map.
pub struct Map(OwnedFd);

impl Map {
    /// Opens the map pinned at `path`.
    pub fn open(path: &Path) -> io::Result<Map> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = Attributes::default();
        attributes.put_address(0, path.as_ptr().addr());
        let fd = attributes.call(OBJ_GET)?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call has just returned this descriptor to nobody else.
        Ok(Map(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The values of all keys, for a map of keys of `K` and values of `V` bytes.
    pub fn entries<const K: usize, const V: usize>(&self) -> io::Result<Vec<([u8; K], [u8; V])>> {
        let mut entries = Vec::new();
        let mut key: Option<[u8; K]> = None;
        loop {
            let mut next = [0; K];
            let mut attributes = self.attributes();
            if let Some(key) = &key {
                attributes.put_address(8, key.as_ptr().addr());
            }
            attributes.put_address(16, next.as_mut_ptr().addr());
            match attributes.call(MAP_GET_NEXT_KEY) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(entries),
                Err(error) => return Err(error),
            }
            let mut value = [0; V];
            let mut attributes = self.attributes();
            attributes.put_address(8, next.as_ptr().addr());
            attributes.put_address(16, value.as_mut_ptr().addr());
            if attributes.call(MAP_LOOKUP_ELEM).is_ok() {
                entries.push((next, value));
            }
            key = Some(next);
        }
    }

    /// Writes the value of a key, each of the size that the map has.
    pub fn write(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut attributes = self.attributes();
        attributes.put_address(8, key.as_ptr().addr());
        attributes.put_address(16, value.as_ptr().addr());
        attributes.call(MAP_UPDATE_ELEM).map(drop)
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.put(0, self.0.as_raw_fd().cast_unsigned());
        attributes
    }
}

/// Ids of the programs attached to a cgroup at any of the hooks that portpool uses.
pub fn programs_on(cgroup: &Path) -> io::Result<Vec<u32>> {
    let directory = File::open(cgroup)?;
    let mut found = Vec::new();
    for hook in HOOKS {
        let mut ids = [0u32; 64];
        let mut attributes = Attributes::default();
        attributes.put(0, directory.as_raw_fd().cast_unsigned());
        attributes.put(4, hook);
        attributes.put_address(16, ids.as_mut_ptr().addr());
        attributes.put(24, 64);
        attributes.call(PROG_QUERY)?;
        let count = attributes.number(24) as usize;
        found.extend_from_slice(&ids[..count.min(ids.len())]);
    }
    Ok(found)
}

/// `enum bpf_attach_type`: sock_release, post_bind4/6, bind4/6, connect4/6, setsockopt.
const HOOKS: [u32; 8] = [34, 12, 13, 8, 9, 10, 11, 22];

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_GET: libc::c_long = 7;
const PROG_QUERY: libc::c_long = 16;

/// Mirrors `union bpf_attr`: the fields of the command at hand, the rest zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes([0; 128])
    }
}

impl Attributes {
    fn put(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn put_address(&mut self, offset: usize, address: usize) {
        self.0[offset..offset + 8].copy_from_slice(&(address as u64).to_ne_bytes());
    }

    fn number(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<libc::c_long> {
        // SAFETY: the block lives through the call and is as long as said. Addresses in it are of
        // buffers borrowed by the calling function, of the sizes the tests state for each map.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }
}
