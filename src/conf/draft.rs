//! From the XML tree to a draft of the configuration, each value with its place.
//!
//! Here every value is judged by itself; what values mean to each other is validated later.
//! A value that is wrong is reported and left out, so that one run finds all faults.

use std::borrow::Cow;
use std::net::IpAddr;

use roxmltree::Node;

use super::address::{Unusable, usable};
use super::clustertab::node_number;
use super::grammar::{CVIP, CVIPS, DIRECTOR_NODE, ELEMENTS, Element, REAL_SERVER_NODE, SERVICE};
use super::model::{
    INTERFACE_MAX_LEN, MAX_SECONDS, Owner, Registration, Routing, SCHEDULER_MAX_LEN, ServiceConf,
};
use super::report::{At, Report, Span};
use super::words::{alternatives, closest, quoted};
use crate::protocol::Protocol;

/// The schedulers of Linux (net/netfilter/ipvs/ip_vs_*.c); a kernel may have others.
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos"];

#[derive(Default)]
pub(super) struct DraftConf {
    pub(super) routing: Option<At<Routing>>,
    pub(super) cvips: Vec<DraftCvip>,
}

pub(super) struct DraftCvip {
    /// The start tag.
    pub(super) tag: Span,
    pub(super) addr: Option<At<IpAddr>>,
    pub(super) gateway: Option<At<IpAddr>>,
    pub(super) directors: Vec<DraftDirector>,
    pub(super) real_servers: Vec<DraftServer>,
    pub(super) services: Vec<DraftService>,
}

pub(super) struct DraftDirector {
    /// The start tag.
    pub(super) tag: Span,
    pub(super) node: Option<At<u32>>,
    pub(super) garp_interface: Option<At<String>>,
    pub(super) sync_interface: Option<At<String>>,
    /// The element is there, be its value right or wrong.
    pub(super) names_sync_interface: bool,
}

pub(super) struct DraftServer {
    pub(super) node: Option<At<u32>>,
    pub(super) addr: Option<At<IpAddr>>,
    pub(super) weight: Option<u16>,
}

pub(super) struct DraftService {
    /// First and last port, at the place to name in messages; none if they or the protocol
    /// are wrong.
    pub(super) range: Option<At<(u16, u16)>>,
    /// The first `owner`.
    pub(super) owner: Option<Span>,
    /// What was right, with defaults for all else; its range is still to be set.
    pub(super) conf: ServiceConf,
}

/// Reads the tree of a cvip.conf from its root; reports what is wrong with it.
pub(super) fn read(report: &mut Report<'_>, root: Node<'_, '_>) -> DraftConf {
    let mut conf = DraftConf::default();
    let mut reader = Reader { report };
    let name = root.tag_name().name();
    if name != CVIPS.name {
        reader
            .report
            .error(&reader.tag(root), format!("the root element is {}, not `cvips`", quoted(name)))
            .help("see cvip.conf(5) for an example");
        return conf;
    }
    reader.walk(root, &CVIPS, |reader, name, node| match name {
        "routing" => conf.routing = reader.routing(node),
        _ => conf.cvips.push(reader.cvip(node)),
    });
    conf
}

struct Reader<'r, 'a> {
    report: &'r mut Report<'a>,
}

impl Reader<'_, '_> {
    /// Hands each child that the grammar knows to `each`, a single one once only; reports
    /// whatever else stands there, and what is missing.
    fn walk<'d, 'i>(
        &mut self,
        parent: Node<'d, 'i>,
        element: &Element,
        mut each: impl FnMut(&mut Self, &'static str, Node<'d, 'i>),
    ) {
        self.no_attributes(parent);
        let mut seen: Vec<(&'static str, Span)> = Vec::new();
        for node in parent.children() {
            if node.is_text() {
                self.stray_text(node, element);
                continue;
            }
            if !node.is_element() {
                continue;
            }
            let name = node.tag_name().name();
            let Some(known) = element.children().find(|child| *child == name) else {
                self.unknown(node, name, element);
                continue;
            };
            match seen.iter().find(|(child, _)| *child == known) {
                Some((_, first)) if element.single.contains(&known) => {
                    let line = self.report.line_of(first.start);
                    self.report
                        .error(
                            &self.tag(node),
                            format!("`{known}` stands twice in this `{}`", element.name),
                        )
                        .help(format!("the first is on line {line}; keep one of them"));
                    continue;
                }
                Some(_) => {}
                None => seen.push((known, node.range())),
            }
            each(self, known, node);
        }
        for (required, purpose) in element.required {
            if !seen.iter().any(|(child, _)| child == required) {
                let message = format!("`{required}` is missing in this `{}`", element.name);
                self.report.error(&self.tag(parent), message).help(*purpose);
            }
        }
    }

    /// The start tag of an element, as far as its name.
    fn tag(&self, node: Node<'_, '_>) -> Span {
        let text = self.report.text();
        let start = node.range().start;
        let length = text[start..]
            .find(|c: char| c.is_whitespace() || c == '/' || c == '>')
            .unwrap_or(text.len() - start);
        let closed = text[start + length..].starts_with('>');
        start..start + length + usize::from(closed)
    }

    fn no_attributes(&mut self, node: Node<'_, '_>) {
        for attribute in node.attributes() {
            let message = format!("attribute {} is ignored", quoted(attribute.name()));
            self.report
                .warning(&attribute.range(), message)
                .help("cvip.conf has no attributes: values stand between tags");
        }
    }

    fn stray_text(&mut self, node: Node<'_, '_>, element: &Element) {
        if node.text().is_none_or(|text| text.trim().is_empty()) {
            return;
        }
        let span = trimmed(self.report.text(), node.range());
        let text = self.report.text()[span.clone()].to_owned();
        self.report
            .error(
                &span,
                format!("text {} where `{}` takes elements only", quoted(&text), element.name),
            )
            .help("put it between the tags of an element, or in a comment: <!-- ... -->");
    }

    fn unknown(&mut self, node: Node<'_, '_>, name: &str, element: &Element) {
        let message =
            format!("unknown element {} in `{}`: it is ignored", quoted(name), element.name);
        let home = |name: &str| ELEMENTS.iter().find(|e| e.children().any(|child| child == name));
        self.report.warning(&self.tag(node), message).help_by(|| {
            if let Some(home) = home(name) {
                return Some(format!("`{name}` belongs in `{}`", home.name));
            }
            if let Some(meant) = closest(name, element.children()) {
                return Some(format!("did you mean `{meant}`?"));
            }
            let meant = closest(name, ELEMENTS.iter().flat_map(|e| e.children()))?;
            Some(format!("did you mean `{meant}`? It belongs in `{}`", home(meant)?.name))
        });
    }

    fn cvip(&mut self, node: Node<'_, '_>) -> DraftCvip {
        let mut cvip = DraftCvip {
            tag: self.tag(node),
            addr: None,
            gateway: None,
            directors: Vec::new(),
            real_servers: Vec::new(),
            services: Vec::new(),
        };
        self.walk(node, &CVIP, |reader, name, node| match name {
            "ip_addr" => cvip.addr = reader.address(node),
            "gateway" => cvip.gateway = reader.address(node),
            "director_node" => cvip.directors.push(reader.director(node)),
            "real_server_node" => cvip.real_servers.push(reader.real_server(node)),
            _ => cvip.services.push(reader.service(node)),
        });
        cvip
    }

    fn director(&mut self, node: Node<'_, '_>) -> DraftDirector {
        let mut director = DraftDirector {
            tag: self.tag(node),
            node: None,
            garp_interface: None,
            sync_interface: None,
            names_sync_interface: false,
        };
        self.walk(node, &DIRECTOR_NODE, |reader, name, node| match name {
            "node_num" => director.node = reader.node_num(node),
            "garp_interface" => director.garp_interface = reader.interface(node),
            _ => {
                director.names_sync_interface = true;
                director.sync_interface = reader.interface(node);
            }
        });
        director
    }

    fn real_server(&mut self, node: Node<'_, '_>) -> DraftServer {
        let mut server = DraftServer { node: None, addr: None, weight: None };
        self.walk(node, &REAL_SERVER_NODE, |reader, name, node| match name {
            "node_num" => server.node = reader.node_num(node),
            "ip_addr" => server.addr = reader.address(node),
            _ => server.weight = reader.weight(node),
        });
        server
    }

    fn service(&mut self, node: Node<'_, '_>) -> DraftService {
        let mut conf = ServiceConf::new(Protocol::default(), 0, 0);
        let mut protocol_is_right = true;
        let mut ports = Ports::default();
        let mut first_owner = None;
        self.walk(node, &SERVICE, |reader, name, node| match name {
            "protocol" => match reader.protocol(node) {
                Some(protocol) => conf.protocol = protocol,
                None => protocol_is_right = false,
            },
            "port" => ports.port = Some(reader.port(node)),
            "start_port" => ports.start = Some(reader.port(node)),
            "end_port" => ports.end = Some(reader.port(node)),
            "weight" => set(&mut conf.weight, reader.weight(node)),
            "scheduler" => set(&mut conf.scheduler, reader.scheduler(node)),
            "persistence" => conf.persistence = reader.seconds(node, 1),
            "registration" => set(&mut conf.registration, reader.registration(node)),
            "drain_timeout" => set(&mut conf.drain_timeout, reader.seconds(node, 0)),
            "owner" => {
                first_owner.get_or_insert(reader.tag(node));
                conf.owners.extend(reader.owner(node));
            }
            _ => reader.check(node),
        });
        let range = self.range(&self.tag(node), ports).filter(|_| protocol_is_right);
        DraftService { range, owner: first_owner, conf }
    }

    /// The range of a service from the elements that give it.
    fn range(&mut self, service: &Span, ports: Ports) -> Option<At<(u16, u16)>> {
        let (tag, message) = match (ports.port, ports.start, ports.end) {
            (Some(port), None, None) => return Some(port.value?.map(|port| (port, port))),
            (None, Some(start), Some(end)) => {
                let (start, end) = (start.value?, end.value?);
                if start.value > end.value {
                    let message =
                        format!("start port {} is above end port {}", start.value, end.value);
                    self.report
                        .error(&start.span, message)
                        .help("a range counts upwards, both ends included");
                    return None;
                }
                return Some(start.map(|first| (first, end.value)));
            }
            (Some(port), ..) => (port.tag, "`port` stands beside `start_port` or `end_port`"),
            (None, Some(start), None) => (start.tag, "`start_port` without `end_port`"),
            (None, None, Some(end)) => (end.tag, "`end_port` without `start_port`"),
            (None, None, None) => (service.clone(), "this `service` has no port"),
        };
        self.report
            .error(&tag, message)
            .help("a service has one `port`, or a `start_port` and an `end_port`");
        None
    }

    /// The text of an element that holds a value, without the blanks around it.
    fn value<'d>(&mut self, node: Node<'d, '_>) -> Option<At<Cow<'d, str>>> {
        self.no_attributes(node);
        let name = node.tag_name().name();
        if let Some(child) = node.children().find(Node::is_element) {
            let element = quoted(child.tag_name().name());
            self.report.error(
                &self.tag(child),
                format!("`{name}` takes a value, not the element {element}"),
            );
            return None;
        }
        let mut parts = node.children().filter(Node::is_text);
        let Some(first) = parts.next() else {
            self.report.error(&self.tag(node), format!("`{name}` is empty"));
            return None;
        };
        let mut value = Cow::Borrowed(first.text().unwrap_or(""));
        let mut span = first.range();
        for part in parts {
            value.to_mut().push_str(part.text().unwrap_or(""));
            span.end = part.range().end;
        }
        let value = match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        if value.is_empty() {
            self.report.error(&self.tag(node), format!("`{name}` is empty"));
            return None;
        }
        Some(At { value, span: trimmed(self.report.text(), span) })
    }

    /// A value that `convert` understands; reports the message and help that it gives else.
    fn converted<T>(
        &mut self,
        node: Node<'_, '_>,
        convert: impl FnOnce(&str) -> Result<T, (String, Option<String>)>,
    ) -> Option<At<T>> {
        let At { value, span } = self.value(node)?;
        match convert(&value) {
            Ok(value) => Some(At { value, span }),
            Err((message, help)) => {
                self.report.error(&span, message).help_by(|| help);
                None
            }
        }
    }

    /// A whole number in a range; `what` names it in messages.
    fn number(
        &mut self,
        node: Node<'_, '_>,
        what: &str,
        range: std::ops::RangeInclusive<u32>,
        help: Option<&str>,
    ) -> Option<At<u32>> {
        self.converted(node, |text| {
            let help = help.map(str::to_owned);
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err((format!("{what} {} is not a whole number", quoted(text)), help));
            }
            text.parse::<u32>().ok().filter(|number| range.contains(number)).ok_or_else(|| {
                let (low, high) = range.into_inner();
                (format!("{what} {} is outside {low} to {high}", quoted(text)), help)
            })
        })
    }

    fn routing(&mut self, node: Node<'_, '_>) -> Option<At<Routing>> {
        self.converted(node, |text| {
            let methods = Routing::ALL.map(Routing::name);
            Routing::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(text)).ok_or_else(
                || {
                    let known = format!("it is one of {}", alternatives(&methods));
                    (format!("unknown routing method {}", quoted(text)), Some(known))
                },
            )
        })
    }

    fn node_num(&mut self, node: Node<'_, '_>) -> Option<At<u32>> {
        let At { value, span } = self.value(node)?;
        node_number(self.report, &value, &span).map(|value| At { value, span })
    }

    fn address(&mut self, node: Node<'_, '_>) -> Option<At<IpAddr>> {
        self.converted(node, |text| {
            usable(text).map_err(|Unusable { message, help }| (message, help))
        })
    }

    /// An interface's name, by the kernel's rule (`dev_valid_name`, net/core/dev.c).
    fn interface(&mut self, node: Node<'_, '_>) -> Option<At<String>> {
        self.converted(node, |text| {
            let refused = |why: &str, help: Option<String>| {
                Err((format!("{} is not an interface name: {why}", quoted(text)), help))
            };
            if let Some((device, _)) = text.split_once(':') {
                return refused("it has a `:`", Some(format!("write {}", quoted(device))));
            }
            if text.contains('/') {
                return refused("it has a `/`", None);
            }
            if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return refused("it has a blank", None);
            }
            if text == "." || text == ".." {
                return refused("Linux keeps it for folders", None);
            }
            if text.len() > INTERFACE_MAX_LEN {
                return refused(
                    &format!("it is longer than {INTERFACE_MAX_LEN} bytes"),
                    Some("`ip link` lists the names".to_owned()),
                );
            }
            Ok(text.to_owned())
        })
    }

    fn weight(&mut self, node: Node<'_, '_>) -> Option<u16> {
        let range = 0..=u16::MAX.into();
        let weight = self.number(node, "weight", range, Some("weight 0 takes no connections"))?;
        u16::try_from(weight.value).ok()
    }

    fn port(&mut self, node: Node<'_, '_>) -> Port {
        let value = self
            .number(node, "port", 1..=u16::MAX.into(), None)
            .and_then(|At { value, span }| Some(At { value: u16::try_from(value).ok()?, span }));
        Port { tag: self.tag(node), value }
    }

    fn seconds(&mut self, node: Node<'_, '_>, least: u32) -> Option<u32> {
        let what = node.tag_name().name().to_owned();
        let help = match least {
            0 => "whole seconds",
            _ => "whole seconds; leave the element out for none",
        };
        Some(self.number(node, &what, least..=MAX_SECONDS, Some(help))?.value)
    }

    fn protocol(&mut self, node: Node<'_, '_>) -> Option<Protocol> {
        let protocol = self.converted(node, |text| {
            text.parse::<Protocol>().map_err(|_| {
                let known = alternatives(&Protocol::ALL.map(Protocol::name));
                let message = format!("unknown protocol {}", quoted(text));
                (message, Some(format!("it is one of {known}")))
            })
        });
        Some(protocol?.value)
    }

    fn registration(&mut self, node: Node<'_, '_>) -> Option<Registration> {
        let registration = self.converted(node, |text| {
            let words = Registration::ALL.map(Registration::name);
            Registration::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(text)).ok_or_else(
                || {
                    let message = format!("unknown registration {}", quoted(text));
                    (message, Some(format!("it is {}", alternatives(&words))))
                },
            )
        });
        Some(registration?.value)
    }

    fn scheduler(&mut self, node: Node<'_, '_>) -> Option<String> {
        let At { value, span } = self.converted(node, |text| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if text.len() > SCHEDULER_MAX_LEN {
                let why = format!("it is longer than {SCHEDULER_MAX_LEN} bytes");
                return Err((format!("{} is not a scheduler: {why}", quoted(text)), None));
            }
            if !text.bytes().all(fits) {
                let why = "its name has letters, digits, `-` and `_` only";
                return Err((format!("{} is not a scheduler: {why}", quoted(text)), None));
            }
            Ok(text.to_owned())
        })?;
        if !SCHEDULERS.contains(&value.as_str()) {
            let help = match closest(&value, SCHEDULERS) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("Linux has {}", alternatives(&SCHEDULERS)),
            };
            self.report
                .warning(
                    &span,
                    format!("{} is none of Linux's own schedulers: a kernel without it refuses the service", quoted(&value)),
                )
                .help(help);
        }
        Some(value)
    }

    fn owner(&mut self, node: Node<'_, '_>) -> Option<Owner> {
        let owner = self.converted(node, |text| {
            if text == "*" {
                return Ok(Owner::Anyone);
            }
            let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
            if text.contains(odd) {
                let help = "write one `owner` for each user, or `*` for anyone";
                let message = format!("{} is not a user name", quoted(text));
                return Err((message, Some(help.to_owned())));
            }
            Ok(Owner::User(text.to_owned()))
        });
        Some(owner?.value)
    }

    fn check(&mut self, node: Node<'_, '_>) {
        self.report
            .warning(&self.tag(node), "`check` is not supported yet: it is ignored")
            .help("a node still leaves the service when it stops listening");
    }
}

/// The elements that give a service its ports.
#[derive(Default)]
struct Ports {
    port: Option<Port>,
    start: Option<Port>,
    end: Option<Port>,
}

/// An element that takes a port, and the port if it is one.
struct Port {
    tag: Span,
    value: Option<At<u16>>,
}

/// Replaces a default by a value that was right.
fn set<T>(default: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *default = value;
    }
}

/// A span without the blanks at its ends.
fn trimmed(text: &str, span: Span) -> Span {
    let part = &text[span.clone()];
    let start = span.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}
