//! Ports that the kernel itself binds.

use portpool::{Refusal, Transport};
use portpool_testkit::{Errno, in_arena, in_bare_arena};

use crate::common::{Kind, V4, bind, claim_range, claimable, errno, owner, tool};

#[test]
fn a_tunnel_is_refused_a_reserved_port() {
    in_arena!(|_| {
        let mut owner = owner(20_010, 1);
        // The kernel binds the port when the device is brought up.
        let up = vxlan("vx0", 5, 20_010).and_then(|()| tool("ip link set vx0 up"));
        assert!(up.is_err(), "vxlan came up on a reserved port");
        owner.ask("close u").expect("release");
        tool("ip link set vx0 up").expect("vxlan on a free port");
    });
}

#[test]
fn a_tunnels_port_is_held_until_the_tunnel_is_gone_and_the_pool_attached_again() {
    in_arena!(|arena| {
        let pool = arena.pool();
        tunnel_up(20_011);
        assert_eq!(
            claimable(&pool, Transport::Udp, 20_011),
            Err(Refusal::InUse)
        );
        assert_eq!(claimable(&pool, Transport::Tcp, 20_011), Ok(()));
        let port = portpool::Port::new(20_011).expect("port");
        assert!(pool.port(Transport::Udp, port).expect("look").held);
        arena.attach();
        assert_eq!(
            claimable(&pool, Transport::Udp, 20_011),
            Err(Refusal::InUse)
        );
        tool("ip link del vx0").expect("delete");
        arena.attach();
        assert_eq!(claimable(&pool, Transport::Udp, 20_011), Ok(()));
    });
}

#[test]
fn a_tunnel_from_before_attach_keeps_its_port() {
    in_bare_arena!(|arena| {
        tunnel_up(20_012);
        arena.attach();
        let pool = arena.pool();
        assert_eq!(
            claimable(&pool, Transport::Udp, 20_012),
            Err(Refusal::InUse)
        );
        tool("ip link del vx0").expect("delete");
        arena.attach();
        assert_eq!(claimable(&pool, Transport::Udp, 20_012), Ok(()));
    });
}

#[test]
fn a_refused_tunnel_leaves_the_block_as_it_was() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let block = claim_range(&pool, Transport::Udp, 20_010, 1).expect("claim");
        drop(vxlan("vx0", 5, 20_010).and_then(|()| tool("ip link set vx0 up")));
        let used = block.udp_socket(V4).expect("the owner's bind");
        drop(used);
        drop(block);
        assert_eq!(claimable(&pool, Transport::Udp, 20_010), Ok(()));
    });
}

#[test]
fn a_multipath_endpoint_is_refused_a_reserved_port() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_010, 1);
        let endpoint = |port| {
            tool(&format!(
                "ip mptcp endpoint add 127.0.0.1 port {port} signal"
            ))
        };
        assert!(endpoint(20_010).is_err());
        if endpoint(20_011).is_ok() {
            assert_eq!(
                claimable(&pool, Transport::Tcp, 20_011),
                Err(Refusal::InUse)
            );
            let socket = Kind::Tcp.open(V4);
            assert_eq!(errno(bind(&socket, V4, 20_011)), Some(Errno::ADDRINUSE));
            tool("ip mptcp endpoint flush").expect("flush");
            arena.attach();
            assert_eq!(claimable(&pool, Transport::Tcp, 20_011), Ok(()));
        }
    });
}

fn tunnel_up(port: u16) {
    vxlan("vx0", 5, port).expect("vxlan, which the kernel must have built in or loaded");
    tool("ip link set vx0 up").expect("vxlan up");
}

fn vxlan(name: &str, id: u32, port: u16) -> Result<(), String> {
    tool(&format!(
        "ip link add {name} type vxlan id {id} dstport {port} dev lo"
    ))
}
