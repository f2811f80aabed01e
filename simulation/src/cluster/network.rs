//! The network: what becomes of a packet between two places.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::packet::Place;
use crate::random::Random;

/// What a link does to its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkQuality {
    /// Of a million packets, so many are lost.
    pub loss: u32,
    /// Of a million packets, so many arrive twice.
    pub doubled: u32,
    /// How long a packet takes at least.
    pub delay: Duration,
    /// How much longer it may take: packets overtake one another.
    pub jitter: Duration,
}

impl LinkQuality {
    /// A switch's.
    pub const GOOD: LinkQuality = LinkQuality {
        loss: 0,
        doubled: 0,
        delay: Duration::from_micros(80),
        jitter: Duration::from_micros(120),
    };
}

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    /// Links that are cut, by direction.
    cut: BTreeMap<(Place, Place), ()>,
    /// Places whose heartbeats are lost, and nothing else.
    unheard: BTreeSet<Place>,
    /// The router misses announcements.
    pub misses_announcements: bool,
    /// Places whose every link is cut.
    unplugged: BTreeMap<Place, ()>,
    /// Links that are not good.
    poor: BTreeMap<(Place, Place), LinkQuality>,
    /// All links are like this, unless they are poor of themselves.
    all: Option<LinkQuality>,
}

impl Network {
    /// Cuts one direction between two places.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to), ());
    }

    /// Takes all links of a place away.
    pub fn unplug(&mut self, place: Place) {
        self.unplugged.insert(place, ());
    }

    /// The heartbeats of a place are lost.
    pub fn lose_heartbeats(&mut self, place: Place) {
        self.unheard.insert(place);
    }

    /// No heartbeat is lost any more by [`Network::lose_heartbeats`].
    pub fn hear_heartbeats(&mut self) {
        self.unheard.clear();
    }

    /// The places whose heartbeats are lost.
    pub fn unheard(&self) -> &BTreeSet<Place> {
        &self.unheard
    }

    /// Makes one direction between two places poor.
    pub fn degrade(&mut self, from: Place, to: Place, quality: LinkQuality) {
        self.poor.insert((from, to), quality);
    }

    /// Makes all links poor.
    pub fn degrade_all(&mut self, quality: LinkQuality) {
        self.all = Some(quality);
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: Place, to: Place) {
        self.cut.remove(&(from, to));
        self.poor.remove(&(from, to));
    }

    /// Gives a place its links back.
    pub fn plug(&mut self, place: Place) {
        self.unplugged.remove(&place);
    }

    /// All links are good again.
    pub fn mend_all(&mut self) {
        *self = Network::default();
    }

    /// All links are good again but for those that are cut.
    pub fn mend_quality(&mut self) {
        self.all = None;
    }

    /// A packet may pass from one place to the other.
    pub fn is_open(&self, from: Place, to: Place) -> bool {
        from == to
            || !self.cut.contains_key(&(from, to))
                && !self.unplugged.contains_key(&from)
                && !self.unplugged.contains_key(&to)
    }

    /// After how long a packet arrives: once, twice or not at all.
    pub fn carry(&self, from: Place, to: Place, random: &mut Random) -> Vec<Duration> {
        if from == to {
            return vec![Duration::from_micros(10)];
        }
        if !self.is_open(from, to) {
            return Vec::new();
        }
        let quality = self.poor.get(&(from, to)).copied().or(self.all);
        let quality = quality.unwrap_or(LinkQuality::GOOD);
        let mut times = 1;
        if quality.loss > 0 && random.happens(quality.loss) {
            times = 0;
        } else if quality.doubled > 0 && random.happens(quality.doubled) {
            times = 2;
        }
        let jitter = u64::try_from(quality.jitter.as_micros()).unwrap_or(u64::MAX);
        let delay =
            |random: &mut Random| quality.delay + Duration::from_micros(random.within(0..=jitter));
        (0..times).map(|_| delay(random)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = Place::Node(1);
    const B: Place = Place::Node(2);

    #[test]
    fn a_cut_is_one_way_and_an_unplugged_place_reaches_itself() {
        let (mut network, mut random) = (Network::default(), Random::new(1));
        network.cut(A, B);
        assert!(network.carry(A, B, &mut random).is_empty());
        assert_eq!(network.carry(B, A, &mut random).len(), 1);
        network.mend(A, B);
        network.unplug(B);
        assert!(network.carry(A, B, &mut random).is_empty());
        assert_eq!(network.carry(B, B, &mut random).len(), 1);
        network.plug(B);
        assert_eq!(network.carry(A, B, &mut random).len(), 1);
    }
}
