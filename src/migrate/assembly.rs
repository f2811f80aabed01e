//! From what a configuration says to a cvip.conf: services on CVIPs, machines with numbers, one
//! forwarding method. What cvip.conf cannot say is left out, with the reason in the ledger.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::draft::Draft;
use super::ledger::Ledger;
use super::nodes::NodeNumbers;
use super::pool::{Plan, ServerPool};
use crate::conf::{Clustertab, Conf, Cvip, DirectorNode, RealServer, RegistrationMode, Routing};

mod check;
mod refusals;
mod service;

use service::ServiceDraft;

/// What the configuration does not tell, or is not to be asked for.
#[derive(Clone, Debug)]
pub(crate) struct DraftOptions<'a> {
    /// The addresses of each director, in the order of election; empty: as the configuration
    /// tells. A director that serves CVIPs of both families has an address of each.
    pub directors: &'a [Vec<IpAddr>],
    /// The interface that carries the CVIPs; none: as the configuration tells.
    pub interface: Option<&'a str>,
    /// The interface on which connections are synchronised; none: as the configuration tells.
    pub sync_interface: Option<&'a str>,
    /// The forwarding method; none: that of most services.
    pub routing: Option<Routing>,
    /// How servers join the services.
    pub registration: RegistrationMode,
    /// Nodes that have numbers already.
    pub clustertab: &'a Clustertab,
}

/// Makes the draft.
///
/// # Errors
/// Why there is none, and what to do.
pub(super) fn draft(
    plan: Plan,
    options: &DraftOptions<'_>,
    ledger: &mut Ledger,
) -> Result<Draft, String> {
    let Plan { pools, directors, addresses, interfaces, interface, sync_interface } = plan;
    let routing = options.routing.unwrap_or_else(|| most_frequent(&pools));
    let directors = match options.directors {
        [] => &directors[..],
        given => given,
    };
    let mut services = service::drafts(&pools, routing, options.registration, ledger);
    services.retain(|service| {
        let addr = service.target.addr;
        let lacks = routing != Routing::Tun
            && !directors.iter().all(|own| own.iter().any(|own| own.is_ipv4() == addr.is_ipv4()));
        if lacks {
            let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            let why = format!("a director has no {family} address: give both, --director=V4,V6");
            service.withdraw(&pools, ledger, &why);
        }
        !lacks
    });
    service::without_own_sorry_servers(&mut services, &pools, directors, ledger);
    if services.is_empty() {
        return Err("no virtual service can be carried: the notes say why".to_owned());
    }
    if directors.is_empty() {
        return Err("it does not tell the directors' addresses: give each as --director=ADDRESS, \
                    the first choice first"
            .to_owned());
    }
    // Of an address that stands twice the first line holds.
    let interfaces: BTreeMap<IpAddr, String> = interfaces.into_iter().rev().collect();
    let carrier = |addr: IpAddr| {
        let own = interfaces.get(&addr).map(String::as_str);
        options.interface.or(own).or(interface.as_deref())
    };
    if let Some(service) = services.iter().find(|service| carrier(service.target.addr).is_none()) {
        let addr = service.target.addr;
        return Err(format!("it does not tell which interface carries {addr}: give --interface"));
    }
    let mut made = CvipParts {
        routing,
        directors,
        carrier: &carrier,
        sync_interface: options.sync_interface.or(sync_interface.as_deref()),
        nodes: NodeNumbers::of(options.clustertab),
    };
    loop {
        let draft = made.draft(&services);
        let refused = refusals::of(&draft)?;
        if refused.is_empty() {
            for addr in addresses.iter().filter(|addr| draft.conf.cvip(addr.value).is_none()) {
                ledger.withdraw([addr.at], "no virtual server on it is carried");
            }
            return Ok(draft);
        }
        for (index, why) in &refused {
            services[*index].withdraw(&pools, ledger, &format!("cvip.conf refuses it: {why}"));
        }
        let mut index = 0..;
        services.retain(|_| index.next().is_some_and(|index| !refused.contains_key(&index)));
        if services.is_empty() {
            return Err("no virtual service can be carried: the notes say why".to_owned());
        }
        made.nodes = NodeNumbers::of(options.clustertab);
    }
}

/// The method of most services; of several the first in the text.
fn most_frequent(pools: &[ServerPool]) -> Routing {
    let count = |routing| pools.iter().filter(|pool| pool.routing == routing).count();
    let mut best = pools.first().map_or(Routing::Dr, |pool| pool.routing);
    for pool in pools {
        if count(pool.routing) > count(best) {
            best = pool.routing;
        }
    }
    best
}

/// What CVIPs are made of, beside their services.
struct CvipParts<'a> {
    routing: Routing,
    directors: &'a [Vec<IpAddr>],
    carrier: &'a dyn Fn(IpAddr) -> Option<&'a str>,
    sync_interface: Option<&'a str>,
    nodes: NodeNumbers,
}

impl CvipParts<'_> {
    /// The draft with these services, in their order.
    fn draft(&mut self, services: &[ServiceDraft]) -> Draft {
        let mut order: Vec<IpAddr> = Vec::new();
        let mut of_cvip: BTreeMap<IpAddr, Vec<&ServiceDraft>> = BTreeMap::new();
        for service in services {
            let addr = service.target.addr;
            let own = of_cvip.entry(addr).or_default();
            if own.is_empty() {
                order.push(addr);
            }
            own.push(service);
        }
        let directors: Vec<u32> =
            self.directors.iter().map(|addrs| self.nodes.number(addrs)).collect();
        let cvips = order.iter().map(|addr| self.cvip(*addr, &of_cvip[addr], &directors)).collect();
        let conf = Conf { routing: self.routing, cvips };
        Draft { conf, clustertab: self.nodes.clone().into_clustertab() }
    }

    fn cvip(&mut self, addr: IpAddr, services: &[&ServiceDraft], directors: &[u32]) -> Cvip {
        let mut real_servers: BTreeMap<u32, RealServer> = BTreeMap::new();
        let mut services: Vec<_> =
            services.iter().map(|service| (service.conf.clone(), &service.weights)).collect();
        // The weights of each server, with the places of their services.
        let mut own: BTreeMap<IpAddr, Vec<(usize, u32)>> = BTreeMap::new();
        for (place, (_, weights)) in services.iter().enumerate() {
            for (addr, weight) in *weights {
                own.entry(*addr).or_default().push((place, *weight));
            }
        }
        for (addr, weights) in own {
            let node = self.nodes.number(&[addr]);
            // One weight in all services is the server's own; else it has none of its own, so
            // that it is no destination of the services that do not have it.
            let is_everywhere = weights.len() == services.len();
            let first = weights.first().map_or(0, |(_, weight)| *weight);
            let is_one = is_everywhere && weights.iter().all(|(_, weight)| *weight == first);
            let weight = if is_one { first } else { 0 };
            real_servers.insert(node, RealServer { node, addr, weight });
            for (place, weight) in weights.into_iter().filter(|_| !is_one) {
                services[place].0.node_weights.insert(node, weight);
            }
        }
        for (node, addrs) in directors.iter().zip(self.directors) {
            let fits = addrs.iter().find(|own| own.is_ipv4() == addr.is_ipv4());
            let Some(own) = fits.or(addrs.first()) else { continue };
            let director = RealServer { node: *node, addr: *own, weight: 0 };
            real_servers.entry(*node).or_insert(director);
        }
        let director = |node: &u32| DirectorNode {
            node: *node,
            garp_interface: (self.carrier)(addr).unwrap_or_default().to_owned(),
            sync_interface: self.sync_interface.map(str::to_owned),
        };
        Cvip {
            addr,
            gateway: None,
            directors: directors.iter().map(director).collect(),
            real_servers: real_servers.into_values().collect(),
            services: services.into_iter().map(|(conf, _)| conf).collect(),
        }
    }
}
