//! Bytes as a sequence of decisions, so that a model can be led by whoever makes bytes.

use portpool_core::PortRange;

/// Decisions out of bytes; once these are used up each is the first of its kind.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a>(&'a [u8]);

impl<'a> Draws<'a> {
    /// The decisions that these bytes stand for.
    pub fn new(bytes: &'a [u8]) -> Draws<'a> {
        Draws(bytes)
    }

    /// Whether there is nothing left to decide by.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, or 0.
    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    /// A number of two bytes.
    pub fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of eight bytes.
    pub fn wide(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u16) -> u16 {
        match bound {
            0..=256 => u16::from(self.byte()) % bound,
            _ => self.number() % bound,
        }
    }

    /// A number from 1 to 65535, mostly a small one.
    pub fn count(&mut self) -> u16 {
        match self.below(8) {
            0 => self.number().max(1),
            1..=3 => 1 + self.below(200),
            _ => 1 + self.below(4),
        }
    }

    /// A range, mostly a short one within a few words of a bitmap, so that they meet; some at either end
    /// of the numbers.
    pub fn range(&mut self) -> PortRange {
        let first = match self.below(8) {
            0 => 1 + self.below(70),
            1 => 65_535 - self.below(200),
            2 => self.number().max(1),
            _ => 1_000 + self.below(600),
        };
        let count = self.count().min(RANGE_COUNT_MAX).min(65_535 - first + 1);
        PortRange::from_numbers(first, count).expect("neither is 0, nor do they go past the end")
    }

    /// Ranges, fewer than `bound` of them.
    pub fn ranges(&mut self, bound: u16) -> Vec<PortRange> {
        (0..self.below(bound)).map(|_| self.range()).collect()
    }
}

/// Long enough to cover others; the references take one port at a time.
const RANGE_COUNT_MAX: u16 = 1_000;
