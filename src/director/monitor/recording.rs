//! The monitor as it is recorded and replayed.

use serde::{Deserialize, Serialize};

use super::messages::{MonitorCommand, MonitorInput, MonitorNotice, MonitorOutput};
use super::state::MonitorState;
use super::store_view::StoreReading;
use crate::clock::Instant;
use crate::director::election::ElectionRole;
use crate::heartbeat::Heartbeat;
use crate::recorder::Core;

/// What changes a monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorCall {
    /// [`MonitorState::handle`]
    Handle(MonitorInput),
    /// The same with the last new heartbeat of a node, but for its sequence number: heartbeats
    /// come twenty times a second from each node, and most of them say nothing else.
    HeardAgain(u32, u64),
    /// [`MonitorState::step`]
    Step,
}

impl MonitorCall {
    /// A heartbeat.
    pub(super) fn heard(state: &MonitorState, heartbeat: Heartbeat) -> MonitorCall {
        let (node, sequence) = (heartbeat.node, heartbeat.sequence);
        let is_again = state.last_heartbeat(node).is_some_and(|last| {
            // Only where nothing else differs.
            *last == Heartbeat { sequence: last.sequence, ..heartbeat.clone() }
        });
        match is_again {
            true => MonitorCall::HeardAgain(node, sequence),
            false => MonitorCall::Handle(MonitorInput::Heartbeat(heartbeat)),
        }
    }
}

impl Core for MonitorState {
    const NAME: &'static str = "monitor";
    type Call = MonitorCall;
    type Output = MonitorOutput;

    fn call(&mut self, call: MonitorCall, now: Instant) -> Vec<MonitorOutput> {
        match call {
            MonitorCall::Handle(input) => self.handle(input, now),
            MonitorCall::HeardAgain(node, sequence) => {
                if let Some(last) = self.last_heartbeat(node) {
                    let heartbeat = Heartbeat { sequence, ..last.clone() };
                    self.handle(MonitorInput::Heartbeat(heartbeat), now);
                }
            }
            MonitorCall::Step => return self.step(now),
        }
        Vec::new()
    }

    fn describe_call(call: &MonitorCall) -> Vec<String> {
        match call {
            MonitorCall::Handle(input) => vec![describe_input(input)],
            MonitorCall::HeardAgain(node, _) => vec![format!("a heartbeat of node {node}")],
            MonitorCall::Step => Vec::new(),
        }
    }

    fn describe_output(output: &MonitorOutput) -> Option<String> {
        Some(match output {
            MonitorOutput::Notice(notice) => describe_notice(notice),
            MonitorOutput::HandedOver(Ok(Some(node))) => format!("hands over to node {node}"),
            MonitorOutput::HandedOver(Ok(None)) => "hands over to no node".to_owned(),
            MonitorOutput::HandedOver(Err(error)) => format!("hands over to no node: {error}"),
            MonitorOutput::Claim(claim) => {
                let before = claim.expected.map_or_else(String::new, |term| format!(" {term}"));
                format!("claims the term after{before} for node {}", claim.node)
            }
            MonitorOutput::ReadStore => "reads the store anew".to_owned(),
            MonitorOutput::Echo(addr) => format!("asks {addr} for an echo"),
            MonitorOutput::ForgetEcho(addr) => format!("forgets the echoes of {addr}"),
            MonitorOutput::Connect(target) => format!("tries to connect to {target}"),
            MonitorOutput::WatchAddresses(watched) => {
                format!("watches for other hosts that claim {watched:?}")
            }
            MonitorOutput::AskForAddresses(addrs) => format!("asks which host has {addrs:?}"),
            MonitorOutput::WriteTerms(terms) => {
                format!("writes its terms: {}", terms.encode().trim().replace('\n', ", "))
            }
            MonitorOutput::RemoveTerms => "removes its file of terms".to_owned(),
            // Once a second.
            MonitorOutput::Tend => return None,
        })
    }
}

fn describe_input(input: &MonitorInput) -> String {
    match input {
        MonitorInput::Told(command) => match command {
            MonitorCommand::Reload(_) => "another configuration".to_owned(),
            MonitorCommand::TakeOver => "an operator asks for a takeover".to_owned(),
            MonitorCommand::Confirm => "the node was away, and makes sure of its role".to_owned(),
            MonitorCommand::Carries(true) => "the node can carry the CVIPs".to_owned(),
            MonitorCommand::Carries(false) => "the node cannot carry the CVIPs".to_owned(),
            MonitorCommand::Leave => "the node leaves".to_owned(),
            MonitorCommand::Left(_) => "ports that the node has left".to_owned(),
            MonitorCommand::Announced(addresses) => {
                format!("{} addresses are announced", addresses.len())
            }
        },
        MonitorInput::HandOver => "another director is to take over".to_owned(),
        MonitorInput::StoreRead(reading) => describe_reading(reading),
        MonitorInput::Heartbeat(heartbeat) => {
            let terms = heartbeat.leaderships.iter().filter(|said| said.active);
            let active = terms.map(|said| format!(", active in term {}", said.term));
            let leaving = if heartbeat.leaving { ", leaving" } else { "" };
            let cannot = if heartbeat.cannot_carry { ", cannot carry the CVIPs" } else { "" };
            let active: String = active.collect();
            format!("a heartbeat of node {}{active}{leaving}{cannot}", heartbeat.node)
        }
        MonitorInput::EchoAnswered { addr, .. } => format!("{addr} answers an echo request"),
        MonitorInput::Connected { target, outcome } => {
            format!("a connect to {target}: {outcome:?}")
        }
        MonitorInput::Claimed(claimed) => format!("{:?} claims {}", claimed.by, claimed.addr),
        MonitorInput::Proved(addrs) => format!("other hosts are proved to have {addrs:?}"),
        MonitorInput::ClaimEnded(Ok(claim)) => format!("the claim ended: {claim:?}"),
        MonitorInput::ClaimEnded(Err(error)) => format!("the claim failed: {error}"),
        MonitorInput::TermsWritten(true) => "the file of terms is written".to_owned(),
        MonitorInput::TermsWritten(false) => "the file of terms cannot be written".to_owned(),
        MonitorInput::TermsMissing => "the file of terms is missing".to_owned(),
    }
}

fn describe_reading(reading: &StoreReading) -> String {
    let Some(changes) = &reading.changes else { return "the store cannot be read".to_owned() };
    let (records, alive) = (changes.records.keys(), changes.alive.iter());
    let records = records.map(|node| format!("record of node {node}"));
    let alive = alive.map(|(node, incarnation)| match incarnation {
        Some(_) => format!("node {node} holds its lease"),
        None => format!("the lease of node {node} has ended"),
    });
    let elected = changes.elected.values().flatten();
    let elected =
        elected.map(|elected| format!("node {} elected in term {}", elected.node, elected.term));
    let all: Vec<String> = records.chain(alive).chain(elected).collect();
    match all.is_empty() {
        true => "the store is read".to_owned(),
        false => format!("the store: {}", all.join(", ")),
    }
}

fn describe_notice(notice: &MonitorNotice) -> String {
    match notice {
        MonitorNotice::Restrictions(restrictions) => {
            let mut parts = Vec::new();
            let mut part = |what: &str, nodes: String| parts.push(format!("{what} {nodes}"));
            if !restrictions.suspected.is_empty() {
                part("suspected", format!("{:?}", restrictions.suspected));
            }
            if !restrictions.dead.is_empty() {
                part("dead", format!("{:?}", restrictions.dead));
            }
            if !restrictions.unknown.is_empty() {
                part("unknown", format!("{:?}", restrictions.unknown));
            }
            for ((service, node), why) in &restrictions.unhealthy {
                part("unhealthy", format!("node {node} for {service}: {why}"));
            }
            if let Some(node) = restrictions.former_director {
                part("former director", node.to_string());
            }
            let leaving = restrictions.leaving.iter().filter(|(_, said)| said.is_some());
            let leaving: Vec<&u32> = leaving.map(|(node, _)| node).collect();
            if !leaving.is_empty() {
                part("leaving", format!("{leaving:?}"));
            }
            match parts.is_empty() {
                true => "restricts no node".to_owned(),
                false => format!("restricts: {}", parts.join("; ")),
            }
        }
        MonitorNotice::ElectionRole(ElectionRole::Standby) => "tells its role: standby".to_owned(),
        MonitorNotice::ElectionRole(ElectionRole::Active { term }) => {
            format!("tells its role: active in term {term}")
        }
        MonitorNotice::HeartbeatContent(content) => {
            let said = content.leaderships.iter();
            let said =
                said.map(|l| format!(", term {}{}", l.term, if l.active { " active" } else { "" }));
            let hears: Vec<u32> = content.seen.iter().map(|seen| seen.node).collect();
            let said: String = said.collect();
            let leaving = if content.leaving { ", leaving" } else { "" };
            let cannot = if content.cannot_carry { ", cannot carry the CVIPs" } else { "" };
            format!("heartbeats say: hears {hears:?}{said}{leaving}{cannot}")
        }
        MonitorNotice::Vouch(number) => format!("vouches for itself by number {number}"),
        MonitorNotice::Announce => "has its addresses announced again".to_owned(),
        MonitorNotice::Event(event) => format!("event: {event}"),
    }
}
