//! A Varlink implementation that is not ours talks to the keeper.

use std::os::fd::OwnedFd;

use portpool_testkit::{Arena, in_arena};
use serde::{Deserialize, Serialize};
use zlink::{ReplyError, introspect, proxy, tokio::unix, varlink_service::Proxy};

use crate::kit::Keeper;

#[test]
fn an_independent_varlink_client_reads_the_interface_and_calls_it() {
    in_arena!(|arena: &Arena| {
        let keeper = Keeper::start(arena);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_io().build().unwrap();
        runtime.block_on(talk(&keeper));
    });
}

async fn talk(keeper: &Keeper) {
    let mut connection = unix::connect(keeper.socket()).await.unwrap();
    let info = connection.get_info().await.unwrap().unwrap();
    assert_eq!(info.product, "portpool keeper");
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    let interfaces: Vec<String> = info.interfaces.iter().map(ToString::to_string).collect();
    assert_eq!(interfaces, ["org.varlink.service", "io.portpool"]);
    for (name, method_count, error_count) in [("io.portpool", 10, 7), ("org.varlink.service", 2, 6)]
    {
        let text = connection
            .get_interface_description(name.try_into().unwrap())
            .await;
        let text = text.unwrap().unwrap();
        let interface = text.parse().unwrap();
        assert_eq!(interface.name().to_string(), name);
        assert_eq!(interface.methods().count(), method_count);
        assert_eq!(interface.errors().count(), error_count);
    }

    let range = Range {
        first: 45_000,
        count: 4,
    };
    let granted = connection
        .acquire("tcp", range, 0, vec![socket()])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(granted.range.first, 45_000);
    assert!(granted.deadline.is_some());
    let Err(Refusal::NotFound { message }) = connection.lookup("udp", range).await.unwrap() else {
        panic!("there is no such block");
    };
    assert!(message.contains("45000-45003/udp"), "{message}");
}

fn socket() -> OwnedFd {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()
}

#[proxy("io.portpool")]
trait Portpool {
    async fn acquire(
        &mut self,
        transports: &str,
        range: Range,
        socket: u32,
        #[zlink(fds)] sockets: Vec<OwnedFd>,
    ) -> zlink::Result<Result<Granted, Refusal>>;

    async fn lookup(
        &mut self,
        transport: &str,
        range: Range,
    ) -> zlink::Result<Result<Named, Refusal>>;
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, introspect::Type)]
struct Range {
    first: u16,
    count: u16,
}

#[derive(Debug, Deserialize, introspect::Type)]
struct Granted {
    range: Range,
    deadline: Option<u64>,
}

#[derive(Debug, Deserialize, introspect::Type)]
#[expect(dead_code, reason = "the call is to fail")]
struct Named {
    token: String,
}

#[derive(Debug, ReplyError)]
#[zlink(interface = "io.portpool")]
enum Refusal {
    Refused {
        reason: String,
        number: u16,
        message: String,
    },
    NotFound {
        message: String,
    },
}
