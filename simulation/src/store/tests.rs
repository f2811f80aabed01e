//! Sequences of what happens to etcd and to those who use it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cvip::store::{Holding, Interest, Key, NodeRecord, StoreError, TermClaim};

use super::*;
use crate::random::Random;
use crate::time::SimTime;

enum Message {
    ToServer(usize, ClientId, Request),
    ToClient(ClientId, Answer),
}

/// Three servers, and clients that are a millisecond away.
struct World {
    cluster: StoreCluster,
    clients: Vec<StoreClient>,
    wire: VecDeque<(SimTime, Message)>,
    now: SimTime,
    /// Answers that are lost: they break the connection.
    loses: fn(&Reply) -> bool,
}

const SETTINGS: fn() -> StoreSettings = || StoreSettings {
    prefix: "/cvip/".to_owned(),
    lease_ttl: Duration::from_secs(10),
    timeout: Duration::from_secs(2),
};

impl World {
    fn new(clients: u32) -> World {
        let mut random = Random::new(7);
        let now = SimTime(0);
        let cluster = StoreCluster::new(3, random.fork());
        let client = |n| StoreClient::new(n, 3, SETTINGS(), HostFiles::new(), now, random.fork());
        let clients = (1..=clients).map(client).collect();
        World { cluster, clients, wire: VecDeque::new(), now, loses: |_| false }
    }

    fn answers(&mut self, answers: Vec<(ClientId, Answer)>) {
        let at = self.now + Duration::from_millis(1);
        let messages = answers.into_iter().map(|(to, answer)| (at, Message::ToClient(to, answer)));
        self.wire.extend(messages);
    }

    fn send(&mut self) {
        let at = self.now + Duration::from_millis(1);
        for (index, client) in self.clients.iter_mut().enumerate() {
            for (server, request) in client.take_requests() {
                let from = ClientId(index as u64);
                self.wire.push_back((at, Message::ToServer(server, from, request)));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.send();
            let due = self.clients.iter().map(StoreClient::due).chain([self.cluster.due()]);
            let wire = self.wire.front().map_or(SimTime::NEVER, |(at, _)| *at);
            let next = due.min().unwrap().min(wire).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            while self.wire.front().is_some_and(|(at, _)| *at <= next) {
                match self.wire.pop_front().unwrap().1 {
                    Message::ToServer(server, from, request) => {
                        let answers = self.cluster.handle(server, from, request, next);
                        self.answers(answers);
                    }
                    Message::ToClient(to, answer) => {
                        let client = &mut self.clients[usize::try_from(to.0).unwrap()];
                        match (self.loses)(&answer.reply) {
                            true => client.lost(answer.server, next),
                            false => client.receive(answer, next),
                        }
                    }
                }
            }
            let answers = self.cluster.tick(next);
            self.answers(answers);
            for client in &mut self.clients {
                client.tick(next);
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    fn open(&mut self, client: usize) -> ViewId {
        let view = self.clients[client].open_view(Interest::All, self.now);
        self.seconds(1);
        self.refresh(client, view).unwrap();
        view
    }

    fn refresh(&mut self, client: usize, view: ViewId) -> Result<Vec<Key>, StoreError> {
        loop {
            match self.clients[client].refresh(view, self.now) {
                Poll::Done(refreshed) => {
                    return refreshed.map(|it| it.changed.into_iter().collect());
                }
                Poll::Wait(_) => self.run(Duration::from_millis(100)),
            }
        }
    }

    fn write(&mut self, client: usize, view: ViewId, what: StoreWrite) -> WriteResult {
        let id = self.clients[client].begin(view, what, self.now);
        for _ in 0..200 {
            if let Some((of, result)) = self.clients[client].take_outcomes().pop() {
                assert_eq!(of, id);
                return result;
            }
            self.run(Duration::from_millis(100));
        }
        panic!("a write has no end");
    }

    fn put(&mut self, client: usize, view: ViewId, sequence: u64) -> WriteResult {
        let node = self.clients[client].node;
        self.write(client, view, record(node, sequence))
    }
}

fn record(node: u32, sequence: u64) -> StoreWrite {
    StoreWrite::PutNode(Arc::new(NodeRecord::empty(node, 1, sequence)))
}

fn claim(node: u32, expected_term: Option<u64>) -> StoreWrite {
    StoreWrite::Claim { set: 1, expected_term, node, incarnation: 1 }
}

#[test]
fn a_write_is_seen_by_the_watch_of_another_client_and_wakes_it() {
    let mut world = World::new(2);
    let (writer, reader) = (world.open(0), world.open(1));
    assert!(world.clients[1].woken().next().is_none());
    world.put(0, writer, 1).unwrap();
    assert_eq!(world.clients[1].woken().collect::<Vec<_>>(), [reader]);
    assert_eq!(world.refresh(1, reader).unwrap(), [Key::Node(1)]);
    assert_eq!(world.clients[1].state(reader).nodes[&1].sequence, 1);
    assert_eq!(world.refresh(0, writer).unwrap(), [Key::Node(1)]);
}

#[test]
fn a_write_whose_answer_was_lost_counts_as_done_when_it_is_repeated() {
    let mut world = World::new(1);
    let view = world.open(0);
    world.loses = |reply| matches!(reply, Reply::Swapped(_));
    world.clients[0].begin(view, claim(1, None), world.now);
    world.run(Duration::from_millis(50));
    world.loses = |_| false;
    let revision = world.cluster.revision();
    world.seconds(3);
    let (_, result) = world.clients[0].take_outcomes().pop().unwrap();
    assert!(matches!(result, Ok(WriteOutcome::Claimed(TermClaim::Won(_)))), "{result:?}");
    assert_eq!(world.cluster.revision(), revision);
}

#[test]
fn a_watch_that_lost_its_place_reads_everything_anew() {
    let mut world = World::new(4);
    let reader = world.open(0);
    let session = |world: &World, client: usize| world.clients[client].link.session().unwrap();
    world.seconds(1);
    let of_reader = session(&world, 0);
    let elsewhere = |client: &usize| session(&world, *client).server != of_reader.server;
    let writer = (1..4).find(elsewhere).expect("a client of another server");
    let view = world.open(writer);
    world.cluster.pause(of_reader.server, world.now);
    let done = (1..4).any(|sequence| world.put(writer, view, sequence).is_ok());
    assert!(done, "the others have elected a leader");
    world.cluster.compact();
    let answers = world.cluster.resume(of_reader.server, world.now);
    world.answers(answers);
    world.seconds(1);
    let node = world.clients[writer].node;
    assert_eq!(world.refresh(0, reader).unwrap(), [Key::Node(node)]);
    assert_eq!(session(&world, 0).generation, of_reader.generation);
}

#[test]
fn a_restored_and_an_emptied_store_are_read_as_they_are_and_terms_do_not_go_back() {
    let mut world = World::new(2);
    let (writer, reader) = (world.open(0), world.open(1));
    let old = world.cluster.snapshot();
    world.put(0, writer, 1).unwrap();
    world.write(0, writer, claim(1, None)).unwrap();
    world.refresh(0, writer).unwrap();
    world.seconds(1);
    assert_eq!(world.refresh(1, reader).unwrap(), [Key::Node(1), Key::Director(1)]);
    for server_and_client in world.cluster.restore(old, world.now) {
        let (server, client) = server_and_client;
        let now = world.now;
        world.clients[usize::try_from(client.0).unwrap()].lost(server, now);
    }
    world.seconds(15);
    assert_eq!(world.refresh(1, reader).unwrap(), [Key::Node(1), Key::Director(1)]);
    assert!(world.clients[1].state(reader).nodes.is_empty());
    let won = world.write(1, reader, claim(2, None)).unwrap();
    assert!(matches!(won, WriteOutcome::Claimed(TermClaim::Won(elected)) if elected.term == 2));
}

#[test]
fn a_lease_ends_when_its_holder_is_gone_and_is_taken_again_by_the_next_start() {
    let mut world = World::new(2);
    let view = world.open(1);
    world.open(0);
    world.clients[0].hold_lease(5, world.now);
    world.seconds(1);
    assert_eq!(world.clients[0].holding(), Holding::Held);
    world.refresh(1, view).unwrap();
    assert_eq!(world.clients[1].state(view).alive[&1], 5);
    world.seconds(60);
    assert_eq!(world.clients[0].holding(), Holding::Held);
    // It crashes, and is started again at once: its own dead lease is not in its way.
    let random = Random::new(9);
    let next = StoreClient::new(1, 3, SETTINGS(), HostFiles::new(), world.now, random);
    let files = std::mem::replace(&mut world.clients[0], next).into_files();
    world.cluster.forget(ClientId(0));
    *world.clients[0].files_mut() = files;
    world.wire.clear();
    world.clients[0].hold_lease(6, world.now);
    world.seconds(2);
    assert_eq!(world.clients[0].holding(), Holding::Held);
    world.refresh(1, view).unwrap();
    assert_eq!(world.clients[1].state(view).alive[&1], 6);
    // It crashes for good.
    world.clients[0].keeper = None;
    world.seconds(12);
    world.refresh(1, view).unwrap();
    assert!(world.clients[1].state(view).alive.is_empty());
}

#[test]
fn without_a_quorum_a_write_ends_in_time_and_the_views_stay_as_they_are() {
    let mut world = World::new(1);
    let view = world.open(0);
    world.put(0, view, 1).unwrap();
    world.refresh(0, view).unwrap();
    world.cluster.pause(0, world.now);
    world.cluster.pause(1, world.now);
    let begun = world.now;
    let refused = world.put(0, view, 2).unwrap_err();
    assert!(refused.is_unavailable());
    assert!(world.now.since(begun) <= Duration::from_millis(2200), "{}", world.now);
    world.seconds(30);
    world.refresh(0, view).unwrap();
    assert!(world.clients[0].unavailable_since(view).is_some());
    assert_eq!(world.clients[0].state(view).nodes[&1].sequence, 1);
    for server in 0..2 {
        let answers = world.cluster.resume(server, world.now);
        world.answers(answers);
    }
    world.seconds(15);
    world.refresh(0, view).unwrap();
    assert_eq!(world.clients[0].unavailable_since(view), None);
    world.put(0, view, 3).unwrap();
}

#[test]
fn a_full_store_refuses_writes_and_is_read_all_the_same() {
    let mut world = World::new(1);
    let view = world.open(0);
    world.put(0, view, 1).unwrap();
    world.cluster.set_full(true);
    let refused = world.put(0, view, 2).unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    assert_eq!(world.refresh(0, view).unwrap(), [Key::Node(1)]);
    world.cluster.set_full(false);
    world.put(0, view, 2).unwrap();
}
