//! Which director is active: the rules by which one claims, takes over and yields. Pure.
//!
//! The store decides: the holder of the highest term of the set's election is the active director,
//! and a claim is a compare-and-swap of that term. Heartbeats only show when a claim is worth
//! making, and carry terms past a store that is unavailable. So:
//!
//! - A standby claims when the elected director is no longer heard, in cvip.conf's order among the
//!   standbys that live. One that suspects its own link claims nothing. While the store is
//!   unavailable no claim is possible, and nothing changes.
//! - The active director yields to a higher term and to nothing else: neither a lease that ended
//!   nor an unavailable store makes it yield. (While the store is unavailable it also yields to
//!   another host that was proved to answer for the CVIP.)
//! - There is no fail-back: the elected director stays so until it is no longer heard, ends, is
//!   asked to hand over, or cannot carry the CVIPs.
//! - A director that cannot carry the CVIPs (its interface has no carrier, say) hands over while
//!   another lives that can, and claims nothing while another lives that can. If none can, nothing
//!   changes for that.

mod messages;
mod pace;
mod state;

pub use messages::{ElectionAction, ElectionInput, ElectionPeer, ElectionRole, PeerLiveness};
pub use state::{Election, VOUCH_EVERY};
