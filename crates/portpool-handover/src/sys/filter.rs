//! The filter: which calls are passed on, and how it comes over the child.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Has the child of `command` put itself under the filter just before it becomes the program, and
/// send the listener to the other end of `channel`: one byte with the descriptor. If the kernel
/// refuses the filter, four bytes with the error number come instead.
pub(crate) fn install(command: &mut Command, channel: OwnedFd) {
    // SAFETY: the closure runs in the forked child and makes plain system calls on its own stack
    // only: it neither allocates nor takes a lock.
    unsafe { command.pre_exec(move || enter(&channel)) };
}

fn enter(channel: &OwnedFd) -> io::Result<()> {
    // Without privilege the kernel takes a filter only from those who renounce new privileges; with
    // it the same is done, so that a program behaves alike for everybody.
    rustix::thread::set_no_new_privs(true)?;
    match load() {
        Ok(listener) => send(channel, &listener),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            let mut nothing = SendAncillaryBuffer::default();
            let bytes = number.to_ne_bytes();
            let text = [IoSlice::new(&bytes)];
            sendmsg(channel, &text, &mut nothing, SendFlags::NOSIGNAL)?;
            Err(error)
        }
    }
}

fn send(channel: &OwnedFd, listener: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    }
    let text = [IoSlice::new(&[0])];
    sendmsg(channel, &text, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn load() -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: PROGRAM.len() as libc::c_ushort,
        filter: ptr::from_ref(&PROGRAM).cast_mut().cast(),
    };
    // Without WAIT_KILLABLE_RECV a signal that comes after the bind was done would have the program
    // repeat it and see EINVAL.
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel reads the structure and the instructions it points to, as many as `len`
    // says, and writes neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded with NEW_LISTENER, so this is a new descriptor, which nobody else
    // owns; the kernel opens it close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
}

// Looks at the architecture and the number of a call and nothing else. Calls of another architecture
// (32-bit programs) are let through: there the guard refuses them, which is safe.
static PROGRAM: [libc::sock_filter; 7] = [
    load_word(OFFSET_ARCHITECTURE),
    jump_if_equal(ARCHITECTURE, 0, 3),
    load_word(OFFSET_NUMBER),
    jump_if_equal(libc::SYS_bind as u32, 2, 0),
    jump_if_equal(libc::SYS_listen as u32, 1, 0),
    give(libc::SECCOMP_RET_ALLOW),
    give(libc::SECCOMP_RET_USER_NOTIF),
];

const fn load_word(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

const fn jump_if_equal(value: u32, if_so: u8, if_not: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    instruction(code, if_so, if_not, value)
}

const fn give(answer: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, answer)
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;

// `AUDIT_ARCH_*` of <linux/audit.h>.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

const _: () = assert!(std::mem::offset_of!(libc::seccomp_data, arch) == 4);
