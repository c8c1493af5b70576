//! A random walk over sockets, whose every port the pool must count.

use std::{collections::BTreeMap, net::IpAddr};

use portpool::{Pool, Transport};
use portpool_testkit::in_arena;
use socket2::Socket;

use crate::common::{Kind, V4, V6, bind, connect, counted, in_use, owner, port_of};

#[test]
fn whatever_one_process_does_with_sockets_every_port_is_counted_exactly() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 4);
        let seed = match std::env::var("PORTPOOL_SEED") {
            Ok(seed) => seed.parse().expect("PORTPOOL_SEED is a number"),
            Err(_) => u64::from(std::process::id()) << 20 | 1,
        };
        println!("PORTPOOL_SEED={seed}");
        let mut walk = Walk::new(seed);
        for step in 0..STEPS {
            walk.step();
            if step % 500 == 0 {
                walk.check(&pool);
            }
        }
        walk.check(&pool);
        walk.sockets.clear();
        walk.check(&pool);
        assert_eq!(in_use(&pool), 0);
    });
}

const STEPS: u32 = 20_000;
const SOCKETS: usize = 40;
const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;

/// One socket of the walk, and what the pool must count for it.
struct Walker {
    kind: Kind,
    ip: IpAddr,
    socket: Socket,
    /// The port of the last bind that succeeded, if it is counted: until the next one, or the close.
    port: u16,
}

struct Walk {
    random: u64,
    sockets: Vec<Walker>,
    peer: u16,
    _listener: std::net::TcpListener,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        // Not counted itself: it got its port without a bind.
        let listener = Kind::Tcp.open(V6);
        listener.listen(64).expect("listen");
        Walk {
            random: seed | 1,
            sockets: Vec::new(),
            peer: port_of(&listener),
            _listener: listener.into(),
        }
    }

    /// xorshift64.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn step(&mut self) {
        if self.sockets.len() < SOCKETS && self.random(4) == 0 {
            return self.open();
        }
        let Some(last) = self.sockets.len().checked_sub(1) else {
            return self.open();
        };
        let chosen = usize::try_from(self.random(last as u64 + 1)).expect("an index");
        let port = 20_002 + u16::try_from(self.random(12)).expect("a port");
        let action = self.random(8);
        let peer = if self.random(2) == 0 { self.peer } else { 9 };
        let walker = &mut self.sockets[chosen];
        match action {
            0 | 1 => walker.bind(port),
            2 | 3 => walker.bind(0),
            4 => drop(connect(&walker.socket, walker.ip, peer)),
            5 => drop(disconnect(&walker.socket)),
            6 => drop(walker.socket.listen(2)),
            _ => drop(self.sockets.swap_remove(chosen)),
        }
    }

    fn open(&mut self) {
        let kind = Kind::ALL[usize::try_from(self.random(3)).expect("an index")];
        let ip = if self.random(2) == 0 { V4 } else { V6 };
        let socket = kind.open(ip);
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        if self.random(3) == 0 {
            socket.set_reuse_address(true).expect("SO_REUSEADDR");
        }
        if self.random(3) == 0 {
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
        }
        self.sockets.push(Walker {
            kind,
            ip,
            socket,
            port: 0,
        });
    }

    /// The pool counts what the walk knows, and every port that a bound socket names.
    fn check(&self, pool: &Pool) {
        let mut expected: BTreeMap<(Transport, u16), u32> = BTreeMap::new();
        for walker in &self.sockets {
            if walker.port != 0 {
                *expected
                    .entry((walker.kind.transport(), walker.port))
                    .or_default() += 1;
            }
        }
        assert_eq!(in_use(pool) as usize, expected.len(), "{expected:?}");
        for ((transport, port), count) in expected {
            assert_eq!(counted(pool, transport, port), count, "{transport} {port}");
        }
        for walker in &self.sockets {
            let port = port_of(&walker.socket);
            // Others were chosen by connect or listen, where no reservation lies.
            assert!(
                port == walker.port || port == 0 || EPHEMERAL.contains(&port),
                "{:?} is bound to {port}, counted at {}",
                walker.kind,
                walker.port
            );
        }
    }
}

fn disconnect(socket: &Socket) -> std::io::Result<()> {
    Ok(rustix::net::connect_unspec(socket)?)
}

impl Walker {
    fn bind(&mut self, port: u16) {
        if bind(&self.socket, self.ip, port).is_err() {
            return;
        }
        let port = port_of(&self.socket);
        assert!(
            !(20_000..20_004).contains(&port),
            "{:?} got the reserved port {port}",
            self.kind,
        );
        // What automatic choice gives cannot be claimed and is not counted.
        self.port = if EPHEMERAL.contains(&port) { 0 } else { port };
    }
}
