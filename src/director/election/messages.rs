//! What a director knows when it decides, and what it can decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::store::Elected;

/// A director's role in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ElectionRole {
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
pub struct ElectionPeer {
    /// How it is heard.
    pub liveness: PeerLiveness,
    /// The highest term of this set that its heartbeats name.
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
    /// When it last vouched for itself in its record: it is the active director, knows that a
    /// director does not hear it, and machines of the set answer it.
    pub vouched: Option<Instant>,
}

impl Default for ElectionPeer {
    /// A director of which nothing is known but that cvip.conf names it.
    fn default() -> ElectionPeer {
        ElectionPeer {
            liveness: PeerLiveness::default(),
            term: 0,
            active: false,
            alive: None,
            directing: false,
            can_carry: true,
            vouched: None,
        }
    }
}

impl ElectionPeer {
    /// It is heard, lives by the store too, and can carry the CVIPs.
    pub(super) fn can_follow(&self) -> bool {
        self.liveness == PeerLiveness::Heard && self.alive.is_some() && self.can_carry
    }
}

/// How another director is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PeerLiveness {
    /// It was never heard since this director started.
    #[default]
    Unheard,
    /// Its heartbeats come.
    Heard,
    /// They came, and stopped.
    Suspected,
    /// It said that it is leaving.
    Leaving,
}

/// What a director knows at a moment.
#[derive(Clone, Copy, Debug)]
pub struct ElectionInput<'a> {
    /// The elected director, as the store was last read.
    pub stored: Option<Elected>,
    /// The store was read at least once.
    pub known: bool,
    /// The store cannot be reached.
    pub unavailable: bool,
    /// The other directors of the set.
    pub peers: &'a BTreeMap<u32, ElectionPeer>,
    /// So many others fell silent at once that it may be this director that does not hear; or they
    /// did until a moment ago.
    pub isolated: bool,
    /// Another answers for the CVIP: proved by probes.
    pub conflict: bool,
    /// The term in which this director was active when it last ran, if the CVIP still stands on
    /// its interface.
    pub held: Option<u64>,
    /// This director can carry the CVIPs.
    pub can_carry: bool,
}

impl ElectionInput<'_> {
    /// This director cannot carry the CVIPs, and another can that lives.
    pub(super) fn another_should_carry(&self) -> bool {
        !self.can_carry && self.peers.values().any(ElectionPeer::can_follow)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionAction {
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
        /// The term that it yields to; `None`: to a conflicting host, while the store is
        /// unavailable.
        term: Option<u64>,
    },
}
