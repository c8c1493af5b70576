//! The error numbers of Windows: which errno is which, and what each says.

use std::io;

/// An error number of Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(i32);

impl Code {
    pub(crate) const fn number(self) -> i32 {
        self.0
    }

    pub(crate) const fn from_number(number: i32) -> Code {
        Code(number)
    }

    /// The code for an error of a system call.
    pub(crate) fn of(error: &io::Error) -> Code {
        error
            .raw_os_error()
            .map_or(Code::SYSCALLFAILURE, Code::of_errno)
    }

    pub(crate) const fn of_errno(errno: i32) -> Code {
        match errno {
            libc::EINTR => Code::INTR,
            libc::EBADF | libc::ENOTSOCK => Code::NOTSOCK,
            libc::EACCES | libc::EPERM => Code::ACCES,
            libc::EFAULT => Code::FAULT,
            libc::EINVAL => Code::INVAL,
            libc::EMFILE | libc::ENFILE => Code::MFILE,
            libc::EAGAIN => Code::WOULDBLOCK,
            libc::EINPROGRESS => Code::INPROGRESS,
            libc::EALREADY => Code::ALREADY,
            libc::EDESTADDRREQ => Code::DESTADDRREQ,
            libc::EMSGSIZE => Code::MSGSIZE,
            libc::EPROTOTYPE => Code::PROTOTYPE,
            libc::ENOPROTOOPT => Code::NOPROTOOPT,
            libc::EPROTONOSUPPORT => Code::PROTONOSUPPORT,
            libc::ESOCKTNOSUPPORT => Code::SOCKTNOSUPPORT,
            libc::EOPNOTSUPP => Code::OPNOTSUPP,
            libc::EPFNOSUPPORT => Code::PFNOSUPPORT,
            libc::EAFNOSUPPORT => Code::AFNOSUPPORT,
            libc::EADDRINUSE => Code::ADDRINUSE,
            libc::EADDRNOTAVAIL | libc::ENODEV => Code::ADDRNOTAVAIL,
            libc::ENETDOWN => Code::NETDOWN,
            libc::ENETUNREACH => Code::NETUNREACH,
            libc::ENETRESET => Code::NETRESET,
            libc::ECONNABORTED => Code::CONNABORTED,
            libc::ECONNRESET => Code::CONNRESET,
            libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC => Code::NOBUFS,
            libc::EISCONN => Code::ISCONN,
            libc::ENOTCONN => Code::NOTCONN,
            libc::ESHUTDOWN | libc::EPIPE => Code::SHUTDOWN,
            libc::ETOOMANYREFS => Code::TOOMANYREFS,
            libc::ETIMEDOUT => Code::TIMEDOUT,
            libc::ECONNREFUSED => Code::CONNREFUSED,
            libc::ELOOP => Code::LOOP,
            libc::ENAMETOOLONG => Code::NAMETOOLONG,
            libc::EHOSTDOWN => Code::HOSTDOWN,
            libc::EHOSTUNREACH => Code::HOSTUNREACH,
            libc::ENOTEMPTY => Code::NOTEMPTY,
            libc::EUSERS => Code::USERS,
            libc::EDQUOT => Code::DQUOT,
            _ => Code::SYSCALLFAILURE,
        }
    }
}

impl From<io::Error> for Code {
    fn from(error: io::Error) -> Code {
        Code::of(&error)
    }
}

impl From<rustix::io::Errno> for Code {
    fn from(error: rustix::io::Errno) -> Code {
        Code::of_errno(error.raw_os_error())
    }
}

macro_rules! codes {
    ($($name:ident = $number:literal, $symbol:literal, $text:literal;)*) => {
        #[expect(dead_code, reason = "the whole table, for the texts")]
        impl Code {
            $(pub(crate) const $name: Code = Code($number);)*
        }

        /// Number, name, and what it says.
        pub(crate) const TEXTS: &[(i32, &str, &str)] = &[$(
            ($number, concat!($symbol, "\0"), concat!($text, "\0")),
        )*];
    };
}

codes! {
    SUCCESS = 0, "ERROR_SUCCESS", "The operation completed successfully.";
    ACCESS_DENIED = 5, "ERROR_ACCESS_DENIED", "Access is denied: the call needs CAP_NET_ADMIN over the network namespace, or membership in the group allowed.";
    INVALID_HANDLE = 6, "WSA_INVALID_HANDLE", "The handle is no event of this library, or it was closed.";
    NOT_ENOUGH_MEMORY = 8, "WSA_NOT_ENOUGH_MEMORY", "There is not enough memory.";
    SHARING_VIOLATION = 32, "ERROR_SHARING_VIOLATION", "A port of the block is in use or reserved: choose other ports.";
    NOT_SUPPORTED = 50, "ERROR_NOT_SUPPORTED", "The request is not supported.";
    INVALID_PARAMETER = 87, "WSA_INVALID_PARAMETER", "A parameter is incorrect.";
    INSUFFICIENT_BUFFER = 122, "ERROR_INSUFFICIENT_BUFFER", "The buffer is too small.";
    OPERATION_ABORTED = 995, "WSA_OPERATION_ABORTED", "The overlapped operation was cancelled: its socket was closed or flushed, or the thread that issued it ended.";
    IO_INCOMPLETE = 996, "WSA_IO_INCOMPLETE", "The overlapped operation has not completed yet.";
    IO_PENDING = 997, "WSA_IO_PENDING", "The overlapped operation was started and completes later.";
    SERVICE_NOT_ACTIVE = 1062, "ERROR_SERVICE_NOT_ACTIVE", "The service has not been started: start `portpool keeper`.";
    NOT_FOUND = 1168, "ERROR_NOT_FOUND", "No persistent block has this start and count, or nothing is pending.";
    NO_SYSTEM_RESOURCES = 1450, "ERROR_NO_SYSTEM_RESOURCES", "The keeper could not do it: a limit is reached or it failed; its log says which.";
    INTR = 10004, "WSAEINTR", "A blocking call was interrupted.";
    BADF = 10009, "WSAEBADF", "The file handle is not valid.";
    ACCES = 10013, "WSAEACCES", "Access to the port was refused: it is reserved by another process, or this call needs a privilege.";
    FAULT = 10014, "WSAEFAULT", "A pointer argument does not point to memory the call can use, or a length is too small for it.";
    INVAL = 10022, "WSAEINVAL", "An argument is not acceptable, a buffer has the wrong size, or the socket is in the wrong state.";
    MFILE = 10024, "WSAEMFILE", "No more descriptors are available.";
    WOULDBLOCK = 10035, "WSAEWOULDBLOCK", "The socket is non-blocking and the call could not complete at once.";
    INPROGRESS = 10036, "WSAEINPROGRESS", "A blocking operation is in progress.";
    ALREADY = 10037, "WSAEALREADY", "The socket is connecting already.";
    NOTSOCK = 10038, "WSAENOTSOCK", "The handle is no socket of this library, or it was closed.";
    DESTADDRREQ = 10039, "WSAEDESTADDRREQ", "A destination address is needed.";
    MSGSIZE = 10040, "WSAEMSGSIZE", "The message does not fit into the buffer or the network's limit.";
    PROTOTYPE = 10041, "WSAEPROTOTYPE", "The protocol is of another type than the socket.";
    NOPROTOOPT = 10042, "WSAENOPROTOOPT", "The option is unknown or not supported at this level.";
    PROTONOSUPPORT = 10043, "WSAEPROTONOSUPPORT", "The protocol is not supported.";
    SOCKTNOSUPPORT = 10044, "WSAESOCKTNOSUPPORT", "The type of socket is not supported.";
    OPNOTSUPP = 10045, "WSAEOPNOTSUPP", "The operation is not supported for this socket: reservations need TCP or UDP.";
    PFNOSUPPORT = 10046, "WSAEPFNOSUPPORT", "The protocol family is not supported.";
    AFNOSUPPORT = 10047, "WSAEAFNOSUPPORT", "The address family is not supported.";
    ADDRINUSE = 10048, "WSAEADDRINUSE", "The port is in use or reserved: choose another one.";
    ADDRNOTAVAIL = 10049, "WSAEADDRNOTAVAIL", "The address is not one of this machine, or the port is not one of the block the socket is associated with.";
    NETDOWN = 10050, "WSAENETDOWN", "The network or the reservation service is not there: run `portpool attach` as root, and `portpool keeper` for ports that automatic choice could pick.";
    NETUNREACH = 10051, "WSAENETUNREACH", "The network cannot be reached.";
    NETRESET = 10052, "WSAENETRESET", "The network dropped the connection on reset.";
    CONNABORTED = 10053, "WSAECONNABORTED", "The connection was aborted here.";
    CONNRESET = 10054, "WSAECONNRESET", "The connection was reset by the peer.";
    NOBUFS = 10055, "WSAENOBUFS", "No ports are left for this call: the block is used up or released, no free run is long enough, or a limit is reached.";
    ISCONN = 10056, "WSAEISCONN", "The socket is connected already.";
    NOTCONN = 10057, "WSAENOTCONN", "The socket is not connected.";
    SHUTDOWN = 10058, "WSAESHUTDOWN", "The socket was shut down for this direction.";
    TOOMANYREFS = 10059, "WSAETOOMANYREFS", "There are too many references.";
    TIMEDOUT = 10060, "WSAETIMEDOUT", "The connection or the call timed out.";
    CONNREFUSED = 10061, "WSAECONNREFUSED", "The peer refused the connection.";
    LOOP = 10062, "WSAELOOP", "A name leads to itself.";
    NAMETOOLONG = 10063, "WSAENAMETOOLONG", "A name is too long.";
    HOSTDOWN = 10064, "WSAEHOSTDOWN", "The host is down.";
    HOSTUNREACH = 10065, "WSAEHOSTUNREACH", "The host cannot be reached.";
    NOTEMPTY = 10066, "WSAENOTEMPTY", "The directory is not empty.";
    PROCLIM = 10067, "WSAEPROCLIM", "Too many programs use the library.";
    USERS = 10068, "WSAEUSERS", "The user quota is used up.";
    DQUOT = 10069, "WSAEDQUOT", "The quota is used up.";
    SYSNOTREADY = 10091, "WSASYSNOTREADY", "The network is not ready.";
    VERNOTSUPPORTED = 10092, "WSAVERNOTSUPPORTED", "The version of Winsock asked for is not supported.";
    NOTINITIALISED = 10093, "WSANOTINITIALISED", "WSAStartup has not been called, or WSACleanup has.";
    PROVIDERFAILEDINIT = 10106, "WSAEPROVIDERFAILEDINIT", "The provider cannot be used.";
    SYSCALLFAILURE = 10107, "WSASYSCALLFAILURE", "A system call failed that never should.";
    TYPE_NOT_FOUND = 10109, "WSATYPE_NOT_FOUND", "The service is unknown.";
    HOST_NOT_FOUND = 11001, "WSAHOST_NOT_FOUND", "The host is unknown.";
    TRY_AGAIN = 11002, "WSATRY_AGAIN", "The name could not be resolved now: try again.";
    NO_RECOVERY = 11003, "WSANO_RECOVERY", "The name could not be resolved.";
    NO_DATA = 11004, "WSANO_DATA", "The name has no address of this kind.";
}
