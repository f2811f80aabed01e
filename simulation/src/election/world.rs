//! A world of directors, their store and their heartbeats, and what an event does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cvip::conf::{Conf, Cvip, DirectorNode, RealServer, Routing};
use cvip::cores::{ClaimRequest, StoreView};
use cvip::counter;
use cvip::store::{Elected, TermClaim};

use super::director::{Director, LATE, hash_view};
use super::event::{Event, Fault};
use cvip::clock::Instant;

/// How long a lease lasts: longer than what is waited for beside it, and shorter than etcd's, so
/// that there are fewer states.
const LEASE: Duration = Duration::from_secs(3);

/// What a claim, its answer, and what follows from that lead to, in one step at most.
const ROUNDS: u32 = 8;

/// So many elections come of no few faults.
const MOST_TERMS: u64 = 40;

/// The time at which every world begins.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What may happen in a world.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it is called.
    pub name: &'static str,
    /// The directors, in cvip.conf's order.
    pub order: &'static [u32],
    /// Those of the new cvip.conf, if there comes one.
    pub new_order: &'static [u32],
    /// A step of time.
    pub step: Duration,
    /// How many faults and orders there are at most, one after the other or together.
    pub faults: u8,
    /// Which kinds of them, by name; all if there are none.
    pub kinds: &'static [&'static str],
}

impl Setting {
    fn has(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// The cvip.conf with these directors, each of which is a real server too.
    fn conf(order: &[u32]) -> Conf {
        let addr = |node: u8| IpAddr::from([10, 0, 0, node]);
        let director = |node: &u32| DirectorNode {
            node: *node,
            garp_interface: "eth0".to_owned(),
            sync_interface: None,
        };
        let server = |node: u8| RealServer { node: node.into(), addr: addr(node), weight: 1 };
        let cvip = Cvip {
            addr: addr(100),
            gateway: None,
            directors: order.iter().map(director).collect(),
            real_servers: (1..=3).map(server).collect(),
            services: Vec::new(),
        };
        Conf { routing: Routing::Dr, cvips: vec![cvip] }
    }
}

/// What all states of a world have in common.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) setting: Setting,
    conf: Conf,
    new_conf: Conf,
    /// The orders in which directors decide in one step.
    orders: Vec<Vec<usize>>,
    /// What may happen that is counted.
    events: Vec<Event>,
}

impl Frame {
    pub(super) fn new(setting: Setting) -> Frame {
        let (conf, new_conf) = (Setting::conf(setting.order), Setting::conf(setting.new_order));
        let orders = orders(&(0..setting.order.len()).collect::<Vec<_>>());
        let events = counted_events(&setting);
        Frame { setting, conf, new_conf, orders, events }
    }

    /// The cvip.conf by which a director decides: one that the new file does not name any more
    /// hands over by the old one.
    fn conf_of(&self, director: &Director) -> &Conf {
        let is_new = director.has_new_conf && self.new_conf.is_director(director.node);
        if is_new { &self.new_conf } else { &self.conf }
    }
}

/// Every order of these, as they stand first.
fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let begun_with = |first: usize| {
        let rest: Vec<usize> = of.iter().copied().filter(|other| *other != first).collect();
        orders(&rest).into_iter().map(move |rest| [&[first][..], &rest].concat())
    };
    of.iter().copied().flat_map(begun_with).collect()
}

/// The faults and orders that are counted.
fn counted_events(setting: &Setting) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |kind: &str, event: Event| {
        if setting.has(kind) {
            events.push(event);
        }
    };
    let directors = setting.order.len() as u8;
    for at in 0..directors {
        add("restart", Event::Restarts(at));
        add("reboot", Event::Reboots(at));
        add("death", Event::Dies(at));
        add("stop", Event::Stops(at));
        add("anew", Event::IsMadeAnew(at));
        add("takeover", Event::IsAsked(at));
        add("unavailable", Event::Begins(Fault::StoreUnavailable(at)));
        add("slow", Event::Begins(Fault::StoreSlow(at)));
        add("unanswered", Event::Begins(Fault::AnswersLost(at)));
        add("cut-off", Event::Begins(Fault::CutOff(at)));
        add("conflict", Event::Begins(Fault::Conflict(at)));
        add("carrier", Event::Begins(Fault::CannotCarry(at)));
        for other in (0..directors).filter(|other| *other != at) {
            add("lost", Event::Begins(Fault::LinkLost(at, other)));
            add("late", Event::Begins(Fault::LinkLate(at, other)));
        }
    }
    add("down", Event::Begins(Fault::StoreDown));
    add("emptied", Event::StoreEmptied);
    add("put-back", Event::StorePutBack);
    add("nobody-answers", Event::Begins(Fault::NobodyAnswers));
    if !setting.new_order.is_empty() {
        add("reload", Event::NewConf);
    }
    events
}

/// What an event led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// In another order of the directors, something else may follow.
    pub(super) depends_on_order: bool,
}

/// One state of a world.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) directors: Vec<Director>,
    /// What stands in the store.
    pub(super) store: Arc<StoreView>,
    /// When each node's lease was renewed last.
    renewed: BTreeMap<u32, Instant>,
    /// Who was elected before the last election.
    backup: BTreeMap<u32, Elected>,
    pub(super) faults: BTreeSet<Fault>,
    /// By how many steps heartbeats are late where they are.
    late: BTreeMap<(u8, u8), u8>,
    /// Claims that the store has not carried out yet, and by whom they were made.
    delayed: Vec<(u8, ClaimRequest)>,
    pub(super) is_new_conf_there: bool,
    /// The store has lost terms: two directors may be elected in one.
    pub(super) has_lost_terms: bool,
}

impl World {
    /// All directors are started for the first time.
    pub(super) fn new(frame: &Frame) -> World {
        let now = *BEGINNING;
        let start = |node: &u32| {
            let mut director = Director::new(*node);
            director.start(&frame.conf, now);
            director
        };
        World {
            now,
            directors: frame.setting.order.iter().map(start).collect(),
            store: Arc::new(StoreView { known: true, ..StoreView::default() }),
            renewed: BTreeMap::new(),
            backup: BTreeMap::new(),
            faults: BTreeSet::new(),
            late: BTreeMap::new(),
            delayed: Vec::new(),
            is_new_conf_there: false,
            has_lost_terms: false,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// A director does not reach the store, and knows it.
    pub(super) fn lacks_store(&self, at: usize) -> bool {
        let at = at as u8;
        self.has(Fault::StoreDown)
            || self.has(Fault::StoreUnavailable(at))
            || self.has(Fault::CutOff(at))
    }

    /// Heartbeats from one reach another, if late.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        let (from, to) = (from as u8, to as u8);
        !self.has(Fault::LinkLost(from, to))
            && !self.has(Fault::CutOff(from))
            && !self.has(Fault::CutOff(to))
    }

    /// Heartbeats from one reach another as soon as they are sent.
    pub(super) fn hears(&self, from: usize, to: usize) -> bool {
        self.reaches(from, to) && !self.has(Fault::LinkLate(from as u8, to as u8))
    }

    /// A director is no longer named by the newest cvip.conf.
    fn is_struck(&self, at: usize, frame: &Frame) -> bool {
        self.is_new_conf_there && !frame.new_conf.is_director(self.directors[at].node)
    }

    /// What may happen now and is counted.
    pub(super) fn counted(&self, frame: &Frame) -> impl Iterator<Item = Event> {
        frame.events.iter().copied().filter(|event| {
            let runs = |at: u8| self.directors[usize::from(at)].running.as_ref();
            match *event {
                Event::Restarts(at) | Event::Reboots(at) | Event::Dies(at) => runs(at).is_some(),
                Event::IsMadeAnew(at) | Event::Stops(at) => {
                    runs(at).is_some_and(|running| running.stops_since.is_none())
                }
                Event::IsAsked(at) => runs(at).is_some_and(|r| !r.candidacy.is_active()),
                Event::Begins(fault) => !self.has(fault),
                Event::NewConf => !self.is_new_conf_there,
                Event::StorePutBack => self.backup != self.store.elected,
                _ => true,
            }
        })
    }

    /// What may happen now and is not counted: a fault ends, what is down is started, a file is
    /// read. A step of time is not among it.
    pub(super) fn uncounted(&self, frame: &Frame) -> Vec<Event> {
        let mut events: Vec<Event> = self.faults.iter().map(|fault| Event::Ends(*fault)).collect();
        for (at, director) in self.directors.iter().enumerate() {
            let is_down = director.running.is_none();
            if is_down && !(director.has_new_conf && self.is_struck(at, frame)) {
                events.push(Event::Starts(at as u8));
            }
            if self.is_new_conf_there && !director.has_new_conf {
                events.push(Event::Reloads(at as u8));
            }
        }
        if !events.is_empty() {
            events.push(Event::AllIsWell);
        }
        events
    }

    /// How many orders there are in which directors may decide.
    pub(super) fn orders(frame: &Frame) -> u8 {
        frame.orders.len() as u8
    }

    /// What an event does.
    ///
    /// # Errors
    /// What must never be: a director takes a term again, or there are elections without end.
    pub(super) fn happen(&mut self, event: Event, frame: &Frame) -> Result<Effect, String> {
        match event {
            Event::Step(order) => return self.step(&frame.orders[usize::from(order)], frame),
            Event::Begins(fault) => {
                self.faults.insert(fault);
                self.tell_carrier();
                if let Fault::LinkLate(from, to) = fault {
                    self.late.insert((from, to), 0);
                }
            }
            Event::Ends(fault) => {
                self.faults.remove(&fault);
                self.tell_carrier();
                match fault {
                    Fault::StoreSlow(at) => self.carry_out_delayed(at),
                    Fault::LinkLate(from, to) => drop(self.late.remove(&(from, to))),
                    _ => {}
                }
            }
            Event::Restarts(at) | Event::Starts(at) => self.start(usize::from(at), frame),
            Event::Reboots(at) => {
                self.directors[usize::from(at)].forget();
                self.start(usize::from(at), frame);
            }
            Event::Dies(at) => self.directors[usize::from(at)].running = None,
            Event::Stops(at) => {
                if let Some(running) = &mut self.directors[usize::from(at)].running {
                    running.candidacy.hand_over();
                    running.stops_since = Some(self.now);
                }
            }
            Event::IsMadeAnew(at) => {
                let director = &mut self.directors[usize::from(at)];
                let conf = if director.has_new_conf { &frame.new_conf } else { &frame.conf };
                director.make_anew(conf, self.now);
                self.tell_carrier();
            }
            Event::IsAsked(at) => {
                if let Some(running) = &mut self.directors[usize::from(at)].running {
                    running.candidacy.take_over(self.now);
                }
            }
            Event::StoreEmptied => {
                self.store = Arc::new(StoreView { known: true, ..StoreView::default() });
                self.renewed.clear();
                self.has_lost_terms = true;
            }
            Event::StorePutBack => {
                Arc::make_mut(&mut self.store).elected = self.backup.clone();
                self.has_lost_terms = true;
            }
            Event::NewConf => self.is_new_conf_there = true,
            Event::Reloads(at) => {
                self.directors[usize::from(at)].reload(&frame.new_conf, self.now);
            }
            Event::AllIsWell => self.all_is_well(frame),
        }
        Ok(Effect::default())
    }

    fn all_is_well(&mut self, frame: &Frame) {
        self.faults.clear();
        self.late.clear();
        self.tell_carrier();
        for at in 0..self.directors.len() {
            self.carry_out_delayed(at as u8);
            let director = &mut self.directors[at];
            if self.is_new_conf_there && !director.has_new_conf {
                director.reload(&frame.new_conf, self.now);
            }
            let stops = |running: &super::director::Running| running.stops_since.is_some();
            let is_here = self.directors[at].running.as_ref().is_some_and(|r| !stops(r));
            if !is_here && !self.is_struck(at, frame) {
                self.start(at, frame);
            }
        }
    }

    fn start(&mut self, at: usize, frame: &Frame) {
        let director = &mut self.directors[at];
        director.has_new_conf |= self.is_new_conf_there;
        let conf = if director.has_new_conf { &frame.new_conf } else { &frame.conf };
        director.running = None;
        if conf.is_director(director.node) {
            director.start(conf, self.now);
        }
        self.tell_carrier();
    }

    /// Tells every director whether it can carry the CVIPs.
    fn tell_carrier(&mut self) {
        for (at, director) in self.directors.iter_mut().enumerate() {
            if let Some(running) = &mut director.running {
                running.candidacy.can_carry = !self.faults.contains(&Fault::CannotCarry(at as u8));
            }
        }
    }

    /// The store carries out what a director claimed.
    fn carry_out(&mut self, request: ClaimRequest) -> TermClaim {
        let ClaimRequest { set, above, expected, node, incarnation } = request;
        let stands = self.store.elected.get(&set).copied();
        if stands.map(|elected| elected.term) != expected {
            return TermClaim::Stands(stands);
        }
        let term = counter::next(counter::latest(expected.unwrap_or(0), above));
        let elected = Elected { node, incarnation, term };
        self.backup = self.store.elected.clone();
        Arc::make_mut(&mut self.store).elected.insert(set, elected);
        TermClaim::Won(elected)
    }

    fn carry_out_delayed(&mut self, of: u8) {
        let (due, later) = self.delayed.drain(..).partition(|(by, _)| *by == of);
        self.delayed = later;
        let due: Vec<(u8, ClaimRequest)> = due;
        for (_, request) in due {
            self.carry_out(request);
        }
    }

    /// Time passes: heartbeats and records are sent, leases end, and the directors decide.
    fn step(&mut self, order: &[usize], frame: &Frame) -> Result<Effect, String> {
        let before = self.now;
        self.now += frame.setting.step;
        for at in 0..self.directors.len() {
            self.vouch(at, before);
            self.write_record(at);
        }
        self.directors.iter_mut().for_each(|director| director.send(before));
        for from in 0..self.directors.len() {
            for to in (0..self.directors.len()).filter(|to| *to != from) {
                self.transmit(from, to);
            }
        }
        let mut effect = Effect::default();
        for at in order {
            effect.depends_on_order |= self.decide(*at, frame)?;
        }
        Ok(effect)
    }

    /// An active director that another one does not hear vouches for itself, by a number that no
    /// other director has seen last.
    fn vouch(&mut self, at: usize, heard_at: Instant) {
        let is_answered = !self.has(Fault::NobodyAnswers) && !self.has(Fault::CutOff(at as u8));
        let others = self.directors.iter().map(|director| director.node);
        let director = &self.directors[at];
        if !is_answered || !director.is_doubted(others, heard_at) {
            return;
        }
        let views = self.directors.iter().filter_map(|d| Some(&*d.running.as_ref()?.view));
        let seen: BTreeSet<Option<u32>> = views
            .chain([&*self.store])
            .filter_map(|view| Some(view.records.get(&director.node)?.vouched))
            .collect();
        let number = (0..).find(|number| !seen.contains(&Some(*number)));
        if let Some(running) = &mut self.directors[at].running {
            running.vouched = number;
        }
    }

    /// A director that reaches the store renews its lease and writes its record; the lease of one
    /// that does not ends in time.
    fn write_record(&mut self, at: usize) {
        let lacks_store = self.lacks_store(at);
        let director = &self.directors[at];
        let (node, incarnation) = (director.node, director.incarnation);
        match director.record().filter(|_| !lacks_store) {
            Some(record) => {
                self.renewed.insert(node, self.now);
                let is_slow = self.has(Fault::StoreSlow(at as u8));
                let is_new = !is_slow && self.store.records.get(&node) != Some(&record);
                if is_new || self.store.alive.get(&node) != Some(&incarnation) {
                    let store = Arc::make_mut(&mut self.store);
                    store.alive.insert(node, incarnation);
                    if !is_slow {
                        store.records.insert(node, record);
                    }
                }
            }
            None => {
                if self.renewed.get(&node).is_some_and(|at| self.now >= *at + LEASE) {
                    self.renewed.remove(&node);
                    Arc::make_mut(&mut self.store).alive.remove(&node);
                }
            }
        }
    }

    /// The heartbeat of one director reaches another, if it can. One that is late is ever later,
    /// up to a limit.
    fn transmit(&mut self, from: usize, to: usize) {
        let late = (from as u8, to as u8);
        let ago = match self.late.get_mut(&late) {
            None => 0,
            Some(ago) => {
                *ago = LATE.min(*ago + 1);
                *ago
            }
        };
        if let Some(heartbeat) = self.directors[from].sent(ago).filter(|_| self.reaches(from, to)) {
            let heartbeat = Arc::clone(heartbeat);
            self.directors[to].hear(heartbeat, ago, self.now);
        }
    }

    /// A director reads the store and decides; true if what others do in the same step may depend
    /// on it.
    fn decide(&mut self, at: usize, frame: &Frame) -> Result<bool, String> {
        let lacks_store = self.lacks_store(at);
        let fault = |fault: fn(u8) -> Fault| self.faults.contains(&fault(at as u8));
        let (is_slow, is_unanswered) = (fault(Fault::StoreSlow), fault(Fault::AnswersLost));
        let (conflict, cut_off) = (fault(Fault::Conflict), fault(Fault::CutOff));
        let (now, store) = (self.now, Arc::clone(&self.store));
        let director = &mut self.directors[at];
        let Some(running) = &mut director.running else { return Ok(false) };
        if lacks_store {
            if !running.view.is_unavailable() {
                Arc::make_mut(&mut running.view).unavailable_since = Some(*BEGINNING);
            }
        } else if !is_slow {
            running.view = store;
        } else if running.view.is_unavailable() {
            Arc::make_mut(&mut running.view).unavailable_since = None;
        }
        if std::mem::take(&mut running.unanswered) {
            director.answer(Err("no answer".to_owned()));
        }
        let mut depends_on_order = false;
        for _ in 0..ROUNDS {
            let director = &mut self.directors[at];
            let conf = frame.conf_of(director);
            let Some(request) = director.decide(conf, conflict, cut_off, now)? else { break };
            if lacks_store {
                director.answer(Err("the store is unavailable".to_owned()));
                continue;
            }
            if is_slow {
                let claim = (at as u8, request);
                if !self.delayed.contains(&claim) {
                    self.delayed.push(claim);
                }
            } else {
                depends_on_order = true;
                let answer = self.carry_out(request);
                let is_over = matches!(answer, TermClaim::Won(e) if e.term > MOST_TERMS);
                if is_over {
                    return Err("there are elections without end".to_owned());
                }
                if !is_unanswered {
                    let store = Arc::clone(&self.store);
                    let director = &mut self.directors[at];
                    director.running.iter_mut().for_each(|r| r.view = Arc::clone(&store));
                    director.answer(Ok(answer));
                    continue;
                }
            }
            // It is blocked until the answer comes, or does not.
            self.directors[at].running.iter_mut().for_each(|r| r.unanswered = true);
            break;
        }
        if let Some(running) = &mut self.directors[at].running {
            running.was_cut_off = cut_off;
        }
        if self.directors[at].has_stopped(now) {
            depends_on_order = true;
            self.stop(at);
        }
        Ok(depends_on_order)
    }

    /// A director says farewell, and its lease ends.
    fn stop(&mut self, at: usize) {
        let lacks_store = self.lacks_store(at);
        let director = &mut self.directors[at];
        if let Some(running) = &mut director.running {
            running.candidacy.leaving = true;
        }
        let (node, farewell) = (director.node, director.heartbeat(self.now).map(Arc::new));
        for to in (0..self.directors.len()).filter(|to| *to != at) {
            if let Some(farewell) = farewell.clone().filter(|_| self.reaches(at, to)) {
                self.directors[to].hear(farewell, 0, self.now);
            }
        }
        if !lacks_store {
            self.renewed.remove(&node);
            Arc::make_mut(&mut self.store).alive.remove(&node);
        }
        self.directors[at].running = None;
    }

    /// A hash of all that decides what follows. Two states of one hash are one.
    pub(super) fn hash(&self) -> u64 {
        let World {
            now,
            directors,
            store,
            renewed,
            backup,
            faults,
            late,
            delayed,
            is_new_conf_there,
            has_lost_terms,
        } = self;
        let mut hasher = DefaultHasher::new();
        directors.iter().for_each(|director| director.hash_at(*now, &mut hasher));
        hash_view(store, &mut hasher);
        for (node, at) in renewed {
            (node, now.duration_since(*at).min(LEASE)).hash(&mut hasher);
        }
        (backup, faults, late, delayed, is_new_conf_there, has_lost_terms).hash(&mut hasher);
        hasher.finish()
    }

    /// There is no fault more to come: what only a later fault would need is forgotten.
    pub(super) fn forget_backup(&mut self) {
        self.backup.clear();
    }
}
