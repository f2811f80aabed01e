//! Whether the real cluster is as the world asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Result;
use cvip::cores::service_key;
use cvip::ipvs::{Client, DaemonRole, Destination, Forwarding, Service, service_flags};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;
use cvip_simulation::cluster::conf::STATIC;
use cvip_simulation::expected::{ExpectedService, ExpectedTable};
use serde_json::Value;

use super::cluster::RealCluster;
use cvip_simulation::real::world::{NODES, World};

/// A client is answered within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A kernel's table: cvipd's services, and those of other programs.
#[derive(Debug)]
struct Found {
    own: ExpectedTable,
    foreign: BTreeMap<ServiceKey, (Service, Vec<Destination>)>,
    /// Connections are received as a backup, and the table is not used for a node's own packets.
    is_backup: bool,
}

/// What is not as it should be; none: all is.
pub(crate) fn fault(cluster: &mut RealCluster) -> Result<Option<String>> {
    let active = match carrier(cluster) {
        Ok(active) => active,
        Err(what) => return Ok(Some(what)),
    };
    for node in NODES {
        let found = found(cluster, node)?;
        let (world, host) = (&cluster.world, cluster.host(node));
        if let Some(what) = table_fault(world, node, active, &found) {
            return Ok(Some(format!("node {node}: {what}")));
        }
        let cvips = world.addresses.cvips;
        if node != active && !cvips.iter().all(|cvip| host.has_on("lo", *cvip)) {
            return Ok(Some(format!("node {node}: has not every CVIP on lo")));
        }
    }
    let asking = ask_neighbours(cluster)?;
    let fault = served_fault(cluster).or_else(|| status_fault(cluster, active));
    let answers = asking.wait_with_output()?;
    Ok(fault.or_else(|| answers_fault(cluster, active, &answers.stdout)))
}

/// The one node that carries all CVIPs, which is a director.
fn carrier(cluster: &RealCluster) -> Result<u32, String> {
    let cvips = cluster.world.addresses.cvips;
    let carries = |cvip: IpAddr| -> Vec<u32> {
        NODES.filter(|node| cluster.host(*node).has_on("eth0", cvip)).collect()
    };
    let carriers = cvips.map(carries);
    let [[v4], [v6]] = [&carriers[0][..], &carriers[1][..]] else {
        return Err(format!("the CVIPs are carried by {carriers:?}, not by one director each"));
    };
    let directors = &cluster.world.conf().cvips[0].directors;
    match v4 == v6 && directors.iter().any(|director| director.node == *v4) {
        true => Ok(*v4),
        false => Err(format!("the CVIPs are carried by nodes {v4} and {v6}, not by one director")),
    }
}

fn found(cluster: &mut RealCluster, node: u32) -> Result<Found> {
    let foreign_keys = cluster.world.machines[&node].foreign.clone();
    let backup_only = cluster.host(node).setting("net.ipv4.vs.backup_only") == "1";
    let table = cluster.table(node)?;
    let receives = table.daemons()?.iter().any(|daemon| daemon.role == DaemonRole::Backup);
    let is_backup = receives && backup_only;
    let mut found = Found { own: ExpectedTable::new(), foreign: BTreeMap::new(), is_backup };
    for service in services(table)? {
        let key = service_key(service.0.id);
        match key.filter(|key| !foreign_keys.contains(key)) {
            Some(key) => drop(found.own.insert(key, as_expected(&service))),
            None => drop(key.map(|key| found.foreign.insert(key, service))),
        }
    }
    Ok(found)
}

fn services(table: &mut Client) -> Result<Vec<(Service, Vec<Destination>)>> {
    let mut all = Vec::new();
    for entry in table.services()? {
        let to = table.destinations(&entry.service.id)?;
        all.push((entry.service, to.into_iter().map(|entry| entry.destination).collect()));
    }
    Ok(all)
}

fn as_expected((service, to): &(Service, Vec<Destination>)) -> ExpectedService {
    let is_persistent = service.flags & service_flags::PERSISTENT != 0;
    ExpectedService {
        scheduler: service.scheduler.clone(),
        persistence: is_persistent.then_some(service.timeout),
        // One that is forwarded in another way is missing.
        pool: to.iter().filter(|to| is_direct(to)).map(|to| (to.id.addr, to.weight)).collect(),
    }
}

/// Packets reach it by direct routing, or without any where it is the director itself.
fn is_direct(to: &Destination) -> bool {
    matches!(to.forward, Forwarding::Route | Forwarding::LocalNode)
}

/// What is wrong with a node's table. Pure.
fn table_fault(world: &World, node: u32, active: u32, found: &Found) -> Option<String> {
    let foreign = world.machines[&node].foreign.iter();
    let foreign: BTreeMap<_, _> = foreign
        .map(|key| {
            let (service, to) = world.foreign(*key);
            (*key, (service, vec![to]))
        })
        .collect();
    if found.foreign != foreign {
        let found = &found.foreign;
        return Some(format!("foreign services were changed: {found:?}, not {foreign:?}"));
    }
    let is_standby = world.conf().cvips[0].directors.iter().any(|d| d.node == node);
    // A standby has the table of the active director, which its kernel does not use.
    if node != active && (found.own.is_empty() || !is_standby || !found.is_backup) {
        return (!found.own.is_empty())
            .then(|| format!("is no active director and has services: {}", listed(&found.own)));
    }
    let expected = world.expected();
    let mut own = found.own.clone();
    // An empty service may stand: it refuses, as no service does.
    own.retain(|key, service| expected.contains_key(key) || !service.pool.is_empty());
    (own != expected)
        .then(|| format!("the table has\n{}and should have\n{}", listed(&own), listed(&expected)))
}

/// A table as text, a line for each service.
fn listed(table: &ExpectedTable) -> String {
    let line = |(key, service): (&ServiceKey, &ExpectedService)| {
        let to = service.pool.iter().map(|(addr, weight)| format!("{addr}={weight}"));
        let to = to.collect::<Vec<_>>().join(" ");
        format!("  {key} {} {:?}: {to}\n", service.scheduler, service.persistence)
    };
    table.iter().map(line).collect()
}

/// What `cvipctl status --json` says otherwise on the active director.
fn status_fault(cluster: &RealCluster, active: u32) -> Option<String> {
    let directors = cluster.world.conf().cvips[0].directors.iter().map(|director| director.node);
    for node in directors {
        let number = node.to_string();
        let text = match cluster.ask(node, &["cvipctl", "status", "--json", "--node", &number]) {
            Ok(text) => text,
            Err(error) => return Some(format!("node {node}: no status: {error:#}")),
        };
        let status: Value = match serde_json::from_str(&text) {
            Ok(status) => status,
            Err(error) => return Some(format!("node {node}: the status is no JSON: {error}")),
        };
        if let Some(what) = wrong_status(&cluster.world, &status, active) {
            return Some(format!("node {node}: status: {what}"));
        }
    }
    None
}

/// What a status says otherwise than the world. Pure.
fn wrong_status(world: &World, status: &Value, active: u32) -> Option<String> {
    for set in status["director_sets"].as_array().into_iter().flatten() {
        // One director is not elected.
        let is_alone = set["directors"].as_array().is_some_and(|all| all.len() < 2);
        if !is_alone && set["active"].as_u64() != Some(active.into()) {
            return Some(format!("the active director is {}, not {active}", set["active"]));
        }
    }
    for node in status["nodes"].as_array().into_iter().flatten() {
        if node["alive"] != true || node["liveness"].as_str().is_some_and(|l| l != "alive") {
            return Some(format!("a node is not alive: {node}"));
        }
    }
    let drained = status["drains"].as_array().into_iter().flatten();
    let drained: BTreeSet<u64> = drained.filter_map(|drain| drain["node"].as_u64()).collect();
    let wanted: BTreeSet<u64> = world.drained.iter().map(|node| u64::from(*node)).collect();
    if drained != wanted {
        return Some(format!("drained are {drained:?}, not {wanted:?}"));
    }
    let listed = status["registrations"].as_array().into_iter().flatten();
    let registered = listed.filter_map(|row| {
        let cvip: IpAddr = row["cvip"].as_str()?.parse().ok()?;
        let port = u16::try_from(row["port"].as_u64()?).ok()?;
        Some((row["node"].as_u64()?, cvip, row["protocol"].as_str()?.to_owned(), port))
    });
    let registered: BTreeSet<_> = registered.collect();
    let conf = &world.conf().cvips[0];
    let flagged = |node: u32, protocol: Protocol, port: u16| {
        world.flags_of(&world.machines[&node]).contains_key(&(protocol, port))
            || conf.services.iter().any(|service| service.covers(protocol, port))
    };
    let mut expected = BTreeSet::new();
    for (node, machine) in &world.machines {
        for (protocol, port, ipv6) in &machine.sockets {
            if flagged(*node, *protocol, *port) {
                let cvip = world.addresses.cvips[usize::from(*ipv6)];
                expected.insert((u64::from(*node), cvip, protocol.to_string(), *port));
            }
        }
    }
    (registered != expected).then(|| {
        let only =
            |a: &BTreeSet<_>, b: &BTreeSet<_>| format!("{:?}", a.difference(b).collect::<Vec<_>>());
        let (more, fewer) = (only(&registered, &expected), only(&expected, &registered));
        format!("registrations that should not be: {more}, that are missing: {fewer}")
    })
}

/// Lets the client ask who has the IPv4 CVIP: until two answers, or for a second.
fn ask_neighbours(cluster: &RealCluster) -> Result<Child> {
    let cvip = cluster.world.addresses.cvips[0].to_string();
    let mut arping = cluster.client().command("arping");
    arping.args(["-I", "eth0", "-c2", "-w1", &cvip]);
    Ok(arping.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

/// Another host than the active director answers neighbours for the IPv4 CVIP, or none does.
fn answers_fault(cluster: &RealCluster, active: u32, stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout).to_lowercase();
    let replies = text.lines().filter_map(|line| line.split_once('[')?.1.split_once(']'));
    let macs: BTreeSet<&str> = replies.map(|(mac, _)| mac).collect();
    let own = cluster.host(active).mac();
    (macs != BTreeSet::from([own.as_str()]))
        .then(|| format!("{macs:?} answer for the CVIP, not node {active}'s {own} alone"))
}

/// A service with a real server of a weight that serves no client.
fn served_fault(cluster: &RealCluster) -> Option<String> {
    for (key, service) in cluster.world.expected() {
        let pool = service.pool.iter().filter(|(_, weight)| **weight > 0);
        let node_of = |addr: &IpAddr| {
            let nodes = cluster.world.addresses.nodes.iter();
            nodes.into_iter().find(|(_, addrs)| addrs.contains(addr)).map(|(node, _)| *node)
        };
        let nodes: BTreeSet<u32> = pool.filter_map(|(addr, _)| node_of(addr)).collect();
        // No process listens on the static service's port.
        if key.protocol != Protocol::Tcp || nodes.is_empty() || key.port == STATIC.1 {
            continue;
        }
        let addr = SocketAddr::new(key.cvip, key.port);
        let answer = cluster.client().enter(|| ask(addr));
        match answer {
            Ok(node) if nodes.contains(&node) => {}
            Ok(node) => {
                return Some(format!("{key}: node {node} serves, and not one of {nodes:?}"));
            }
            Err(error) => return Some(format!("{key}: no client is served: {error}")),
        }
    }
    None
}

/// Which node serves a client.
fn ask(addr: SocketAddr) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.trim().parse().map_err(std::io::Error::other)
}
