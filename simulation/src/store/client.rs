//! One cvipd's use of etcd: its connection, its views, its writes and its lease. cvipd's own
//! [`EtcdView`] and [`LeaseState`](cvip::cores::LeaseState) decide; this does what its tasks do
//! with sockets and timers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cvip::cores::{
    AGAIN_AFTER, Corrupt, Decision, EtcdFailure, EtcdView, EtcdWrite, Item, OVERTAKEN,
    PendingState, StoreVersion, StoredText, StoredValue, Swapped, Taken, Unavailable, Value,
    Written,
};
use cvip::ports::FlagSet;
use cvip::store::layout::Layout;
use cvip::store::{
    Drains, Fault, Holding, Interest, Key, NodeRecord, Refreshed, Scope, ServiceKey, StoreError,
    StoreState, TermClaim,
};

use super::host::{HostFiles, HostView, is_of_host};
use super::lease::Keeper;
use super::link::{Link, Phase, Session};
use super::messages::{Answer, Ask, Reply, Request};
use crate::random::Random;
use crate::time::SimTime;
use cvip::clock::Instant;

/// What cvip.toml says of etcd.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// What all keys begin with.
    pub prefix: String,
    /// How long a node's lease lives when it is not renewed.
    pub lease_ttl: Duration,
    /// How long a request may take.
    pub timeout: Duration,
}

/// A view of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewId(u64);

/// A write that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(u64);

/// What became of a refresh.
#[derive(Debug)]
pub enum Poll {
    /// It is done.
    Done(Result<Refreshed, StoreError>),
    /// It waits for a full read: it is asked again when the view is woken, or at this time.
    Wait(SimTime),
}

/// A change of the store.
pub enum StoreWrite {
    /// A node's own record.
    PutNode(Arc<NodeRecord>),
    /// A claim of a set of directors.
    Claim {
        /// The set.
        set: u32,
        /// The term that is to stand there.
        expected_term: Option<u64>,
        /// Who claims.
        node: u32,
        /// Its start.
        incarnation: u64,
    },
    /// Port flags.
    UpdateFlags(Scope, Box<dyn FnMut(&mut FlagSet)>),
    /// Operators' drains.
    UpdateDrains(Box<dyn FnMut(&mut Drains)>),
    /// The services that a director owns.
    PutOwned(u32, BTreeSet<ServiceKey>),
    /// A corrupt value is replaced by the view's.
    Repair(Key),
}

impl fmt::Debug for StoreWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreWrite::PutNode(record) => write!(f, "put node {}'s record", record.node),
            StoreWrite::Claim { set, node, .. } => write!(f, "claim set {set} for node {node}"),
            StoreWrite::UpdateFlags(scope, _) => write!(f, "update the flags of {scope}"),
            StoreWrite::UpdateDrains(_) => f.write_str("update the drains"),
            StoreWrite::PutOwned(director, _) => write!(f, "put what {director} owns"),
            StoreWrite::Repair(key) => write!(f, "repair {key:?}"),
        }
    }
}

/// What became of a write that was not refused.
#[derive(Debug)]
pub enum WriteOutcome {
    /// It was done.
    Done,
    /// What became of a claim.
    Claimed(TermClaim),
    /// It was done; what stood there could not be read.
    Updated(Option<Fault>),
}

/// What became of a write.
pub type WriteResult = Result<WriteOutcome, StoreError>;

/// What a request was made for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Attempt(usize),
    Ping(usize),
    Read(ViewId),
    Watch(ViewId),
    Write(WriteId),
    Lease,
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Call {
    connection: u64,
    generation: u64,
    deadline: SimTime,
    purpose: Purpose,
}

/// What a view's follower does.
#[derive(Debug)]
enum Follow {
    /// It waits for a session.
    Idle,
    /// It reads everything.
    Reading { generation: u64, ticket: u64 },
    /// It watches, by this request.
    Watching { session: Session, watch: u64, ticket: u64 },
    /// It waits after a failure.
    Sleeping { until: SimTime },
}

#[derive(Debug)]
struct View {
    view: EtcdView,
    interest: Interest,
    pending: PendingState,
    host: HostView,
    follow: Follow,
    /// Until when a refresh waits.
    waits: Option<SimTime>,
}

/// What a write waits for.
#[derive(Debug)]
enum Step {
    Get,
    Swap { expected: i64, text: Option<Arc<StoredText>>, written: Written },
}

#[derive(Debug)]
struct Write {
    view: ViewId,
    what: StoreWrite,
    step: Step,
    /// When others' changes have overtaken it for too long.
    deadline: SimTime,
    /// Until when its request is to be answered.
    within: SimTime,
    /// The session on which the request failed, and how.
    last: Option<(u64, String)>,
    is_asked: bool,
}

/// One cvipd's use of etcd.
#[derive(Debug)]
pub struct StoreClient {
    pub(super) node: u32,
    pub(super) settings: StoreSettings,
    pub(super) layout: Layout,
    pub(super) files: HostFiles,
    pub(super) random: Random,
    pub(super) link: Link,
    pub(super) requests: Vec<(usize, Request)>,
    pub(super) next_request: u64,
    pub(super) keeper: Option<Keeper>,
    calls: BTreeMap<u64, Call>,
    views: BTreeMap<ViewId, View>,
    writes: BTreeMap<WriteId, Write>,
    outcomes: Vec<(WriteId, WriteResult)>,
    woken: BTreeSet<ViewId>,
    last_id: u64,
}

impl StoreClient {
    /// The store as a cvipd opens it. `files` is the host's folder.
    pub fn new(
        node: u32,
        servers: usize,
        settings: StoreSettings,
        files: HostFiles,
        now: SimTime,
        mut random: Random,
    ) -> StoreClient {
        let first = random.within(0..servers.max(1) as u64);
        StoreClient {
            node,
            layout: Layout::new(&settings.prefix),
            settings,
            files,
            link: Link::new(servers, usize::try_from(first).unwrap_or(0), now),
            random,
            requests: Vec::new(),
            next_request: 0,
            keeper: None,
            calls: BTreeMap::new(),
            views: BTreeMap::new(),
            writes: BTreeMap::new(),
            outcomes: Vec::new(),
            woken: BTreeSet::new(),
            last_id: 0,
        }
    }

    /// The process has ended: what it leaves on its host.
    pub fn into_files(self) -> HostFiles {
        self.files
    }

    /// The host's folder.
    pub fn files(&self) -> &HostFiles {
        &self.files
    }

    /// True while a value of the host's is not written, since there is no space.
    pub fn has_unsaved(&self) -> bool {
        self.views.values().any(|view| view.host.has_unsaved())
    }

    /// The host's folder, which others change.
    pub fn files_mut(&mut self) -> &mut HostFiles {
        self.wake_all();
        &mut self.files
    }

    /// A message of a server.
    pub fn receive(&mut self, answer: Answer, now: SimTime) {
        let server = answer.server;
        for answer in self.link.in_order(answer, now) {
            if let Reply::Reset = answer.reply {
                self.broken(server, "connection reset", now);
                continue;
            }
            // A server that only is there has not answered as etcd does.
            let is_ping =
                matches!(self.calls.get(&answer.id), Some(Call { purpose: Purpose::Ping(_), .. }));
            if !is_ping {
                self.link.heard = now;
            }
            self.answered(answer.id, answer.reply, now);
        }
    }

    /// A server refuses the connection, or has closed it.
    pub fn lost(&mut self, server: usize, now: SimTime) {
        self.broken(server, "connection refused or reset", now);
    }

    /// What time brings.
    pub fn tick(&mut self, now: SimTime) {
        self.tick_link(now);
        let late = self.calls.iter().filter(|(_, call)| call.deadline <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let reason = unanswered(self.settings.timeout);
            self.answered(id, Reply::Failed(EtcdFailure::Late(reason)), now);
        }
        for view in self.views.keys().copied().collect::<Vec<_>>() {
            self.follow(view, now);
            let view_of = &self.views[&view];
            if view_of.host.next_repair.is_some_and(|at| at <= now) {
                self.woken.insert(view);
            }
        }
        for write in self.writes.keys().copied().collect::<Vec<_>>() {
            self.ask(write, now);
        }
        self.tick_lease(now);
    }

    /// When [`StoreClient::tick`] has something to do next.
    pub fn due(&self) -> SimTime {
        let calls = self.calls.values().map(|call| call.deadline);
        let views = self.views.iter().flat_map(|(id, view)| {
            let sleep = match view.follow {
                Follow::Sleeping { until } => Some(until),
                _ => None,
            };
            let repair = view.host.next_repair.filter(|_| !self.woken.contains(id));
            sleep.into_iter().chain(repair)
        });
        let writes = self.writes.values().filter(|write| !write.is_asked).map(|write| write.within);
        let lease = self.keeper.as_ref().map_or(SimTime::NEVER, Keeper::due);
        let others = [self.link.due(), lease];
        calls.chain(views).chain(writes).chain(others).min().unwrap_or(SimTime::NEVER)
    }

    /// The requests that are to be sent, each with its server.
    pub fn take_requests(&mut self) -> Vec<(usize, Request)> {
        std::mem::take(&mut self.requests)
    }

    /// Opens a view.
    pub fn open_view(&mut self, interest: Interest, now: SimTime) -> ViewId {
        self.last_id += 1;
        let id = ViewId(self.last_id);
        let view = View {
            view: EtcdView::new(self.layout.clone()),
            interest,
            pending: PendingState::default(),
            host: HostView::default(),
            follow: Follow::Idle,
            waits: None,
        };
        self.views.insert(id, view);
        self.follow(id, now);
        id
    }

    /// Closes a view. Its writes are not told any more.
    pub fn close_view(&mut self, id: ViewId) {
        let Some(view) = self.views.remove(&id) else { return };
        if let Follow::Watching { session, watch, .. } = view.follow {
            self.unwatch(session, watch);
        }
        self.woken.remove(&id);
        self.writes.retain(|_, write| write.view != id);
    }

    /// Brings a view up to date: [`cvip::store::Store::refresh`].
    pub fn refresh(&mut self, id: ViewId, now: SimTime) -> Poll {
        let patience = self.settings.timeout;
        let View { view, pending, waits, .. } = self.view(id);
        if view.is_asked() && pending.awaits(view.ticket()) {
            let until = *waits.get_or_insert(now + patience);
            if now < until {
                self.woken.remove(&id);
                return Poll::Wait(until);
            }
        }
        *waits = None;
        let (changes, reading) = pending.take();
        let refreshed = view.take(changes, reading, patience);
        let refreshed = refreshed.and_then(|Taken { changed, corrupt }| {
            let files = &mut self.files;
            let View { view, host, .. } =
                self.views.get_mut(&id).unwrap_or_else(|| unreachable!("it was there"));
            let faults = corrupt.into_iter().map(|it| fault(&self.layout, it)).collect();
            let of_the_host = host.refresh(files, view, now);
            view.tell(changed, faults, Ok(of_the_host), patience)
        });
        self.woken.remove(&id);
        Poll::Done(refreshed)
    }

    /// The next refresh reads everything: [`cvip::store::Store::invalidate`].
    pub fn invalidate(&mut self, id: ViewId, now: SimTime) {
        let view = self.view(id);
        view.host.invalidate();
        view.view.invalidate();
        view.waits = None;
        self.follow(id, now);
    }

    /// What a view says.
    pub fn state(&self, id: ViewId) -> &StoreState {
        self.views[&id].view.state()
    }

    /// Since when etcd cannot be read.
    pub fn unavailable_since(&self, id: ViewId) -> Option<Instant> {
        self.views[&id].view.unavailable_since()
    }

    /// The views for which a refresh may find something, since they were last refreshed.
    pub fn woken(&self) -> impl Iterator<Item = ViewId> {
        self.woken.iter().copied()
    }

    /// A term of a set that a view learnt from elsewhere.
    pub fn surpass(&mut self, id: ViewId, set: u32, term: u64) {
        self.view(id).view.surpass(set, term);
    }

    /// Begins a write. What became of it is one of [`StoreClient::take_outcomes`].
    pub fn begin(&mut self, view: ViewId, what: StoreWrite, now: SimTime) -> WriteId {
        self.last_id += 1;
        let id = WriteId(self.last_id);
        let Some(what) = self.write_on_host(view, id, what, now) else { return id };
        let timeout = self.settings.timeout;
        let mut write = Write {
            view,
            what,
            step: Step::Get,
            deadline: now + OVERTAKEN * timeout,
            within: now + timeout,
            last: None,
            is_asked: false,
        };
        let known = self.view(view).view.known(&etcd_write(&mut write.what));
        self.writes.insert(id, write);
        match known {
            Some(stored) => self.decide(id, Some(stored), now),
            None => self.ask(id, now),
        }
        id
    }

    /// What became of writes.
    pub fn take_outcomes(&mut self) -> Vec<(WriteId, WriteResult)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Takes the node's lease, and keeps it.
    pub fn hold_lease(&mut self, incarnation: u64, now: SimTime) {
        let path = self.layout.path(Key::Alive(self.node)).unwrap_or_default();
        let ttl = self.settings.lease_ttl;
        let keeper = Keeper::new(path.into_bytes().into(), incarnation, ttl, self.files.lease, now);
        self.keeper = Some(keeper);
        self.tick_lease(now);
    }

    /// How the lease stands.
    pub fn holding(&self) -> Holding {
        self.keeper.as_ref().map_or(Holding::Waiting, |keeper| keeper.holding)
    }

    fn view(&mut self, id: ViewId) -> &mut View {
        self.views.get_mut(&id).unwrap_or_else(|| panic!("{id:?} is closed"))
    }

    fn wake_all(&mut self) {
        self.woken.extend(self.views.keys());
    }

    /// Does what concerns the host alone; what is left is for etcd.
    fn write_on_host(
        &mut self,
        view: ViewId,
        id: WriteId,
        what: StoreWrite,
        now: SimTime,
    ) -> Option<StoreWrite> {
        let outcome = match what {
            StoreWrite::PutOwned(director, owned) => {
                let (key, value) = (Key::Owned(director), Value::Owned(owned));
                let View { view, host, .. } =
                    self.views.get_mut(&view).unwrap_or_else(|| panic!("{view:?} is closed"));
                view.set_of_host(key, Some(value.clone()));
                host.write(&mut self.files, key, value, now);
                Ok(WriteOutcome::Done)
            }
            StoreWrite::UpdateFlags(Scope::Node(node), mut change) => {
                self.files.update_flags(node, &mut change).map(WriteOutcome::Updated)
            }
            StoreWrite::Repair(key) if is_of_host(key) => {
                let state = self.views[&view].view.state();
                let value = match key {
                    Key::Flags(scope) => Value::Flags(state.flags_of(scope)),
                    Key::Owned(node) => {
                        Value::Owned(state.owned.get(&node).cloned().unwrap_or_default())
                    }
                    _ => unreachable!("it is the host's"),
                };
                let is_corrupt = self.files.read(key).is_err();
                let written = if is_corrupt { self.files.write(key, &value) } else { Ok(()) };
                written.map(|()| WriteOutcome::Done)
            }
            // A lease keeper sees for itself that its key was corrupt.
            StoreWrite::Repair(Key::Alive(_)) => Ok(WriteOutcome::Done),
            other => return Some(other),
        };
        self.wake_all();
        self.outcomes.push((id, outcome));
        None
    }

    /// Sends a request on a connection.
    pub(super) fn request(
        &mut self,
        server: usize,
        connection: u64,
        ask: Ask,
        deadline: SimTime,
        purpose: Purpose,
    ) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        self.requests.push((server, Request { connection, id, ask }));
        let generation = self.link.session().map_or(0, |session| session.generation);
        self.calls.insert(id, Call { connection, generation, deadline, purpose });
        id
    }

    /// Sends a request on a session.
    pub(super) fn call(
        &mut self,
        session: Session,
        ask: Ask,
        deadline: SimTime,
        purpose: Purpose,
    ) -> u64 {
        self.request(session.server, session.connection, ask, deadline, purpose)
    }

    /// What was asked on a connection that is gone.
    pub(super) fn failed_calls(&mut self, connection: u64, failure: &EtcdFailure, now: SimTime) {
        let on_it = self.calls.iter().filter(|(_, call)| call.connection == connection);
        for id in on_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.answered(id, Reply::Failed(failure.clone()), now);
        }
    }

    fn answered(&mut self, id: u64, reply: Reply, now: SimTime) {
        let Some(call) = self.calls.remove(&id) else { return };
        let Call { generation, purpose, connection, .. } = call;
        match purpose {
            Purpose::Attempt(server) => {
                // An attempt that was given up is of no interest.
                let now_there = self.link.connections.get(&server).map(|it| it.number);
                if now_there != Some(connection) {
                    return;
                }
                let outcome = match reply {
                    Reply::Failed(failure) => Err(failure),
                    _ => Ok(()),
                };
                self.attempted(server, outcome, now);
            }
            Purpose::Ping(server) => self.pinged(server),
            Purpose::Read(view) => self.has_read(view, reply, generation, now),
            Purpose::Watch(view) => {
                let goes_on = matches!(reply, Reply::Events(_));
                if goes_on && self.views.contains_key(&view) {
                    let deadline = SimTime::NEVER;
                    self.calls.insert(id, Call { connection, generation, deadline, purpose });
                }
                self.has_watched(view, id, reply, generation, now);
            }
            Purpose::Write(write) => self.has_asked(write, reply, generation, now),
            Purpose::Lease => self.lease_answered(reply, generation, now),
        }
    }

    /// The link stands another way.
    pub(super) fn link_changed(&mut self, now: SimTime) {
        for view in self.views.keys().copied().collect::<Vec<_>>() {
            self.follow(view, now);
        }
        for write in self.writes.keys().copied().collect::<Vec<_>>() {
            self.ask(write, now);
        }
        self.tick_lease(now);
    }

    fn unwatch(&mut self, session: Session, watch: u64) {
        self.calls.remove(&watch);
        if self.link.session().is_some_and(|now| now.connection == session.connection) {
            self.next_request += 1;
            let (connection, id) = (session.connection, self.next_request);
            let request = Request { connection, id, ask: Ask::Unwatch(watch) };
            self.requests.push((session.server, request));
        }
    }

    /// What a view's follower does next.
    fn follow(&mut self, id: ViewId, now: SimTime) {
        let session = self.link.session();
        let timeout = self.settings.timeout;
        let Some(view) = self.views.get_mut(&id) else { return };
        match view.follow {
            Follow::Sleeping { until } if now < until => return,
            Follow::Reading { .. } => return,
            Follow::Watching { session: of, watch, ticket } => {
                let is_same = session.is_some_and(|now| now.generation == of.generation);
                if is_same && view.view.ticket() == ticket {
                    return;
                }
                view.follow = Follow::Idle;
                self.unwatch(of, watch);
            }
            Follow::Idle | Follow::Sleeping { .. } => view.follow = Follow::Idle,
        }
        let Some(view) = self.views.get_mut(&id) else { return };
        match &self.link.phase {
            Phase::Connecting => {}
            Phase::Unavailable(unavailable) => {
                if view.pending.set_unavailable(Some(unavailable.clone())) {
                    self.woken.insert(id);
                }
            }
            Phase::Up(session) => {
                let session = *session;
                let ticket = view.view.ticket();
                view.follow = Follow::Reading { generation: session.generation, ticket };
                let ranges = self.layout.ranges(view.interest);
                self.call(session, Ask::Read(ranges), now + timeout, Purpose::Read(id));
            }
        }
    }

    fn has_read(&mut self, id: ViewId, reply: Reply, generation: u64, now: SimTime) {
        let Some(view) = self.views.get_mut(&id) else { return };
        let Follow::Reading { generation: of, ticket } = view.follow else { return };
        if of != generation {
            return;
        }
        let (revision, values) = match reply {
            Reply::Values { revision, values } => (revision, values),
            Reply::Failed(failure) => return self.follow_failed(id, failure, generation, now),
            other => unreachable!("{other:?} for a read"),
        };
        let version = |revision| StoreVersion { generation, revision };
        let items = values.into_iter().map(|(key, StoredValue { text, revision, .. })| {
            (key.to_vec(), Item { text: Some(text), at: version(revision) })
        });
        view.pending.put_whole(version(revision), items, ticket);
        view.follow = Follow::Idle;
        let ranges = self.layout.ranges(view.interest);
        self.woken.insert(id);
        self.doubt_lease();
        if let Some(session) = self.link.session().filter(|it| it.generation == generation) {
            let ask = Ask::Watch { ranges, start: revision + 1 };
            let watch = self.call(session, ask, SimTime::NEVER, Purpose::Watch(id));
            self.view(id).follow = Follow::Watching { session, watch, ticket };
        }
        self.tick_lease(now);
        self.follow(id, now);
    }

    fn has_watched(&mut self, id: ViewId, watch: u64, reply: Reply, generation: u64, now: SimTime) {
        let Some(view) = self.views.get_mut(&id) else { return };
        if !matches!(view.follow, Follow::Watching { watch: of, .. } if of == watch) {
            return;
        }
        match reply {
            Reply::Events(events) => {
                for event in &events {
                    let text = event.text.as_ref();
                    if let Some(keeper) = &mut self.keeper {
                        keeper.compare(&event.key, text);
                    }
                }
                let items = events.into_iter().map(|event| {
                    let at = StoreVersion { generation, revision: event.revision };
                    (event.key.to_vec(), Item { text: event.text, at })
                });
                view.pending.put(items);
                self.woken.insert(id);
                self.tick_lease(now);
            }
            Reply::Failed(failure) => self.follow_failed(id, failure, generation, now),
            other => unreachable!("{other:?} for a watch"),
        }
    }

    fn follow_failed(&mut self, id: ViewId, failure: EtcdFailure, generation: u64, now: SimTime) {
        let since = self.link.heard.instant();
        let view = self.view(id);
        view.follow = match &failure {
            EtcdFailure::Compacted | EtcdFailure::Session(_) => Follow::Idle,
            EtcdFailure::Late(_) => Follow::Sleeping { until: now + AGAIN_AFTER },
            refused => {
                let reason = format!("keys cannot be read: {refused}");
                if view.pending.set_unavailable(Some(Unavailable { since, reason })) {
                    self.woken.insert(id);
                }
                self.view(id).follow = Follow::Sleeping { until: now + AGAIN_AFTER };
                return;
            }
        };
        self.report(generation, &failure, now);
        self.follow(id, now);
    }

    /// Sends a write's request, if it may be sent now.
    fn ask(&mut self, id: WriteId, now: SimTime) {
        let Some(write) = self.writes.get_mut(&id).filter(|write| !write.is_asked) else { return };
        match &self.link.phase {
            Phase::Up(session)
                if write.last.as_ref().is_none_or(|(of, _)| session.generation > *of)
                    && now < write.within =>
            {
                let session = *session;
                let path = self.layout.path(etcd_write(&mut write.what).key());
                let key: Arc<[u8]> = path.unwrap_or_default().into_bytes().into();
                let ask = match &write.step {
                    Step::Get => Ask::Get(key),
                    Step::Swap { expected, text, .. } => {
                        Ask::Swap { key, expected: *expected, text: text.clone(), lease: 0 }
                    }
                };
                write.is_asked = true;
                let within = write.within;
                self.call(session, ask, within, Purpose::Write(id));
            }
            Phase::Unavailable(unavailable) => {
                let reason = unavailable.reason.clone();
                self.finish(id, Err(StoreError::Unavailable { reason }));
            }
            _ if now >= write.within => {
                let last = write.last.take().map(|(_, reason)| reason);
                let reason = last.unwrap_or_else(|| unanswered(self.settings.timeout));
                self.finish(id, Err(StoreError::Unavailable { reason }));
            }
            _ => {}
        }
    }

    fn has_asked(&mut self, id: WriteId, reply: Reply, generation: u64, now: SimTime) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        write.is_asked = false;
        match reply {
            Reply::Value(stored) => self.decide(id, stored, now),
            Reply::Swapped(Swapped::Done(revision)) => {
                let key = etcd_write(&mut write.what).key();
                let step = std::mem::replace(&mut write.step, Step::Get);
                let Step::Swap { text, written, .. } = step else { return };
                let at = StoreVersion { generation, revision };
                let view = write.view;
                self.view(view).view.wrote(key, text, at);
                let outcome = self.outcome(id, written);
                self.finish(id, Ok(outcome));
            }
            Reply::Swapped(Swapped::Stands(_)) if now > write.deadline => {
                let reason = "others change it all the time".to_owned();
                self.finish(id, Err(StoreError::Unavailable { reason }));
            }
            Reply::Swapped(Swapped::Stands(other)) => self.decide(id, other, now),
            Reply::Failed(failure @ (EtcdFailure::Session(_) | EtcdFailure::Late(_))) => {
                write.last = Some((generation, failure.to_string()));
                self.report(generation, &failure, now);
                self.ask(id, now);
            }
            Reply::Failed(failure) => {
                let key = etcd_write(&mut write.what).key();
                let path = self.layout.path(key).unwrap_or_default();
                self.finish(id, Err(failure.into_error(&path)));
            }
            other => unreachable!("{other:?} for a write"),
        }
    }

    /// What a write makes of what stands there.
    fn decide(&mut self, id: WriteId, stored: Option<StoredValue>, now: SimTime) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        let Some(view) = self.views.get(&write.view) else { return };
        match view.view.decide(&mut etcd_write(&mut write.what), stored.as_ref()) {
            Ok((Decision::Replace(text), written)) => {
                let expected = stored.map_or(0, |stored| stored.revision);
                write.step = Step::Swap { expected, text, written };
                write.within = now + self.settings.timeout;
                write.last = None;
                self.ask(id, now);
            }
            Ok((Decision::Leave, written)) => {
                let outcome = self.outcome(id, written);
                self.finish(id, Ok(outcome));
            }
            Err(error) => self.finish(id, Err(error)),
        }
    }

    fn outcome(&self, id: WriteId, Written { claim, corrupt }: Written) -> WriteOutcome {
        match (&self.writes[&id].what, claim) {
            (_, Some(claim)) => WriteOutcome::Claimed(claim),
            (StoreWrite::UpdateFlags(..) | StoreWrite::UpdateDrains(_), None) => {
                WriteOutcome::Updated(corrupt.map(|corrupt| fault(&self.layout, corrupt)))
            }
            _ => WriteOutcome::Done,
        }
    }

    fn finish(&mut self, id: WriteId, result: WriteResult) {
        self.writes.remove(&id);
        self.outcomes.push((id, result));
    }
}

fn etcd_write(what: &mut StoreWrite) -> EtcdWrite<'_> {
    match what {
        StoreWrite::PutNode(record) => EtcdWrite::PutNode(record),
        StoreWrite::Claim { set, expected_term, node, incarnation } => EtcdWrite::Claim {
            set: *set,
            expected_term: *expected_term,
            claimant: (*node, *incarnation),
        },
        StoreWrite::UpdateFlags(_, change) => EtcdWrite::UpdateFlags(change),
        StoreWrite::UpdateDrains(change) => EtcdWrite::UpdateDrains(change),
        StoreWrite::Repair(key) => EtcdWrite::Repair(*key),
        StoreWrite::PutOwned(..) => unreachable!("it is the host's"),
    }
}

fn fault(layout: &Layout, Corrupt { key, reason, .. }: Corrupt) -> Fault {
    let path = layout.path(key).unwrap_or_default().into();
    Fault { key, path, set_aside: None, reason }
}

pub(super) fn unanswered(patience: Duration) -> String {
    format!("no answer within {patience:?}")
}
