//! A `service` element: its values, each with the place that a later check may have to name.

use std::net::{IpAddr, Ipv4Addr};

use roxmltree::Node;

use super::check::DraftCheck;
use super::reader::DraftReader;
use crate::conf::grammar::{NODE, SERVICE, SLOW_START, SORRY_SERVER};
use crate::conf::model::{
    MAX_AGGRESSION, MAX_FLAP_LIMIT, Owner, RegistrationMode, ServiceConf, SlowStart,
};
use crate::conf::report::{At, Span};
use crate::conf::words::{Hundredths, alternatives, closest, quoted};
use crate::ipvs::SchedulerFlag;
use crate::ipvs::limits::{ENGINE_MAX_LEN, MAX_INT, MAX_SECONDS, SCHEDULER_MAX_LEN, SCHEDULERS};
use crate::protocol::Protocol;

/// The persistence engines of Linux (net/netfilter/ipvs/ip_vs_pe_*.c).
const ENGINES: [&str; 1] = ["sip"];

pub(in crate::conf) struct DraftService {
    /// First and last port, at the place to name in messages; none if they or the protocol
    /// are wrong.
    pub(in crate::conf) range: Option<At<(u16, u16)>>,
    /// None if it is wrong.
    pub(in crate::conf) protocol: Option<Protocol>,
    /// None if it is wrong.
    pub(in crate::conf) scheduler: Option<String>,
    pub(in crate::conf) flags: Vec<At<SchedulerFlag>>,
    /// Where the file says `yes`.
    pub(in crate::conf) one_packet: Option<Span>,
    /// The element is there, be its value right or wrong.
    pub(in crate::conf) names_persistence: bool,
    pub(in crate::conf) netmask: Option<At<Netmask>>,
    pub(in crate::conf) engine: Option<At<String>>,
    /// The element is there, be its value right or wrong.
    pub(in crate::conf) names_upper: bool,
    pub(in crate::conf) upper: Option<At<u32>>,
    pub(in crate::conf) lower: Option<At<u32>>,
    pub(in crate::conf) nodes: Vec<DraftNode>,
    /// The element is there, be its value right or wrong.
    pub(in crate::conf) names_quorum: bool,
    pub(in crate::conf) quorum: Option<At<u32>>,
    pub(in crate::conf) hysteresis: Option<At<u32>>,
    pub(in crate::conf) sorry: Vec<DraftSorry>,
    /// The first `owner`.
    pub(in crate::conf) owner: Option<Span>,
    pub(in crate::conf) check: Option<DraftCheck>,
    /// What was right, with defaults for all else. What stands beside it, with a place of its
    /// own, is still to be put into it.
    pub(in crate::conf) conf: ServiceConf,
}

/// How a `persistence_netmask` is written.
#[derive(Clone, Copy)]
pub(in crate::conf) enum Netmask {
    /// As IPv4's, `255.255.255.0`: the leading bits.
    Dotted(u8),
    /// The number of leading bits.
    Length(u8),
}

/// A `node` of a service.
pub(in crate::conf) struct DraftNode {
    pub(in crate::conf) node: Option<At<u32>>,
    pub(in crate::conf) weight: Option<u16>,
}

pub(in crate::conf) struct DraftSorry {
    pub(in crate::conf) addr: Option<At<IpAddr>>,
    /// The element is there, be its value right or wrong.
    pub(in crate::conf) names_port: bool,
    pub(in crate::conf) port: Option<At<u16>>,
    pub(in crate::conf) weight: Option<u16>,
}

impl DraftReader<'_, '_> {
    pub(super) fn service(&mut self, node: Node<'_, '_>) -> DraftService {
        let conf = ServiceConf::new(Protocol::default(), 0, 0);
        let mut draft = DraftService {
            range: None,
            protocol: Some(conf.protocol),
            scheduler: Some(conf.scheduler.clone()),
            flags: Vec::new(),
            one_packet: None,
            names_persistence: false,
            netmask: None,
            engine: None,
            names_upper: false,
            upper: None,
            lower: None,
            nodes: Vec::new(),
            names_quorum: false,
            quorum: None,
            hysteresis: None,
            sorry: Vec::new(),
            owner: None,
            check: None,
            conf,
        };
        let mut ports = Ports::default();
        self.walk(node, &SERVICE, |reader, name, node| {
            let conf = &mut draft.conf;
            match name {
                "protocol" => draft.protocol = reader.protocol(node),
                "port" => ports.port = Some(reader.port(node)),
                "start_port" => ports.start = Some(reader.port(node)),
                "end_port" => ports.end = Some(reader.port(node)),
                "weight" => set(&mut conf.weight, reader.weight(node, 0)),
                "scheduler" => draft.scheduler = reader.scheduler(node),
                "scheduler_flags" => draft.flags = reader.scheduler_flags(node),
                "one_packet" => draft.one_packet = reader.yes(node),
                "persistence" => {
                    draft.names_persistence = true;
                    conf.persistence = reader.seconds(node, 1, LEAVE_OUT);
                }
                "persistence_netmask" => draft.netmask = reader.netmask(node),
                "persistence_engine" => draft.engine = reader.engine(node),
                "upper_threshold" => {
                    draft.names_upper = true;
                    draft.upper = reader.threshold(node);
                }
                "lower_threshold" => draft.lower = reader.threshold(node),
                "node" => draft.nodes.push(reader.node(node)),
                "registration" => set(&mut conf.registration, reader.registration(node)),
                "drain_timeout" => set(&mut conf.drain_timeout, reader.seconds(node, 0, "")),
                "flap_limit" => set(&mut conf.flap_limit, reader.flap_limit(node)),
                "damp_time" => set(&mut conf.damp_time, reader.seconds(node, 1, "")),
                "quorum" => {
                    draft.names_quorum = true;
                    draft.quorum = reader.sum_of_weights(node, 1);
                }
                "hysteresis" => draft.hysteresis = reader.sum_of_weights(node, 0),
                "slow_start" => conf.slow_start = reader.slow_start(node),
                "owner" => {
                    draft.owner.get_or_insert(reader.tag(node));
                    conf.owners.extend(reader.owner(node));
                }
                "sorry_server" => draft.sorry.push(reader.sorry_server(node)),
                _ => draft.check = reader.check(node),
            }
        });
        let range = self.range(&self.tag(node), ports);
        DraftService { range: range.filter(|_| draft.protocol.is_some()), ..draft }
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
                    self.error(&start.span, message)
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
        self.error(&tag, message)
            .help("a service has one `port`, or a `start_port` and an `end_port`");
        None
    }

    fn node(&mut self, node: Node<'_, '_>) -> DraftNode {
        let mut draft = DraftNode { node: None, weight: None };
        self.walk(node, &NODE, |reader, name, node| match name {
            "node_num" => draft.node = reader.node_num(node),
            _ => draft.weight = reader.weight(node, 0),
        });
        draft
    }

    fn slow_start(&mut self, node: Node<'_, '_>) -> Option<SlowStart> {
        let (mut window, mut slow_start) = (None, SlowStart::new(1));
        self.walk(node, &SLOW_START, |reader, name, node| match name {
            "window" => window = reader.seconds(node, 1, LEAVE_OUT),
            "aggression" => set(&mut slow_start.aggression, reader.aggression(node)),
            _ => set(&mut slow_start.min_weight_percent, reader.percent(node)),
        });
        Some(SlowStart { window: window?, ..slow_start })
    }

    fn aggression(&mut self, node: Node<'_, '_>) -> Option<u32> {
        let help = "1 is a straight line, and with more the weight grows faster at first";
        let found = self.converted(node, |text| {
            let number: Option<Hundredths> = text.parse().ok();
            let fits = |hundredths: &Hundredths| (1..=MAX_AGGRESSION).contains(&hundredths.0);
            number.filter(fits).ok_or_else(|| {
                let message = format!(
                    "aggression {} is no number from 0.01 to {} with two decimals at most",
                    quoted(text),
                    Hundredths(MAX_AGGRESSION)
                );
                (message, Some(help.to_owned()))
            })
        })?;
        Some(found.value.0)
    }

    fn percent(&mut self, node: Node<'_, '_>) -> Option<u32> {
        let help = "a part of the weight in percent";
        Some(self.number(node, node.tag_name().name(), 0..=100, Some(help))?.value)
    }

    fn sorry_server(&mut self, node: Node<'_, '_>) -> DraftSorry {
        let mut draft = DraftSorry { addr: None, names_port: false, port: None, weight: None };
        self.walk(node, &SORRY_SERVER, |reader, name, node| match name {
            "ip_addr" => draft.addr = reader.address(node),
            "port" => {
                draft.names_port = true;
                draft.port = reader.port(node).value;
            }
            _ => draft.weight = reader.weight(node, 1),
        });
        draft
    }

    pub(super) fn port(&mut self, node: Node<'_, '_>) -> DraftPort {
        let value = self
            .number(node, "port", 1..=u16::MAX.into(), None)
            .and_then(|At { value, span }| Some(At { value: u16::try_from(value).ok()?, span }));
        DraftPort { tag: self.tag(node), value }
    }

    fn seconds(&mut self, node: Node<'_, '_>, least: u32, more: &str) -> Option<u32> {
        let what = node.tag_name().name();
        let help = format!("whole seconds{more}");
        Some(self.number(node, what, least..=MAX_SECONDS, Some(&help))?.value)
    }

    fn threshold(&mut self, node: Node<'_, '_>) -> Option<At<u32>> {
        let help = format!("a number of connections{LEAVE_OUT}");
        self.number(node, node.tag_name().name(), 1..=MAX_INT, Some(&help))
    }

    fn sum_of_weights(&mut self, node: Node<'_, '_>, least: u32) -> Option<At<u32>> {
        let help = "a sum of the weights of real servers";
        self.number(node, node.tag_name().name(), least..=MAX_INT, Some(help))
    }

    fn flap_limit(&mut self, node: Node<'_, '_>) -> Option<u32> {
        let help = "how often a real server may leave within a minute; 0 for as often as it likes";
        Some(self.number(node, "flap_limit", 0..=MAX_FLAP_LIMIT, Some(help))?.value)
    }

    /// The place of a `yes`.
    pub(super) fn yes(&mut self, node: Node<'_, '_>) -> Option<Span> {
        let name = node.tag_name().name();
        let answer = self.converted(node, |text| match text.to_ascii_lowercase().as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err((format!("`{name}` is yes or no, not {}", quoted(text)), None)),
        })?;
        answer.value.then_some(answer.span)
    }

    fn protocol(&mut self, node: Node<'_, '_>) -> Option<Protocol> {
        let messages = ("protocol", "it is one of");
        Some(self.word(node, &Protocol::ALL, Protocol::name, messages)?.value)
    }

    fn registration(&mut self, node: Node<'_, '_>) -> Option<RegistrationMode> {
        let messages = ("registration", "it is");
        Some(self.word(node, &RegistrationMode::ALL, RegistrationMode::name, messages)?.value)
    }

    /// A name of something that the kernel may have as a module.
    fn name(&mut self, node: Node<'_, '_>, what: &str, longest: usize) -> Option<At<String>> {
        self.converted(node, |text| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if text.len() > longest {
                let why = format!("it is longer than {longest} bytes");
                return Err((format!("{} is not a {what}: {why}", quoted(text)), None));
            }
            if !text.bytes().all(fits) {
                let why = "its name has letters, digits, `-` and `_` only";
                return Err((format!("{} is not a {what}: {why}", quoted(text)), None));
            }
            Ok(text.to_owned())
        })
    }

    /// Warns about a name that Linux does not have.
    fn known(&mut self, At { value, span }: &At<String>, what: &str, known: &[&str]) {
        if known.contains(&value.as_str()) {
            return;
        }
        let help = match closest(value, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("Linux has {}", alternatives(known)),
        };
        let message = format!(
            "{} is none of Linux's own {what}: a kernel without it refuses the service",
            quoted(value)
        );
        self.warning(span, message).help(help);
    }

    fn scheduler(&mut self, node: Node<'_, '_>) -> Option<String> {
        let name = self.name(node, "scheduler", SCHEDULER_MAX_LEN)?;
        self.known(&name, "schedulers", &SCHEDULERS);
        Some(name.value)
    }

    fn engine(&mut self, node: Node<'_, '_>) -> Option<At<String>> {
        let name = self.name(node, "persistence engine", ENGINE_MAX_LEN)?;
        self.known(&name, "persistence engines", &ENGINES);
        Some(name)
    }

    fn scheduler_flags(&mut self, node: Node<'_, '_>) -> Vec<At<SchedulerFlag>> {
        let words = SchedulerFlag::ALL.map(|flag| flag.word);
        let mut flags = Vec::new();
        for At { value, span } in self.list(node).unwrap_or_default() {
            match SchedulerFlag::named(&value.to_ascii_lowercase()) {
                Some(flag) => flags.push(At { value: flag, span }),
                None => {
                    let help = match closest(&value, words) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("it is one of {}", alternatives(&words)),
                    };
                    let message = format!("unknown scheduler flag {}", quoted(&value));
                    self.error(&span, message).help(help);
                }
            }
        }
        flags
    }

    fn netmask(&mut self, node: Node<'_, '_>) -> Option<At<Netmask>> {
        self.converted(node, |text| {
            let help = "write a mask such as 255.255.255.0, or the number of its leading bits";
            let refused = |why: &str| {
                let message = format!("{} is not a netmask: {why}", quoted(text));
                Err((message, Some(help.to_owned())))
            };
            if let Ok(mask) = text.parse::<Ipv4Addr>() {
                let length = mask.to_bits().leading_ones();
                return match u8::try_from(length) {
                    Ok(0) => refused("it would take all clients for one"),
                    Ok(bits) if mask.to_bits().count_ones() == length => Ok(Netmask::Dotted(bits)),
                    _ => refused("its bits are not all at the front"),
                };
            }
            let digits = text.strip_prefix('/').unwrap_or(text);
            match digits.parse::<u8>() {
                Ok(bits @ 1..=128) if !digits.starts_with('+') => Ok(Netmask::Length(bits)),
                Ok(0) => refused("it would take all clients for one"),
                _ => refused("a prefix length is 1 to 32 in IPv4, 1 to 128 in IPv6"),
            }
        })
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
}

/// Ends the help of a number that means something only where it is given.
const LEAVE_OUT: &str = "; leave the element out for none";

/// The elements that give a service its ports.
#[derive(Default)]
struct Ports {
    port: Option<DraftPort>,
    start: Option<DraftPort>,
    end: Option<DraftPort>,
}

/// An element that takes a port, and the port if it is one.
pub(super) struct DraftPort {
    tag: Span,
    pub(super) value: Option<At<u16>>,
}

/// Replaces a default by a value that was right.
fn set<T>(default: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *default = value;
    }
}
