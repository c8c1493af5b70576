//! Who may ask for what. The only place that decides it.
//!
//! What counts is what the kernel recorded when the peer connected. Capabilities are not recorded
//! then, and those of the process may have changed since: who connects and then starts a program with
//! more rights would be taken for that program. So it takes root's uid then *and* the capability now; other
//! users get rights by their groups, which are recorded.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
};

use portpool_varlink::{Fault, Peer, netns_cookie};

/// Who may ask this keeper.
#[derive(Debug)]
pub(super) struct Access {
    /// The network namespace of the pool.
    cookie: u64,
    network: Namespace,
    user: Namespace,
    /// The group that may administer beside root.
    group: Option<u32>,
}

/// A namespace as `/proc` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Namespace {
    device: u64,
    inode: u64,
}

impl Access {
    /// Access to the pool of this process's network namespace.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub(super) fn here(cookie: u64, group: Option<u32>) -> io::Result<Access> {
        Ok(Access {
            cookie,
            network: Namespace::of("thread-self", "net")?,
            user: Namespace::of("thread-self", "user")?,
            group,
        })
    }

    /// # Errors
    /// [`Fault::NotAllowed`] unless the peer may change what outlives it.
    pub(super) fn check_administrator(&self, peer: &Peer) -> Result<(), Fault> {
        if self.is_administrator(peer) {
            return Ok(());
        }
        let who = match self.group {
            Some(group) => format!("root and the group {group} may"),
            None => "root may, and the group that `portpool keeper --group` names".to_owned(),
        };
        Err(Fault::NotAllowed(format!(
            "uid {} may not do this: {who}",
            peer.uid
        )))
    }

    /// Whether the peer is root with CAP_NET_ADMIN over the pool, or in the group.
    pub(super) fn is_administrator(&self, peer: &Peer) -> bool {
        self.group.is_some_and(|group| peer.is_in_group(group)) || self.is_root(peer)
    }

    /// # Errors
    /// [`Fault::OtherNamespace`] unless the peer, or the socket that it passed, is in the network
    /// namespace of the pool.
    pub(super) fn check_namespace(
        &self,
        peer: &Peer,
        socket: Option<&OwnedFd>,
    ) -> Result<(), Fault> {
        let is_here = match socket {
            Some(socket) => {
                netns_cookie(socket).map_err(|error| {
                    Fault::OtherNamespace(format!(
                        "the namespace of what was passed cannot be told ({error}): pass a socket"
                    ))
                })? == self.cookie
            }
            None => {
                let process = peer.pid.to_string();
                let found = Namespace::of(&process, "net").map_err(|error| {
                    Fault::OtherNamespace(format!(
                        "the network namespace of process {process} cannot be told ({error}): pass a \
                         socket of it"
                    ))
                })?;
                peer.lives() && found == self.network
            }
        };
        match is_here {
            true => Ok(()),
            false => Err(Fault::OtherNamespace(
                "the caller is in another network namespace than the pool of this keeper: run a keeper \
                 there, with a PORTPOOL_RUN_DIR of its own"
                    .to_owned(),
            )),
        }
    }

    fn is_root(&self, peer: &Peer) -> bool {
        if peer.uid != 0 || peer.pid == 0 {
            return false;
        }
        let process = peer.pid.to_string();
        let has_capability = fs::read_to_string(format!("/proc/{process}/status"))
            .is_ok_and(|status| has_net_admin(&status));
        let is_same_user = Namespace::of(&process, "user").is_ok_and(|it| it == self.user);
        // Last: until here the number was this process's.
        has_capability && is_same_user && peer.lives()
    }
}

impl Namespace {
    fn of(process: &str, kind: &str) -> io::Result<Namespace> {
        let link = fs::metadata(format!("/proc/{process}/ns/{kind}"))?;
        Ok(Namespace {
            device: link.dev(),
            inode: link.ino(),
        })
    }
}

/// Whether the status of a process has CAP_NET_ADMIN among its effective capabilities.
fn has_net_admin(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & CAP_NET_ADMIN != 0)
}

const CAP_NET_ADMIN: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_capabilities_decide() {
        let status = |permitted: &str, effective: &str| {
            format!("Name:\tx\nCapPrm:\t{permitted}\nCapEff:\t{effective}\n")
        };
        assert!(has_net_admin(&status("0", "000001ffffffffff")));
        assert!(has_net_admin(&status("0", "0000000000001000")));
        assert!(!has_net_admin(&status(
            "000001ffffffffff",
            "000001ffffffefff"
        )));
        assert!(!has_net_admin("Name:\tCapEff:\n"));
    }

    #[test]
    fn who_is_no_root_gets_rights_by_groups_only() {
        let access = |group| Access::here(1, group).unwrap();
        let peer = Peer {
            pid: std::process::id(),
            uid: 1000,
            gid: 1000,
            groups: vec![77],
            pidfd: None,
        };
        assert!(!access(None).is_administrator(&peer));
        assert!(!access(Some(78)).is_administrator(&peer));
        assert!(access(Some(77)).is_administrator(&peer));
        assert!(access(Some(1000)).is_administrator(&peer));
        let fault = access(None).check_administrator(&peer).unwrap_err();
        assert!(fault.to_string().contains("--group"), "{fault}");
    }

    #[test]
    fn a_socket_of_another_namespace_is_told_apart() {
        let socket = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let cookie = netns_cookie(&socket).unwrap();
        let peer = Peer {
            pid: std::process::id(),
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
            pidfd: None,
        };
        let here = Access::here(cookie, None).unwrap();
        assert_eq!(here.check_namespace(&peer, Some(&socket)), Ok(()));
        assert_eq!(here.check_namespace(&peer, None), Ok(()));
        let elsewhere = Access::here(cookie + 1, None).unwrap();
        let fault = elsewhere.check_namespace(&peer, Some(&socket)).unwrap_err();
        assert!(matches!(fault, Fault::OtherNamespace(_)), "{fault}");
        let file = OwnedFd::from(fs::File::open("/dev/null").unwrap());
        assert!(here.check_namespace(&peer, Some(&file)).is_err());
    }
}
