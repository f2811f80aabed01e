//! Pools as services of cvip.conf, one for each address and range of ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::check;
use crate::conf::{Quorum, RegistrationMode, Routing, ServiceConf, SorryServer, unusable};
use crate::migrate::ledger::{Ledger, StatementId};
use crate::migrate::pool::{PoolServer, PoolTarget, ServerPool, Stated};
use crate::migrate::values::prefix;
use crate::protocol::Protocol;

/// The most destinations and sorry servers of all services. A cvip.conf of the largest size has
/// fewer.
const MOST_DESTINATIONS: usize = 65_536;

/// A service, and the weights of its servers by their addresses.
pub(super) struct ServiceDraft {
    /// The pool that it is made of, by its place.
    pub(super) pool: usize,
    pub(super) target: PoolTarget,
    pub(super) conf: ServiceConf,
    pub(super) weights: BTreeMap<IpAddr, u32>,
}

impl ServiceDraft {
    /// Notes that the service is not in the draft after all.
    pub(super) fn withdraw(&self, pools: &[ServerPool], ledger: &mut Ledger, why: &str) {
        withdraw(&pools[self.pool], &self.target, ledger, why);
    }
}

fn withdraw(pool: &ServerPool, target: &PoolTarget, ledger: &mut Ledger, why: &str) {
    ledger.withdraw([target.at], why);
    // A pool of several addresses stays with those that are left.
    if !pool.targets.iter().any(|other| ledger.is_in_the_draft(other.at)) {
        ledger.withdraw(pool.statements.iter().copied(), why);
    }
}

/// The services that cvip.conf can say of the pools.
pub(super) fn drafts(
    pools: &[ServerPool],
    routing: Routing,
    registration: RegistrationMode,
    ledger: &mut Ledger,
) -> Vec<ServiceDraft> {
    let cvips: BTreeSet<IpAddr> =
        pools.iter().flat_map(|pool| &pool.targets).map(|target| target.addr).collect();
    let mut taken: BTreeMap<(IpAddr, Protocol), Vec<PoolTarget>> = BTreeMap::new();
    let mut drafts = Vec::new();
    let mut left = MOST_DESTINATIONS;
    for (index, pool) in pools.iter().enumerate() {
        let cost = pool.targets.len() * (1 + pool.servers.len() + pool.sorry_servers.len());
        left = match left.checked_sub(cost) {
            Some(left) => left,
            None => {
                let why =
                    format!("the configuration has more than {MOST_DESTINATIONS} destinations");
                ledger.withdraw(pool.statements.iter().copied(), &why);
                ledger.withdraw(pool.targets.iter().map(|target| target.at), &why);
                continue;
            }
        };
        let targets: Vec<&PoolTarget> = pool
            .targets
            .iter()
            .filter(|target| {
                let why = refusal(pool, target, &taken, ledger);
                if let Some(why) = &why {
                    withdraw(pool, target, ledger, why);
                }
                why.is_none()
            })
            .collect();
        if targets.is_empty() {
            let why = "none of its addresses can be carried";
            ledger.withdraw(pool.statements.iter().copied(), why);
            continue;
        }
        let methods = || pool.servers.iter().map(|server| method(pool, server));
        if let Some(own) = methods().next()
            && methods().all(|own| own != routing)
        {
            let why = format!(
                "it is reached by {own}, and a cvip.conf has one method, here {routing}: make a \
                 file of its own with --routing={own}, or have it reached by {routing}"
            );
            ledger.withdraw(pool.statements.iter().copied(), &why);
            ledger.withdraw(targets.iter().map(|target| target.at), &why);
            continue;
        }
        let servers = servers(pool, &targets, routing, &cvips, ledger);
        if servers.is_empty() {
            let why = "none of its real servers can be carried, or it has none";
            ledger.withdraw(pool.statements.iter().copied(), why);
            ledger.withdraw(targets.iter().map(|target| target.at), why);
            continue;
        }
        let first = (targets[0].addr, targets[0].start);
        let common = settings(pool, first.0, &servers, registration, ledger);
        let sorry = sorry_servers(pool, &targets, routing, &cvips, &servers, ledger);
        for target in targets {
            taken.entry((target.addr, pool.protocol)).or_default().push(target.clone());
            let mut conf = common.clone();
            (conf.start, conf.end) = (target.start, target.end);
            conf.sorry_servers.clone_from(&sorry);
            drafts.push(ServiceDraft {
                pool: index,
                target: target.clone(),
                conf,
                weights: servers.iter().map(|server| (server.addr, server.weight)).collect(),
            });
        }
    }
    drafts
}

/// Takes away the sorry servers that are real servers of their CVIP, of another service or as its
/// directors.
pub(super) fn without_own_sorry_servers(
    services: &mut [ServiceDraft],
    pools: &[ServerPool],
    directors: &[Vec<IpAddr>],
    ledger: &mut Ledger,
) {
    let mut own: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in services.iter() {
        let own = own.entry(service.target.addr).or_default();
        own.extend(service.weights.keys().chain(directors.iter().flatten()));
    }
    for service in services {
        let own = &own[&service.target.addr];
        let pool = &pools[service.pool];
        for sorry in pool.sorry_servers.iter().filter(|sorry| own.contains(&sorry.addr)) {
            let why = format!(
                "{} is a real server or a director of this CVIP: name another machine",
                sorry.addr
            );
            ledger.withdraw(sorry.statements.iter().copied(), &why);
        }
        service.conf.sorry_servers.retain(|sorry| !own.contains(&sorry.addr));
    }
}

/// Why an address and its ports can be no service.
fn refusal(
    pool: &ServerPool,
    target: &PoolTarget,
    taken: &BTreeMap<(IpAddr, Protocol), Vec<PoolTarget>>,
    ledger: &Ledger,
) -> Option<String> {
    if let Some(why) = unusable(target.addr) {
        return Some(why);
    }
    if target.start == 0 {
        return Some(
            "it is for every port, and cvip.conf names ports: give a service for each \
                     range of them"
                .to_owned(),
        );
    }
    let meets = |other: &&PoolTarget| other.start <= target.end && target.start <= other.end;
    let other = taken.get(&(target.addr, pool.protocol))?.iter().find(meets)?;
    Some(format!("its address and port are those of line {} already", ledger.line(other.at)))
}

/// The real servers that can be carried.
fn servers<'p>(
    pool: &'p ServerPool,
    targets: &[&PoolTarget],
    routing: Routing,
    cvips: &BTreeSet<IpAddr>,
    ledger: &mut Ledger,
) -> Vec<&'p PoolServer> {
    let mut kept: Vec<&PoolServer> = Vec::new();
    for server in &pool.servers {
        let twice = kept.iter().any(|other| other.addr == server.addr);
        let reason = if twice {
            Some(format!(
                "{} is a server of this service already: a node serves a port once",
                server.addr
            ))
        } else if server.weight > u16::MAX.into() {
            Some(format!("its weight is above {}", u16::MAX))
        } else {
            unreachable_server(pool, server, targets, routing, cvips)
                .or_else(|| other_port(server, targets, routing))
        };
        if let Some(why) = reason {
            ledger.withdraw(server.statements.iter().copied(), &why);
            continue;
        }
        let (start, same) =
            (targets[0].start, targets.iter().all(|t| Some(t.start) == server.port));
        if let Some(port) = server.port.filter(|port| *port != 0 && !same) {
            ledger.changed(
                server.at,
                format!("{routing} changes no ports: packets reach it on {start}, not on {port}"),
            );
        }
        kept.push(server);
    }
    kept
}

/// How a server is reached.
fn method(pool: &ServerPool, server: &PoolServer) -> Routing {
    server.routing.as_ref().map_or(pool.routing, |own| own.value)
}

/// Why a server cannot be reached as the file's method would have it.
fn unreachable_server(
    pool: &ServerPool,
    server: &PoolServer,
    targets: &[&PoolTarget],
    routing: Routing,
    cvips: &BTreeSet<IpAddr>,
) -> Option<String> {
    let addr = server.addr;
    if let Some(why) = unusable(addr) {
        return Some(match addr.is_loopback() || addr.is_unspecified() {
            true => format!(
                "{addr} is the director itself: a director that serves is given its own address \
                 and a weight"
            ),
            false => why,
        });
    }
    if cvips.contains(&addr) {
        return Some(format!("{addr} is a virtual address of this configuration"));
    }
    let own = method(pool, server);
    if own != routing {
        return Some(format!(
            "it is reached by {own}, and a cvip.conf has one method, here {routing}"
        ));
    }
    let other_family = targets.iter().any(|target| target.addr.is_ipv4() != addr.is_ipv4());
    (other_family && routing != Routing::Tun).then(|| {
        format!("{addr} is of another address family than the service: only TUN mixes them")
    })
}

/// Why a server's port is none that cvip.conf can say.
fn other_port(server: &PoolServer, targets: &[&PoolTarget], routing: Routing) -> Option<String> {
    let port = server.port.filter(|port| *port != 0)?;
    let same = targets.iter().all(|target| target.start == port && target.end == port);
    (routing == Routing::Nat && !same).then(|| {
        format!(
            "its port {port} is another than the service's: a server of cvip.conf listens on the \
             service's own port"
        )
    })
}

/// What is common to the services of a pool.
fn settings(
    pool: &ServerPool,
    addr: IpAddr,
    servers: &[&PoolServer],
    registration: RegistrationMode,
    ledger: &mut Ledger,
) -> ServiceConf {
    let mut conf = ServiceConf::new(pool.protocol, 1, 1);
    conf.registration = registration;
    if let Some(scheduler) = &pool.scheduler {
        conf.scheduler.clone_from(scheduler);
    }
    conf.scheduler_flags = pool.scheduler_flags;
    if let Some(at) = pool.one_packet {
        conf.one_packet = pool.protocol == Protocol::Udp;
        if !conf.one_packet {
            let protocol = pool.protocol;
            ledger
                .not_carried(at, format!("one_packet is for UDP, and this service is {protocol}"));
        }
    }
    conf.persistence = pool.persistence;
    persistence(pool, addr, &mut conf, ledger);
    thresholds(servers, &mut conf, ledger);
    conf.quorum = quorum(pool, ledger);
    conf.check = check::common(pool, ledger);
    conf
}

fn persistence(pool: &ServerPool, addr: IpAddr, conf: &mut ServiceConf, ledger: &mut Ledger) {
    let lacks = "it means nothing without persistence";
    if let Some(netmask) = &pool.persistence_netmask {
        match prefix(&netmask.value, addr.is_ipv4()) {
            Err(why) => ledger.not_carried(netmask.at, why),
            Ok(None) => ledger.carried(netmask.at),
            Ok(Some(_)) if conf.persistence.is_none() => ledger.not_carried(netmask.at, lacks),
            Ok(bits) => {
                conf.persistence_netmask = bits;
                ledger.carried(netmask.at);
            }
        }
    }
    if let Some(engine) = &pool.persistence_engine {
        if conf.persistence.is_none() {
            ledger.not_carried(engine.at, lacks);
        } else if engine.value == "sip" && pool.protocol != Protocol::Udp {
            ledger.not_carried(engine.at, "the engine sip reads UDP only");
        } else {
            conf.persistence_engine = Some(engine.value.clone());
            ledger.carried(engine.at);
        }
    }
}

/// The quorum. Without one, any real server makes it.
fn quorum(pool: &ServerPool, ledger: &mut Ledger) -> Option<Quorum> {
    let weight = pool.quorum;
    let most = weight.unwrap_or(1).saturating_sub(1);
    let mut hysteresis = 0;
    if let Some(given) = &pool.hysteresis {
        hysteresis = given.value.min(most);
        if hysteresis < given.value {
            ledger.changed(given.at, format!("it is below the quorum, as in keepalived: {most}"));
        }
    }
    weight.map(|weight| Quorum { weight, hysteresis })
}

/// The thresholds, if all servers have the same ones.
fn thresholds(servers: &[&PoolServer], conf: &mut ServiceConf, ledger: &mut Ledger) {
    let value = |given: &Option<Stated<u32>>| given.as_ref().map_or(0, |given| given.value);
    let of = |server: &PoolServer| (value(&server.upper), value(&server.lower));
    let pairs: BTreeSet<(u32, u32)> = servers.iter().map(|server| of(server)).collect();
    let (upper, lower) = pairs.first().copied().unwrap_or_default();
    let refused = if pairs.len() > 1 {
        Some("thresholds are the service's in cvip.conf, and its servers have different ones")
    } else if lower > upper {
        Some("a lower threshold stands below an upper one")
    } else {
        None
    };
    match refused {
        Some(why) => {
            let given = servers.iter().flat_map(|server| [&server.upper, &server.lower]);
            let ids: Vec<StatementId> = given.flatten().map(|given| given.at).collect();
            ledger.withdraw(ids, why);
        }
        None => {
            conf.upper_threshold = (upper > 0).then_some(upper);
            conf.lower_threshold = (lower > 0).then_some(lower);
        }
    }
}

fn sorry_servers(
    pool: &ServerPool,
    targets: &[&PoolTarget],
    routing: Routing,
    cvips: &BTreeSet<IpAddr>,
    servers: &[&PoolServer],
    ledger: &mut Ledger,
) -> Vec<SorryServer> {
    let mut sorry = Vec::new();
    for server in &pool.sorry_servers {
        let addr = server.addr;
        let reason = if addr.is_loopback() || addr.is_unspecified() {
            Some("it is the director itself: name another machine as sorry server".to_owned())
        } else if servers.iter().any(|real| real.addr == addr) {
            Some(format!("{addr} is a real server of this service: name another machine"))
        } else {
            unreachable_server(pool, server, targets, routing, cvips)
        };
        if let Some(why) = reason {
            ledger.withdraw(server.statements.iter().copied(), &why);
            continue;
        }
        let other = server.port.filter(|port| {
            *port != 0 && !targets.iter().all(|t| t.start == *port && t.end == *port)
        });
        let maps = routing == Routing::Nat && targets.iter().all(|t| t.start == t.end);
        if let Some(port) = other.filter(|_| !maps) {
            let how = format!("it is reached on the service's ports, not on {port}");
            ledger.changed(server.at, how);
        }
        sorry.push(SorryServer { addr, port: other.filter(|_| maps), weight: 1 });
    }
    sorry
}
