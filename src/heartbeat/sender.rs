//! When the next heartbeat is due, and what it says.
//!
//! ```text
//!   state    when the next heartbeat is due, and what it says   pure
//!   driver   sends it                                           kernel
//! ```

mod driver;
mod state;

pub use driver::Sender;
pub use state::{HeartbeatContent, HeartbeatSource, SendSchedule};
