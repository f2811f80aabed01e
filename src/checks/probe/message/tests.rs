use proptest::prelude::*;

use super::*;

/// Gives its bytes in pieces of this size.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.len().min(self.1).min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// Status, body and whether it was all, or why not; the same however the bytes are cut.
fn read(bytes: &[u8]) -> Result<(u16, Vec<u8>, bool), String> {
    let read = |size| {
        let mut from = Pieces(bytes, size);
        let answer = read_head(&mut from)?;
        let status = answer.status;
        read_body(answer, &mut from).map(|(body, whole)| (status, body, whole))
    };
    let outcomes = [1, 2, 7, usize::MAX].map(|s| read(s).map_err(|e: NoMessage| e.to_string()));
    for outcome in &outcomes {
        assert_eq!(*outcome, outcomes[0]);
    }
    outcomes.into_iter().next().unwrap()
}

fn good(bytes: &str) -> (u16, String, bool) {
    let (status, body, whole) = read(bytes.as_bytes()).unwrap();
    (status, String::from_utf8(body).unwrap(), whole)
}

#[test]
fn a_body_ends_as_its_head_says() {
    for (answer, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", 200, "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.0 503 Down\r\n\r\nto the end", 503, "to the end"),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n1; x=y\r\n,\r\nB\r\n and more! \r\n0\r\nTrailer: 1\r\n\r\n",
            200,
            "hello, and more! ",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n\
             2\r\nab\r\n0\r\n\r\n",
            200,
            "ab",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nto the end", 200, "to the end"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
    ] {
        assert_eq!(good(answer), (status, body.to_owned(), true), "{answer}");
    }
}

#[test]
fn an_answer_that_is_none_says_what_is_wrong_with_it() {
    let not_http = "the answer is not HTTP/1.1";
    let cut = "the connection ended within the answer";
    for (answer, error) in [
        ("", cut),
        ("HTTP/1.1 200 OK\r\nContent-Le", cut),
        ("HTTP/1.1 100 Continue\r\n\r\n", cut),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", cut),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", cut),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", not_http),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n", not_http),
        ("SSH-2.0-OpenSSH_9.2\r\n", not_http),
        ("220 mail", not_http),
        ("HTTP/1.1 2xx OK\r\n\r\n", not_http),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", not_http),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", not_http),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", not_http),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", not_http),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", not_http),
    ] {
        assert_eq!(read(answer.as_bytes()), Err(error.to_owned()), "{answer}");
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    let error = "the answer's head is longer than 16384 bytes or 64 fields";
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_MOST));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MOST + 1));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    for head in [&long, &many, &interim] {
        assert_eq!(read(head.as_bytes()), Err(error.to_owned()));
    }
}

#[test]
fn no_more_of_a_body_is_read_than_is_kept() {
    // Twice, so that a reader which goes on would be seen to.
    let text = "x".repeat(2 * BODY_MOST);
    let (size, chunk) = (BODY_MOST / 2, "x".repeat(BODY_MOST / 2));
    let chunks = format!("{size:x}\r\n{chunk}\r\n").repeat(4);
    for head in [
        format!("Content-Length: {}\r\n\r\n{text}", text.len()),
        format!("Content-Length: {}\r\n\r\n{text}", u64::MAX),
        format!("\r\n{text}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"),
        format!("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{text}"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}");
        let mut from = Pieces(bytes.as_bytes(), usize::MAX);
        let answer = read_head(&mut from).unwrap();
        let (body, whole) = read_body(answer, &mut from).unwrap();
        assert_eq!((body.len(), whole), (BODY_MOST, false));
        assert!(from.0.len() > BODY_MOST / 2, "{} bytes are left", from.0.len());
    }
}

#[test]
fn a_body_of_exactly_what_is_kept_is_whole() {
    let text = "x".repeat(BODY_MOST);
    for head in [
        format!("Content-Length: {BODY_MOST}\r\n\r\n{text}"),
        format!("\r\n{text}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{BODY_MOST:x}\r\n{text}\r\n0\r\n\r\n"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}");
        let mut from = Pieces(bytes.as_bytes(), usize::MAX);
        let answer = read_head(&mut from).unwrap();
        let (body, whole) = read_body(answer, &mut from).unwrap();
        assert_eq!((body.len(), whole), (BODY_MOST, true));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_no_cut_makes_a_difference(
        start in prop::sample::select(vec![
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 100 C\r\n\r\n",
        ]),
        noise in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\r\n 0123456789abcdef:;".to_vec())],
            0..100,
        ),
    ) {
        let _ = read(&[start.as_bytes(), &noise].concat());
    }

    #[test]
    fn what_was_sent_in_chunks_is_what_is_read(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
    ) {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            bytes.extend(format!("{:X}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        prop_assert_eq!(read(&bytes), Ok((200, chunks.concat(), true)));
    }
}
