//! A long random history of listeners that come and go ends in the table that a fresh dump
//! predicts, with socket events and without.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cvip::ipvs::ServiceId;
use cvip::listeners::{Dumper, Ranges};
use cvip::protocol::Protocol;
use cvip_lab::{Dice, Plan, seed};

use super::support::{PATIENCE, Site, With, bind_udp, listen, raw, start_listening};

const NODES: u32 = 3;
const FIRST: u16 = 8000;
const PORTS: u64 = 6;
const STEPS: usize = 60;

/// A socket by what it takes: IPv4, IPv6, or both; UDP. Its closing is its drop.
type Held = BTreeMap<(u32, u16, u64), Box<dyn Send>>;

/// Opens a socket on a node; none if another one is in its way.
fn open(site: &Site, node: u32, port: u16, kind: u64) -> Option<Box<dyn Send>> {
    let host = site.host(node);
    Some(match kind {
        0 => Box::new(listen(host, format!("0.0.0.0:{port}"))),
        1 => Box::new(listen(host, format!("[::]:{port}"))),
        2 => {
            let socket = raw(host, format!("[::]:{port}"), With::V6Only);
            start_listening(&socket, 8).unwrap();
            Box::new(socket)
        }
        3 => Box::new(bind_udp(host, format!("0.0.0.0:{port}"))),
        // On loopback: never joins.
        _ => Box::new(listen(host, format!("127.0.0.2:{port}"))),
    })
}

/// Kinds that cannot stand on one port of a node beside each other.
fn in_the_way(kind: u64, other: u64) -> bool {
    let udp = |kind| kind == 3;
    if udp(kind) || udp(other) {
        return kind == other;
    }
    let six_only = |kind| kind == 2;
    // An IPv6-only wildcard leaves IPv4 alone; everything else overlaps.
    !(six_only(kind) ^ six_only(other)) || [kind, other].contains(&1)
}

/// The services that a dump of each node's sockets asks for: wildcards only, IPv4 by both
/// families unless IPv6-only.
fn predicted(site: &Site) -> BTreeMap<ServiceId, Vec<(u32, u32)>> {
    let last = FIRST + PORTS as u16 - 1;
    let ranges: Ranges =
        [(Protocol::Tcp, FIRST, last), (Protocol::Udp, FIRST, last)].into_iter().collect();
    let mut services: BTreeMap<ServiceId, BTreeSet<u32>> = BTreeMap::new();
    for node in 1..=NODES {
        let seen = site.host(node).enter(|| Dumper::open().unwrap().snapshot(&ranges).unwrap());
        for listener in seen.iter().filter(|listener| listener.addr.is_unspecified()) {
            let (protocol, port) = (listener.protocol, listener.port);
            let is_v6 = matches!(listener.addr, IpAddr::V6(_));
            let mut add = |id| services.entry(id).or_default().extend([node]);
            if is_v6 {
                add(site.v6(protocol, port));
            }
            if !is_v6 || !listener.v6only {
                add(site.v4(protocol, port));
            }
        }
    }
    let pool = |nodes: BTreeSet<u32>| nodes.into_iter().map(|node| (node, 1)).collect();
    services.into_iter().map(|(id, nodes)| (id, pool(nodes))).collect()
}

/// `deaths`: now and then a cvipd is killed, and comes back some steps later.
fn history(options: &[&str], deaths: bool) {
    let seed = seed();
    println!("CVIP_TEST_SEED={seed}");
    let mut random = Dice::new(seed);
    let mut site = Site::start_with(NODES as u8, &Plan { ipv6: true, ..Plan::default() }, options);
    let last = FIRST + PORTS as u16 - 1;
    for protocol in ["tcp", "udp"] {
        site.direct(&format!(
            "setport_weight --start-port={FIRST} --end-port={last} --weight=1 \
             --protocol={protocol} --cluster"
        ));
    }
    let mut held = Held::new();
    let mut steps = 0;
    let mut dead = BTreeSet::new();
    while steps < STEPS {
        if deaths && random.below(10) == 0 {
            // Of all nodes, the director too.
            let node = 1 + random.below(u64::from(NODES) + 1) as u32;
            if dead.remove(&node) {
                site.start(node, options).unwrap();
            } else {
                site.kill_daemon(node);
                dead.insert(node);
            }
        }
        let node = 1 + random.below(NODES.into()) as u32;
        let port = FIRST + random.below(PORTS) as u16;
        let kind = random.below(5);
        if held.remove(&(node, port, kind)).is_some() {
            steps += 1;
            continue;
        }
        let blocked = held.keys().any(|(n, p, k)| (*n, *p) == (node, port) && in_the_way(kind, *k));
        if !blocked && let Some(socket) = open(&site, node, port, kind) {
            held.insert((node, port, kind), socket);
            steps += 1;
        }
    }
    site.start_on(&dead.into_iter().collect::<Vec<_>>(), options);
    let wanted = predicted(&site);
    // The model agrees with the dump: a test that predicts nothing would prove nothing.
    let joined = held.keys().filter(|(_, _, kind)| *kind < 4).count();
    assert_eq!(wanted.is_empty(), joined == 0);
    let mut last = BTreeMap::new();
    let came = cvip_lab::wait_until(PATIENCE, || {
        last = site.pools().into_iter().map(|(id, pool)| (id, pool.unwrap_or_default())).collect();
        (last == wanted).then_some(())
    });
    assert!(came.is_some(), "CVIP_TEST_SEED={seed}: {last:#?}, not {wanted:#?}");
    held.clear();
    site.until("everything has left", |site| site.pools().is_empty().then_some(()));
}

#[test]
fn a_random_history_ends_in_the_table_that_a_fresh_dump_predicts() {
    history(&[], false);
}

#[test]
fn by_polling_a_random_history_ends_in_the_table_that_a_fresh_dump_predicts() {
    history(&["--poll"], false);
}

#[test]
fn a_random_history_in_which_cvipds_die_and_return_ends_the_same() {
    history(&[], true);
}
