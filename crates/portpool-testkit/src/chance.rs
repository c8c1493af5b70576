//! Random choices from a seed that a test prints, so that a failure can be replayed.

use std::time::{SystemTime, UNIX_EPOCH};

/// A stream of well-mixed numbers: splitmix64.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// `PORTPOOL_SEED`, else one from the clock.
    pub fn seed() -> u64 {
        let asked = std::env::var("PORTPOOL_SEED").ok();
        asked.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(1, |now| {
                u64::from(now.subsec_nanos()) + now.as_secs() * 1_000_000_007
            })
        })
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.number() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// True once in `times` calls on average.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }
}
