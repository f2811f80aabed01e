//! The main thread: it supervises the workers, and does nothing else.
//!
//! ```text
//!   state       what the node is, what follows from it, reload and end   pure
//!   role        the node's role, as elections change it                  pure
//!   hand_over   another director is to take over                         pure
//!   leave       the node leaves the cluster for good                     pure
//!   role_hooks  which changes of role hooks are told, and waited for     pure
//!   takeover    how long it takes to become the active director         pure
//!   messages    what goes into the state and comes out
//!   settings    what the command line says
//!   signals     SIGTERM, SIGINT and SIGHUP, held back from the first moment on
//!   start       what there is before the first decision
//!   watchdog    when the service manager's watchdog is fed               pure
//!   driver      signals, messages and time go in, actions go out
//! ```

mod driver;
mod hand_over;
mod leave;
pub(crate) mod messages;
pub(crate) mod recording;
mod role;
mod role_hooks;
mod settings;
mod signals;
mod start;
pub(crate) mod state;
mod takeover;
mod watchdog;

pub(super) use role::ACTIVE;
pub use settings::DaemonSettings;
pub use signals::HeldSignals;
pub use start::{check_start, run};
