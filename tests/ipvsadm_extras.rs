//! What ipvsadm never had, by the program itself on a real kernel.
//!
//! Each test runs in a network namespace of its own. `ipvsadm_new` has what needs no kernel.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cvip::ipvs::{Change, Client, Service, ServiceId};
use cvip::protocol::Protocol;
use cvip_lab::ip;
use cvip_lab::process::run_with_input;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Goes into a network namespace of this thread's own.
fn enter_a_network_of_its_own() {
    cvip_lab::require();
    cvip_lab::enter_new_network().unwrap();
}

struct Ran {
    out: String,
    err: String,
    status: i32,
}

fn ipvsadm(words: &[&str], stdin: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipvsadm-rs"));
    let output = run_with_input(command.args(words), stdin.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { out: text(stdout), err: text(stderr), status: status.code().unwrap_or(-1) }
}

fn must(words: &[&str], stdin: &str) -> String {
    let ran = ipvsadm(words, stdin);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?} of\n{stdin}");
    ran.out
}

/// A server that answers each byte with `name`, for as long as the test runs.
fn serve(at: &str, name: u8) {
    let listener = TcpListener::bind(at).expect("an address of lo");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    if stream.write_all(&[name]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Says something and gives who answered.
fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
    let mut answer = [0];
    stream.write_all(b"?")?;
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

const VIP: &str = "10.9.9.9:80";
const A: &str = "-a -t 10.9.9.9:80 -r 127.0.0.2:9001 -m";
const B: &str = "-a -t 10.9.9.9:80 -r 127.0.0.3:9001 -m";
const WEB: &str = "-A -t 10.9.9.9:80 -s rr";

/// A service with two servers, of which it uses the first.
fn web() {
    enter_a_network_of_its_own();
    ip("addr add 10.9.9.9/32 dev lo").unwrap();
    serve("127.0.0.2:9001", b'A');
    serve("127.0.0.3:9001", b'B');
    must(&["-R"], &format!("{WEB}\n{A}\n"));
}

mod on_stock {
    use super::*;

    #[test]
    fn apply_moves_a_service_from_one_server_to_another_while_clients_come() {
        web();
        let mut old = connect(VIP).expect("the service");
        assert_eq!(ask(&mut old).expect("an answer"), b'A');
        let (ended, answered) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let answer = connect(VIP).and_then(|mut stream| ask(&mut stream));
                    let who = answer.expect("a service that is never without a server");
                    assert!([b'A', b'B'].contains(&who));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let only_b = format!("{WEB}\n{A} -w 0\n{B}\n");
            let only_a = format!("{WEB}\n{A}\n{B} -w 0\n");
            for rules in [&only_b, &only_a].into_iter().cycle().take(20) {
                let before = answered.load(Ordering::Relaxed);
                must(&["--apply"], rules);
                assert_eq!(ipvsadm(&["--diff"], rules).status, 0);
                let went_on = || answered.load(Ordering::Relaxed) > before;
                let next = || (client.is_finished() || went_on()).then_some(());
                cvip_lab::wait_until(Duration::from_secs(20), next).expect("a client");
            }
            ended.store(true, Ordering::Relaxed);
            client.join().expect("no client was refused");
        });
        assert!(answered.into_inner() >= 20);
        assert_eq!(ask(&mut old).expect("a connection outlives its server's weight"), b'A');
    }

    #[test]
    fn a_listing_of_a_changing_table_has_each_lasting_service_once() {
        const LASTING: u16 = 400;
        enter_a_network_of_its_own();
        let lasting: String =
            (1..=LASTING).map(|port| format!("-A -t 10.9.9.9:{port} -s rr\n")).collect();
        must(&["-R"], &lasting);
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| {
                let mut table = Client::open().expect("IPVS");
                let id = |port| ServiceId::Address {
                    protocol: Protocol::Tcp,
                    addr: [10, 9, 9, 9].into(),
                    port,
                };
                let mut rounds = 0;
                while !ended.load(Ordering::Relaxed) {
                    let first = 1000 + 50 * (rounds % 10);
                    let ports = first..first + 50;
                    let adds =
                        ports.clone().map(|port| Change::AddService(Service::new(id(port), "rr")));
                    let deletes = ports.map(|port| Change::DeleteService(id(port)));
                    for change in adds.chain(deletes) {
                        assert_eq!(table.apply(&[change]).expect("IPVS"), []);
                    }
                    rounds += 1;
                }
                rounds
            });
            for words in [&["-Ln"][..], &["-Sn"], &["-Ln", "--stats"], &["-Ln", "--nosort"]] {
                for _ in 0..15 {
                    let out = must(words, "");
                    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
                    for line in out.lines() {
                        let at = line.split_whitespace().find_map(|w| w.strip_prefix("10.9.9.9:"));
                        if let Some(port) = at.and_then(|port| port.parse().ok()) {
                            *seen.entry(port).or_default() += 1;
                        }
                    }
                    for port in 1..=LASTING {
                        assert_eq!(seen.get(&port), Some(&1), "{words:?}: port {port}");
                    }
                }
            }
            ended.store(true, Ordering::Relaxed);
            assert!(churn.join().expect("the churn") > 0);
        });
    }
}

#[test]
fn diff_tells_by_its_status_and_apply_leaves_nothing_to_tell() {
    enter_a_network_of_its_own();
    let rules = "\
# everything that a rule can say
-A -t 10.9.9.9:80 -s sh -p 60 -M 255.255.255.0 -b sh-port
-a -t 10.9.9.9:80 -r 10.0.0.1 -w 3 -x 100 -y 50
-a -t 10.9.9.9:80 -r 10.0.0.2 -i --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.9.9.9:80 -r 10.0.0.3 -m
-A -t [fd00::9]:80 -s wlc
-a -t [fd00::9]:80 -r [fd00::1]:8080 -m -w 0
-A -u 10.9.9.9:53 -o
-A -f 7
-A -f 7 -6
-a -f 7 -6 -r fd00::2
--set 600 60 30
--start-daemon master --mcast-interface lo --syncid 5
";
    must(&["-R"], "-A -t 10.9.9.9:81\n-A -f 7 -s rr\n");
    assert_eq!(ipvsadm(&["--diff"], rules).status, 1);
    must(&["--apply"], rules);
    let ran = ipvsadm(&["--diff"], rules);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0));
    assert_eq!(ipvsadm(&["--diff"], "-L\n").status, 2);

    // What is saved in full is no difference, and makes the same table from nothing.
    let full = must(&["-Sn", "--full"], "");
    assert_eq!(ipvsadm(&["--diff"], &full).out, "");
    let listed = must(&["-L", "--json"], "");
    must(&["--stop-daemon", "master"], "");
    must(&["-C"], "");
    must(&["--restore-json"], &listed);
    must(&["--start-daemon", "master", "--mcast-interface", "lo", "--syncid", "5"], "");
    assert_eq!(must(&["-Sn", "--full"], ""), full);
    must(&["--stop-daemon", "master"], "");
}

#[test]
fn a_report_finds_what_fails_in_the_middle() {
    enter_a_network_of_its_own();
    let mut rules: String =
        (1..=3000).map(|port| format!("-A -t 10.9.9.9:{port} -s rr\n")).collect();
    rules = rules.replace("10.9.9.9:1500 -s rr", "10.9.9.9:1500 -s nonesuch");
    rules = rules.replace("10.9.9.9:2000 -s rr", "10.9.9.9:1 -s rr");
    let ran = ipvsadm(&["-R", "--report"], &rules);
    assert_eq!(
        ran.err,
        "line 1500: -A -t 10.9.9.9:1500 -s nonesuch: Scheduler or persistence engine not found\n\
         line 2000: -A -t 10.9.9.9:1 -s rr: Service already exists\n\
         2998 of 3000 lines carried out, 2 failed\n"
    );
    assert_eq!(ran.status, 255);
    must(&["-C"], "");
    let ran = ipvsadm(&["-R", "--stop-on-error"], &rules);
    assert_eq!(ran.status, 255);
    assert_eq!(must(&["-Sn"], "").lines().count(), 1499);
    must(&["-C"], "");
    assert_eq!(ipvsadm(&["-R"], &rules).status, 0, "the original hides it");
}

#[test]
fn connections_are_filtered_and_intervals_count() {
    web();
    let mut clients: Vec<TcpStream> = (0..5).map(|_| connect(VIP).expect("the service")).collect();
    for client in &mut clients {
        assert_eq!(ask(client).expect("an answer"), b'A');
    }
    let lines = |words: &[&str]| must(words, "").lines().count() - 2;
    assert_eq!(lines(&["-Lnc"]), 5);
    assert_eq!(lines(&["-Lnc", "--state", "established", "--service", VIP]), 5);
    let port = clients[0].local_addr().expect("an address").to_string();
    assert_eq!(lines(&["-Lnc", "--client", &port]), 1);
    assert_eq!(lines(&["-Lnc", "--destination", "127.0.0.3"]), 0);
    assert_eq!(lines(&["-Lnc", "--destination", "127.0.0.0/8:9001"]), 5);

    // The kernel adds its counters up every two seconds.
    let mut watch = Command::new(env!("CARGO_BIN_EXE_ipvsadm-rs"))
        .args(["-L", "--json", "--stats", "--interval", "4", "--count", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut made = 0;
    while watch.try_wait().expect("a child").is_none() {
        match connect(VIP) {
            Ok(mut stream) => made += u64::from(ask(&mut stream).is_ok()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
    let mut text = String::new();
    watch.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
    let rounds: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rounds.len(), 2);
    let counted = |round: &serde_json::Value| {
        round["services"][0]["stats"]["connections"].as_u64().expect("a number")
    };
    assert!(rounds.iter().all(|round| counted(round) > 0), "{text}");
    // The kernel may have counted the first clients only after the first reading.
    assert!(rounds.iter().map(counted).sum::<u64>() <= made + 5, "{text}");

    let totals: serde_json::Value =
        serde_json::from_str(&must(&["-L", "--totals", "--json"], "")).expect("JSON");
    assert!(totals["stats"]["connections"].as_u64().expect("a number") > 5);
}

/// Starts the program; its end is waited for by [`ended`].
fn start(words: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ipvsadm-rs"))
        .args(words.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program")
}

fn ended(child: Child) -> Ran {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("a child");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { out: text(stdout), err: text(stderr), status: status.code().unwrap_or(-1) }
}

/// Waits until the table has this line.
fn until_saved(line: &str) {
    let has = || must(&["-Sn"], "").contains(line).then_some(());
    cvip_lab::wait_until(Duration::from_secs(20), has).expect(line);
}

const QUIESCED: &str = "-r 127.0.0.2:9001 -m -w 0\n";

#[test]
fn a_drain_lets_connections_end_and_sends_new_ones_elsewhere() {
    web();
    let mut old = connect(VIP).expect("the service");
    assert_eq!(ask(&mut old).expect("an answer"), b'A');
    must(&["-R"], &format!("{B}\n"));
    let mut drain = start("--drain -t 10.9.9.9:80 -r 127.0.0.2:9001 --json");
    until_saved(QUIESCED);
    for _ in 0..4 {
        let mut new = connect(VIP).expect("the service");
        assert_eq!(ask(&mut new).expect("an answer"), b'B');
    }
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(drain.try_wait().expect("a child"), None, "a connection is open");
    assert_eq!(ask(&mut old).expect("an answer"), b'A');
    drop(old);
    let ran = ended(drain);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&document["ended"], &document["previous_weight"]), (&"out".into(), &1.into()));
    assert_eq!(document["active_connections"], 0);
    assert!(document["lasted_s"].as_u64().expect("a number") >= 7, "{document}");
    assert!(!must(&["-Sn"], "").contains("127.0.0.2"));
}

#[test]
fn an_interrupted_drain_leaves_the_weight_0_and_its_message_gives_it_back() {
    web();
    let mut old = connect(VIP).expect("the service");
    assert_eq!(ask(&mut old).expect("an answer"), b'A');
    must(&["-e", "-t", VIP, "-r", "127.0.0.2:9001", "--keep", "-w", "7", "-x", "50"], "");
    let before = must(&["-Sn", "--full"], "");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let drain = start("--drain -t 10.9.9.9:80 -r 127.0.0.2:9001");
        until_saved(QUIESCED);
        kill(Pid::from_raw(drain.id().cast_signed()), signal).expect("a child");
        let ran = ended(drain);
        assert!(ran.err.starts_with("interrupted: 127.0.0.2:9001 stays in"), "{}", ran.err);
        assert!(ran.err.contains("with weight 0 and 1 active and 0 inactive"), "{}", ran.err);
        assert_eq!((ran.out.as_str(), ran.status), ("", 1));
        let back = ran.err.rsplit('`').next().and_then(|rest| rest.split_once('\''));
        let words: Vec<&str> = back.expect("a command").0.split(' ').skip(1).collect();
        assert_eq!(must(&["-Sn", "--full"], ""), before.replace("-w 7", "-w 0"));
        must(&words, "");
        assert_eq!(must(&["-Sn", "--full"], ""), before);
    }
    assert_eq!(ask(&mut old).expect("an answer"), b'A');
}

#[test]
fn a_deadline_deletes_a_server_of_udp_and_a_person_is_told_of_its_clients() {
    enter_a_network_of_its_own();
    ip("addr add 10.9.9.9/32 dev lo").unwrap();
    let server = UdpSocket::bind("127.0.0.2:9001").expect("an address of lo");
    // A client of its own each time: the kernel remembers a connection for longer than its real
    // server, and counts it again when the same real server is back.
    let connected = || {
        must(&["-R"], "-A -u 10.9.9.9:53 -s rr\n-a -u 10.9.9.9:53 -r 127.0.0.2:9001 -m\n");
        let client = UdpSocket::bind("127.0.0.1:0").expect("an address of lo");
        client.send_to(b"?", "10.9.9.9:53").expect("the service");
        server.recv_from(&mut [0; 8]).expect("a datagram");
        client
    };
    let words = "--drain -u 10.9.9.9:53 -r 127.0.0.2:9001 --deadline 2";
    let _first = connected();
    let ran = ended(start(words));
    assert_eq!(
        ran.err,
        "the deadline is over: 127.0.0.2:9001 is out of udp 10.9.9.9:53, with 0 active and 1 inactive \
         connections left\n"
    );
    assert_eq!((ran.out.as_str(), ran.status), ("", 0));

    must(&["-C"], "");
    let _second = connected();
    let pty = openpty(None, None).expect("a terminal");
    let status = Command::new(env!("CARGO_BIN_EXE_ipvsadm-rs"))
        .args(words.split(' '))
        .stderr(Stdio::from(pty.slave))
        .status()
        .expect("the program");
    assert!(status.success());
    let mut said = Vec::new();
    // The end of a terminal that no process has open is an error.
    let _ = std::fs::File::from(pty.master).read_to_end(&mut said);
    let said = String::from_utf8(said).expect("UTF-8");
    let hint = "keeps 127.0.0.2:9001, and once that is deleted, the kernel drops its datagrams until \
                the UDP time-out (300 s) is over; with `sysctl -w net.ipv4.vs.expire_nodest_conn=1'";
    assert_eq!(said.matches(hint).count(), 1, "{said}");
    assert!(
        said.contains("draining 127.0.0.2:9001 from udp 10.9.9.9:53: 0 active and 2"),
        "{said}"
    );
}

#[test]
fn marks_and_ipv6_are_drained_and_edits_keep_what_a_kernel_has() {
    enter_a_network_of_its_own();
    let rules = "\
-A -t 10.9.9.9:80 -s sh -p 60 -M 255.255.255.0 -b sh-fallback,sh-port
-a -t 10.9.9.9:80 -r 10.0.0.2:80 -i -w 5 -x 100 -y 50 --tun-type gue --tun-port 6080 --tun-csum
-A -f 7 -6 -s rr
-a -f 7 -6 -r [fd00::2]:0 -g -w 3
-A -t [fd00::9]:80 -s wlc
-a -t [fd00::9]:80 -r [fd00::1]:8080 -m -w 2
";
    must(&["-R"], rules);
    let mut full = must(&["-Sn", "--full"], "");
    for (words, from, to) in [
        ("-E --keep -t 10.9.9.9:80 -p 90", "-p 60", "-p 90"),
        ("-E --keep -t 10.9.9.9:80 -b sh-port", "-b sh-fallback,sh-port", "-b sh-port"),
        ("-E --keep -f 7 -6 -s wrr", "-f 7 -6 -s rr", "-f 7 -6 -s wrr"),
        ("-e --keep -t 10.9.9.9:80 -r 10.0.0.2 -w 9", "-w 5 -x 100 -y 50", "-w 9 -x 100 -y 50"),
        ("-e --keep -t 10.9.9.9:80 -r 10.0.0.2 --tun-port 7", "--tun-port 6080", "--tun-port 7"),
        ("-e --keep -t [fd00::9]:80 -r [fd00::1]:8080 -x 4", "-m -w 2", "-m -w 2 -x 4"),
        ("-e --keep -f 7 -6 -r fd00::2 -w 0", "-g -w 3", "-g -w 0"),
    ] {
        must(&words.split(' ').collect::<Vec<_>>(), "");
        assert!(full.contains(from), "{from}: {full}");
        full = full.replace(from, to);
        assert_eq!(must(&["-Sn", "--full"], ""), full, "{words}");
    }
    for words in [
        "--drain -f 7 -6 -r fd00::2",
        "--drain -t [fd00::9]:80 -r [fd00::1]:8080 --deadline 5",
        "--drain -t 10.9.9.9:80 -r 10.0.0.2 --deadline 0",
    ] {
        must(&words.split(' ').collect::<Vec<_>>(), "");
    }
    assert!(!must(&["-Sn"], "").contains("-a "));
    let ran = ipvsadm(&["--drain", "-f", "7", "-6", "-r", "fd00::2"], "");
    assert_eq!(
        (ran.err.as_str(), ran.status),
        ("[fd00::2]:0 is not in mark 7 IPv6: nothing to drain\n", 0)
    );
}
