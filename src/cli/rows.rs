//! Rows that the JSON documents of several commands have.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::json::Time;
use crate::ports::{Level, PortFlag};
use crate::protocol::Protocol;
use crate::store::{DrainOrder, DrainTarget, Scope};

/// A port flag, and where it was set.
#[derive(Debug, Serialize)]
pub(super) struct FlagRow {
    level: Level,
    /// The node whose own it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    /// The CVIP at which cvip.conf has it; those of nodes and of the cluster are for every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cvip: Option<IpAddr>,
    #[serde(flatten)]
    pub(super) flag: PortFlag,
}

impl FlagRow {
    pub(super) fn stored(scope: Scope, flag: PortFlag) -> FlagRow {
        let (level, node) = match scope {
            Scope::Node(node) => (Level::Node, Some(node)),
            Scope::Cluster => (Level::Cluster, None),
        };
        FlagRow { level, node, cvip: None, flag }
    }

    pub(super) fn configured(cvip: IpAddr, flag: PortFlag) -> FlagRow {
        FlagRow { level: Level::Conf, node: None, cvip: Some(cvip), flag }
    }

    /// Its level, in a word.
    pub(super) fn level(&self) -> String {
        self.level.to_string()
    }
}

/// Where it was set: `node 3`, `cluster`, `cvip.conf 192.0.2.10`.
impl fmt::Display for FlagRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level.fmt(f)?;
        match (self.node, self.cvip) {
            (Some(node), _) => write!(f, " {node}"),
            (None, Some(cvip)) => write!(f, " {cvip}"),
            (None, None) => Ok(()),
        }
    }
}

/// What an operator drains.
#[derive(Debug, Serialize)]
pub(super) struct DrainRow {
    #[serde(skip)]
    pub(super) target: DrainTarget,
    node: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    since: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<u32>,
    pub(super) by: String,
    /// Connections that are left there, by the node's own count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u32>,
}

impl DrainRow {
    pub(super) fn new((target, order): (&DrainTarget, &DrainOrder)) -> DrainRow {
        let (protocol, port) = target.port.unzip();
        DrainRow {
            target: *target,
            node: target.node,
            protocol,
            port,
            reason: order.reason.clone(),
            since: Time(order.since),
            deadline_s: order.deadline_s,
            by: order.by.clone(),
            connections: None,
        }
    }

    /// With the connections that are left.
    pub(super) fn counted(self, connections: u32) -> DrainRow {
        DrainRow { connections: Some(connections), ..self }
    }
}
