//! Which services there are: by the nodes' records, and by cvip.conf.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Inputs;
use crate::conf::Cvip;
use crate::store::{NodeRecord, PortRanges, Registration, ServiceKey};

/// Every service that the records or cvip.conf ask for on the CVIPs that this node directs.
pub fn keys(inputs: Inputs<'_>) -> BTreeSet<ServiceKey> {
    let mine = |cvip: &IpAddr| inputs.conf.cvip(*cvip).is_some_and(|c| c.is_director(inputs.me));
    let mut keys = BTreeSet::new();
    for cvip in inputs.conf.cvips.iter().filter(|cvip| mine(&cvip.addr)) {
        keys.extend(standing_keys(cvip));
    }
    for record in inputs.nodes.values() {
        keys.extend(services_of(record).filter(|key| mine(&key.cvip)));
    }
    keys
}

/// The services of a CVIP that exist whether or not a real server listens.
pub fn standing_keys(cvip: &Cvip) -> impl Iterator<Item = ServiceKey> {
    let key = |(protocol, port)| ServiceKey { cvip: cvip.addr, protocol, port };
    cvip.standing_ports().map(key)
}

/// The services that a record names.
pub fn services_of(record: &NodeRecord) -> impl Iterator<Item = ServiceKey> {
    let registered = record.registrations.iter().map(|registration| registration.service);
    let refused = record.refused.iter().map(|refused| refused.service);
    registered.chain(refused).chain(record.reachable.iter().flat_map(PortRanges::services))
}

/// The services on which two records of one node differ: what a change of record touches.
pub fn touched(before: Option<&NodeRecord>, after: Option<&NodeRecord>) -> BTreeSet<ServiceKey> {
    let (Some(before), Some(after)) = (before, after) else {
        return before.or(after).into_iter().flat_map(services_of).collect();
    };
    let mut keys: BTreeSet<ServiceKey> = BTreeSet::new();
    fn all(record: &NodeRecord) -> BTreeSet<&Registration> {
        record.registrations.iter().collect()
    }
    let (old, new) = (all(before), all(after));
    keys.extend(old.symmetric_difference(&new).map(|registration| registration.service));
    let refused = |record: &NodeRecord| -> BTreeSet<_> {
        let rows = record.refused.iter().filter(|r| r.reachable).map(|r| r.service);
        rows.chain(record.reachable.iter().flat_map(PortRanges::services)).collect()
    };
    keys.extend(refused(before).symmetric_difference(&refused(after)));
    keys
}

/// The registration of a service in a record. Registrations stand in order.
pub(in crate::director) fn registered(
    record: &NodeRecord,
    key: ServiceKey,
) -> Option<&Registration> {
    let at = record.registrations.binary_search_by_key(&key, |r| r.service).ok()?;
    Some(&record.registrations[at])
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn a_change_of_record_touches_the_services_that_differ_and_no_others() {
        let dns = key(Protocol::Udp, 53);
        let (one, both) = (record(2, &[HTTP]), record(2, &[HTTP, dns]));
        assert_eq!(touched(Some(&one), Some(&both)), [dns].into());
        assert_eq!(touched(Some(&both), Some(&both)), BTreeSet::new());
        assert_eq!(touched(None, Some(&both)), [HTTP, dns].into());
        assert_eq!(touched(Some(&both), None), [HTTP, dns].into());
        let reweighted = NodeRecord {
            registrations: vec![Registration { weight: 0, ..registration(HTTP) }],
            ..record(2, &[])
        };
        assert_eq!(touched(Some(&one), Some(&reweighted)), [HTTP].into());
        let shielded = NodeRecord { refused: vec![refused(true)], ..record(2, &[]) };
        assert_eq!(touched(Some(&record(2, &[])), Some(&shielded)), [HTTP].into());
    }
}
