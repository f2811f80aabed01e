//! What is drawn at random: from one seed, the same on every machine.

use std::ops::RangeBounds;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// The source of this seed.
    pub fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// Another source, whose numbers do not depend on how many are drawn from this one later.
    #[must_use]
    pub fn fork(&mut self) -> Random {
        Random(self.0.fork())
    }

    /// A number of a range.
    pub fn within(&mut self, range: impl RangeBounds<u64>) -> u64 {
        self.0.u64(range)
    }

    /// True so many times in a million.
    pub fn happens(&mut self, per_million: u32) -> bool {
        self.0.u32(0..1_000_000) < per_million
    }

    /// One of several; none of none.
    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.0.usize(0..of.len())])
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        self.0.u128(..).to_be_bytes()
    }
}
