//! Text in columns, appended piece by piece to one string.
//!
//! A listing of a large table is hundreds of thousands of short fields. `format!` would make a
//! string of each, and walk its machinery of widths and alignments for each; that took more of
//! a listing's time than the kernel did. Here a field is bytes at the end of a string.

use std::fmt::Write as _;
use std::net::IpAddr;

/// What a line is made of.
pub(super) trait Columns {
    /// A number.
    fn number(&mut self, value: u64);

    /// A number at the left of a column of `width`.
    fn number_left(&mut self, value: u64, width: usize);

    /// A number at the right of a column of `width`.
    fn number_right(&mut self, value: u64, width: usize);

    /// A word at the left of a column of `width`.
    fn word(&mut self, word: &str, width: usize);

    /// An address; no brackets.
    fn address(&mut self, addr: IpAddr);

    /// Blanks, until what began at `start` is as many characters as `width`.
    fn fill(&mut self, start: usize, width: usize);

    /// Cuts what began at `start` to at most `bytes` bytes, never inside a character.
    fn cut(&mut self, start: usize, bytes: usize);
}

/// The widest column that is filled in one piece.
const BLANKS: &str = "                                        ";

impl Columns for String {
    fn number(&mut self, value: u64) {
        self.push_str(itoa::Buffer::new().format(value));
    }

    fn number_left(&mut self, value: u64, width: usize) {
        let start = self.len();
        self.number(value);
        self.fill(start, width);
    }

    fn number_right(&mut self, value: u64, width: usize) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value);
        // Blanks, as many as are missing: what stands before them does not count.
        self.fill(self.len(), width.saturating_sub(digits.len()));
        self.push_str(digits);
    }

    fn word(&mut self, word: &str, width: usize) {
        let start = self.len();
        self.push_str(word);
        self.fill(start, width);
    }

    fn address(&mut self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => {
                let [a, b, c, d] = addr.octets();
                self.number(a.into());
                for octet in [b, c, d] {
                    self.push('.');
                    self.number(octet.into());
                }
            }
            // Writing to a string cannot fail.
            IpAddr::V6(addr) => drop(write!(self, "{addr}")),
        }
    }

    fn fill(&mut self, start: usize, width: usize) {
        let text = &self[start..];
        let length = if text.is_ascii() { text.len() } else { text.chars().count() };
        let mut missing = width.saturating_sub(length);
        while missing > 0 {
            let blanks = missing.min(BLANKS.len());
            self.push_str(&BLANKS[..blanks]);
            missing -= blanks;
        }
    }

    fn cut(&mut self, start: usize, bytes: usize) {
        if self.len() - start > bytes {
            let end = (start..=start + bytes).rev().find(|end| self.is_char_boundary(*end));
            self.truncate(end.unwrap_or(start));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `write` appends to a line that has something already.
    fn appended(write: impl FnOnce(&mut String)) -> String {
        let mut line = "é ".to_owned();
        write(&mut line);
        line.split_off("é ".len())
    }

    proptest! {
        #[test]
        fn fields_are_what_format_makes_of_them(value: u64, width in 0..60usize, word in "\\PC{0,50}", addr: IpAddr) {
            prop_assert_eq!(appended(|line| line.number(value)), value.to_string());
            prop_assert_eq!(appended(|line| line.number_left(value, width)), format!("{value:<width$}"));
            prop_assert_eq!(appended(|line| line.number_right(value, width)), format!("{value:>width$}"));
            prop_assert_eq!(appended(|line| line.word(&word, width)), format!("{word:<width$}"));
            prop_assert_eq!(appended(|line| line.address(addr)), addr.to_string());
        }

        #[test]
        fn a_cut_leaves_whole_characters_and_what_was_there_before(word in "\\PC{0,30}", bytes in 0..40usize) {
            let left = appended(|line| {
                let start = line.len();
                line.push_str(&word);
                line.cut(start, bytes);
            });
            prop_assert!(word.starts_with(&left) && left.len() <= bytes);
            prop_assert!(word.len() <= bytes || left.len() + 4 > bytes);
        }
    }
}
