//! What holds for all files, good, damaged or random.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::checks::settings::{
    Check, CheckProgram, Count, Dns, Exec, Http, Kind, Period, RecordType,
};
use crate::ipvs::{limits, service_flags};

/// A node's interface, user or scheduler name.
fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9&<>._-]{0,14}"
}

/// A scheduler and flags that it can be given.
fn scheduler() -> impl Strategy<Value = (String, u32)> {
    let name = prop::sample::select(vec!["rr", "wrr", "wlc", "sh", "mh"]);
    (name, 0..8u32).prop_map(|(name, flags)| (name.to_owned(), flags * service_flags::SCHED1))
}

/// Seconds, mask and engine; the mask fits either family.
fn persistence() -> impl Strategy<Value = (u32, Option<u8>, bool)> {
    (1..=limits::MAX_SECONDS, prop::option::of(1..=32u8), any::<bool>())
}

fn thresholds() -> impl Strategy<Value = (u32, Option<u32>)> {
    (1..=limits::MAX_INT).prop_flat_map(|upper| (Just(upper), prop::option::of(1..=upper)))
}

fn check() -> impl Strategy<Value = Check> {
    let word = "[ -~\n\t\rä]{0,12}";
    let program = ("/[ -~]{0,12}", prop::collection::vec(word, 0..3)).prop_map(|(path, more)| {
        let words = std::iter::once(path).chain(more).collect();
        Kind::Exec(Exec::new(CheckProgram::new(words).expect("a path and no zero byte")))
    });
    let http = (any::<bool>(), "/[!-\"$-~]{0,9}", "[!-~]{1,9}", any::<bool>()).prop_map(
        |(tls, path, pattern, verify)| {
            let mut http = Http::new(tls);
            http.path = path.parse().expect("a path");
            http.pattern = pattern.parse().ok();
            http.status = "204,300-304".parse().expect("codes");
            http.verify = tls && verify;
            Kind::Http(http)
        },
    );
    let dns = prop::sample::select(RecordType::ALL.to_vec())
        .prop_map(|record_type| Kind::Dns(Dns { record_type, ..Dns::default() }));
    let kind = prop_oneof![Just(Kind::Tcp), program, http, dns];
    let count = || (1..=Count::MOST).prop_map(|n| Count::new(n).expect("a count"));
    let period = || {
        let millis = Period::LEAST.as_millis() as u64..=Period::MOST.as_millis() as u64;
        millis.prop_map(|ms| Period::new(Duration::from_millis(ms)).expect("a period"))
    };
    // With a port of its own a check suits every protocol.
    (kind, period(), period(), count(), count(), 1..=u16::MAX).prop_map(
        |(kind, interval, timeout, rise, fall, port)| {
            let port = (!matches!(kind, Kind::Exec(_))).then_some(port);
            Check { kind, interval, timeout, rise, fall, port }
        },
    )
}

fn service_conf() -> impl Strategy<Value = ServiceConf> {
    let owner = prop_oneof![name().prop_map(Owner::User), Just(Owner::Anyone)];
    let drain = 0..=limits::MAX_SECONDS;
    let flapping = (0..=model::MAX_FLAP_LIMIT, 1..=limits::MAX_SECONDS);
    (
        prop::sample::select(Protocol::ALL.to_vec()),
        (0..40u16, any::<u16>(), scheduler(), any::<bool>()),
        (prop::option::of(persistence()), prop::option::of(thresholds())),
        (drain, flapping, prop::option::of(check())),
        (any::<bool>(), prop::collection::vec(owner, 0..3)),
    )
        .prop_map(|(protocol, scheduling, limits, timing, (fixed, owners))| {
            let (length, weight, (scheduler, flags), one_packet) = scheduling;
            let (persistence, thresholds) = limits;
            let mut service = ServiceConf::new(protocol, 1, 1 + length);
            service.weight = weight;
            (service.scheduler, service.scheduler_flags) = (scheduler, flags);
            service.one_packet = one_packet && protocol == Protocol::Udp;
            if let Some((seconds, netmask, sip)) = persistence {
                service.persistence = Some(seconds);
                service.persistence_netmask = netmask;
                let engine = sip && protocol == Protocol::Udp;
                service.persistence_engine = engine.then(|| "sip".to_owned());
            }
            service.upper_threshold = thresholds.map(|(upper, _)| upper);
            service.lower_threshold = thresholds.and_then(|(_, lower)| lower);
            (service.drain_timeout, (service.flap_limit, service.damp_time), service.check) =
                timing;
            service.check.take_if(|check| check.suits(protocol).is_err());
            if fixed {
                service.registration = RegistrationMode::Static;
            } else {
                service.owners = owners;
            }
            service
        })
}

/// Sorry servers and a weight by node for the services of a CVIP whose first director is known.
fn spread(services: &mut [ServiceConf], v6: bool, nat: bool, node: u32, seed: u16) {
    for (n, service) in services.iter_mut().enumerate() {
        let n = n as u16;
        if (seed + n).is_multiple_of(3) {
            service.node_weights.insert(node, u32::from(seed));
        }
        let single = service.start == service.end;
        if (seed + n).is_multiple_of(5) {
            let weight = 1 + u32::from(seed);
            service.quorum = Some(Quorum { weight, hysteresis: weight / 3 });
            let (aggression, min_weight_percent) = (weight % 500 + 1, weight % 101);
            service.slow_start = Some(SlowStart { window: weight, aggression, min_weight_percent });
        }
        for sorry in 0..(seed + n) % 3 {
            let port = (nat && single && sorry == 1).then_some(7);
            let weight = 1 + seed % 9;
            service.sorry_servers.push(SorryServer {
                addr: address(v6, 9000 + sorry),
                port,
                weight,
            });
        }
    }
}

fn address(v6: bool, host: u16) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host])
    } else {
        let [high, low] = host.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }
}

/// A CVIP of the given family; `index` keeps it apart from others. Its directors are the
/// nodes 10 * index + 1 and following.
fn cvip_conf(index: u16, v6: bool, nat: bool) -> impl Strategy<Value = Cvip> {
    let director = (name(), prop::option::of(name()));
    (
        prop::collection::vec(director, 1..4),
        prop::collection::btree_map(4..9u16, 0..=u32::from(u16::MAX), 0..4),
        prop::collection::vec(service_conf(), 0..5),
        (any::<bool>(), 0..1000u16),
    )
        .prop_map(move |(directors, servers, mut services, (gateway, seed))| {
            let node = |n: u16| u32::from(10 * index + n);
            let directors: Vec<DirectorNode> = directors
                .into_iter()
                .zip(1..)
                .map(|((garp_interface, sync_interface), n)| DirectorNode {
                    node: node(n),
                    garp_interface,
                    sync_interface,
                })
                .collect();
            let mut weights: BTreeMap<u16, u32> = servers;
            weights.extend((1..).take(directors.len()).map(|n| (n, 1)));
            let server = |(n, weight): (u16, u32)| RealServer {
                node: node(n),
                addr: address(v6, 1000 + 10 * index + n),
                weight,
            };
            for (n, service) in services.iter_mut().enumerate() {
                let shift = 100 * (n as u16 + 1);
                service.start += shift;
                service.end += shift;
            }
            spread(&mut services, v6, nat, node(1), seed);
            Cvip {
                addr: address(v6, 1 + index),
                gateway: gateway.then(|| address(v6, 500 + index)),
                directors,
                real_servers: weights.into_iter().map(server).collect(),
                services,
            }
        })
}

fn conf() -> impl Strategy<Value = Conf> {
    let routing = prop::sample::select(Routing::ALL.to_vec());
    (routing, any::<[bool; 3]>(), 1..4usize).prop_flat_map(|(routing, v6, count)| {
        let nat = routing == Routing::Nat;
        let cvips = (0..3).zip(v6).take(count).map(|(i, v6)| cvip_conf(i, v6, nat));
        (Just(routing), cvips.collect::<Vec<_>>())
            .prop_map(|(routing, cvips)| Conf { routing, cvips })
    })
}

/// A file with everything that a service may say.
const EVERYTHING: &str = r#"<cvips><routing>NAT</routing><cvip><ip_addr>192.168.200.10</ip_addr>
<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
<service>
<protocol>udp</protocol><port>5060</port><scheduler>mh</scheduler>
<scheduler_flags>mh-port,mh-fallback</scheduler_flags><one_packet>yes</one_packet>
<persistence>60</persistence><persistence_netmask>255.255.255.0</persistence_netmask>
<persistence_engine>sip</persistence_engine>
<upper_threshold>100</upper_threshold><lower_threshold>80</lower_threshold>
<node><node_num>1</node_num><weight>4</weight></node>
<flap_limit>3</flap_limit><damp_time>20</damp_time>
<quorum>3</quorum><hysteresis>1</hysteresis>
<slow_start><window>60</window><aggression>2.25</aggression>
<min_weight_percent>5</min_weight_percent></slow_start><owner>*</owner>
<sorry_server><ip_addr>192.168.200.9</ip_addr><port>80</port><weight>2</weight></sorry_server>
<check><type>http</type><interval>0.5</interval><timeout>250ms</timeout><rise>2</rise><fall>3</fall>
<port>8080</port><host>example.org</host><path>/health</path><status>200-299,304</status>
<pattern>o[k]</pattern></check>
</service>
<service><port>53</port>
<check><type>dns</type><name>example.org</name><record>AAAA</record></check></service>
<service><port>25</port>
<check><type>exec</type><command>/bin/check "a b"</command><user>nobody</user></check></service>
</cvip></cvips>
"#;

#[test]
fn a_file_with_everything_has_no_fault() {
    loaded(EVERYTHING);
}

/// Characters that mean something to XML, or to a terminal.
const MARKUP: &str = "[<>/&;:=\"!?\\[\\]a-z0-9ä\u{1b}\u{85}\u{202e}-]{1,4}";

proptest! {
    #[test]
    fn a_conf_written_as_xml_parses_back_to_itself(conf in conf()) {
        let nodes = conf.nodes().into_iter().map(|n| (n, IpAddr::from([10, 9, 9, n as u8])));
        let clustertab = Clustertab { nodes: nodes.collect() };
        let (back, diagnostics) = parse(&Xml(&conf).to_string(), "cvip.conf", &clustertab);
        let errors = diagnostics.iter().filter(|d| d.severity == DiagnosticSeverity::Error);
        prop_assert_eq!(errors.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        prop_assert_eq!(back, Some(conf));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        checked(&text)?;
    }

    /// Single characters replaced, removed or doubled reach far deeper than random text.
    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        everything in any::<bool>(),
        damage in prop::collection::vec((0..2000usize, 0..3usize, any::<char>()), 1..8),
        markup in prop::collection::vec((0..2000usize, MARKUP), 0..3),
    ) {
        let good = if everything { EVERYTHING } else { OPENSSI };
        let mut chars: Vec<char> = good.chars().collect();
        for (at, kind, c) in damage {
            let at = at % chars.len();
            match kind {
                0 => chars[at] = c,
                1 => drop(chars.remove(at)),
                _ => chars.insert(at, chars[at]),
            }
        }
        for (at, text) in markup {
            let at = at % chars.len();
            chars.splice(at..at, text.chars());
        }
        checked(&chars.into_iter().collect::<String>())?;
    }
}

/// A text is either a `Conf` or has an error, and every fault can be shown.
fn checked(text: &str) -> Result<(), TestCaseError> {
    let (conf, diagnostics) = parse(text, "cvip.conf", &clustertab());
    let refused = diagnostics.iter().any(|d| d.severity == DiagnosticSeverity::Error);
    prop_assert_eq!(conf.is_none(), refused);
    for diagnostic in &diagnostics {
        let place = diagnostic.place.as_ref().expect("a place");
        prop_assert!(place.line >= 1 && place.column >= 1 && place.length >= 1);
        let shown = diagnostic.to_string();
        prop_assert!(shown.lines().count() >= 3);
        prop_assert!(
            shown.chars().all(|c| "\n\t".contains(c) || !words::is_obeyed(c)),
            "{:?}",
            shown
        );
    }
    Ok(())
}
