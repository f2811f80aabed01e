//! The lines of a restore: standard input into words, as much at a time as arrives.
//!
//! Every line is a command line of its own. Changes are collected and sent to the kernel in
//! one go, which is where `-R` gets its speed; but never across a read that might wait, so
//! that a person who types, or a program that writes a line and waits for its effect, sees
//! each line done before the next one is asked for. That falls out of the reading: one read
//! takes what is there, up to a buffer, and [`Lines::next`] says when it has to read again.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;
/// The longest line, in bytes; no rule comes near it.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// What the next step of reading brought.
#[derive(Debug, PartialEq, Eq)]
pub enum RestoreStep<'a> {
    /// The words of a line; never none.
    Line(Vec<&'a OsStr>),
    /// Nothing more without another read, which may wait: finish first what is under way,
    /// then call [`Lines::fill`].
    Wait,
    /// A line that is longer than [`LONGEST_LINE`]; there is no going on after it.
    TooLong,
    /// The end.
    End,
}

/// The lines of a reader.
pub struct Lines<R> {
    input: R,
    /// What has been read and not yet handed on.
    pending: Vec<u8>,
    /// Where in `pending` the next line begins.
    start: usize,
    ended: bool,
    comments: Comments,
    /// How many lines have been passed.
    number: u64,
    /// Where in `pending` the last line stands.
    last: Range<usize>,
    /// The end came in the middle of a line.
    cut: bool,
}

/// Which lines are comments, and passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comments {
    /// None, as for `-R`.
    None,
    /// Those that begin with `#`, as for the original's ipvsadm-restore.
    AtTheStart,
    /// Those whose first word begins with `#`.
    Indented,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`, without comments.
    pub fn new(input: R, comments: Comments) -> Lines<R> {
        Lines {
            input,
            pending: Vec::new(),
            start: 0,
            ended: false,
            comments,
            number: 0,
            last: 0..0,
            cut: false,
        }
    }

    /// The number of the line that came last, from 1 on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether the input ended without the newline of its last line, as one that was cut off does.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The text of the line that came last; until more is read.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.pending[self.last.clone()]).trim().to_owned()
    }

    /// The next line that has words.
    #[allow(clippy::should_implement_trait)] // it is not an Option
    pub fn next(&mut self) -> RestoreStep<'_> {
        let line = loop {
            let rest = &self.pending[self.start..];
            let (line, after) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => (self.start..self.start + end, self.start + end + 1),
                None if self.ended && !rest.is_empty() => {
                    self.cut = true;
                    (self.start..self.pending.len(), self.pending.len())
                }
                None if self.ended => return RestoreStep::End,
                None if rest.len() > LONGEST_LINE => return RestoreStep::TooLong,
                None => return RestoreStep::Wait,
            };
            self.start = after;
            self.number += 1;
            let text = &self.pending[line.clone()];
            let comment = match self.comments {
                Comments::None => false,
                Comments::AtTheStart => text.starts_with(b"#"),
                Comments::Indented => text.trim_ascii_start().starts_with(b"#"),
            };
            if !comment && words(text).next().is_some() {
                break line;
            }
        };
        self.last = line.clone();
        RestoreStep::Line(words(&self.pending[line]).collect())
    }

    /// Reads once more, waiting if it must.
    ///
    /// # Errors
    ///
    /// The reader's.
    pub fn fill(&mut self) -> io::Result<()> {
        self.pending.drain(..self.start);
        self.start = 0;
        self.last = 0..0;
        let kept = self.pending.len();
        self.pending.resize(kept + CHUNK, 0);
        let read = loop {
            match self.input.read(&mut self.pending[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.pending.truncate(kept + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

/// The words of a line: blanks part them, and the word `ipvsadm` is dropped wherever it
/// stands, so that a script of whole commands can be restored. There is no quoting.
fn words(line: &[u8]) -> impl Iterator<Item = &OsStr> {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
        .filter(|word| !word.is_empty() && *word != b"ipvsadm")
        .map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that hands out one piece at a time.
    struct Pieces<'a>(Vec<&'a str>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0).as_bytes();
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    /// The lines, each as its words joined by `|`, and `wait` for each further read.
    fn walk(pieces: &[&str], comments: Comments) -> Vec<String> {
        let mut lines = Lines::new(Pieces(pieces.to_vec()), comments);
        let mut seen = Vec::new();
        loop {
            match lines.next() {
                RestoreStep::Line(words) => {
                    let words: Vec<_> = words.iter().map(|w| w.display().to_string()).collect();
                    seen.push(words.join("|"));
                }
                RestoreStep::Wait => {
                    seen.push("wait".to_owned());
                    lines.fill().unwrap();
                }
                RestoreStep::TooLong => unreachable!("no line here is long"),
                RestoreStep::End => return seen,
            }
        }
    }

    #[test]
    fn lines_are_split_into_words_at_blanks() {
        assert_eq!(
            walk(&["-A -t  x\r\n\n \t\nipvsadm -C ipvsadm\nlast"], Comments::None),
            ["wait", "-A|-t|x", "-C", "wait", "last"]
        );
    }

    #[test]
    fn a_line_is_handed_on_before_the_next_one_is_waited_for() {
        assert_eq!(
            walk(&["-A\n-D", "\n", "-L\n"], Comments::None),
            ["wait", "-A", "wait", "-D", "wait", "-L", "wait"]
        );
    }

    #[test]
    fn comments_are_lines_that_begin_with_a_hash_and_only_if_asked_for() {
        assert_eq!(walk(&["#x\n #y\n"], Comments::AtTheStart), ["wait", "#y", "wait"]);
        assert_eq!(walk(&["#x\n #y\n"], Comments::Indented), ["wait", "wait"]);
        assert_eq!(walk(&["#x\n"], Comments::None), ["wait", "#x", "wait"]);
    }

    #[test]
    fn every_line_has_its_number_and_its_text() {
        let pieces = Pieces(vec!["# table\n\n  -A -t  x\n-", "D -t x"]);
        let mut lines = Lines::new(pieces, Comments::Indented);
        let mut seen = Vec::new();
        loop {
            match lines.next() {
                RestoreStep::Line(_) => seen.push((lines.number(), lines.text())),
                RestoreStep::Wait => lines.fill().unwrap(),
                RestoreStep::TooLong | RestoreStep::End => break,
            }
        }
        assert_eq!(seen, [(3, "-A -t  x".to_owned()), (4, "-D -t x".to_owned())]);
    }

    #[test]
    fn an_endless_line_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::new(io::repeat(b'x'), Comments::None);
        let mut reads = 0;
        while lines.next() == RestoreStep::Wait {
            lines.fill().unwrap();
            reads += 1;
        }
        assert_eq!(lines.next(), RestoreStep::TooLong);
        assert_eq!(reads, LONGEST_LINE / CHUNK + 1);
    }
}
