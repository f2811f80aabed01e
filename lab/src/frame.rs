//! The language between the host and the agent in the guest.
//!
//! One byte stream (a serial line in user-mode Linux, a virtio port in QEMU) has to carry a command's standard input,
//! both of its outputs, signals and its end, and keep them apart and whole. So every piece travels as a frame: one byte
//! that says what it is, four bytes of length (little-endian), then that many bytes.
//!
//! Flow: the host may only have [`WINDOW`] bytes of standard input under way; the agent gives credit back as the command
//! takes them. Below that, the host may only have so many bytes of any kind under way as the channel bears (its window);
//! the agent acknowledges what it has read. In the other direction the byte stream itself holds the guest back when the
//! host is slow.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How many bytes of standard input may be under way that the command has not read yet.
pub(crate) const WINDOW: usize = 256 * 1024;

/// How much of a stream one frame carries at most; [`read`] refuses a longer one as damage to the stream.
pub(crate) const MAX_CHUNK: usize = 32 * 1024;

/// The longest frame of any kind: a command line with a large environment.
const MAX_FRAME: usize = 4 * 1024 * 1024;

/// What a frame is about; the numbers are the first byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Guest to host, first of all: the kernel is up and the agent listens. Payload: the kernel's release.
    Hello = b'H',
    /// Host to guest, once: what to run. Payload: [`Spec`] as JSON.
    Spec = b'R',
    /// Guest to host: the guest is set up and the command has been started.
    Started = b'B',
    /// Host to guest: bytes of standard input; an empty one is its end.
    Stdin = b'I',
    /// Guest to host: the command took this many bytes of its standard input (`u32`, little-endian).
    Credit = b'C',
    /// Guest to host: the agent has read this many bytes of the channel (`u32`, little-endian).
    Ack = b'A',
    /// Guest to host: bytes that the command wrote to its standard output.
    Stdout = b'O',
    /// Guest to host: bytes that the command wrote to its standard error.
    Stderr = b'E',
    /// Host to guest: nobody reads this output any more. Payload: one byte, `O` or `E`.
    Closed = b'P',
    /// Host to guest: send this signal to the command (`u32`, little-endian).
    Signal = b'S',
    /// Host to guest: the terminal's size in rows and columns (two `u16`, little-endian).
    Window = b'W',
    /// Guest to host, last of all: the command's status (`u32`, little-endian), 128 + n for a signal n.
    Exit = b'X',
    /// Guest to host, last of all: the guest could not be set up. Payload: why.
    Failed = b'F',
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [
            Hello, Spec, Started, Stdin, Credit, Ack, Stdout, Stderr, Closed, Signal, Window, Exit,
            Failed,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What the guest is to set up and run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Which kernel this is: the value of `CVIP_LAB` inside.
    pub(crate) kernel: String,
    /// The command and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// The command's whole environment, except what only the guest knows.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory: the caller's.
    pub(crate) cwd: PathBuf,
    /// The folder whose files reach the host, the same path on both sides.
    pub(crate) scratch: PathBuf,
    /// The folder that holds every package layer, on the host.
    pub(crate) layers: PathBuf,
    /// Layers above the host's root, paths below `layers`, uppermost first.
    pub(crate) over: Vec<PathBuf>,
    /// Layers below the host's root, likewise.
    pub(crate) under: Vec<PathBuf>,
    /// The terminal to give the command, if it is to have one.
    pub(crate) terminal: Option<Terminal>,
    /// Seconds and nanoseconds since 1970, for a guest whose clock is wrong.
    pub(crate) now: (u64, u32),
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terminal {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// How many bytes a frame has before its payload.
pub(crate) const HEAD: usize = 5;

/// A frame as it goes over the wire.
pub(crate) fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= MAX_FRAME);
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Writes one frame in a single write, so that frames of different threads never mix behind a lock.
pub(crate) fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    to.write_all(&encode(kind, payload))?;
    to.flush()
}

/// Reads one frame; `None` when the stream ends between frames.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    loop {
        match from.read(&mut head[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    from.read_exact(&mut head[1..])?;
    let damage = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let kind = Kind::from_byte(head[0])
        .ok_or_else(|| damage(format!("a frame of unknown kind {:#04x}", head[0])))?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let limit = match kind {
        Kind::Stdin | Kind::Stdout | Kind::Stderr => MAX_CHUNK,
        _ => MAX_FRAME,
    };
    if length > limit {
        return Err(damage(format!("a {kind:?} frame of {length} bytes")));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

/// The number that a [`Kind::Credit`], [`Kind::Signal`] or [`Kind::Exit`] frame carries.
pub(crate) fn number(payload: &[u8]) -> u32 {
    payload.try_into().map(u32::from_le_bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let mut wire = Vec::new();
        write(&mut wire, Kind::Stdout, b"\0\xff\r\n\x03").unwrap();
        write(&mut wire, Kind::Stdin, b"").unwrap();
        write(&mut wire, Kind::Exit, &130u32.to_le_bytes()).unwrap();
        let mut from = wire.as_slice();
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Stdout, b"\0\xff\r\n\x03".to_vec())));
        assert_eq!(read(&mut from).unwrap(), Some((Kind::Stdin, vec![])));
        let (kind, payload) = read(&mut from).unwrap().unwrap();
        assert_eq!((kind, number(&payload)), (Kind::Exit, 130));
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn every_kind_is_known_by_its_byte() {
        for byte in b"HRBICAOEPSWXF" {
            assert_eq!(Kind::from_byte(*byte).map(|kind| kind as u8), Some(*byte));
        }
    }

    #[test]
    fn the_wire_is_kind_then_little_endian_length_then_payload() {
        let mut wire = Vec::new();
        write(&mut wire, Kind::Stderr, b"no").unwrap();
        assert_eq!(wire, b"E\x02\0\0\0no");
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let error = read(&mut &b"O\x05\0\0\0ab"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn damage_is_refused_before_anything_is_allocated() {
        assert_eq!(read(&mut &b"?\0\0\0\0"[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read(&mut &b"O\xff\xff\xff\xff"[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_spec_survives_json_with_bytes_that_are_not_utf8() {
        use std::os::unix::ffi::OsStringExt;
        let spec = Spec {
            kernel: "uml".into(),
            argv: vec!["printf".into(), OsString::from_vec(vec![0xff, b'a'])],
            env: vec![("A".into(), "b c".into())],
            cwd: "/work".into(),
            scratch: "/s".into(),
            layers: "/l".into(),
            over: vec![],
            under: vec!["base/under".into()],
            terminal: Some(Terminal { rows: 24, columns: 80 }),
            now: (1, 2),
        };
        let json = serde_json::to_vec(&spec).unwrap();
        assert_eq!(serde_json::from_slice::<Spec>(&json).unwrap(), spec);
    }
}
