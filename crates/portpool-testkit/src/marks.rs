//! The slots for marks that need no socket storage (`bpf/mark.h`).

use crate::{Arena, sys::bpf::Map};

/// Takes every free slot for a socket that there is not, so that marks need socket storage from now on.
///
/// # Panics
/// If the map cannot be read and written.
pub fn fill_slots(arena: &Arena) {
    let map = open(arena);
    for (key, mut set) in map.entries::<4, SET_SIZE>().expect("read the slots") {
        for slot in set.chunks_mut(SLOT_SIZE) {
            if slot[..8] == [0; 8] {
                slot[..8].copy_from_slice(&NO_SOCKET.to_ne_bytes());
            }
        }
        map.write(&key, &set).expect("write the slots");
    }
}

/// How many slots sockets have.
///
/// # Panics
/// If the map cannot be read.
pub fn slots_taken(arena: &Arena) -> usize {
    let sets = open(arena).entries::<4, SET_SIZE>();
    let sets = sets.expect("read the slots");
    let slots = sets.iter().flat_map(|(_, set)| set.chunks(SLOT_SIZE));
    slots.filter(|slot| slot[..8] != [0; 8]).count()
}

fn open(arena: &Arena) -> Map {
    Map::open(&arena.run().path().join("bpf/maps/mark_sets")).expect("open the slots")
}

/// No socket has an odd address.
const NO_SOCKET: u64 = 1;
/// Mirrors `struct mark_slot`, whose first member is the address of its socket.
const SLOT_SIZE: usize = 32;
/// Mirrors `struct mark_set`.
const SET_SIZE: usize = 4 * SLOT_SIZE;
