//! Which director is active: the rules by which one claims, takes and yields. Pure.
//!
//! The store decides: who holds the highest term of the set's election is the active director, and
//! a claim is a compare-and-swap of that term. Heartbeats only say when it is worth claiming, and
//! carry terms past a store that is away. So:
//!
//! - A standby claims when the elected director is silent, in cvip.conf's order among the standbys
//!   that live; whoever hears nobody at all is deaf, and claims nothing. While the store is away
//!   nobody can claim, and nothing changes.
//! - The active director yields to a higher term and to nothing else: neither a lease that ended
//!   nor a store that is away makes it yield. (While the store is away it also yields to another
//!   who has proved to answer for the CVIP.)
//! - There is no fail-back: who was elected stays so until it is silent, ends, is asked to hand over,
//!   or cannot carry the CVIPs.
//! - A director that cannot carry the CVIPs (its interface has no carrier, say) hands over while
//!   another lives that can, and claims nothing while another lives that can. If nobody can, nothing
//!   changes for that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::store::Elected;

/// How long a director that was just started listens before it judges that nobody is there.
pub const LISTEN: Duration = Duration::from_secs(2);

/// How much longer each standby waits than the one before it in cvip.conf's order.
pub const STAGGER: Duration = Duration::from_millis(250);

/// How long a standby leaves it to the active director that cannot carry the CVIPs to hand over: it
/// may not reach the store.
const HANDS_OVER_WITHIN: Duration = Duration::from_millis(500);

/// How soon a claim that led to nothing is made again.
const CLAIM_AGAIN: Duration = Duration::from_millis(300);

/// A director's part in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It waits, its table programmed.
    Standby,
    /// It carries the CVIPs, as the elected of this term.
    Active {
        /// The term; 0: not by an election of this set, but because it was alone, or because
        /// cvip.conf has made another set of the one that elected it.
        term: u64,
    },
}

/// Another director of the set, as it is heard and as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How it sounds.
    pub voice: Voice,
    /// The highest term of this set that it said it knows.
    pub term: u64,
    /// It says that it is the active director: in that term, or of the set that it read of in an
    /// older or newer cvip.conf.
    pub active: bool,
    /// The incarnation of its living cvipd, by the store; `None` if its lease has ended.
    pub alive: Option<u64>,
    /// Its record says that it is the active director.
    pub directing: bool,
    /// It can carry the CVIPs, as far as it says.
    pub can_carry: bool,
}

impl Default for Peer {
    /// A director of which nothing is known but that cvip.conf names it.
    fn default() -> Peer {
        Peer {
            voice: Voice::default(),
            term: 0,
            active: false,
            alive: None,
            directing: false,
            can_carry: true,
        }
    }
}

impl Peer {
    /// It is heard, lives by the store too, and can carry the CVIPs.
    fn can_follow(&self) -> bool {
        self.voice == Voice::Heard && self.alive.is_some() && self.can_carry
    }
}

/// How another director sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Voice {
    /// It was never heard since this director started.
    #[default]
    Unheard,
    /// Its heartbeats come.
    Heard,
    /// They came, and stopped.
    Silent,
    /// It said that it is leaving.
    Leaving,
}

/// What a director knows at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Whom the store says is elected, as it was last read.
    pub stored: Option<Elected>,
    /// The store was read at least once.
    pub known: bool,
    /// The store cannot be reached.
    pub away: bool,
    /// The other directors of the set.
    pub peers: &'a BTreeMap<u32, Peer>,
    /// So many others fell silent at once that it may be this director that does not hear.
    pub deaf: bool,
    /// Another answers for the CVIP: proved by probes.
    pub rival: bool,
    /// The term in which this director was active when it last ran, if the CVIP still stands on
    /// its interface.
    pub held: Option<u64>,
    /// This director can carry the CVIPs.
    pub can_carry: bool,
}

impl Sight<'_> {
    /// This director cannot carry the CVIPs, and another can that lives.
    fn another_should_carry(&self) -> bool {
        !self.can_carry && self.peers.values().any(Peer::can_follow)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ask the store for the term after this one (`None`: the first), for a node and its
    /// incarnation: this director itself, or the one it hands over to.
    Claim {
        /// The term that stands.
        expected: Option<u64>,
        /// The node that is to be elected.
        node: u32,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Become active.
    Take {
        /// In this term.
        term: u64,
    },
    /// Become standby.
    Yield {
        /// The term that it yields to; `None`: to a rival, while the store is away.
        term: Option<u64>,
    },
}

/// One director's view of its set's election.
#[derive(Clone, Debug)]
pub struct Election {
    node: u32,
    incarnation: u64,
    /// The set's directors in cvip.conf's order.
    order: Vec<u32>,
    part: Part,
    started: Instant,
    /// Since when the elected director is gone, for those who wait their turn.
    gone_since: Option<Instant>,
    /// Since when the elected director says that it cannot carry the CVIPs.
    unable_since: Option<Instant>,
    /// An operator asks this director to take over.
    asked: bool,
    not_before: Instant,
}

impl Election {
    /// A standby that has just been started.
    pub fn new(node: u32, incarnation: u64, order: Vec<u32>, now: Instant) -> Election {
        Election {
            node,
            incarnation,
            order,
            part: Part::Standby,
            started: now,
            gone_since: None,
            unable_since: None,
            asked: false,
            not_before: now,
        }
    }

    /// The part at the moment.
    pub fn part(&self) -> Part {
        self.part
    }

    /// The name of the set in the store and in heartbeats: its lowest node number.
    pub fn set(&self) -> u32 {
        self.order.iter().copied().min().unwrap_or(self.node)
    }

    /// A director without others needs no election: it is the active one.
    pub fn alone(&mut self) -> Part {
        self.part = Part::Active { term: 0 };
        self.part
    }

    /// Another order, or other directors, after cvip.conf was read again. The terms of one set say
    /// nothing in another.
    pub fn reorder(&mut self, order: Vec<u32>) {
        let before = self.set();
        self.order = order;
        if self.part != Part::Standby && self.set() != before {
            self.part = Part::Active { term: 0 };
        }
    }

    /// An operator asks this director to take over.
    pub fn ask(&mut self) {
        self.asked = self.part == Part::Standby;
    }

    /// What is to be done now, if anything. The part has changed when this returns, and a claim is
    /// answered by [`Election::step`] once the store shows what came of it.
    pub fn step(&mut self, sight: Sight<'_>, now: Instant) -> Option<Act> {
        let act = match self.part {
            Part::Active { term: 0 } => self.unelected(sight, now),
            Part::Active { term } => self.active(term, sight, now),
            Part::Standby => self.standby(sight, now),
        };
        match act {
            Some(Act::Take { term }) => {
                (self.part, self.asked, self.gone_since) = (Part::Active { term }, false, None);
            }
            Some(Act::Yield { .. }) => {
                (self.part, self.gone_since) = (Part::Standby, None);
            }
            Some(Act::Claim { .. }) => self.not_before = now + CLAIM_AGAIN,
            None => {}
        }
        act
    }

    fn active(&self, term: u64, sight: Sight<'_>, now: Instant) -> Option<Act> {
        let stored = sight.stored.filter(|elected| elected.term > term);
        if let Some(elected) = stored {
            let mine = (elected.node, elected.incarnation) == (self.node, self.incarnation);
            let term = elected.term;
            return Some(if mine { Act::Take { term } } else { Act::Yield { term: Some(term) } });
        }
        if let Some(peer) = self.superior(term, sight) {
            return Some(Act::Yield { term: Some(peer.term) });
        }
        if sight.away {
            return sight.rival.then_some(Act::Yield { term: None });
        }
        // The store was emptied, or put back to an older state: it is told again.
        let expected = sight.stored.map(|elected| elected.term);
        if !sight.known || now < self.not_before {
            return None;
        }
        if expected.is_none_or(|stored| stored < term) {
            return Some(self.claim(expected));
        }
        if sight.another_should_carry() { self.hand_over(sight) } else { None }
    }

    /// The claim by which this director would have itself elected.
    fn claim(&self, expected: Option<u64>) -> Act {
        Act::Claim { expected, node: self.node, incarnation: self.incarnation }
    }

    /// An active director whom this set has not elected: it has itself elected, unless the set has
    /// another who directs.
    fn unelected(&self, sight: Sight<'_>, now: Instant) -> Option<Act> {
        if !sight.known || sight.away {
            return None;
        }
        let elected = sight.stored;
        if let Some(elected) = elected
            && elected.node == self.node
            && elected.incarnation == self.incarnation
        {
            return Some(Act::Take { term: elected.term });
        }
        let directs = |peer: &Peer| peer.alive.is_some() && peer.directing;
        let is_heard = |peer: &Peer| peer.voice == Voice::Heard && peer.active;
        if let Some(elected) = elected
            && sight.peers.get(&elected.node).is_some_and(|p| directs(p) || is_heard(p))
        {
            return Some(Act::Yield { term: Some(elected.term) });
        }
        let expected = elected.map(|elected| elected.term);
        (now >= self.not_before).then_some(self.claim(expected))
    }

    /// A director that is heard to be active in a higher term.
    fn superior<'a>(&self, term: u64, sight: Sight<'a>) -> Option<&'a Peer> {
        let is_superior =
            |peer: &&Peer| peer.voice == Voice::Heard && peer.active && peer.term > term;
        sight.peers.values().find(is_superior)
    }

    fn standby(&mut self, sight: Sight<'_>, now: Instant) -> Option<Act> {
        if !sight.known {
            // It was active, and is again before anybody knows better.
            let term = sight.held.filter(|_| self.has_listened(now))?;
            let anybody = sight.peers.values().any(|p| p.voice == Voice::Heard && p.active);
            return (!anybody && !sight.deaf).then_some(Act::Take { term });
        }
        self.unable_since = match self.elected_is_unable(sight) {
            true => self.unable_since.or(Some(now)),
            false => None,
        };
        if let Some(elected) = sight.stored.filter(|elected| elected.node == self.node) {
            if self.superior(elected.term, sight).is_some() {
                return None; // The store has not told yet.
            }
            if elected.incarnation == self.incarnation {
                return Some(Act::Take { term: elected.term });
            }
        }
        if sight.away || now < self.not_before {
            return None;
        }
        let expected = sight.stored.map(|elected| elected.term);
        if sight.another_should_carry() {
            (self.asked, self.gone_since) = (false, None);
            return None;
        }
        if self.asked {
            return Some(self.claim(expected));
        }
        // One that lives, and directs by a cvip.conf in which it is alone, does not speak to us; one
        // that was elected in a set of another name, or in a term that the store has lost, will
        // have itself elected.
        let directs = |p: &Peer| match p.voice {
            Voice::Unheard => p.alive.is_some() && p.directing,
            Voice::Heard => p.active && (p.term == 0 || expected.is_none_or(|own| own < p.term)),
            Voice::Silent | Voice::Leaving => false,
        };
        if sight.peers.values().any(directs) {
            return None;
        }
        if let Some(since) = self.unable_since.filter(|_| sight.can_carry) {
            let turn = since + HANDS_OVER_WITHIN + STAGGER * self.rank(sight);
            return (now >= turn).then(|| self.claim(expected));
        }
        let is_gone = match sight.stored {
            None => self.has_listened(now) || self.rank(sight) == 0,
            // It was elected before it was started again.
            Some(elected) if elected.node == self.node => return Some(self.claim(expected)),
            Some(elected) => self.is_gone(elected, sight, now),
        };
        if !is_gone || sight.deaf {
            self.gone_since = None;
            return None;
        }
        let since = *self.gone_since.get_or_insert(now);
        let turn = since + STAGGER * self.rank(sight);
        (now >= turn).then(|| self.claim(expected))
    }

    /// The elected director is heard to be active, and to be unable to carry the CVIPs.
    fn elected_is_unable(&self, sight: Sight<'_>) -> bool {
        let elected = sight.stored.and_then(|elected| sight.peers.get(&elected.node));
        elected.is_some_and(|peer| peer.voice == Voice::Heard && peer.active && !peer.can_carry)
    }

    fn has_listened(&self, now: Instant) -> bool {
        now.duration_since(self.started) >= LISTEN
    }

    /// Whether the elected director is gone: silent after it was heard, leaving, or never heard
    /// and without a lease.
    fn is_gone(&self, elected: Elected, sight: Sight<'_>, now: Instant) -> bool {
        // A director that cvip.conf does not name any more is nobody's to wait for.
        let Some(peer) = sight.peers.get(&elected.node) else {
            return !self.order.contains(&elected.node);
        };
        match peer.voice {
            Voice::Heard => false,
            Voice::Silent | Voice::Leaving => true,
            Voice::Unheard => peer.alive.is_none() && self.has_listened(now),
        }
    }

    /// How many standbys that live come before this one.
    fn rank(&self, sight: Sight<'_>) -> u32 {
        let elected = sight.stored.map(|elected| elected.node);
        let before = self.order.iter().take_while(|node| **node != self.node);
        let lives = |node: &&u32| {
            Some(**node) != elected
                && sight.peers.get(node).is_none_or(|peer| match peer.voice {
                    // One that cannot carry the CVIPs leaves them to one that can.
                    Voice::Heard => peer.can_carry || !sight.can_carry,
                    // At the first start of all nobody has been heard yet.
                    Voice::Unheard => sight.stored.is_none(),
                    Voice::Silent | Voice::Leaving => false,
                })
        };
        before.filter(lives).count() as u32
    }

    /// The claim by which an active director hands over: to the first in cvip.conf's order that is
    /// heard and lives, and to one that can carry the CVIPs if there is one.
    pub fn hand_over(&self, sight: Sight<'_>) -> Option<Act> {
        if self.part == Part::Standby {
            return None;
        }
        let heir = |node: &u32| {
            let peer = sight.peers.get(node).filter(|peer| peer.voice == Voice::Heard)?;
            Some((!peer.can_carry, *node, peer.alive?))
        };
        let heirs = self.order.iter().filter_map(heir);
        let (_, node, incarnation) = heirs.min_by_key(|(is_unable, ..)| *is_unable)?;
        let expected = sight.stored.map(|elected| elected.term);
        Some(Act::Claim { expected, node, incarnation })
    }
}

#[cfg(test)]
#[path = "election/tests.rs"]
mod tests;
