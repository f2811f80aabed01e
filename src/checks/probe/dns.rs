//! DNS: one query, over UDP or TCP (RFC 1035).
//!
//! No record is read: that an answer to this very question came, that it has records and no
//! error, is all that is asked. So names are only compared, never decompressed, and nothing but
//! a header's twelve bytes and the question that was sent is trusted to be anywhere.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;

use socket2::Type;

use super::deadline::Deadline;
use super::stream::{Stream, socket};
use crate::checks::settings::Dns;
use crate::checks::{CheckOutcome, CheckTarget};
use crate::protocol::Protocol;

/// The length of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// A message over UDP without an extension has 512 bytes at most; servers have been seen to send
/// more.
const DATAGRAM_MOST: usize = 4096;

/// Flags of the header's third and fourth byte.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RCODE: u16 = 0x000f;

/// IN, the Internet's class.
const CLASS_IN: u16 = 1;

/// Asks, and judges the answer.
pub(super) fn probe(target: &CheckTarget, dns: &Dns, deadline: Deadline) -> CheckOutcome {
    // The keys of a new RandomState cannot be guessed.
    let id = RandomState::new().build_hasher().finish() as u16;
    let query = query(id, dns);
    match target.protocol {
        Protocol::Tcp => over_tcp(target, &query, deadline),
        Protocol::Udp => over_udp(target, &query, deadline),
        Protocol::Sctp => Err("DNS is asked over tcp or udp, not over sctp".to_owned()),
    }
}

fn over_udp(target: &CheckTarget, query: &[u8], deadline: Deadline) -> CheckOutcome {
    let socket = UdpSocket::from(socket(target, Type::DGRAM, socket2::Protocol::UDP)?);
    // Connected: only this peer's datagrams come in, and so does its port-unreachable message.
    socket
        .connect(target.probed())
        .and_then(|()| socket.send(query))
        .map_err(|error| deadline.because("send the query", &error))?;
    let mut buffer = [0; DATAGRAM_MOST];
    loop {
        let received = deadline
            .left()
            .and_then(|left| socket.set_read_timeout(Some(left)))
            .and_then(|()| socket.recv(&mut buffer));
        match received {
            // An answer to something else is another's, or late: ours may still come.
            Ok(length) => {
                if let Some(outcome) = judge(query, &buffer[..length]) {
                    return outcome;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.because("wait for the answer", &error)),
        }
    }
}

/// Over TCP each message follows its length (RFC 1035, 4.2.2).
fn over_tcp(target: &CheckTarget, query: &[u8], deadline: Deadline) -> CheckOutcome {
    let mut stream = Stream::connect(target, deadline)?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).map_err(|error| deadline.because("send the query", &error))?;
    let answer = read_framed(&mut stream)
        .map_err(|error| deadline.because("wait for the answer", &error))?;
    stream.part();
    judge(query, &answer).unwrap_or_else(|| Err("the answer is to another question".to_owned()))
}

fn read_framed(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A query of one question.
fn query(id: u16, dns: &Dns) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + 260);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    for label in dns.name.labels() {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    for word in [dns.record_type.number(), CLASS_IN] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message
}

/// What an answer says; none if it is not one to this query.
fn judge(query: &[u8], answer: &[u8]) -> Option<CheckOutcome> {
    let word = |at: usize| Some(u16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let (id, flags, questions, answers) = (word(0)?, word(2)?, word(4)?, word(6)?);
    if id.to_be_bytes() != query[..2] || flags & (RESPONSE | OPCODE) != RESPONSE {
        return None;
    }
    let rcode = flags & RCODE;
    // A server that could not read the question may leave it out; this id is answer enough.
    if questions == 0 && rcode != 0 {
        return Some(Err(refusal(rcode)));
    }
    // The question comes back as it was sent, except for the case of letters (RFC 4343).
    let question = answer.get(HEADER..query.len())?;
    if questions != 1 || !question.eq_ignore_ascii_case(&query[HEADER..]) {
        return None;
    }
    Some(match (rcode, answers) {
        (0, _) if flags & TRUNCATED != 0 => Ok("an answer, cut short".to_owned()),
        (0, 0) => Err("an answer without a record".to_owned()),
        (0, 1) => Ok("an answer of 1 record".to_owned()),
        (0, answers) => Ok(format!("an answer of {answers} records")),
        (rcode, _) => Err(refusal(rcode)),
    })
}

/// A response code's name (RFC 1035, 4.1.1).
fn refusal(rcode: u16) -> String {
    match rcode {
        1 => "the server says FORMERR".to_owned(),
        2 => "the server says SERVFAIL".to_owned(),
        3 => "the server says NXDOMAIN".to_owned(),
        4 => "the server says NOTIMP".to_owned(),
        5 => "the server says REFUSED".to_owned(),
        other => format!("the server answers with error {other}"),
    }
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
