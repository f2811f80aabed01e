//! ICMP and ICMPv6 echo to many machines at once: is a machine's kernel alive, with only its cvipd
//! down?
//!
//! An answer counts only if it comes from the machine that was asked and repeats a sequence
//! number and 16 random bytes of a question that is still open: an attacker who has not seen the
//! question cannot forge it. Nothing here waits, and nothing is repeated by itself: the caller asks
//! as often as it wants to know.
//!
//! Sockets for this need no privilege where `net.ipv4.ping_group_range` contains the caller's
//! group (icmp(7)); where not, raw sockets do.
//!
//! ```text
//!   wire     an echo request as bytes, and what bytes are an answer    pure
//!   state    which questions are open, and which machines answered     pure
//!   driver   the sockets                                               kernel
//! ```

mod driver;
mod state;
mod wire;

pub use driver::EchoProber;
pub use wire::EchoAccess;
