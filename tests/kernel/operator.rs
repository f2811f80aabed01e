//! What an operator orders: a node, or a port of it, is drained, whatever listens there, and gets
//! its weight back when it is told.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::{Plan, Process};
use nix::sys::signal::Signal;

use super::support::{PATIENCE, Patron, Server, Site, ask_udp, fetch, shown};

/// Two nodes that serve TCP 8080 and 8081; a drain has time.
fn site() -> (Site, [Server; 4]) {
    let services = "<service><start_port>8080</start_port><end_port>8081</end_port>\
                    <drain_timeout>3600</drain_timeout></service>";
    let site = Site::start(2, &Plan { services, ..Plan::default() });
    let servers = [(1, 8080), (2, 8080), (1, 8081), (2, 8081)]
        .map(|(node, port)| Server::tcp(site.host(node), format!("0.0.0.0:{port}"), node));
    for port in [8080, 8081] {
        site.await_pool(site.v4(Tcp, port), Some(&[(1, 1), (2, 1)]));
    }
    (site, servers)
}

/// A client of one node, while the other one is drained.
fn patron_of(site: &Site, node: u32, port: u16) -> Patron {
    site.until("a client came to the node", |site| {
        let mut patron = Patron::new(site.cluster.client(), site.at(port));
        (patron.ask().unwrap() == node.to_string()).then_some(patron)
    })
}

/// A command that runs on a node while the test goes on.
struct Running(Process);

impl Running {
    fn start(site: &Site, node: u32, words: &[&str]) -> Running {
        let mut command = site.command(node, words[0]);
        command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Process::spawn(command).unwrap())
    }

    /// Reads lines up to one with this in it.
    fn await_line(&mut self, text: &str) {
        let out = self.0.child().stdout.as_mut().unwrap();
        let mut lines = BufReader::with_capacity(1, out).lines();
        let found = lines.any(|line| line.unwrap().contains(text));
        assert!(found, "no line with {text:?}");
    }

    /// Waits for its end: whether it succeeded, and what it still had to say.
    fn end(mut self) -> (bool, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let child = self.0.child();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.0.wait(PATIENCE).unwrap();
        (status.success(), out + &err)
    }
}

mod on_stock {
    use super::*;

    #[test]
    fn a_drained_node_keeps_its_connection_over_a_restart_and_is_out_when_it_ends() {
        let (mut site, _servers) = site();
        let (one, two) = (site.v4(Tcp, 8080), site.v4(Tcp, 8081));
        let mut patron = patron_of(&site, 1, 8080);
        let out = site.direct("cvipctl drain 1 --reason maintenance");
        assert_eq!(out, "node 1 is drained: maintenance\n");
        site.await_pool(one, Some(&[(1, 0), (2, 1)]));
        site.await_pool(two, Some(&[(2, 1)]));
        for _ in 0..6 {
            assert_eq!(fetch(site.cluster.client(), site.at(8080)).unwrap(), "2");
        }
        assert_eq!(patron.ask().unwrap(), "1");

        site.end_everywhere(Signal::SIGKILL);
        site.start_everywhere(&[]);
        // The full pass of the new cvipd is over: it has seen what it would restore.
        site.assert_right();
        assert_eq!(site.pool(one), Some(vec![(1, 0), (2, 1)]));
        assert_eq!(site.pool(two), Some(vec![(2, 1)]));
        assert_eq!(patron.ask().unwrap(), "1");

        drop(patron);
        site.await_pool(one, Some(&[(2, 1)]));
        assert_eq!(site.direct("cvipctl undrain 1"), "node 1 is drained no longer\n");
        site.await_pool(one, Some(&[(1, 1), (2, 1)]));
        site.await_pool(two, Some(&[(1, 1), (2, 1)]));
    }
}

#[test]
fn whoever_undrains_while_connections_are_left_gets_the_weight_back_at_once() {
    let (site, _servers) = site();
    let http = site.v4(Tcp, 8080);
    let mut patron = patron_of(&site, 1, 8080);
    site.direct("cvipctl drain 1:8080");
    site.await_pool(http, Some(&[(1, 0), (2, 1)]));
    assert_eq!(site.pool(site.v4(Tcp, 8081)), Some(vec![(1, 1), (2, 1)]), "another port");
    site.direct("cvipctl undrain 1:8080");
    site.await_pool(http, Some(&[(1, 1), (2, 1)]));
    assert_eq!(patron.ask().unwrap(), "1");
}

#[test]
fn the_director_waits_by_the_kernels_table_and_another_host_by_the_nodes_record() {
    let (site, _servers) = site();
    let http = site.v4(Tcp, 8080);
    let patron = patron_of(&site, 1, 8080);
    let order = ["cvipctl", "drain", "1", "--wait"];
    let mut waiting = [site.director(), 2].map(|host| Running::start(&site, host, &order));
    waiting[0].await_line("(1 active, 0 inactive), 1 destination");
    waiting[1].await_line("1 connection left");
    site.await_pool(http, Some(&[(1, 0), (2, 1)]));
    drop(patron);
    let [director, other] = waiting.map(Running::end);
    assert!(director.0 && director.1.contains("no destination is left"), "{}", director.1);
    assert!(other.0 && other.1.contains("0 connections left"), "{}", other.1);
    assert_eq!(site.pool(http), Some(vec![(2, 1)]));
}

#[test]
fn now_cuts_the_connections_that_an_order_before_waits_for() {
    let (site, _servers) = site();
    let http = site.v4(Tcp, 8080);
    let mut patron = patron_of(&site, 1, 8080);
    site.direct("cvipctl drain 1");
    site.await_pool(http, Some(&[(1, 0), (2, 1)]));
    assert_eq!(patron.ask().unwrap(), "1");
    let out = site.direct("cvipctl drain 1 --now --wait");
    assert!(out.contains("connections are cut at once"), "{out}");
    assert_eq!(site.pool(http), Some(vec![(2, 1)]));
    assert!(patron.ask().is_err(), "its connection is gone");
}

#[test]
fn a_drained_udp_server_is_out_at_once_and_the_other_is_asked() {
    let services = "<service><protocol>udp</protocol><port>5353</port></service>";
    let site = Site::start(2, &Plan { services, ..Plan::default() });
    let dns = site.v4(Udp, 5353);
    let _servers = [1, 2].map(|node| Server::udp(site.host(node), site.at(5353), node));
    site.await_pool(dns, Some(&[(1, 1), (2, 1)]));
    site.direct("cvipctl drain 1:5353/udp --wait");
    assert_eq!(site.pool(dns), Some(vec![(2, 1)]));
    assert_eq!(ask_udp(site.cluster.client(), site.at(5353)).unwrap(), "2");
    site.direct("cvipctl undrain 1:5353");
    site.await_pool(dns, Some(&[(1, 1), (2, 1)]));
}

#[test]
fn the_last_server_is_drained_with_a_warning() {
    let (site, _servers) = site();
    site.direct("cvipctl drain 2");
    let output = site.try_run(site.director(), "cvipctl drain 1:8080");
    let (_, err) = shown(&output);
    let service = format!("tcp {}", site.at(8080));
    assert!(output.status.success() && err.contains(&service), "{err}");
    site.until("nobody takes new clients", |site| {
        let pool = site.pool(site.v4(Tcp, 8080)).unwrap_or_default();
        pool.iter().all(|(_, weight)| *weight == 0).then_some(())
    });
    site.direct("cvipctl undrain 2");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(2, 1)]));
}
