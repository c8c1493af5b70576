//! The fuzz targets of the embedded pool.

use portpool_core::PortRange;

use super::{
    listing::{Content, HEAD_SIZE, Listed, Lister, PLACE_SIZE, head, read, sum_of, words},
    look::is_bound_to,
    ranges::{ephemeral_in, service_ports},
};

/// A list of blocks is read whole or it is not; and behind a head, in places with a checksum that fits, so are
/// whatever blocks the bytes make, which then are written as they were read.
pub fn owner_file(bytes: &[u8]) {
    if let Content::Whole(found) = read(bytes) {
        assert!(found.len() * PLACE_SIZE <= bytes.len());
    }
    let lister = Lister {
        pid: 7,
        start: 9,
        pid_namespace: 11,
        uid: 1000,
        command: String::from_utf8_lossy(bytes).into_owned(),
    };
    let mut list = Vec::from(head(&lister));
    let (contents, _) = bytes.as_chunks::<32>();
    for content in contents {
        let (words, _) = content.as_chunks::<8>();
        let [namespace, token, born, block] = [0, 1, 2, 3].map(|at| u64::from_ne_bytes(words[at]));
        let sum = sum_of([namespace, token, born, block]);
        list.extend(
            [namespace, token, born, sum, block]
                .map(u64::to_ne_bytes)
                .as_flattened(),
        );
    }
    let Content::Whole(found) = read(&list) else {
        return;
    };
    let places = list[HEAD_SIZE..].chunks_exact(PLACE_SIZE);
    let mut taken = places.filter(|place| place[PLACE_SIZE - 8..] != [0; 8]);
    for (namespace, record) in found {
        let listed = Listed {
            namespace,
            token: record.token,
            transport: record.transport,
            range: record.range,
            born: record.born,
        };
        let written = words(&listed).map(u64::to_ne_bytes);
        assert_eq!(Some(written.as_flattened()), taken.next());
    }
    assert_eq!(taken.next(), None);
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
