//! What the address manager is told, and what it tells the main thread.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::conf::Conf;
use crate::net::{AddressRole, Reachable};

/// What the address manager is told.
#[derive(Serialize, Deserialize)]
pub enum AddressMessage {
    /// The node's role: its addresses and settings are made, and [`AddressNotice::Stand`] says so.
    Take {
        /// The role.
        role: AddressRole,
        /// The configuration in force.
        conf: Arc<Conf>,
        /// The number of this message.
        number: u64,
    },
    /// Another configuration, for a node that does not know its role yet.
    Reload(Arc<Conf>),
    /// Another director is active: the addresses are given back at once, whatever the main thread
    /// does at the moment, and no role makes this one active before [`AddressMessage::Elected`].
    Yield,
    /// This director is the active one: a role may make it so from now on.
    Elected,
    /// Another host claims an address of this active director: its addresses are announced again.
    Announce,
    /// Undo everything that was made here and that no other program changed since;
    /// [`AddressNotice::Undone`] says that it is done.
    Undo,
}

/// What it tells the main thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressNotice {
    /// What the [`AddressMessage::Take`] of this number asked for is made, but for what is told as a fault.
    Stand(u64),
    /// It touches no address until it is told its role again: another may be active by now.
    Doubt,
    /// The addresses that this node carries as the active director, and announces: all of them.
    Announced(Vec<Reachable>),
    /// This node can carry the CVIPs of its set, or cannot.
    Carries(bool),
    /// What is wrong with addresses and settings, all of it, as sentences.
    Faults(Vec<String>),
    /// Addresses and settings were given back, as [`AddressMessage::Undo`] asked.
    Undone,
}
