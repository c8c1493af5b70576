//! setsockopt and getsockopt.

use std::{
    ffi::{c_char, c_int, c_void},
    io,
    os::fd::AsRawFd,
};

use super::{boundary::status, memory::Bytes};
use crate::{
    codes::Code,
    engine::{
        options::{Name, Value, find},
        sockets::{self, Number, Socket},
    },
};

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_setsockopt(
    socket: Number,
    level: c_int,
    option: c_int,
    value: *const c_char,
    len: c_int,
) -> c_int {
    status(|| {
        let socket = sockets::find(socket)?;
        let name = find(level, option).ok_or(Code::NOPROTOOPT)?;
        // SAFETY: the value is only read.
        let value = unsafe { Bytes::new(value, usize::try_from(len).unwrap_or(0)) };
        set(&socket, name, value)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn portpool_ws_getsockopt(
    socket: Number,
    level: c_int,
    option: c_int,
    value: *mut c_char,
    len: *mut c_int,
) -> c_int {
    status(|| {
        let socket = sockets::find(socket)?;
        let name = find(level, option).ok_or(Code::NOPROTOOPT)?;
        // SAFETY: the caller lets this function write the length.
        let len = unsafe { Bytes::new(len, size_of::<c_int>()) };
        let room = usize::try_from(i32::from_ne_bytes(len.read()?)).unwrap_or(0);
        // SAFETY: the caller lets this function write the value.
        let target = unsafe { Bytes::new(value, room) };
        let bytes = get(&socket, name)?;
        // What is either true or false may be asked for in less.
        let bytes = match name.value {
            Value::Truth | Value::Opposite if room > 0 && room < 4 => &bytes[..room],
            _ => &bytes,
        };
        target.write(bytes)?;
        len.write(&(bytes.len() as c_int).to_ne_bytes())
    })
}

fn set(socket: &Socket, name: Name, value: Bytes) -> Result<(), Code> {
    match name.value {
        Value::Number => write(socket, name, &value.read::<4>()?),
        Value::Truth => write(socket, name, &c_int::from(truth(value)?).to_ne_bytes()),
        Value::Time => {
            let milliseconds = u32::from_ne_bytes(value.read()?);
            let time = libc::timeval {
                tv_sec: (milliseconds / 1000).into(),
                tv_usec: (milliseconds % 1000 * 1000).into(),
            };
            write(socket, name, &words(&[time.tv_sec, time.tv_usec]))
        }
        Value::Linger => {
            let [on, seconds] = shorts(value.read()?);
            write_linger(socket, name, on.into(), seconds.into())
        }
        Value::Error => Err(Code::NOPROTOOPT),
        Value::Opposite if name.option == libc::SO_LINGER => {
            write_linger(socket, name, c_int::from(!truth(value)?), 0)
        }
        // Linux gives no port to two by default: there is only a permission to take back.
        Value::Opposite => match truth(value)? {
            true => write(socket, name, &0_i32.to_ne_bytes()),
            false => Ok(()),
        },
        Value::Bytes(len) => {
            let mut bytes = [0; 32];
            value.read_into(&mut bytes[..len])?;
            write(socket, name, &bytes[..len])
        }
    }
}

fn get(socket: &Socket, name: Name) -> Result<Vec<u8>, Code> {
    let mut bytes = [0; 32];
    let len = read(socket, name, &mut bytes)?;
    let number = |at: usize| {
        let bytes = [0, 1, 2, 3].map(|index| bytes[at + index]);
        c_int::from_ne_bytes(bytes)
    };
    let word = |at: usize| {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7].map(|index| bytes[at + index]);
        i64::from_ne_bytes(bytes)
    };
    Ok(match name.value {
        Value::Number => number(0).to_ne_bytes().to_vec(),
        Value::Truth => c_int::from(number(0) != 0).to_ne_bytes().to_vec(),
        Value::Time => {
            let milliseconds = word(0) * 1000 + word(8) / 1000;
            u32::try_from(milliseconds)
                .unwrap_or(u32::MAX)
                .to_ne_bytes()
                .to_vec()
        }
        Value::Linger => {
            let short = |number: c_int| u16::try_from(number).unwrap_or(u16::MAX);
            let (on, seconds) = (short(number(0)), short(number(4)));
            [on.to_ne_bytes(), seconds.to_ne_bytes()].concat()
        }
        Value::Error => {
            let code = match number(0) {
                0 => 0,
                errno => Code::of_errno(errno).number(),
            };
            code.to_ne_bytes().to_vec()
        }
        Value::Opposite => c_int::from(number(0) == 0).to_ne_bytes().to_vec(),
        Value::Bytes(_) => bytes[..len.min(bytes.len())].to_vec(),
    })
}

/// Windows takes a BOOL for these, and in places a single byte.
fn truth(value: Bytes) -> Result<bool, Code> {
    match value.len() {
        0 => Err(Code::FAULT),
        1..4 => Ok(value.read::<1>()? != [0]),
        _ => Ok(value.read::<4>()? != [0; 4]),
    }
}

fn shorts([a, b, c, d]: [u8; 4]) -> [u16; 2] {
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

fn words(words: &[i64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn write_linger(socket: &Socket, name: Name, on: c_int, seconds: c_int) -> Result<(), Code> {
    write(
        socket,
        name,
        &[on.to_ne_bytes(), seconds.to_ne_bytes()].concat(),
    )
}

fn write(socket: &Socket, name: Name, bytes: &[u8]) -> Result<(), Code> {
    let value: *const c_void = bytes.as_ptr().cast();
    // SAFETY: the kernel reads as many bytes as there are.
    let answer = unsafe {
        libc::setsockopt(
            socket.raw().as_raw_fd(),
            name.level,
            name.option,
            value,
            bytes.len() as libc::socklen_t,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error().into())
    }
}

fn read(socket: &Socket, name: Name, bytes: &mut [u8]) -> Result<usize, Code> {
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes no more bytes than there are, and their number.
    let answer = unsafe {
        libc::getsockopt(
            socket.raw().as_raw_fd(),
            name.level,
            name.option,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if answer == 0 {
        Ok(len as usize)
    } else {
        Err(io::Error::last_os_error().into())
    }
}
