//! What a command line asks for, as types: nothing in here can be contradictory any more.

use std::ffi::OsString;
use std::time::Duration;

use super::edit::Edit;
use super::filter::Filter;
use super::restore::Comments;
use crate::ipvs::{Change, DestinationId, Family, ServiceId};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Change the kernel's table.
    Change(Change),
    /// Change what is named of an entry, and keep the rest.
    Edit(Edit),
    /// Drain a real server, and delete it.
    Drain(DrainRequest),
    /// Show something.
    List(List),
    /// Print the table as commands.
    Save(Save),
    /// Carry out the commands on standard input.
    Restore(Restoring),
    /// Make the table what a file describes.
    Apply {
        /// Where the commands stand.
        from: Source,
        /// Only print the changes.
        dry_run: bool,
    },
    /// Print the changes that would make the table what a file describes.
    Diff(Source),
    /// Add what a JSON document holds.
    RestoreJson {
        /// Where the document stands.
        from: Source,
        /// Only read it.
        check: bool,
    },
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Which real server is drained, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// The virtual service.
    pub service: ServiceId,
    /// The real server.
    pub server: DestinationId,
    /// After which it is deleted with the connections that are left; never without.
    pub deadline: Option<Duration>,
    /// Show the progress, also where there is no terminal.
    pub progress: bool,
    /// Print how it ended as JSON.
    pub json: bool,
}

/// What of the table is saved, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Save {
    /// Without names.
    pub numeric: bool,
    /// With thresholds, time-outs and daemons.
    pub full: bool,
    /// This service alone.
    pub service: Option<ServiceId>,
    /// The services of this family alone.
    pub family: Option<Family>,
    /// The file that is replaced; standard output without.
    pub to: Option<OsString>,
}

/// How a restore deals with what fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoring {
    /// As the original: a wrong argument ends it, the last line makes the status.
    Original,
    /// Naming what fails, with an honest status.
    Reporting(Failing),
    /// Reading every line and doing nothing; with the comments that it would take.
    Checking(Comments),
}

/// What follows a line that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// What the original does: a wrong argument ends the restore, nothing else does.
    AsEver,
    /// The next line.
    GoOn,
    /// Nothing.
    Stop,
}

/// Where something is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On standard input.
    Stdin,
    /// In a file.
    File(OsString),
}

/// How often a listing is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// The time between two listings.
    pub every: Duration,
    /// How many there are; for ever without.
    pub rounds: Option<u32>,
}

/// A listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What is shown.
    pub what: ListingChoice,
    /// Without names.
    pub numeric: bool,
    /// As JSON.
    pub json: bool,
    /// Again and again, with what happened in between.
    pub watch: Option<WatchOptions>,
}

/// What a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListingChoice {
    /// The connections.
    Connections {
        /// With their persistence engines' data.
        engines: bool,
        /// Which of them.
        filter: Filter,
    },
    /// The counters of all services together.
    Totals {
        /// Counters in full.
        exact: bool,
    },
    /// How full the kernel's tables are.
    Status,
    /// The time-outs.
    Timeouts,
    /// The synchronisation daemons.
    Daemons,
    /// The table, or one service of it.
    Table {
        /// The one service.
        service: Option<ServiceId>,
        /// Which columns.
        columns: ColumnChoice,
        /// Counters in full.
        exact: bool,
        /// Sorted, rather than in the kernel's order.
        sorted: bool,
    },
}

/// The columns of a listing of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnChoice {
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
        what: ListingChoice::Table {
            service: None,
            columns: ColumnChoice::Default,
            exact: false,
            sorted: true,
        },
        numeric: false,
        json: false,
        watch: None,
    };
}
