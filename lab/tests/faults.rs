//! The faults that the lab can make, each with what it lets through and what it does not: without these, a takeover that
//! never had a reason looks like one that works.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use cvip_lab::{
    Cluster, Direction, Fault, Host, Impairment, Network, Process, require, wait_until,
};

const SOON: Duration = Duration::from_secs(10);
const PUBLIC: Network = Network::Public;

fn ping(from: &Host, to: &Host, patience: &str) -> bool {
    from.run(&["ping", "-c1", "-W", patience, &to.v4().to_string()]).is_ok()
}

/// Whether a ping and its answer get through.
fn reaches(from: &Host, to: &Host) -> bool {
    ping(from, to, "5")
}

/// Whether they do not.
fn is_cut(from: &Host, to: &Host) -> bool {
    !ping(from, to, "0.3")
}

fn has_carrier(host: &Host) -> bool {
    !host.stdout(&["ip", "link", "show", "eth0"]).unwrap().contains("NO-CARRIER")
}

#[test]
fn an_unplugged_member_has_no_carrier_and_reaches_nobody_until_it_is_plugged_in() -> Result<()> {
    require();
    let cluster = Cluster::builder("unplug").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    assert!(reaches(client, node));
    let fault = node.unplug(PUBLIC)?;
    assert!(is_cut(client, node) && !has_carrier(node));
    fault.end()?;
    wait_until(SOON, || reaches(client, node).then_some(())).expect("it is plugged in again");
    assert!(has_carrier(node));
    drop(node.unplug(PUBLIC)?);
    wait_until(SOON, || reaches(client, node).then_some(())).expect("it is plugged in again");
    Ok(())
}

#[test]
fn a_silenced_member_keeps_its_carrier_and_loses_what_goes_that_way() -> Result<()> {
    require();
    let cluster = Cluster::builder("silence").nodes(1).interconnect(true).build()?;
    let (client, node, director) = (cluster.client(), cluster.node(1), cluster.director());
    assert!(reaches(client, node) && reaches(director, node));
    let inside = director.v4_on(Network::Interconnect).to_string();
    for direction in [Direction::From, Direction::To, Direction::Both] {
        let seen = node.capture("icmp[icmptype] = icmp-echo")?;
        let fault = node.silence(PUBLIC, direction)?;
        assert!(is_cut(client, node) && has_carrier(node), "{direction:?}");
        node.run(&["ping", "-c1", "-W1", &inside])?;
        fault.end()?;
        // What comes in comes in, although nobody hears of it.
        let seen = seen.stop()?.len();
        assert_eq!(seen, usize::from(direction == Direction::From), "{direction:?}");
        assert!(reaches(client, node), "{direction:?}");
    }
    Ok(())
}

#[test]
fn two_members_that_are_parted_reach_everybody_but_each_other() -> Result<()> {
    require();
    let cluster = Cluster::builder("part").nodes(2).build()?;
    let (client, one, two) = (cluster.client(), cluster.node(1), cluster.node(2));
    assert!(reaches(one, two) && reaches(two, one));
    let fault = one.part_from(two, PUBLIC, Direction::Both)?;
    assert!(is_cut(one, two) && is_cut(two, one));
    assert!(reaches(client, one) && reaches(client, two) && reaches(one, client));
    fault.end()?;
    assert!(reaches(one, two));
    // One way only: the request arrives, the answer does not.
    let seen = two.capture("icmp[icmptype] = icmp-echo")?;
    let fault = one.part_from(two, PUBLIC, Direction::To)?;
    assert!(is_cut(one, two));
    assert_eq!(seen.stop()?.len(), 1);
    drop(fault);
    assert!(reaches(one, two));
    Ok(())
}

#[test]
fn several_faults_of_one_member_end_one_by_one() -> Result<()> {
    require();
    let cluster = Cluster::builder("several").nodes(2).build()?;
    let (client, one, two) = (cluster.client(), cluster.node(1), cluster.node(2));
    let parted = one.part_from(two, PUBLIC, Direction::Both)?;
    let silent = one.silence(PUBLIC, Direction::Both)?;
    let both = Fault::all([parted, client.silence(PUBLIC, Direction::To)?]);
    assert!(is_cut(client, one) && is_cut(one, two));
    silent.end()?;
    assert!(is_cut(client, one) && is_cut(one, two));
    both.end()?;
    assert!(reaches(client, one) && reaches(one, two));
    Ok(())
}

#[test]
fn a_bad_line_delays_and_loses_as_told() -> Result<()> {
    require();
    let cluster = Cluster::builder("bad").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    assert!(reaches(client, node));
    let slow = Impairment { delay: Duration::from_millis(100), ..Impairment::default() };
    let fault = node.impair(PUBLIC, Direction::Both, slow)?;
    let start = Instant::now();
    node.run(&["ping", "-c1", "-W5", &client.v4().to_string()])?;
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert!(node.impair(PUBLIC, Direction::To, slow).is_err(), "one for each direction");
    fault.end()?;

    let lossy = Impairment { loss_percent: 50.0, ..Impairment::default() };
    let fault = node.impair(PUBLIC, Direction::To, lossy)?;
    let seen = node.capture("icmp[icmptype] = icmp-echo")?;
    // 200 of them: none or all arrive once in 10^60 runs.
    let line = ["ping", "-c200", "-i0.002", "-W1", "-q", &node.v4().to_string()].map(str::to_owned);
    let _ = client.run(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let seen = seen.stop()?.len();
    assert!((20..180).contains(&seen), "{seen} of 200");
    drop(fault);
    assert!(reaches(client, node));

    // Out of order: a packet in four takes no time.
    let mixed = Impairment {
        delay: Duration::from_millis(20),
        reorder_percent: 25.0,
        ..Impairment::default()
    };
    let _fault = node.impair(PUBLIC, Direction::To, mixed)?;
    let seen = node.capture("icmp[icmptype] = icmp-echo")?;
    client.run(&["ping", "-c50", "-i0.002", "-W2", "-q", &node.v4().to_string()])?;
    let numbers: Vec<u32> = seen.stop()?.iter().filter_map(|line| sequence(line)).collect();
    assert_eq!(numbers.len(), 50);
    assert!(!numbers.is_sorted(), "{numbers:?}");
    Ok(())
}

/// The number of a ping in tcpdump's line: `ICMP echo request, id 7, seq 3, length 64`.
fn sequence(line: &str) -> Option<u32> {
    line.split(", seq ").nth(1)?.split(',').next()?.parse().ok()
}

#[test]
fn a_frozen_member_does_nothing_though_its_kernel_answers() -> Result<()> {
    require();
    let cluster = Cluster::builder("freeze").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    let counter = "while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let path = std::env::temp_dir().join("cvip-lab-freeze");
    let mut command = node.command("sh");
    command.args(["-c", counter]).stdout(std::fs::File::create(&path)?).stdin(Stdio::null());
    let _counter = Process::spawn_group(command)?;
    let count = || std::fs::metadata(&path).map(|meta| meta.len()).unwrap_or(0);
    wait_until(SOON, || (count() > 0).then_some(())).expect("it counts");
    let fault = node.freeze()?;
    let frozen = count();
    assert!(reaches(client, node));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), frozen);
    fault.end()?;
    wait_until(SOON, || (count() > frozen).then_some(())).expect("it goes on");
    Ok(())
}

#[test]
fn a_machine_without_power_says_no_goodbye() -> Result<()> {
    require();
    let cluster = Cluster::builder("power").nodes(1).interconnect(true).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    let mut server = node.spawn(&["nc", "-lk", "-p", "7000"])?;
    let mut deep = node.spawn(&["sh", "-c", "sleep 1000 & wait"])?;
    let address = node.v4().to_string();
    let listens = || {
        let sockets = node.stdout(&["ss", "-Htln"]).unwrap_or_default();
        sockets.contains(":7000").then_some(())
    };
    wait_until(SOON, listens).expect("the server listens");
    let mut connection = client.command("nc");
    connection.args([&address, "7000"]).stdin(Stdio::piped());
    let mut connection = connection.spawn()?;
    let established = || {
        let sockets = client.stdout(&["ss", "-Htn", "state", "established"]).unwrap_or_default();
        (!sockets.is_empty()).then_some(())
    };
    wait_until(SOON, established).expect("the connection stands");
    let capture = client.capture("tcp[tcpflags] & (tcp-fin|tcp-rst) != 0")?;
    node.power_off()?;
    assert!(!server.is_running() && !deep.is_running());
    let goodbyes = capture.stop()?;
    assert!(goodbyes.is_empty(), "{goodbyes:#?}");
    assert!(established().is_some());
    connection.kill()?;
    connection.wait()?;
    Ok(())
}

#[test]
fn a_machine_that_is_switched_on_again_is_as_it_was_when_it_was_new() -> Result<()> {
    require();
    let cluster = Cluster::builder("again").nodes(1).interconnect(true).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    let state = || -> Result<String> {
        let mut all = String::new();
        for command in [
            &["ip", "-br", "addr"][..],
            &["ip", "route", "show", "table", "all"],
            &["ipvsadm", "-Sn"],
            &["sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.arp_ignore"],
        ] {
            all += &node.stdout(command)?;
        }
        // The number of a device's other end is another one each time.
        let words = all.split_whitespace().map(|word| word.split("@if").next().unwrap_or(word));
        Ok(words.collect::<Vec<_>>().join(" "))
    };
    let new = state()?;
    let vip = cluster.vip4(1);
    node.run(&["ip", "addr", "add", &format!("{vip}/32"), "dev", "lo"])?;
    node.sysctl("net.ipv4.ip_forward", "1")?;
    node.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    node.run(&["ipvsadm", "-A", "-t", &format!("{vip}:80"), "-s", "rr"])?;
    node.run(&["ip", "route", "add", "default", "via", &client.v4().to_string()])?;
    let silent = node.silence(PUBLIC, Direction::Both)?;
    assert_ne!(state()?, new);
    for _ in 0..2 {
        node.power_off()?;
        assert!(is_cut(client, node));
        node.power_on()?;
        let settled = wait_until(SOON, || (state().ok()? == new).then_some(()));
        assert!(settled.is_some(), "{}\nwas\n{new}", state()?);
        assert!(reaches(client, node));
        node.run(&[
            "ping",
            "-c1",
            "-W2",
            &cluster.director().v6_on(Network::Interconnect).to_string(),
        ])?;
    }
    drop(silent);
    assert!(reaches(client, node));
    // Its processes are the new machine's.
    let address = node.v4();
    let listener = node.enter(move || std::net::TcpListener::bind((address, 80)))?;
    client.run(&["nc", "-z", "-w2", &address.to_string(), "80"])?;
    drop(listener);
    Ok(())
}
