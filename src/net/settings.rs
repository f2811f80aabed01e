//! Makes the kernel what the desired settings say, records what it made, and undoes it.
//!
//! What was right already is another program's or the administrator's: it is left alone, and never
//! undone. What was changed by others after this program made it is theirs from then on.
//!
//! ```text
//!   address, link, sysctl   how each kind of resource is made, checked and undone
//!   snapshot                what links and addresses the kernel has
//!   record                  what was made, in a file
//!   host                    what they need of the host
//!   state                   the owner that composes them
//!   driver                  this host
//! ```

mod address;
mod driver;
mod host;
mod link;
mod record;
mod snapshot;
mod state;
mod sysctl;

pub use driver::ThisHost;
pub use host::NetworkHost;
pub use record::SettingsRecord;
pub use snapshot::Incapable;
pub use state::{NetworkSettings, SettingsSnapshot};
