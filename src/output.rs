//! A program's standard output and error: whether all of it was written, and each message in one
//! write.
//!
//! A write that fails is reported at the end of the program, whatever the code in between did with
//! the error: a listing that is cut in the middle must not look like a whole one. A closed pipe is
//! no failure: its reader has seen enough.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;

mod closed;

/// Lines for a terminal. What others wrote, such as a node's record or a file that is read, is their
/// words: whatever could command the terminal is replaced.
pub(crate) fn harmless(text: &str) -> String {
    let plain = |c: char| c == '\n' || !c.is_control();
    text.chars().map(|c| if plain(c) { c } else { '\u{fffd}' }).collect()
}

/// A writer that remembers its first error and writes nothing after it.
///
/// What `write!` formats is written in one piece, so that the messages of several processes that
/// share a terminal or a log are not mixed.
pub(crate) struct Output<'a> {
    inner: &'a mut dyn Write,
    failed: Option<Failed>,
}

#[derive(Clone, Copy)]
enum Failed {
    Kind(io::ErrorKind),
    Errno(i32),
}

impl Failed {
    fn error(self) -> io::Error {
        match self {
            Failed::Kind(kind) => kind.into(),
            Failed::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

impl<'a> Output<'a> {
    /// Writes to `inner`.
    pub(crate) fn new(inner: &'a mut dyn Write) -> Output<'a> {
        Output { inner, failed: None }
    }

    /// Why something was not written, except that the reader is gone.
    pub(crate) fn lost(&self) -> Option<io::Error> {
        self.failed.map(Failed::error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Whether the reader closed the pipe.
    #[cfg(any(feature = "daemon", test))]
    pub(crate) fn is_closed(&self) -> bool {
        self.failed.is_some_and(|failed| failed.error().kind() == io::ErrorKind::BrokenPipe)
    }

    fn noting<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        if let Some(failed) = self.failed {
            return Err(failed.error());
        }
        let result = write(self.inner);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            let kind = Failed::Kind(error.kind());
            self.failed = Some(error.raw_os_error().map_or(kind, Failed::Errno));
        }
        result
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.noting(|inner| inner.write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.noting(|inner| inner.write_all(bytes))
    }

    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        match text.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(text.to_string().as_bytes()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.noting(|inner| inner.flush())
    }
}

/// The process's standard output, unbuffered, with every error of its own.
///
/// That of the standard library takes a descriptor that is not open for writing for one that no process
/// wants, and opens /dev/null in the place of one that is closed. Flushing this one also asks for
/// what a file system says of its written pages only when a file is closed.
#[derive(Debug)]
pub(crate) struct StandardOutput(File);

impl StandardOutput {
    /// Opens it.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub(crate) fn open() -> io::Result<StandardOutput> {
        Ok(StandardOutput(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match closed::at_start() {
            true => Err(Errno::EBADF.into()),
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Ok(copy) = self.0.try_clone() else { return Ok(()) };
        match nix::unistd::close(copy) {
            Ok(()) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes, then fails.
    struct Full {
        room: usize,
        writes: Vec<Vec<u8>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
            }
            self.room -= fits;
            self.writes.push(bytes[..fits].to_vec());
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_first_error_is_kept_and_nothing_is_written_after_it() {
        let mut full = Full { room: 4, writes: Vec::new() };
        let mut output = Output::new(&mut full);
        assert!(output.write_all(b"abcdef").is_err());
        assert!(output.write_all(b"gh").is_err() && output.flush().is_err());
        assert_eq!(output.lost().unwrap().raw_os_error(), Some(nix::libc::ENOSPC));
        assert!(!output.is_closed());
        full.room = 9;
        assert_eq!(full.writes.concat(), b"abcd");
    }

    #[test]
    fn a_message_is_one_write() {
        let mut full = Full { room: 99, writes: Vec::new() };
        writeln!(Output::new(&mut full), "a: {}, b", 1).unwrap();
        assert_eq!(full.writes, [b"a: 1, b\n"]);
    }

    #[test]
    fn a_reader_that_left_lost_nothing() {
        struct Left;
        impl Write for Left {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut left = Left;
        let mut output = Output::new(&mut left);
        assert!(output.write_all(b"x").is_err());
        assert!(output.is_closed() && output.lost().is_none());
    }
}
