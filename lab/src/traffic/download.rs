//! A long download that goes on exactly as far as a test lets it, every byte of it looked at.
//!
//! What is downloaded is a file whose every byte follows from its place, so that a byte that is missing, doubled or
//! another download's is found, and nobody has to keep the file to compare with.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};

use crate::namespace::Namespace;

/// How much the kernel may take in before anybody reads it: little, so that the server is not done before its client.
const WINDOW: usize = 64 * 1024;

/// A download that has begun.
#[derive(Debug)]
pub struct Download {
    from: BufReader<TcpStream>,
    head: Vec<String>,
    received: u64,
    length: u64,
}

impl Download {
    /// Asks a web server for a file that [`write_pattern`] wrote, and reads the head of its answer. `patience` is for
    /// each piece.
    ///
    /// # Errors
    /// If there is no connection, or another answer than the file.
    pub fn start(
        from: &Namespace,
        at: SocketAddr,
        path: &str,
        patience: Duration,
    ) -> io::Result<Download> {
        let family = if at.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let stream = from.enter(|| -> io::Result<TcpStream> {
            let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // The window is agreed upon when the connection is made.
            setsockopt(&fd, sockopt::RcvBuf, &WINDOW)?;
            let stream = TcpStream::from(fd);
            stream.set_write_timeout(Some(patience))?;
            connect(stream.as_raw_fd(), &SockaddrStorage::from(at))?;
            Ok(stream)
        })?;
        stream.set_read_timeout(Some(patience))?;
        let mut from = BufReader::new(stream);
        write!(from.get_mut(), "GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n")?;
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let mut download = Download { from, head, received: 0, length: 0 };
        let status = download.head.first().cloned().unwrap_or_default();
        let length = download.header("content-length").and_then(|text| text.parse().ok());
        match length {
            Some(length) if status.split(' ').nth(1) == Some("200") => download.length = length,
            _ => return Err(io::Error::other(format!("the server says {:?}", download.head))),
        }
        Ok(download)
    }

    /// What the server's answer says under this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.to_ascii_lowercase() == name).then_some(value.trim())
        })
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Reads up to this place, and looks at every byte.
    ///
    /// # Errors
    /// If the connection ends or hangs before that, or if a byte is wrong.
    pub fn read_to(&mut self, place: u64) -> io::Result<()> {
        let mut buffer = vec![0; WINDOW];
        while self.received < place.min(self.length) {
            let left = (place - self.received).min(buffer.len() as u64) as usize;
            let piece = match self.from.read(&mut buffer[..left]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                other => other,
            };
            let length = piece.map_err(|error| {
                io::Error::new(error.kind(), format!("after {} bytes: {error}", self.received))
            })?;
            for byte in &buffer[..length] {
                if *byte != pattern(self.received) {
                    return Err(io::Error::other(format!("byte {} is wrong", self.received)));
                }
                self.received += 1;
            }
        }
        Ok(())
    }

    /// Reads the rest, and the end; how many bytes there were.
    ///
    /// # Errors
    /// As [`Download::read_to`], or if there are more bytes than the server said.
    pub fn finish(mut self) -> io::Result<u64> {
        self.read_to(self.length)?;
        match self.from.read(&mut [0])? {
            0 => Ok(self.received),
            _ => Err(io::Error::other("more bytes than the server said")),
        }
    }
}

/// Writes a file of this many bytes, for a web server to serve to a [`Download`].
///
/// # Errors
/// If it cannot be written.
pub fn write_pattern(path: &Path, length: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut piece = Vec::with_capacity(WINDOW);
    let mut place = 0;
    while place < length {
        piece.clear();
        let end = (place + WINDOW as u64).min(length);
        piece.extend((place..end).map(pattern));
        file.write_all(&piece)?;
        place = end;
    }
    file.flush()
}

/// The byte at a place: no two places near one another, or a power of two apart, have the same neighbourhood.
fn pattern(place: u64) -> u8 {
    (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_pattern_has_its_length_and_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pattern");
        write_pattern(&path, 100_000).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 100_000);
        assert!(bytes.iter().enumerate().all(|(place, byte)| *byte == pattern(place as u64)));
    }

    #[test]
    fn a_piece_that_is_missing_is_seen_wherever_it_was() {
        for (at, missing) in [(0, 1), (10, 256), (1000, 65536), (4096, 4096), (77, 1 << 20)] {
            let shifted = (at..at + 64).filter(|place| pattern(*place) == pattern(place + missing));
            assert!(shifted.count() < 8, "{missing} bytes missing at {at}");
        }
    }
}
