//! All interleavings of claim, bind and release over one port, as small step machines.
//!
//! Every step stands for one fetching atomic of `bpf/occupancy.h` and its neighbours, which are
//! full barriers, so sequential consistency covers all that can happen. What is proved: a port is
//! never both reserved by one and bound by another. What is shown: the orders the proof rests on
//! matter, for with each of them turned round there is a counterexample.

use std::collections::HashSet;

/// One port. Claims have ids 1 and 2; a record is alive while its id is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Port {
    /// The bit in `claimed`.
    claimed: bool,
    /// The count of the port, and the count of its word.
    bound: i8,
    word: i8,
    /// The record that is published.
    record: u8,
}

/// What one party does, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Party {
    /// Claims the port as `id`.
    Claim { id: u8, step: u8, order: Order },
    /// Binds it: by the right of record `right`, 0 for a stranger.
    Bind { right: u8, step: u8, order: Order },
    /// Releases the record `id`.
    Release { id: u8, step: u8, order: Order },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Order {
    /// As the programs do it.
    AsWritten,
    /// The other way round.
    Reversed,
}

const DONE: u8 = 100;
const REFUSED: u8 = 101;

use Order::{AsWritten, Reversed};

impl Party {
    fn is_over(self) -> bool {
        match self {
            Party::Claim { step, .. } | Party::Bind { step, .. } | Party::Release { step, .. } => {
                step >= DONE
            }
        }
    }

    /// The party after its next step, if it is not over.
    fn next(self, port: &mut Port) -> Party {
        match self {
            Party::Claim { id, step, order } => {
                let step = claim(id, step, order, port);
                Party::Claim { id, step, order }
            }
            Party::Bind { right, step, order } => {
                let step = bind(right, step, order, port);
                Party::Bind { right, step, order }
            }
            Party::Release { id, step, order } => {
                let step = release(id, step, order, port);
                Party::Release { id, step, order }
            }
        }
    }
}

/// `claim_word`, then `publish`. Reversed: the counts are read before the bit is set, only.
fn claim(id: u8, step: u8, order: Order, port: &mut Port) -> u8 {
    let set = |port: &mut Port| std::mem::replace(&mut port.claimed, true);
    match (order, step) {
        (AsWritten, 0) => {
            if set(port) {
                REFUSED
            } else {
                1
            }
        }
        (Reversed, 0) => {
            if port.word > 0 && port.bound > 0 {
                REFUSED
            } else {
                1
            }
        }
        (Reversed, 1) => {
            if set(port) {
                REFUSED
            } else {
                4
            }
        }
        // A word of zero is not looked into.
        (_, 1) => {
            if port.word == 0 {
                4
            } else {
                2
            }
        }
        (_, 2) => {
            if port.bound > 0 {
                3
            } else {
                4
            }
        }
        (_, 3) => {
            port.claimed = false;
            REFUSED
        }
        (_, _) => {
            port.record = id;
            DONE
        }
    }
}

/// `after_bind`: raise both counts, then judge. Reversed: judge, then raise.
fn bind(right: u8, step: u8, order: Order, port: &mut Port) -> u8 {
    let allowed = |port: &Port| {
        if right == 0 {
            !port.claimed
        } else {
            port.record == right
        }
    };
    match (order, step) {
        (AsWritten, 0) | (Reversed, 1) => {
            port.bound += 1;
            step + 1
        }
        (AsWritten, 1) => {
            port.word += 1;
            2
        }
        (Reversed, 2) => {
            port.word += 1;
            DONE
        }
        (AsWritten, 2) => {
            if allowed(port) {
                DONE
            } else {
                3
            }
        }
        (Reversed, 0) => {
            if allowed(port) {
                1
            } else {
                REFUSED
            }
        }
        (_, 3) => {
            port.bound -= 1;
            4
        }
        (_, _) => {
            port.word -= 1;
            REFUSED
        }
    }
}

/// `pp_end_record`: the record, then the bit. Reversed: the bit, then the record.
fn release(id: u8, step: u8, order: Order, port: &mut Port) -> u8 {
    match (order, step) {
        (AsWritten, 0) => {
            if port.record == id {
                port.record = 0;
                1
            } else {
                REFUSED
            }
        }
        (AsWritten, _) => {
            port.claimed = false;
            DONE
        }
        (Reversed, 0) => {
            if port.record == id {
                port.claimed = false;
                1
            } else {
                REFUSED
            }
        }
        (Reversed, _) => {
            if port.record == id {
                port.record = 0;
            }
            DONE
        }
    }
}

/// Runs every interleaving; the number of states, or a state in which two have the port.
fn explore(port: Port, parties: &[Party]) -> Result<usize, String> {
    let start = (port, parties.to_vec());
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some((port, parties)) = open.pop() {
        judge(port, &parties)?;
        for index in 0..parties.len() {
            if parties[index].is_over() {
                continue;
            }
            let (mut port, mut parties) = (port, parties.clone());
            parties[index] = parties[index].next(&mut port);
            if seen.insert((port, parties.clone())) {
                open.push((port, parties));
            }
        }
    }
    Ok(seen.len())
}

/// Whoever was bound before a claim, or bound by another right, must not meet the claim's success.
fn judge(port: Port, parties: &[Party]) -> Result<(), String> {
    let owners = parties.iter().filter_map(|party| match party {
        Party::Claim { id, step: DONE, .. } if !released(*id, parties) => Some(*id),
        _ => None,
    });
    let owners: Vec<u8> = owners.collect();
    if owners.len() > 1 {
        return Err(format!("two claims: {parties:?}"));
    }
    for party in parties {
        if let Party::Bind {
            right, step: DONE, ..
        } = party
            && owners.iter().any(|owner| owner != right)
        {
            return Err(format!(
                "claimed by {owners:?} and bound by right {right}: {parties:?}"
            ));
        }
    }
    let over = parties.iter().all(|party| party.is_over());
    let bound = parties
        .iter()
        .filter(|party| matches!(party, Party::Bind { step: DONE, .. }));
    let bound = i8::try_from(bound.count()).unwrap_or(i8::MAX);
    if over && (port.bound != bound || port.word != bound) {
        return Err(format!("counts are wrong in the end: {port:?} {parties:?}"));
    }
    if over && owners.is_empty() && port.record == 0 && port.claimed {
        return Err(format!("claimed by nobody in the end: {parties:?}"));
    }
    Ok(())
}

/// A release has begun: from then on its claim owns nothing that matters.
fn released(id: u8, parties: &[Party]) -> bool {
    parties.iter().any(|party| {
        matches!(party, Party::Release { id: ended, step, .. } if *ended == id && (1..=DONE).contains(step))
    })
}

fn claims(id: u8) -> Party {
    Party::Claim {
        id,
        step: 0,
        order: AsWritten,
    }
}

fn binds(right: u8) -> Party {
    Party::Bind {
        right,
        step: 0,
        order: AsWritten,
    }
}

fn releases(id: u8) -> Party {
    Party::Release {
        id,
        step: 0,
        order: AsWritten,
    }
}

/// The port while claim 1 stands.
const RESERVED: Port = Port {
    claimed: true,
    bound: 0,
    word: 0,
    record: 1,
};

#[test]
fn no_interleaving_of_claims_and_plain_binds_gives_a_port_to_two() {
    let mut states = 0;
    for parties in [
        vec![claims(1), binds(0)],
        vec![claims(1), claims(2), binds(0)],
        vec![claims(1), claims(2), binds(0), binds(0)],
        vec![claims(1), releases(1), claims(2), binds(0), binds(0)],
    ] {
        states += explore(Port::default(), &parties).expect("one owner");
    }
    println!("{states} states");
}

#[test]
fn no_interleaving_of_release_second_claim_and_the_owners_bind_gives_a_port_to_two() {
    let owned = Party::Claim {
        id: 1,
        step: DONE,
        order: AsWritten,
    };
    let mut states = 0;
    for parties in [
        vec![owned, releases(1), claims(2), binds(1)],
        vec![
            owned,
            releases(1),
            releases(1),
            claims(2),
            binds(1),
            binds(0),
        ],
        vec![
            owned,
            releases(1),
            claims(2),
            releases(2),
            binds(1),
            binds(2),
            binds(0),
        ],
    ] {
        states += explore(RESERVED, &parties).expect("one owner");
    }
    println!("{states} states");
}

#[test]
fn clearing_the_bit_before_the_record_would_give_a_port_to_two() {
    let parties = [
        Party::Claim {
            id: 1,
            step: DONE,
            order: AsWritten,
        },
        Party::Release {
            id: 1,
            step: 0,
            order: Reversed,
        },
        claims(2),
        binds(1),
    ];
    explore(RESERVED, &parties).expect_err("a counterexample");
}

#[test]
fn judging_before_counting_would_give_a_port_to_two() {
    let parties = [
        claims(1),
        Party::Bind {
            right: 0,
            step: 0,
            order: Reversed,
        },
    ];
    explore(Port::default(), &parties).expect_err("a counterexample");
}

#[test]
fn reading_the_counts_before_setting_the_bit_would_give_a_port_to_two() {
    let parties = [
        Party::Claim {
            id: 1,
            step: 0,
            order: Reversed,
        },
        binds(0),
    ];
    explore(Port::default(), &parties).expect_err("a counterexample");
}
