//! The lab's clients: that they count what happened, and nothing else. A client that sees no failures would let every
//! test of a takeover pass.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cvip_lab::traffic::{Datagrams, Download, Outcome, Requests, answer_datagram, write_pattern};
use cvip_lab::{Cluster, Direction, Host, Network, Nginx, PATIENCE, require, wait_until};
use nix::sys::socket::{setsockopt, sockopt};

/// A web server for one page, with its name on it. Its thread goes on to the end of the test program.
fn serve(host: &Host, addr: SocketAddr, name: &'static str) {
    let listener = host.enter(|| TcpListener::bind(addr)).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{name}\n").as_bytes());
        }
    });
}

fn requests(to: SocketAddr, number: u32) -> Requests {
    Requests { to, number, per_second: 500.0, patience: Duration::from_secs(1) }
}

#[test]
fn every_request_is_served_refused_reset_or_timed_out_and_counted_as_such() -> Result<()> {
    require();
    let cluster = Cluster::builder("outcomes").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    for addr in [SocketAddr::from((node.v4(), 80)), SocketAddr::from((node.v6(), 80))] {
        serve(node, addr, "node");
        let begun = Instant::now();
        let report = requests(addr, 200).run(client);
        assert_eq!(report.by_server(), [("node".to_owned(), 200)].into(), "{report}");
        assert!(report.failures().is_empty());
        assert!(report.requests.iter().all(|request| request.connected.is_some()));
        // One is due every 2 ms, and none began before its time.
        let last = &report.requests[199];
        assert!(last.started - begun >= Duration::from_millis(398), "{report}");
    }
    let nobody = SocketAddr::from((node.v4(), 81));
    assert_eq!(requests(nobody, 5).run(client).count(&Outcome::Refused), 5);

    // Whoever closes with something unread, or with no time to linger, resets.
    let rude = SocketAddr::from((node.v4(), 82));
    let listener = node.enter(|| TcpListener::bind(rude))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(&stream, sockopt::Linger, &at_once);
        }
    });
    let report = requests(rude, 5).run(client);
    assert_eq!(report.count(&Outcome::Reset), 5, "{report}");

    let addr = SocketAddr::from((node.v4(), 80));
    let running = requests(addr, 1000).start(client);
    wait_until(PATIENCE, || (running.ended() > 20).then_some(())).expect("it has begun");
    let cut = Instant::now();
    let fault = node.silence(Network::Public, Direction::Both)?;
    let silent = Instant::now();
    // In that time none is answered; those that began in it have a second.
    thread::sleep(Duration::from_millis(100));
    let mending = Instant::now();
    fault.end()?;
    let so_far = running.ended();
    wait_until(PATIENCE, || (running.ended() > so_far + 20).then_some(())).expect("it goes on");
    let report = running.stop();
    let during = report.between(silent, Some(mending));
    assert!(!during.requests.is_empty(), "{report}");
    // A first packet that is lost is sent again after a second, which is all that this client waits.
    assert_eq!(during.count(&Outcome::TimedOut), during.requests.len(), "{during}");
    assert!(report.between(cut - Duration::from_secs(60), Some(cut)).served() > 20, "{report}");
    assert!(report.longest_gap() >= Some(mending - silent), "{report}");
    Ok(())
}

#[test]
fn a_download_has_every_byte_or_says_which_is_wrong() -> Result<()> {
    require();
    const LENGTH: u64 = 3_000_000;
    let cluster = Cluster::builder("download").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    write_pattern(&dir.join("right"), LENGTH)?;
    let mut wrong = fs::read(dir.join("right"))?;
    wrong[2_000_000] ^= 1;
    fs::write(dir.join("wrong"), wrong)?;
    let server = "add_header Served-By one; server { listen 80; root";
    let _nginx = Nginx::start(node, dir, &format!("{server} {}; }}", dir.display()))?;
    let at = SocketAddr::from((node.v4(), 80));
    let start = |path: &str| Download::start(client, at, path, PATIENCE);
    let mut right = wait_until(PATIENCE, || start("/right").ok()).expect("nginx serves");
    assert_eq!((right.length(), right.header("served-by")), (LENGTH, Some("one")));
    right.read_to(1_000_000)?;
    assert_eq!(right.received(), 1_000_000);
    assert_eq!(right.finish()?, LENGTH);
    let error = start("/wrong")?.finish().expect_err("one bit is wrong");
    assert!(error.to_string().contains("byte 2000000 is wrong"), "{error}");
    assert!(start("/missing").is_err());
    Ok(())
}

#[test]
fn datagrams_that_nobody_answers_are_known_by_their_numbers() -> Result<()> {
    require();
    let cluster = Cluster::builder("datagrams").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    for addr in [SocketAddr::from((node.v4(), 53)), SocketAddr::from((node.v6(), 53))] {
        let mut asker = Datagrams::new(client, addr)?;
        let port = asker.port();
        assert_eq!(asker.ask(PATIENCE)?, None, "nobody is there");
        assert_eq!((asker.refused(), asker.unanswered()), (1, vec![1]));

        let socket = node.enter(|| UdpSocket::bind(addr))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let server = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = answer_datagram(&socket, "node");
            }
        });
        assert_eq!(asker.ask(PATIENCE)?.as_deref(), Some("node"));
        let fault = node.silence(Network::Public, Direction::To)?;
        assert_eq!(asker.send()?, 3);
        asker.collect(Duration::from_millis(200))?;
        fault.end()?;
        asker.send()?;
        // The third one is lost for good.
        let answered = wait_until(PATIENCE, || {
            asker.collect(Duration::from_millis(50)).ok()?;
            (asker.unanswered() == [1, 3]).then_some(())
        });
        assert!(answered.is_some(), "{asker:?}");
        assert_eq!((asker.sent(), asker.port()), (4, port));
        assert_eq!(asker.answers().values().collect::<Vec<_>>(), ["node", "node"]);
        stop.store(true, Ordering::Relaxed);
        server.join().expect("the server ends");
    }
    Ok(())
}
