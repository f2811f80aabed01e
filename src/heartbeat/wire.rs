//! The heartbeat, which a node sends several times a second, as one authenticated datagram.
//!
//! All numbers are in network order:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `cvip` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | flags: 1 leaving, 2 cannot carry the CVIPs, 4 left ports are named; a receiver ignores those that it does not know |
//! | 6 | 1 | how many leaderships follow, at most 16 |
//! | 7 | 1 | how many seen nonces follow, at most 8 |
//! | 8 | 4 | the sender's node number, from 1 |
//! | 12 | 8 | incarnation: which start of the sender's cvipd |
//! | 20 | 8 | sequence: which heartbeat of that start |
//! | 28 | 16 | nonce: chosen at random at that start |
//! | 44 | 13 each | leaderships: set (4), term (8), active (1: 0 or 1) |
//! | | 20 each | seen nonces: node (4), nonce (16) |
//! | | 0, or 17 and more | ports that were left: see [`left`](super::left); only with flag 4 |
//! | | 0 or more | what a later version may add; ignored |
//! | the end | 32 | HMAC-SHA256 over all before it |
//!
//! Incarnations, sequences and terms are counters ([`counter`]): a datagram with a higher number
//! than [`counter::LAST`] is no heartbeat.
//!
//! A heartbeat holds no time of day. That an old one is not taken for a new one is for
//! [`Peers`](super::Peers) to see: (incarnation, sequence) must grow, and where the receiver is a
//! sender too, the peer's nonce counts only once the peer has shown that it heard the receiver's
//! own nonce: a recording of earlier times does not contain it.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::{MAC_BYTES, MacKey};
use super::left::LeftPorts;
use crate::counter;

/// What the key for heartbeats is derived for: [`ClusterKey::derive`](super::ClusterKey::derive).
pub const KEY_LABEL: &str = "cvip heartbeat";

/// Most leaderships in one heartbeat.
pub const MAX_LEADERSHIPS: usize = 16;
/// Most nonces of others in one heartbeat.
pub const MAX_SEEN: usize = 8;
/// The longest datagram in bytes, with room for what a later version may add. No link that IP
/// runs on cuts it up.
pub const MAX_BYTES: usize = 508;

const MAGIC: &[u8; 4] = b"cvip";
const VERSION: u8 = 1;
const LEAVING: u8 = 1;
const CANNOT_CARRY: u8 = 2;
const LEFT: u8 = 4;
const HEADER: usize = 44;
const LEADERSHIP: usize = 13;
const SEEN: usize = 20;

const _: () = assert!(
    HEADER + MAX_LEADERSHIPS * LEADERSHIP + MAX_SEEN * SEEN + MAC_BYTES <= MAX_BYTES,
    "a full heartbeat is no longer than the longest"
);

/// A number that is used once: no two starts of a sender have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 16]);

impl Nonce {
    /// A new one, from the kernel's source of randomness.
    ///
    /// # Errors
    /// The kernel has none, which does not happen on the kernels that cvip runs on.
    pub fn random() -> std::io::Result<Nonce> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Nonce(bytes))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:032x})", u128::from_be_bytes(self.0))
    }
}

/// As 32 hexadecimal digits.
impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nonce, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(Nonce(number.to_be_bytes()))
    }
}

/// What a director says of one set of directors that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leadership {
    /// The set, by the lowest node number of its directors.
    pub set: u32,
    /// The highest term of the set's election that the sender knows of.
    pub term: u64,
    /// Whether the sender is the active director in that term.
    pub active: bool,
}

/// The nonce of a peer that the sender hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenNonce {
    /// The peer's node number.
    pub node: u32,
    /// Its nonce.
    pub nonce: Nonce,
}

/// One heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's node number, from 1.
    pub node: u32,
    /// Which start of the sender's cvipd: a later start has a higher number.
    pub incarnation: u64,
    /// Which heartbeat of that start, from 1.
    pub sequence: u64,
    /// The nonce of that start.
    pub nonce: Nonce,
    /// The sender is about to stop in good order.
    pub leaving: bool,
    /// The sender is a director that cannot carry its set's CVIPs at the moment: the interface has
    /// no carrier, say. A sender that does not say so can.
    pub cannot_carry: bool,
    /// Ports that the sender has left; `None` if it does not say.
    pub left: Option<LeftPorts>,
    /// Of each set of directors that the sender belongs to; at most [`MAX_LEADERSHIPS`].
    pub leaderships: Vec<Leadership>,
    /// Nonces of peers; at most [`MAX_SEEN`].
    pub seen: Vec<SeenNonce>,
}

/// A heartbeat that holds more than fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a heartbeat tells of at most {MAX_LEADERSHIPS} sets of directors and {MAX_SEEN} peers, not \
     of {leaderships} and {seen}: let fewer sets of directors share a node"
)]
pub struct TooMany {
    /// How many leaderships there were.
    pub leaderships: usize,
    /// How many seen nonces there were.
    pub seen: usize,
}

/// Why a datagram is no heartbeat of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedDatagram {
    /// Not a heartbeat at all, or one that is cut short.
    #[error("not a heartbeat")]
    Malformed,
    /// A heartbeat of a version that this program does not know.
    #[error("a heartbeat of version {0}")]
    Version(u8),
    /// It was made or changed without the key.
    #[error("not signed with this cluster's key")]
    Forged,
}

impl Heartbeat {
    /// The datagram, at most [`MAX_BYTES`] bytes.
    ///
    /// # Errors
    /// There is more in it than fits.
    pub fn encode(&self, key: &MacKey) -> Result<Vec<u8>, TooMany> {
        let (leaderships, seen) = (self.leaderships.len(), self.seen.len());
        if leaderships > MAX_LEADERSHIPS || seen > MAX_SEEN {
            return Err(TooMany { leaderships, seen });
        }
        let mut bytes = Vec::with_capacity(MAX_BYTES);
        bytes.extend(MAGIC);
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let others = HEADER + leaderships * LEADERSHIP + seen * SEEN + MAC_BYTES;
        let left = self.left.as_ref().and_then(|left| left.encode(MAX_BYTES - others));
        let flags = flag(self.leaving, LEAVING)
            | flag(self.cannot_carry, CANNOT_CARRY)
            | flag(left.is_some(), LEFT);
        bytes.extend([VERSION, flags, leaderships as u8, seen as u8]);
        bytes.extend(self.node.to_be_bytes());
        bytes.extend(self.incarnation.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.nonce.0);
        for leadership in &self.leaderships {
            bytes.extend(leadership.set.to_be_bytes());
            bytes.extend(leadership.term.to_be_bytes());
            bytes.push(u8::from(leadership.active));
        }
        for seen in &self.seen {
            bytes.extend(seen.node.to_be_bytes());
            bytes.extend(seen.nonce.0);
        }
        bytes.extend(left.unwrap_or_default());
        let code = key.sign(&bytes);
        bytes.extend(code);
        Ok(bytes)
    }

    /// Reads a datagram. Any bytes may come: what has not the shape of a heartbeat is refused
    /// before the code is computed, and nothing is read before the code was seen to be right.
    ///
    /// # Errors
    /// It is no heartbeat of this cluster.
    pub fn decode(datagram: &[u8], key: &MacKey) -> Result<Heartbeat, RefusedDatagram> {
        if !(HEADER + MAC_BYTES..=MAX_BYTES).contains(&datagram.len())
            || !datagram.starts_with(MAGIC)
        {
            return Err(RefusedDatagram::Malformed);
        }
        if datagram[4] != VERSION {
            return Err(RefusedDatagram::Version(datagram[4]));
        }
        let (message, code) = datagram.split_at(datagram.len() - MAC_BYTES);
        if !key.verifies(message, code) {
            return Err(RefusedDatagram::Forged);
        }
        Heartbeat::parse(&mut WireReader(message)).ok_or(RefusedDatagram::Malformed)
    }

    fn parse(reader: &mut WireReader<'_>) -> Option<Heartbeat> {
        let [_, _, _, _, _, flags, leaderships, seen] = reader.take()?;
        let (leaderships, seen) = (usize::from(leaderships), usize::from(seen));
        if leaderships > MAX_LEADERSHIPS || seen > MAX_SEEN {
            return None;
        }
        let mut heartbeat = Heartbeat {
            node: reader.u32()?,
            incarnation: reader.counter()?,
            sequence: reader.counter()?,
            nonce: Nonce(reader.take()?),
            leaving: flags & LEAVING != 0,
            cannot_carry: flags & CANNOT_CARRY != 0,
            left: None,
            leaderships: (0..leaderships).map(|_| reader.leadership()).collect::<Option<_>>()?,
            seen: (0..seen).map(|_| reader.seen()).collect::<Option<_>>()?,
        };
        if flags & LEFT != 0 {
            heartbeat.left = Some(LeftPorts::decode(reader.0)?);
        }
        (heartbeat.node != 0).then_some(heartbeat)
    }
}

/// What is left of a message.
struct WireReader<'a>(&'a [u8]);

impl WireReader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// A number that is counted up: none is higher than the last of its kind.
    fn counter(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes).filter(|number| *number <= counter::LAST)
    }

    fn leadership(&mut self) -> Option<Leadership> {
        let (set, term) = (self.u32()?, self.counter()?);
        let active = match self.take()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Leadership { set, term, active })
    }

    fn seen(&mut self) -> Option<SeenNonce> {
        Some(SeenNonce { node: self.u32()?, nonce: Nonce(self.take()?) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::ClusterKey;
    use super::*;
    use crate::protocol::Protocol;

    fn key(secret: &[u8]) -> MacKey {
        ClusterKey::from_bytes(secret).unwrap().derive(KEY_LABEL)
    }

    fn ours() -> MacKey {
        key(b"0123456789abcdef0123456789abcdef")
    }

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            node: 2,
            incarnation: 0x0102,
            sequence: 7,
            nonce: Nonce([0xaa; 16]),
            leaving: true,
            cannot_carry: true,
            left: None,
            leaderships: vec![Leadership { set: 1, term: 0x1_0000_0000, active: true }],
            seen: vec![SeenNonce { node: 3, nonce: Nonce([0xbb; 16]) }],
        }
    }

    /// Signs what stands before the code, whatever it is.
    fn signed(mut message: Vec<u8>) -> Vec<u8> {
        let code = ours().sign(&message);
        message.extend(code);
        message
    }

    #[test]
    fn a_heartbeat_is_these_bytes() {
        let message = [
            &b"cvip"[..],              // magic
            &[1],                      // version
            &[3],                      // flags: leaving, cannot carry
            &[1],                      // one leadership
            &[1],                      // one seen nonce
            &[0, 0, 0, 2],             // node
            &[0, 0, 0, 0, 0, 0, 1, 2], // incarnation
            &[0, 0, 0, 0, 0, 0, 0, 7], // sequence
            &[0xaa; 16],               // nonce
            &[0, 0, 0, 1],             // leadership: set
            &[0, 0, 0, 1, 0, 0, 0, 0], // leadership: term
            &[1],                      // leadership: active
            &[0, 0, 0, 3],             // seen: node
            &[0xbb; 16],               // seen: its nonce
        ]
        .concat();
        let datagram = signed(message);
        assert_eq!(heartbeat().encode(&ours()).unwrap(), datagram);
        assert_eq!(Heartbeat::decode(&datagram, &ours()), Ok(heartbeat()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let datagram = heartbeat().encode(&ours()).unwrap();
        for bit in 0..datagram.len() * 8 {
            let mut flipped = datagram.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = Heartbeat::decode(&flipped, &ours()).unwrap_err();
            let expected = match bit / 8 {
                0..4 => RefusedDatagram::Malformed,
                4 => RefusedDatagram::Version(flipped[4]),
                _ => RefusedDatagram::Forged,
            };
            assert_eq!(refused, expected, "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_every_addition_is_refused() {
        let datagram = heartbeat().encode(&ours()).unwrap();
        for length in 0..datagram.len() {
            assert!(Heartbeat::decode(&datagram[..length], &ours()).is_err(), "{length} bytes");
            assert!(Heartbeat::decode(&datagram[length + 1..], &ours()).is_err(), "from {length}");
        }
        for more in 1..=MAX_BYTES {
            let longer = [&datagram[..], &vec![0; more]].concat();
            assert!(Heartbeat::decode(&longer, &ours()).is_err(), "{more} bytes more");
        }
    }

    #[test]
    fn another_clusters_key_signs_nothing_here() {
        let datagram =
            heartbeat().encode(&key(b"another cluster's key, also long enough")).unwrap();
        assert_eq!(Heartbeat::decode(&datagram, &ours()), Err(RefusedDatagram::Forged));
        let other_use = ClusterKey::from_bytes(b"0123456789abcdef0123456789abcdef").unwrap();
        let datagram = heartbeat().encode(&other_use.derive("another use")).unwrap();
        assert_eq!(Heartbeat::decode(&datagram, &ours()), Err(RefusedDatagram::Forged));
    }

    #[test]
    fn what_is_signed_but_makes_no_sense_is_refused() {
        let message = {
            let mut datagram = heartbeat().encode(&ours()).unwrap();
            datagram.truncate(datagram.len() - MAC_BYTES);
            datagram
        };
        let with = |at: usize, value: u8| {
            let mut message = message.clone();
            message[at] = value;
            Heartbeat::decode(&signed(message), &ours())
        };
        assert_eq!(with(6, 2), Err(RefusedDatagram::Malformed), "a leadership that is not there");
        assert_eq!(with(6, 255), Err(RefusedDatagram::Malformed), "more leaderships than fit");
        assert_eq!(with(7, 2), Err(RefusedDatagram::Malformed), "a nonce that is not there");
        assert_eq!(with(7, 255), Err(RefusedDatagram::Malformed), "more nonces than fit");
        assert_eq!(with(11, 0), Err(RefusedDatagram::Malformed), "node 0");
        assert_eq!(with(56, 2), Err(RefusedDatagram::Malformed), "neither active nor not");
        for (at, what) in [(12, "incarnation"), (20, "sequence"), (48, "term")] {
            assert_eq!(with(at, 0x10), Err(RefusedDatagram::Malformed), "{what} 2^60 and more");
            assert_eq!(with(at + 1, 0x20), Err(RefusedDatagram::Malformed), "{what} 2^53 and more");
            assert!(with(at + 1, 0x1f).is_ok(), "{what} below");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_ignored() {
        let mut message = heartbeat().encode(&ours()).unwrap();
        message.truncate(message.len() - MAC_BYTES);
        message[5] |= 0x80;
        message.extend([1, 2, 3]);
        assert_eq!(Heartbeat::decode(&signed(message), &ours()), Ok(heartbeat()));
    }

    #[test]
    fn left_ports_are_named_as_far_as_there_is_room_and_a_cut_list_is_refused() {
        let ranges = (1..=60).map(|n| (Protocol::Tcp, 10 * n, 10 * n + 1)).collect();
        let services = vec![([10, 0, 0, 100].into(), (Protocol::Tcp, 80))];
        let left = LeftPorts { record: (3, 4), ranges, services };
        let mut named = Heartbeat { left: Some(left.clone()), ..heartbeat() };
        let datagram = named.encode(&ours()).unwrap();
        assert_eq!(Heartbeat::decode(&datagram, &ours()), Ok(named.clone()));
        let mut message = datagram;
        message.truncate(message.len() - MAC_BYTES - 1);
        assert_eq!(Heartbeat::decode(&signed(message), &ours()), Err(RefusedDatagram::Malformed));
        named.leaderships = vec![named.leaderships[0]; MAX_LEADERSHIPS];
        named.seen = vec![named.seen[0]; MAX_SEEN];
        let datagram = named.encode(&ours()).unwrap();
        assert!(datagram.len() <= MAX_BYTES);
        let read = Heartbeat::decode(&datagram, &ours()).unwrap().left.unwrap();
        assert_eq!((read.record, read.ranges.len()), ((3, 4), 9));
        assert_eq!(read.ranges, left.ranges[..9]);
    }

    #[test]
    fn a_full_heartbeat_fits_and_a_fuller_one_is_an_error() {
        let mut full = heartbeat();
        full.leaderships = vec![full.leaderships[0]; MAX_LEADERSHIPS];
        full.seen = vec![full.seen[0]; MAX_SEEN];
        let datagram = full.encode(&ours()).unwrap();
        assert!(datagram.len() <= MAX_BYTES, "{} bytes", datagram.len());
        assert_eq!(Heartbeat::decode(&datagram, &ours()), Ok(full.clone()));
        full.seen.push(full.seen[0]);
        assert_eq!(full.encode(&ours()), Err(TooMany { leaderships: 16, seen: 9 }));
    }

    #[test]
    fn no_two_nonces_are_the_same() {
        assert_ne!(Nonce::random().unwrap(), Nonce::random().unwrap());
        assert_eq!(format!("{:?}", Nonce([1; 16])), format!("Nonce({})", "01".repeat(16)));
    }

    fn any_nonce() -> impl Strategy<Value = Nonce> {
        any::<[u8; 16]>().prop_map(Nonce)
    }

    fn any_leadership() -> impl Strategy<Value = Leadership> {
        (any::<u32>(), 0..=counter::LAST, any::<bool>())
            .prop_map(|(set, term, active)| Leadership { set, term, active })
    }

    prop_compose! {
        fn any_heartbeat()(
            node in 1..=u32::MAX,
            incarnation in 0..=counter::LAST,
            sequence in 0..=counter::LAST,
            nonce in any_nonce(),
            leaving in any::<bool>(),
            cannot_carry in any::<bool>(),
            leaderships in vec(any_leadership(), 0..=MAX_LEADERSHIPS),
            seen in vec((any::<u32>(), any_nonce()), 0..=MAX_SEEN),
        ) -> Heartbeat {
            let seen = seen.into_iter().map(|(node, nonce)| SeenNonce { node, nonce }).collect();
            let left = None;
            Heartbeat { node, incarnation, sequence, nonce, leaving, cannot_carry, left, leaderships, seen }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(heartbeat in any_heartbeat()) {
            let datagram = heartbeat.encode(&ours()).unwrap();
            prop_assert!(datagram.len() <= MAX_BYTES);
            prop_assert_eq!(Heartbeat::decode(&datagram, &ours()), Ok(heartbeat));
        }

        #[test]
        fn a_change_anywhere_is_refused(heartbeat in any_heartbeat(), at in any::<usize>(), by in 1..=255u8) {
            let mut datagram = heartbeat.encode(&ours()).unwrap();
            let at = at % datagram.len();
            datagram[at] ^= by;
            prop_assert!(Heartbeat::decode(&datagram, &ours()).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in vec(any::<u8>(), 0..600), sign: bool) {
            let head = bytes.len().min(5);
            bytes[..head].copy_from_slice(&b"cvip\x01"[..head]);
            if sign {
                bytes = signed(bytes);
            }
            if let Ok(heartbeat) = Heartbeat::decode(&bytes, &ours()) {
                prop_assert!(sign);
                // What is understood is said again the same way, but for a later version's part.
                let again = heartbeat.encode(&ours()).unwrap();
                prop_assert_eq!(Heartbeat::decode(&again, &ours()), Ok(heartbeat));
            }
        }
    }
}
