//! Heartbeats, echo and connects between machines, which are network namespaces on one bridge:
//! over a network that loses, delays and reorders; from senders that are frozen or cut off; and
//! from people who are not of the cluster.
//!
//! They need root, iproute2, and a kernel with sch_netem: the lab's have it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use cvip::heartbeat::{
    ClusterKey, ConnectOutcome, ConnectProber, Counts, EchoAccess, EchoProber, HeardCounts,
    Heartbeat, HeartbeatContent, HeartbeatSocket, HeartbeatSource, Nonce, PORT, Peers, Sender,
    Suspicion, Timing, Verdict, WatchedNode, wire::KEY_LABEL,
};
use cvip_lab::{Namespace, PATIENCE, Process, Segment, addr, require};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use cvip::clock::Instant;

/// Node 1 is the director that listens; the others speak.
const DIRECTOR: u32 = 1;
const DIRECTOR_NONCE: Nonce = Nonce([1; 16]);

fn key() -> ClusterKey {
    ClusterKey::from_bytes(b"the key of the cluster in this test").expect("a key")
}

/// Nodes 1, 2, ... on one bridge.
struct Nodes(Segment);

impl Nodes {
    fn new(nodes: u8) -> Nodes {
        Nodes(Segment::new(nodes))
    }

    fn node(&self, number: u32) -> &Namespace {
        self.0.host(number)
    }

    /// The director's ears, watching these nodes.
    fn observer(&self, local: IpAddr, nodes: &[u32]) -> Observer {
        let socket = self
            .node(DIRECTOR)
            .enter(move || HeartbeatSocket::receiver(&[local], PORT, Some("eth0"), &key()))
            .expect("a receiver");
        let now = Instant::now();
        let mut peers = Peers::new(DIRECTOR, DIRECTOR_NONCE, Timing::default(), now);
        peers.watch(nodes.iter().map(|node| watched(*node)), now);
        Observer { socket, peers }
    }

    /// A node's voice, on a thread of its own.
    fn liveness(&self, number: u32, family: Family, cluster: ClusterKey) -> PeerLiveness {
        let (local, to) = (family.addr(number), family.addr(DIRECTOR));
        let over = Arc::new(AtomicBool::new(false));
        let silence = Arc::clone(&over);
        let sender = self.node(number).enter(move || sender(number, local, to, &cluster));
        let thread = std::thread::spawn(move || speak(sender, &silence));
        PeerLiveness { over, thread: Some(thread) }
    }

    /// Sends this datagram from a node to the director, byte for byte.
    fn inject(&self, number: u32, family: Family, datagram: Vec<u8>) {
        let (local, to) = (family.addr(number), family.addr(DIRECTOR));
        self.node(number).enter(move || {
            let socket = UdpSocket::bind((local, 0)).expect("a socket");
            socket.send_to(&datagram, (to, PORT)).expect("a datagram");
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn addr(self, number: u32) -> IpAddr {
        match self {
            Family::V4 => addr(&format!("10.0.0.{number}")),
            Family::V6 => addr(&format!("fd00::{number}")),
        }
    }
}

fn watched(node: u32) -> WatchedNode {
    WatchedNode { node, hears_us: false, least_incarnation: 0 }
}

fn sender(number: u32, local: IpAddr, to: IpAddr, cluster: &ClusterKey) -> Sender {
    let socket = HeartbeatSocket::sender(&[local], PORT, None, cluster).expect("a sender");
    let nonce = Nonce([number as u8; 16]);
    let source = HeartbeatSource { node: number, incarnation: 1, nonce };
    let now = Instant::now();
    let mut sender = Sender::new(socket, source, Timing::default(), now);
    sender
        .set_content(HeartbeatContent { to: vec![to], ..HeartbeatContent::default() }, now)
        .expect("a content that fits");
    sender
}

fn speak(mut sender: Sender, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        sender.step(Instant::now());
        sleep(sender.timeout(Instant::now()));
    }
}

/// Speaks until dropped.
struct PeerLiveness {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for PeerLiveness {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a voice");
        }
    }
}

struct Observer {
    socket: HeartbeatSocket,
    peers: Peers,
}

impl Observer {
    /// Listens until this holds of a verdict.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Verdict, &Peers) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let now = Instant::now();
            for heartbeat in self.socket.receive() {
                self.peers.hear(heartbeat, now);
            }
            let verdict = self.peers.verdict(now);
            if holds(&verdict, &self.peers) {
                return;
            }
            assert!(now < deadline, "{what} did not come: {verdict:?}, {self:?}");
            wait(self.socket.fds(), self.peers.timeout(Instant::now()));
        }
    }

    fn until_silent(&mut self, nodes: &[u32]) {
        let nodes: BTreeSet<u32> = nodes.iter().copied().collect();
        self.until(&format!("silence of {nodes:?}"), |verdict, _| {
            verdict.suspicion == Suspicion::Nodes && verdict.suspected == nodes
        });
    }

    /// Listens until each of these nodes was heard anew.
    fn until_heard(&mut self, nodes: &[u32]) {
        let since = Instant::now();
        self.until(&format!("a heartbeat of {nodes:?}"), |_, peers| {
            nodes.iter().all(|node| {
                let now = Instant::now();
                peers.heard_ago(*node, now).is_some_and(|ago| now - ago > since)
            })
        });
    }

    /// Listens until this holds of what was received.
    fn until_counted(&mut self, holds: impl Fn(Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            for heartbeat in self.socket.receive() {
                self.peers.hear(heartbeat, now);
            }
            self.peers.verdict(now);
            if holds(self.socket.counts()) {
                return;
            }
            assert!(now < deadline, "{self:?}");
            wait(self.socket.fds(), self.peers.timeout(Instant::now()));
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?}", self.socket.counts(), self.peers.counts())
    }
}

fn wait<'a>(fds: impl IntoIterator<Item = BorrowedFd<'a>>, timeout: Duration) {
    let mut fds: Vec<PollFd<'_>> =
        fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    ppoll(&mut fds, Some(TimeSpec::from(timeout)), None).expect("poll");
}

/// Asks for echoes until a machine has answered a question of now.
fn answers_echo(prober: &mut EchoProber, target: IpAddr) -> bool {
    let (start, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    while prober.answered(target).is_none_or(|asked| asked < start) {
        if Instant::now() > deadline {
            return false;
        }
        prober.probe(target, Instant::now());
        wait(prober.fds(), Duration::from_millis(100));
        prober.receive();
    }
    true
}

/// Asks one listener.
fn connect(prober: &mut ConnectProber, target: SocketAddr) -> ConnectOutcome {
    prober.probe(target);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some((ended, outcome)) = prober.step(Instant::now()).pop() {
            assert_eq!(ended, target);
            return outcome;
        }
        assert!(Instant::now() < deadline, "{target} neither answers nor is silent");
        wait([prober.fd()], prober.timeout(Instant::now()).expect("it is under way"));
    }
}

/// Set for a process that is one node's voice: its number and its family.
const LIVENESS: &str = "CVIP_TEST_VOICE";

/// Runs a test of this program again, as a process in a node's network namespace, in which it
/// calls [`become_a_voice`].
fn spawn_liveness(segment: &Nodes, number: u32, family: Family, test: &'static str) -> Process {
    let me = std::env::current_exe().expect("this program");
    let mut command = segment.node(number).command(&me.to_string_lossy());
    command.args(["--exact", test]).env(LIVENESS, format!("{number} {family:?}"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Process::spawn(command).expect("this program again")
}

/// In a process that [`spawn_voice`] started: speaks, and never returns.
fn become_a_liveness() {
    let Ok(liveness) = std::env::var(LIVENESS) else {
        return;
    };
    let (number, family) = liveness.split_once(' ').expect("a number and a family");
    let family = if family == "V4" { Family::V4 } else { Family::V6 };
    let number = number.parse().expect("a number");
    let sender = sender(number, family.addr(number), family.addr(DIRECTOR), &key());
    speak(sender, &AtomicBool::new(false));
}

mod on_stock {
    use super::*;

    #[test]
    fn over_a_network_that_loses_delays_and_reorders_nobody_falls_silent() {
        // A kernel with sch_netem.
        require();
        let segment = Nodes::new(3);
        for number in [2, 3] {
            // With so much jitter, what is sent later overtakes.
            let netem = "root netem loss 20% delay 200ms 60ms";
            segment.node(number).line(&format!("tc qdisc add dev eth0 {netem}"));
        }
        for family in [Family::V4, Family::V6] {
            let mut observer = segment.observer(family.addr(DIRECTOR), &[2, 3]);
            let _voices = [2, 3].map(|number| segment.liveness(number, family, key()));
            // The first neighbour discovery goes over the same network: give it its time.
            observer.until_heard(&[2, 3]);
            observer.until_silent(&[]);
            observer.until("200 heartbeats", |verdict, peers| {
                assert_eq!(verdict.suspected, BTreeSet::new(), "{family:?}: {:?}", peers.counts());
                peers.counts().fresh >= 200
            });
            let counts = observer.peers.counts();
            assert!(counts.old > 0, "nothing was reordered: {counts:?}");
        }
    }

    #[test]
    fn a_frozen_cvipd_is_silent_while_its_machine_answers() {
        become_a_liveness();
        const THIS: &str = "on_stock::a_frozen_cvipd_is_silent_while_its_machine_answers";
        let segment = Nodes::new(2);
        let mut prober = segment.node(DIRECTOR).enter(EchoProber::open).expect("an echo prober");
        for family in [Family::V4, Family::V6] {
            let node = family.addr(2);
            let mut observer = segment.observer(family.addr(DIRECTOR), &[2]);
            let liveness = spawn_liveness(&segment, 2, family, THIS);
            observer.until_heard(&[2]);

            liveness.signal(Signal::SIGSTOP).unwrap();
            observer.until_silent(&[2]);
            assert!(answers_echo(&mut prober, node), "its kernel is alive");
            let listener = segment.node(2).enter(move || TcpListener::bind((node, 8080)));
            let listener = listener.expect("a listener");
            let ask = |port| {
                segment.node(DIRECTOR).enter(move || {
                    let mut prober = ConnectProber::new(PATIENCE).expect("a prober");
                    connect(&mut prober, SocketAddr::new(node, port))
                })
            };
            assert_eq!(ask(8080), ConnectOutcome::Open);
            assert_eq!(ask(8081), ConnectOutcome::Refused);
            listener.set_nonblocking(true).expect("a listener");
            assert!(listener.accept().is_err(), "its program was not woken");

            liveness.signal(Signal::SIGCONT).unwrap();
            observer.until_silent(&[]);
        }
    }

    #[test]
    fn a_dead_machine_answers_nothing() {
        let segment = Nodes::new(2);
        let mut prober = segment.node(DIRECTOR).enter(EchoProber::open).expect("an echo prober");
        for family in [Family::V4, Family::V6] {
            let node = family.addr(2);
            let mut observer = segment.observer(family.addr(DIRECTOR), &[2]);
            let liveness = segment.liveness(2, family, key());
            observer.until_heard(&[2]);
            assert!(answers_echo(&mut prober, node));

            segment.0.plug(2, false);
            let unplugged = Instant::now();
            observer.until_silent(&[2]);
            prober.probe(node, Instant::now());
            let outcome = segment.node(DIRECTOR).enter(move || {
                let mut prober = ConnectProber::new(Duration::from_millis(300)).expect("a prober");
                connect(&mut prober, SocketAddr::new(node, 8080))
            });
            // By what the neighbour discovery says, if it says it first.
            assert!(
                matches!(outcome, ConnectOutcome::TimedOut | ConnectOutcome::Unreachable),
                "{outcome:?}"
            );
            prober.receive();
            assert!(prober.answered(node) < Some(unplugged));

            segment.0.plug(2, true);
            observer.until_silent(&[]);
            assert!(answers_echo(&mut prober, node));
            drop(liveness);
        }
    }

    #[test]
    fn an_echo_is_asked_for_by_a_raw_socket_where_ping_sockets_are_forbidden() {
        let segment = Nodes::new(2);
        for (range, access) in [("1 0", EchoAccess::Raw), ("0 2147483647", EchoAccess::Ping)] {
            segment.node(DIRECTOR).sysctl("net.ipv4.ping_group_range", range).unwrap();
            let mut prober = segment.node(DIRECTOR).enter(EchoProber::open).expect("a prober");
            for family in [Family::V4, Family::V6] {
                let node = family.addr(2);
                assert_eq!(prober.access(node), Some(access));
                assert!(answers_echo(&mut prober, node), "{node} by a {access}");
            }
        }
    }

    #[test]
    fn with_its_own_cable_out_the_director_suspects_itself() {
        let segment = Nodes::new(5);
        let family = Family::V4;
        let mut observer = segment.observer(family.addr(DIRECTOR), &[2, 3, 4, 5]);
        let voices = [2, 3, 4].map(|number| segment.liveness(number, family, key()));
        // Node 5 never says anything: that is no news when the cable is pulled.
        let start = Instant::now();
        observer.until("two seconds", |_, _| start.elapsed() > Duration::from_secs(2));
        observer.until_silent(&[5]);

        segment.0.plug(DIRECTOR, false);
        observer.until("a suspicion", |verdict, _| {
            // Whoever is judged alone for a moment is not yet the silence of most.
            verdict.suspicion == Suspicion::OwnLink
        });
        observer.until("a second of it", |verdict, peers| {
            assert_eq!(verdict.suspected, BTreeSet::from([5]));
            peers.heard_ago(2, Instant::now()) > Some(Duration::from_secs(2))
        });
        segment.0.plug(DIRECTOR, true);
        observer.until("trust", |verdict, _| {
            assert_eq!(verdict.suspected, BTreeSet::from([5]));
            verdict.suspicion == Suspicion::Nodes
        });
        observer.until_heard(&[2, 3, 4]);
        observer.until_silent(&[5]);
        drop(voices);
    }
}

#[test]
fn what_is_not_signed_with_the_clusters_key_is_nothing() {
    let segment = Nodes::new(3);
    let other = ClusterKey::from_bytes(b"the key of another cluster altogether").expect("a key");
    for family in [Family::V4, Family::V6] {
        let mut observer = segment.observer(family.addr(DIRECTOR), &[2]);
        let signed = heartbeat(2, 1, 1).encode(&key().derive(KEY_LABEL)).expect("a datagram");
        let mut forged = signed.clone();
        forged[27] = 9; // the sequence number
        segment.inject(3, family, forged);
        segment.inject(3, family, signed[..signed.len() - 1].to_vec());
        segment.inject(
            3,
            family,
            heartbeat(2, 1, 1).encode(&other.derive(KEY_LABEL)).expect("one"),
        );
        segment.inject(3, family, b"GET / HTTP/1.0\r\n\r\n".to_vec());
        // Too short to be one, and no heartbeat at all.
        observer.until_counted(|counts| (counts.forged, counts.malformed) == (2, 2));

        // Nor does a whole cluster beside this one, with the same numbers, become this one's.
        let _stranger = segment.liveness(2, family, other.clone());
        observer.until_counted(|counts| counts.forged >= 2 + 20);
        observer.until_silent(&[2]);
        assert_eq!(observer.socket.counts().heartbeats, 0);
        assert_eq!(observer.peers.counts(), HeardCounts::default());
    }
}

#[test]
fn a_recorded_heartbeat_is_no_sign_of_liveness() {
    let segment = Nodes::new(3);
    for family in [Family::V4, Family::V6] {
        let mut observer = segment.observer(family.addr(DIRECTOR), &[2]);
        let recorded: Vec<Vec<u8>> = (1..=20)
            .map(|n| heartbeat(2, 7, n).encode(&key().derive(KEY_LABEL)).expect("a datagram"))
            .collect();
        for datagram in &recorded {
            segment.inject(2, family, datagram.clone());
        }
        observer.until("the node", |_, peers| peers.counts().fresh == 20);

        // Node 2 is dead, and node 3 has heard all that it ever said.
        let mut rounds = 0;
        observer.until("its silence", |verdict, peers| {
            rounds += 1;
            segment.inject(3, family, recorded[rounds % 20].clone());
            assert_eq!(peers.counts().fresh, 20);
            peers.counts().old > 20 && verdict.suspected == BTreeSet::from([2])
        });

        // A director that was started since does not know what was said before it: the store
        // tells it which incarnation is over, and other directors must know its nonce.
        let now = Instant::now();
        for watched in [
            WatchedNode { node: 2, hears_us: false, least_incarnation: 8 },
            WatchedNode { node: 2, hears_us: true, least_incarnation: 0 },
        ] {
            let mut fresh = Peers::new(DIRECTOR, DIRECTOR_NONCE, Timing::default(), now);
            fresh.watch([watched], now);
            observer.peers = fresh;
            for datagram in &recorded {
                segment.inject(3, family, datagram.clone());
            }
            observer.until("twenty refusals", |_, peers| {
                let HeardCounts { fresh, outlived, unproven, .. } = peers.counts();
                assert_eq!(fresh, 0);
                outlived + unproven >= 20
            });
            observer.until_silent(&[2]);
        }
    }
}

#[test]
fn two_directors_come_to_hear_each_other_and_each_others_restart() {
    let segment = Nodes::new(2);
    for family in [Family::V4, Family::V6] {
        let mut first = Director::start(&segment, 1, 1, family);
        let mut second = Director::start(&segment, 2, 1, family);
        let hear = |first: &mut Director, second: &mut Director| {
            let deadline = Instant::now() + PATIENCE;
            while !(first.hears(2, second.source) && second.hears(1, first.source)) {
                assert!(Instant::now() < deadline, "{:?} {:?}", first.peers, second.peers);
                first.step();
                second.step();
                let fds = [first.ears.fds(), second.ears.fds()].concat();
                wait(fds, Timing::default().period / 5);
            }
        };
        hear(&mut first, &mut second);
        drop(second);
        let mut second = Director::start(&segment, 2, 2, family);
        hear(&mut first, &mut second);
    }
}

/// A director that speaks and listens.
struct Director {
    source: HeartbeatSource,
    to: IpAddr,
    liveness: Sender,
    ears: HeartbeatSocket,
    peers: Peers,
}

impl Director {
    fn start(segment: &Nodes, number: u32, incarnation: u64, family: Family) -> Director {
        let (local, to) = (family.addr(number), family.addr(3 - number));
        let nonce = Nonce::random().expect("randomness");
        let source = HeartbeatSource { node: number, incarnation, nonce };
        let (timing, now) = (Timing::default(), Instant::now());
        let mut peers = Peers::new(number, nonce, timing, now);
        peers.watch([WatchedNode { hears_us: true, ..watched(3 - number) }], now);
        let (liveness, ears) = segment.node(number).enter(move || {
            let liveness = HeartbeatSocket::sender(&[local], PORT, None, &key()).expect("a sender");
            let ears = HeartbeatSocket::receiver(&[local], PORT, None, &key()).expect("a receiver");
            (Sender::new(liveness, source, timing, now), ears)
        });
        Director { source, to, liveness, ears, peers }
    }

    fn step(&mut self) {
        let now = Instant::now();
        for heartbeat in self.ears.receive() {
            self.peers.hear(heartbeat, now);
        }
        let content = HeartbeatContent {
            to: vec![self.to],
            seen: self.peers.seen(),
            ..HeartbeatContent::default()
        };
        self.liveness.set_content(content, now).expect("it fits");
        self.liveness.step(now);
    }

    /// Whether it has believed a heartbeat of that start of the other.
    fn hears(&self, number: u32, other: HeartbeatSource) -> bool {
        self.peers.last(number).is_some_and(|heartbeat| heartbeat.nonce == other.nonce)
    }
}

fn heartbeat(node: u32, incarnation: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        node,
        incarnation,
        sequence,
        nonce: Nonce([node as u8; 16]),
        leaving: false,
        cannot_carry: false,
        left: None,
        leaderships: Vec::new(),
        seen: Vec::new(),
    }
}
