//! The address manager: the node's addresses and settings in its own kernel, made, looked at,
//! repaired, renewed, announced and given back.
//!
//! It is a worker of its own, woken by the kernel's notifications, since an active director's
//! addresses end unless they are renewed in time: it waits for no other thread.
//!
//! ```text
//!   messages    what it is told, and what it tells
//!   driver      makes, looks, renews and announces as it is told                 kernel
//!   state       what is to be done, told and logged, after each message and outcome   pure
//!   recording   how it is recorded and replayed                                  pure
//!   upkeep      when addresses and settings are made, looked at, renewed         pure
//!   capability  whether this director can carry its CVIPs                        pure
//! ```

mod capability;
mod driver;
pub(crate) mod messages;
pub(crate) mod recording;
pub(crate) mod state;
mod upkeep;

pub(super) use driver::AddressManager;
pub(super) use messages::{AddressMessage, AddressNotice};
