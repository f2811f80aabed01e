//! The director's agent: it follows the store and keeps the kernel's table as it is desired.
//!
//! A change of one node's record touches that node's services; a full pass at start, on a change of
//! flags or configuration, after a failure and once a minute repairs everything else, and a cheap
//! look once a second shows which services another program changed. Stopping changes nothing: the
//! table goes on, and the next start adopts it.
//!
//! ```text
//!   state      when what is read, and what follows from it                    pure
//!   cluster    what is known of the cluster, and which services it touches    pure
//!   driver     carries out what the state asks for, and tells it what became of that
//!   messages   what passes between the two, and what a pass reports
//!   recording  how the state is recorded and replayed
//! ```

mod cluster;
mod driver;
pub(crate) mod messages;
mod recording;
pub(crate) mod state;
mod times;

pub use driver::DirectorAgent;
pub use messages::PassReport;
