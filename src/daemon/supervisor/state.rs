//! The supervisor's decisions: the node's role, what follows from it for each worker, reload,
//! leave and end. Pure: [`SupervisorInput`]s and a time go in, [`SupervisorAction`]s come out, and
//! what became of an action comes back as an input.

mod end;
mod reload;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hand_over::HandOver;
use super::leave::Leave;
use super::messages::{ReadConf, SupervisorAction, SupervisorInput};
use super::role::NodeRole;
use super::role_hooks::{CarriedCvips, RoleHooks};
use super::takeover::TakeoverStage;
use crate::clock::Instant;
use crate::conf::{Conf, Sources};
use crate::daemon::address_manager::{AddressMessage, AddressNotice};
use crate::daemon::error::RunError;
use crate::daemon::hooks::messages::{HookCvip, RoleEvent};
use crate::daemon::messages::{MonitorMessage, NodeMessage};
use crate::director::monitor::{MonitorCommand, set_of};
use crate::director::sync::SyncRole;
use crate::net::Reachable;
use crate::store::AppliedOrders;

/// How often the node that leaves is asked for its connections, and the store for the directors.
const LEAVE_EVERY: Duration = Duration::from_millis(100);

/// The state of the node as a whole.
#[derive(Serialize, Deserialize)]
pub struct Supervisor {
    me: u32,
    conf: Arc<Conf>,
    /// The text of the configuration, for programs that find the files faulty.
    sources: Arc<Sources>,
    /// Where cvip.conf stands.
    path: String,
    role: NodeRole,
    /// How many roles the address manager was told.
    told_roles: u64,
    /// The last of them, while it is not reported.
    awaited: Option<Awaited>,
    /// The role for which the table is being made.
    table_role: Option<SyncRole>,
    /// The table's worker runs.
    has_table: bool,
    /// The node's worker runs.
    serves: bool,
    /// Whether the CVIPs can be carried here, as the address manager said.
    can_carry: Option<bool>,
    /// The addresses that this node carries as the active director, and announces.
    announced: Vec<Reachable>,
    /// What the table obeys.
    applied: AppliedOrders,
    /// The service manager was told that cvipd is ready.
    is_ready: bool,
    /// Faults of the newest configuration, which was then not taken.
    faults: Vec<String>,
    /// What is wrong with addresses and settings.
    address_faults: Vec<String>,
    /// How many hand-overs were ordered.
    hand_overs: u64,
    /// What hooks were told of the role.
    hooks: RoleHooks,
    reload: Option<Reload>,
    end: Option<PendingEnd>,
    actions: VecDeque<SupervisorAction>,
}

/// A role that the address manager was told and has not reported yet.
#[derive(Serialize, Deserialize)]
struct Awaited {
    number: u64,
    /// What the role is to the table and to the node follows then.
    is_turn: bool,
}

/// A reload that is under way.
#[derive(Serialize, Deserialize)]
struct Reload {
    /// An operator waits for the outcome.
    is_asked: bool,
    /// Another director is to take over first: once, however often the files are read meanwhile.
    hand_over: Option<HandOver>,
    /// The files were read, and are read again after the hand-over.
    waits: bool,
}

/// An end that was ordered.
#[derive(Serialize, Deserialize)]
enum PendingEnd {
    /// Another director is to have taken over first.
    HandingOver(HandOver),
    /// The node leaves for good.
    Leaving {
        leave: Leave,
        hand_over: Option<HandOver>,
        /// It is said in heartbeats, and this node's own monitor knows it.
        is_told: bool,
    },
}

impl Supervisor {
    /// A node that has just been started, with this configuration. `has_former_table`: it is no
    /// director, and the table is being emptied that an earlier cvipd made here as one.
    /// `hooks_within`: how long the hooks of one event may take.
    pub fn new(
        me: u32,
        path: String,
        read: ReadConf,
        has_former_table: bool,
        hooks_within: Duration,
        now: Instant,
    ) -> Supervisor {
        let mut supervisor = Supervisor {
            me,
            conf: read.conf,
            sources: read.sources,
            path,
            role: NodeRole::Undecided,
            told_roles: 0,
            awaited: None,
            table_role: None,
            has_table: false,
            serves: false,
            can_carry: None,
            announced: Vec::new(),
            applied: AppliedOrders::default(),
            is_ready: false,
            faults: Vec::new(),
            address_faults: Vec::new(),
            hand_overs: 0,
            hooks: RoleHooks::new(hooks_within, has_former_table),
            reload: None,
            end: None,
            actions: VecDeque::new(),
        };
        if !supervisor.is_director() {
            supervisor.turn(NodeRole::retired(has_former_table, now));
        }
        supervisor.step(now);
        supervisor
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<SupervisorAction> {
        self.actions.pop_front()
    }

    /// When [`SupervisorInput::Time`] is due, if nothing else happens.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let end = self.end.as_ref().map(|end| match end {
            PendingEnd::HandingOver(hand_over) => hand_over.due(),
            PendingEnd::Leaving { .. } => now + LEAVE_EVERY,
        });
        let waiting = self.reload.as_ref().filter(|reload| reload.waits);
        let reload = waiting.and_then(|reload| Some(reload.hand_over.as_ref()?.due()));
        // A node that undoes what it made changes its role no more.
        let role = self.role.until().filter(|_| !self.is_undoing());
        [role, end, reload].into_iter().flatten().min()
    }

    /// Decides.
    pub fn handle(&mut self, input: SupervisorInput, now: Instant) {
        if self.is_undoing() {
            self.handle_while_undoing(input, now);
            return self.step(now);
        }
        // What comes late finds the role that it has by now.
        self.turn(self.role.at(now));
        match input {
            SupervisorInput::Time => self.read_holders(),
            SupervisorInput::Terminate => self.terminate(now),
            SupervisorInput::Reload => self.begin_reload(false),
            SupervisorInput::Apply => self.begin_reload(true),
            SupervisorInput::Leave(within) => {
                let answer = self.leave(within, now);
                self.act(SupervisorAction::Answer(answer));
            }
            SupervisorInput::Elected(role) => self.turn(self.role.elected(role, now)),
            SupervisorInput::Vouch(number) => self.tell_node(NodeMessage::Vouch(number)),
            SupervisorInput::HandOver { number, answer } => {
                let ending = match &mut self.end {
                    Some(PendingEnd::HandingOver(hand_over)) => Some(hand_over),
                    Some(PendingEnd::Leaving { hand_over, .. }) => hand_over.as_mut(),
                    None => None,
                };
                let reloading = self.reload.as_mut().and_then(|reload| reload.hand_over.as_mut());
                for hand_over in ending.into_iter().chain(reloading) {
                    hand_over.answered(number, &answer, now);
                }
            }
            // Another role may have been ordered since.
            SupervisorInput::TableMade(role) => {
                if self.table_role.take_if(|ordered| *ordered == role).is_some() {
                    self.turn(self.role.table_made());
                }
            }
            SupervisorInput::TableEmptied(Ok(())) => {
                self.act(SupervisorAction::EndFormerTable);
                self.turn(self.role.table_emptied());
            }
            // It is tried again, and a former director waits for it for a while.
            SupervisorInput::TableEmptied(Err(_)) => {}
            SupervisorInput::Applied(applied) => {
                self.applied = applied;
                self.tell_applied();
            }
            SupervisorInput::HooksEnded(number) => self.hooks.ended(number),
            SupervisorInput::Addresses(notice) => self.handle_addresses(notice, now),
            SupervisorInput::Read(loaded) => self.read(*loaded),
            SupervisorInput::Tried(read, outcome) => self.tried(read, outcome, now),
            SupervisorInput::Swapped(read, outcome) => self.swapped(read, outcome, now),
            SupervisorInput::TableTold(Ok(())) => self.has_table = true,
            SupervisorInput::NodeStarted(Ok(())) => {
                self.serves = true;
                self.tell_role();
            }
            SupervisorInput::TableTold(Err(error)) | SupervisorInput::NodeStarted(Err(error)) => {
                self.act(SupervisorAction::Exit(Err(error)));
            }
            SupervisorInput::Connections(connections) => {
                if let Some(PendingEnd::Leaving { leave, .. }) = &mut self.end {
                    leave.report(connections);
                }
            }
            SupervisorInput::Holders(holders) => {
                if let Some(PendingEnd::Leaving { leave, .. }) = &mut self.end
                    && holders.is_none_or(|holders| holders.is_empty())
                {
                    leave.released(now);
                }
            }
            SupervisorInput::WorkerEnded(name) => {
                self.act(SupervisorAction::Exit(Err(RunError::Died(name))))
            }
        }
        self.step(now);
    }

    /// What time and everything that was heard lead to.
    fn step(&mut self, now: Instant) {
        if !self.is_undoing() {
            self.turn(self.role.at(now));
        }
        self.step_hand_overs(now);
        self.step_end(now);
        // A real server is ready when it registers, and a director before it knows its role.
        if !self.is_ready && (self.serves || self.is_director()) {
            self.is_ready = true;
            self.act(SupervisorAction::Ready);
        }
        self.step_reload(now);
        self.step_hooks(now);
    }

    fn act(&mut self, action: SupervisorAction) {
        self.actions.push_back(action);
    }

    // Roles.

    fn is_director(&self) -> bool {
        self.conf.is_director(self.me)
    }

    /// It carries no address, and its table is what a standby's is.
    fn is_standby(&self) -> bool {
        !self.role.forwards() && !self.is_turning() && self.table_role.is_none()
    }

    /// The role's addresses do not stand yet, and what follows from it waits for them.
    fn is_turning(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.is_turn)
    }

    /// Takes up a role.
    fn turn(&mut self, role: NodeRole) {
        if role == self.role {
            return;
        }
        self.role = role;
        match role {
            // It was away: another director may be active by now.
            NodeRole::Undecided => {
                self.act(SupervisorAction::Monitor(MonitorMessage::Told(MonitorCommand::Confirm)))
            }
            NodeRole::Retire { .. } => {}
            NodeRole::Prepare { .. } => self.take_table_role(true, false),
            _ => self.take_addresses(true),
        }
    }

    /// Asks for the role's addresses and settings.
    fn take_addresses(&mut self, is_turn: bool) {
        let Some(role) = self.role.address_role() else { return };
        self.told_roles += 1;
        let (number, is_turn) = (self.told_roles, is_turn || self.is_turning());
        self.awaited = Some(Awaited { number, is_turn });
        let conf = Arc::clone(&self.conf);
        self.act(SupervisorAction::Addresses(AddressMessage::Take { role, conf, number }));
    }

    fn take_table_role(&mut self, active: bool, forwarding: bool) {
        if self.is_director() {
            let role = SyncRole { active, forwarding };
            self.table_role = Some(role);
            self.act(SupervisorAction::TakeTableRole(role));
        }
    }

    /// What follows once the role's addresses stand, or could not be made: a director that yields
    /// gives the address back first, and a node's addresses and settings come before its first
    /// registration.
    fn follow(&mut self, now: Instant) {
        match self.role {
            NodeRole::Undecided | NodeRole::Prepare { .. } | NodeRole::Retire { .. } => return,
            NodeRole::Serve | NodeRole::Direct { .. } => {}
            NodeRole::Stand => self.take_table_role(false, false),
            NodeRole::Yield { .. } => self.take_table_role(false, true),
        }
        match self.serves {
            true => self.tell_role(),
            false => self.act(SupervisorAction::StartNode),
        }
        if !self.role.is_active() && (self.is_director() || self.hooks.last().is_some()) {
            self.run_hooks(RoleEvent::Standby, now);
        }
    }

    /// The node's record says whether the node is the active director, and what its table obeys.
    fn tell_role(&mut self) {
        self.tell_node(NodeMessage::Direct(self.role.forwards()));
        self.tell_applied();
    }

    fn tell_applied(&mut self) {
        self.tell_node(NodeMessage::Obey(self.applied.clone()));
    }

    /// A node whose worker does not run yet is told when it does.
    fn tell_node(&mut self, message: NodeMessage) {
        if self.serves {
            self.act(SupervisorAction::Node(message));
        }
    }

    fn handle_addresses(&mut self, notice: AddressNotice, now: Instant) {
        match notice {
            AddressNotice::Stand(number) => {
                let stands = self.awaited.take_if(|awaited| awaited.number == number);
                if stands.is_some_and(|awaited| awaited.is_turn) {
                    self.follow(now);
                }
            }
            // The address manager does nothing until it is told its role again.
            AddressNotice::Doubt if self.is_director() && self.role.forwards() => {
                self.turn(NodeRole::Undecided);
            }
            // The role is another by now, and is known.
            AddressNotice::Doubt => self.take_addresses(false),
            AddressNotice::Announced(announced) => {
                self.announced = announced;
                self.tell_announced();
            }
            AddressNotice::Carries(can_carry) => {
                self.can_carry = Some(can_carry);
                self.tell_can_carry();
            }
            AddressNotice::Undone => {}
            AddressNotice::Faults(faults) => self.address_faults = faults,
        }
    }

    /// The election is told whether this director can carry the CVIPs.
    fn tell_can_carry(&mut self) {
        if let Some(can_carry) = self.can_carry.filter(|_| self.is_director()) {
            self.act(SupervisorAction::Monitor(MonitorMessage::Told(MonitorCommand::Carries(
                can_carry,
            ))));
        }
    }

    /// The monitor hears other hosts that claim these addresses.
    fn tell_announced(&mut self) {
        if self.is_director() {
            let announced = self.announced.clone();
            self.act(SupervisorAction::Monitor(MonitorMessage::Told(MonitorCommand::Announced(
                announced,
            ))));
        }
    }

    // Hooks.

    /// Has the hooks of a changed role run, unless they were told last.
    fn run_hooks(&mut self, event: RoleEvent, now: Instant) {
        if !self.hooks.is_new(event) {
            return;
        }
        let carried = CarriedCvips {
            set: set_of(&self.conf, self.me),
            term: self.role.term(),
            cvips: HookCvip::of(&self.conf, self.me),
        };
        let change = self.hooks.tell(event, carried, now);
        self.act(SupervisorAction::RunHooks(change));
    }

    /// Tells hooks that this director carries the CVIPs and announces them; also after it was to
    /// give them up, and goes on.
    fn step_hooks(&mut self, now: Instant) {
        let stand = self.awaited.is_none() && !self.announced.is_empty();
        let carries = self.role.is_active() && stand;
        if carries && !self.gives_up() {
            self.run_hooks(RoleEvent::Active, now);
        }
    }

    // What `status` and the metrics show.

    /// How far it is on its way to being the active director.
    pub(super) fn takeover_stage(&self) -> TakeoverStage {
        match self.role {
            NodeRole::Prepare { .. } => TakeoverStage::UnderWay,
            NodeRole::Direct { .. } if self.is_turning() => TakeoverStage::UnderWay,
            NodeRole::Direct { .. } => TakeoverStage::Done,
            _ => TakeoverStage::None,
        }
    }

    /// Its roles, for people.
    pub fn roles(&self) -> Vec<String> {
        let serves = self.serves.then_some("real server");
        self.role.name().into_iter().chain(serves).map(str::to_owned).collect()
    }

    /// The configuration in force.
    pub fn conf(&self) -> &Arc<Conf> {
        &self.conf
    }

    /// Its text.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Faults of the newest configuration, which was then not taken.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// What is wrong with addresses and settings.
    pub fn address_faults(&self) -> &[String] {
        &self.address_faults
    }

    /// How many connections are waited for, if the node leaves.
    pub fn leaving(&self) -> Option<usize> {
        match &self.end {
            Some(PendingEnd::Leaving { leave, .. }) => Some(leave.connections()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod scene;
#[cfg(test)]
mod tests;
