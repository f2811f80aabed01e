//! Chance with a seed: a test or a benchmark that failed can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64, by Steele, Lea and Flood): the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// One with this seed; any will do.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// An index into so many; 0 if there are none.
    pub fn index(&mut self, length: usize) -> usize {
        self.below((length as u64).max(1)) as usize
    }
}

/// The seed of a test: another one for each run, unless `CVIP_TEST_SEED` gives it.
///
/// # Panics
/// That is no number.
#[must_use]
pub fn seed() -> u64 {
    match std::env::var("CVIP_TEST_SEED") {
        Ok(text) => text.parse().expect("CVIP_TEST_SEED is a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_story_of_its_own() {
        let story = |seed| {
            let mut dice = Dice::new(seed);
            std::iter::repeat_with(|| dice.below(6)).take(60).collect::<Vec<_>>()
        };
        assert_eq!(story(7), story(7));
        assert_ne!(story(7), story(8));
        assert!((0..6).all(|side| story(0).contains(&side)));
    }
}
