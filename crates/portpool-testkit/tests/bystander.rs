//! Socket options that are none of the pool's business behave with it as without it.
//!
//! Every call is made in the arena, whose programs see it, and by a thread of the same process on a
//! socket of another cgroup, whose programs do not. Result, errno and read-back must be the same.
//! No tool and no other program is needed, so this also runs in a bare guest.

use std::{fs, path::Path, process};

use portpool_testkit::{
    Arena, Errno, in_arena,
    sys::{get_raw, set_at, set_raw},
};
use socket2::{Domain, Protocol, Socket, Type};

#[test]
fn options_of_any_size_are_set_and_read_as_without_a_pool() {
    in_arena!(|arena| {
        let messages = kernel_messages();
        let pairs = Pairs::open(arena);
        let mut compared = 0;
        for pair in &pairs.0 {
            for (level, name, what) in OPTIONS {
                for size in SIZES {
                    for fill in [0_u8, 1, 0x5a] {
                        let value = vec![fill; size.max(1)];
                        pair.compare(*level, *name, &value, size as i64, what);
                        compared += 1;
                    }
                }
                for lie in [-1, i64::from(i32::MIN), i64::from(i32::MAX), 1 << 20] {
                    pair.compare(*level, *name, &[0; 16], lie, what);
                }
                pair.compare_at(*level, *name, 0, 4, what);
                pair.compare_at(*level, *name, 16, 8192, what);
            }
        }
        assert!(compared > 10_000, "{compared}");
        assert_eq!(new_messages(&messages), Vec::<String>::new());
    });
}

#[test]
fn filters_above_a_page_are_attached_as_without_a_pool() {
    in_arena!(|arena| {
        let messages = kernel_messages();
        for pair in &Pairs::open(arena).0 {
            for count in [1, 511, 512, 513, 1024, 4096, 4097] {
                let accept = libc::sock_filter {
                    code: 0x06,
                    jt: 0,
                    jf: 0,
                    k: 0xffff,
                };
                let program = vec![accept; count];
                let [inside, outside] = [&pair.inside, &pair.outside]
                    .map(|socket| outcome(portpool_testkit::sys::attach_filter(socket, &program)));
                assert_eq!(inside, outside, "{} with {count} instructions", pair.name);
            }
        }
        assert_eq!(new_messages(&messages), Vec::<String>::new());
    });
}

/// The filters that need more than a page are granted, not merely refused alike.
#[test]
fn a_long_list_of_multicast_sources_is_taken() {
    in_arena!(|arena| {
        for pair in &Pairs::open(arena).0 {
            if pair.name != "udp" {
                continue;
            }
            let mut join = Vec::from([232, 1, 1, 1]);
            join.extend([127, 0, 0, 1]);
            pair.compare(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &join, 8, "join");
            // struct ip_msfilter: group, interface, mode, count, then the sources.
            for count in [8_u32, 1_100, 2_100] {
                for socket in [&pair.inside, &pair.outside] {
                    raise_source_limit();
                    let mut filter = Vec::from([232, 1, 1, 1]);
                    filter.extend([127, 0, 0, 1]);
                    filter.extend(1_u32.to_ne_bytes());
                    filter.extend(count.to_ne_bytes());
                    for number in 0..count {
                        filter.extend((0x0a00_0001 + number).to_be_bytes());
                    }
                    let size = filter.len() as i64;
                    set_raw(socket, libc::IPPROTO_IP, IP_MSFILTER, &filter, size)
                        .unwrap_or_else(|error| panic!("{count} sources: {error}"));
                }
            }
        }
    });
}

#[test]
fn a_level_of_ours_with_a_name_of_nobodys_is_unknown() {
    in_arena!(|arena| {
        for pair in &Pairs::open(arena).0 {
            for name in [0, 1, 98, 109, 1000, -1] {
                for size in [0, 8, 32, 4096, 8192] {
                    let value = vec![0; size];
                    let level = portpool::abi::LEVEL;
                    pair.compare(level, name, &value, size as i64, "our level");
                }
            }
        }
    });
}

const IP_MSFILTER: i32 = 41;
const IPT_SO_SET_REPLACE: i32 = 64;

const SIZES: [usize; 16] = [
    0, 1, 2, 3, 4, 7, 8, 16, 128, 1024, 4095, 4096, 4097, 8192, 32_768, 65_536,
];

const OPTIONS: &[(i32, i32, &str)] = &[
    (libc::SOL_SOCKET, libc::SO_RCVBUF, "SO_RCVBUF"),
    (libc::SOL_SOCKET, libc::SO_SNDBUF, "SO_SNDBUF"),
    (libc::SOL_SOCKET, libc::SO_REUSEADDR, "SO_REUSEADDR"),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, "SO_KEEPALIVE"),
    (libc::SOL_SOCKET, libc::SO_LINGER, "SO_LINGER"),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, "SO_PRIORITY"),
    (libc::SOL_SOCKET, libc::SO_MARK, "SO_MARK"),
    (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, "SO_BINDTODEVICE"),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, "SO_RCVTIMEO"),
    (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, "SO_ATTACH_FILTER"),
    (libc::SOL_SOCKET, 9999, "no option of SOL_SOCKET"),
    (libc::IPPROTO_IP, libc::IP_TOS, "IP_TOS"),
    (libc::IPPROTO_IP, libc::IP_TTL, "IP_TTL"),
    (libc::IPPROTO_IP, 4, "IP_OPTIONS"),
    (libc::IPPROTO_IP, libc::IP_FREEBIND, "IP_FREEBIND"),
    (
        libc::IPPROTO_IP,
        libc::IP_ADD_MEMBERSHIP,
        "IP_ADD_MEMBERSHIP",
    ),
    (libc::IPPROTO_IP, IP_MSFILTER, "IP_MSFILTER"),
    (libc::IPPROTO_IP, 48, "MCAST_MSFILTER"),
    (libc::IPPROTO_IP, IPT_SO_SET_REPLACE, "IPT_SO_SET_REPLACE"),
    (
        libc::IPPROTO_IP,
        IPT_SO_SET_REPLACE + 1,
        "IPT_SO_SET_ADD_COUNTERS",
    ),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY"),
    (libc::IPPROTO_IPV6, 54, "IPV6_HOPOPTS"),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, "TCP_NODELAY"),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG, "TCP_MAXSEG"),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION, "TCP_CONGESTION"),
    (libc::IPPROTO_TCP, libc::TCP_MD5SIG, "TCP_MD5SIG"),
    (libc::IPPROTO_TCP, libc::TCP_ULP, "TCP_ULP"),
    (libc::IPPROTO_UDP, 1, "UDP_CORK"),
    (libc::IPPROTO_UDP, 103, "UDP_SEGMENT"),
    (libc::SOL_NETLINK, 4, "NETLINK_NO_ENOBUFS"),
    (12_345, 1, "a level of nobody's"),
];

/// The same kind of socket twice: of the arena's cgroup, and of one beside it.
struct Pair {
    name: &'static str,
    inside: Socket,
    outside: Socket,
}

struct Pairs(Vec<Pair>);

impl Pairs {
    fn open(arena: &Arena) -> Pairs {
        let inside = open_all();
        let outside = outside_of(arena, open_all);
        assert_eq!(pool_answers(&inside[0].1), Ok(()));
        assert_eq!(
            pool_answers(&outside[0].1),
            Err(Errno(libc::ENOPROTOOPT)),
            "a socket outside sees the pool"
        );
        let pairs = inside.into_iter().zip(outside);
        let pairs = pairs.map(|((name, inside), (_, outside))| Pair {
            name,
            inside,
            outside,
        });
        Pairs(pairs.collect())
    }
}

impl Pair {
    /// Sets an option on both and compares everything there is to see.
    fn compare(&self, level: i32, name: i32, value: &[u8], claimed: i64, what: &str) {
        let [inside, outside] = [&self.inside, &self.outside].map(|socket| {
            let set = outcome(set_raw(socket, level, name, value, claimed));
            (set, read_back(socket, level, name))
        });
        assert_eq!(
            inside,
            outside,
            "{what} of {claimed} bytes (of {}) on {}",
            value.first().unwrap_or(&0),
            self.name
        );
    }

    /// Sets an option from an address that is not mapped. Where programs are attached the kernel
    /// reads the value before anything else, so it may say "bad address" where it would otherwise have
    /// found another fault first. What is refused is the same but for one: without programs the
    /// options of IPv6 take no address at all for a zero.
    fn compare_at(&self, level: i32, name: i32, address: usize, claimed: i64, what: &str) {
        let [inside, outside] = [&self.inside, &self.outside]
            .map(|socket| outcome(set_at(socket, level, name, address, claimed)));
        let is_none_for_zero = level == libc::IPPROTO_IPV6 && address == 0;
        let is_allowed = outside.is_err() || is_none_for_zero;
        assert!(
            inside == outside || (inside == Err(Errno(libc::EFAULT)) && is_allowed),
            "{what} at {address} on {}: {:?}, without a pool {:?}",
            self.name,
            inside,
            outside
        );
    }
}

fn outcome(result: std::io::Result<()>) -> Result<(), Errno> {
    result.map_err(|error| Errno(error.raw_os_error().unwrap_or(0)))
}

fn read_back(socket: &Socket, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    let mut value = [0; 256];
    match get_raw(socket, level, name, &mut value) {
        Ok(size) => Ok(value[..size.min(256)].to_vec()),
        Err(error) => Err(Errno(error.raw_os_error().unwrap_or(0))),
    }
}

fn pool_answers(socket: &Socket) -> Result<(), Errno> {
    let probe = portpool::abi::probe_bytes();
    let size = probe.len() as i64;
    let code = portpool::abi::ControlCode::Probe as i32;
    outcome(set_raw(socket, portpool::abi::LEVEL, code, &probe, size))
}

fn open_all() -> Vec<(&'static str, Socket)> {
    let netlink = Domain::from(libc::AF_NETLINK);
    let kinds = [
        ("tcp", Domain::IPV4, Type::STREAM, None),
        ("tcp6", Domain::IPV6, Type::STREAM, None),
        ("udp", Domain::IPV4, Type::DGRAM, None),
        ("udp6", Domain::IPV6, Type::DGRAM, None),
        ("mptcp", Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
        ("raw", Domain::IPV4, Type::RAW, Some(Protocol::UDP)),
        ("unix", Domain::UNIX, Type::STREAM, None),
        ("netlink", netlink, Type::RAW, None),
    ];
    let open = |(name, domain, kind, protocol)| {
        let socket = Socket::new(domain, kind, protocol);
        (name, socket.unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    kinds.into_iter().map(open).collect()
}

/// Does `work` with this process in a cgroup beside the arena's, and comes back.
fn outside_of<T>(arena: &Arena, work: impl FnOnce() -> T) -> T {
    let beside = arena.cgroup().with_extension("beside");
    fs::create_dir(&beside).expect("make a cgroup");
    enter(&beside);
    let value = work();
    enter(arena.cgroup());
    // Sockets keep their cgroup, the directory can go.
    fs::remove_dir(&beside).expect("remove the cgroup");
    value
}

fn enter(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), process::id().to_string()).expect("enter a cgroup");
}

fn raise_source_limit() {
    fs::write("/proc/sys/net/ipv4/igmp_max_msf", "4096").expect("igmp_max_msf");
}

/// What the kernel has logged about socket options. Other tests and the machine log, too.
fn kernel_messages() -> Vec<String> {
    let text = portpool_testkit::sys::kernel_log().expect("the kernel's log");
    let ours = ["sockopt", "optlen"];
    let lines = text.lines();
    let lines = lines.filter(|line| ours.iter().any(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

fn new_messages(before: &[String]) -> Vec<String> {
    let after = kernel_messages();
    after
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect()
}
