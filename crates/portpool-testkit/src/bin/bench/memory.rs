//! How much kernel memory the maps of a pool take.

use std::{fs, path::Path};

use portpool::Transport;
use portpool_testkit::sys::map_bytes;

use crate::{
    report::Report,
    stage::{Fill, POOL_FIRST, Side, Stage, Tokens, range},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    stage.enter(Side::Guarded);
    let empty = map_mib(stage.run());
    report.note_mib("the maps of an empty pool", empty);
    report.add_mib("kernel/map_mib", 4.0, filled(stage, 1_000, 60));
    report.add_mib("kernel/map_mib/16384", 8.0, filled(stage, 16_384, 3));
}

/// The MiB of all maps with so many reservations of `ports` ports, half of them TCP.
fn filled(stage: &Stage, reservations: u16, ports: u16) -> f64 {
    let mut tokens = Tokens::default();
    let mut fills = Vec::new();
    for transport in Transport::ALL {
        let mut fill = Fill::default();
        for number in 0..reservations / 2 {
            let block = range(POOL_FIRST + number * ports, ports);
            fill.add(transport, block, tokens.draw());
        }
        fills.push(fill);
    }
    map_mib(stage.run())
}

/// The one set of maps that all pools share, and the maps of each pool, of which there is one.
fn map_mib(run: &Path) -> f64 {
    let mut bytes = 0;
    for directory in fs::read_dir(run.join("bpf")).expect("the pins") {
        let directory = directory.expect("a directory of pins").path();
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        if name != "maps" && !name.starts_with("pool-") {
            continue;
        }
        for pin in fs::read_dir(&directory).expect("pins of maps") {
            bytes += map_bytes(&pin.expect("a pin").path()).expect("the size of a map");
        }
    }
    bytes as f64 / f64::from(1 << 20)
}
