//! Hooks: programs of this node's directory that are run when its role changes, or a service's
//! quorum.
//!
//! ```text
//!   messages    what the hooks' thread is told, and what it tells
//!   state       which event's hooks are run next, what is outdated, deadlines    pure
//!   wire        the JSON document on a hook's standard input                     pure
//!   directory   which files are hooks, and which are refused                     files
//!   driver      reads the directory, starts and kills programs                   programs
//! ```

mod directory;
mod driver;
pub(crate) mod messages;
mod state;
mod wire;

pub(super) use driver::HookRunner;
pub(super) use messages::{HookEvent, HookMessage, QuorumChange};
pub use messages::{HookResult, HookRuns, HookView, HooksView, RefusedHook};
