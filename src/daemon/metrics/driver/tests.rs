//! A server and its clients, honest and other.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use socket2::{Domain, Socket, Type};

use super::super::limits::OF_ONE;
use super::*;
use crate::conf::{Conf, Routing, Sources};
use crate::daemon::control::Status;
use crate::daemon::messages::{Base, Question};
use crate::wake::{Inbox, channel};

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn server(address: SocketAddr) -> (MetricsServer, Inbox<MainMessage>) {
    let (main, inbox) = channel().unwrap();
    (MetricsServer::open(Some(address), None, main), inbox)
}

fn address_of(server: &MetricsServer) -> SocketAddr {
    server.open.as_ref().unwrap().local_addr().unwrap()
}

/// A connection from an address of this host.
fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.into(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// What a client from an address gets.
fn got(from: [u8; 4], to: SocketAddr, request: &str) -> String {
    let mut stream = connect(from, to);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A main thread of a node that is no director, and says how often it was asked.
fn answer_as_main(inbox: &Inbox<MainMessage>, until: impl Fn() -> bool) -> usize {
    let mut asked = 0;
    while !until() {
        for message in inbox.take() {
            let MainMessage::Question(Question { answer, .. }) = message else { panic!() };
            asked += 1;
            let conf = Conf { routing: Routing::Dr, cvips: Vec::new() };
            let base = Base {
                status: Status { faults: vec!["a fault".to_owned()], ..Status::of(1, 3) },
                sources: Arc::new(Sources::default()),
                conf: Arc::new(conf),
                owned: BTreeSet::new(),
                directs: false,
                node: None,
                heartbeat_sender: None,
                monitor: None,
                table: None,
                hooks: crate::daemon::worker::inbox().unwrap().0,
            };
            answer.send(Ok(base)).unwrap();
        }
        thread::yield_now();
    }
    asked
}

const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: cvip\r\n\r\n";

#[test]
fn metrics_are_given_and_the_text_is_made_once_for_all_who_ask_at_once() {
    let (server, inbox) = server(LOCALHOST);
    let to = address_of(&server);
    thread::scope(|scope| {
        let clients: Vec<_> =
            (1..=6).map(|n| scope.spawn(move || got([127, 0, 0, n], to, METRICS))).collect();
        let asked = answer_as_main(&inbox, || clients.iter().all(|client| client.is_finished()));
        assert!(asked < clients.len(), "it was made {asked} times");
        for client in clients {
            let answer = client.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
            assert!(answer.contains("\ncvip_faults 1\n"), "{answer}");
        }
    });
}

#[test]
fn a_client_that_sends_nothing_keeps_no_other_waiting() {
    let (server, inbox) = server(LOCALHOST);
    let to = address_of(&server);
    let silent: Vec<TcpStream> = (0..OF_ONE).map(|_| connect([127, 0, 0, 1], to)).collect();
    // The connections are accepted in their order, so those before it have their places.
    assert!(got([127, 0, 0, 1], to, "").starts_with("HTTP/1.1 503 "));
    assert!(got([127, 0, 0, 2], to, "GET / HTTP/1.0\r\n\r\n").contains("href=\"/metrics\""));
    assert!(got([127, 0, 0, 2], to, "DELETE / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(inbox.take().is_empty(), "cvipd is asked for metrics alone");
    drop(silent);
}

#[test]
fn a_cvipd_that_ends_gives_no_metrics() {
    let (server, inbox) = server(LOCALHOST);
    drop(inbox);
    let answer = got([127, 0, 0, 1], address_of(&server), METRICS);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
}

#[test]
fn an_address_that_another_program_has_is_had_when_it_is_free() {
    let other = TcpListener::bind(LOCALHOST).unwrap();
    let address = other.local_addr().unwrap();
    let (mut server, _inbox) = server(address);
    assert_eq!(server.place().unwrap().address, address);
    let problem = server.place().unwrap().problem.unwrap();
    assert!(problem.contains("in use"), "{problem}");
    drop(other);
    server.tend();
    assert_eq!(server.place().unwrap().problem, None);
    assert!(got([127, 0, 0, 1], address, "GET /x HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
}

#[test]
fn nothing_is_given_unless_an_address_is_set() {
    let (main, _inbox) = channel().unwrap();
    let mut server = MetricsServer::open(None, None, main);
    server.tend();
    assert!(server.place().is_none() && server.open.is_none());
}
