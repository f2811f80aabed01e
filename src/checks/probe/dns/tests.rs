use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::super::probe;
use super::super::test_support::{LONG, closed_udp_port, hurried, loopbacks, target};
use super::*;
use crate::checks::settings::Kind;

fn dns(name: &str, record_type: &str) -> Dns {
    Dns { name: name.parse().unwrap(), record_type: record_type.parse().unwrap() }
}

/// The query as a server answers it: flags and the number of records set, nothing else.
fn answered(query: &[u8], flags: u16, records: u16) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2..4].copy_from_slice(&(RESPONSE | flags).to_be_bytes());
    answer[6..8].copy_from_slice(&records.to_be_bytes());
    answer
}

#[test]
fn a_query_is_the_bytes_of_rfc_1035() {
    let expected = [
        &[0x12, 0x34][..],         // id
        &[0x01, 0x00],             // recursion desired
        &[0, 1, 0, 0, 0, 0, 0, 0], // one question
        b"\x03www\x07example\x03org\x00",
        &[0, 28], // AAAA
        &[0, 1],  // IN
    ]
    .concat();
    assert_eq!(query(0x1234, &dns("www.example.org", "AAAA")), expected);
    assert_eq!(query(0, &dns(".", "NS"))[HEADER..], [0, 0, 2, 0, 1]);
}

#[test]
fn an_answer_is_judged_by_its_code_and_the_number_of_its_records() {
    let query = query(7, &dns("www.example.org", "A"));
    let said = |flags, records| judge(&query, &answered(&query, flags, records)).unwrap();
    assert_eq!(said(0, 1), Ok("an answer of 1 record".to_owned()));
    // Authoritative, recursion available.
    assert_eq!(said(0x0480, 3), Ok("an answer of 3 records".to_owned()));
    assert_eq!(said(TRUNCATED, 0), Ok("an answer, cut short".to_owned()));
    assert_eq!(said(0, 0), Err("an answer without a record".to_owned()));
    assert_eq!(said(2, 0), Err("the server says SERVFAIL".to_owned()));
    assert_eq!(said(3, 1), Err("the server says NXDOMAIN".to_owned()));
    assert_eq!(said(5, 0), Err("the server says REFUSED".to_owned()));
    assert_eq!(said(TRUNCATED | 2, 0), Err("the server says SERVFAIL".to_owned()));
    assert_eq!(said(9, 0), Err("the server answers with error 9".to_owned()));
    let mut loud = answered(&query, 0, 1);
    loud[HEADER..].make_ascii_uppercase();
    assert!(judge(&query, &loud).unwrap().is_ok(), "a server may change the case of letters");
    let mut bare = answered(&query[..HEADER], 1, 0);
    bare[5] = 0;
    assert_eq!(judge(&query, &bare), Some(Err("the server says FORMERR".to_owned())));
}

#[test]
fn an_answer_to_something_else_is_none() {
    let asked = query(7, &dns("www.example.org", "A"));
    let with = |at: usize, byte: u8| {
        let mut answer = answered(&asked, 0, 1);
        answer[at] ^= byte;
        answer
    };
    let none = [
        Vec::new(),
        answered(&asked, 0, 1)[..HEADER].to_vec(),
        answered(&asked, 0, 1)[..asked.len() - 1].to_vec(),
        with(0, 1),               // another id
        with(2, 0x80),            // a query
        with(2, 0x08),            // another opcode
        with(5, 1),               // no question, and yet no error
        with(5, 3),               // two questions
        with(HEADER + 1, 0x01),   // another name
        with(asked.len() - 3, 3), // another type
        with(asked.len() - 1, 2), // another class
        answered(&query(7, &dns("www.example.com", "A")), 0, 1),
    ];
    for answer in none {
        assert_eq!(judge(&asked, &answer), None, "{answer:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(noise in prop::collection::vec(any::<u8>(), 0..100), keep in 0usize..40) {
        let query = query(7, &dns("www.example.org", "A"));
        let mut answer = answered(&query, 0, 1);
        answer.truncate(keep);
        answer.extend(noise);
        let _ = judge(&query, &answer);
    }
}

/// A name server over UDP for one query: `answers` makes of a query what is sent back.
fn udp_server(
    host: IpAddr,
    answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let addr = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        for answer in answers(&buffer[..length]) {
            socket.send_to(&answer, peer).unwrap();
        }
    });
    (addr, thread)
}

fn over(protocol: Protocol, mut target: CheckTarget) -> CheckTarget {
    target.protocol = protocol;
    target
}

#[test]
fn over_udp_the_answer_to_the_question_counts_whatever_comes_before_it() {
    for host in loopbacks() {
        let (addr, server) = udp_server(host, |query| {
            let mut other = answered(query, 2, 0);
            other[0] ^= 0xff;
            vec![b"noise".to_vec(), Vec::new(), other, answered(query, 0, 2)]
        });
        let target = target(addr, Kind::Dns(dns("www.example.org", "A")));
        let outcome = probe(&over(Protocol::Udp, target));
        assert_eq!(outcome, Ok("an answer of 2 records".to_owned()));
        server.join().unwrap();
    }
}

#[test]
fn over_udp_silence_and_wrong_answers_take_the_timeout_and_a_closed_port_none() {
    let (addr, server) = udp_server(loopbacks()[0], |query| {
        let mut other = answered(query, 0, 1);
        other[0] ^= 0xff;
        vec![other]
    });
    let outcome = probe(&over(Protocol::Udp, hurried(addr, Kind::Dns(Dns::default()), 100)));
    assert_eq!(outcome, Err("wait for the answer: not done within 0.1 s".to_owned()));
    server.join().unwrap();
    for host in loopbacks() {
        let (_reserved, addr) = closed_udp_port(host);
        let outcome = probe(&over(Protocol::Udp, target(addr, Kind::Dns(Dns::default()))));
        assert_eq!(outcome, Err("wait for the answer: Connection refused".to_owned()));
    }
}

/// A name server over TCP for one query.
fn tcp_server(
    host: IpAddr,
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        peer.read_exact(&mut length).unwrap();
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        peer.read_exact(&mut query).unwrap();
        peer.write_all(&answer(&query)).unwrap();
    });
    (addr, thread)
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    [(message.len() as u16).to_be_bytes().to_vec(), message].concat()
}

#[test]
fn over_tcp_a_message_follows_its_length() {
    for host in loopbacks() {
        let (addr, server) = tcp_server(host, |query| framed(answered(query, 0, 1)));
        let outcome = probe(&target(addr, Kind::Dns(dns("example.org", "SOA"))));
        assert_eq!(outcome, Ok("an answer of 1 record".to_owned()));
        server.join().unwrap();
    }
}

#[test]
fn over_tcp_an_answer_that_is_cut_or_to_something_else_is_none() {
    let (addr, server) =
        tcp_server(loopbacks()[0], |query| framed(answered(query, 0, 1))[..15].to_vec());
    let outcome = probe(&target(addr, Kind::Dns(Dns::default())));
    assert_eq!(outcome, Err("wait for the answer: the connection ended".to_owned()));
    server.join().unwrap();
    let (addr, server) = tcp_server(loopbacks()[0], |_| framed(b"another thing".to_vec()));
    let outcome = probe(&target(addr, Kind::Dns(Dns::default())));
    assert_eq!(outcome, Err("the answer is to another question".to_owned()));
    server.join().unwrap();
}
