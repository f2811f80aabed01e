//! Text in columns, appended piece by piece to one text.
//!
//! A listing of a large table is hundreds of thousands of short fields. `format!` would make a
//! string of each, and walk its machinery of widths and alignments for each; that took more of
//! a listing's time than the kernel did. Here a field is bytes at the end of a text, as wide as it
//! has bytes: that is how the original counts, and a host's name need be no UTF-8.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

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

    /// Blanks, until what began at `start` is as many bytes as `width`.
    fn fill(&mut self, start: usize, width: usize);

    /// Cuts what began at `start` to at most `bytes` bytes.
    fn cut(&mut self, start: usize, bytes: usize);
}

/// The widest column that is filled in one piece.
const BLANKS: &str = "                                        ";

/// A text on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnText(Vec<u8>);

impl ColumnText {
    /// An empty text.
    pub fn new() -> ColumnText {
        ColumnText::default()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// It as a string; what is no UTF-8 is replaced.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Empties it and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn push(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn push_os(&mut self, text: &OsStr) {
        self.0.extend_from_slice(text.as_bytes());
    }
}

impl std::fmt::Write for ColumnText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl Columns for ColumnText {
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
            // Writing to a text cannot fail.
            IpAddr::V6(addr) => drop(write!(self, "{addr}")),
        }
    }

    fn fill(&mut self, start: usize, width: usize) {
        let mut missing = width.saturating_sub(self.len() - start);
        while missing > 0 {
            let blanks = missing.min(BLANKS.len());
            self.push_str(&BLANKS[..blanks]);
            missing -= blanks;
        }
    }

    fn cut(&mut self, start: usize, bytes: usize) {
        self.0.truncate(start + bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `write` appends to a line that has something already.
    fn appended(write: impl FnOnce(&mut ColumnText)) -> Vec<u8> {
        let mut line = ColumnText(b"\xe9 ".to_vec());
        write(&mut line);
        line.0.split_off(2)
    }

    proptest! {
        #[test]
        fn fields_are_what_format_makes_of_them(value: u64, width in 0..60usize, word in "[ -~]{0,50}", addr: IpAddr) {
            for (bytes, text) in [
                (appended(|line| line.number(value)), value.to_string()),
                (appended(|line| line.number_left(value, width)), format!("{value:<width$}")),
                (appended(|line| line.number_right(value, width)), format!("{value:>width$}")),
                (appended(|line| line.word(&word, width)), format!("{word:<width$}")),
                (appended(|line| line.address(addr)), addr.to_string()),
            ] {
                prop_assert_eq!(bytes, text.into_bytes());
            }
        }

        #[test]
        fn columns_and_cuts_count_bytes(word: Vec<u8>, bytes in 0..40usize) {
            let left = appended(|line| {
                let start = line.len();
                line.push_os(OsStr::from_bytes(&word));
                line.fill(start, 40);
                line.cut(start, bytes);
            });
            prop_assert_eq!(left.len(), bytes);
            let same = bytes.min(word.len());
            prop_assert_eq!(&left[..same], &word[..same]);
        }
    }
}
