//! How long after listen() and close() the watch has the truth, and what looking costs.
//!
//! `cargo bench --bench listen_to_snapshot -- [EVENTS [CONNECTIONS]]`, as root; 500 events and
//! 50,000 connections unless given. Everything happens in a network namespace of its own: one
//! thread is the server, the other is the node's poll loop; helper processes hold connections.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use cvip::listeners::{Dumper, ListenerWatch, Ranges};
use cvip::protocol::Protocol;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use cvip::clock::Instant;

/// The first flagged port.
const FIRST: u16 = 10_000;
/// Between two events, so that each is alone: the last follow-up dump comes 40 ms after a socket event.
const APART: Duration = Duration::from_millis(45);
/// Between two events that only a poll will see.
const SPREAD: Duration = Duration::from_millis(7);
/// How long a storm lasts.
const STORM: Duration = Duration::from_secs(3);
/// How long an idle watch is measured.
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, kind, count, part] = &words[..]
        && mode == HOLD
    {
        return hold(kind, count.parse().unwrap(), part.parse().unwrap());
    }
    // `cargo bench` adds an argument of its own.
    let mut numbers = words.iter().filter_map(|a| a.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(500);
    let connections = numbers.next().unwrap_or(50_000);
    cvip_lab::enter_new_network().unwrap();

    println!("{events} events each              median       p99       max");
    for socket_events in [true, false] {
        latency(events, socket_events);
    }
    storm();
    println!();
    println!("cost of                           median       p99       max");
    costs("nothing");
    for (kind, count) in [("connections", connections), ("UDP sockets", connections)] {
        let held = Held::new(kind, count);
        let beside = format!("{count} {kind}");
        costs(&beside);
        for socket_events in [true, false] {
            idle(socket_events, &beside);
        }
        drop(held);
    }
}

/// TCP and UDP ports, a thousand each, that the ephemeral ones (32768 and up) do not touch.
fn flagged() -> Ranges {
    [Protocol::Tcp, Protocol::Udp].map(|p| (p, FIRST, FIRST + 999)).into_iter().collect()
}

fn watch(socket_events: bool) -> ListenerWatch {
    let now = Instant::now();
    let mut watch = if socket_events {
        ListenerWatch::open(now)
    } else {
        ListenerWatch::polling(now, "wanted")
    }
    .unwrap();
    watch.set_ranges(now, flagged());
    watch.step(now);
    watch
}

/// One turn of a node's poll loop.
fn turn(watch: &mut ListenerWatch, longest: Duration) -> bool {
    let timeout = watch.poll_timeout(Instant::now()).unwrap_or(longest).min(longest);
    let fds = watch.fd().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    ppoll(&mut fds.collect::<Vec<_>>(), Some(TimeSpec::from(timeout)), None::<SigSet>).unwrap();
    watch.step(Instant::now()).is_some()
}

/// From the return of listen(), and from before close(), to a step that shows it.
fn latency(events: usize, socket_events: bool) {
    // With socket events one port after the other, each event alone. A poll knows nothing of events, so
    // that many may fall between two, spread over its phases.
    let (together, apart) = if socket_events { (1, APART) } else { (100, SPREAD) };
    let mut watch = watch(socket_events);
    println!("{}", watch.source());
    let (tell, told) = channel();
    let (saw, seen_all) = channel();
    let (mut came, mut went) = (vec![], vec![]);
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..events.div_ceil(together) {
                let mut listeners = Vec::new();
                for port in (FIRST..).take(together) {
                    listeners.push(TcpListener::bind(("0.0.0.0", port)).unwrap());
                    tell.send((port, Instant::now())).unwrap();
                    thread::sleep(apart);
                }
                seen_all.iter().take(together).for_each(drop);
                for (port, listener) in (FIRST..).zip(listeners) {
                    let then = Instant::now();
                    drop(listener);
                    tell.send((port, then)).unwrap();
                    thread::sleep(apart);
                }
                seen_all.iter().take(together).for_each(drop);
            }
        });
        let mut before = BTreeSet::new();
        // Ends when the server has: all that it told was seen.
        while came.len().min(went.len()) < events.next_multiple_of(together) {
            if !turn(&mut watch, Duration::from_secs(1)) {
                continue;
            }
            let seen = Instant::now();
            let now: BTreeSet<u16> = watch.observed().iter().map(|l| l.port).collect();
            let changed: BTreeSet<u16> = now.symmetric_difference(&before).copied().collect();
            // Events are told in order, and the oldest are seen first.
            for _ in 0..changed.len() {
                let (port, then) = told.recv().unwrap();
                assert!(changed.contains(&port), "port {port} was not seen in its turn");
                let after = seen.saturating_duration_since(then);
                if now.contains(&port) {
                    came.push(after)
                } else {
                    went.push(after)
                }
                saw.send(()).unwrap();
            }
            before = now;
        }
    });
    report("  listen() to seen", &mut came);
    report("  close() to gone", &mut went);
}

/// The first word of a helper's arguments: `HOLD KIND COUNT PART`.
const HOLD: &str = "hold";
/// Sockets that one process holds, so that no limit of descriptors has to be raised.
const EACH: usize = 8_000;

/// Processes that hold sockets in our network namespace until they are dropped.
struct Held(Vec<Child>);

impl Held {
    fn new(kind: &str, count: usize) -> Held {
        let mut children = Vec::new();
        for (part, begin) in (0..count).step_by(EACH).enumerate() {
            let count = EACH.min(count - begin).to_string();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([HOLD, kind, &count, &part.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0];
            child.stdout.take().unwrap().read_exact(&mut ready).expect("a helper that holds");
            children.push(child);
        }
        Held(children)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}

/// What a helper does: makes its sockets, says so, and waits for the end of its input.
fn hold(kind: &str, count: usize, part: u8) {
    let own = Ipv4Addr::new(127, 0, 1, part);
    let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
    if kind == "connections" {
        let listener = TcpListener::bind((own, 80)).unwrap();
        for _ in 0..count {
            streams.push(TcpStream::connect((own, 80)).unwrap());
            streams.push(listener.accept().unwrap().0);
        }
    } else {
        datagrams.extend((0..count).map(|_| UdpSocket::bind((own, 0)).unwrap()));
    }
    std::io::stdout().write_all(b".").unwrap();
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// What one look costs in wall time.
fn costs(beside: &str) {
    let mut dumper = Dumper::open().unwrap();
    let tcp: Ranges = [(Protocol::Tcp, FIRST, FIRST + 999)].into_iter().collect();
    let udp: Ranges = [(Protocol::Udp, FIRST, FIRST + 999)].into_iter().collect();
    let _listeners: Vec<_> =
        (0..10).map(|n| TcpListener::bind(("0.0.0.0", FIRST + n)).unwrap()).collect();
    let mut measure = |name: &str, times: usize, look: &mut dyn FnMut(&mut Dumper)| {
        let mut taken: Vec<_> = (0..times)
            .map(|_| {
                let then = Instant::now();
                look(&mut dumper);
                then.elapsed()
            })
            .collect();
        report(&format!("  {name}"), &mut taken);
    };
    println!("beside {beside}, 10 listeners");
    measure("TCP dump", 1000, &mut |d| assert_eq!(d.snapshot(&tcp).unwrap().len(), 10));
    measure("UDP dump", 100, &mut |d| assert_eq!(d.snapshot(&udp).unwrap().len(), 0));
    for ports in [1, 1000] {
        let ranges = (0..ports).map(|n| (Protocol::Tcp, 2 * n + 1, 2 * n + 1)).collect();
        measure(&format!("connections of {ports} ports"), 20, &mut |d| {
            d.connections(Protocol::Tcp, &ranges).unwrap();
        });
    }
}

/// What an idle watch costs in processor time.
fn idle(socket_events: bool, beside: &str) {
    let processor = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let mut watch = watch(socket_events);
    let (end, before) = (Instant::now() + IDLE, processor());
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        turn(&mut watch, left);
    }
    let share = (processor() - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let how = if socket_events { "socket events" } else { "polling" };
    println!("  idle with {how}, beside {beside}: {share:.3} % of a core");
}

/// What the watch costs while another thread opens and closes a flagged port as fast as it can.
fn storm() {
    let processor = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let mut watch = watch(true);
    let end = Instant::now() + STORM;
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut times = 0;
            while Instant::now() < end {
                drop(TcpListener::bind(("0.0.0.0", FIRST)).unwrap());
                drop(UdpSocket::bind(("0.0.0.0", FIRST)).unwrap());
                times += 1;
            }
            times
        });
        let (before, mut turns) = (processor(), 0);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            turn(&mut watch, left);
            turns += 1;
        }
        let share = (processor() - before).as_secs_f64() / STORM.as_secs_f64() * 100.0;
        let second = |count: u32| f64::from(count) / STORM.as_secs_f64();
        println!(
            "in a storm of {:.0} listens and as many binds a second: {share:.1} % of a core, \
             {:.0} turns a second",
            second(server.join().unwrap()),
            second(turns),
        );
    });
}

fn report(what: &str, taken: &mut [Duration]) {
    taken.sort_unstable();
    let at = |share: usize| taken[(taken.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("{what:30} {:7.3} ms {:6.3} ms {:6.3} ms", at(50), at(99), at(100));
}
