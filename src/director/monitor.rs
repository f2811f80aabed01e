//! A director's monitor: it follows which nodes live, and which director of its set is active.
//!
//! It has a thread apart from the table's, so that a long pass over a large table delays no
//! takeover. What it finds leaves it as [`MonitorNotice`]s: restrictions for the table, the role
//! for the address manager and the supervisor, and what heartbeats say.
//!
//! ```text
//!   state         all decisions, put together                                     pure
//!   store_view    what it keeps of the store                                      pure
//!   nodes         liveness of the other nodes, and of this director's own link    pure
//!   probes        which nodes and servers are asked, and what they answered       pure
//!   candidacy     this director's place in its set: claims, role, hand-over       pure
//!   terms         the terms that outlive it, and whether they are written         pure
//!   vouching      how a director that is not heard shows that it is there         pure
//!   conflicts     other hosts that claim its addresses                            pure
//!   messages      what crosses its boundary
//!   recording     how it is recorded and replayed                                 pure
//!   wire          the file of terms
//!   driver        sockets, store and file                                         kernel
//!   receiver      the socket on which heartbeats are heard                        kernel
//!   conflict_watches   the sockets that hear claims of addresses                  kernel
//! ```

pub(crate) mod candidacy;
mod conflict_watches;
pub(crate) mod conflicts;
mod driver;
pub(crate) mod messages;
mod nodes;
mod probes;
mod receiver;
pub(crate) mod recording;
pub(crate) mod state;
pub(crate) mod store_view;
mod terms;
mod vouching;
pub(crate) mod wire;

pub use driver::Monitor;
pub use messages::{MonitorCommand, MonitorIdentity, MonitorNotice, MonitorView};
pub use state::{order, set_of};
