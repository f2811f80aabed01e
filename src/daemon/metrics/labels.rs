//! The labels of services and destinations: those of node_exporter's IPVS collector, so that the
//! series of both join. Pure.

use std::collections::BTreeMap;

use crate::ipvs::{DestinationId, ServiceId};
use crate::settings::DestinationLabel;

/// The labels of one series, in the collector's order.
pub(super) type Labels = Vec<(&'static str, String)>;

/// The labels of a service: its address and port, or its firewall mark.
pub(super) fn of_service(id: &ServiceId) -> Labels {
    DestinationLabel::ALL
        .into_iter()
        .filter(|label| label.is_of_service())
        .map(|label| (label.name(), value(label, id, None)))
        .collect()
}

/// Those labels of a destination that are kept.
pub(super) fn of_destination(
    id: &ServiceId,
    destination: &DestinationId,
    kept: &[DestinationLabel],
) -> Labels {
    DestinationLabel::ALL
        .into_iter()
        .filter(|label| kept.contains(label))
        .map(|label| (label.name(), value(label, id, Some(destination))))
        .collect()
}

/// As procfs tells it, from which node_exporter reads: a mark in eight hexadecimal digits, names of
/// protocols in capitals.
fn value(label: DestinationLabel, id: &ServiceId, at: Option<&DestinationId>) -> String {
    let remote = |show: fn(&DestinationId) -> String| at.map(show).unwrap_or_default();
    match (label, id) {
        (DestinationLabel::LocalAddress, ServiceId::Address { addr, .. }) => addr.to_string(),
        (DestinationLabel::LocalPort, ServiceId::Address { port, .. }) => port.to_string(),
        (DestinationLabel::Proto, ServiceId::Address { protocol, .. }) => {
            protocol.name().to_uppercase()
        }
        (DestinationLabel::LocalMark, ServiceId::Mark { mark, .. }) => format!("{mark:08X}"),
        (DestinationLabel::LocalPort, ServiceId::Mark { .. }) => "0".to_owned(),
        (DestinationLabel::Proto, ServiceId::Mark { .. }) => "FWM".to_owned(),
        (DestinationLabel::LocalAddress, ServiceId::Mark { .. })
        | (DestinationLabel::LocalMark, ServiceId::Address { .. }) => String::new(),
        (DestinationLabel::RemoteAddress, _) => remote(|at| at.addr.to_string()),
        (DestinationLabel::RemotePort, _) => remote(|at| at.port.to_string()),
    }
}

/// Sums of values whose labels are the same: labels that are left out make several destinations one.
#[derive(Default)]
pub(super) struct Sums(BTreeMap<Labels, [u64; 6]>);

impl Sums {
    /// Adds one destination's values.
    pub(super) fn add(&mut self, labels: Labels, values: [u64; 6]) {
        let sums = self.0.entry(labels).or_default();
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.saturating_add(value);
        }
    }

    /// The sums of the values at a place, by labels.
    pub(super) fn at(&self, place: usize) -> impl Iterator<Item = (&Labels, u64)> {
        self.0.iter().map(move |(labels, sums)| (labels, sums[place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::Family;
    use crate::protocol::Protocol;

    fn shown(labels: &Labels) -> String {
        let shown: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        shown.join(" ")
    }

    #[test]
    fn a_destination_has_the_labels_that_node_exporter_gives_it() {
        let at = |addr: &str, port| DestinationId { addr: addr.parse().unwrap(), port };
        let all = DestinationLabel::ALL;
        let v4 = ServiceId::Address {
            protocol: Protocol::Tcp,
            addr: [192, 168, 0, 22].into(),
            port: 3306,
        };
        assert_eq!(
            shown(&of_destination(&v4, &at("192.168.82.22", 3307), &all)),
            "local_address=192.168.0.22 local_port=3306 remote_address=192.168.82.22 \
             remote_port=3307 proto=TCP local_mark="
        );
        let v6 = ServiceId::Address {
            protocol: Protocol::Udp,
            addr: "fd00::1".parse().unwrap(),
            port: 53,
        };
        assert_eq!(
            shown(&of_service(&v6)),
            "local_address=fd00::1 local_port=53 proto=UDP local_mark="
        );
        let mark = ServiceId::Mark { mark: 0x1000_100a, family: Family::V4 };
        assert_eq!(
            shown(&of_destination(&mark, &at("fd00::2", 0), &all)),
            "local_address= local_port=0 remote_address=fd00::2 remote_port=0 proto=FWM \
             local_mark=1000100A"
        );
    }

    #[test]
    fn destinations_that_a_label_alone_tells_apart_are_summed_without_it() {
        let id = ServiceId::Mark { mark: 1, family: Family::V4 };
        let mut sums = Sums::default();
        for last in [1, 2] {
            let at = DestinationId { addr: [10, 0, 0, last].into(), port: 80 };
            let labels = of_destination(&id, &at, &[DestinationLabel::RemotePort]);
            sums.add(labels, [u64::from(last); 6]);
        }
        let sums: Vec<(String, u64)> =
            sums.at(0).map(|(labels, sum)| (shown(labels), sum)).collect();
        assert_eq!(sums, [("remote_port=80".to_owned(), 3)]);
    }
}
