//! One of many processes that fight over ports at random, and say what they got and when.
//!
//! ```text
//! portpool-fighter SEED NUMBER COUNT FIRST PORTS MILLISECONDS LOG RENDEZVOUS
//! ```
//! Every record of the log is a line `TIME WHAT ID TRANSPORT FIRST COUNT TOKEN`, with TIME in
//! nanoseconds since boot. `got` and `bound` are written after the success, `end` before the call
//! that gives up, so that what lies between is certain to be owned. Sockets handed over to another
//! fighter are `sent` and `received`.
#![forbid(unsafe_code)]

use std::{
    env,
    fs::File,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use portpool::{
    Alignment, Pool, Port, PortCount, PortRange, Request, Token, Transport, Transports, Want,
    Wildcard, abi::Scope,
};
use portpool_testkit::Chance;
use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    time::{ClockId, clock_gettime},
};
use socket2::{Domain, Socket, Type};

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let number = |index: usize| -> u64 { words[index].parse().expect("a number") };
    let rendezvous = PathBuf::from(&words[7]);
    let own = rendezvous.join(words[1].as_str());
    drop(std::fs::remove_file(&own));
    let mail = UnixDatagram::bind(&own)?;
    mail.set_nonblocking(true)?;
    let mut fighter = Fighter {
        chance: Chance::new(number(0)),
        count: number(2) as u32,
        first: number(3) as u16,
        ports: number(4) as u16,
        log: File::options().append(true).create(true).open(&words[6])?,
        pool: Pool::open().map_err(io::Error::other)?,
        next_id: u64::from(std::process::id()) << 32,
        rendezvous,
        mail,
        owners: Vec::new(),
        bound: Vec::new(),
        tallies: [0; 4],
    };
    let end = Instant::now() + Duration::from_millis(number(5));
    while Instant::now() < end {
        for _ in 0..32 {
            fighter.act()?;
        }
    }
    fighter.give_up_all()?;
    let [operations, got, bound, conflicts] = fighter.tallies;
    println!("{operations} {got} {bound} {conflicts}");
    Ok(())
}

/// What is owned, as the log names it.
#[derive(Clone, Copy)]
struct Claim {
    id: u64,
    transport: Transport,
    range: PortRange,
    token: u64,
}

struct Owner {
    socket: OwnedFd,
    claims: Vec<Claim>,
    /// Whether this process acquired: only it may associate and release.
    own: bool,
}

struct Fighter {
    chance: Chance,
    count: u32,
    first: u16,
    ports: u16,
    log: File,
    pool: Pool,
    next_id: u64,
    rendezvous: PathBuf,
    mail: UnixDatagram,
    owners: Vec<Owner>,
    bound: Vec<(Socket, Claim)>,
    /// Operations, blocks got, ports bound, refusals.
    tallies: [u64; 4],
}

impl Fighter {
    fn act(&mut self) -> io::Result<()> {
        self.tallies[0] += 1;
        if self.owners.len() > 6 {
            return self.close_owner();
        }
        if self.bound.len() > 12 {
            return self.close_bound();
        }
        match self.chance.below(16) {
            0..=2 => self.acquire(),
            3 => self.acquire_both(),
            4..=6 => self.bind_associated(),
            7..=9 => self.bind_plain(),
            10 => self.release(),
            11 => self.close_owner(),
            12 | 13 => self.close_bound(),
            14 => self.send(),
            _ => self.receive(),
        }
    }

    fn range(&mut self) -> PortRange {
        let most = if self.chance.once_in(8) { 100 } else { 6 };
        let count = 1 + self.chance.below(most) as u16;
        let count = count.min(self.ports);
        let first = self.first + self.chance.below(u32::from(self.ports - count + 1)) as u16;
        PortRange::from_numbers(first, count).expect("range")
    }

    fn transport(&mut self) -> Transport {
        if self.chance.once_in(3) {
            Transport::Udp
        } else {
            Transport::Tcp
        }
    }

    fn want(&mut self) -> Want {
        let range = self.range();
        if self.chance.once_in(3) {
            Want::Wildcard(Wildcard {
                count: PortCount::new(range.count().number().min(8)).expect("count"),
                alignment: Alignment::default(),
                within: PortRange::from_numbers(self.first, self.ports).ok(),
            })
        } else {
            Want::Specific(range)
        }
    }

    fn acquire(&mut self) -> io::Result<()> {
        let (transport, want) = (self.transport(), self.want());
        let socket = socket(transport, self.chance.once_in(2))?;
        let Ok(block) = self.pool.acquire_on(&socket, &want, Scope::Associated) else {
            self.tallies[3] += 1;
            return Ok(());
        };
        let claim = self.note_got(transport, block.range, block.token)?;
        self.owners.push(Owner {
            socket: socket.into(),
            claims: vec![claim],
            own: true,
        });
        Ok(())
    }

    /// Both transports at once, by a reservation that is then taken apart.
    fn acquire_both(&mut self) -> io::Result<()> {
        let request = Request {
            transports: Transports::Both,
            want: self.want(),
        };
        let Ok(reservation) = self.pool.acquire(&request) else {
            self.tallies[3] += 1;
            return Ok(());
        };
        let sockets: Vec<OwnedFd> = reservation
            .owner_sockets()
            .map(|(_, socket)| socket.try_clone_to_owned())
            .collect::<io::Result<_>>()?;
        for (socket, block) in sockets.into_iter().zip(reservation.blocks()) {
            let claim = self.note_got(block.transport, block.range, block.token)?;
            self.owners.push(Owner {
                socket,
                claims: vec![claim],
                own: true,
            });
        }
        Ok(())
    }

    fn note_got(
        &mut self,
        transport: Transport,
        range: PortRange,
        token: Token,
    ) -> io::Result<Claim> {
        self.tallies[1] += 1;
        let claim = self.claim(transport, range, token.value());
        self.note("got", &claim)?;
        Ok(claim)
    }

    fn bind_associated(&mut self) -> io::Result<()> {
        let Some(claim) = self.own_claim() else {
            return Ok(());
        };
        let token = Token::new(claim.token).expect("token");
        let v6 = self.chance.once_in(3);
        let socket = socket(claim.transport, v6)?;
        if self.pool.associate(&socket, token).is_err() {
            self.tallies[3] += 1;
            return Ok(());
        }
        let outside = u32::from(self.first) + self.chance.below(u32::from(self.ports));
        let inside = u32::from(claim.range.first().number())
            + self.chance.below(claim.range.count().number().into());
        let port = [0, 0, inside, outside][self.chance.below(4) as usize] as u16;
        let connect = port == 0 && claim.transport == Transport::Udp && self.chance.once_in(2);
        let done = if connect {
            socket.connect(&address(v6, 9).into()).is_ok()
        } else {
            socket.bind(&address(v6, port).into()).is_ok()
        };
        self.note_bound(done, socket, claim.transport, claim.token)
    }

    fn bind_plain(&mut self) -> io::Result<()> {
        let (transport, v6) = (self.transport(), self.chance.once_in(3));
        let socket = socket(transport, v6)?;
        if self.chance.once_in(2) {
            socket.set_reuse_address(true)?;
        }
        let port = match self.chance.below(12) {
            0 => 0,
            _ => self.first + self.chance.below(u32::from(self.ports)) as u16,
        };
        let done = socket.bind(&address(v6, port).into()).is_ok();
        self.note_bound(done, socket, transport, 0)
    }

    fn note_bound(
        &mut self,
        done: bool,
        socket: Socket,
        transport: Transport,
        token: u64,
    ) -> io::Result<()> {
        if !done {
            self.tallies[3] += 1;
            return Ok(());
        }
        self.tallies[2] += 1;
        let port = socket
            .local_addr()?
            .as_socket()
            .map_or(0, |address| address.port());
        let range = PortRange::single(Port::new(port).expect("a port"));
        let claim = self.claim(transport, range, token);
        self.note("bound", &claim)?;
        if transport == Transport::Tcp && self.chance.once_in(3) {
            drop(socket.listen(4));
        }
        self.bound.push((socket, claim));
        Ok(())
    }

    fn release(&mut self) -> io::Result<()> {
        let Some(claim) = self.own_claim() else {
            return Ok(());
        };
        self.note("end", &claim)?;
        let socket = socket(claim.transport, false)?;
        drop(
            self.pool
                .release_on(&socket, Token::new(claim.token).expect("token")),
        );
        for owner in &mut self.owners {
            owner.claims.retain(|other| other.id != claim.id);
        }
        Ok(())
    }

    fn close_owner(&mut self) -> io::Result<()> {
        let Some(index) = self.pick(self.owners.len()) else {
            return Ok(());
        };
        let owner = self.owners.swap_remove(index);
        for claim in &owner.claims {
            self.note("end", claim)?;
        }
        Ok(())
    }

    fn close_bound(&mut self) -> io::Result<()> {
        let Some(index) = self.pick(self.bound.len()) else {
            return Ok(());
        };
        let (socket, claim) = self.bound.swap_remove(index);
        self.note("end", &claim)?;
        drop(socket);
        Ok(())
    }

    /// Hands a socket over to another fighter; if nobody takes it, it is closed in flight.
    fn send(&mut self) -> io::Result<()> {
        let (socket, claims): (OwnedFd, Vec<Claim>) = if self.chance.once_in(2) {
            let Some(index) = self.pick(self.owners.len()) else {
                return Ok(());
            };
            let owner = self.owners.swap_remove(index);
            (owner.socket, owner.claims)
        } else {
            let Some(index) = self.pick(self.bound.len()) else {
                return Ok(());
            };
            let (socket, claim) = self.bound.swap_remove(index);
            (socket.into(), vec![claim])
        };
        for claim in &claims {
            self.note("sent", claim)?;
        }
        let text: Vec<String> = claims.iter().map(Claim::words).collect();
        let other = self.chance.below(self.count).to_string();
        let outgoing = UnixDatagram::unbound()?;
        outgoing.set_nonblocking(true)?;
        if outgoing.connect(self.rendezvous.join(other)).is_ok() {
            let fds = [socket.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let text = text.join(";");
            // Nobody may be there, or too much be on its way already: then the socket just closes.
            let _ = sendmsg(
                &outgoing,
                &[IoSlice::new(text.as_bytes())],
                &mut control,
                SendFlags::empty(),
            );
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut text = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.mail,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let Ok(received) = received else {
            return Ok(());
        };
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let sockets: Vec<OwnedFd> = sockets.flatten().collect();
        let text = String::from_utf8_lossy(&text[..received.bytes]).into_owned();
        let claims: Vec<Claim> = text.split(';').filter_map(Claim::parse).collect();
        for socket in sockets {
            for claim in &claims {
                self.note("received", claim)?;
            }
            self.owners.push(Owner {
                socket,
                claims: claims.clone(),
                own: false,
            });
        }
        Ok(())
    }

    fn give_up_all(&mut self) -> io::Result<()> {
        while !self.owners.is_empty() {
            self.close_owner()?;
        }
        while !self.bound.is_empty() {
            self.close_bound()?;
        }
        Ok(())
    }

    fn own_claim(&mut self) -> Option<Claim> {
        let own = self.owners.iter().filter(|owner| owner.own);
        let claims: Vec<Claim> = own.flat_map(|owner| owner.claims.clone()).collect();
        self.pick(claims.len()).map(|index| claims[index])
    }

    fn pick(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.chance.below(count as u32) as usize)
    }

    fn claim(&mut self, transport: Transport, range: PortRange, token: u64) -> Claim {
        self.next_id += 1;
        Claim {
            id: self.next_id,
            transport,
            range,
            token,
        }
    }

    /// One write to the kernel: kill -9 afterwards does not take it back.
    fn note(&mut self, what: &str, claim: &Claim) -> io::Result<()> {
        let now = clock_gettime(ClockId::Boottime);
        let now = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        self.log
            .write_all(format!("{now} {what} {}\n", claim.words()).as_bytes())
    }
}

impl Claim {
    fn words(&self) -> String {
        let udp = u8::from(self.transport == Transport::Udp);
        let (first, count) = (self.range.first().number(), self.range.count().number());
        format!("{} {udp} {first} {count} {}", self.id, self.token)
    }

    fn parse(words: &str) -> Option<Claim> {
        let numbers: Vec<u64> = words
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let [id, udp, first, count, token] = numbers[..] else {
            return None;
        };
        let transport = if udp == 1 {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let range = PortRange::from_numbers(first as u16, count as u16).ok()?;
        Some(Claim {
            id,
            transport,
            range,
            token,
        })
    }
}

fn socket(transport: Transport, v6: bool) -> io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let kind = if transport == Transport::Tcp {
        Type::STREAM
    } else {
        Type::DGRAM
    };
    Socket::new(domain, kind, None)
}

fn address(v6: bool, port: u16) -> SocketAddr {
    if v6 {
        (Ipv6Addr::LOCALHOST, port).into()
    } else {
        (Ipv4Addr::LOCALHOST, port).into()
    }
}
