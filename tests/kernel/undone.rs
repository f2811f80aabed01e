//! What cvipd sets on a machine (addresses, settings) is put back when somebody changes it, and
//! goes again when nothing needs it any more; what the administrator had set is left alone, and
//! stays.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use cvip::net;
use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Host, Plan};

use super::support::{Server, Site, connect};

/// Where settings are that cvipd could have a reason to change, below `/proc/sys/net`. Interfaces
/// of tunnels come with a kernel module, whoever has it loaded.
const SETTINGS: [&str; 10] = [
    "ipv4/conf/all",
    "ipv4/conf/default",
    "ipv4/conf/eth0",
    "ipv4/conf/lo",
    "ipv4/ip_forward",
    "ipv4/vs",
    "ipv6/conf/all",
    "ipv6/conf/default",
    "ipv6/conf/eth0",
    "ipv6/conf/lo",
];

/// A machine's addresses with their interfaces, and its settings.
pub(crate) fn kernel_of(host: &Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in host.stdout(&["ip", "-br", "addr"]).unwrap().lines() {
        let mut words = line.split_whitespace();
        let device = words.next().unwrap();
        let addresses = words.filter(|word| word.contains('/'));
        found.extend(addresses.map(|addr| format!("{addr} on {device}")));
    }
    host.enter(|| {
        for place in SETTINGS {
            let path = Path::new("/proc/sys/net").join(place);
            let files = match path.is_dir() {
                true => fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect(),
                false => vec![path],
            };
            for file in files {
                // Some cannot be read as long as nobody has set them.
                if let Ok(value) = fs::read_to_string(&file) {
                    found.insert(format!("{} = {}", file.display(), value.trim()));
                }
            }
        }
    });
    found
}

/// The same, and its local routes.
fn with_routes(host: &Host) -> BTreeSet<String> {
    let mut found = kernel_of(host);
    for family in ["-4", "-6"] {
        let routes = host.stdout(&["ip", family, "route", "show", "table", "local"]).unwrap();
        let local = routes.lines().filter(|line| line.starts_with("local"));
        found.extend(local.map(|line| line.trim().to_owned()));
    }
    found
}

/// Waits until a machine's kernel is as it was.
#[track_caller]
pub(crate) fn await_kernel(site: &Site, number: u32, wanted: &BTreeSet<String>) {
    await_read(site, number, wanted, kernel_of);
}

#[track_caller]
fn await_read(
    site: &Site,
    number: u32,
    wanted: &BTreeSet<String>,
    read: impl Fn(&Host) -> BTreeSet<String>,
) {
    let mut now = BTreeSet::new();
    let came = cvip_lab::wait_until(cvip_lab::PATIENCE, || {
        now = read(site.host(number));
        (now == *wanted).then_some(())
    });
    let more: Vec<_> = now.difference(wanted).collect();
    let less: Vec<_> = wanted.difference(&now).collect();
    assert!(came.is_some(), "node {number} has {more:#?}, and lacks {less:#?}");
}

#[test]
fn what_a_routing_method_needs_goes_with_it_and_what_the_administrator_had_set_stays() {
    let plan = |routing| Plan { routing, ipv4: true, ipv6: true, services: "" };
    let mut site = Site::stopped(2, &plan("DR"));
    let (own, director) = (site.cluster.director(), site.director());
    // One node is set up by hand, in a way of its own that does as well, and so is half of what
    // a NAT director needs.
    let by_hand = site.host(1);
    by_hand.line(&format!("ip addr add {}/24 dev lo", site.cvip(false)));
    by_hand.line(&format!("ip addr add {}/64 dev lo nodad", site.cvip(true)));
    by_hand.sysctl("net.ipv4.conf.all.arp_ignore", "2").unwrap();
    own.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let before = [1, 2].map(|number| kernel_of(site.host(number)));

    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    let await_both = |site: &Site| {
        for id in [site.v4(Tcp, 8080), site.v6(Tcp, 8080)] {
            site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        }
    };
    await_both(&site);
    let by_dr = [1, 2, director].map(|number| kernel_of(site.host(number)));
    let added: Vec<_> = by_dr[0].difference(&before[0]).collect();
    assert_eq!(added, ["/proc/sys/net/ipv4/conf/all/arp_announce = 2"]);
    let added = by_dr[1].difference(&before[1]).cloned().collect::<BTreeSet<String>>();
    let (v4, v6) = (site.cvip(false), site.cvip(true));
    let ours = [
        format!("{v4}/32 on lo"),
        format!("{v6}/128 on lo"),
        "/proc/sys/net/ipv4/conf/all/arp_announce = 2".to_owned(),
        "/proc/sys/net/ipv4/conf/all/arp_ignore = 1".to_owned(),
    ];
    assert_eq!(added, ours.into());

    // Nodes behind NAT need nothing.
    site.write_conf(&plan("NAT")).unwrap();
    site.reload_everywhere();
    await_kernel(&site, 1, &before[0]);
    await_kernel(&site, 2, &before[1]);
    let carries = |site: &Site, addr: String| {
        kernel_of(site.cluster.director()).iter().any(|line| line.starts_with(&addr)).then_some(())
    };
    for ipv6 in [false, true] {
        let addr = format!("{}/", site.gateway(ipv6));
        site.until("the director carries the gateway", |site| carries(site, addr.clone()));
    }
    await_both(&site);

    // By tunnel, and back to where it began.
    for routing in ["TUN", "DR"] {
        site.write_conf(&plan(routing)).unwrap();
        site.reload_everywhere();
        await_both(&site);
    }
    for (number, kernel) in [1, 2, director].into_iter().zip(&by_dr) {
        await_kernel(&site, number, kernel);
    }
}

/// What somebody may do to a node, until it is as it was again; the wait before this was fixed
/// was a minute at most.
#[track_caller]
fn assert_repaired(site: &Site, number: u32, lines: &[&str]) {
    const AT_MOST: Duration = Duration::from_secs(10);
    let host = site.host(number);
    let before = with_routes(host);
    let start = Instant::now();
    lines.iter().for_each(|line| drop(host.line(line)));
    await_read(site, number, &before, with_routes);
    let took = start.elapsed();
    println!("node {number}, {lines:?}: {took:?}");
    assert!(took < AT_MOST, "node {number}, {lines:?}: {took:?}");
}

#[test]
fn what_somebody_changes_is_repaired_at_once_and_an_event() {
    let site = Site::start(2, &Plan { ipv6: true, ..Plan::default() });
    let (v4, v6, director) = (site.cvip(false), site.cvip(true), site.director());
    site.until("the director carries both", |site| {
        let kernel = kernel_of(site.host(director));
        let has =
            |addr: std::net::IpAddr| kernel.iter().any(|l| l.starts_with(&format!("{addr}/")));
        (has(v4) && has(v6)).then_some(())
    });
    assert_repaired(&site, 1, &[&format!("ip addr del {v4}/32 dev lo")]);
    assert_repaired(&site, 1, &[&format!("ip addr del {v6}/128 dev lo")]);
    assert_repaired(&site, 1, &["ip link set lo down", "ip link set lo up"]);
    assert_repaired(&site, 2, &["sysctl -qw net.ipv4.conf.all.arp_ignore=0"]);
    assert_repaired(&site, director, &["sysctl -qw net.ipv4.vs.expire_nodest_conn=0"]);
    let own = site.host(director).v4();
    let back = format!("ip addr add {own}/24 dev eth0");
    assert_repaired(&site, director, &["ip -4 addr flush dev eth0", &back]);
    assert_repaired(&site, director, &[&format!("ip addr del {v6}/128 dev eth0")]);
    for (number, addr, device) in [(2, v4, "lo"), (2, v6, "lo"), (director, v4, "eth0")] {
        let delete = format!("ip route del local {addr} dev {device} table local");
        assert_repaired(&site, number, &[&delete]);
    }

    for (number, what) in [
        (1, format!("added {v4}/32 to lo")),
        (1, format!("added {v6}/128 to lo")),
        (2, "set net.ipv4.conf.all.arp_ignore to 1 (was 0)".to_owned()),
        (director, "set net.ipv4.vs.expire_nodest_conn to 1 (was 0)".to_owned()),
        (director, format!("added {v4}/32 to eth0")),
        (2, format!("made the local route to {v4} on lo again")),
        (2, format!("made the local route to {v6} on lo again")),
        (director, format!("made the local route to {v4} on eth0 again")),
    ] {
        site.until(&format!("an event of node {number}: {what}"), |site| {
            let events = site.direct("cvipctl events");
            let is_it =
                |line: &str| line.contains(&format!("node {number}")) && line.contains(&what);
            events.lines().any(is_it).then_some(())
        });
    }
}

/// The Ethernet address that a host knows of a neighbour.
fn neighbour(host: &Host, addr: IpAddr) -> Option<String> {
    let shown = host.stdout(&["ip", "neigh", "show", &addr.to_string()]).unwrap();
    let (_, rest) = shown.split_once("lladdr ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[test]
fn another_host_that_claims_the_cvip_is_told_of_and_does_not_keep_the_clients() {
    let site = Site::start(1, &Plan { ipv6: true, ..Plan::default() });
    let (client, intruder, director) = (site.cluster.client(), site.host(1), site.director());
    let (ours, theirs) = (site.host(director).mac(), intruder.mac());
    for addr in [site.cvip(false), site.cvip(true)] {
        site.until("a client knows where the CVIP is", |_| {
            // Refused, but asked for by ARP or neighbour discovery.
            let _ = connect(client, (addr, 9).into());
            (neighbour(client, addr)? == ours).then_some(())
        });
        let prefix = net::host_prefix(addr);
        intruder.line(&format!("ip addr add {addr}/{prefix} dev eth0"));
        for _ in 0..3 {
            intruder.enter(|| net::announce("eth0", addr)).unwrap();
        }
        let claims = format!("address conflict: another host, {theirs}, claims {addr}");
        let conflict = |site: &Site| {
            let events = site.direct("cvipctl events");
            let status = site.direct("cvipctl status --json");
            (events.contains(&claims) && status.contains(&claims)).then_some(())
        };
        site.until("the conflict is told of", conflict);
        intruder.line(&format!("ip addr del {addr}/{prefix} dev eth0"));
        let start = Instant::now();
        site.until("the client is back", |_| (neighbour(client, addr)? == ours).then_some(()));
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    }
}
