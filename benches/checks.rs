//! What a thousand checks cost the process that runs them, in CPU time and memory.
//!
//! ```text
//! cargo bench --bench checks [-- TARGETS [SECONDS]]
//! ```
//!
//! 1000 targets at the default interval of 5 s, and 30 s for each kind, unless given. The servers
//! are another process on the loopback interface. Each kind runs in a process of its own, so that
//! none inherits another's memory.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cvip::checks::settings::{CheckProgram, Exec, Kind};
use cvip::checks::{Check, CheckTarget, Checker, HealthState};
use cvip::protocol::Protocol;
use cvip_lab::process;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use rustls::{ServerConfig, ServerConnection};

use cvip::clock::Instant;

/// First words of the processes that this one starts.
const SERVE: &str = "serve";
const MEASURE: &str = "measure";

/// The first second has every first run; what it costs from then on is what is asked.
const WARM_UP: Duration = Duration::from_secs(2);

/// The kinds that are measured; `nothing` is the process without targets.
const KINDS: [&str; 6] = ["nothing", "tcp", "http", "https", "dns", "exec"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [mode] if mode == SERVE => return serve(),
        [mode, kind, count, seconds, ports @ ..] if mode == MEASURE => {
            let ports: Vec<u16> = ports.iter().map(|port| port.parse().unwrap()).collect();
            return measure(kind, count.parse().unwrap(), seconds.parse().unwrap(), &ports);
        }
        _ => {}
    }
    // `cargo bench` adds an argument of its own.
    let mut numbers = words.iter().filter_map(|word| word.parse::<u32>().ok());
    let count = numbers.next().unwrap_or(1000);
    let seconds = numbers.next().unwrap_or(30);
    let (mut server, ports) = start_server();
    println!("{count} targets, each every {} s, for {seconds} s", Check::INTERVAL);
    println!("kind      runs/s   CPU, part of a core   resident KiB   threads   fit");
    for kind in KINDS {
        let status = Command::new(std::env::current_exe().unwrap())
            .args([MEASURE, kind, &count.to_string(), &seconds.to_string()])
            .args(ports.iter().map(u16::to_string))
            .status()
            .unwrap();
        assert!(status.success(), "{kind}: {status}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

fn start_server() -> (Child, Vec<u16>) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg(SERVE)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
    (server, ports)
}

/// The ports of the servers for HTTP, HTTPS and DNS, on one line; TCP is checked at HTTP's.
fn serve() {
    // Whoever ends this bench ends its servers.
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let [plain, secure] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ports = [plain.local_addr(), secure.local_addr(), dns.local_addr()];
    println!("{}", ports.map(|addr| addr.unwrap().port().to_string()).join(" "));
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = dns.recv_from(&mut query) {
            (query[2], query[7]) = (0x80, 1);
            let _ = dns.send_to(&query[..length], peer);
        }
    });
    thread::spawn(move || {
        for mut peer in secure.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(&mut rustls::Stream::new(&mut connection, &mut peer));
            connection.send_close_notify();
            let _ = connection.write_tls(&mut peer);
        }
    });
    for mut peer in plain.incoming().flatten() {
        answer::<TcpStream>(&mut peer);
    }
}

/// One request, one answer; a peer that sends nothing gets none.
fn answer<S: Read + Write>(peer: &mut S) {
    let mut request = [0; 4096];
    if matches!(peer.read(&mut request), Ok(length) if length > 0) {
        let _ = peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

fn targets(kind: &str, count: u32, ports: &[u16]) -> BTreeMap<u32, CheckTarget> {
    let (port, protocol, kind) = match kind {
        "nothing" => return BTreeMap::new(),
        "tcp" | "http" => (ports[0], Protocol::Tcp, Kind::by_name(kind).unwrap()),
        "https" => (ports[1], Protocol::Tcp, Kind::by_name(kind).unwrap()),
        "dns" => (ports[2], Protocol::Udp, Kind::by_name(kind).unwrap()),
        _ => {
            let program = CheckProgram::new(vec!["/bin/true".to_owned()]).unwrap();
            (1, Protocol::Tcp, Kind::Exec(Exec::new(program)))
        }
    };
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let target = CheckTarget { addr, protocol, device: None, check: Check::new(kind) };
    (0..count).map(|key| (key, target.clone())).collect()
}

/// Drives a checker as an agent does.
fn measure(kind: &str, count: u32, seconds: u32, ports: &[u16]) {
    let start = Instant::now();
    let mut checker = Checker::new(1, start).unwrap();
    checker.set_targets(targets(kind, count, ports), start);
    let mut begun = None;
    let end = start + WARM_UP + Duration::from_secs(seconds.into());
    let (mut threads, mut runs, mut steps) = (1, 0, 0u32);
    while Instant::now() < end {
        let now = Instant::now();
        if begun.is_none() && now >= start + WARM_UP {
            begun = Some((now, cpu()));
            runs = rounds(&checker);
        }
        checker.step(now);
        // To look costs as much as a check.
        steps += 1;
        if steps.is_multiple_of(100) {
            threads = threads.max(tasks());
        }
        let mut fds = [PollFd::new(checker.fd(), PollFlags::POLLIN)];
        let until = if begun.is_none() { start + WARM_UP } else { end };
        let wait = checker.timeout(now).min(until.saturating_duration_since(now));
        ppoll(&mut fds, Some(TimeSpec::from(wait)), None).unwrap();
    }
    let (begun, before) = begun.unwrap();
    let elapsed = begun.elapsed().as_secs_f64();
    let (spent, runs) = ((cpu() - before).as_secs_f64(), rounds(&checker) - runs);
    let healthy =
        checker.iter().filter(|(_, _, health)| health.state() == HealthState::Healthy).count();
    println!(
        "{kind:8} {:7.1} {:18.2} % {:16} {threads:9} {healthy:5}",
        f64::from(runs) / elapsed,
        100.0 * spent / elapsed,
        process::resident(Pid::this()).unwrap(),
    );
}

/// Results of all targets so far, if all succeed.
fn rounds(checker: &Checker<u32>) -> u32 {
    checker.iter().map(|(_, _, health)| health.successes()).sum()
}

/// CPU time of this process and of the programs that it ran.
fn cpu() -> Duration {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .flat_map(|who| {
            let usage = getrusage(who).unwrap();
            [usage.user_time(), usage.system_time()]
        })
        .map(|time| {
            Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
        })
        .sum()
}

fn tasks() -> u64 {
    process::status(Pid::this(), "Threads:").unwrap()
}
