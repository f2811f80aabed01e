//! The supervisor as it is recorded and replayed.

use serde::{Deserialize, Serialize};

use super::messages::{SupervisorAction, SupervisorInput};
use super::state::Supervisor;
use crate::clock::Instant;
use crate::daemon::address_manager::{AddressMessage, AddressNotice};
use crate::daemon::messages::{MonitorMessage, NodeMessage, TableMessage};
use crate::director::election::ElectionRole;
use crate::director::monitor::MonitorCommand;
use crate::director::sync::SyncRole;
use crate::recorder::{Core, Recorded};

/// What changes a supervisor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorCall {
    /// [`Supervisor::handle`]
    Handle(SupervisorInput),
    /// [`Supervisor::next_action`]
    Next,
}

impl Core for Supervisor {
    const NAME: &'static str = "supervisor";
    type Call = SupervisorCall;
    type Output = SupervisorAction;

    fn call(&mut self, call: SupervisorCall, now: Instant) -> Vec<SupervisorAction> {
        match call {
            SupervisorCall::Handle(input) => {
                self.handle(input, now);
                Vec::new()
            }
            SupervisorCall::Next => self.next_action().into_iter().collect(),
        }
    }

    fn describe_call(call: &SupervisorCall) -> Vec<String> {
        match call {
            SupervisorCall::Handle(input) => describe_input(input),
            SupervisorCall::Next => Vec::new(),
        }
    }

    fn describe_output(action: &SupervisorAction) -> Option<String> {
        Some(match action {
            SupervisorAction::Addresses(message) => describe_address_message(message),
            SupervisorAction::Node(message) => match message {
                NodeMessage::Reload(_) => "tells the node another configuration".to_owned(),
                NodeMessage::Direct(true) => "tells the node that it directs".to_owned(),
                NodeMessage::Direct(false) => "tells the node that it does not direct".to_owned(),
                NodeMessage::Obey(_) => "tells the node what the table obeys".to_owned(),
                NodeMessage::Vouch(number) => format!("has the node vouch by number {number}"),
                NodeMessage::Leave(_) => "tells the node to leave".to_owned(),
                NodeMessage::View(_) => "asks the node what it knows".to_owned(),
            },
            SupervisorAction::Monitor(message) => match message {
                MonitorMessage::Told(command) => describe_command(command),
                MonitorMessage::HandOver(_) => "has the monitor hand over".to_owned(),
                MonitorMessage::View(_) => "asks the monitor what it knows".to_owned(),
            },
            SupervisorAction::Table(message) => match message {
                TableMessage::Leave => "has the table emptied".to_owned(),
                TableMessage::Reload(_) => "tells the table another configuration".to_owned(),
                _ => "tells the table".to_owned(),
            },
            SupervisorAction::RunHooks(change) => {
                format!("has hooks run for {}", change.event)
            }
            SupervisorAction::TakeTableRole(role) => {
                format!("tells the table its role: {}", role_of_table(*role))
            }
            SupervisorAction::StartNode => "starts the node's worker".to_owned(),
            SupervisorAction::StartLeave => "has the node leave".to_owned(),
            SupervisorAction::TellLeaving => "says in heartbeats that the node leaves".to_owned(),
            SupervisorAction::SayFarewell => "says that the node has left".to_owned(),
            // Ten times a second while a node leaves.
            SupervisorAction::ReadHolders => return None,
            SupervisorAction::ReadConf => "reads cvip.conf and clustertab".to_owned(),
            SupervisorAction::TryConf(_) => "tries the configuration".to_owned(),
            SupervisorAction::SwapWorkers(_) => "starts the configuration's workers".to_owned(),
            SupervisorAction::EndFormerTable => "ends the former table's worker".to_owned(),
            SupervisorAction::Resync(_) => "has the table take the configuration".to_owned(),
            SupervisorAction::Ready => "is ready".to_owned(),
            SupervisorAction::Answer(Ok(())) => "answers: done".to_owned(),
            SupervisorAction::Answer(Err(error)) => format!("answers: {error}"),
            SupervisorAction::Exit(Ok(())) => "ends".to_owned(),
            SupervisorAction::Exit(Err(error)) => format!("ends: {error}"),
        })
    }
}

fn role_of_table(role: SyncRole) -> &'static str {
    match (role.active, role.forwarding) {
        (true, _) => "active director",
        (false, true) => "standby that still forwards",
        (false, false) => "standby",
    }
}

fn describe_address_message(message: &AddressMessage) -> String {
    match message {
        AddressMessage::Take { role, number, .. } => {
            format!("tells the address manager role {number}: {role:?}")
        }
        AddressMessage::Reload(_) => "tells the address manager another configuration".to_owned(),
        AddressMessage::Undo => "has addresses and settings undone".to_owned(),
        AddressMessage::Yield | AddressMessage::Elected | AddressMessage::Announce => {
            "tells the address manager".to_owned()
        }
    }
}

fn describe_command(command: &MonitorCommand) -> String {
    let what = match command {
        MonitorCommand::Reload(_) => "another configuration",
        MonitorCommand::TakeOver => "to take over",
        MonitorCommand::Confirm => "to make sure of its role",
        MonitorCommand::Carries(true) => "that the CVIPs can be carried",
        MonitorCommand::Carries(false) => "that the CVIPs cannot be carried",
        MonitorCommand::Leave => "that the node leaves",
        MonitorCommand::Left(_) => "which ports the node has left",
        MonitorCommand::Announced(_) => "which addresses are announced",
    };
    format!("tells the monitor {what}")
}

fn describe_input(input: &SupervisorInput) -> Vec<String> {
    let failed = |what: &str, outcome: &Result<(), String>| match outcome {
        Ok(()) => what.to_owned(),
        Err(error) => format!("{what}: {error}"),
    };
    vec![match input {
        SupervisorInput::Time => return Vec::new(),
        SupervisorInput::Terminate => "cvipd is to end".to_owned(),
        SupervisorInput::Reload => "the configuration is to be read again".to_owned(),
        SupervisorInput::Apply => "an operator has the configuration read again".to_owned(),
        SupervisorInput::Leave(_) => "an operator has the node leave".to_owned(),
        SupervisorInput::Elected(ElectionRole::Standby) => "the monitor: standby".to_owned(),
        SupervisorInput::Elected(ElectionRole::Active { term }) => {
            format!("the monitor: active in term {term}")
        }
        SupervisorInput::Vouch(number) => format!("the monitor vouches by number {number}"),
        SupervisorInput::HandOver { answer, .. } => match answer {
            Ok(Some(node)) => format!("node {node} is to take over"),
            Ok(None) => "no other director lives".to_owned(),
            Err(error) => format!("nothing is handed over: {error}"),
        },
        SupervisorInput::TableMade(role) => {
            format!("the table is made: {}", role_of_table(*role))
        }
        SupervisorInput::TableEmptied(outcome) => failed("the table is emptied", outcome),
        SupervisorInput::Applied(_) => "what the table obeys changed".to_owned(),
        SupervisorInput::HooksEnded(_) => "the hooks have ended".to_owned(),
        SupervisorInput::Addresses(notice) => match notice {
            AddressNotice::Stand(number) => format!("the addresses of role {number} stand"),
            AddressNotice::Doubt => "is this node still the active director?".to_owned(),
            AddressNotice::Announced(addresses) => {
                format!("{} addresses are announced", addresses.len())
            }
            AddressNotice::Carries(true) => "the CVIPs can be carried".to_owned(),
            AddressNotice::Carries(false) => "the CVIPs cannot be carried".to_owned(),
            AddressNotice::Faults(faults) => format!("faults of addresses: {faults:?}"),
            AddressNotice::Undone => "addresses and settings are undone".to_owned(),
        },
        SupervisorInput::Read(loaded) if loaded.conf.is_none() => {
            format!("the configuration has faults: {}", loaded.faults.join("; "))
        }
        SupervisorInput::Read(_) => "the configuration is read".to_owned(),
        SupervisorInput::Tried(_, outcome) => failed("the configuration is tried", outcome),
        SupervisorInput::Swapped(_, outcome) => failed("its workers are started", outcome),
        SupervisorInput::TableTold(Ok(())) => "the table is told".to_owned(),
        SupervisorInput::TableTold(Err(error)) => format!("there is no table: {error}"),
        SupervisorInput::NodeStarted(Ok(())) => "the node's worker runs".to_owned(),
        SupervisorInput::NodeStarted(Err(error)) => format!("there is no node's worker: {error}"),
        SupervisorInput::Connections(connections) => format!("{connections} connections are left"),
        SupervisorInput::Holders(Some(holders)) if holders.is_empty() => {
            "the directors have released the node".to_owned()
        }
        SupervisorInput::Holders(Some(holders)) => {
            format!("directors have not released the node: {holders:?}")
        }
        SupervisorInput::Holders(None) => "the directors' records cannot be read".to_owned(),
        SupervisorInput::WorkerEnded(name) => format!("the {name}'s thread has ended"),
    }]
}

/// [`Supervisor`]'s own, recorded.
impl Recorded<Supervisor> {
    pub(super) fn handle(&mut self, input: SupervisorInput, now: Instant) {
        self.call(SupervisorCall::Handle(input), now);
    }

    pub(super) fn next_action(&mut self, now: Instant) -> Option<SupervisorAction> {
        self.call(SupervisorCall::Next, now).pop()
    }
}
