//! The fuzz targets of the embedded pool.

use portpool_core::PortRange;

use super::{
    look::is_bound_to,
    owner_file::{Content, parse, text, whole},
    ranges::{ephemeral_in, service_ports},
};

/// A list of blocks is whole, torn or foreign, and a whole one is read or not; as is the same with a
/// head that fits it.
pub fn owner_file(bytes: &[u8]) {
    if let Content::Whole(body) = whole(bytes) {
        let _ = parse(body);
    }
    let body = &*String::from_utf8_lossy(bytes);
    let list = text(body, "");
    assert_eq!(whole(list.as_bytes()), Content::Whole(body));
    if let Some(found) = parse(body) {
        assert!(found.len() < body.len());
    }
}

/// What the kernel and the administrator write is read line by line, or not.
pub fn listings(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    assert!(service_ports(text).count() <= text.lines().count());
    if let Some(range) = ephemeral_in(text) {
        assert!(PortRange::ALL.covers(range));
    }
    for row in text.lines() {
        let all = [80, 8080].map(|number| portpool_core::Port::new(number).expect("not 0"));
        let found = all.into_iter().filter(|port| is_bound_to(row, *port));
        assert!(found.count() <= 1, "{row:?}");
    }
}
