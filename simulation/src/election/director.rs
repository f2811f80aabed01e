//! One director: cvipd's candidacy, what it hears and reads, and its file of terms.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{
    Candidacy, Circumstances, ClaimRequest, HeardDirector, MonitorOutput, RecordSummary, StoreView,
    Terms,
};
use cvip::counter;
use cvip::director::election::ElectionRole;
use cvip::director::liveness::Liveness;
use cvip::director::monitor::{MonitorIdentity, MonitorNotice, order};
use cvip::heartbeat::{Heartbeat, Nonce, SeenNonce, Timing};
use cvip::store::TermClaim;

use cvip::clock::Instant;

/// How long a director that hands over and stops waits for its successor.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(3);

/// By how many steps a heartbeat is late at most.
pub(super) const LATE: u8 = 2;

const NONCE: Nonce = Nonce([0; 16]);

/// What a director heard last of another.
#[derive(Clone, Debug)]
pub(super) struct LastHeard {
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) at: Instant,
}

/// A director that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) candidacy: Candidacy,
    /// The store, as it was last read.
    pub(super) view: Arc<StoreView>,
    /// By node.
    pub(super) heard: BTreeMap<u32, LastHeard>,
    /// It has handed over, or tried to, and stops: since when.
    pub(super) stops_since: Option<Instant>,
    /// Its link was suspected in the last step.
    pub(super) was_cut_off: bool,
    /// The answer to a claim comes in the next step: that there was none.
    pub(super) unanswered: bool,
    /// The number by which it vouched for itself.
    pub(super) vouched: Option<u32>,
    /// For how many steps it has run, as far as that matters: what was sent before it was started
    /// is not heard.
    pub(super) steps: u8,
}

/// A director, whether it runs or not.
#[derive(Clone, Debug)]
pub(super) struct Director {
    pub(super) node: u32,
    /// Of its last start.
    pub(super) incarnation: u64,
    pub(super) running: Option<Running>,
    pub(super) has_new_conf: bool,
    /// Its file of terms.
    pub(super) file: Terms,
    /// What it sent in each of the last steps, the last one first.
    sent: VecDeque<Option<Arc<Heartbeat>>>,
    /// The set and term that it took last.
    took: Option<(u32, u64)>,
    /// The latest term of each set that it gave up, over all its starts.
    gave_up: BTreeMap<u32, u64>,
}

impl Director {
    pub(super) fn new(node: u32) -> Director {
        Director {
            node,
            incarnation: 0,
            running: None,
            has_new_conf: false,
            file: Terms::default(),
            sent: VecDeque::new(),
            took: None,
            gave_up: BTreeMap::new(),
        }
    }

    /// Its cvipd is started; what it noted is read.
    pub(super) fn start(&mut self, conf: &Conf, now: Instant) {
        self.incarnation += 1;
        let view = Arc::new(StoreView::default());
        self.running = Some(Running {
            candidacy: self.candidacy(conf, now),
            view,
            heard: BTreeMap::new(),
            stops_since: None,
            was_cut_off: false,
            unanswered: false,
            vouched: None,
            steps: 0,
        });
    }

    fn candidacy(&self, conf: &Conf, now: Instant) -> Candidacy {
        let (node, incarnation) = (self.node, self.incarnation);
        let me = MonitorIdentity { node, incarnation, nonce: NONCE };
        Candidacy::new(me, order(conf, node), self.file.clone(), now)
    }

    /// Its monitor is made anew.
    pub(super) fn make_anew(&mut self, conf: &Conf, now: Instant) {
        let candidacy = self.candidacy(conf, now);
        if let Some(running) = &mut self.running {
            running.candidacy = candidacy;
            running.heard.clear();
            running.unanswered = false;
        }
    }

    /// Its machine is down: what it noted is lost.
    pub(super) fn forget(&mut self) {
        self.running = None;
        self.file = Terms::default();
        self.took = None;
        self.gave_up.clear();
    }

    /// It reads a new cvip.conf, which may not name it any more: then it hands over and stops.
    pub(super) fn reload(&mut self, conf: &Conf, now: Instant) {
        self.has_new_conf = true;
        let Some(running) = &mut self.running else { return };
        if !conf.is_director(self.node) {
            running.candidacy.hand_over();
            running.stops_since.get_or_insert(now);
            return;
        }
        let before = running.candidacy.set();
        let mut outputs = Vec::new();
        running.candidacy.reorder(order(conf, self.node), &mut outputs);
        if running.candidacy.set() != before
            && let Some((set, term)) = self.took.take()
        {
            gives_up(&mut self.gave_up, set, term);
        }
        for output in outputs {
            if let MonitorOutput::WriteTerms(terms) = output {
                self.file = terms;
            }
        }
    }

    /// Its role and set while it runs.
    pub(super) fn role(&self) -> Option<(u32, ElectionRole)> {
        let candidacy = &self.running.as_ref()?.candidacy;
        Some((candidacy.set(), candidacy.role()))
    }

    /// The set and term in which it is active.
    pub(super) fn active(&self) -> Option<(u32, u64)> {
        match self.role()? {
            (set, ElectionRole::Active { term }) => Some((set, term)),
            (_, ElectionRole::Standby) => None,
        }
    }

    /// Whether it heard a node just now, or so lately that it is not silent.
    pub(super) fn hears(&self, node: u32, now: Instant) -> bool {
        let heard = self.running.as_ref().and_then(|running| running.heard.get(&node));
        heard.is_some_and(|last| now.duration_since(last.at) < Timing::default().silence)
    }

    /// The heartbeat that it sends; it has heard others at `heard_at` last.
    pub(super) fn heartbeat(&self, heard_at: Instant) -> Option<Heartbeat> {
        let Running { candidacy, view, heard, .. } = self.running.as_ref()?;
        let seen = heard.iter().filter(|(_, last)| last.at == heard_at);
        Some(Heartbeat {
            node: self.node,
            incarnation: self.incarnation,
            sequence: 1,
            nonce: NONCE,
            leaving: candidacy.leaving,
            cannot_carry: !candidacy.carries_addresses(),
            left: None,
            leaderships: vec![candidacy.leadership(view)],
            seen: seen.map(|(node, _)| SeenNonce { node: *node, nonce: NONCE }).collect(),
        })
    }

    /// A step begins: it sends a heartbeat if it runs, having heard others at `heard_at` last.
    pub(super) fn send(&mut self, heard_at: Instant) {
        self.sent.push_front(self.heartbeat(heard_at).map(Arc::new));
        self.sent.truncate(usize::from(LATE) + 1);
        if let Some(running) = &mut self.running {
            running.steps = LATE.min(running.steps + 1);
        }
    }

    /// The heartbeat that it sent so many steps ago.
    pub(super) fn sent(&self, ago: u8) -> Option<&Arc<Heartbeat>> {
        self.sent.get(usize::from(ago))?.as_ref()
    }

    /// It hears a heartbeat that was sent so many steps ago.
    pub(super) fn hear(&mut self, heartbeat: Arc<Heartbeat>, ago: u8, now: Instant) {
        if let Some(running) = self.running.as_mut().filter(|r| r.steps > ago || ago == 0) {
            running.heard.insert(heartbeat.node, LastHeard { heartbeat, at: now });
        }
    }

    /// Its node's record.
    pub(super) fn record(&self) -> Option<RecordSummary> {
        let running = self.running.as_ref()?;
        Some(RecordSummary {
            incarnation: self.incarnation,
            directing: running.candidacy.is_active(),
            leaving: running.candidacy.leaving,
            vouched: running.vouched,
            services: Vec::new(),
        })
    }

    /// It is active, and another director that lives does not hear it, or was not heard at
    /// `heard_at`.
    pub(super) fn is_doubted(
        &self,
        others: impl IntoIterator<Item = u32>,
        heard_at: Instant,
    ) -> bool {
        let Some(running) = self.running.as_ref().filter(|r| r.candidacy.is_active()) else {
            return false;
        };
        let in_touch = |node: &u32| {
            let last = running.heard.get(node).filter(|last| last.at == heard_at);
            last.is_some_and(|l| l.heartbeat.seen.iter().any(|seen| seen.node == self.node))
        };
        let is_alive = |node: &u32| running.view.alive.contains_key(node);
        others.into_iter().any(|node| node != self.node && is_alive(&node) && !in_touch(&node))
    }

    /// Decides once; the claim that it then makes, if it does.
    ///
    /// # Errors
    /// It takes a term that it has given up.
    pub(super) fn decide(
        &mut self,
        conf: &Conf,
        conflict: bool,
        cut_off: bool,
        now: Instant,
    ) -> Result<Option<ClaimRequest>, String> {
        let silence = Timing::default().silence;
        let Some(running) = &mut self.running else { return Ok(None) };
        let me = self.node;
        let others = order(conf, me).into_iter().filter(|node| *node != me);
        let hears = |node: u32| {
            let last = running.heard.get(&node);
            let liveness =
                last.map_or(Liveness::Alive, |last| match now.duration_since(last.at) < silence {
                    true => Liveness::Alive,
                    false => Liveness::Suspected,
                });
            let heartbeat = last.map(|last| &*last.heartbeat);
            (node, HeardDirector { heartbeat, unproven: &[], liveness: Some(liveness) })
        };
        let circumstances = Circumstances {
            conf,
            store: &running.view,
            directors: &others.map(hears).collect(),
            suspects_link: cut_off || running.was_cut_off,
            conflict: conflict && running.candidacy.is_active(),
        };
        let mut outputs = Vec::new();
        running.candidacy.elect(circumstances, now, &mut outputs);
        let set = running.candidacy.set();
        let mut claim = None;
        for output in outputs {
            match output {
                MonitorOutput::WriteTerms(terms) => {
                    let is_over = terms.active.is_none();
                    if let Some((set, term)) = self.took.take_if(|_| is_over) {
                        gives_up(&mut self.gave_up, set, term);
                    }
                    self.file = terms;
                }
                MonitorOutput::Claim(request) => claim = Some(request),
                MonitorOutput::Notice(MonitorNotice::ElectionRole(ElectionRole::Active {
                    term,
                })) => {
                    let gave_up = self.gave_up.get(&set).copied().unwrap_or(0);
                    if term > 0 && !counter::is_later(term, gave_up) {
                        return Err(format!("director {me} takes term {term} again"));
                    }
                    self.took = Some((set, term));
                }
                _ => {}
            }
        }
        Ok(claim)
    }

    /// It is told what came of its claim.
    pub(super) fn answer(&mut self, answer: Result<TermClaim, String>) {
        if let Some(running) = &mut self.running {
            running.candidacy.claim_ended(answer, &mut Vec::new());
        }
    }

    /// It stops now: another was elected in its place, or none was in time.
    pub(super) fn has_stopped(&self, now: Instant) -> bool {
        let Some(Running { candidacy, stops_since: Some(since), .. }) = &self.running else {
            return false;
        };
        !candidacy.is_active() && !candidacy.is_claiming() || now >= *since + HANDS_OVER_WITHIN
    }

    /// See [`Candidacy::hash_at`].
    pub(super) fn hash_at(&self, now: Instant, hasher: &mut impl Hasher) {
        let Director { node: _, incarnation, running, has_new_conf, file, sent, took, gave_up } =
            self;
        sent.iter().for_each(|sent| hash_heartbeat(sent.as_deref(), hasher));
        (incarnation, has_new_conf, file, took, gave_up, running.is_some()).hash(hasher);
        let Some(running) = running else { return };
        let Running {
            candidacy,
            view,
            heard,
            stops_since,
            was_cut_off,
            unanswered,
            vouched,
            steps,
        } = running;
        candidacy.hash_at(now, hasher);
        hash_view(view, hasher);
        let ago = |at: Instant, most: Duration| now.duration_since(at).min(most);
        for (node, LastHeard { heartbeat, at }) in heard {
            (node, ago(*at, Timing::default().silence)).hash(hasher);
            hash_heartbeat(Some(heartbeat), hasher);
        }
        stops_since.map(|since| ago(since, HANDS_OVER_WITHIN)).hash(hasher);
        (was_cut_off, unanswered, vouched, steps).hash(hasher);
    }
}

fn gives_up(gave_up: &mut BTreeMap<u32, u64>, set: u32, term: u64) {
    let latest = gave_up.entry(set).or_default();
    *latest = counter::latest(*latest, term);
}

fn hash_heartbeat(heartbeat: Option<&Heartbeat>, hasher: &mut impl Hasher) {
    heartbeat.is_some().hash(hasher);
    let Some(heartbeat) = heartbeat else { return };
    let Heartbeat { incarnation, leaving, cannot_carry, leaderships, seen, .. } = heartbeat;
    (incarnation, leaving, cannot_carry, leaderships).hash(hasher);
    seen.iter().for_each(|seen| seen.node.hash(hasher));
}

/// Feeds a hasher with the store's contents. Which incarnations held leases before concerns liveness
/// alone.
pub(super) fn hash_view(view: &StoreView, hasher: &mut impl Hasher) {
    let StoreView { known, unavailable_since, records, alive, elected, latest: _ } = view;
    (known, unavailable_since.is_some(), records, alive, elected).hash(hasher);
}
