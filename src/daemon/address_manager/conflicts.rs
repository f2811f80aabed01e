//! Address conflicts: another host claims an address that this node carries. When that is told,
//! and when the address is announced again. Pure.
//!
//! This node is the one that cvip.conf names, and never gives the address up (RFC 5227, 2.4,
//! (c)): it announces it again after a claim, three times at once and then once in a defence
//! interval, so that the last word to neighbours is its own and two hosts that both insist do not
//! flood the link.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::net::{Claimed, Mac};

/// `DEFEND_INTERVAL` of RFC 5227, and how many announcements may come at once all the same.
const DEFENCES: (u32, Duration) = (3, Duration::from_secs(10));

/// Claims come in showers: they are answered by one announcement.
const GAP: Duration = Duration::from_secs(1);

/// Whether the other host is still there is asked this often. An IPv6 host answers to everybody, and
/// so claims the address once more.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// A conflict is over when nothing was heard for so long, a question's time and some.
const OVER_AFTER: Duration = Duration::from_secs(35);

/// One address's conflict.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    by: Mac,
    heard: Instant,
    asked: Instant,
    told: bool,
}

/// The conflicts of the moment.
#[derive(Debug)]
pub(super) struct Conflicts {
    known: BTreeMap<IpAddr, Conflict>,
    /// An announcement is due.
    wanted: bool,
    /// When the last one was.
    defended: Option<Instant>,
    defences: Bucket,
}

impl Conflicts {
    pub(super) fn new(now: Instant) -> Conflicts {
        let defences = Bucket::new(DEFENCES.0, DEFENCES.1, now);
        Conflicts { known: BTreeMap::new(), wanted: false, defended: None, defences }
    }

    /// Another host claims an address.
    pub(super) fn claimed(&mut self, claim: Claimed, now: Instant) {
        let Claimed { addr, by, to_all } = claim;
        let new = Conflict { by, heard: now, asked: now, told: false };
        let conflict = self.known.entry(addr).or_insert(new);
        (conflict.by, conflict.heard) = (by, now);
        // An answer to this node alone moves nobody.
        self.wanted |= to_all;
    }

    /// True if the addresses are to be announced again now.
    pub(super) fn defends(&mut self, now: Instant) -> bool {
        if self.defence_due().is_none_or(|due| now < due) || !self.defences.take(now) {
            return false;
        }
        (self.wanted, self.defended) = (false, Some(now));
        true
    }

    /// This node is the active director beyond doubt: the conflicts that are to be told of.
    pub(super) fn confirmed(&mut self) -> Vec<(IpAddr, Mac)> {
        let new = self.known.iter_mut().filter(|(_, conflict)| !conflict.told);
        new.map(|(addr, conflict)| {
            conflict.told = true;
            (*addr, conflict.by)
        })
        .collect()
    }

    /// The addresses for which it is to be asked whether the other host is still there.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<IpAddr> {
        let due = self.known.iter_mut().filter(|(_, c)| now >= c.asked + ASK_EVERY);
        due.map(|(addr, conflict)| {
            conflict.asked = now;
            *addr
        })
        .collect()
    }

    /// The conflicts that are over; those that were never told of are forgotten.
    pub(super) fn over(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut over = Vec::new();
        self.known.retain(|addr, conflict| {
            let is_over = now >= conflict.heard + OVER_AFTER;
            if is_over && conflict.told {
                over.push(*addr);
            }
            !is_over
        });
        // What an announcement could not fix because it was lost, this one does.
        self.wanted |= !over.is_empty();
        over
    }

    /// This node carries nothing that others could claim.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.wanted = false;
    }

    /// The conflicts that were told of, as sentences.
    pub(super) fn faults(&self) -> Vec<String> {
        let told = self.known.iter().filter(|(_, conflict)| conflict.told);
        told.map(|(addr, Conflict { by, .. })| {
            format!(
                "address conflict: another host, {by}, claims {addr}; find it (`ip neigh', or \
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

    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 7]);
    const MS: Duration = Duration::from_millis(1);

    fn claim(to_all: bool) -> Claimed {
        Claimed { addr: "192.0.2.10".parse().unwrap(), by: THEIRS, to_all }
    }

    /// Claims at these milliseconds; when the address was announced again, and what was over when.
    fn run(claims: &[u32], until: u32) -> (Vec<u32>, Vec<u32>) {
        let start = Instant::now();
        let mut conflicts = Conflicts::new(start);
        let (mut defended, mut over) = (Vec::new(), Vec::new());
        for ms in (0..=until).step_by(10) {
            let now = start + ms * MS;
            if claims.contains(&ms) {
                conflicts.claimed(claim(true), now);
            }
            conflicts.confirmed();
            conflicts.questions(now);
            over.extend(conflicts.over(now).iter().map(|_| ms));
            defended.extend(conflicts.defends(now).then_some(ms));
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
        let mut conflicts = Conflicts::new(start);
        conflicts.claimed(claim(true), start);
        assert!(conflicts.faults().is_empty(), "not before this node is sure of its part");
        assert_eq!(conflicts.confirmed(), [(claim(true).addr, THEIRS)]);
        conflicts.claimed(claim(true), start + 5 * MS);
        assert!(conflicts.confirmed().is_empty());
        assert!(conflicts.faults()[0].contains("02:00:00:00:00:07, claims 192.0.2.10"));
        conflicts.forget();
        assert!(conflicts.faults().is_empty() && conflicts.due().is_none());
    }

    #[test]
    fn an_answer_to_this_node_alone_keeps_the_conflict_and_moves_nobody() {
        let start = Instant::now();
        let mut conflicts = Conflicts::new(start);
        conflicts.claimed(claim(false), start);
        assert!(!conflicts.defends(start) && !conflicts.confirmed().is_empty());
    }
}
