//! Checks against real servers in network namespaces: who answers a probe that is bound to the
//! loopback interface, what a full accept queue looks like, and servers that others wrote.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cvip::checks::settings::{CheckProgram, Dns, Exec, Http, Kind};
use cvip::checks::{Check, CheckOutcome, CheckTarget, Checker, HealthState, probe};
use cvip::protocol::Protocol;
use cvip_lab::{Namespace, Nginx, PATIENCE, Process, Segment, addr, require, until, wait_until};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, socket,
};
use nix::unistd::{Gid, setgroups};

use cvip::clock::Instant;

const CVIPS: [&str; 2] = ["10.0.0.100", "fd00::64"];

/// A target whose check has all the time that an emulated machine may want.
fn target(ip: IpAddr, port: u16, kind: Kind) -> CheckTarget {
    let mut check = Check::new(kind);
    check.timeout = "20".parse().unwrap();
    CheckTarget { addr: SocketAddr::new(ip, port), protocol: Protocol::Tcp, device: None, check }
}

/// The same, bound to the loopback interface, for an answer that is not expected to come.
fn on_lo(mut target: CheckTarget) -> CheckTarget {
    target.device = Some("lo".to_owned());
    target.check.timeout = "3".parse().unwrap();
    target
}

fn probe_in(namespace: &Namespace, target: &CheckTarget) -> CheckOutcome {
    namespace.enter(|| probe(target))
}

fn listener_in(namespace: &Namespace, ip: IpAddr, port: u16) -> TcpListener {
    namespace.enter(|| TcpListener::bind((ip, port)).unwrap())
}

/// Probes until a probe says fit, for a server takes its time to start; what the last one said is
/// told if none does.
#[track_caller]
fn until_healthy(what: &str, probe: impl Fn() -> Result<String, String>) {
    let mut last = Ok(String::new());
    let came = wait_until(PATIENCE, || {
        last = probe();
        last.is_ok().then_some(())
    });
    assert!(came.is_some(), "{what} did not come within {PATIENCE:?}: {last:?}");
}

fn two_hosts() -> Segment {
    require();
    Segment::new(2)
}

fn carry(namespace: &Namespace, ip: IpAddr, device: &str) {
    let (length, nodad) = if ip.is_ipv4() { (32, "") } else { (128, " nodad") };
    namespace.ip(&format!("addr add {ip}/{length} dev {device}{nodad}"));
}

/// How a node probes what it serves on the CVIP. The kernels differ in how they refuse.
mod on_stock {
    use super::*;

    #[test]
    fn a_probe_bound_to_lo_is_answered_by_this_node_and_by_no_other() {
        let hosts = two_hosts();
        let (node, other) = (hosts.host(1), hosts.host(2));
        for cvip in CVIPS.map(addr) {
            carry(other, cvip, "eth0");
            let elsewhere = listener_in(other, cvip, 80);
            let unbound = target(cvip, 80, Kind::Tcp);
            let bound = on_lo(unbound.clone());
            // So would a check say of a node without the CVIP and without a server.
            until("an answer from another", || probe_in(node, &unbound).is_ok());
            let refused = probe_in(node, &bound).unwrap_err();
            println!("{cvip} is not on lo: {refused}");
            carry(node, cvip, "lo");
            let refused = probe_in(node, &bound).unwrap_err();
            assert_eq!(refused, "connect: Connection refused", "{cvip}: nobody listens here");
            let here = listener_in(node, cvip, 80);
            assert_eq!(probe_in(node, &bound), Ok("connected".to_owned()), "{cvip}");
            drop((here, elsewhere));
        }
    }

    #[test]
    fn a_query_bound_to_lo_is_answered_by_this_node_and_by_no_other() {
        let hosts = two_hosts();
        let (node, other) = (hosts.host(1), hosts.host(2));
        for cvip in CVIPS.map(addr) {
            carry(other, cvip, "eth0");
            let words = dnsmasq(cvip);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let elsewhere = server(other, &words);
            // A query that comes between the server's bind and its first look is not answered, and
            // nobody sends it again.
            let mut unbound = query(cvip, Protocol::Udp, "cvip.test", "A");
            unbound.check.timeout = "2".parse().unwrap();
            let bound = on_lo(unbound.clone());
            until_healthy("an answer from another", || probe_in(node, &unbound));
            let refused = probe_in(node, &bound).unwrap_err();
            println!("{cvip} is not on lo: {refused}");
            carry(node, cvip, "lo");
            assert!(probe_in(node, &bound).is_err(), "{cvip}: nobody listens here");
            let here = server(node, &words);
            until_healthy("an answer from here", || probe_in(node, &bound));
            drop((here, elsewhere));
        }
    }

    /// Nobody accepts, as in a server that hangs. Connections stay in the queue when their
    /// clients have gone, those of checks too: a check by TCP alone says *fit* until they have
    /// filled it.
    #[test]
    fn a_full_accept_queue_is_unhealthy_and_a_hung_server_is_only_then() {
        require();
        let host = Namespace::new();
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let listener = host.enter(move || {
            let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
            let at: SocketAddr = "127.0.0.1:80".parse().unwrap();
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
            listen(&socket, Backlog::new(2).unwrap()).unwrap();
            TcpListener::from(socket)
        });
        let target = on_lo(target(addr("127.0.0.1"), 80, Kind::Tcp));
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            outcomes.push(probe_in(&host, &target));
        }
        println!("a backlog of 2, and nobody accepts: {outcomes:?}");
        // The kernel takes one connection more than the backlog (sk_acceptq_is_full).
        assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
        let full = Err("connect: not done within 3 s".to_owned());
        assert!(outcomes[3..].iter().all(|outcome| *outcome == full), "{outcomes:?}");
        let begun = Instant::now();
        assert_eq!(probe_in(&host, &target), full);
        assert!(begun.elapsed() < PATIENCE);
        // One that accepts again is fit again.
        drop(listener.accept().unwrap());
        assert_eq!(probe_in(&host, &target), Ok("connected".to_owned()));
    }

    /// Where the CVIP is balanced, so are this machine's own packets to it: a director that asks
    /// the CVIP is sent to whichever real server the scheduler chose, and a remote one's answer
    /// does not come back. Only its own address tells what it serves itself.
    #[test]
    fn a_director_hears_of_itself_only_at_its_own_address() {
        let hosts = two_hosts();
        let (director, other) = (hosts.host(1), hosts.host(2));
        for (cvip, own, server) in
            [(CVIPS[0], "10.0.0.1", "10.0.0.2"), (CVIPS[1], "fd00::1", "fd00::2")]
        {
            let [cvip, own, server] = [cvip, own, server].map(addr);
            carry(other, cvip, "lo");
            carry(director, cvip, "eth0");
            let [vip, here, there] =
                [cvip, own, server].map(|ip| SocketAddr::new(ip, 80).to_string());
            for words in [
                format!("-A -t {vip} -s rr"),
                format!("-a -t {vip} -r {here} -g"),
                format!("-a -t {vip} -r {there} -g"),
            ] {
                director.line(&format!("{} {words}", env!("CARGO_BIN_EXE_ipvsadm-rs")));
            }
            let any = if cvip.is_ipv4() { "0.0.0.0" } else { "::" };
            let servers = [director, other].map(|host| listener_in(host, addr(any), 80));
            let ask = |ip, device: Option<&str>| {
                let mut target = on_lo(target(ip, 80, Kind::Tcp));
                target.check.timeout = "1".parse().unwrap();
                target.device = device.map(str::to_owned);
                [(); 4].map(|()| probe_in(director, &target))
            };
            for device in [None, Some("eth0"), Some("lo")] {
                let outcomes = ask(cvip, device);
                println!("{cvip} bound to {device:?}: {outcomes:?}");
                assert!(outcomes.iter().any(Result::is_err), "{device:?}: {outcomes:?}");
            }
            assert!(ask(own, None).iter().all(Result::is_ok));
            drop(servers);
            assert!(ask(own, None).iter().all(Result::is_err));
        }
    }
}

/// A server that others wrote, in a process group of its own.
fn server(on: &Namespace, words: &[&str]) -> Process {
    let mut command = on.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    Process::spawn_group(command).unwrap_or_else(|error| panic!("this test needs it: {error:#}"))
}

/// dnsmasq on an address: it knows one name of one zone, and nobody to ask.
fn dnsmasq(ip: IpAddr) -> Vec<String> {
    let words = format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= \
         --user=root --log-facility=- --bind-interfaces --listen-address={ip} \
         --host-record=cvip.test,10.1.2.3 --local=/test/"
    );
    words.split(' ').map(str::to_owned).collect()
}

fn query(ip: IpAddr, protocol: Protocol, name: &str, record_type: &str) -> CheckTarget {
    let dns = Dns { name: name.parse().unwrap(), record_type: record_type.parse().unwrap() };
    let mut target = target(ip, 53, Kind::Dns(dns));
    target.protocol = protocol;
    target
}

#[test]
fn dnsmasq_is_asked_over_udp_and_tcp_and_both_families() {
    require();
    let host = Namespace::new();
    for ip in CVIPS.map(addr) {
        carry(&host, ip, "lo");
        let words = dnsmasq(ip);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let server = server(&host, &words);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let ask = |name, record_type| {
                let mut target = query(ip, protocol, name, record_type);
                target.check.timeout = "2".parse().unwrap();
                probe_in(&host, &target)
            };
            until_healthy("dnsmasq", || ask("cvip.test", "A"));
            assert_eq!(ask("CVIP.test.", "A"), Ok("an answer of 1 record".to_owned()));
            assert_eq!(ask("cvip.test", "MX"), Err("an answer without a record".to_owned()));
            assert_eq!(ask("other.test", "A"), Err("the server says NXDOMAIN".to_owned()));
            assert_eq!(ask("example.org", "A"), Err("the server says REFUSED".to_owned()));
        }
        drop(server);
    }
}

/// nginx on an address: HTTP on port 80, HTTPS on 443 with a certificate of its own making.
fn nginx(host: &Namespace, ip: IpAddr, folder: &Path) -> Nginx {
    let made = rcgen::generate_simple_self_signed(vec!["www.example.org".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("index.html"), "all is well\n".repeat(10_000)).unwrap();
    let at = |port| SocketAddr::new(ip, port);
    let server = format!(
        "server {{ listen {}; listen {} ssl; root {};\n\
         ssl_certificate cert.pem; ssl_certificate_key key.pem;\n\
         location /host {{ return 200 \"$ssl_server_name of $host\"; }}\n\
         location /down {{ return 503; }} }}",
        at(80),
        at(443),
        folder.display()
    );
    Nginx::start(host, folder, &server).unwrap()
}

#[test]
fn nginx_is_asked_over_http_and_https_and_both_families() {
    require();
    let host = Namespace::new();
    for ip in CVIPS.map(addr) {
        carry(&host, ip, "lo");
        let folder = tempfile::tempdir().unwrap();
        let server = nginx(&host, ip, folder.path());
        for (tls, port) in [(false, 80), (true, 443)] {
            let ask = |path: &str, pattern: &str| {
                let mut http = Http::new(tls);
                http.host = Some("www.example.org".parse().unwrap());
                http.path = path.parse().unwrap();
                http.pattern = (!pattern.is_empty()).then(|| pattern.parse().unwrap());
                probe_in(&host, &target(ip, port, Kind::Http(http)))
            };
            until("nginx", || ask("/", "").is_ok());
            assert_eq!(ask("/", ""), Ok("HTTP 200".to_owned()));
            let found = Ok("HTTP 200 with the pattern".to_owned());
            assert_eq!(ask("/", "(?s)^all.*well\n$"), found);
            let sni =
                if tls { "^www.example.org of www.example.org$" } else { "^ of www.example.org$" };
            assert_eq!(ask("/host", sni), found);
            assert_eq!(ask("/", "all is lost"), Err("HTTP 200 without the pattern".to_owned()));
            assert_eq!(ask("/down", ""), Err("HTTP 503".to_owned()));
            assert_eq!(ask("/nothing", ""), Err("HTTP 404".to_owned()));
        }
        drop(server);
    }
}

#[test]
fn a_program_has_none_of_the_groups_of_who_runs_it() {
    require();
    setgroups(&[4, 27, 100].map(Gid::from_raw)).unwrap();
    let ours = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(ours.contains("Groups:\t4 27 100"), "{ours}");
    let script = "echo $(grep -E '^(Uid|Gid|Groups):' /proc/self/status)";
    let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let kind = Kind::Exec(Exec::new(CheckProgram::new(words).unwrap()));
    let outcome = probe(&target(addr("10.0.0.1"), 80, kind));
    let ids = "65534 65534 65534 65534";
    assert_eq!(outcome, Ok(format!("Uid: {ids} Gid: {ids} Groups:")));
}

/// A whole checker in a node's namespace, over a server that is ended and started again.
#[test]
fn a_node_sees_its_server_go_and_come_back() {
    require();
    let node = Namespace::new();
    let cvip = addr(CVIPS[0]);
    carry(&node, cvip, "lo");
    let folder = tempfile::tempdir().unwrap();
    let mut target = on_lo(target(cvip, 80, Kind::Http(Http::new(false))));
    target.check.interval = "0.2".parse().unwrap();
    target.check.timeout = "10".parse().unwrap();
    let server = nginx(&node, cvip, folder.path());
    until("nginx", || node.enter(move || TcpStream::connect((cvip, 80)).is_ok()));
    // Its threads are made in the namespace of the thread that steps it.
    let mut checker = node.enter(move || {
        let now = Instant::now();
        let mut checker = Checker::new(1, now).unwrap();
        checker.set_targets(BTreeMap::from([(1, target)]), now);
        checker
    });
    checker = drive_to(&node, checker, HealthState::Healthy);
    drop(server);
    checker = drive_to(&node, checker, HealthState::Unhealthy);
    let text = checker.health(&1).unwrap().to_string();
    assert_eq!(text, "failed 3 of 3: connect: Connection refused");
    let server = nginx(&node, cvip, folder.path());
    drive_to(&node, checker, HealthState::Healthy);
    drop(server);
}

/// Steps a checker in a namespace until its one target is in this state.
fn drive_to(namespace: &Namespace, mut checker: Checker<u32>, state: HealthState) -> Checker<u32> {
    namespace.enter(move || {
        let deadline = Instant::now() + PATIENCE;
        while checker.health(&1).map(|health| health.state()) != Some(state) {
            assert!(Instant::now() < deadline, "{:?} is not {state}", checker.health(&1));
            checker.step(Instant::now());
            std::thread::sleep(Duration::from_millis(5).min(checker.timeout(Instant::now())));
        }
        checker
    })
}
