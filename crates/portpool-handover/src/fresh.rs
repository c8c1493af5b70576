//! Whether a program has used a socket in a way that replacing it would break.
//!
//! A copy of the descriptor would go on naming the old socket, and so would an epoll it was added to:
//! silently, so this is asked first. What an io_uring has registered cannot be seen here.

use std::{fs, io, path::Path};

/// What has to be taken over from a descriptor beside the options of its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorFlags {
    pub(crate) closes_on_exec: bool,
    pub(crate) is_nonblocking: bool,
}

/// The flags of descriptor `number` of the thread, if it is the only one of its socket in any
/// process that can be looked at, and in no epoll there.
pub(crate) fn fresh(thread: u32, number: i32, inode: u64) -> Option<DescriptorFlags> {
    let flags = fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}")).ok()?;
    let flags = line_of(&flags, "flags:").and_then(|it| i32::from_str_radix(it, 8).ok())?;
    if flags & libc::O_ASYNC != 0 || uses(Path::new(&format!("/proc/{thread}")), inode).ok()? != 1 {
        return None;
    }
    let its_process = crate::call::process_of(thread)?;
    let mut others = 0;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let id = process.file_name();
        let id = id.to_str().and_then(|id| id.parse().ok());
        // This process has just taken a copy for itself.
        if id.is_some_and(|id: u32| id != its_process && id != std::process::id()) {
            // Processes that end or are closed to us: those of the program are open to us.
            others += uses(&process.path(), inode).unwrap_or(0);
        }
    }
    (others == 0).then_some(DescriptorFlags {
        closes_on_exec: flags & libc::O_CLOEXEC != 0,
        is_nonblocking: flags & libc::O_NONBLOCK != 0,
    })
}

/// How many descriptors and epoll entries of a process are of the socket.
fn uses(process: &Path, inode: u64) -> io::Result<u64> {
    let socket = format!("socket:[{inode}]");
    let mut count = 0;
    for descriptor in fs::read_dir(process.join("fd"))?.flatten() {
        let Ok(target) = fs::read_link(descriptor.path()) else {
            continue; // Closed meanwhile.
        };
        if target.as_os_str() == socket.as_str() {
            count += 1;
        } else if target.as_os_str() == "anon_inode:[eventpoll]" {
            let about = process.join("fdinfo").join(descriptor.file_name());
            count += watched(&fs::read_to_string(about).unwrap_or_default(), inode);
        }
    }
    Ok(count)
}

/// How often an epoll watches the socket, by its lines such as
/// `tfd:        5 events:       19 data: 5  pos:0 ino:2f0a sdev:8`.
fn watched(about: &str, inode: u64) -> u64 {
    let inode = format!("ino:{inode:x}");
    let entries = about.lines().filter(|line| line.starts_with("tfd:"));
    let ours = entries.filter(|line| line.split_whitespace().any(|word| word == inode));
    ours.count() as u64
}

fn line_of<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd};

    use rustix::event::epoll;

    use super::*;
    use crate::socket::Socket;
    use std::os::fd::AsFd;

    #[test]
    fn copies_and_epolls_of_a_socket_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let (socket, _) = Socket::new(listener.as_fd()).expect("a socket");
        let inode = socket.inode().expect("inode");
        let used = || uses(Path::new("/proc/self"), inode).expect("look");
        assert_eq!(used(), 1);
        let copy = listener.try_clone().expect("copy");
        assert_eq!(used(), 2);
        drop(copy);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let wanted = epoll::EventFlags::IN;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(0), wanted).expect("add");
        assert_eq!(used(), 2);
        assert!(listener.as_raw_fd() > 2);
    }

    #[test]
    fn only_lines_of_entries_count() {
        let about =
            "pos:\t0\nflags:\t02\nino:\t9\ntfd:  5 events: 19 data: 5  pos:0 ino:2f sdev:8\n";
        assert_eq!(watched(about, 0x2f), 1);
        assert_eq!(watched(about, 9), 0);
        assert_eq!(watched(about, 0x2), 0);
    }
}
