//! A node's record as it is stored, and how it is kept small. Pure.
//!
//! etcd takes 1.5 MiB in one request, and what a node says is partly up to its users. So lists that
//! tell people something are cut, with the number of what is left out; what directors act on is
//! told whole, and is told in port ranges where there is much of it. A record of few
//! registrations is stored row by row, which an older cvipd reads too; one of many has no
//! `registrations` at all, so that an older cvipd keeps the last record that it could read instead
//! of taking the node for one that serves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::orders::DrainTarget;
use super::record::{Lingering, NodeRecord, RefusedListener, Registration};
use super::service::{PortRanges, ServiceKey, runs};
use crate::ports::FlagSet;
use crate::protocol::Protocol;

/// More registrations than this are stored as port ranges.
const MOST_ROWS: usize = 256;
/// More different reasons than this are not told apart.
const MOST_REASONS: usize = 256;
/// Most listeners that were kept out, named one by one.
pub const MOST_REFUSED: usize = 100;
/// Most ports with connections that are left.
const MOST_LINGERING: usize = 2000;
/// Most hints.
const MOST_HINTS: usize = 50;
/// No reason and no hint is longer, in characters.
const MOST_CHANGES: usize = 300;
/// No record is larger, in bytes: etcd's limit is 1.5 MiB for the whole request.
const MOST_BYTES: usize = 1400 << 10;

/// No record has more registrations: all ports of sixteen CVIPs. What is stored as port ranges is
/// short, whatever it says, and a reader makes rows of it.
const MOST_REGISTRATIONS: usize = 1 << 20;

/// Registrations that differ in their ports alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PortRun {
    #[serde(flatten)]
    ranges: PortRanges,
    weight: u16,
    #[serde(rename = "unfit", default, skip_serializing_if = "Option::is_none")]
    unhealthy: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hidden: bool,
}

/// A record as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredRecord {
    node: u32,
    incarnation: u64,
    sequence: u64,
    #[serde(rename = "bells")]
    event_source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registrations: Option<Vec<Registration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runs: Option<Vec<PortRun>>,
    #[serde(default)]
    refused: Vec<RefusedListener>,
    #[serde(default, skip_serializing_if = "is_zero")]
    refused_more: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reachable: Vec<PortRanges>,
    #[serde(default)]
    lingering: Vec<Lingering>,
    #[serde(default)]
    hints: Vec<String>,
    #[serde(default)]
    flags: FlagSet,
    #[serde(default)]
    directing: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vouched: Option<u32>,
    #[serde(default)]
    obeys: Vec<DrainTarget>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leaving: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    released: Vec<u32>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What registrations of one run have in common.
type Alike = (IpAddr, Protocol, u16, Option<String>, bool);

impl From<NodeRecord> for StoredRecord {
    fn from(record: NodeRecord) -> StoredRecord {
        let (rows, runs) = match record.registrations.len() {
            0..=MOST_ROWS => (Some(record.registrations), None),
            _ => (None, Some(into_runs(record.registrations))),
        };
        StoredRecord {
            node: record.node,
            incarnation: record.incarnation,
            sequence: record.sequence,
            event_source: record.event_source,
            registrations: rows,
            runs,
            refused: record.refused,
            refused_more: record.refused_more,
            reachable: record.reachable,
            lingering: record.lingering,
            hints: record.hints,
            flags: record.flags,
            directing: record.directing,
            vouched: record.vouched,
            obeys: record.obeys,
            leaving: record.leaving,
            released: record.released,
        }
    }
}

fn into_runs(registrations: Vec<Registration>) -> Vec<PortRun> {
    let mut alike: BTreeMap<Alike, BTreeSet<u16>> = BTreeMap::new();
    for Registration { service, weight, unhealthy, hidden } in registrations {
        let key = (service.cvip, service.protocol, weight, unhealthy, hidden);
        alike.entry(key).or_default().insert(service.port);
    }
    let make = |((cvip, protocol, weight, unhealthy, hidden), ports)| {
        let ranges = PortRanges { cvip, protocol, ports: runs(ports) };
        PortRun { ranges, weight, unhealthy, hidden }
    };
    alike.into_iter().map(make).collect()
}

impl TryFrom<StoredRecord> for NodeRecord {
    type Error = &'static str;

    fn try_from(stored: StoredRecord) -> Result<NodeRecord, &'static str> {
        if stored.registrations.is_none() && stored.runs.is_none() {
            return Err("it has neither `registrations` nor `runs`");
        }
        let mut registrations = stored.registrations.unwrap_or_default();
        let runs = stored.runs.unwrap_or_default();
        let in_runs = runs.iter().fold(0, |sum: usize, r| sum.saturating_add(r.ranges.count()));
        if in_runs.saturating_add(registrations.len()) > MOST_REGISTRATIONS {
            return Err("it has more registrations than any record");
        }
        registrations.extend(runs.iter().flat_map(|run| {
            run.ranges.services().map(|service| Registration {
                service,
                weight: run.weight,
                unhealthy: run.unhealthy.clone(),
                hidden: run.hidden,
            })
        }));
        if !runs.is_empty() {
            registrations.sort_unstable();
        }
        Ok(NodeRecord {
            node: stored.node,
            incarnation: stored.incarnation,
            sequence: stored.sequence,
            event_source: stored.event_source,
            registrations,
            refused: stored.refused,
            refused_more: stored.refused_more,
            reachable: stored.reachable,
            lingering: stored.lingering,
            hints: stored.hints,
            flags: stored.flags,
            directing: stored.directing,
            vouched: stored.vouched,
            obeys: stored.obeys,
            leaving: stored.leaving,
            released: stored.released,
        })
    }
}

impl Serialize for NodeRecord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        StoredRecord::from(self.clone()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for NodeRecord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NodeRecord, D::Error> {
        StoredRecord::deserialize(from)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// A record that fits into every store: what is too much for it is left out, the least needed
/// first. One that fits is unchanged.
pub fn shortened(mut record: NodeRecord) -> NodeRecord {
    record.registrations.truncate(MOST_REGISTRATIONS);
    record.hints.truncate(MOST_HINTS);
    record.hints.iter_mut().for_each(cut);
    if record.refused.len() > MOST_REFUSED {
        let more = record.refused.split_off(MOST_REFUSED);
        leave_out(&mut record, more);
    }
    record.refused.iter_mut().for_each(|refused| cut(&mut refused.reason));
    if record.lingering.len() > MOST_LINGERING {
        // A drain waits for the largest longest.
        record.lingering.sort_by_key(|lingering| std::cmp::Reverse(lingering.connections));
        record.lingering.truncate(MOST_LINGERING);
        record.lingering.sort_unstable();
    }
    let reasons = record.registrations.iter_mut().filter_map(|r| r.unhealthy.as_mut());
    let mut different: BTreeSet<String> = BTreeSet::new();
    for reason in reasons {
        cut(reason);
        if different.len() >= MOST_REASONS && !different.contains(reason) {
            "its check failed".clone_into(reason);
        }
        different.insert(reason.clone());
    }
    // Port ranges are short: only very many CVIPs with very many ports come so far.
    while size(&record) > MOST_BYTES {
        if !record.refused.is_empty() {
            let more = std::mem::take(&mut record.refused);
            leave_out(&mut record, more);
        } else if !record.lingering.is_empty() || !record.hints.is_empty() {
            record.lingering.clear();
            record.hints.clear();
        } else if record
            .registrations
            .iter()
            .any(|r| r.unhealthy.as_ref().is_some_and(|w| w != "unhealthy"))
        {
            let reasons = record.registrations.iter_mut().filter_map(|r| r.unhealthy.as_mut());
            reasons.for_each(|reason| "unhealthy".clone_into(reason));
        } else if record.registrations.is_empty() {
            break;
        } else {
            let kept = record.registrations.len() * 9 / 10;
            record.registrations.truncate(kept);
        }
    }
    record
}

/// Leaves rows out: they are counted, and what directors need of them is kept as port ranges.
fn leave_out(record: &mut NodeRecord, rows: Vec<RefusedListener>) {
    record.refused_more = record.refused_more.saturating_add(rows.len() as u32);
    let kept = rows.iter().filter(|row| row.reachable).map(|row| row.service);
    let before = record.reachable.iter().flat_map(PortRanges::services);
    let all: BTreeSet<ServiceKey> = before.chain(kept).collect();
    record.reachable = PortRanges::of(all);
}

fn size(record: &NodeRecord) -> usize {
    super::value::encode(record).len()
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MOST_CHANGES) {
        text.truncate(at);
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(cvip: u8, protocol: Protocol, port: u16) -> ServiceKey {
        ServiceKey { cvip: [10, 0, 0, cvip].into(), protocol, port }
    }

    fn with(registrations: Vec<Registration>) -> NodeRecord {
        NodeRecord { registrations, ..NodeRecord::empty(1, 2, 3) }
    }

    #[test]
    fn a_short_record_that_says_very_much_is_refused_before_it_is_made() {
        let text = |runs: usize| {
            let run = r#"{"cvip":"10.0.0.1","protocol":"tcp","ports":"1-65535","weight":1}"#;
            let runs = vec![run; runs].join(",");
            format!(r#"{{"node":1,"incarnation":2,"sequence":3,"bells":"","runs":[{runs}]}}"#)
        };
        let read = |runs| serde_json::from_str::<NodeRecord>(&text(runs));
        assert_eq!(read(2).unwrap().registrations.len(), 2 * 65535);
        // 1.4 MiB, of which rows would be made for some hundred GiB.
        let error = read(20_000).unwrap_err().to_string();
        assert!(error.contains("more registrations than any record"), "{error}");
    }

    fn back(record: &NodeRecord) -> NodeRecord {
        serde_json::from_slice(&super::super::value::encode(record)).unwrap()
    }

    #[test]
    fn every_port_of_several_cvips_fits_whatever_their_weights() {
        for weights in [1, 2, 3] {
            let of = |cvip| {
                (1..=u16::MAX).map(move |port| {
                    Registration::new(service(cvip, Protocol::Tcp, port), port % weights + 1)
                })
            };
            let record = with((1..=3).flat_map(of).collect());
            assert!(size(&record) <= MOST_BYTES, "{} bytes", size(&record));
            assert_eq!(shortened(record.clone()), record);
            assert_eq!(back(&record), record);
        }
        let all = (1..=u16::MAX).map(|port| Registration::new(service(1, Protocol::Tcp, port), 1));
        assert!(size(&with(all.collect())) < 1000);
    }

    #[test]
    fn a_record_of_few_services_is_stored_row_by_row_and_of_many_without_rows() {
        let of = |count: u16| {
            let rows = (1..=count).map(|p| Registration::new(service(1, Protocol::Udp, p), 1));
            serde_json::to_value(with(rows.collect())).unwrap()
        };
        let few = of(MOST_ROWS as u16);
        assert_eq!(few["registrations"].as_array().unwrap().len(), MOST_ROWS);
        assert!(few.get("runs").is_none());
        let many = of(MOST_ROWS as u16 + 1);
        assert!(many.get("registrations").is_none(), "an older cvipd must not see none");
        assert_eq!(many["runs"][0]["ports"], "1-257");
        let mut neither = few;
        neither.as_object_mut().unwrap().remove("registrations");
        assert!(serde_json::from_value::<NodeRecord>(neither).is_err());
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for ports in ["", "0", "9-1", "80,80", "90,80", "1-70000", "x"] {
            let text = format!(r#"{{"cvip":"10.0.0.1","protocol":"tcp","ports":"{ports}"}}"#);
            assert!(serde_json::from_str::<PortRanges>(&text).is_err(), "{ports}");
        }
    }

    #[test]
    fn whatever_a_node_has_to_say_its_record_fits_and_tells_directors_what_is_reachable() {
        let long = "x".repeat(10_000);
        let refused = |port: u16| RefusedListener {
            service: service(1, Protocol::Tcp, port),
            bound: [127, 0, 0, 1].into(),
            uid: 1000,
            reason: long.clone(),
            reachable: port.is_multiple_of(2),
        };
        let unhealthy = |port: u16| Registration {
            unhealthy: Some(format!("{port} {long}")),
            ..Registration::new(service(1, Protocol::Tcp, port), port)
        };
        let lingering =
            |port| Lingering { protocol: Protocol::Tcp, port, connections: port.into() };
        let record = NodeRecord {
            refused: (1..9000).map(refused).collect(),
            lingering: (1..9000).map(lingering).collect(),
            hints: vec![long.clone(); 9000],
            ..with((1..9000).map(unhealthy).collect())
        };
        let record = shortened(record);
        assert!(size(&record) <= MOST_BYTES, "{} bytes", size(&record));
        assert_eq!(record.registrations.len(), 8999);
        assert_eq!(record.refused.len() + record.refused_more as usize, 8999);
        assert_eq!(
            (1..9000).filter(|p| record.shields(service(1, Protocol::Tcp, *p))).count(),
            4499
        );
        assert!(record.lingering.iter().any(|l| l.port == 8999));
        assert_eq!(back(&record), record);
        assert_eq!(shortened(record.clone()), record);
    }

    proptest! {
        #[test]
        fn every_record_is_read_as_it_was_stored(
            rows in prop::collection::btree_map(
                (0u8..3, 0usize..3, 1u16..2000),
                (0u16..3, prop::option::of(0u8..3), any::<bool>()),
                0..700,
            ),
        ) {
            let rows = rows.into_iter().map(|((cvip, protocol, port), (weight, unhealthy, hidden))| {
                let service = service(cvip, Protocol::ALL[protocol], port);
                Registration { service, weight, unhealthy: unhealthy.map(|n| n.to_string()), hidden }
            });
            let mut rows: Vec<_> = rows.collect();
            rows.sort();
            let record = with(rows);
            prop_assert_eq!(back(&record), record);
        }
    }
}
