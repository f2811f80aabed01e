//! Counters that never end: terms of elections, starts of a cvipd, writes of a record.
//!
//! Each is a number from 1 to [`LAST`], and 1 follows the last: whatever is read has a successor,
//! and that can be read too. So a value that is corrupt, or was written to do harm, ends no
//! counting. Of two numbers the later one is that which is reached from the other in fewer steps;
//! 0 stands for "none yet" and comes before all others.

/// The last number before counting begins anew: every JSON reader takes it exactly, those too that
/// have nothing but floating point.
pub const LAST: u64 = (1 << 53) - 1;

/// The number that follows.
pub fn next(number: u64) -> u64 {
    if number >= LAST { 1 } else { number + 1 }
}

/// Whether the first number is later than the second.
pub fn is_later(number: u64, than: u64) -> bool {
    match (number, than) {
        (0, _) => false,
        (_, 0) => true,
        // Numbers beyond the last are refused by every reader; here they are the last.
        (number, than) => {
            let (number, than) = (number.min(LAST), than.min(LAST));
            let steps = if number >= than { number - than } else { LAST - (than - number) };
            (1..=LAST / 2).contains(&steps)
        }
    }
}

/// The later one of two numbers.
pub fn latest(one: u64, other: u64) -> u64 {
    if is_later(other, one) { other } else { one }
}

/// Whether the first of two pairs is later than the second: (incarnation, sequence) order what one
/// node writes and sends.
pub fn is_later_pair(pair: (u64, u64), than: (u64, u64)) -> bool {
    is_later(pair.0, than.0) || (pair.0 == than.0 && is_later(pair.1, than.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_follows_the_last_and_nothing_comes_before_none() {
        assert_eq!((next(0), next(1), next(LAST), next(u64::MAX)), (1, 2, 1, 1));
        assert!(is_later(1, LAST) && !is_later(LAST, 1));
        assert!(is_later(1, 0) && is_later(LAST, 0) && !is_later(0, LAST) && !is_later(0, 0));
        assert!(is_later(7, 3) && !is_later(3, 7) && !is_later(7, 7));
        assert_eq!((latest(3, 7), latest(7, 3), latest(LAST, 2), latest(0, 5)), (7, 7, 2, 5));
        assert!(is_later_pair((1, 1), (LAST, 9)) && is_later_pair((2, 1), (2, LAST)));
        assert!(!is_later_pair((2, 1), (2, 1)) && !is_later_pair((1, 9), (2, 1)));
    }

    /// Small numbers, numbers around the last, and any others.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![1..20u64, LAST - 20..=LAST, 1..=LAST, LAST / 2 - 20..LAST / 2 + 20]
    }

    proptest! {
        #[test]
        fn every_number_has_a_successor_that_is_later_and_of_two_one_is(a in number(), b in number()) {
            prop_assert!((1..=LAST).contains(&next(a)));
            prop_assert!(is_later(next(a), a) && !is_later(a, next(a)));
            prop_assert_eq!(a != b, is_later(a, b) != is_later(b, a));
            prop_assert_eq!(latest(a, b), latest(b, a));
        }
    }
}
