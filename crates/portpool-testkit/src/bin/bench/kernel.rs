//! What the pool's own work costs, against the kernel's for one port.

use portpool::{PortCount, Scope, Transport, Want, Wildcard};

use crate::{
    meter::{Comparison, Subject, compare},
    report::Report,
    stage::{
        Fill, POOL_COUNT, POOL_FIRST, Side, Stage, Tokens, acquire, associate, bind_to, floor,
        range, release, socket,
    },
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    for (count, burst, limit) in [
        (1, 16, 0.30),
        (16, 16, 0.30),
        (256, 16, 0.5),
        (4096, 4, 2.0),
        (32_000, 1, 12.0),
    ] {
        let found = acquire_release(stage, count, burst);
        report.add(&format!("kernel/acquire_release/{count}"), limit, found);
    }
    let one = wildcard(stage, 1);
    let many = wildcard(stage, 16);
    report.note("kernel/wildcard_95pct, 1 port", one);
    report.note("kernel/wildcard_95pct, 16 ports", many);
    report.add_worst("kernel/wildcard_95pct", 3.0, &[one, many]);
    report.add("kernel/associate_bind", 1.25, associate_bind(stage));
}

/// Acquire and release of one block, again and again, by one owner socket.
fn acquire_release(stage: &Stage, count: u16, burst: u32) -> Comparison {
    let owner = stage.socket_on(Side::Guarded, Transport::Tcp);
    let block = range(POOL_FIRST + 1, count);
    let mut tokens = Tokens::default();
    let measured = Subject::new(Side::Guarded, burst, || {
        let token = tokens.draw();
        acquire(&owner, block, token);
        release(&owner, token);
    });
    compare(stage, measured, Subject::new(Side::Unguarded, 8, floor))
}

/// Wildcard acquire and release through the library, in a full and fragmented pool and in an empty one.
fn wildcard(stage: &Stage, count: u16) -> Comparison {
    let owner = stage.socket_on(Side::Guarded, Transport::Tcp);
    let count = PortCount::new(count).expect("a count");
    let want = Want::Wildcard(Wildcard::new(count));
    let acquire_any = || {
        let block = stage.pool().acquire_on(&owner, &want, Scope::Associated);
        let block = block.expect("a free block");
        let released = stage.pool().release_on(&owner, block.token);
        released.expect("release");
    };
    let fill = std::cell::RefCell::new(Fill::default());
    let full = Subject::new(Side::Guarded, 4, acquire_any).prepared(|| {
        drop(fill.take());
        fill.replace(fragment());
    });
    let empty = Subject::new(Side::Guarded, 4, acquire_any).prepared(|| drop(fill.take()));
    compare(stage, full, empty)
}

/// Fills 95 % of the pool: of 640 ports, 16 free ones stand alone and 16 together.
fn fragment() -> Fill {
    let mut fill = Fill::default();
    let mut tokens = Tokens::default();
    let end = POOL_FIRST + POOL_COUNT;
    let mut first = POOL_FIRST;
    let mut add = |first: u16, count: u16| {
        fill.add(Transport::Tcp, range(first, count), tokens.draw());
        first + count
    };
    while first + 640 <= end {
        for _ in 0..16 {
            first = add(first, 19) + 1;
        }
        first = add(first, 304) + 16;
    }
    if first < end {
        add(first, end - first);
    }
    fill
}

/// A socket associated and bound from a block, against a plain one outside the guard.
fn associate_bind(stage: &Stage) -> Comparison {
    let owner = stage.socket_on(Side::Guarded, Transport::Tcp);
    let token = Tokens::default().draw();
    acquire(&owner, range(POOL_FIRST, 16), token);
    let measured = Subject::new(Side::Guarded, 8, || {
        let socket = socket(Transport::Tcp);
        associate(&socket, token);
        bind_to(&socket, 0);
    });
    let plain = Subject::new(Side::Unguarded, 8, || {
        bind_to(&socket(Transport::Tcp), 0);
    });
    compare(stage, measured, plain)
}
