//! Winsock on Linux, as far as port reservations need it: a C library with the documented names, and
//! in `include` the headers for it.
//!
//! A program written for Windows compiles against these headers and links `-lportpool_winsock`. Its
//! reservations are those of the library [`portpool`], in the kernel pool where that is attached and
//! held by the process where it is not. `docs/winsock.md` says what is covered.
//!
//! - `edge` is the C side: one function a name, pointers that are never trusted, no panic that gets
//!   out. Unsafe code stands there and nowhere else.
//! - `engine` decides: which socket, which code, which answer.
//! - `codes` are the numbers of Windows, `choices` what its documentation leaves open.
//!
//! Names that the C library has as well have symbols of their own (`portpool_ws_bind`), which the
//! headers know: linking this library changes nothing for code that includes <sys/socket.h>.

#![deny(unsafe_code)]

mod choices;
mod codes;
mod edge;
mod engine;
