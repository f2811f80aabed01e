//! Address conflicts: another host claims an address of this active director. Pure.
//!
//! This node is the one that cvip.conf names, and does not give an address up for a claim (RFC
//! 5227, 2.4, (c)): it announces the address again, three times at once and then once in a defence
//! interval, so that the last word to neighbours is its own and two hosts that both insist do not
//! flood the link. Where there are other directors it first makes sure that it is still the active
//! one.
//!
//! While the store is unavailable another director may have been elected in its place. So the
//! director then asks who has the CVIPs, and a host that was proved to have one by its answers is
//! something to yield to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::clock::Instant;
use crate::conf::Conf;
use crate::net::{Claimed, Mac, Reachable};

/// `DEFEND_INTERVAL` of RFC 5227, and how many announcements may come at once all the same.
const DEFENCES: (u32, Duration) = (3, Duration::from_secs(10));

/// Claims come in showers: they are answered by one announcement.
const GAP: Duration = Duration::from_secs(1);

/// How often it is asked whether the other host is still there. An IPv6 host answers to everybody,
/// and so claims the address once more.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// A conflict is over when nothing was heard for so long, a question's time and some.
const OVER_AFTER: Duration = Duration::from_secs(35);

/// While the store is unavailable another director's announcement may have been lost: it is asked
/// this often who has the CVIPs.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

/// Addresses by the interface on which they are watched.
pub type WatchedAddresses = BTreeMap<String, BTreeSet<IpAddr>>;

/// One address's conflict.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Conflict {
    by: Mac,
    heard: Instant,
    asked: Instant,
    told: bool,
}

/// What is to be done about conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConflictStep {
    /// The addresses of which it is to be asked who has them.
    pub(super) ask: BTreeSet<IpAddr>,
    /// The conflicts that were told of and are over.
    pub(super) over: Vec<IpAddr>,
    /// The addresses are to be announced again now, if this is still the active director.
    pub(super) defend: bool,
}

/// The conflicts of the moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Conflicts {
    /// The CVIPs of an active director, by interface; empty for one that is not active.
    cvips: WatchedAddresses,
    /// The addresses that this node carries as the active director, and announces.
    announced: Vec<Reachable>,
    /// The addresses that another host was proved to have.
    proved: BTreeSet<IpAddr>,
    known: BTreeMap<IpAddr, Conflict>,
    /// An announcement is due.
    wanted: bool,
    /// When the last one was made.
    defended: Option<Instant>,
    defences: Bucket,
    next_doubt: Option<Instant>,
}

impl Conflicts {
    pub(super) fn new(now: Instant) -> Conflicts {
        Conflicts {
            cvips: BTreeMap::new(),
            announced: Vec::new(),
            proved: BTreeSet::new(),
            known: BTreeMap::new(),
            wanted: false,
            defended: None,
            defences: Bucket::new(DEFENCES.0, DEFENCES.1, now),
            next_doubt: None,
        }
    }

    /// Whether this director is active, by which configuration.
    pub(super) fn direct(&mut self, conf: &Conf, me: u32, active: bool) {
        self.cvips.clear();
        let directed = conf.cvips.iter().filter(|_| active);
        for (cvip, director) in directed.filter_map(|cvip| Some((cvip, cvip.director(me)?))) {
            self.cvips.entry(director.garp_interface.clone()).or_default().insert(cvip.addr);
        }
        if !active {
            self.known.clear();
            self.wanted = false;
        }
    }

    /// The addresses that this node carries as the active director, and announces: all of them.
    pub(super) fn announced(&mut self, announced: Vec<Reachable>) {
        self.announced = announced;
    }

    /// The addresses to watch, by interface: none for a director that is not active.
    pub(super) fn watched(&self) -> WatchedAddresses {
        let mut watched = self.cvips.clone();
        for Reachable { addr, device } in self.announced.iter().filter(|_| self.is_active()) {
            watched.entry(device.clone()).or_default().insert(*addr);
        }
        watched
    }

    fn is_active(&self) -> bool {
        !self.cvips.is_empty()
    }

    /// Another host claims an address. What is not announced here yet may be the former director's.
    pub(super) fn claimed(&mut self, claim: Claimed, now: Instant) {
        let Claimed { addr, by, to_all } = claim;
        if !self.is_active() || !self.announced.iter().any(|announced| announced.addr == addr) {
            return;
        }
        let new = Conflict { by, heard: now, asked: now, told: false };
        let conflict = self.known.entry(addr).or_insert(new);
        (conflict.by, conflict.heard) = (by, now);
        // An answer to this node alone reaches no neighbour.
        self.wanted |= to_all;
    }

    /// The addresses that another host was proved to have: all of them.
    pub(super) fn prove(&mut self, proved: BTreeSet<IpAddr>) {
        self.proved = proved;
    }

    /// The addresses that another host was proved to have, as was last told.
    pub(super) fn proved(&self) -> &BTreeSet<IpAddr> {
        &self.proved
    }

    /// Another host was proved to have one of the CVIPs.
    pub(super) fn is_proved(&self) -> bool {
        self.cvips.values().flatten().any(|addr| self.proved.contains(addr))
    }

    /// The CVIPs of which it is to be asked at once who has them.
    pub(super) fn doubt_at_once(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        self.next_doubt = None;
        self.doubt(true, now)
    }

    /// The CVIPs of which it is to be asked who has them, as it is again and again while the store
    /// is unavailable.
    pub(super) fn doubt(&mut self, unavailable: bool, now: Instant) -> BTreeSet<IpAddr> {
        if !unavailable {
            self.next_doubt = None;
        } else if now >= *self.next_doubt.get_or_insert(now) {
            self.next_doubt = Some(now + DOUBT_EVERY);
            return self.cvips.values().flatten().copied().collect();
        }
        BTreeSet::new()
    }

    /// What is to be done now.
    pub(super) fn step(&mut self, now: Instant) -> ConflictStep {
        let mut step = ConflictStep::default();
        for (addr, conflict) in &mut self.known {
            if now >= conflict.asked + ASK_EVERY {
                conflict.asked = now;
                step.ask.insert(*addr);
            }
        }
        self.known.retain(|addr, conflict| {
            let is_over = now >= conflict.heard + OVER_AFTER;
            if is_over && conflict.told {
                step.over.push(*addr);
            }
            !is_over
        });
        // What an announcement could not fix because it was lost, this one does.
        self.wanted |= !step.over.is_empty();
        step.defend = self.defence_due().is_some_and(|due| now >= due) && self.defences.take(now);
        if step.defend {
            (self.wanted, self.defended) = (false, Some(now));
        }
        step
    }

    /// The conflicts that are to be told of, now that this is the active director beyond doubt.
    pub(super) fn confirm(&mut self) -> Vec<(IpAddr, Mac)> {
        let new = self.known.iter_mut().filter(|(_, conflict)| !conflict.told);
        new.map(|(addr, conflict)| {
            conflict.told = true;
            (*addr, conflict.by)
        })
        .collect()
    }

    /// The conflicts that were told of, as sentences.
    pub(super) fn faults(&self) -> Vec<String> {
        let told = self.known.iter().filter(|(_, conflict)| conflict.told);
        told.map(|(addr, Conflict { by, .. })| {
            format!(
                "address conflict: another host, {by}, claims {addr}; find it (`ip neigh`, or \
                 your switch's table) and take the address from it"
            )
        })
        .collect()
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let of_each = self.known.values().map(|c| (c.asked + ASK_EVERY).min(c.heard + OVER_AFTER));
        of_each.chain(self.defence_due()).min()
    }

    fn defence_due(&self) -> Option<Instant> {
        let gap = self.defended.map(|at| at + GAP);
        let ready = self.defences.ready();
        self.wanted.then(|| gap.map_or(ready, |gap| gap.max(ready)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Routing;

    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const MS: Duration = Duration::from_millis(1);

    fn addr() -> IpAddr {
        "192.0.2.10".parse().unwrap()
    }

    fn claim(to_all: bool) -> Claimed {
        Claimed { addr: addr(), by: THEIRS, to_all }
    }

    /// Those of an active director that announces its CVIP.
    fn active(now: Instant) -> Conflicts {
        let cvips = BTreeMap::from([("eth0".to_owned(), BTreeSet::from([addr()]))]);
        let announced = vec![Reachable { addr: addr(), device: "eth0".to_owned() }];
        Conflicts { cvips, announced, ..Conflicts::new(now) }
    }

    /// Claims at these milliseconds; when the address was announced again, and what was over when.
    fn run(claims: &[u32], until: u32) -> (Vec<u32>, Vec<u32>) {
        let start = Instant::now();
        let mut conflicts = active(start);
        let (mut defended, mut over) = (Vec::new(), Vec::new());
        for ms in (0..=until).step_by(10) {
            let now = start + ms * MS;
            if claims.contains(&ms) {
                conflicts.claimed(claim(true), now);
            }
            conflicts.confirm();
            let step = conflicts.step(now);
            over.extend(step.over.iter().map(|_| ms));
            defended.extend(step.defend.then_some(ms));
        }
        (defended, over)
    }

    #[test]
    fn the_last_word_is_this_nodes_soon_after_a_short_conflict() {
        assert_eq!(run(&[0], 30_000), (vec![0], vec![]));
        assert_eq!(run(&[0, 150, 300], 30_000).0, [0, 1000]);
        assert_eq!(run(&[0, 1000, 2000], 30_000).0, [0, 1000, 2000]);
    }

    #[test]
    fn a_host_that_insists_is_answered_once_in_a_defence_interval() {
        let claims: Vec<u32> = (0..120).map(|n| n * 500).collect();
        let (defended, over) = run(&claims, 60_000);
        assert!((8..=10).contains(&defended.len()), "{defended:?}");
        assert!(over.is_empty());
    }

    #[test]
    fn a_conflict_is_told_once_and_over_when_nothing_more_is_heard() {
        let (defended, over) = run(&[0, 8000], 60_000);
        assert_eq!(over, [43_000]);
        assert_eq!(defended, [0, 8000, 43_000], "once more at the end");
        let start = Instant::now();
        let mut conflicts = active(start);
        conflicts.claimed(claim(true), start);
        assert!(conflicts.faults().is_empty(), "not before this node is sure of its role");
        assert_eq!(conflicts.confirm(), [(addr(), THEIRS)]);
        conflicts.claimed(claim(true), start + 5 * MS);
        assert!(conflicts.confirm().is_empty());
        assert!(conflicts.faults()[0].contains("02:00:00:00:00:07, claims 192.0.2.10"));
        let conf = Conf { routing: Routing::Dr, cvips: Vec::new() };
        conflicts.direct(&conf, 1, false);
        assert!(conflicts.faults().is_empty() && conflicts.due().is_none());
        assert!(conflicts.watched().is_empty(), "a standby watches nothing");
    }

    #[test]
    fn an_answer_to_this_node_alone_keeps_the_conflict_and_moves_no_neighbour() {
        let start = Instant::now();
        let mut conflicts = active(start);
        conflicts.claimed(claim(false), start);
        assert!(!conflicts.step(start).defend && !conflicts.confirm().is_empty());
    }

    #[test]
    fn a_claim_of_an_address_that_is_not_announced_yet_is_the_former_directors() {
        let start = Instant::now();
        let mut conflicts = active(start);
        conflicts.announced(Vec::new());
        assert_eq!(
            conflicts.watched().len(),
            1,
            "it is asked which host has it while the store is unavailable"
        );
        conflicts.claimed(claim(true), start);
        assert_eq!(conflicts.step(start), ConflictStep::default());
    }

    #[test]
    fn it_is_asked_who_has_the_cvips_while_the_store_is_unavailable() {
        let start = Instant::now();
        let mut conflicts = active(start);
        let asked = |conflicts: &mut Conflicts, unavailable, ms| {
            !conflicts.doubt(unavailable, start + ms * MS).is_empty()
        };
        let steps = [
            (0, false, false),
            (10, true, true),
            (5000, true, false),
            (5010, true, true),
            (5020, false, false),
            (5030, true, true),
        ];
        for (ms, unavailable, expected) in steps {
            assert_eq!(asked(&mut conflicts, unavailable, ms), expected, "{ms}");
        }
        assert_eq!(conflicts.doubt_at_once(start + 5040 * MS), [addr()].into());
        // Another host's gateway says nothing about who is the active director.
        conflicts.prove(["192.0.2.1".parse().unwrap()].into());
        assert!(!conflicts.is_proved());
        conflicts.prove([addr()].into());
        assert!(conflicts.is_proved());
    }
}
