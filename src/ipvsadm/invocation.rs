//! What a command line asks for, as types: nothing in here can be contradictory any more.

use crate::ipvs::{Change, ServiceId};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Change the kernel's table.
    Change(Change),
    /// Show something.
    List(List),
    /// Print the table as commands.
    Save {
        /// Without names.
        numeric: bool,
    },
    /// Carry out the commands on standard input.
    Restore,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// What is shown.
    pub what: Listing,
    /// Without names.
    pub numeric: bool,
    /// As JSON.
    pub json: bool,
}

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The connections, and with `true` their persistence engines' data.
    Connections(bool),
    /// The time-outs.
    Timeouts,
    /// The synchronisation daemons.
    Daemons,
    /// The table, or one service of it.
    Table {
        /// The one service.
        service: Option<ServiceId>,
        /// Which columns.
        columns: Columns,
        /// Counters in full.
        exact: bool,
        /// Sorted, rather than in the kernel's order.
        sorted: bool,
    },
}

/// The columns of a listing of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Forwarding, weight, connections.
    Default,
    /// Totals.
    Stats,
    /// The same per second.
    Rate,
    /// Connection thresholds.
    Thresholds,
    /// Persistent connections.
    Persistent,
    /// Encapsulation.
    Tunnels,
}

impl List {
    /// What no argument at all shows: the whole table, sorted, with names.
    pub const ALL: List = List {
        what: Listing::Table {
            service: None,
            columns: Columns::Default,
            exact: false,
            sorted: true,
        },
        numeric: false,
        json: false,
    };
}
