//! What holds for all files, good, damaged or random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A node's interface, user or scheduler name.
fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9&<>._-]{0,14}"
}

fn scheduler() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["rr", "wrr", "wlc", "sh", "mh"]).prop_map(str::to_owned)
}

fn service_conf() -> impl Strategy<Value = ServiceConf> {
    let owner = prop_oneof![name().prop_map(Owner::User), Just(Owner::Anyone)];
    (
        prop::sample::select(Protocol::ALL.to_vec()),
        (0..40u16, any::<u16>(), scheduler()),
        prop::option::of(1..=model::MAX_SECONDS),
        0..=model::MAX_SECONDS,
        (any::<bool>(), prop::collection::vec(owner, 0..3)),
    )
        .prop_map(
            |(protocol, (length, weight, scheduler), persistence, drain, (fixed, owners))| {
                let mut service = ServiceConf::new(protocol, 1, 1 + length);
                service.weight = weight;
                service.scheduler = scheduler;
                service.persistence = persistence;
                service.drain_timeout = drain;
                if fixed {
                    service.registration = Registration::Static;
                } else {
                    service.owners = owners;
                }
                service
            },
        )
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
fn cvip_conf(index: u16, v6: bool) -> impl Strategy<Value = Cvip> {
    let director = (name(), prop::option::of(name()));
    (
        prop::collection::vec(director, 1..4),
        prop::collection::btree_map(4..9u16, 0..=u32::from(u16::MAX), 0..4),
        prop::collection::vec(service_conf(), 0..5),
        any::<bool>(),
    )
        .prop_map(move |(directors, servers, mut services, gateway)| {
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
    let cvips = (any::<[bool; 3]>(), 1..4usize).prop_flat_map(|(v6, count)| {
        (0..3).zip(v6).take(count).map(|(i, v6)| cvip_conf(i, v6)).collect::<Vec<_>>()
    });
    (routing, cvips).prop_map(|(routing, cvips)| Conf { routing, cvips })
}

/// Characters that mean something to XML, or to a terminal.
const MARKUP: &str = "[<>/&;:=\"!?\\[\\]a-z0-9ä\u{1b}\u{85}\u{202e}-]{1,4}";

proptest! {
    #[test]
    fn a_conf_written_as_xml_parses_back_to_itself(conf in conf()) {
        let nodes = conf.nodes().into_iter().map(|n| (n, IpAddr::from([10, 9, 9, n as u8])));
        let clustertab = Clustertab { nodes: nodes.collect() };
        let (back, diagnostics) = parse(&Xml(&conf).to_string(), "cvip.conf", &clustertab);
        let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
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
        damage in prop::collection::vec((0..1200usize, 0..3usize, any::<char>()), 1..8),
        markup in prop::collection::vec((0..1200usize, MARKUP), 0..3),
    ) {
        let mut chars: Vec<char> = OPENSSI.chars().collect();
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
    let refused = diagnostics.iter().any(|d| d.severity == Severity::Error);
    prop_assert_eq!(conf.is_none(), refused);
    for diagnostic in &diagnostics {
        let place = diagnostic.place.as_ref().expect("a place");
        prop_assert!(place.line >= 1 && place.column >= 1 && place.length >= 1);
        let shown = diagnostic.to_string();
        prop_assert!(shown.lines().count() >= 3);
        prop_assert!(shown.chars().all(|c| c == '\n' || !words::is_obeyed(c)), "{:?}", shown);
    }
    Ok(())
}
