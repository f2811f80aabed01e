//! The agent as it is recorded and replayed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::DirectorEvent;
use super::super::flaps::ServerKey;
use super::super::restrictions::Restrictions;
use super::super::sync::SyncRole;
use super::messages::{ActionResult, AgentAction, PassError, PassReport};
use super::state::{AgentState, Targets};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::recorder::Core;
use crate::serial::pairs;
use crate::store::{Key, StoreValues};

/// Of many things so many are named.
const NAMED: usize = 8;

/// What changes an agent.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentCall {
    /// [`AgentState::step`]
    Step,
    /// [`AgentState::full_pass`]
    FullPass,
    /// [`AgentState::read_view`]
    ReadView,
    /// [`AgentState::take_role`]
    TakeRole(SyncRole),
    /// [`AgentState::reload`]
    Reload(Arc<Conf>),
    /// [`AgentState::restrict`]
    Restrict(Restrictions),
    /// [`AgentState::take_checks`]
    TakeChecks(#[serde(with = "pairs")] BTreeMap<ServerKey, String>),
    /// [`AgentState::leave`]
    Leave,
    /// [`AgentState::done`]
    Done(ActionResult),
}

/// What is to be done after a call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentOutput {
    /// An action is to be carried out.
    Action(AgentAction),
    /// [`AgentState::take_targets`]
    Check(Targets),
    /// [`AgentState::take_outcome`]
    Outcome(Result<PassReport, PassError>),
    /// [`AgentState::take_events`]
    Event(DirectorEvent),
    /// [`AgentState::take_departure`]
    Departure(Result<(), String>),
}

impl Core for AgentState {
    const NAME: &'static str = "table";
    type Call = AgentCall;
    type Output = AgentOutput;

    fn call(&mut self, call: AgentCall, now: Instant) -> Vec<AgentOutput> {
        let mut next = None;
        match call {
            AgentCall::Step => next = self.step(now),
            AgentCall::FullPass => next = self.full_pass(),
            AgentCall::ReadView => next = self.read_view(),
            AgentCall::TakeRole(role) => next = self.take_role(role, now),
            AgentCall::Reload(conf) => self.reload(conf, now),
            AgentCall::Restrict(restrictions) => self.restrict(restrictions, now),
            AgentCall::TakeChecks(failed) => self.take_checks(failed, now),
            AgentCall::Leave => next = self.leave(now),
            AgentCall::Done(done) => next = self.done(done, now),
        }
        let events = self.take_events().into_iter().map(AgentOutput::Event);
        let targets = self.take_targets().map(AgentOutput::Check);
        let outcome = self.take_outcome().map(AgentOutput::Outcome);
        let departure = self.take_departure().map(AgentOutput::Departure);
        let told = events.chain(targets).chain(outcome).chain(departure);
        told.chain(next.map(AgentOutput::Action)).collect()
    }

    fn describe_call(call: &AgentCall) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match call {
            AgentCall::Step => Vec::new(),
            AgentCall::FullPass => one("a full pass is asked for"),
            AgentCall::ReadView => one("it is asked what a full pass would change"),
            AgentCall::TakeRole(SyncRole { active: true, .. }) => one("role: active director"),
            AgentCall::TakeRole(SyncRole { forwarding: true, .. }) => {
                one("role: standby that still forwards")
            }
            AgentCall::TakeRole(_) => one("role: standby"),
            AgentCall::Reload(_) => one("another configuration"),
            AgentCall::Restrict(restrictions) => describe_restrictions(restrictions),
            AgentCall::TakeChecks(failed) if failed.is_empty() => {
                one("no static real server fails its check")
            }
            AgentCall::TakeChecks(failed) => {
                let row = |((service, node), why): (&ServerKey, &String)| {
                    format!("node {node} fails the check of {service}: {why}")
                };
                failed.iter().map(row).collect()
            }
            AgentCall::Leave => one("the node is to direct no more"),
            AgentCall::Done(done) => describe_result(done),
        }
    }

    fn describe_output(output: &AgentOutput) -> Option<String> {
        Some(match output {
            AgentOutput::Action(action) => return describe_action(action),
            AgentOutput::Check(Targets(targets)) => {
                format!("checks {} static real servers", targets.len())
            }
            AgentOutput::Outcome(Ok(report)) if report.refused.is_empty() => return None,
            AgentOutput::Outcome(Ok(report)) => list("the kernel", &report.refused),
            AgentOutput::Outcome(Err(error)) => format!("the pass failed: {error}"),
            AgentOutput::Event(event) => format!("event: {event}"),
            AgentOutput::Departure(Ok(())) => "nothing of its own is left".to_owned(),
            AgentOutput::Departure(Err(why)) => format!("something of its own is left: {why}"),
        })
    }
}

/// Some of many things.
fn list<T: Display>(what: &str, things: &[T]) -> String {
    let mut named: Vec<String> = things.iter().take(NAMED).map(ToString::to_string).collect();
    if things.len() > NAMED {
        named.push(format!("and {} more", things.len() - NAMED));
    }
    format!("{what}: {}", named.join("; "))
}

fn describe_action(action: &AgentAction) -> Option<String> {
    Some(match action {
        // Again and again.
        AgentAction::ReadStore { whole: false }
        | AgentAction::ReadDaemons
        | AgentAction::Look
        | AgentAction::LookFlushed => return None,
        AgentAction::ReadStore { whole: true } => "begins a full pass".to_owned(),
        AgentAction::ReadAll => "reads all services of the kernel's table".to_owned(),
        AgentAction::Read(services) => {
            list("reads of the kernel's table", &services.iter().collect::<Vec<_>>())
        }
        AgentAction::ChangeDaemons(changes) => list("changes the sync daemons", changes),
        AgentAction::Own(services) if services.is_empty() => {
            "writes that it owns no service".to_owned()
        }
        AgentAction::Own(services) => {
            list("writes that it owns", &services.iter().collect::<Vec<_>>())
        }
        AgentAction::Apply(changes) => list("changes the kernel's table", changes),
    })
}

fn describe_result(done: &ActionResult) -> Vec<String> {
    match done {
        ActionResult::ReadStore(Ok(values)) => describe_values(values),
        ActionResult::ReadStore(Err(error)) => vec![format!("the store cannot be read: {error}")],
        ActionResult::Read(Ok(_)) => Vec::new(),
        ActionResult::Read(Err(error)) => vec![format!("the table cannot be read: {error}")],
        ActionResult::LookFlushed(false) => Vec::new(),
        ActionResult::LookFlushed(true) => vec!["the kernel shows no service".to_owned()],
        ActionResult::Look(Ok(unexpected), _) if unexpected.is_empty() => Vec::new(),
        ActionResult::Look(Ok(unexpected), _) => {
            let services: Vec<_> = unexpected.iter().map(|(service, _)| service).collect();
            vec![list("the kernel shows other than the last passes left", &services)]
        }
        ActionResult::Look(Err(error), _) => {
            vec![format!("the table cannot be looked at: {error}")]
        }
        ActionResult::ReadDaemons(Ok(_), _) => Vec::new(),
        ActionResult::ReadDaemons(Err(error), _) => {
            vec![format!("the sync daemons cannot be read: {error}")]
        }
        ActionResult::ChangeDaemons(refused, running, _) => {
            let running = running.iter().map(|d| format!("a {} sync daemon runs", d.role));
            refused.iter().cloned().chain(running).collect()
        }
        ActionResult::Own(Ok(())) => Vec::new(),
        ActionResult::Own(Err(error)) => vec![error.to_string()],
        ActionResult::Apply(Ok(failures)) if failures.is_empty() => Vec::new(),
        ActionResult::Apply(Ok(failures)) => vec![list("the kernel refuses", failures)],
        ActionResult::Apply(Err(error)) => {
            vec![format!("it is not known what the kernel changed: {error}")]
        }
    }
}

fn describe_values(values: &StoreValues) -> Vec<String> {
    let describe = |key| match key {
        Key::Node(node) => format!("the record of node {node}"),
        Key::Alive(node) => format!("the lease of node {node}"),
        Key::Flags(scope) => format!("the flags of {scope}"),
        Key::Drains => "operators' drains".to_owned(),
        Key::Director(set) => format!("the elected director of set {set}"),
        Key::Owned(node) => format!("the services that node {node} owns"),
    };
    values.keys().map(|key| format!("the store: another value of {}", describe(key))).collect()
}

fn describe_restrictions(restrictions: &Restrictions) -> Vec<String> {
    let Restrictions { suspected, dead, unhealthy, former_director, leaving, left, .. } =
        restrictions;
    let mut lines = Vec::new();
    if !suspected.is_empty() {
        lines.push(format!("suspected: nodes {suspected:?}"));
    }
    if !dead.is_empty() {
        lines.push(format!("dead: nodes {dead:?}"));
    }
    let reason = |((service, node), why): (&ServerKey, &String)| {
        format!("node {node} is unhealthy for {service}: {why}")
    };
    lines.extend(unhealthy.iter().map(reason));
    lines.extend(former_director.map(|node| format!("former director: node {node}")));
    let leaving: Vec<u32> = leaving.iter().filter_map(|(node, says)| says.map(|_| *node)).collect();
    if !leaving.is_empty() {
        lines.push(format!("leaving by their heartbeats: nodes {leaving:?}"));
    }
    if !left.is_empty() {
        let left: Vec<u32> = left.keys().copied().collect();
        lines.push(format!("ports that were left by heartbeats: of nodes {left:?}"));
    }
    if lines.is_empty() {
        lines.push("no node is restricted".to_owned());
    }
    lines
}
