//! What the values of the services of one CVIP mean to each other, to its real servers and to
//! its address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::checks::{Checks, family};
use crate::conf::draft::{DraftCvip, DraftService, DraftSorry, Netmask};
use crate::conf::model::{
    DEFAULT_WEIGHT, Quorum, RegistrationMode, Routing, ServiceConf, SorryServer,
};
use crate::conf::report::{At, Span};
use crate::protocol::Protocol;

/// sshd's port: balanced, it lands on nodes with different host keys.
const SSH: u16 = 22;

/// Ports of one service that always exists above which each being a virtual service is worth a
/// warning.
const MANY_PORTS: u16 = 1000;

/// What the services of one CVIP are judged by.
struct Around<'d> {
    /// The CVIP's address; none if it is missing or wrong.
    cvip: Option<IpAddr>,
    /// The address of every CVIP of the file.
    cvips: &'d BTreeSet<IpAddr>,
    /// This CVIP's real servers, directors among them; no address where it is not known.
    servers: BTreeMap<u32, Option<IpAddr>>,
    /// A node of it has no number: any may be meant.
    lacks_a_number: bool,
}

impl Checks<'_, '_, '_> {
    /// The services of one CVIP: no two on one port, and what is probably not meant.
    pub(super) fn services(&mut self, cvip: &DraftCvip, cvips: &BTreeSet<IpAddr>) {
        let mut ranges: Vec<(Protocol, (u16, u16), &Span)> = cvip
            .services
            .iter()
            .filter_map(|s| s.range.as_ref().and_then(|r| Some((s.protocol?, r.value, &r.span))))
            .collect();
        ranges.sort_by_key(|(protocol, range, span)| (*protocol, *range, span.start));
        // The range so far that reaches farthest: one that meets any meets it.
        let mut far: Option<(Protocol, (u16, u16), &Span)> = None;
        for (protocol, (start, end), span) in ranges {
            match far {
                Some((same, (_, last), other)) if same == protocol && start <= last => {
                    let (first, second) =
                        if other.start < span.start { (other, span) } else { (span, other) };
                    let line = self.line(first);
                    let ports = ports(start, end.min(last));
                    self.error(second, format!("{protocol} {ports} is in two services"))
                        .help(format!("the other is on line {line}; ranges must not meet"));
                    if end > last {
                        far = Some((protocol, (start, end), span));
                    }
                }
                _ => far = Some((protocol, (start, end), span)),
            }
        }
        let around = self.around(cvip, cvips);
        for service in &cvip.services {
            self.range(service);
            self.scheduling(service);
            self.persistence(service, &around);
            self.thresholds(service);
            self.node_weights(service, &around);
            self.quorum(service);
            self.sorry_servers(service, &around);
            self.check(service);
            if service.conf.registration == RegistrationMode::Static
                && let Some(owner) = &service.owner
            {
                self.warning(owner, "`owner` is ignored: a static service asks no listener")
                    .help("remove `owner`, or make the service automatic");
            }
        }
    }

    fn around<'d>(&self, cvip: &DraftCvip, cvips: &'d BTreeSet<IpAddr>) -> Around<'d> {
        let in_clustertab = |node| self.clustertab.and_then(|tab| tab.addr(node));
        let directors = cvip.directors.iter().map(|d| (d.node.as_ref(), None));
        let entries = cvip.real_servers.iter().map(|s| (s.node.as_ref(), s.addr.as_ref()));
        let mut servers = BTreeMap::new();
        let mut lacks_a_number = false;
        for (node, addr) in directors.chain(entries) {
            match node {
                Some(At { value: node, .. }) => {
                    let addr = addr.map(|addr| addr.value).or_else(|| in_clustertab(*node));
                    servers.insert(*node, addr);
                }
                None => lacks_a_number = true,
            }
        }
        Around { cvip: cvip.addr.as_ref().map(|addr| addr.value), cvips, servers, lacks_a_number }
    }

    fn range(&mut self, service: &DraftService) {
        let Some(At { value: (start, end), span }) = &service.range else { return };
        let (start, end) = (*start, *end);
        let is_static = service.conf.registration == RegistrationMode::Static;
        let many = end - start >= MANY_PORTS;
        if !is_static
            && service.protocol == Some(Protocol::Tcp)
            && start < end
            && (start..=end).contains(&SSH)
        {
            let mut rest = Vec::new();
            if start < SSH {
                rest.push(ports(start, SSH - 1));
            }
            if end > SSH {
                rest.push(ports(SSH + 1, end));
            }
            self.warning(
                span,
                format!(
                    "tcp {} has sshd's port {SSH} in it: logins to the CVIP would meet \
                         the host keys of different nodes",
                    ports(start, end)
                ),
            )
            .help(format!("to leave sshd out, make it {}", {
                let services = if rest.len() > 1 { " in two services" } else { "" };
                format!("{}{services}", rest.join(" and "))
            }));
        }
        if many && (is_static || !service.sorry.is_empty()) {
            let count = u32::from(end - start) + 1;
            let what = if is_static { "a static range" } else { "sorry servers for a range" };
            self.warning(span, format!("{what} of {count} ports"))
                .help("the kernel gets a virtual service for each of them, used or not");
        }
    }

    fn scheduling(&mut self, service: &DraftService) {
        let scheduler = service.scheduler.as_deref();
        for At { value: flag, span } in &service.flags {
            if let Some(of) = flag.scheduler
                && scheduler.is_some_and(|scheduler| !flag.fits(scheduler))
            {
                let has = scheduler.unwrap_or_default();
                let message = format!(
                    "`{}` is a flag of the scheduler {of}, and this service's is {has}",
                    flag.word
                );
                self.error(span, message).help(format!(
                    "give the service <scheduler>{of}</scheduler>, or remove the flag"
                ));
            }
        }
        if let (Some(span), Some(protocol)) = (&service.one_packet, service.protocol)
            && protocol != Protocol::Udp
        {
            self.error(
                span,
                format!("`one_packet` is for UDP only, and this service is {protocol}"),
            )
            .help("give the service <protocol>udp</protocol>, or remove `one_packet`");
        }
    }

    fn persistence(&mut self, service: &DraftService, around: &Around<'_>) {
        let spans = [
            ("persistence_netmask", service.netmask.as_ref().map(|netmask| &netmask.span)),
            ("persistence_engine", service.engine.as_ref().map(|engine| &engine.span)),
        ];
        for (name, span) in spans {
            if let (Some(span), false) = (span, service.names_persistence) {
                self.error(span, format!("`{name}` without `persistence`")).help(format!(
                    "add `persistence`, the seconds that clients stay, or remove `{name}`"
                ));
            }
        }
        if let (Some(At { value: netmask, span }), Some(cvip)) = (&service.netmask, around.cvip) {
            match netmask {
                Netmask::Dotted(bits) if cvip.is_ipv6() => {
                    self.error(span, format!("an IPv4 netmask, and CVIP {cvip} is IPv6"))
                        .help(format!("write the number of leading bits, such as {}", bits * 2));
                }
                Netmask::Length(bits) if cvip.is_ipv4() && *bits > 32 => {
                    self.error(span, format!("{bits} bits, and an IPv4 address has 32"))
                        .help(format!("CVIP {cvip} is IPv4: write 1 to 32"));
                }
                _ => {}
            }
        }
        if let (Some(At { value: engine, span }), Some(protocol)) =
            (&service.engine, service.protocol)
            && engine == "sip"
            && protocol != Protocol::Udp
        {
            self.error(
                span,
                format!("the engine sip reads UDP only, and this service is {protocol}"),
            )
            .help("the kernel would drop all of its packets: remove `persistence_engine`");
        }
    }

    fn check(&mut self, service: &DraftService) {
        let (Some(At { value: check, span }), Some(protocol)) = (&service.check, service.protocol)
        else {
            return;
        };
        if let Err(error) = check.suits(protocol) {
            self.error(span, format!("this check tells nothing of a {protocol} service"))
                .help(error.to_string());
        }
    }

    fn thresholds(&mut self, service: &DraftService) {
        let Some(At { value: lower, span }) = &service.lower else { return };
        match &service.upper {
            Some(upper) if *lower > upper.value => {
                let message =
                    format!("lower_threshold {lower} is above upper_threshold {}", upper.value);
                self.error(span, message)
                    .help("a server is full at the upper one, and taken again below the lower one");
            }
            None if !service.names_upper => {
                self.error(span, "`lower_threshold` without `upper_threshold`")
                    .help("add the connections at which a server is full, or remove this one");
            }
            _ => {}
        }
    }

    fn quorum(&mut self, service: &DraftService) {
        let Some(At { value: hysteresis, span }) = &service.hysteresis else { return };
        match &service.quorum {
            Some(quorum) if *hysteresis >= quorum.value => {
                let message =
                    format!("hysteresis {hysteresis} is not below quorum {}", quorum.value);
                self.error(span, message)
                    .help("the quorum would never be lost: it is at the quorum less this");
            }
            None if !service.names_quorum => {
                self.error(span, "`hysteresis` without `quorum`")
                    .help("add the weight that makes a quorum, or remove this one");
            }
            _ => {}
        }
    }

    fn node_weights(&mut self, service: &DraftService, around: &Around<'_>) {
        let mut seen = BTreeMap::new();
        for At { value: node, span } in service.nodes.iter().filter_map(|node| node.node.as_ref()) {
            if !around.servers.contains_key(node) && !around.lacks_a_number {
                self.error(span, format!("node {node} is not a real server of this CVIP"))
                    .help("add a `real_server_node` for it, or fix the number");
            }
            let message = format!("node {node} has two weights in this service");
            self.once(&mut seen, *node, span, message, "keep one of them");
        }
    }

    fn sorry_servers(&mut self, service: &DraftService, around: &Around<'_>) {
        let mut seen = BTreeMap::new();
        let own = service.range.as_ref().map(|range| range.value);
        for sorry in &service.sorry {
            self.sorry_port(sorry, own);
            let Some(At { value: addr, span }) = &sorry.addr else { continue };
            self.sorry_address(*addr, span, around);
            if sorry.names_port && sorry.port.is_none() {
                continue;
            }
            let port = sorry.port.as_ref().map(|port| port.value).or(own.map(|(start, _)| start));
            let message = format!("{addr} is a sorry server of this service twice");
            self.once(&mut seen, (*addr, port), span, message, "keep one of them");
        }
    }

    fn sorry_address(&mut self, addr: IpAddr, span: &Span, around: &Around<'_>) {
        let mut servers = around.servers.iter();
        if let Some((node, _)) = servers.find(|(_, own)| **own == Some(addr)) {
            self.error(span, format!("{addr} is node {node}'s, a real server of this CVIP"))
                .help("a sorry server serves when no real server does: name another machine");
        } else if around.cvips.contains(&addr) {
            self.error(span, format!("{addr} is a CVIP"))
                .help("give the sorry server's own address");
        }
        if let (Some(cvip), Some(_)) = (around.cvip, self.routing)
            && !self.mixes_families()
            && cvip.is_ipv4() != addr.is_ipv4()
        {
            let (own, other) = (family(addr), family(cvip));
            let help = self.one_family(other);
            self.error(
                span,
                format!("this sorry server's address is {own}, CVIP {cvip} is {other}"),
            )
            .help(help);
        }
    }

    fn sorry_port(&mut self, sorry: &DraftSorry, own: Option<(u16, u16)>) {
        let (Some(At { value: port, span }), Some((start, end))) = (&sorry.port, own) else {
            return;
        };
        if start < end {
            self.error(span, "a sorry server's `port` in a service of several ports")
                .help("remove it: each port is that of the sorry server too");
            return;
        }
        if let Some(routing) = self.routing
            && routing != Routing::Nat
            && *port != start
        {
            self.error(span, format!("port {port} for port {start}: {routing} changes no ports"))
                .help("remove `port`, and let the sorry server listen on the service's own");
        }
    }
}

fn ports(start: u16, end: u16) -> String {
    if start == end { start.to_string() } else { format!("{start} to {end}") }
}

/// Makes the model of a draft that passed every check; `None` would be a check that lacks.
pub(super) fn build_service(draft: DraftService) -> Option<ServiceConf> {
    let (start, end) = draft.range?.value;
    let mut node_weights = BTreeMap::new();
    for node in &draft.nodes {
        node_weights.insert(node.node.as_ref()?.value, node.weight?.into());
    }
    let sorry = |sorry: &DraftSorry| {
        let port = sorry.port.as_ref().map(|port| port.value).filter(|port| *port != start);
        let weight = sorry.weight.unwrap_or(DEFAULT_WEIGHT);
        Some(SorryServer { addr: sorry.addr.as_ref()?.value, port, weight })
    };
    Some(ServiceConf {
        protocol: draft.protocol?,
        start,
        end,
        scheduler: draft.scheduler?,
        scheduler_flags: draft.flags.iter().fold(0, |flags, flag| flags | flag.value.bit),
        one_packet: draft.one_packet.is_some(),
        persistence_netmask: draft.netmask.map(|netmask| match netmask.value {
            Netmask::Dotted(bits) | Netmask::Length(bits) => bits,
        }),
        persistence_engine: draft.engine.map(|engine| engine.value),
        upper_threshold: draft.upper.map(|upper| upper.value),
        lower_threshold: draft.lower.map(|lower| lower.value),
        node_weights,
        quorum: draft.quorum.map(|quorum| Quorum {
            weight: quorum.value,
            hysteresis: draft.hysteresis.map_or(0, |hysteresis| hysteresis.value),
        }),
        check: draft.check.map(|check| check.value),
        sorry_servers: draft.sorry.iter().map(sorry).collect::<Option<_>>()?,
        ..draft.conf
    })
}
