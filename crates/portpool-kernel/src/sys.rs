//! The bpf(2) system call: one safe function per command used. The only unsafe code of the crate.
//!
//! Loading programs is aya's work; what is here are maps inside maps, pins, and links that can be
//! pinned and updated.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// `BPF_F_RDONLY`.
const RDONLY: u32 = 1 << 3;
/// `BPF_F_NO_PREALLOC`.
pub(crate) const NO_PREALLOC: u32 = 1;
/// `BPF_MAP_TYPE_HASH`.
pub(crate) const TYPE_HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`.
pub(crate) const TYPE_ARRAY: u32 = 2;

/// `BPF_MAP_TYPE_PERCPU_ARRAY`.
pub(crate) const TYPE_PERCPU_ARRAY: u32 = 6;

/// What a map is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapShape {
    pub(crate) name: &'static str,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// A bpf map, program or link.
#[derive(Debug)]
pub(crate) struct Object(OwnedFd);

impl Object {
    /// Creates a map.
    pub(crate) fn create_map(shape: &MapShape) -> io::Result<Object> {
        let mut attr = Attr::default();
        attr.put(0, shape.map_type);
        attr.put(4, shape.key_size);
        attr.put(8, shape.value_size);
        attr.put(12, shape.max_entries);
        attr.put(16, shape.flags);
        // Bytes 28 to 43: the name, at most 15 bytes and a zero.
        for (index, byte) in shape.name.bytes().take(15).enumerate() {
            attr.0[28 + index] = byte;
        }
        attr.call_for_fd(MAP_CREATE)
    }

    /// Opens a pinned object.
    pub(crate) fn open(path: &Path) -> io::Result<Object> {
        let path = c_path(path)?;
        let mut attr = Attr::default();
        attr.put_address(0, path.as_ptr().addr());
        attr.call_for_fd(OBJ_GET)
    }

    /// Opens a pinned map to read it, which everybody may whom its mode lets.
    pub(crate) fn open_to_read(path: &Path) -> io::Result<Object> {
        let path = c_path(path)?;
        let mut attr = Attr::default();
        attr.put_address(0, path.as_ptr().addr());
        attr.put(12, RDONLY);
        attr.call_for_fd(OBJ_GET)
    }

    /// Attaches a program to a cgroup by a link; several may be attached to one hook.
    pub(crate) fn link(program: &impl AsFd, cgroup: &impl AsFd, hook: u32) -> io::Result<Object> {
        let mut attr = Attr::default();
        attr.put(0, number(program));
        attr.put(4, number(cgroup));
        attr.put(8, hook);
        attr.call_for_fd(LINK_CREATE)
    }

    /// Puts another program in a link's place, with no moment without one.
    pub(crate) fn replace_program(&self, program: &impl AsFd) -> io::Result<()> {
        let mut attr = Attr::default();
        attr.put(0, number(&self.0));
        attr.put(4, number(program));
        attr.call(LINK_UPDATE).map(drop)
    }

    /// The id of the cgroup a link is attached to, 0 once that cgroup is gone.
    pub(crate) fn linked_cgroup(&self) -> io::Result<u64> {
        // struct bpf_link_info: type, id, prog_id, padding, then cgroup_id and attach_type.
        let mut info = [0u64; 8];
        let mut attr = Attr::default();
        attr.put(0, number(&self.0));
        attr.put(4, 64);
        attr.put_address(8, info.as_mut_ptr().addr());
        attr.call(OBJ_GET_INFO_BY_FD)?;
        Ok(info[2])
    }

    /// All maps of the machine that have this name and these sizes of key and value, whoever made them,
    /// each with its number.
    pub(crate) fn maps_like(shape: &MapShape) -> io::Result<Vec<(u32, Object)>> {
        let mut found = Vec::new();
        let mut id = 0;
        loop {
            let mut attr = Attr::default();
            attr.put(0, id);
            if !none_is_false(attr.call(MAP_GET_NEXT_ID))? {
                return Ok(found);
            }
            id = attr.at(4);
            let mut attr = Attr::default();
            attr.put(0, id);
            let map = match attr.call_for_fd(MAP_GET_FD_BY_ID) {
                Ok(map) => map,
                // It has just gone.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(error) => return Err(error),
            };
            if map.map_info()?.is_like(shape) {
                found.push((id, map));
            }
        }
    }

    /// The number of a map on this machine.
    pub(crate) fn map_id(&self) -> io::Result<u32> {
        Ok(self.map_info()?.id())
    }

    fn map_info(&self) -> io::Result<MapInfo> {
        let mut info = MapInfo([0; 40]);
        let mut attr = Attr::default();
        attr.put(0, number(&self.0));
        attr.put(4, info.0.len() as u32);
        attr.put_address(8, info.0.as_mut_ptr().addr());
        attr.call(OBJ_GET_INFO_BY_FD)?;
        Ok(info)
    }

    /// Pins the object at a path below a bpf file system.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut attr = Attr::default();
        attr.put_address(0, path.as_ptr().addr());
        attr.put(8, number(&self.0));
        attr.call(OBJ_PIN).map(drop)
    }

    /// Reads a map's element into `value`, which must be of the map's value size; false if there is none.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        let mut attr = self.element(key);
        attr.put_address(16, value.as_mut_ptr().addr());
        none_is_false(attr.call(MAP_LOOKUP_ELEM))
    }

    /// Writes a map's element.
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut attr = self.element(key);
        attr.put_address(16, value.as_ptr().addr());
        attr.call(MAP_UPDATE_ELEM).map(drop)
    }

    /// Deletes a map's element; false if there was none.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        none_is_false(self.element(key).call(MAP_DELETE_ELEM))
    }

    /// All keys of a map of keys of eight bytes.
    pub(crate) fn keys(&self) -> io::Result<Vec<u64>> {
        let mut keys = Vec::new();
        let mut key = [0u8; 8];
        loop {
            let mut next = [0u8; 8];
            let mut attr = self.element(&key);
            if keys.is_empty() {
                attr.put_address(8, 0);
            }
            attr.put_address(16, next.as_mut_ptr().addr());
            // A map that changes meanwhile may repeat keys: never more than it can hold.
            if !none_is_false(attr.call(MAP_GET_NEXT_KEY))? || keys.len() >= KEY_COUNT_MAX {
                return Ok(keys);
            }
            keys.push(u64::from_ne_bytes(next));
            key = next;
        }
    }

    /// The number by which a map of maps knows this map.
    pub(crate) fn as_inner(&self) -> [u8; 4] {
        number(&self.0).to_ne_bytes()
    }

    fn element(&self, key: &[u8]) -> Attr {
        let mut attr = Attr::default();
        attr.put(0, number(&self.0));
        attr.put_address(8, key.as_ptr().addr());
        attr
    }
}

const KEY_COUNT_MAX: usize = 1 << 17;

/// The beginning of `struct bpf_map_info`: type, id, key_size, value_size, max_entries, map_flags, name.
#[repr(C, align(8))]
struct MapInfo([u8; 40]);

impl MapInfo {
    fn id(&self) -> u32 {
        number_at(&self.0, 4)
    }

    /// Whether name and sizes are those of `shape`; how many entries there may be says nothing.
    fn is_like(&self, shape: &MapShape) -> bool {
        let name = self.0[24..].split(|byte| *byte == 0).next();
        number_at(&self.0, 0) == shape.map_type
            && number_at(&self.0, 8) == shape.key_size
            && number_at(&self.0, 12) == shape.value_size
            && name == Some(shape.name.as_bytes())
    }
}

/// `union bpf_attr`: the fields of the command at hand, the rest zero.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Default for Attr {
    fn default() -> Attr {
        Attr([0; 128])
    }
}

impl Attr {
    fn put(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn at(&self, offset: usize) -> u32 {
        number_at(&self.0, offset)
    }

    fn put_address(&mut self, offset: usize, address: usize) {
        self.0[offset..offset + 8].copy_from_slice(&(address as u64).to_ne_bytes());
    }

    fn call(&mut self, command: libc::c_long) -> io::Result<libc::c_long> {
        // SAFETY: the attribute block lives through the call and is as long as said. Addresses in it
        // were taken by this module from buffers borrowed by the calling function, with the sizes
        // of the map or path at hand.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }

    fn call_for_fd(&mut self, command: libc::c_long) -> io::Result<Object> {
        let fd = self.call(command)?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the command has just returned this descriptor, close-on-exec, to nobody else.
        Ok(Object(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

fn number_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(number)
}

fn number(fd: &impl AsFd) -> u32 {
    // Open descriptors are never negative.
    fd.as_fd().as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn none_is_false(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `SO_NETNS_COOKIE` of a socket.
pub(crate) fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}
