//! `--wait`: follows a drain until the director has taken the destinations out.
//!
//! On the active director the kernel's table says it. On any other host it is the node's record:
//! the node counts the connections on its drained ports, and connections that the director has
//! cut are no longer of interest once the deadline is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::super::super::Streams;
use super::target::{DrainArgument, concerns, served};
use crate::clock::Instant;
use crate::conf::model::DEFAULT_DRAIN_TIMEOUT;
use crate::conf::{Conf, DirectorSet};
use crate::director::settings::service_key;
use crate::interrupts::Interrupts;
use crate::ipvs::{self, Client, ServiceId};
use crate::store::{DrainTarget, ServiceKey, Store, StoreState, drain_of};

/// The kernel does not tell of its changes: it is asked this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where there is no terminal, no two lines come faster.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// A director looks at its drains twice a second: after the deadline it is given this long.
const GRACE: Duration = Duration::from_secs(2);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// It is out, and has no connections.
    Out,
    /// The deadline is over: the director has cut what was left.
    Cut,
    /// The operator would not wait any longer.
    Interrupted,
    /// The order was taken back.
    Undrained,
}

impl Ended {
    pub(super) fn is_out(self) -> bool {
        matches!(self, Ended::Out | Ended::Cut)
    }

    pub(super) fn words(self, target: &str) -> String {
        match self {
            Ended::Out => format!("node {target} is out"),
            Ended::Cut => format!(
                "the deadline of node {target} is over: the director cuts the connections that the \
                 node still counts"
            ),
            Ended::Interrupted => format!(
                "no longer waiting: node {target} stays drained; `cvipctl drain {target} --wait` waits \
                 again, `cvipctl undrain {target}` takes it back"
            ),
            Ended::Undrained => {
                format!("node {target} was undrained meanwhile: see `cvipctl events`")
            }
        }
    }
}

/// What is left, as one look shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// In the kernel's table of the active director.
    Table { destinations: usize, active: u64, inactive: u64 },
    /// By the node's record: ports of which it has not said yet that they are drained, and the
    /// connections on those of which it has.
    Record { unseen: usize, connections: u64 },
    /// By the records: an active director whose table does not obey the order yet.
    Disobeyed { director: u32 },
}

impl Remaining {
    fn connections(&self) -> u64 {
        match self {
            Remaining::Table { active, inactive, .. } => active + inactive,
            Remaining::Record { connections, .. } => *connections,
            Remaining::Disobeyed { .. } => 0,
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Remaining::Table { destinations, .. } => *destinations == 0,
            Remaining::Record { unseen, connections } => *unseen == 0 && *connections == 0,
            Remaining::Disobeyed { .. } => false,
        }
    }
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |count: u64| if count == 1 { "" } else { "s" };
        match self {
            Remaining::Table { destinations: 0, .. } => write!(f, "no destination is left"),
            Remaining::Table { destinations, active, inactive } => write!(
                f,
                "{} connection{} left ({active} active, {inactive} inactive), \
                 {destinations} destination{}",
                active + inactive,
                s(active + inactive),
                s(*destinations as u64)
            ),
            Remaining::Record { unseen: 0, connections } => {
                write!(f, "{connections} connection{} left", s(*connections))
            }
            Remaining::Disobeyed { director } => {
                write!(f, "waiting for the director, node {director}, to take it out")
            }
            Remaining::Record { unseen, .. } => {
                write!(f, "waiting for the node to tell of {unseen} port{}", s(*unseen as u64))
            }
        }
    }
}

/// A drain that is followed.
pub(super) struct Wait<'a> {
    conf: &'a Conf,
    node: u32,
    orders: &'a [DrainTarget],
    /// The kernel's table, if this host is the active director.
    table: Option<WaitTable<'a>>,
    /// Why not, if it is and the kernel says nothing.
    problem: Option<ipvs::IpvsError>,
    since: Instant,
}

impl<'a> Wait<'a> {
    /// `me` is this host's node number, if it has one; `since` when the order was written.
    pub(super) fn new(
        conf: &'a Conf,
        node: u32,
        orders: &'a [DrainTarget],
        me: Option<u32>,
        store: &dyn Store,
        since: Instant,
    ) -> Wait<'a> {
        let directs = me.is_some_and(|me| directs_all_of(node, me, conf, store.state()));
        // Without the right to read the kernel's table, it is as on another host.
        let client = directs.then(|| {
            let mut client = Client::open()?;
            client.services().map(|_| client)
        });
        let (client, problem) = match client.transpose() {
            Ok(client) => (client, None),
            Err(error) => (None, Some(error)),
        };
        let table = client.map(|client| WaitTable { client, conf, node, orders, ids: Vec::new() });
        Wait { conf, node, orders, table, problem, since }
    }

    /// Waits, and shows what is left.
    pub(super) fn run(
        mut self,
        store: &mut dyn Store,
        interrupts: &Interrupts,
        mut meter: Meter,
        streams: &mut Streams<'_>,
    ) -> anyhow::Result<Ended> {
        if !matches!(meter, Meter::Task { .. }) {
            streams.progress.end();
        }
        if let Some(error) = self.problem.take() {
            writeln!(
                streams.err,
                "cvipctl: the kernel's table is not read, the node's record is: {error}"
            )?;
        }
        loop {
            store.refresh()?;
            let now = Instant::now();
            let (left, ended) = self.look(store.state(), now)?;
            let interrupted = interrupts.came().then_some(Ended::Interrupted);
            if let Some(ended) = ended.or(interrupted) {
                meter.end(left, ended, streams)?;
                return Ok(ended);
            }
            meter.show(left, now, streams)?;
            let wakers = [interrupts.as_fd(), store.wakeup()];
            let mut polled = wakers.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::MAX);
            match poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("poll"),
            }
        }
    }

    /// What is left, and whether that is the end of it.
    fn look(
        &mut self,
        state: &StoreState,
        now: Instant,
    ) -> anyhow::Result<(Remaining, Option<Ended>)> {
        let left = match &mut self.table {
            Some(table) => table.look(state)?,
            None => match self.disobedient(state) {
                Some(director) => Remaining::Disobeyed { director },
                None => self.recorded(state),
            },
        };
        let taken_back = self.orders.iter().any(|order| !state.drains.contains_key(order));
        let cut = self.table.is_none()
            && !matches!(left, Remaining::Disobeyed { .. })
            && now.duration_since(self.since) >= self.deadline(state).saturating_add(GRACE);
        let ended = match left.is_nothing() {
            _ if taken_back => Some(Ended::Undrained),
            true => Some(Ended::Out),
            false => cut.then_some(Ended::Cut),
        };
        Ok((left, ended))
    }

    /// The services that are drained, of those that the node serves.
    fn services(&self, state: &StoreState) -> impl Iterator<Item = ServiceKey> {
        let served = served(self.node, self.conf, state);
        served.into_iter().filter(|key| concerns(self.orders, *key))
    }

    /// An active director of the node's CVIPs that does not live, or whose record does not say
    /// that its table obeys.
    fn disobedient(&self, state: &StoreState) -> Option<u32> {
        let obeys = |director: &u32| {
            let record = state.nodes.get(director).filter(|_| state.alive.contains_key(director));
            record.is_some_and(|r| self.orders.iter().all(|order| r.obeys.contains(order)))
        };
        let of_node = |set: &DirectorSet| {
            let mut cvips = set.cvips.iter().filter_map(|addr| self.conf.cvip(*addr));
            cvips.any(|cvip| cvip.real_server(self.node).is_some())
        };
        let sets = self.conf.director_sets();
        let mut directors =
            sets.iter().filter(|set| of_node(set)).filter_map(|s| elected(s, state));
        directors.find(|director| !obeys(director))
    }

    /// What the node's record says. A node that never wrote one serves nothing.
    fn recorded(&self, state: &StoreState) -> Remaining {
        let Some(record) = state.nodes.get(&self.node) else {
            return Remaining::Record { unseen: 0, connections: 0 };
        };
        let counted: BTreeMap<_, u64> =
            record.lingering.iter().map(|l| ((l.protocol, l.port), l.connections.into())).collect();
        let mut ports: Vec<_> = self.services(state).map(|k| (k.protocol, k.port)).collect();
        // Those that have left meanwhile are counted until no client is connected.
        let ordered = |port| self.orders.iter().any(|o| o.port.is_none_or(|of| of == port));
        ports.extend(counted.keys().copied().filter(|port| ordered(*port)));
        ports.sort_unstable();
        ports.dedup();
        Remaining::Record {
            unseen: ports.iter().filter(|port| !counted.contains_key(port)).count(),
            connections: ports.iter().filter_map(|port| counted.get(port)).sum(),
        }
    }

    /// The longest that the director waits for connections.
    fn deadline(&self, state: &StoreState) -> Duration {
        let of = |key: ServiceKey| {
            let ordered = drain_of(&state.drains, self.node, key)?.deadline_s;
            let service =
                self.conf.cvip(key.cvip).and_then(|cvip| cvip.service_for(key.protocol, key.port));
            let own = || service.map_or(DEFAULT_DRAIN_TIMEOUT, |service| service.drain_timeout);
            Some(ordered.unwrap_or_else(own))
        };
        let longest = self.services(state).filter_map(of).max();
        Duration::from_secs(longest.unwrap_or(DEFAULT_DRAIN_TIMEOUT).into())
    }
}

/// The director that a set has elected, or the first, where none was yet.
pub(super) fn elected(set: &DirectorSet, state: &StoreState) -> Option<u32> {
    let name = set.directors.iter().min()?;
    let elected = state.directors.get(name).map(|elected| elected.node);
    elected.or_else(|| set.directors.first().copied())
}

/// True if this host's kernel has the table of all CVIPs of a node. A standby's table is made
/// by what was synchronised to it, which is not all.
fn directs_all_of(node: u32, me: u32, conf: &Conf, state: &StoreState) -> bool {
    let sets = conf.director_sets();
    let mut cvips = conf.cvips.iter().filter(|cvip| cvip.real_server(node).is_some()).peekable();
    cvips.peek().is_some()
        && cvips.all(|cvip| {
            let set = sets.iter().find(|set| set.cvips.contains(&cvip.addr));
            set.and_then(|set| elected(set, state)) == Some(me)
        })
}

/// A node's destinations in this host's kernel.
struct WaitTable<'a> {
    client: Client,
    conf: &'a Conf,
    node: u32,
    orders: &'a [DrainTarget],
    /// The services that had one of them, when they were last looked at.
    ids: Vec<ServiceId>,
}

impl WaitTable<'_> {
    fn look(&mut self, state: &StoreState) -> anyhow::Result<Remaining> {
        let left = self.count()?;
        if !left.is_nothing() {
            return Ok(left);
        }
        // Nothing is out before a look at the whole table shows it.
        self.ids = self.client.services()?.iter().map(|entry| entry.service.id).collect();
        let owned: BTreeSet<ServiceKey> = state.owned.values().flatten().copied().collect();
        self.ids.retain(|id| {
            service_key(*id).is_some_and(|key| owned.contains(&key) && concerns(self.orders, key))
        });
        self.count()
    }

    /// Counts the connections, and forgets the services in which there is nothing left.
    fn count(&mut self) -> anyhow::Result<Remaining> {
        let (mut destinations, mut active, mut inactive) = (0, 0, 0);
        let mut still = Vec::new();
        for id in std::mem::take(&mut self.ids) {
            let Some(addr) = self.addr_in(id) else { continue };
            for entry in self.client.destinations(&id)? {
                if entry.destination.id.addr == addr {
                    destinations += 1;
                    active += u64::from(entry.active);
                    inactive += u64::from(entry.inactive);
                    still.push(id);
                }
            }
        }
        self.ids = still;
        Ok(Remaining::Table { destinations, active, inactive })
    }

    /// The node's address behind a service.
    fn addr_in(&self, id: ServiceId) -> Option<IpAddr> {
        let cvip = self.conf.cvip(service_key(id)?.cvip)?;
        cvip.real_server(self.node).map(|server| server.addr)
    }
}

/// How progress is shown.
pub(super) enum Meter {
    /// A bar on the terminal: as much of it as has gone of the most that was seen.
    Bar(ProgressBar),
    /// A line for each change, but not too many.
    Lines { last: Option<(Remaining, Instant)> },
    /// As the task of the command: standard output is for a document.
    Task { target: String },
}

impl Meter {
    /// What suits the output.
    pub(super) fn of(json: bool, target: &DrainArgument) -> Meter {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Meter::Task { target: target.to_string() },
            (false, true) => Meter::bar(ProgressDrawTarget::stderr()),
            (false, false) => Meter::Lines { last: None },
        }
    }

    fn bar(target: ProgressDrawTarget) -> Meter {
        let style = ProgressStyle::with_template("[{wide_bar}] {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Meter::Bar(bar.with_style(style.progress_chars("=> ")))
    }

    fn show(
        &mut self,
        left: Remaining,
        now: Instant,
        streams: &mut Streams<'_>,
    ) -> anyhow::Result<()> {
        match self {
            Meter::Bar(bar) => advance(bar, left),
            Meter::Lines { last } => {
                let due = last.is_none_or(|(before, at)| {
                    before != left && now.duration_since(at) >= LINE_EVERY
                });
                if due {
                    *last = Some((left, now));
                    writeln!(streams.out, "{left}")?;
                    streams.out.flush()?;
                }
            }
            Meter::Task { target } => {
                streams.progress.say(format!("cvipctl: draining node {target}: {left}"));
            }
        }
        Ok(())
    }

    fn end(self, left: Remaining, ended: Ended, streams: &mut Streams<'_>) -> anyhow::Result<()> {
        match self {
            Meter::Bar(bar) => {
                advance(&bar, left);
                match ended {
                    Ended::Out => bar.finish(),
                    _ => bar.abandon(),
                }
            }
            Meter::Lines { .. } => writeln!(streams.out, "{left}")?,
            Meter::Task { .. } => {}
        }
        Ok(())
    }
}

fn advance(bar: &ProgressBar, left: Remaining) {
    let connections = left.connections();
    let most = bar.length().unwrap_or(0).max(connections);
    bar.set_length(most.max(1));
    bar.set_position(most.max(1) - connections);
    bar.set_message(left.to_string());
    bar.tick();
}

#[cfg(test)]
mod tests;
