//! Records as a director takes them: without the services that their nodes have left since, by
//! their heartbeats. Pure.
//!
//! A leave is in the store, and while that is unavailable in the heartbeat. Heartbeats that
//! are not newer than the newest were dropped before (see [`Peers`](crate::heartbeat::Peers)). One
//! that lists no ports (of an older cvipd, or of one that was just started and has not
//! looked yet) leaves the last list in force, until a record is newer than that.

use std::borrow::Cow;

use crate::heartbeat::LeftPorts;
use crate::store::{NodeRecord, Registration, ServiceKey};

/// A node's record without the services that it has left.
pub(super) fn without<'a>(record: &'a NodeRecord, left: Option<&LeftPorts>) -> Cow<'a, NodeRecord> {
    let Some(left) = left.filter(|left| left.is_of(record.version())) else {
        return Cow::Borrowed(record);
    };
    let is_left = |registration: &Registration| {
        let ServiceKey { cvip, protocol, port } = registration.service;
        left.contains((cvip, (protocol, port)))
    };
    if !record.registrations.iter().any(is_left) {
        return Cow::Borrowed(record);
    }
    let mut record = record.clone();
    record.registrations.retain(|registration| !is_left(registration));
    Cow::Owned(record)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::heartbeat::left::LeftService;
    use crate::protocol::Protocol;

    fn record(version: (u64, u64), ports: &[u16]) -> NodeRecord {
        let service =
            |port| ServiceKey { cvip: [10, 0, 0, 100].into(), protocol: Protocol::Tcp, port };
        let registrations = ports.iter().map(|port| Registration::new(service(*port), 1)).collect();
        NodeRecord { registrations, ..NodeRecord::empty(2, version.0, version.1) }
    }

    fn service_of(port: &u16) -> LeftService {
        ([10, 0, 0, 100].into(), (Protocol::Tcp, *port))
    }

    fn left(version: (u64, u64), left: &[u16], served: &[u16]) -> LeftPorts {
        let tcp = |ports: &[u16]| ports.iter().map(service_of).collect::<Vec<LeftService>>();
        LeftPorts::new(version, &tcp(left), &tcp(served).into_iter().collect::<BTreeSet<_>>())
    }

    fn ports(record: &NodeRecord, left: Option<&LeftPorts>) -> Vec<u16> {
        without(record, left).registrations.iter().map(|r| r.service.port).collect()
    }

    #[test]
    fn an_outage_of_the_store_and_its_end() {
        let known = record((5, 7), &[80, 443]);
        assert_eq!(ports(&known, None), [80, 443]);
        let says = |version, gone: &[u16], served: &[u16]| left(version, gone, served);
        assert_eq!(ports(&known, Some(&says((5, 7), &[], &[80, 443]))), [80, 443]);
        assert_eq!(ports(&known, Some(&says((5, 7), &[80], &[443]))), [443], "it stopped");
        assert_eq!(ports(&known, Some(&says((5, 8), &[80], &[443]))), [443], "and tried to write");
        assert_eq!(ports(&known, Some(&says((5, 8), &[], &[80, 443]))), [80, 443], "it is back");
        // The store is back before the heartbeat that knows of it: the record is newer.
        let newer = record((5, 9), &[80, 443]);
        assert_eq!(ports(&newer, Some(&says((5, 8), &[80], &[443]))), [80, 443]);
        // It was put back to an old state: what the node says is newer.
        let older = record((5, 3), &[80, 8080]);
        assert_eq!(ports(&older, Some(&says((5, 8), &[80], &[443]))), [8080]);
    }

    #[test]
    fn a_monitor_that_has_heard_no_node_yet_brings_no_dead_server_back() {
        use crate::director::restrictions::Restrictions;
        let known = record((5, 7), &[80, 443]);
        let says = |gone: &[u16], served: &[u16]| BTreeMap::from([(2, left((5, 8), gone, served))]);
        let before = Restrictions { left: says(&[80], &[443]), ..Restrictions::default() };
        // A reload starts another monitor.
        let mut restrictions = Restrictions::default();
        restrictions.keep_unknown(&before);
        assert_eq!(ports(&known, restrictions.left.get(&2)), [443]);
        // What it hears then is later.
        let mut restrictions =
            Restrictions { left: says(&[], &[80, 443]), ..Restrictions::default() };
        restrictions.keep_unknown(&before);
        assert_eq!(ports(&known, restrictions.left.get(&2)), [80, 443]);
    }

    #[test]
    fn a_restart_of_cvipd_in_an_outage_brings_no_dead_server_back() {
        let known = record((5, 7), &[80, 443]);
        let before = left((5, 8), &[80], &[443]);
        // The new one names the ports that the stored record has and that it does not find.
        let after = left((6, 1), &[80], &[443]);
        assert_eq!(ports(&known, Some(&before)), [443]);
        assert_eq!(ports(&known, Some(&after)), [443]);
        // Its first record is newer than what the cvipd before it said.
        assert_eq!(ports(&record((6, 1), &[80]), Some(&before)), [80]);
    }
}
