//! A stream of well-mixed numbers from one seed: splitmix64.
//!
//! It spreads placements; nothing here is fit for secrets.

pub(crate) struct Mix(u64);

impl Mix {
    pub(crate) fn new(seed: u64) -> Mix {
        Mix(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The upper 32 bits scaled to the bound: a bias of less than 2^-15, no division.
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        let mut mix = Mix::new(1234567);
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
        ];
        assert_eq!([mix.next(), mix.next(), mix.next()], expected);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut mix = Mix::new(0);
        for bound in [1, 2, 3, 65535] {
            assert!((0..1000).all(|_| mix.below(bound) < bound));
        }
        assert_eq!(mix.below(0), 0);
    }
}
