//! What crosses the monitor's boundary: what it is told and hears, and what it tells and asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::conflicts::WatchedAddresses;
use super::store_view::StoreReading;
use super::wire::Terms;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::director::DirectorEvent;
use crate::director::election::ElectionRole;
use crate::director::liveness::Liveness;
use crate::director::restrictions::Restrictions;
use crate::heartbeat::{ConnectOutcome, Heartbeat, HeartbeatContent, LeftPorts, Nonce};
use crate::net::{Claimed, Reachable};
use crate::store::TermClaim;

/// Which monitor it is.
#[derive(Clone, Copy, Debug)]
pub struct MonitorIdentity {
    /// Node number.
    pub node: u32,
    /// Which start of its cvipd.
    pub incarnation: u64,
    /// The nonce of its heartbeats.
    pub nonce: Nonce,
}

/// What the monitor tells other workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorNotice {
    /// Restrictions for the table, all of them.
    Restrictions(Restrictions),
    /// This director's role is another, or is confirmed.
    ElectionRole(ElectionRole),
    /// What the heartbeat says from now on; its receivers are known to its sender.
    HeartbeatContent(HeartbeatContent),
    /// This director vouches for itself in its node's record, with another number each time.
    Vouch(u32),
    /// The addresses that this node carries are to be announced again: another host claimed one.
    Announce,
    /// An event for the event log.
    Event(DirectorEvent),
}

/// What `status` and the metrics show of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorView {
    /// This director is the active one.
    pub active: bool,
    /// Its set, by the lowest node number of its directors.
    pub set: u32,
    /// The elected director, as the store says; absent before the first election.
    pub elected: Option<u32>,
    /// The highest term that it knows.
    pub term: u64,
    /// The liveness of each other node.
    pub liveness_of: BTreeMap<u32, Liveness>,
    /// Those of them that have left the cluster: it is no fault that they are not heard.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<u32>,
    /// It suspects its own link.
    pub isolated: bool,
    /// For how many seconds the store has been unavailable.
    pub store_unavailable_s: Option<u64>,
    /// Heartbeats that were new.
    pub heartbeats_heard: u64,
    /// Heartbeats that were late, doubled, replayed, or of a node that is not watched.
    pub heartbeats_ignored: u64,
    /// Datagrams that were no heartbeats of this cluster.
    pub heartbeats_refused: u64,
    /// How often it became the active director.
    #[serde(default)]
    pub became_active: u64,
    /// How often it became a standby again.
    #[serde(default)]
    pub became_standby: u64,
    /// Addresses on which no heartbeats are heard, since another program has the port, and which
    /// program that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports_taken: Vec<String>,
    /// Address conflicts, as sentences; `status` shows them among what is wrong with addresses.
    #[serde(skip)]
    pub conflicts: Vec<String>,
}

/// What the other workers tell the monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MonitorCommand {
    /// Another configuration. A director that is no longer one is ended by its owner.
    Reload(Arc<Conf>),
    /// An operator asks this director to become the active one.
    TakeOver,
    /// This director was not there for a while, and may have been replaced: its role is told again
    /// once that is sure.
    Confirm,
    /// Whether this director can carry its set's CVIPs; it can until something else is said.
    Carries(bool),
    /// This node begins to leave the cluster.
    Leave,
    /// The ports that this director's own node has left: its own heartbeat does not reach it.
    Left(LeftPorts),
    /// The addresses that this node carries as the active director, and announces: all of them.
    Announced(Vec<Reachable>),
}

/// One thing that the monitor is told, hears, or asked for and got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MonitorInput {
    /// It is told something.
    Told(MonitorCommand),
    /// Another director is to be elected in its place, for this one ends; answered by
    /// [`MonitorOutput::HandedOver`].
    HandOver,
    /// The store was read, or could not be.
    StoreRead(StoreReading),
    /// A heartbeat came.
    Heartbeat(Heartbeat),
    /// A machine answered an echo request that was sent at that time.
    EchoAnswered {
        /// The address that was asked.
        addr: IpAddr,
        /// When it was asked.
        asked: Instant,
    },
    /// What came of a connect to a server.
    Connected {
        /// The server.
        target: SocketAddr,
        /// What came of it.
        outcome: ConnectOutcome,
    },
    /// Another host claims an address.
    Claimed(Claimed),
    /// The addresses that another host was proved to have: all of them.
    Proved(BTreeSet<IpAddr>),
    /// What came of a claim; after an error it may have been won all the same.
    ClaimEnded(Result<TermClaim, String>),
    /// Whether the file of terms was written.
    TermsWritten(bool),
    /// The file of terms is not there.
    TermsMissing,
}

/// One thing that is to be done for the monitor, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorOutput {
    /// Something is told to other workers.
    Notice(MonitorNotice),
    /// What came of [`MonitorInput::HandOver`]: the node that takes over, if one does.
    HandedOver(Result<Option<u32>, String>),
    /// The store is asked for a term; answered by [`MonitorInput::StoreRead`] and
    /// [`MonitorInput::ClaimEnded`].
    Claim(ClaimRequest),
    /// The store is read anew, all of it; answered by a [`MonitorInput::StoreRead`] that is `anew`.
    ReadStore,
    /// A machine is asked for an echo.
    Echo(IpAddr),
    /// A machine's echoes are forgotten.
    ForgetEcho(IpAddr),
    /// A server is asked by a connect.
    Connect(SocketAddr),
    /// These addresses are watched for other hosts that claim them, and no others.
    WatchAddresses(WatchedAddresses),
    /// It is asked which host has these addresses.
    AskForAddresses(BTreeSet<IpAddr>),
    /// The file of terms is written; answered by [`MonitorInput::TermsWritten`].
    WriteTerms(Terms),
    /// The file of terms is removed.
    RemoveTerms,
    /// What another program took or removed is asked for again: ports, and the file of terms
    /// ([`MonitorInput::TermsMissing`]).
    Tend,
}

/// A claim of a set's direction, by compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The set, by its lowest node number.
    pub set: u32,
    /// The claim is for a later term than this.
    pub above: u64,
    /// The term that stands, if any.
    pub expected: Option<u64>,
    /// The node that is to be elected.
    pub node: u32,
    /// Its incarnation.
    pub incarnation: u64,
}
