//! What the values of a cvip.conf mean to each other and to clustertab: addresses that
//! collide, director sets that overlap in part, services that meet.
//!
//! Every check reports and goes on. A [`Conf`] is built only from a draft without an error.

use std::collections::btree_map::{BTreeMap, Entry};
use std::net::IpAddr;

use super::clustertab::Clustertab;
use super::draft::{DraftConf, DraftCvip, DraftServer};
use super::model::{Conf, Cvip, DEFAULT_WEIGHT, DirectorNode, RealServer, Routing};
use super::report::{At, ConfReport, Span};

mod checks;
mod services;

use checks::{Checks, family};
use services::build_service;

/// Checks a draft and makes a [`Conf`] of it, unless there was an error. Without a
/// clustertab (it has errors of its own) what it would have said is not judged.
pub(super) fn validate(
    draft: DraftConf,
    clustertab: Option<&Clustertab>,
    report: &mut ConfReport<'_>,
) -> Option<Conf> {
    let mut owners = clustertab
        .iter()
        .flat_map(|tab| &tab.nodes)
        .map(|(node, addr)| (*addr, *node))
        .collect::<BTreeMap<IpAddr, u32>>();
    let routing = draft.routing.as_ref().map(|routing| routing.value);
    let mut directors = draft.cvips.iter().flat_map(|cvip| &cvip.directors);
    let synchronised = directors.any(|director| director.names_sync_interface);
    let mut checks = Checks { report, clustertab, routing, synchronised };
    for cvip in &draft.cvips {
        checks.server_addresses(cvip, &mut owners);
    }
    checks.virtual_addresses(&draft, &owners);
    let cvips = draft.cvips.iter().filter_map(|cvip| Some(cvip.addr.as_ref()?.value)).collect();
    for cvip in &draft.cvips {
        checks.nodes(cvip);
        checks.services(cvip, &cvips);
    }
    checks.director_sets(&draft.cvips);
    checks.sync_interfaces(&draft.cvips);
    if report.has_errors() {
        return None;
    }
    build(draft, clustertab?)
}

impl Checks<'_, '_, '_> {
    /// No two nodes have the same address; adds those of this CVIP's real servers.
    fn server_addresses(&mut self, cvip: &DraftCvip, owners: &mut BTreeMap<IpAddr, u32>) {
        for server in &cvip.real_servers {
            let (Some(node), Some(addr)) = (&server.node, &server.addr) else { continue };
            match owners.entry(addr.value) {
                Entry::Vacant(free) => {
                    free.insert(node.value);
                }
                Entry::Occupied(taken) if *taken.get() != node.value => {
                    let message =
                        format!("{} is already the address of node {}", addr.value, taken.get());
                    self.error(&addr.span, message).help("every node has an address of its own");
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// CVIPs and gateways: whose they are not, and which family they have.
    fn virtual_addresses(&mut self, draft: &DraftConf, owners: &BTreeMap<IpAddr, u32>) {
        let mut cvips: BTreeMap<IpAddr, Span> = BTreeMap::new();
        for addr in draft.cvips.iter().filter_map(|cvip| cvip.addr.as_ref()) {
            if let Some(node) = owners.get(&addr.value) {
                self.error(&addr.span, format!("{} is node {node}'s own address", addr.value))
                    .help("a CVIP is an address that no node has");
            }
            let message = format!("CVIP {} stands here a second time", addr.value);
            self.once(&mut cvips, addr.value, &addr.span, message, "put everything of it there");
        }
        for cvip in &draft.cvips {
            match &cvip.gateway {
                Some(gateway) => self.gateway(cvip, gateway, &cvips, owners),
                None => self.no_gateway(cvip),
            }
        }
    }

    fn gateway(
        &mut self,
        cvip: &DraftCvip,
        gateway: &At<IpAddr>,
        cvips: &BTreeMap<IpAddr, Span>,
        owners: &BTreeMap<IpAddr, u32>,
    ) {
        let At { value: addr, span } = gateway;
        if cvips.contains_key(addr) {
            self.error(span, format!("gateway {addr} is a CVIP"))
                .help("the gateway is an address of its own on the nodes' inner network");
        }
        if let Some(cvip) = &cvip.addr
            && cvip.value.is_ipv4() != addr.is_ipv4()
        {
            let (own, other) = (family(*addr), family(cvip.value));
            self.error(span, format!("the gateway is {own}, its CVIP {} is {other}", cvip.value))
                .help(format!("give an {other} address, or leave `gateway` out"));
        }
        if self.routing == Some(Routing::Nat)
            && let Some(node) = owners.get(addr)
        {
            self.error(span, format!("gateway {addr} is node {node}'s own address"))
                .help("with NAT the gateway moves with the active director: choose a free address");
        }
    }

    /// With NAT, replies must pass the director that is active.
    fn no_gateway(&mut self, cvip: &DraftCvip) {
        if self.routing == Some(Routing::Nat) && cvip.directors.len() > 1 {
            self.warning(&cvip.tag, "NAT with several directors and no `gateway`").help(
                "add a `gateway` that moves with the active director, and make it the \
                     real servers' default route",
            );
        }
    }

    /// The nodes of one CVIP: known, each once in each list, with an address of its family.
    fn nodes(&mut self, cvip: &DraftCvip) {
        let directors = || cvip.directors.iter().filter_map(|d| d.node.as_ref());
        let servers = || cvip.real_servers.iter().filter_map(|s| s.node.as_ref());
        self.each_once(directors(), "director");
        self.each_once(servers(), "real server");
        for node in directors().chain(servers()) {
            if self.clustertab.is_some_and(|tab| tab.addr(node.value).is_none()) {
                self.error(&node.span, format!("node {} is not in clustertab", node.value))
                    .help("add a line for it to clustertab, or fix the number");
            }
        }
        let Some(virtual_addr) = cvip.addr.as_ref().map(|addr| addr.value) else { return };
        if self.mixes_families() {
            return;
        }
        for server in &cvip.real_servers {
            if let Some(addr) = &server.addr {
                self.same_family(virtual_addr, addr.value, &addr.span);
            } else if let Some(node) = &server.node {
                self.clustertab_family(virtual_addr, node);
            }
        }
        let entries = entries(&cvip.real_servers);
        for node in directors().filter(|node| !entries.contains_key(&node.value)) {
            self.clustertab_family(virtual_addr, node);
        }
    }

    fn each_once<'n>(&mut self, nodes: impl Iterator<Item = &'n At<u32>>, what: &str) {
        let mut seen = BTreeMap::new();
        for At { value: node, span } in nodes {
            let message = format!("node {node} is a {what} of this CVIP twice");
            self.once(&mut seen, *node, span, message, "keep one of them");
        }
    }

    fn same_family(&mut self, cvip: IpAddr, server: IpAddr, span: &Span) {
        if cvip.is_ipv4() == server.is_ipv4() {
            return;
        }
        let (own, other) = (family(server), family(cvip));
        let help = self.one_family(other);
        self.error(span, format!("this real server's address is {own}, CVIP {cvip} is {other}"))
            .help(help);
    }

    /// The same, where a real server's address is clustertab's.
    fn clustertab_family(&mut self, cvip: IpAddr, node: &At<u32>) {
        let Some(addr) = self.clustertab.and_then(|tab| tab.addr(node.value)) else { return };
        if cvip.is_ipv4() == addr.is_ipv4() {
            return;
        }
        let (node, span, family) = (node.value, &node.span, family(cvip));
        self.error(span, format!("node {node} has no {family} address: clustertab gives {addr}"))
            .help(format!(
                "give its {family} address as `ip_addr` in a `real_server_node` of this CVIP"
            ));
    }

    /// Two CVIPs share all their directors or none, in one order; with NAT those that share
    /// none have different gateways.
    fn director_sets(&mut self, cvips: &[DraftCvip]) {
        struct Set<'d> {
            order: Vec<u32>,
            sorted: Vec<u32>,
            tag: &'d Span,
        }
        let mut sets: Vec<Set<'_>> = Vec::new();
        let mut set_of: BTreeMap<u32, usize> = BTreeMap::new();
        let mut gateways: BTreeMap<IpAddr, (usize, &Span)> = BTreeMap::new();
        for cvip in cvips {
            // A director that has no number yet may be the one that makes the sets equal.
            if cvip.directors.iter().any(|director| director.node.is_none()) {
                continue;
            }
            let directors = || cvip.directors.iter().filter_map(|d| d.node.as_ref());
            let order: Vec<u32> = directors().map(|node| node.value).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let index = match directors().find_map(|node| Some((node, *set_of.get(&node.value)?))) {
                None => {
                    set_of.extend(sorted.iter().map(|node| (*node, sets.len())));
                    sets.push(Set { order, sorted, tag: &cvip.tag });
                    sets.len() - 1
                }
                Some((node, index)) => {
                    let Set { order: first_order, sorted: first_sorted, tag } = &sets[index];
                    let line = self.line(tag);
                    if *first_sorted != sorted {
                        let (there, here) = (list(first_sorted), list(&sorted));
                        let message = format!(
                            "director {} is shared with the CVIP on line {line}, but not all \
                             directors are: {there} there, {here} here",
                            node.value
                        );
                        self.error(&node.span, message)
                            .help("two CVIPs share all their directors or none");
                    } else if *first_order != order {
                        let tag = cvip.directors.first().map_or(&cvip.tag, |first| &first.tag);
                        let (there, here) = (list(first_order), list(&order));
                        let message = format!(
                            "this order of directors, {here}, is ignored: the CVIP on line \
                             {line} has {there}"
                        );
                        self.warning(tag, message).help(
                            "directors with several CVIPs are elected in the first one's order",
                        );
                    }
                    index
                }
            };
            let Some(At { value: gateway, span }) = &cvip.gateway else { continue };
            let (first, tag) = *gateways.entry(*gateway).or_insert((index, &cvip.tag));
            if first != index && self.routing == Some(Routing::Nat) {
                let line = self.line(tag);
                let message = format!(
                    "gateway {gateway} is also that of the CVIP on line {line}, which has other \
                     directors"
                );
                self.error(span, message).help(
                    "with NAT every active director carries its gateway: give each set of \
                     directors one of its own",
                );
            }
        }
    }

    /// A director has one interface to synchronise on, whichever CVIP names it.
    fn sync_interfaces(&mut self, cvips: &[DraftCvip]) {
        let mut first: BTreeMap<u32, (&At<String>, usize)> = BTreeMap::new();
        let mut named: BTreeMap<u32, bool> = BTreeMap::new();
        for director in cvips.iter().flat_map(|cvip| &cvip.directors) {
            let Some(node) = &director.node else { continue };
            *named.entry(node.value).or_default() |= director.names_sync_interface;
            let Some(interface) = &director.sync_interface else { continue };
            let line = self.line(&interface.span);
            match first.entry(node.value) {
                Entry::Vacant(free) => {
                    free.insert((interface, line));
                }
                Entry::Occupied(other) if other.get().0.value != interface.value => {
                    let (other, line) = other.get();
                    let message = format!(
                        "node {} synchronises on `{}` already: `{}` is ignored",
                        node.value, other.value, interface.value
                    );
                    self.warning(&interface.span, message).help(format!(
                        "the kernel has one synchronisation daemon; the first is on line {line}"
                    ));
                }
                Entry::Occupied(_) => {}
            }
        }
        for cvip in cvips.iter().filter(|cvip| cvip.directors.len() > 1) {
            for director in &cvip.directors {
                let Some(node) = &director.node else { continue };
                // Once for each node, however many CVIPs it directs.
                if named.insert(node.value, true) == Some(false) {
                    self.warning(
                        &director.tag,
                        format!("director {} has no `sync_interface`", node.value),
                    )
                    .help("connections break when another director takes over from it");
                }
            }
        }
    }
}

/// The real server entries by node.
fn entries(servers: &[DraftServer]) -> BTreeMap<u32, &DraftServer> {
    servers.iter().filter_map(|s| s.node.as_ref().map(|node| (node.value, s))).collect()
}

fn list(nodes: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = nodes.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if nodes.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Makes the model of a draft that passed every check; `None` would be a check that lacks.
fn build(draft: DraftConf, clustertab: &Clustertab) -> Option<Conf> {
    let cvips = draft.cvips.into_iter().map(|cvip| build_cvip(cvip, clustertab));
    Some(Conf { routing: draft.routing?.value, cvips: cvips.collect::<Option<_>>()? })
}

fn build_cvip(draft: DraftCvip, clustertab: &Clustertab) -> Option<Cvip> {
    let mut servers: BTreeMap<u32, RealServer> = BTreeMap::new();
    for server in &draft.real_servers {
        let node = server.node.as_ref()?.value;
        let addr = match &server.addr {
            Some(addr) => addr.value,
            None => clustertab.addr(node)?,
        };
        let weight = server.weight.unwrap_or(DEFAULT_WEIGHT).into();
        servers.insert(node, RealServer { node, addr, weight });
    }
    let mut directors = Vec::with_capacity(draft.directors.len());
    for director in draft.directors {
        let node = director.node?.value;
        if let Entry::Vacant(implied) = servers.entry(node) {
            let addr = clustertab.addr(node)?;
            implied.insert(RealServer { node, addr, weight: DEFAULT_WEIGHT.into() });
        }
        directors.push(DirectorNode {
            node,
            garp_interface: director.garp_interface?.value,
            sync_interface: director.sync_interface.map(|interface| interface.value),
        });
    }
    Some(Cvip {
        addr: draft.addr?.value,
        gateway: draft.gateway.map(|gateway| gateway.value),
        directors,
        real_servers: servers.into_values().collect(),
        services: draft.services.into_iter().map(build_service).collect::<Option<_>>()?,
    })
}
