//! The node as it is recorded and replayed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::messages::{
    CheckOutcomes, ListenersChange, LookOutcome, NodeAction, QueueReading, StoreRead, Surroundings,
    Unhealthy,
};
use super::state::NodeState;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::listeners::{ListenerId, Ranges};
use crate::protocol::Protocol;
use crate::recorder::{Core, Recorded};
use crate::store::{AppliedOrders, Fault, Key, NodeRecord, StoreFailure};

/// Of many things so many are named.
const NAMED: usize = 8;

/// How many connections there are on ports, by protocol.
type Counts = BTreeMap<Protocol, BTreeMap<u16, usize>>;

/// What changes a node.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeCall {
    /// [`NodeState::reload`]
    Reload(Arc<Conf>),
    /// [`NodeState::direct`]
    Direct(bool),
    /// [`NodeState::vouch`]
    Vouch(u32),
    /// [`NodeState::obey`]
    Obey(AppliedOrders),
    /// [`NodeState::leave`]
    Leave,
    /// [`NodeState::step`]
    Step,
    /// [`NodeState::next`]
    Next,
    /// [`NodeState::store_read`]
    StoreRead(Result<StoreRead, StoreFailure>),
    /// [`NodeState::repaired`]
    Repaired(Fault, Result<(), StoreFailure>),
    /// [`NodeState::looked_around`]
    LookedAround(Surroundings),
    /// [`NodeState::looked`]
    Looked(LookOutcome),
    /// [`NodeState::watched`]
    Watched(ListenersChange),
    /// [`NodeState::checked`]
    Checked(CheckOutcomes),
    /// [`NodeState::queue_read`]
    QueueRead(u16, QueueReading),
    /// [`NodeState::queues_read`]
    QueuesRead(Duration),
    /// [`NodeState::counted`]
    Counted(Counts, Duration),
    /// [`NodeState::put`]
    Put(Result<(), StoreFailure>),
}

impl Core for NodeState {
    const NAME: &'static str = "node";
    type Call = NodeCall;
    type Output = NodeAction;

    fn call(&mut self, call: NodeCall, now: Instant) -> Vec<NodeAction> {
        match call {
            NodeCall::Reload(conf) => self.reload(conf, now),
            NodeCall::Direct(directing) => self.direct(directing, now),
            NodeCall::Vouch(number) => self.vouch(number, now),
            NodeCall::Obey(obeys) => self.obey(obeys, now),
            NodeCall::Leave => self.leave(now),
            NodeCall::Step => self.step(),
            NodeCall::Next => return self.next(now).into_iter().collect(),
            NodeCall::StoreRead(outcome) => self.store_read(outcome, now),
            NodeCall::Repaired(fault, outcome) => self.repaired(&fault, outcome),
            NodeCall::LookedAround(around) => self.looked_around(around),
            NodeCall::Looked(look) => self.looked(look, now),
            NodeCall::Watched(change) => self.watched(change),
            NodeCall::Checked(outcomes) => self.checked(outcomes),
            NodeCall::QueueRead(port, waiting) => self.queue_read(port, waiting, now),
            NodeCall::QueuesRead(took) => self.queues_read(took, now),
            NodeCall::Counted(counts, took) => self.counted(&counts, took, now),
            NodeCall::Put(outcome) => self.put(outcome, now),
        }
        Vec::new()
    }

    fn describe_call(call: &NodeCall) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match call {
            NodeCall::Reload(_) => one("another configuration"),
            NodeCall::Direct(true) => one("the node is the active director"),
            NodeCall::Direct(false) => one("the node is not the active director"),
            NodeCall::Vouch(number) => vec![format!("the director vouches by number {number}")],
            NodeCall::Obey(_) => one("the table obeys other orders"),
            NodeCall::Leave => one("the node leaves"),
            NodeCall::Step | NodeCall::Next | NodeCall::QueuesRead(_) => Vec::new(),
            NodeCall::StoreRead(Ok(read)) => describe_store(read),
            NodeCall::StoreRead(Err(error)) => vec![format!("the store cannot be read: {error}")],
            NodeCall::Repaired(fault, Ok(())) => vec![format!("it is written anew: {fault}")],
            NodeCall::Repaired(_, Err(error)) => vec![format!("it cannot be written: {error}")],
            NodeCall::LookedAround(around) => {
                let system = around.system.iter().map(|_| "the system is another".to_owned());
                let unread = around.listening.as_ref().err();
                system
                    .chain(unread.map(|why| format!("the listeners cannot be read: {why}")))
                    .collect()
            }
            NodeCall::Looked(look) => {
                let checks = describe_checks(look.unhealthy.as_ref());
                let faults = look.faults.iter().map(|why| format!("unseen listeners: {why}"));
                let crowded = look.crowded.iter().map(|sockets| {
                    format!("{} sockets of services whose accept queues are full", sockets.len())
                });
                describe_listeners(&look.listeners)
                    .chain(faults)
                    .chain(crowded)
                    .chain(checks)
                    .collect()
            }
            NodeCall::Watched(change) => describe_listeners(change).collect(),
            NodeCall::Checked(outcomes) => describe_checks(outcomes.unhealthy.as_ref()).collect(),
            NodeCall::QueueRead(port, Ok(groups)) => {
                let waiting: usize = groups.iter().map(|group| group.cookies.len()).sum();
                vec![format!("{waiting} connections wait to be accepted on port {port}")]
            }
            NodeCall::QueueRead(port, Err(why)) => {
                vec![format!("the accept queues of port {port} cannot be read: {why}")]
            }
            NodeCall::Counted(counts, _) => {
                let count = |(protocol, ports): (&Protocol, &BTreeMap<u16, usize>)| {
                    let sum: usize = ports.values().sum();
                    format!("{sum} {protocol} connections on ports that were left or are drained")
                };
                counts.iter().map(count).collect()
            }
            NodeCall::Put(Ok(())) => one("the record is stored"),
            NodeCall::Put(Err(error)) => vec![format!("the record is not stored: {error}")],
        }
    }

    fn describe_output(action: &NodeAction) -> Option<String> {
        Some(match action {
            // Again and again.
            NodeAction::ReadStore
            | NodeAction::Look
            | NodeAction::LookAround(_)
            | NodeAction::Count(_)
            | NodeAction::SetEligible(_) => return None,
            NodeAction::Check(targets) if targets.0.is_empty() => return None,
            NodeAction::Repair(fault) => format!("writes anew what is corrupt: {fault}"),
            NodeAction::Put(record) => describe_record(record),
            NodeAction::ReadQueues(ports) => format!("reads the accept queues of ports {ports:?}"),
            NodeAction::Check(targets) => {
                list("checks", &targets.0.keys().map(ToString::to_string).collect::<Vec<_>>())
            }
            NodeAction::Watch(ranges) => list("watches", &describe_ranges(ranges)),
            NodeAction::TellLeft(left) => {
                let (incarnation, sequence) = left.record;
                format!("tells the ports that it left, beside record {incarnation}.{sequence}")
            }
            NodeAction::Report(connections) => format!("reports {connections} connections"),
        })
    }
}

/// Some of many things.
fn list(what: &str, things: &[String]) -> String {
    let mut named: Vec<String> = things.iter().take(NAMED).cloned().collect();
    if things.len() > NAMED {
        named.push(format!("and {} more", things.len() - NAMED));
    }
    format!("{what} {}", if named.is_empty() { "nothing".to_owned() } else { named.join(", ") })
}

fn describe_store(read: &StoreRead) -> Vec<String> {
    let value = |key| match key {
        Key::Node(_) => "the node's own record".to_owned(),
        Key::Flags(scope) => format!("the flags of {scope}"),
        _ => "operators' drains".to_owned(),
    };
    let values =
        read.values.keys().map(|key| format!("the store: another value of {}", value(key)));
    values.chain(read.faults.iter().map(|fault| format!("corrupt: {fault}"))).collect()
}

fn describe_listeners(change: &ListenersChange) -> impl Iterator<Item = String> {
    let name = |listener: &ListenerId| {
        let ListenerId { protocol, addr, port, .. } = listener;
        format!("{protocol} {addr} port {port}")
    };
    [("listeners came:", &change.added), ("listeners went:", &change.removed)]
        .into_iter()
        .filter(|(_, listeners)| !listeners.is_empty())
        .map(move |(what, listeners)| list(what, &listeners.iter().map(name).collect::<Vec<_>>()))
}

fn describe_checks(unhealthy: Option<&Unhealthy>) -> impl Iterator<Item = String> {
    unhealthy.into_iter().map(|Unhealthy(services)| match services.is_empty() {
        true => "no service fails its check".to_owned(),
        false => {
            let services = services.iter().map(|(service, why)| format!("{service} ({why})"));
            list("services fail their checks:", &services.collect::<Vec<_>>())
        }
    })
}

fn describe_ranges(ranges: &Ranges) -> Vec<String> {
    let of = |protocol: Protocol| {
        ranges.of(protocol).iter().map(move |(start, end)| match start == end {
            true => format!("{protocol} {start}"),
            false => format!("{protocol} {start}-{end}"),
        })
    };
    Protocol::ALL.into_iter().flat_map(of).collect()
}

fn describe_record(record: &NodeRecord) -> String {
    let registrations = record.registrations.iter();
    let served = registrations.map(|r| match &r.unhealthy {
        Some(_) => format!("{} with weight {}, unhealthy", r.service, r.weight),
        None => format!("{} with weight {}", r.service, r.weight),
    });
    let served = list("serves", &served.collect::<Vec<_>>());
    let directs = if record.directing { ", directs" } else { "" };
    let leaves = if record.leaving { ", leaves" } else { "" };
    let (incarnation, sequence) = record.version();
    format!("writes record {incarnation}.{sequence}: {served}{directs}{leaves}")
}

/// [`NodeState`]'s own, recorded.
impl Recorded<NodeState> {
    pub(super) fn reload(&mut self, conf: Arc<Conf>, now: Instant) {
        self.call(NodeCall::Reload(conf), now);
    }

    pub(super) fn direct(&mut self, directing: bool, now: Instant) {
        self.call(NodeCall::Direct(directing), now);
    }

    pub(super) fn vouch(&mut self, number: u32, now: Instant) {
        self.call(NodeCall::Vouch(number), now);
    }

    pub(super) fn obey(&mut self, obeys: AppliedOrders, now: Instant) {
        self.call(NodeCall::Obey(obeys), now);
    }

    pub(super) fn leave(&mut self, now: Instant) {
        self.call(NodeCall::Leave, now);
    }

    pub(super) fn step(&mut self, now: Instant) {
        self.call(NodeCall::Step, now);
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<NodeAction> {
        self.call(NodeCall::Next, now).pop()
    }

    pub(super) fn store_read(&mut self, outcome: Result<StoreRead, StoreFailure>, now: Instant) {
        self.call(NodeCall::StoreRead(outcome), now);
    }

    pub(super) fn repaired(
        &mut self,
        fault: Fault,
        outcome: Result<(), StoreFailure>,
        now: Instant,
    ) {
        self.call(NodeCall::Repaired(fault, outcome), now);
    }

    pub(super) fn looked_around(&mut self, around: Surroundings, now: Instant) {
        self.call(NodeCall::LookedAround(around), now);
    }

    pub(super) fn looked(&mut self, look: LookOutcome, now: Instant) {
        self.call(NodeCall::Looked(look), now);
    }

    pub(super) fn watched(&mut self, change: ListenersChange, now: Instant) {
        self.call(NodeCall::Watched(change), now);
    }

    pub(super) fn checked(&mut self, outcomes: CheckOutcomes, now: Instant) {
        self.call(NodeCall::Checked(outcomes), now);
    }

    pub(super) fn queue_read(&mut self, port: u16, waiting: QueueReading, now: Instant) {
        self.call(NodeCall::QueueRead(port, waiting), now);
    }

    pub(super) fn queues_read(&mut self, took: Duration, now: Instant) {
        self.call(NodeCall::QueuesRead(took), now);
    }

    pub(super) fn counted(&mut self, counts: Counts, took: Duration, now: Instant) {
        self.call(NodeCall::Counted(counts, took), now);
    }

    pub(super) fn put(&mut self, outcome: Result<(), StoreFailure>, now: Instant) {
        self.call(NodeCall::Put(outcome), now);
    }
}
