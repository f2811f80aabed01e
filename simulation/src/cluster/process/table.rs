//! The table's worker: cvipd's agent, and a simulated kernel's table.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{
    ActionResult, AgentAction, AgentState, SupervisorInput, TableMessage, TableReading,
};
use cvip::director::sync::SyncRole;
use cvip::store::AppliedOrders;

use super::post::Worker;
use super::{Environment, Told};
use crate::store::{Poll, StoreClient, StoreWrite, ViewId};
use crate::time::SimTime;
use cvip::clock::Instant;

/// What a look at the whole table costs of processor time.
const COST: Duration = Duration::from_micros(70);

/// One director's table.
pub struct Table {
    node: u32,
    /// The agent's state; none before the store was read once.
    pub state: Option<AgentState>,
    conf: Arc<Conf>,
    view: ViewId,
    doing: Doing,
    began: Instant,
    awaited: Option<SyncRole>,
    obeys: AppliedOrders,
    /// What it was told before its table ceased to be this node's; none while it is.
    last: Option<VecDeque<TableMessage>>,
    /// It has emptied its table.
    has_departed: bool,
    /// It is to end with its next step.
    stops: bool,
}

/// What it is in the middle of.
enum Doing {
    Idle,
    /// The store's view is refreshed for the first time.
    Opening,
    /// The store's view is refreshed.
    Reading(Then),
    /// An action is to be carried out.
    Acting(AgentAction, Then),
    /// A run of actions has ended.
    Ended(Then),
}

/// What was begun.
#[derive(Clone, Copy)]
enum Then {
    Step,
    Message,
    Role(SyncRole),
}

impl Table {
    /// One that has changed nothing yet.
    pub fn new(node: u32, conf: Arc<Conf>, client: &mut StoreClient, now: SimTime) -> Table {
        Table {
            node,
            state: None,
            conf,
            view: client.open_view(cvip::store::Interest::All, now),
            doing: Doing::Opening,
            began: now.instant(),
            awaited: None,
            obeys: AppliedOrders::default(),
            last: None,
            has_departed: false,
            stops: false,
        }
    }

    /// Its view of the store.
    pub fn view(&self) -> ViewId {
        self.view
    }

    /// It ends with its next step.
    pub fn stop(&mut self) {
        self.stops = true;
    }

    /// Its table is not this node's any more: it empties it, which may take several attempts.
    pub fn retire(&mut self, last: VecDeque<TableMessage>) {
        self.last = Some(last);
    }

    /// Goes on with what it is doing, takes messages, and steps. True if it has ended.
    pub fn run(&mut self, env: &mut Environment<'_>) -> bool {
        let mut has_stepped = false;
        loop {
            match std::mem::replace(&mut self.doing, Doing::Idle) {
                Doing::Idle => {
                    if let Some(message) = self.message(env) {
                        self.began = env.now.instant();
                        self.handle(message);
                    } else if !has_stepped {
                        has_stepped = true;
                        self.began = env.now.instant();
                        let now = self.began;
                        match self.state_mut().step(now) {
                            Some(action) => self.doing = Doing::Acting(action, Then::Step),
                            None => self.doing = Doing::Ended(Then::Step),
                        }
                    } else {
                        break;
                    }
                }
                Doing::Opening => match env.client.refresh(self.view, env.now) {
                    Poll::Done(outcome) => {
                        let conf = Arc::clone(&self.conf);
                        let (view, known) = (env.client.state(self.view).clone(), outcome.is_ok());
                        let state = AgentState::new(self.node, conf, view, known, self.began);
                        self.state = Some(state);
                    }
                    Poll::Wait(until) => {
                        env.post.wake(Worker::Table, until);
                        self.doing = Doing::Opening;
                        return false;
                    }
                },
                Doing::Reading(then) => match env.client.refresh(self.view, env.now) {
                    Poll::Done(outcome) => {
                        let view = env.client.state(self.view);
                        let values = outcome.map(|refreshed| view.values_of(&refreshed.changed));
                        self.done(ActionResult::ReadStore(values.map_err(Into::into)), then, env);
                    }
                    Poll::Wait(until) => {
                        env.post.wake(Worker::Table, until);
                        self.doing = Doing::Reading(then);
                        return false;
                    }
                },
                Doing::Acting(action, then) => self.carry_out(action, then, env),
                Doing::Ended(then) => self.ended(then, env),
            }
        }
        if self.last.is_some() && self.stops {
            env.client.close_view(self.view);
            return true;
        }
        let now = env.now.instant();
        if let Some(due) = self.state.as_ref().and_then(|state| state.due(now)) {
            env.post.at(Worker::Table, SimTime::of(due), env.now);
        }
        false
    }

    fn message(&mut self, env: &mut Environment<'_>) -> Option<TableMessage> {
        self.last.as_mut().unwrap_or(&mut env.post.table).pop_front()
    }

    fn state_mut(&mut self) -> &mut AgentState {
        self.state.as_mut().expect("it was opened first")
    }

    fn handle(&mut self, message: TableMessage) {
        let now = self.began;
        let (first, then) = match message {
            TableMessage::Reload(conf) => {
                self.state_mut().reload(conf, now);
                (None, Then::Message)
            }
            TableMessage::Resync(conf, _) => {
                self.state_mut().reload(conf, now);
                (self.state_mut().full_pass(), Then::Message)
            }
            TableMessage::Restrict(restrictions) => {
                self.state_mut().restrict(*restrictions, now);
                (None, Then::Message)
            }
            TableMessage::ElectionRole(role) => {
                (self.state_mut().take_role(role, now), Then::Role(role))
            }
            TableMessage::Leave => (self.state_mut().leave(now), Then::Message),
            TableMessage::Differences(_) | TableMessage::View(_) => (None, Then::Message),
        };
        self.doing = match first {
            Some(action) => Doing::Acting(action, then),
            None => Doing::Ended(then),
        };
    }

    fn done(&mut self, done: ActionResult, then: Then, env: &mut Environment<'_>) {
        let is_view = matches!(done, ActionResult::ReadStore(Ok(_)));
        let now = self.began;
        let state = self.state.as_mut().expect("it was opened first");
        self.doing = match state.done(done, now) {
            Some(action) => Doing::Acting(action, then),
            None => Doing::Ended(then),
        };
        if is_view {
            assert_eq!(state.store(), env.client.state(self.view), "both are told the same");
        }
    }

    fn carry_out(&mut self, action: AgentAction, then: Then, env: &mut Environment<'_>) {
        let now = env.now;
        let ipvs = env.host.kernel.ipvs();
        let done = match action {
            AgentAction::ReadStore { whole } => {
                if whole {
                    env.client.invalidate(self.view, env.now);
                }
                return self.doing = Doing::Reading(then);
            }
            AgentAction::ReadAll => {
                let state = self.state.as_ref().expect("it was opened first");
                let (inputs, store) = (state.inputs(self.began), state.store());
                let read = cvip::cores::read_all(&mut ipvs.reader(now), inputs, store);
                let read = read.map(|(services, table)| (services, TableReading(table)));
                ActionResult::Read(read.map_err(|error| error.to_string()))
            }
            AgentAction::Read(services) => {
                let read = cvip::cores::read_some(&mut ipvs.reader(now), &services);
                let read = read.map(|table| (services, TableReading(table)));
                ActionResult::Read(read.map_err(|error| error.to_string()))
            }
            AgentAction::LookFlushed => ActionResult::LookFlushed(ipvs.is_flushed()),
            AgentAction::Look => {
                let state = self.state.as_ref().expect("it was opened first");
                let unexpected = ipvs.prints(now).map(|prints| state.unexpected(&prints));
                ActionResult::Look(unexpected.map_err(|error| error.to_string()), COST)
            }
            AgentAction::ReadDaemons => {
                let backup_only = ipvs.settings.backup_only;
                let running = ipvs.daemons(now).map_err(|error| error.to_string());
                ActionResult::ReadDaemons(running, backup_only)
            }
            AgentAction::ChangeDaemons(changes) => {
                let refused = match ipvs.apply(&changes, now) {
                    Ok(failures) => failures.iter().map(ToString::to_string).collect(),
                    Err(error) => vec![error.to_string()],
                };
                let running = ipvs.daemons(now).unwrap_or_default();
                let backup_only = ipvs.settings.backup_only;
                ActionResult::ChangeDaemons(refused, running, backup_only)
            }
            AgentAction::Own(services) => {
                let write = StoreWrite::PutOwned(self.node, services);
                env.client.begin(self.view, write, env.now);
                ActionResult::Own(Ok(()))
            }
            AgentAction::Apply(changes) => {
                let applied = ipvs.apply(&changes, now);
                env.told.push(Told::Applied(changes.len()));
                ActionResult::Apply(applied.map_err(|error| error.to_string()))
            }
        };
        self.done(done, then, env);
    }

    /// What a run of actions leaves to be told.
    fn ended(&mut self, then: Then, env: &mut Environment<'_>) {
        match then {
            Then::Message => {}
            Then::Role(role) => self.awaited = Some(role),
            Then::Step => {
                let state = self.state.as_mut().expect("it was opened first");
                if let Some(Err(error)) = state.take_outcome() {
                    env.told.push(Told::Note(format!("cannot reconcile: {error}")));
                }
                env.told.extend(state.take_events().into_iter().map(Told::Event));
                let obeys = state.obeys();
                if let Some(obeys) = obeys.filter(|obeys| *obeys != self.obeys) {
                    self.obeys = obeys.clone();
                    env.post.tell(SupervisorInput::Applied(obeys), env.now);
                }
                if let Some(outcome) = state.take_departure() {
                    self.has_departed = outcome.is_ok();
                    env.post.tell(SupervisorInput::TableEmptied(outcome), env.now);
                }
                if let Some(role) = self.awaited.take_if(|_| !state.owes_table()) {
                    env.post.tell(SupervisorInput::TableMade(role), env.now);
                }
            }
        }
    }
}
