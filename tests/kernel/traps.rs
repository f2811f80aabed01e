//! What an event says and the truth is not: the cases in which a program that trusts events
//! registers or unregisters what it should not.
//!
//! That something does *not* happen is seen by what comes after it: a listener on another port
//! that joins and leaves, for which the node had to look again.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Plan, Process};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrIn, getsockname, shutdown, socket,
};

use super::support::{PATIENCE, Server, Site, With, fetch, listen, raw, start_listening};

/// A node with ports 8000 to 8099 flagged, and the record's sequence before the trap.
fn flagged(options: &[&str]) -> Site {
    let site = Site::start_with(1, &Plan::default(), options);
    site.run(1, "setport_weight --start-port=8000 --end-port=8099 --weight=1");
    site
}

const MARKER: u16 = 8099;

/// The node looked again, and never said that it had left the port.
#[track_caller]
fn still_serves(site: &Site, port: u16) {
    site.let_look(1, MARKER);
    assert_eq!(site.pool(site.v4(Tcp, port)), Some(vec![(1, 1)]));
    let left = format!("no longer serves {}", site.v4(Tcp, port));
    assert!(!site.logged(1).contains(&left), "it left in between");
}

fn a_failed_second_listen(options: &[&str]) {
    let site = flagged(options);
    let first = raw(site.host(1), "0.0.0.0:8080", With::Nothing);
    let second = raw(site.host(1), "0.0.0.0:8080", With::Nothing);
    start_listening(&first, 8).unwrap();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(start_listening(&second, 8), Err(Errno::EADDRINUSE));
    still_serves(&site, 8080);
    drop(second);
    still_serves(&site, 8080);
    drop(first);
    site.await_pool(site.v4(Tcp, 8080), None);
}

fn a_socket_that_a_child_inherited(options: &[&str]) {
    let site = flagged(options);
    let listener = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    // As its standard input: a service manager's way of handing over a socket.
    let mut child = Command::new("sleep");
    child.arg("1000").stdin(File::from(OwnedFd::from(listener.try_clone().unwrap())));
    let mut child = Process::spawn(child).unwrap();
    drop(listener);
    still_serves(&site, 8080);
    child.signal(Signal::SIGKILL).unwrap();
    child.wait(PATIENCE).unwrap();
    site.await_pool(site.v4(Tcp, 8080), None);
}

mod on_stock {
    use super::*;

    #[test]
    fn a_failed_second_listen_does_not_unregister_the_port() {
        a_failed_second_listen(&[]);
    }

    #[test]
    fn an_inherited_socket_stays_registered_until_its_last_close() {
        a_socket_that_a_child_inherited(&[]);
    }
}

#[test]
fn by_polling_too_a_failed_second_listen_does_not_unregister_the_port() {
    a_failed_second_listen(&["--poll"]);
}

#[test]
fn by_polling_too_an_inherited_socket_stays_registered_until_its_last_close() {
    a_socket_that_a_child_inherited(&["--poll"]);
}

#[test]
fn a_listener_that_is_shut_down_leaves_though_its_socket_stays_open() {
    let site = flagged(&[]);
    let listener = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
    site.await_pool(site.v4(Tcp, 8080), None);
    // It can be made to listen again.
    start_listening(&listener, 8).unwrap();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
}

#[test]
fn a_second_listen_with_another_backlog_changes_nothing() {
    let site = flagged(&[]);
    let listener = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let before = site.record(1).sequence;
    start_listening(&listener, 5).unwrap();
    still_serves(&site, 8080);
    assert_eq!(site.record(1).sequence, before + 2, "the marker came and went, no more");
}

#[test]
fn sockets_that_share_a_port_are_one_registration_until_the_last_closes() {
    let site = flagged(&[]);
    let group: Vec<OwnedFd> =
        (0..4).map(|_| raw(site.host(1), "0.0.0.0:8080", With::ReusePort)).collect();
    let mut group: Vec<TcpListener> = group.into_iter().map(TcpListener::from).collect();
    for socket in &group {
        start_listening(socket, 8).unwrap();
    }
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let before = site.record(1).sequence;
    while group.len() > 1 {
        group.pop();
    }
    still_serves(&site, 8080);
    assert_eq!(site.record(1).sequence, before + 2, "the marker came and went, no more");
    drop(group);
    site.await_pool(site.v4(Tcp, 8080), None);
}

#[test]
fn a_listener_that_lets_the_kernel_choose_its_port_joins_within_a_flagged_range() {
    let site = Site::start(1, &Plan::default());
    site.run(1, "setport_weight --start-port=1024 --end-port=65535 --weight=1");
    // Not even bound: listen(2) binds it.
    let unbound = site.host(1).enter(|| {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let fd = fd.unwrap();
        start_listening(&fd, 8).unwrap();
        fd
    });
    let addr: SockaddrIn = getsockname(unbound.as_raw_fd()).unwrap();
    site.await_pool(site.v4(Tcp, addr.port()), Some(&[(1, 1)]));
    let bound = listen(site.host(1), "0.0.0.0:0");
    let port = bound.local_addr().unwrap().port();
    site.await_pool(site.v4(Tcp, port), Some(&[(1, 1)]));
    drop(unbound);
    site.await_pool(site.v4(Tcp, addr.port()), None);
    drop(bound);
    site.await_pool(site.v4(Tcp, port), None);
}

#[test]
fn accepted_connections_change_no_record() {
    let site = flagged(&[]);
    let _server = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    let (before, changes) = (site.record(1).sequence, site.changes());
    for _ in 0..200 {
        assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "one");
    }
    assert_eq!(site.changes(), changes);
    still_serves(&site, 8080);
    assert_eq!(site.record(1).sequence, before + 2, "the marker came and went, no more");
}

#[test]
fn a_listener_whose_sending_side_is_shut_down_still_listens() {
    // SHUT_WR of a listener does nothing (inet_shutdown: only RCV_SHUTDOWN ends a listen).
    let site = flagged(&[]);
    let listener = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    shutdown(listener.as_raw_fd(), Shutdown::Write).unwrap();
    still_serves(&site, 8080);
}
