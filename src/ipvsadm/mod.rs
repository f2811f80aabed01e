//! ipvsadm's command language over [`crate::ipvs`]: a drop-in for ipvsadm 1.31.
//!
//! The path of one invocation:
//!
//! ```text
//! words --popt--> options --args--> Invocation --run--> Table  (kernel, lazily opened)
//!                                        |                |
//!                                        +--listing/save--+--> text, or documents
//! ```
//!
//! [`options`] declares the language once: parser, `--help`, and `cargo xtask gen`, which makes
//! man page and completions, all read that one table. [`run()`] is the whole program as a
//! function: it writes to the writers that it is given and returns the exit status; nothing here prints, exits or reads the environment.
//!
//! What differs from the original on purpose is listed in ipvsadm-rs(8), section COMPATIBILITY.

pub mod address;
pub mod args;
mod argument_error;
mod change;
pub mod columns;
pub mod connections;
pub mod documents;
pub mod drain;
pub mod edit;
mod errno;
pub mod errors;
pub mod filter;
pub mod from_json;
pub mod help;
pub mod invocation;
mod line;
pub mod listing;
pub mod names;
mod option_checks;
pub mod options;
pub mod popt;
pub mod proc_table;
mod resolver;
pub mod restore;
pub mod rules;
pub mod run;
pub mod save;
pub mod sort;
pub mod table;
pub mod totals;
pub mod watch;

pub use change::change_line;
pub use run::{Call, ToolStreams, run};
