//! The listings: what each fetches, and from where.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::columns::ColumnText;
use super::super::errors::FailedOperation;
use super::super::filter::Filter;
use super::super::invocation::{ColumnChoice, List, ListingChoice, WatchOptions};
use super::super::names::{Names, Numbers};
use super::super::proc_table::ProcTable;
use super::super::table::{Table, TableError};
use super::super::{connections, documents, listing, sort, totals, watch};
use super::{ToolError, ToolSession};
use crate::ipvs::{DestinationEntry, DestinationId, ServiceEntry, ServiceId, Stats};
use crate::json;

/// How much of a file of the kernel's is read at a time, in bytes: for many reads it walks its
/// table from the start each time.
const BLOCK: usize = 64 * 1024;

/// A listing of the table, as it was asked for.
#[derive(Clone, Copy)]
struct Show {
    service: Option<ServiceId>,
    columns: ColumnChoice,
    exact: bool,
    sorted: bool,
    numeric: bool,
    json: bool,
}

impl Show {
    fn extent(&self) -> documents::Extent {
        match self.service {
            Some(_) => documents::Extent::OneService,
            None => documents::Extent::Table,
        }
    }
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    pub(super) fn show(&mut self, list: List) -> (u8, bool) {
        let List { what, numeric, json, watch } = list;
        let result = match what {
            ListingChoice::Connections { engines, filter } => {
                self.list_connections(engines, &filter, numeric, json)
            }
            ListingChoice::Status => self.list_status(json),
            ListingChoice::Timeouts => self.list_timeouts(json),
            ListingChoice::Daemons => self.list_daemons(json),
            ListingChoice::Totals { exact } => match watch {
                Some(watch) => self.watch_totals(exact, json, watch),
                None => self.list_totals(exact, json),
            },
            ListingChoice::Table { service, columns, exact, sorted } => {
                let show = Show { service, columns, exact, sorted, numeric, json };
                match watch {
                    Some(watch) => self.watch_table(show, watch),
                    None if json => self.list_table_as_json(show),
                    None => self.list_table(show),
                }
            }
        };
        self.report(result)
    }

    fn list_table(&mut self, show: Show) -> Result<(), ToolError> {
        if show.service.is_none() {
            let line = listing::version_line(&self.info()?);
            self.out.write_all(line.as_bytes())?;
        }
        let entries = self.entries(show.service, show.sorted, |session| {
            session.out.write_all(listing::title(show.columns).as_bytes())
        })?;
        let mut proc_table = match (show.columns, show.service) {
            (ColumnChoice::Default, None) => self.proc_table(),
            _ => ProcTable::default(),
        };
        let mut text = ColumnText::new();
        for entry in &entries {
            let glimpsed = proc_table.take(&entry.service.id, &entry.service.scheduler);
            let destinations = match glimpsed {
                Some(destinations) if show.sorted => sort::destinations(destinations),
                Some(destinations) => destinations,
                None => self.destinations_of(&entry.service.id, show.sorted)?,
            };
            self.write_service(&mut text, entry, &destinations, show)?;
        }
        Ok(())
    }

    /// `text` is room for the lines, and empty before and after.
    fn write_service(
        &mut self,
        text: &mut ColumnText,
        entry: &ServiceEntry,
        destinations: &[DestinationEntry],
        show: Show,
    ) -> Result<(), ToolError> {
        let Show { columns, exact, .. } = show;
        let protocol = entry.service.id.protocol();
        let names: &mut dyn Names = if show.numeric { &mut Numbers } else { self.names };
        listing::push_service(text, entry, columns, exact, names);
        self.out.write_all(text.as_bytes())?;
        text.clear();
        // The next name may be waited for: what is known is shown meanwhile.
        for destination in destinations {
            listing::push_destination(text, destination, protocol, columns, exact, names);
            self.out.write_all(text.as_bytes())?;
            text.clear();
        }
        Ok(())
    }

    fn list_table_as_json(&mut self, show: Show) -> Result<(), ToolError> {
        let info = if show.service.is_none() { Some(self.info()?) } else { None };
        let entries = self.entries(show.service, show.sorted, |_| Ok(()))?;
        let mut document = documents::TableDocument::begin(self.out, show.extent(), info.as_ref())?;
        for entry in entries {
            let destinations = self.destinations_of(&entry.service.id, show.sorted)?;
            document.push(self.out, &entry, &destinations)?;
        }
        Ok(document.end(self.out)?)
    }

    /// The services of a listing. `title` is written before the whole table is fetched, but
    /// only after a single service was found.
    pub(super) fn entries(
        &mut self,
        service: Option<ServiceId>,
        sorted: bool,
        title: impl FnOnce(&mut Self) -> std::io::Result<()>,
    ) -> Result<Vec<ServiceEntry>, ToolError> {
        let refused = |error| ToolError::Refused(FailedOperation::FindService, error);
        if let Some(id) = service {
            let entry = self.kernel()?.service(&id).map_err(refused)?;
            title(self)?;
            return Ok(vec![entry]);
        }
        title(self)?;
        let entries = self.kernel()?.services().map_err(refused)?;
        Ok(if sorted { sort::services(entries) } else { entries })
    }

    pub(super) fn destinations_of(
        &mut self,
        id: &ServiceId,
        sorted: bool,
    ) -> Result<Vec<DestinationEntry>, ToolError> {
        let refused = |error| ToolError::Refused(FailedOperation::FindService, error);
        let entries = self.kernel()?.destinations(id).map_err(refused)?;
        Ok(if sorted { sort::destinations(entries) } else { entries })
    }

    /// What one reading of the kernel's own listing says; nothing, if it cannot be had.
    pub(super) fn proc_table(&mut self) -> ProcTable {
        let file = self.kernel().ok().and_then(|table| table.proc_table().ok());
        let proc_table = file.map(|file| ProcTable::read(BufReader::with_capacity(BLOCK, file)));
        proc_table.and_then(Result::ok).unwrap_or_default()
    }

    /// Lists what happens, again and again.
    fn watch_table(&mut self, show: Show, watch: WatchOptions) -> Result<(), ToolError> {
        let mut before = CounterValues::new();
        for entry in self.entries(show.service, show.sorted, |_| Ok(()))? {
            let destinations = self.destinations_of(&entry.service.id, show.sorted)?;
            remember(&mut before, &entry, &destinations);
        }
        self.every(watch, |session, time| {
            let mut now = CounterValues::new();
            let entries = session.entries(show.service, show.sorted, |_| Ok(()))?;
            let mut document = match show.json {
                true => Some(documents::TableDocument::begin(session.out, show.extent(), None)?),
                false => {
                    session.out.write_all(listing::title(show.columns).as_bytes())?;
                    None
                }
            };
            let mut text = ColumnText::new();
            for mut entry in entries {
                let mut destinations = session.destinations_of(&entry.service.id, show.sorted)?;
                remember(&mut now, &entry, &destinations);
                since(&before, &mut entry, &mut destinations, time);
                match &mut document {
                    Some(document) => document.push(session.out, &entry, &destinations)?,
                    None => session.write_service(&mut text, &entry, &destinations, show)?,
                }
            }
            before = now;
            Ok(document.map_or(Ok(()), |document| document.end(session.out))?)
        })
    }

    /// Calls `round` after every interval with the time that has passed, until there were
    /// enough, no process reads on, or one fails.
    fn every(
        &mut self,
        watch: WatchOptions,
        mut round: impl FnMut(&mut Self, Duration) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        let mut last: Instant = self.clock.now();
        let mut next = last + watch.every;
        let mut rounds = 0;
        while watch.rounds.is_none_or(|all| rounds < all) {
            let now = self.clock.now();
            self.clock.sleep(next.saturating_duration_since(now));
            let now = self.clock.now();
            round(self, now.saturating_duration_since(last))?;
            self.out.flush()?;
            last = now;
            // A reading that took longer than the interval is not caught up with.
            next = (next + watch.every).max(now);
            rounds += 1;
        }
        Ok(())
    }

    fn read_totals(&mut self) -> Result<Stats, ToolError> {
        let failed = || ToolError::File("cannot read file /proc/net/ip_vs_stats".to_owned());
        let file = self.kernel()?.totals().map_err(|_| failed())?;
        let text = first_block(file).map_err(|_| failed())?;
        totals::parse(&text).ok_or_else(failed)
    }

    fn list_totals(&mut self, exact: bool, as_json: bool) -> Result<(), ToolError> {
        let stats = self.read_totals()?;
        self.write_totals(&stats, exact, as_json)
    }

    fn watch_totals(
        &mut self,
        exact: bool,
        as_json: bool,
        watch: WatchOptions,
    ) -> Result<(), ToolError> {
        let mut before = self.read_totals()?;
        self.every(watch, |session, time| {
            let now = session.read_totals()?;
            let stats = watch::between(&before, &now, time);
            before = now;
            session.write_totals(&stats, exact, as_json)
        })
    }

    fn write_totals(&mut self, stats: &Stats, exact: bool, as_json: bool) -> Result<(), ToolError> {
        if as_json {
            return Ok(json::write_line(self.out, documents::Totals::new(stats))?);
        }
        Ok(self.out.write_all(listing::totals_lines(stats, exact).as_bytes())?)
    }

    fn list_status(&mut self, as_json: bool) -> Result<(), ToolError> {
        let failed = |_| {
            let why = "cannot read file /proc/net/ip_vs_status: Linux 7.1 and later have it";
            ToolError::File(why.to_owned())
        };
        let file = self.kernel()?.status().map_err(failed)?;
        let text = first_block(file).map_err(failed)?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let lines: Vec<(&str, &str)> = lines.map(|(name, value)| (name, value.trim())).collect();
        if as_json {
            let status: BTreeMap<&str, &str> = lines.into_iter().collect();
            return self.write_member("status", status);
        }
        Ok(self.out.write_all(listing::status_lines(&lines).as_bytes())?)
    }

    fn list_timeouts(&mut self, as_json: bool) -> Result<(), ToolError> {
        let timeouts = self.kernel()?.timeouts().map_err(|_| ToolError::RefusedInSilence)?;
        if as_json {
            return self.write_member("timeouts", timeouts);
        }
        Ok(self.out.write_all(listing::timeouts_line(&timeouts).as_bytes())?)
    }

    fn list_daemons(&mut self, as_json: bool) -> Result<(), ToolError> {
        let daemons = self.kernel()?.daemons().map_err(|_| ToolError::RefusedInSilence)?;
        if as_json {
            return self.write_member("daemons", daemons);
        }
        Ok(self.out.write_all(listing::daemon_lines(&daemons).as_bytes())?)
    }

    fn list_connections(
        &mut self,
        engines: bool,
        filter: &Filter,
        numeric: bool,
        as_json: bool,
    ) -> Result<(), ToolError> {
        let failed = |_| ToolError::File("cannot open file /proc/net/ip_vs_conn".to_owned());
        let file = self.kernel()?.connections().map_err(failed)?;
        let file = BufReader::with_capacity(BLOCK, file);
        let ToolSession { out, names, .. } = self;
        if as_json {
            let mut list = json::JsonList::default();
            write!(out, "{{\"schema\":{},\"connections\":[", json::SCHEMA)?;
            connections::for_each(file, |connection| {
                if filter.passes(&connection) {
                    list.push(out, &documents::ConnectionObject::new(&connection))?;
                }
                Ok(())
            })?;
            return Ok(out.write_all(b"]}\n")?);
        }
        out.write_all(connections::title(engines).as_bytes())?;
        let names: &mut dyn Names = if numeric { &mut Numbers } else { *names };
        let mut line = ColumnText::new();
        Ok(connections::for_each(file, |connection| {
            if filter.passes(&connection) {
                connection.push_line(&mut line, engines, names);
                out.write_all(line.as_bytes())?;
                line.clear();
            }
            Ok(())
        })?)
    }

    /// A document with one member.
    fn write_member(&mut self, name: &str, value: impl Serialize) -> Result<(), ToolError> {
        Ok(json::write_line(self.out, BTreeMap::from([(name, value)]))?)
    }
}

/// The text of a file of the kernel's that is no longer than a block.
fn first_block(file: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    file.take(BLOCK as u64).read_to_string(&mut text).map(|_| text)
}

/// The counters of services, and of each of their destinations.
type CounterValues = HashMap<(ServiceId, Option<DestinationId>), Stats>;

fn remember(counters: &mut CounterValues, entry: &ServiceEntry, destinations: &[DestinationEntry]) {
    let id = entry.service.id;
    counters.insert((id, None), entry.stats);
    counters.extend(destinations.iter().map(|d| ((id, Some(d.destination.id)), d.stats)));
}

/// Replaces the counters of a service and its destinations by what was counted since `before`.
fn since(
    before: &CounterValues,
    entry: &mut ServiceEntry,
    destinations: &mut [DestinationEntry],
    time: Duration,
) {
    let id = entry.service.id;
    let since = |destination, stats: &Stats| {
        let earlier = before.get(&(id, destination)).copied().unwrap_or_default();
        watch::between(&earlier, stats, time)
    };
    entry.stats = since(None, &entry.stats);
    for entry in destinations {
        entry.stats = since(Some(entry.destination.id), &entry.stats);
    }
}
