//! HTTP/1.1 answers, read from anything that can be read (RFC 9112).
//!
//! The head is the `httparse` crate's. Bodies come chunked, by length, or until the end. The
//! other side is hostile: a head has [`HEAD_MOST`] bytes at most, of a body [`BODY_MOST`] are
//! read, and no byte is looked at more often than there are lines.

use std::io::{self, ErrorKind, Read};

use httparse::{EMPTY_HEADER, Header, Response, Status};

/// The longest head, in bytes, interim answers included.
const HEAD_MOST: usize = 16 << 10;

/// The most fields of a head.
const FIELDS_MOST: usize = 64;

/// What is read of a body, in bytes.
pub(super) const BODY_MOST: usize = 256 << 10;

/// The longest line that tells a chunk's size, in bytes.
const CHUNK_LINE_MOST: usize = 1 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMessage {
    /// Reading failed or took too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no HTTP.
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    /// The head is too long.
    #[error("the answer's head is longer than {HEAD_MOST} bytes or {FIELDS_MOST} fields")]
    LongHead,
    /// The connection ended before the answer did.
    #[error("the connection ended within the answer")]
    Cut,
}

/// An answer whose head was read.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status code.
    pub(super) status: u16,
    framing: Framing,
    /// What was read beyond the head.
    rest: Vec<u8>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilEnd,
}

/// Reads to the end of the head.
pub(super) fn read_head(from: &mut impl Read) -> Result<Answer, NoMessage> {
    let mut bytes = Vec::new();
    let mut total = 0;
    while total <= HEAD_MOST {
        let length = more(from, &mut bytes)?;
        if length == 0 {
            // Half a line may be enough to see that it is no HTTP at all.
            parse_head(&bytes)?;
            return Err(NoMessage::Cut);
        }
        total += length;
        // A head can only have ended where a line does.
        if !bytes[bytes.len() - length..].contains(&b'\n') {
            continue;
        }
        while let Some((end, answer)) = parse_head(&bytes)? {
            bytes.drain(..end);
            if let Some((status, framing)) = answer {
                return Ok(Answer { status, framing, rest: bytes });
            }
            // An interim answer: the one that is meant follows, and may be here already.
        }
    }
    Err(NoMessage::LongHead)
}

/// Where the head ends, its status and how its body ends; no status if it is an interim one
/// (1xx, RFC 9110, 15.2), and nothing at all if the head is not complete.
type Head = (usize, Option<(u16, Framing)>);

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, NoMessage> {
    let mut fields = [EMPTY_HEADER; FIELDS_MOST];
    let mut response = Response::new(&mut fields);
    let end = match response.parse(bytes) {
        Ok(Status::Complete(end)) => end,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NoMessage::LongHead),
        Err(_) => return Err(NoMessage::NotHttp),
    };
    let status = response.code.ok_or(NoMessage::NotHttp)?;
    let answer = match status {
        // 101 is never asked for.
        100..=199 => None,
        _ => Some((status, framing(status, response.headers)?)),
    };
    Ok(Some((end, answer)))
}

/// How the body of an answer to GET ends (RFC 9112, 6.3).
fn framing(status: u16, fields: &[Header<'_>]) -> Result<Framing, NoMessage> {
    if matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let values = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    };
    if let Some(coding) = values("transfer-encoding").next_back() {
        let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or(coding);
        return Ok(match last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            true => Framing::Chunked,
            false => Framing::UntilEnd,
        });
    }
    let mut framing = Framing::UntilEnd;
    for value in values("content-length") {
        let digits = std::str::from_utf8(value.trim_ascii()).unwrap_or("");
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NoMessage::NotHttp);
        }
        let length = Framing::Length(digits.parse().map_err(|_| NoMessage::NotHttp)?);
        if framing != Framing::UntilEnd && framing != length {
            return Err(NoMessage::NotHttp);
        }
        framing = length;
    }
    Ok(framing)
}

/// Reads the body to its end, or its first [`BODY_MOST`] bytes; true if that was all of it.
pub(super) fn read_body(
    answer: Answer,
    from: &mut impl Read,
) -> Result<(Vec<u8>, bool), NoMessage> {
    match answer.framing {
        Framing::Length(length) => read_length(answer.rest, length, from),
        Framing::UntilEnd => read_to_end(answer.rest, from),
        Framing::Chunked => read_chunks(answer.rest, from),
    }
}

fn read_length(
    mut body: Vec<u8>,
    length: u64,
    from: &mut impl Read,
) -> Result<(Vec<u8>, bool), NoMessage> {
    let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(BODY_MOST);
    while body.len() < wanted {
        if more(from, &mut body)? == 0 {
            return Err(NoMessage::Cut);
        }
    }
    body.truncate(wanted);
    Ok((body, wanted as u64 == length))
}

fn read_to_end(mut body: Vec<u8>, from: &mut impl Read) -> Result<(Vec<u8>, bool), NoMessage> {
    while body.len() <= BODY_MOST {
        if more(from, &mut body)? == 0 {
            return Ok((body, true));
        }
    }
    body.truncate(BODY_MOST);
    Ok((body, false))
}

fn read_chunks(mut bytes: Vec<u8>, from: &mut impl Read) -> Result<(Vec<u8>, bool), NoMessage> {
    let mut body = Vec::new();
    // The chunks before this place are in the body.
    let mut place = 0;
    loop {
        let (start, size) = loop {
            let line = &bytes[place..];
            match httparse::parse_chunk_size(line) {
                Ok(Status::Complete(size)) => break size,
                Ok(Status::Partial) if line.len() <= CHUNK_LINE_MOST => {
                    if more(from, &mut bytes)? == 0 {
                        return Err(NoMessage::Cut);
                    }
                }
                _ => return Err(NoMessage::NotHttp),
            }
        };
        if size == 0 {
            return Ok((body, true));
        }
        let start = place + start;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(BODY_MOST - body.len());
        // The chunk's bytes and the line's end after them.
        let end = if wanted as u64 == size { start + wanted + 2 } else { start + wanted };
        while bytes.len() < end {
            if more(from, &mut bytes)? == 0 {
                return Err(NoMessage::Cut);
            }
        }
        body.extend_from_slice(&bytes[start..start + wanted]);
        if wanted as u64 != size {
            return Ok((body, false));
        }
        if bytes[end - 2..end] != *b"\r\n" {
            return Err(NoMessage::NotHttp);
        }
        // What is in the body is not kept twice.
        bytes.drain(..end);
        place = 0;
    }
}

/// Reads some bytes more; 0 at the end.
fn more(from: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 8192];
    let length = match from.read(&mut buffer) {
        // Many a server ends TLS without saying so; that it ended is what counts here.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
        result => result?,
    };
    bytes.extend_from_slice(&buffer[..length]);
    Ok(length)
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
