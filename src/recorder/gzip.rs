//! Segments in gzip's format (RFC 1952): a heartbeat is like the one before, so that a recording takes
//! a small part of its text.
//!
//! What was written so far can be read at any time, also after a crash: each piece of text ends at a
//! byte, with what is needed to read it (deflate's sync flush, RFC 1951). A file that ends there, or
//! within a piece, is read as far as it goes.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// Encodes the text of one segment.
pub(super) struct Encoder(GzEncoder<Vec<u8>>);

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// What a piece of text adds to the file.
    ///
    /// # Errors
    /// None in memory, but for what the encoder itself may refuse.
    pub(super) fn encode(&mut self, text: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(text)?;
        self.0.flush()?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    /// The end of the file.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.0.finish()
    }
}

/// A segment's text, of a file as it was written or of one that was decompressed.
///
/// # Errors
/// The file cannot be read.
pub fn read_text<R: BufRead + 'static>(mut file: R) -> io::Result<Box<dyn BufRead>> {
    match file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        true => Ok(Box::new(BufReader::new(UpToCut(GzDecoder::new(file))))),
        false => Ok(Box::new(file)),
    }
}

/// A reader that ends where the file is cut off.
struct UpToCut<R>(R);

impl<R: Read> Read for UpToCut<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(of: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        read_text(io::Cursor::new(of))?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_file_is_read_as_far_as_it_was_written_whether_or_not_it_was_ended() {
        let mut encoder = Encoder::new();
        let mut file = Vec::new();
        let mut written = String::new();
        for n in 0..100 {
            let line = format!("{{\"t\":{n},\"call\":\"heartbeat of node 3\"}}\n");
            file.extend(encoder.encode(line.as_bytes()).unwrap());
            written.push_str(&line);
            assert_eq!(text(file.clone()).unwrap(), written);
        }
        for length in 0..file.len() {
            let cut = text(file[..length].to_vec()).unwrap();
            assert!(written.starts_with(&cut) || length < 2, "{length}: {cut:?}");
        }
        file.extend(encoder.finish().unwrap());
        assert_eq!(text(file.clone()).unwrap(), written);
        assert!(file.len() < written.len() / 3, "{} of {}", file.len(), written.len());
    }

    #[test]
    fn what_was_decompressed_is_read_too_and_damage_is_an_error() {
        assert_eq!(text(b"plain\n".to_vec()).unwrap(), "plain\n");
        let mut file = Encoder::new().encode(&[b'x'; 4000]).unwrap();
        file[12] ^= 0xff;
        let damaged = text(file);
        assert!(damaged.is_err() || damaged.unwrap() != "x".repeat(4000));
    }
}
