//! What operators and directors decide for the whole cluster: drains, and who directs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::service::ServiceKey;
use crate::protocol::Protocol;

/// What an operator drains: a node, or one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DrainTarget {
    /// Node number.
    pub node: u32,
    /// Protocol and port (host order); the whole node if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<(Protocol, u16)>,
}

impl fmt::Display for DrainTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.node)?;
        match self.port {
            Some((protocol, port)) => write!(f, " {protocol} {port}"),
            None => Ok(()),
        }
    }
}

/// An operator's drain, as it stays until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOrder {
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was ordered: seconds since 1970, by the clock of the operator's host, for people
    /// only.
    pub since: u64,
    /// After how many seconds connections that are left are cut; the service's own time if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u32>,
    /// Who ordered it, for people.
    pub by: String,
}

/// All drains that operators ordered.
pub type Drains = BTreeMap<DrainTarget, DrainOrder>;

/// The drain of a service on a node: that of its port counts before that of the whole node.
pub fn drain_of(drains: &Drains, node: u32, service: ServiceKey) -> Option<&DrainOrder> {
    let port = DrainTarget { node, port: Some((service.protocol, service.port)) };
    drains.get(&port).or_else(|| drains.get(&DrainTarget { node, port: None }))
}

/// A drain as it is stored: JSON's maps take no such keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OrderRow {
    node: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(flatten)]
    order: DrainOrder,
}

impl OrderRow {
    pub(super) fn new((target, order): (&DrainTarget, &DrainOrder)) -> OrderRow {
        OrderRow {
            node: target.node,
            protocol: target.port.map(|(protocol, _)| protocol),
            port: target.port.map(|(_, port)| port),
            order: order.clone(),
        }
    }

    /// Without protocol and port it is the whole node. With one of them alone it might be
    /// anything, and nothing is drained by a slip of the pen.
    pub(super) fn into_entry(self) -> Result<(DrainTarget, DrainOrder), String> {
        let node = self.node;
        let port = match (self.protocol, self.port) {
            (None, None) => None,
            (Some(protocol), Some(port)) if port > 0 => Some((protocol, port)),
            _ => {
                return Err(format!("a drain of node {node} needs a protocol and a port, or none"));
            }
        };
        Ok((DrainTarget { node, port }, self.order))
    }
}

/// Who directs a set of directors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Elected {
    /// The director's node number.
    pub node: u32,
    /// Which start of its cvipd was elected.
    pub incarnation: u64,
    /// Which election it was; it only grows.
    pub term: u64,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TermClaim {
    /// The caller directs, in this term.
    Won(Elected),
    /// Another director claimed first, or none was elected: this is what stands.
    Stands(Option<Elected>),
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::super::{Key, StoreState};
    use super::*;

    #[test]
    fn drains_are_stored_as_rows_that_a_person_can_read() {
        let order = |reason: Option<&str>, deadline_s| DrainOrder {
            reason: reason.map(str::to_owned),
            since: 1_700_000_000,
            deadline_s,
            by: "root@node1".to_owned(),
        };
        let mut state = StoreState::default();
        state.drains.insert(DrainTarget { node: 3, port: None }, order(Some("new disk"), None));
        let port = Some((Protocol::Udp, 177));
        state.drains.insert(DrainTarget { node: 2, port }, order(None, Some(300)));
        let bytes = state.value(Key::Drains).unwrap().encode();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                { "node": 2, "protocol": "udp", "port": 177, "since": 1_700_000_000,
                  "deadline_s": 300, "by": "root@node1" },
                { "node": 3, "reason": "new disk", "since": 1_700_000_000, "by": "root@node1" },
            ])
        );
        assert_eq!(Value::parse(Key::Drains, &bytes), Ok(Value::Drains(state.drains)));
    }

    #[test]
    fn a_drain_of_half_a_port_is_not_taken_for_one_of_the_whole_node() {
        for half in [r#""protocol":"tcp""#, r#""port":80"#, r#""protocol":"tcp","port":0"#] {
            let text = format!(r#"[{{"node":3,{half},"since":1,"by":"root"}}]"#);
            let parsed = Value::parse(Key::Drains, text.as_bytes());
            assert!(parsed.is_err_and(|e| e.contains("node 3")), "{half}");
        }
    }
}
