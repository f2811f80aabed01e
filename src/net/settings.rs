//! Makes the kernel what the desired settings say, records what it made, and undoes it.
//!
//! What was right already is another program's or the administrator's: it is left alone, and never
//! undone. What was changed by others after this program made it is theirs from then on.
//!
//! ```text
//!   address, link, sysctl   how each kind of resource is made, checked and undone
//!   kernel                  what links and addresses the kernel has
//!   record                  what was made, in a file
//!   driver                  the owner that composes them
//! ```

mod address;
mod driver;
mod kernel;
mod link;
mod record;
mod sysctl;

pub use driver::{NetworkSettings, SettingsSnapshot};
pub use kernel::Incapable;
