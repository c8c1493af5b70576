//! Running a target without a fuzzer: over its seeds, and over what chance makes of them.

use std::{
    env, fs,
    path::PathBuf,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Runs a target over its seeds, the files in `fuzz/seeds/NAME`, and some thousand times over mixtures and
/// changes of them; a hundred times as often with `PORTPOOL_TEST_SIZE=long`.
///
/// `PORTPOOL_SEED` repeats the random ones.
///
/// # Panics
/// If the target does, after printing the input, and if it has no seeds.
pub fn exercise(name: &str, target: impl Fn(&[u8])) {
    run(name, CASE_COUNT, target);
}

/// As [`exercise`], for a target that takes more than microseconds.
///
/// # Panics
/// As [`exercise`].
pub fn exercise_slow(name: &str, target: impl Fn(&[u8])) {
    run(name, CASE_COUNT / 10, target);
}

fn run(name: &str, count: u32, target: impl Fn(&[u8])) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "fuzz/seeds/{name} has no seeds");
    for seed in &seeds {
        judge(&target, seed);
    }
    let seed = chance_seed();
    println!("PORTPOOL_SEED={seed}");
    let mut chance = Chance(seed);
    let is_long = env::var_os("PORTPOOL_TEST_SIZE").is_some_and(|size| size == "long");
    for _ in 0..if is_long { count * 100 } else { count } {
        judge(&target, &changed(&seeds, &mut chance));
    }
}

fn judge(target: &impl Fn(&[u8]), bytes: &[u8]) {
    let _told = Told(bytes);
    target(bytes);
}

/// Tells the input if the target panics on it.
struct Told<'a>(&'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let files = fs::read_dir(folder.join(name)).expect("the folder of the seeds");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let read = |path| fs::read(path).expect("a seed");
    paths.into_iter().map(read).collect()
}

/// A seed, with some changes and perhaps the end of another.
fn changed(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    if chance.below(4) == 0 {
        let other = &seeds[chance.below(seeds.len())];
        bytes.truncate(chance.below(bytes.len() + 1));
        bytes.extend_from_slice(&other[chance.below(other.len() + 1)..]);
    }
    for _ in 0..chance.below(6) {
        change(&mut bytes, chance);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let end = (at + 1 + chance.below(8)).min(bytes.len());
    match chance.below(6) {
        0 => {
            let new = WORDS[chance.below(WORDS.len())];
            drop(bytes.splice(at..at, new.iter().copied()));
        }
        1 => drop(bytes.drain(at..end)),
        2 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        3 => bytes.insert(at, chance.byte()),
        _ if at == bytes.len() => bytes.push(chance.byte()),
        4 => bytes[at] ^= 1 << chance.below(8),
        _ => bytes[at] = chance.byte(),
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 16] = [
    b"0",
    b"65535",
    b"65536",
    b"-1",
    b"+1",
    b"18446744073709551615",
    b"99999999999999999999",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\n",
    b" ",
    b"-",
    b",",
    b"\"",
    b"{",
    "\u{0663}\u{e9}".as_bytes(),
];

/// Enough for what is a few changes away from a seed, in well under a second.
const CASE_COUNT: u32 = 2_000;

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn byte(&mut self) -> u8 {
        self.number() as u8
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

fn chance_seed() -> u64 {
    let asked = env::var("PORTPOOL_SEED").ok();
    asked.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| {
            u64::from(now.subsec_nanos()) + now.as_secs() * 1_000_000_007
        })
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet, panic};

    use super::*;

    #[test]
    fn a_target_meets_every_seed_and_much_that_is_no_seed() {
        let met = RefCell::new(BTreeSet::new());
        exercise("spec", |bytes| {
            met.borrow_mut().insert(bytes.to_vec());
        });
        let met = met.into_inner();
        let seeds = seeds("spec");
        assert!(seeds.iter().all(|seed| met.contains(seed)));
        assert!(met.len() > CASE_COUNT as usize / 2, "{}", met.len());
    }

    #[test]
    fn a_target_that_fails_fails_the_test() {
        let failed = panic::catch_unwind(|| exercise("spec", |bytes| assert!(bytes.is_empty())));
        failed.expect_err("a seed is not empty");
    }
}
