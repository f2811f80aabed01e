//! The lines of a segment: its header, the state with which it begins, and a line for each call, all
//! of them JSON.

use std::io::{self, BufRead, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ring::STATE_BYTES;
use crate::clock::Instant;

/// The number of this format.
pub(super) const FORMAT: u32 = 1;

/// The program that writes and reads it here.
pub(super) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The longest line that is read: what is written is shorter by far.
const LINE_BYTES: u64 = 4 * STATE_BYTES;

/// What a segment is: its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// The number of the format.
    pub format: u32,
    /// The version of the cvipd that recorded it.
    pub program: String,
    /// The node on which it ran.
    pub node: u32,
    /// The core's name.
    pub core: String,
    /// The segment's number; later segments of a node have higher ones.
    pub number: u64,
    /// The segment that this one goes on from, without a call between the two.
    pub after: Option<u64>,
    /// When it begins.
    pub at: Instant,
    /// The same by the host's clock, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// A call and what was to be done after it: any other line but the second.
#[derive(Deserialize)]
pub(super) struct Line<C> {
    pub(super) t: Instant,
    pub(super) call: C,
    #[serde(default = "Vec::new")]
    pub(super) out: Vec<Value>,
}

/// The beginning of a segment: two lines.
pub(super) fn write_beginning<S: Serialize>(
    header: &SegmentHeader,
    state: &S,
) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(header)?;
    text.push(b'\n');
    serde_json::to_writer(&mut text, state)?;
    text.push(b'\n');
    Ok(text)
}

/// The first half of a call's line: before the call is made.
pub(super) fn write_call<C: Serialize>(
    text: &mut Vec<u8>,
    call: &C,
    now: Instant,
) -> serde_json::Result<()> {
    text.extend_from_slice(b"{\"t\":");
    serde_json::to_writer(&mut *text, &now)?;
    text.extend_from_slice(b",\"call\":");
    serde_json::to_writer(text, call)
}

/// The second half, once it was made.
pub(super) fn write_outputs<O: Serialize>(
    text: &mut Vec<u8>,
    outputs: &[O],
) -> serde_json::Result<()> {
    if !outputs.is_empty() {
        text.extend_from_slice(b",\"out\":");
        serde_json::to_writer(&mut *text, outputs)?;
    }
    text.extend_from_slice(b"}\n");
    Ok(())
}

/// Reads a segment's header.
///
/// # Errors
/// There is none, or it is no recording of cvipd.
pub fn read_header(reader: &mut impl BufRead) -> io::Result<SegmentHeader> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let ReadLine::Whole(line) = read_line(reader)? else {
        return Err(invalid("it has no whole line: cvipd had just begun to write it".to_owned()));
    };
    let header: SegmentHeader = serde_json::from_slice(&line)
        .map_err(|error| invalid(format!("it is no recording of cvipd: {error}")))?;
    if header.format != FORMAT {
        return Err(invalid(format!(
            "its format is {}, and this program reads format {FORMAT}: use the cvipctl of version \
             {:?}",
            header.format, header.program
        )));
    }
    Ok(header)
}

/// What a reading of the next line gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadLine {
    /// A line, without its end.
    Whole(Vec<u8>),
    /// The file ends within a line.
    Cut,
    /// The file ends.
    End,
}

/// Reads the next line.
pub(super) fn read_line(reader: &mut impl BufRead) -> io::Result<ReadLine> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)?;
    let length = line.len() as u64;
    match line.pop() {
        Some(b'\n') => Ok(ReadLine::Whole(line)),
        Some(_) if length >= LINE_BYTES => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than {LINE_BYTES} bytes, and none of a recording is"),
        )),
        Some(_) => Ok(ReadLine::Cut),
        None => Ok(ReadLine::End),
    }
}

/// A line's content.
pub(super) fn parse<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            format: FORMAT,
            program: PROGRAM.to_owned(),
            node: 3,
            core: "monitor".to_owned(),
            number: 7,
            after: Some(6),
            at: Instant::now(),
            unix_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut text = write_beginning(&header(), &[1, 2]).unwrap();
        let now = Instant::now();
        write_call(&mut text, &"go", now).unwrap();
        write_outputs(&mut text, &[5]).unwrap();
        write_call(&mut text, &"stop", now).unwrap();
        write_outputs::<u8>(&mut text, &[]).unwrap();
        let mut reader = &text[..];
        assert_eq!(read_header(&mut reader).unwrap().number, 7);
        let mut next = || match read_line(&mut reader).unwrap() {
            ReadLine::Whole(line) => Some(line),
            ReadLine::Cut | ReadLine::End => None,
        };
        assert_eq!(parse::<Vec<u8>>(&next().unwrap()).unwrap(), [1, 2]);
        for (call, out) in [("go", vec![Value::from(5)]), ("stop", vec![])] {
            let line: Line<String> = parse(&next().unwrap()).unwrap();
            assert_eq!((line.t, line.call.as_str(), line.out), (now, call, out));
        }
        assert_eq!(next(), None);
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_told_from_one_that_ends_after_it() {
        let read = |mut text: &[u8]| read_line(&mut text).unwrap();
        assert_eq!(read(b"ab\n"), ReadLine::Whole(b"ab".to_vec()));
        assert_eq!((read(b"ab"), read(b"")), (ReadLine::Cut, ReadLine::End));
    }

    #[test]
    fn what_is_no_recording_is_refused_and_says_why() {
        let said = |text: &str| read_header(&mut text.as_bytes()).unwrap_err().to_string();
        let newer = SegmentHeader { format: 2, program: "9.1".to_owned(), ..header() };
        let newer = serde_json::to_string(&newer).unwrap();
        for (text, part) in [
            ("", "no whole line"),
            ("{}", "no whole line"),
            ("{}\n", "no recording of cvipd: missing field `format`"),
            ("\0\n", "no recording of cvipd"),
            (&format!("{newer}\n"), "its format is 2, and this program reads format 1"),
            (&"x".repeat(LINE_BYTES as usize + 1), "a line is longer"),
        ] {
            assert!(said(text).contains(part), "{}", said(text));
        }
    }
}
