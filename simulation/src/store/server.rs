//! etcd: servers that agree on one linearisable store of keys with revisions, leases and watches.
//!
//! A server that is up and reaches a leader with a quorum serves. One that does not holds requests
//! back until it does, or until it knows that there is no leader: it then refuses them, and ends
//! its watches. A server that is paused holds everything back for as long as it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use cvip::cores::{EtcdFailure, StoredText, StoredValue, Swapped};
use cvip::store::layout::KeyRange;

use super::messages::{Answer, Ask, ClientId, Reply, Request, WatchedEvent};
use crate::random::Random;
use crate::time::SimTime;

/// How long the servers are without a leader before they elect another: etcd's election timeout
/// is 1 s, and each server waits for one to two of them.
const ELECTION: (u64, u64) = (300_000, 2_000_000);

/// After so long without a leader a server says so.
const NO_LEADER_AFTER: Duration = Duration::from_secs(3);

/// So many changes are kept at most, and half as many after an automatic compaction.
const MOST_HISTORY: usize = 4096;

/// So many requests of a server that does not serve are held back at most.
const MOST_HELD: usize = 1024;

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It runs.
    Up,
    /// It is frozen: it answers nothing, and goes on where it was.
    Paused,
    /// Its process has ended: connections to it are refused.
    Stopped,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    end: SimTime,
    keys: BTreeSet<Arc<[u8]>>,
}

/// Everything that the servers agree on.
#[derive(Clone, Debug)]
struct Data {
    revision: i64,
    keys: BTreeMap<Arc<[u8]>, StoredValue>,
    leases: BTreeMap<i64, Lease>,
    /// Changes of later revisions than `compacted`, in order.
    history: VecDeque<WatchedEvent>,
    compacted: i64,
}

impl Data {
    fn new() -> Data {
        Data {
            revision: 1,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: 0,
        }
    }

    fn put(&mut self, key: &Arc<[u8]>, text: Option<Arc<StoredText>>, lease: i64) {
        self.revision += 1;
        let revision = self.revision;
        let before = match &text {
            Some(text) => {
                let stored = StoredValue { text: Arc::clone(text), revision, lease };
                self.keys.insert(Arc::clone(key), stored)
            }
            None => self.keys.remove(key),
        };
        if let Some(of) = before.and_then(|before| self.leases.get_mut(&before.lease)) {
            of.keys.remove(key);
        }
        if let (Some(_), Some(of)) = (&text, self.leases.get_mut(&lease)) {
            of.keys.insert(Arc::clone(key));
        }
        self.history.push_back(WatchedEvent { key: Arc::clone(key), revision, text });
        if self.history.len() > MOST_HISTORY {
            let keep_from = self.history[MOST_HISTORY / 2].revision;
            self.compact(keep_from - 1);
        }
    }

    fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
        while self.history.front().is_some_and(|event| event.revision <= self.compacted) {
            self.history.pop_front();
        }
    }

    fn revoke(&mut self, lease: i64) {
        let Some(Lease { keys, .. }) = self.leases.remove(&lease) else { return };
        for key in keys {
            self.put(&key, None, 0);
        }
    }

    fn extend_leases(&mut self, now: SimTime) {
        for lease in self.leases.values_mut() {
            lease.end = now + lease.ttl;
        }
    }
}

/// A state of the store that it can be restored to.
#[derive(Clone, Debug)]
pub struct Snapshot(Data);

#[derive(Debug)]
struct Watch {
    ranges: Vec<KeyRange>,
    /// The first revision that was not sent yet.
    next: i64,
}

impl Watch {
    /// What changed in the ranges since it was sent something.
    fn events(&self, history: &VecDeque<WatchedEvent>) -> Vec<WatchedEvent> {
        let first = history.partition_point(|event| event.revision < self.next);
        let is_meant = |event: &&WatchedEvent| {
            let key = &*event.key;
            self.ranges.iter().any(|(start, end)| start.as_slice() <= key && key < end.as_slice())
        };
        history.range(first..).filter(is_meant).cloned().collect()
    }
}

/// One client's connection to a server.
#[derive(Debug)]
struct Connection {
    number: u64,
    /// Messages that were sent on it.
    sent: u64,
    /// By the request that opened it.
    watches: BTreeMap<u64, Watch>,
}

#[derive(Debug)]
struct Server {
    index: usize,
    state: ServerState,
    connections: BTreeMap<ClientId, Connection>,
    held: VecDeque<(ClientId, Request)>,
    /// Since when it knows no leader.
    alone_since: Option<SimTime>,
}

impl Server {
    fn answer(&mut self, client: ClientId, id: u64, reply: Reply) -> Option<(ClientId, Answer)> {
        let connection = self.connections.get_mut(&client)?;
        let number = connection.sent;
        connection.sent += 1;
        let (server, connection) = (self.index, connection.number);
        Some((client, Answer { server, connection, number, id, reply }))
    }
}

/// etcd's servers.
#[derive(Debug)]
pub struct StoreCluster {
    servers: Vec<Server>,
    /// Pairs of servers that do not reach each other, the lower one first.
    cuts: BTreeSet<(usize, usize)>,
    leader: Option<usize>,
    /// When another leader is elected.
    election: Option<SimTime>,
    data: Data,
    /// No lease's number is given twice, whatever the store is restored to.
    last_lease: i64,
    is_full: bool,
    random: Random,
}

impl StoreCluster {
    /// Servers that are up, with an empty store.
    pub fn new(servers: usize, random: Random) -> StoreCluster {
        let server = |index| Server {
            index,
            state: ServerState::Up,
            connections: BTreeMap::new(),
            held: VecDeque::new(),
            alone_since: None,
        };
        StoreCluster {
            servers: (0..servers).map(server).collect(),
            cuts: BTreeSet::new(),
            leader: Some(0),
            election: None,
            data: Data::new(),
            last_lease: 0,
            is_full: false,
            random,
        }
    }

    /// A server takes a request; what is answered, perhaps to others.
    pub fn handle(
        &mut self,
        server: usize,
        from: ClientId,
        request: Request,
        now: SimTime,
    ) -> Vec<(ClientId, Answer)> {
        let mut answers = self.tick(now);
        let to = &mut self.servers[server];
        match to.state {
            ServerState::Up => self.serve(server, from, request, now, &mut answers),
            ServerState::Paused => hold(to, from, request),
            ServerState::Stopped => answers.extend(reset(server, from, &request)),
        }
        answers
    }

    /// What time brings: another leader, ends of leases, requests that were held back.
    pub fn tick(&mut self, now: SimTime) -> Vec<(ClientId, Answer)> {
        let mut answers = Vec::new();
        self.lead(now);
        if self.leader.is_some() {
            let ended = self.data.leases.iter().filter(|(_, lease)| lease.end <= now);
            for lease in ended.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.data.revoke(lease);
            }
        }
        for server in 0..self.servers.len() {
            if self.servers[server].state != ServerState::Up {
                continue;
            }
            if !self.serves(server) && !self.knows_no_leader(server, now) {
                continue;
            }
            for (from, request) in std::mem::take(&mut self.servers[server].held) {
                self.serve(server, from, request, now, &mut answers);
            }
            match self.serves(server) {
                true => self.send_events(server, &mut answers),
                false => self.end_watches(server, &mut answers),
            }
        }
        answers
    }

    /// When [`StoreCluster::tick`] has something to do next.
    pub fn due(&self) -> SimTime {
        let leases = self.data.leases.values().map(|lease| lease.end);
        let leases = leases.filter(|_| self.leader.is_some());
        let alone = self.servers.iter().filter(|server| {
            server.state == ServerState::Up
                && (!server.held.is_empty()
                    || server.connections.values().any(|c| !c.watches.is_empty()))
        });
        let alone = alone.filter_map(|server| Some(server.alone_since? + NO_LEADER_AFTER));
        leases.chain(alone).chain(self.election).min().unwrap_or(SimTime::NEVER)
    }

    /// What a server does.
    pub fn state(&self, server: usize) -> ServerState {
        self.servers[server].state
    }

    /// The leader, while there is one.
    pub fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// The store's revision.
    pub fn revision(&self) -> i64 {
        self.data.revision
    }

    /// What stands under a key, for those who check.
    pub fn value(&self, key: &[u8]) -> Option<&StoredValue> {
        self.data.keys.get(key)
    }

    /// Every key and its value, for those who check.
    pub fn values(&self) -> impl Iterator<Item = (&[u8], &StoredValue)> {
        self.data.keys.iter().map(|(key, stored)| (&**key, stored))
    }

    /// Freezes a server.
    pub fn pause(&mut self, server: usize, now: SimTime) {
        if self.servers[server].state == ServerState::Up {
            self.servers[server].state = ServerState::Paused;
            self.lead(now);
        }
    }

    /// Lets a frozen server go on.
    pub fn resume(&mut self, server: usize, now: SimTime) -> Vec<(ClientId, Answer)> {
        if self.servers[server].state == ServerState::Paused {
            self.servers[server].state = ServerState::Up;
        }
        self.tick(now)
    }

    /// Ends a server's process; those whose connections are reset.
    pub fn stop(&mut self, server: usize, now: SimTime) -> Vec<ClientId> {
        let stopped = &mut self.servers[server];
        stopped.state = ServerState::Stopped;
        stopped.held.clear();
        stopped.alone_since = None;
        let reset = std::mem::take(&mut stopped.connections).into_keys().collect();
        self.lead(now);
        reset
    }

    /// Starts a server that was stopped.
    pub fn start(&mut self, server: usize, now: SimTime) -> Vec<(ClientId, Answer)> {
        if self.servers[server].state == ServerState::Stopped {
            self.servers[server].state = ServerState::Up;
        }
        self.tick(now)
    }

    /// Two servers no longer reach each other, or do again.
    pub fn cut(&mut self, one: usize, other: usize, is_cut: bool, now: SimTime) {
        let pair = (one.min(other), one.max(other));
        match is_cut {
            true => self.cuts.insert(pair),
            false => self.cuts.remove(&pair),
        };
        self.lead(now);
    }

    /// The leader steps down; there is none until an election.
    pub fn new_leader(&mut self, now: SimTime) {
        self.leader = None;
        self.lead(now);
    }

    /// The store has no space: writes are refused.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Forgets the history up to the newest revision.
    pub fn compact(&mut self) {
        self.data.compact(self.data.revision);
    }

    /// A state to restore the store to.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.data.clone())
    }

    /// Restores a state: all servers are started anew from it. Those whose connections are reset,
    /// with the server.
    pub fn restore(&mut self, Snapshot(data): Snapshot, now: SimTime) -> Vec<(usize, ClientId)> {
        self.data = data;
        self.data.extend_leases(now);
        // The history is not in a snapshot.
        self.data.compact(self.data.revision);
        self.leader = None;
        self.election = None;
        let mut reset = Vec::new();
        for (index, server) in self.servers.iter_mut().enumerate() {
            server.held.clear();
            let connections = std::mem::take(&mut server.connections);
            reset.extend(connections.into_keys().map(|client| (index, client)));
        }
        self.lead(now);
        reset
    }

    /// Everything is lost: the servers are started anew with an empty store.
    pub fn empty(&mut self, now: SimTime) -> Vec<(usize, ClientId)> {
        self.restore(Snapshot(Data::new()), now)
    }

    /// A client's process has ended: its connections are closed.
    pub fn forget(&mut self, client: ClientId) {
        for server in &mut self.servers {
            server.connections.remove(&client);
        }
    }

    /// The servers that a server reaches, itself among them.
    fn reaches(&self, from: usize) -> impl Iterator<Item = usize> {
        (0..self.servers.len()).filter(move |to| {
            self.servers[*to].state == ServerState::Up
                && !self.cuts.contains(&(from.min(*to), from.max(*to)))
        })
    }

    fn has_quorum(&self, server: usize) -> bool {
        self.servers[server].state == ServerState::Up
            && self.reaches(server).count() > self.servers.len() / 2
    }

    fn serves(&self, server: usize) -> bool {
        self.leader.is_some_and(|leader| self.reaches(leader).any(|reached| reached == server))
    }

    fn knows_no_leader(&self, server: usize, now: SimTime) -> bool {
        self.servers[server].alone_since.is_some_and(|since| now >= since + NO_LEADER_AFTER)
    }

    /// Keeps the leader while it has a quorum, and elects one when it is time.
    fn lead(&mut self, now: SimTime) {
        self.leader = self.leader.filter(|leader| self.has_quorum(*leader));
        if self.leader.is_none() {
            let electable = (0..self.servers.len()).filter(|server| self.has_quorum(*server));
            let electable: Vec<usize> = electable.collect();
            match self.election {
                _ if electable.is_empty() => self.election = None,
                None => {
                    let wait = self.random.within(ELECTION.0..=ELECTION.1);
                    self.election = Some(now + Duration::from_micros(wait));
                }
                Some(at) if now >= at => {
                    self.leader = self.random.choose(&electable).copied();
                    self.election = None;
                    // A new leader does not know when leases were renewed.
                    self.data.extend_leases(now);
                }
                Some(_) => {}
            }
        } else {
            self.election = None;
        }
        for server in 0..self.servers.len() {
            let alone = self.servers[server].state != ServerState::Stopped && !self.serves(server);
            let since = &mut self.servers[server].alone_since;
            *since = alone.then(|| since.unwrap_or(now));
        }
    }

    fn serve(
        &mut self,
        server: usize,
        from: ClientId,
        request: Request,
        now: SimTime,
        answers: &mut Vec<(ClientId, Answer)>,
    ) {
        let serves = self.serves(server);
        let knows_no_leader = self.knows_no_leader(server, now);
        let to = &mut self.servers[server];
        let connection = to.connections.get(&from).map(|connection| connection.number);
        if let Ask::Connect = request.ask
            && connection.is_none_or(|number| number < request.connection)
        {
            let number = request.connection;
            let new = Connection { number, sent: 0, watches: BTreeMap::new() };
            to.connections.insert(from, new);
        } else if connection != Some(request.connection) {
            answers.extend(reset(server, from, &request));
            return;
        }
        let id = request.id;
        let reply = match &request.ask {
            Ask::Ping => Reply::Ready,
            Ask::Close => {
                to.connections.remove(&from);
                return;
            }
            Ask::Unwatch(watch) => {
                if let Some(connection) = to.connections.get_mut(&from) {
                    connection.watches.remove(watch);
                }
                return;
            }
            _ if serves => {
                let before = self.data.revision;
                match self.carry_out(server, from, request, now) {
                    Some(reply) => {
                        answers.extend(self.servers[server].answer(from, id, reply));
                        if self.data.revision != before {
                            for server in 0..self.servers.len() {
                                self.send_events(server, answers);
                            }
                        }
                    }
                    None => self.send_events(server, answers),
                }
                return;
            }
            _ if knows_no_leader => no_leader(),
            _ => return hold(to, from, request),
        };
        answers.extend(to.answer(from, id, reply));
    }

    /// Carries out what needs a quorum. A watch is answered by its events.
    fn carry_out(
        &mut self,
        server: usize,
        from: ClientId,
        request: Request,
        now: SimTime,
    ) -> Option<Reply> {
        let data = &mut self.data;
        Some(match request.ask {
            Ask::Read(ranges) => {
                let mut values = Vec::new();
                for range in &ranges {
                    let found = data
                        .keys
                        .range::<[u8], _>((Bound::Included(&*range.0), Bound::Excluded(&*range.1)));
                    values.extend(found.map(|(key, stored)| (Arc::clone(key), stored.clone())));
                }
                Reply::Values { revision: data.revision, values }
            }
            Ask::Get(key) => Reply::Value(data.keys.get(&key).cloned()),
            Ask::Swap { key, expected, text, lease } => {
                let stored = data.keys.get(&key);
                if stored.map_or(0, |stored| stored.revision) != expected {
                    let wanted = text.as_ref().map(|text| text.bytes());
                    let found = Swapped::found(stored.cloned(), wanted, lease, data.revision);
                    Reply::Swapped(found)
                } else if self.is_full && text.is_some() {
                    no_space()
                } else if lease != 0 && !data.leases.contains_key(&lease) {
                    Reply::Failed(EtcdFailure::NoLease)
                } else {
                    data.put(&key, text, lease);
                    Reply::Swapped(Swapped::Done(data.revision))
                }
            }
            Ask::Grant(_) if self.is_full => no_space(),
            Ask::Grant(ttl) => {
                self.last_lease += 1;
                let lease = Lease { ttl, end: now + ttl, keys: BTreeSet::new() };
                data.leases.insert(self.last_lease, lease);
                Reply::Granted(self.last_lease)
            }
            Ask::Renew(lease) => {
                let lease = data.leases.get_mut(&lease);
                Reply::Renewed(lease.map(|lease| lease.end = now + lease.ttl).is_some())
            }
            Ask::Revoke(lease) => {
                data.revoke(lease);
                Reply::Revoked
            }
            Ask::Watch { ranges, start } => {
                let connection = self.servers[server].connections.get_mut(&from)?;
                connection.watches.insert(request.id, Watch { ranges, next: start });
                return None;
            }
            Ask::Connect | Ask::Ping | Ask::Close | Ask::Unwatch(_) => Reply::Ready,
        })
    }

    /// Sends a server's watchers what changed since they were sent something.
    fn send_events(&mut self, server: usize, answers: &mut Vec<(ClientId, Answer)>) {
        if !self.serves(server) {
            return;
        }
        let data = &self.data;
        for (client, connection) in &mut self.servers[server].connections {
            let Connection { number: connection, sent, watches } = connection;
            watches.retain(|id, watch| {
                if watch.next > data.revision {
                    return true;
                }
                let is_compacted = watch.next <= data.compacted;
                let reply = match is_compacted {
                    true => Reply::Failed(EtcdFailure::Compacted),
                    false => Reply::Events(watch.events(&data.history)),
                };
                watch.next = data.revision + 1;
                if !matches!(&reply, Reply::Events(events) if events.is_empty()) {
                    let (connection, number, id) = (*connection, *sent, *id);
                    answers.push((*client, Answer { server, connection, number, id, reply }));
                    *sent += 1;
                }
                !is_compacted
            });
        }
    }

    fn end_watches(&mut self, server: usize, answers: &mut Vec<(ClientId, Answer)>) {
        let server = &mut self.servers[server];
        let mut ended = Vec::new();
        for (client, connection) in &mut server.connections {
            let watches = std::mem::take(&mut connection.watches);
            ended.extend(watches.into_keys().map(|id| (*client, id)));
        }
        for (client, id) in ended {
            answers.extend(server.answer(client, id, no_leader()));
        }
    }
}

fn hold(server: &mut Server, from: ClientId, request: Request) {
    if server.held.len() < MOST_HELD {
        server.held.push_back((from, request));
    }
}

/// What the host of a server answers where there is no such connection.
fn reset(server: usize, from: ClientId, request: &Request) -> Option<(ClientId, Answer)> {
    let Request { connection, id, ask } = request;
    let (connection, id) = (*connection, *id);
    let answer = Answer { server, connection, number: 0, id, reply: Reply::Reset };
    (!matches!(ask, Ask::Close | Ask::Unwatch(_))).then_some((from, answer))
}

fn no_leader() -> Reply {
    Reply::Failed(EtcdFailure::Session("etcdserver: no leader".to_owned()))
}

fn no_space() -> Reply {
    Reply::Failed(EtcdFailure::Refused("etcd's database is full (alarm NOSPACE)".to_owned()))
}
