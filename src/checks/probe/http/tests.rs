use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::probe;
use super::super::test_support::{LONG, hurried, loopbacks, target};
use super::*;
use crate::checks::settings::Kind;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server for one connection: where it is, and the head of the request that it got. It sends
/// what `answer` writes once it has seen the request.
fn server(
    host: IpAddr,
    answer: impl FnOnce(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(LONG)).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(peer.read(&mut byte).unwrap(), 1, "the request ends early");
            request.extend(byte);
        }
        // The client may have seen enough and gone.
        let _ = answer(&mut peer);
        String::from_utf8(request).unwrap()
    });
    (addr, thread)
}

/// The outcome of a check of a server that sends these bytes, and the request.
fn asked(http: &Http, answer: impl Into<Vec<u8>>) -> (CheckOutcome, String) {
    let answer = answer.into();
    let (addr, thread) = server(LOCAL, move |peer| peer.write_all(&answer));
    let outcome = probe(&target(addr, Kind::Http(http.clone())));
    (outcome, thread.join().unwrap())
}

fn wanting(pattern: &str) -> Http {
    Http { pattern: Some(pattern.parse().unwrap()), ..Http::new(false) }
}

#[test]
fn the_status_decides() {
    let mut http = Http::new(false);
    let says = |http: &Http, status: u16| {
        asked(http, format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok")).0
    };
    assert_eq!(says(&http, 200), Ok("HTTP 200".to_owned()));
    assert_eq!(says(&http, 302), Ok("HTTP 302".to_owned()));
    assert_eq!(says(&http, 404), Err("HTTP 404".to_owned()));
    assert_eq!(says(&http, 503), Err("HTTP 503".to_owned()));
    http.status = "404".parse().unwrap();
    assert_eq!(says(&http, 404), Ok("HTTP 404".to_owned()));
    assert_eq!(says(&http, 200), Err("HTTP 200".to_owned()));
}

#[test]
fn the_pattern_decides_after_the_status() {
    let http = wanting("status: *(ok|fine)");
    let body =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(asked(&http, body("status:  fine\n")).0, Ok("HTTP 200 with the pattern".to_owned()));
    assert_eq!(asked(&http, body("down")).0, Err("HTTP 200 without the pattern".to_owned()));
    let refused = asked(&http, "HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nstatus: ok");
    assert_eq!(refused.0, Err("HTTP 500".to_owned()));
    let cut = asked(&http, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstatus: ok");
    let reason = "HTTP 200, then: the connection ended within the answer";
    assert_eq!(cut.0, Err(reason.to_owned()));
    let long = asked(&http, format!("HTTP/1.1 200 OK\r\n\r\n{}status: ok", "x".repeat(BODY_MOST)));
    let reason = "HTTP 200 without the pattern in the first 256 KiB";
    assert_eq!(long.0, Err(reason.to_owned()));
}

#[test]
fn without_a_pattern_the_body_is_not_waited_for() {
    let (addr, thread) = server(LOCAL, |peer| {
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")?;
        // Until the client has gone.
        peer.read(&mut [0]).map(drop)
    });
    let outcome = probe(&target(addr, Kind::Http(Http::new(false))));
    assert_eq!(outcome, Ok("HTTP 200".to_owned()));
    thread.join().unwrap();
}

#[test]
fn the_request_is_one_that_any_server_understands() {
    let mut http = Http::new(false);
    http.path = "/health?full=1".parse().unwrap();
    http.host = Some("www.example.org".parse().unwrap());
    let (outcome, request) = asked(&http, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(outcome, Ok("HTTP 200".to_owned()));
    let lines: Vec<&str> = request.lines().collect();
    assert_eq!(lines[0], "GET /health?full=1 HTTP/1.1");
    assert!(lines[1].starts_with("Host: www.example.org:"), "{request}");
    assert!(lines.contains(&"Connection: close"), "{request}");
}

#[test]
fn the_host_field_has_the_name_or_the_address_with_brackets_and_a_port_that_is_not_implied() {
    let mut http = Http::new(false);
    let named = |http: &Http, addr: &str| host(http, addr.parse().unwrap());
    assert_eq!(named(&http, "10.0.0.1:80"), "10.0.0.1");
    assert_eq!(named(&http, "10.0.0.1:443"), "10.0.0.1:443");
    assert_eq!(named(&http, "[fd00::1]:80"), "[fd00::1]");
    assert_eq!(named(&http, "[fe80::1%3]:8080"), "[fe80::1]:8080");
    http.host = Some("www.example.org".parse().unwrap());
    assert_eq!(named(&http, "[fd00::1]:80"), "www.example.org");
    http.host = Some("2001:db8::1".parse().unwrap());
    http.tls = true;
    assert_eq!(named(&http, "10.0.0.1:443"), "[2001:db8::1]");
    assert_eq!(named(&http, "10.0.0.1:80"), "[2001:db8::1]:80");
}

#[test]
fn ipv6_is_asked_as_ipv4_is() {
    for local in loopbacks() {
        let (addr, thread) = server(local, |peer| peer.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
        let outcome = probe(&target(addr, Kind::Http(Http::new(false))));
        assert_eq!(outcome, Ok("HTTP 200".to_owned()));
        assert!(thread.join().unwrap().contains(&format!("Host: {addr}\r\n")));
    }
}

#[test]
fn a_server_that_says_nothing_or_something_else_is_unhealthy() {
    let http = Http::new(false);
    let cut = "the connection ended within the answer".to_owned();
    assert_eq!(asked(&http, "").0, Err(cut));
    let reason = "the answer is not HTTP/1.1".to_owned();
    assert_eq!(asked(&http, "220 mail ESMTP\r\n").0, Err(reason));
}

/// A server that sends `start` and then a byte every ten milliseconds until the client has gone.
fn dripping(start: &'static [u8], byte: u8) -> (SocketAddr, JoinHandle<String>) {
    server(LOCAL, move |peer| {
        peer.write_all(start)?;
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            peer.write_all(&[byte])?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_gains_no_time_by_it() {
    let pattern = Http { pattern: Some("ok".parse().unwrap()), ..Http::new(false) };
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n";
    for (start, byte, http, reason) in [
        (
            &b"HTTP/1.1 200 OK\r\nX: "[..],
            b'x',
            Http::new(false),
            "wait for the answer: not done within 0.3 s",
        ),
        (b"", b'\n', Http::new(false), "wait for the answer: not done within 0.3 s"),
        (
            b"HTTP/1.1 200 OK\r\n\r\n",
            b'x',
            pattern.clone(),
            "HTTP 200, then: read the body: not done within 0.3 s",
        ),
        (chunked, b'x', pattern, "HTTP 200, then: read the body: not done within 0.3 s"),
    ] {
        let (addr, thread) = dripping(start, byte);
        let begun = Instant::now();
        let outcome = probe(&hurried(addr, Kind::Http(http), 300));
        assert_eq!(outcome, Err(reason.to_owned()));
        assert!(begun.elapsed() < LONG / 2);
        thread.join().unwrap();
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_costs_the_timeout_and_no_more() {
    // No process accepts; the kernel does.
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    for (tls, reason) in [
        (false, "wait for the answer: not done within 0.1 s"),
        (true, "TLS: not done within 0.1 s"),
    ] {
        let kind = Kind::Http(Http::new(tls));
        let begun = Instant::now();
        let outcome = probe(&hurried(listener.local_addr().unwrap(), kind, 100));
        assert_eq!(outcome, Err(reason.to_owned()));
        assert!(begun.elapsed() < LONG / 2);
    }
}
