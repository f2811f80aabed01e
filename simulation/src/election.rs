//! The election, explored completely in small worlds: two or three directors, a store, heartbeats,
//! and so many faults, each at every time and in every order.
//!
//! Each director is cvipd's own [`Candidacy`](cvip::cores::Candidacy) with its
//! [`Election`](cvip::director::election::Election); the rest is a model that takes the part of
//! the store, the network, the processes and the operator. Time goes in steps of half a second or a
//! second. A world is explored breadth first, with the fewest faults first, and states are known by
//! a hash of all that decides what follows, with times as distances from now.
//!
//! ```text
//!   event        what happens: faults that begin and end, restarts, a step of time
//!   director     one director: cvipd's candidacy, what it hears and reads, its file of terms
//!   world        directors, store, leases and heartbeats; what an event does
//!   properties   what must never be, and how a world must stand once nothing changes any more
//!   search       all states of a world, and the shortest way to one that is wrong
//!   timeline     a way as a table to read
//!   sequences    single sequences of events, and long random ones: tests
//!   worlds       which worlds are explored
//! ```

mod director;
mod event;
mod properties;
mod search;
#[cfg(test)]
mod sequences;
mod timeline;
mod world;
pub mod worlds;

pub use search::{Explored, Progress, Violation, explore};
pub use timeline::Timeline;
pub use world::Setting;
