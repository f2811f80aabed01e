//! The whole program as a function: words in, texts and an exit status out.
//!
//! Nothing here touches the process: the streams, the names, the kernel's table and the
//! environment are parameters. The kernel is opened when it is first needed, so that help,
//! version and argument errors need neither IPVS nor privilege.
//!
//! Exit statuses: 0 done; 1 a listing failed; 2 an argument is wrong or there is no IPVS;
//! 255 the kernel refused a change, or no sense could be made of the words.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde::Serialize;

use super::args::{self, Setting};
use super::errors::{self, Operation};
use super::invocation::{Columns, Invocation, List, Listing};
use super::names::{Names, Numbers};
use super::restore::{LONGEST_LINE, Lines, Step};
use super::table::{Table, TableError};
use super::{connections, json, listing, manual, save, sort};
use crate::ipvs::{Change, Info, ServiceEntry, ServiceId};
use crate::protocol::Protocol;

/// What `--version` prints: what scripts take the version of ipvsadm from.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// How many changes of a restore are sent to the kernel at once, at most.
const BATCH: usize = 1024;

/// The two lines of ipvsadm-save about itself.
const SAVE_USAGE: &str = "\
Usage: ipvsadm-save [-n]
Prints the IPVS table as commands for ipvsadm-restore; -n leaves names out.
";

/// How the program was called.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its name as it was called; `ipvsadm-save` and `ipvsadm-restore` have meanings of their own.
    pub program: &'a OsStr,
    /// The words after it.
    pub words: &'a [OsString],
    /// The first positional word ends the options, as `POSIXLY_CORRECT` asks for.
    pub posix: bool,
}

/// Standard input, output and error.
pub struct Streams<'a> {
    /// Where a restore reads.
    pub stdin: &'a mut dyn Read,
    /// Where listings go.
    pub out: &'a mut dyn Write,
    /// Where messages go.
    pub err: &'a mut dyn Write,
}

/// Runs one call and returns its exit status. `open` reaches for the kernel's table, at most
/// once, when it is needed.
///
/// What cannot be written is no failure: a reader that has seen enough closes the pipe.
pub fn run<T: Table>(
    call: Call<'_>,
    streams: Streams<'_>,
    names: &mut dyn Names,
    open: impl FnOnce() -> Result<T, TableError>,
) -> u8 {
    let base = base_name(call.program);
    let mut session = Session {
        setting: Setting { program: call.program, posix: call.posix, restoring: false },
        out: streams.out,
        err: streams.err,
        names,
        open: Some(open),
        kernel: None,
    };
    let status = if base.ends_with("-save") {
        session.save_program(call.words)
    } else if base.ends_with("-restore") {
        session.restore_program(streams.stdin)
    } else {
        session.command_line(call.words, streams.stdin)
    };
    let _ = session.out.flush();
    status
}

fn base_name(program: &OsStr) -> Cow<'_, str> {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy()
}

/// Why something was not done.
enum Trouble {
    /// There is no IPVS, or no privilege.
    NoKernel(TableError),
    /// The kernel did not answer a listing.
    Refused(Operation, TableError),
    /// The same where the original says nothing.
    RefusedInSilence,
    /// There is no list of connections.
    NoConnections,
    /// Nobody reads on.
    Output,
}

impl From<std::io::Error> for Trouble {
    fn from(_: std::io::Error) -> Trouble {
        Trouble::Output
    }
}

struct Session<'a, T, O> {
    setting: Setting<'a>,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    names: &'a mut dyn Names,
    open: Option<O>,
    kernel: Option<T>,
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> Session<'_, T, O> {
    fn command_line(&mut self, words: &[OsString], stdin: &mut dyn Read) -> u8 {
        if words.is_empty() {
            return self.show(List::ALL).0;
        }
        match args::parse(self.setting, words, self.names) {
            Ok(Invocation::Restore) => self.restore(Lines::new(stdin, false), Vec::new()),
            Ok(Invocation::Change(change)) => self.apply(&[change]).0,
            Ok(invocation) => self.answer(invocation).0,
            Err(error) => {
                self.complain(&error.to_string());
                error.status()
            }
        }
    }

    /// `ipvsadm-save [-n]`: other words are passed over, other options are not.
    fn save_program(&mut self, words: &[OsString]) -> u8 {
        let mut numeric = false;
        for word in words.iter().map(|word| word.as_encoded_bytes()) {
            match word {
                b"-n" => numeric = true,
                [b'-', ..] => {
                    let _ = self.err.write_all(SAVE_USAGE.as_bytes());
                    return 1;
                }
                _ => {}
            }
        }
        self.answer(Invocation::Save { numeric }).0
    }

    /// `ipvsadm-restore`: empties the table, then restores what is no comment.
    fn restore_program(&mut self, stdin: &mut dyn Read) -> u8 {
        // The original's script calls ipvsadm, and so do the messages.
        self.setting.program = OsStr::new("ipvsadm");
        self.restore(Lines::new(stdin, true), vec![Change::Flush])
    }

    /// Carries out `changes`, then every line; the status is the last line's.
    fn restore<R: Read>(&mut self, mut lines: Lines<R>, mut changes: Vec<Change>) -> u8 {
        self.setting.restoring = true;
        let mut status = 0;
        loop {
            let step = lines.next();
            let parsed = match &step {
                Step::Line(words) => Some(args::parse(self.setting, words, self.names)),
                Step::Wait | Step::TooLong | Step::End => None,
            };
            let invocation = match parsed {
                Some(Ok(Invocation::Change(change))) => {
                    changes.push(change);
                    if changes.len() < BATCH {
                        continue;
                    }
                    None
                }
                other => other,
            };
            // Everything else comes after what is under way.
            if !changes.is_empty() {
                let (applied, over) = self.apply(&changes);
                changes.clear();
                status = applied;
                if over {
                    return status;
                }
            }
            match (invocation, step) {
                (Some(Ok(invocation)), _) => {
                    let (answered, over) = self.answer(invocation);
                    status = answered;
                    if over {
                        return status;
                    }
                }
                (Some(Err(error)), _) => {
                    self.complain(&error.to_string());
                    status = error.status();
                    if error.ends_a_restore() {
                        return status;
                    }
                }
                (None, Step::Line(_)) => {}
                (None, Step::TooLong) => {
                    self.complain(&format!(
                        "a line is longer than {LONGEST_LINE} bytes: this is no saved table"
                    ));
                    return 2;
                }
                (None, Step::Wait) => {
                    let _ = self.out.flush();
                    if let Err(error) = lines.fill() {
                        self.complain(&format!("cannot read standard input: {error}"));
                        return 2;
                    }
                }
                (None, Step::End) => return status,
            }
        }
    }

    /// Does what is no change; `true` if a restore ends with it.
    fn answer(&mut self, invocation: Invocation) -> (u8, bool) {
        match invocation {
            Invocation::Help => {
                let help = manual::help(&base_name(self.setting.program));
                let _ = self.out.write_all(help.as_bytes());
                (0, true)
            }
            Invocation::Version => {
                let _ = writeln!(self.out, "{VERSION}");
                (0, true)
            }
            Invocation::List(list) => self.show(list),
            Invocation::Save { numeric } => {
                let result = self.save(numeric);
                self.report(result)
            }
            Invocation::Change(change) => self.apply(&[change]),
            // The command line has its own way with it, and in a restore it is no command.
            Invocation::Restore => (0, false),
        }
    }

    /// A message is a line of its own, after what has been printed.
    fn complain(&mut self, message: &str) {
        let _ = self.out.flush();
        let _ = writeln!(self.err, "{message}");
    }

    /// The kernel's table; opened now, if it has not been.
    fn kernel(&mut self) -> Result<&mut T, Trouble> {
        if let Some(open) = self.open.take() {
            return Ok(self.kernel.insert(open().map_err(Trouble::NoKernel)?));
        }
        let gone = || Trouble::NoKernel(TableError::Refused(nix::libc::ENOPROTOOPT));
        self.kernel.as_mut().ok_or_else(gone)
    }

    fn info(&mut self) -> Result<Info, Trouble> {
        self.kernel()?.info().map_err(Trouble::NoKernel)
    }

    /// Carries out changes; reports those refused, in order. The status is the last one's; a
    /// restore ends where the kernel cannot be asked.
    fn apply(&mut self, changes: &[Change]) -> (u8, bool) {
        let refused = match self.kernel() {
            Ok(table) => table.apply(changes),
            Err(trouble) => return self.report(Err(trouble)),
        };
        let refused = match refused {
            Ok(refused) => refused,
            Err(error) => {
                self.complain(&error.to_string());
                return (255, true);
            }
        };
        for (index, errno) in &refused {
            if let Some(change) = changes.get(*index) {
                self.complain(&errors::text(Operation::of(change), *errno));
            }
        }
        match refused.last() {
            Some((index, _)) if index + 1 == changes.len() => (255, false),
            _ => (0, false),
        }
    }

    fn show(&mut self, list: List) -> (u8, bool) {
        let result = match list.what {
            Listing::Connections(engines) => self.list_connections(engines, list),
            Listing::Timeouts => self.list_timeouts(list.json),
            Listing::Daemons => self.list_daemons(list.json),
            Listing::Table { .. } if list.json => self.list_table_as_json(list),
            Listing::Table { service, columns, exact, sorted } => {
                self.list_table(service, columns, exact, sorted, list.numeric)
            }
        };
        self.report(result)
    }

    /// The exit status of a listing, and whether it ends a restore, as it ends the original.
    fn report(&mut self, result: Result<(), Trouble>) -> (u8, bool) {
        match result {
            Ok(()) | Err(Trouble::Output) => (0, false),
            Err(Trouble::NoKernel(error)) => {
                self.complain(&errors::no_kernel(&error));
                (2, true)
            }
            Err(Trouble::Refused(operation, error)) => {
                self.complain(&errors::describe(operation, &error));
                (1, true)
            }
            Err(Trouble::RefusedInSilence) => (1, true),
            Err(Trouble::NoConnections) => {
                self.complain("cannot open file /proc/net/ip_vs_conn");
                (1, true)
            }
        }
    }

    fn list_table(
        &mut self,
        service: Option<ServiceId>,
        columns: Columns,
        exact: bool,
        sorted: bool,
        numeric: bool,
    ) -> Result<(), Trouble> {
        if service.is_none() {
            let line = listing::version_line(&self.info()?);
            self.out.write_all(line.as_bytes())?;
        }
        let entries = self.entries(service, sorted, |session| {
            session.out.write_all(listing::title(columns).as_bytes())
        })?;
        for entry in &entries {
            let destinations = self.destinations_of(entry, sorted)?;
            let protocol = protocol_of(&entry.service.id);
            let names: &mut dyn Names = if numeric { &mut Numbers } else { self.names };
            let mut text = listing::service_line(entry, columns, exact, names);
            for destination in &destinations {
                text += &listing::destination_line(destination, protocol, columns, exact, names);
            }
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn list_table_as_json(&mut self, list: List) -> Result<(), Trouble> {
        let (service, sorted) = match list.what {
            Listing::Table { service, sorted, .. } => (service, sorted),
            _ => (None, true),
        };
        let info = if service.is_none() { Some(self.info()?) } else { None };
        let mut document = json::TableDocument::new(info.as_ref());
        for entry in self.entries(service, sorted, |_| Ok(()))? {
            let destinations = self.destinations_of(&entry, sorted)?;
            document.push(&entry, &destinations);
        }
        self.write_json(&document)
    }

    fn save(&mut self, numeric: bool) -> Result<(), Trouble> {
        for entry in self.entries(None, true, |_| Ok(()))? {
            let destinations = self.destinations_of(&entry, true)?;
            let id = &entry.service.id;
            let names: &mut dyn Names = if numeric { &mut Numbers } else { self.names };
            let mut text = save::service_line(&entry.service, names);
            for destination in &destinations {
                text += &save::destination_line(id, &destination.destination, names);
            }
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// The services of a listing. `title` is written before the whole table is fetched, but
    /// only after a single service was found.
    fn entries(
        &mut self,
        service: Option<ServiceId>,
        sorted: bool,
        title: impl FnOnce(&mut Self) -> std::io::Result<()>,
    ) -> Result<Vec<ServiceEntry>, Trouble> {
        let refused = |error| Trouble::Refused(Operation::FindService, error);
        if let Some(id) = service {
            let entry = self.kernel()?.service(&id).map_err(refused)?;
            title(self)?;
            return Ok(vec![entry]);
        }
        title(self)?;
        let entries = self.kernel()?.services().map_err(refused)?;
        Ok(if sorted { sort::services(entries) } else { entries })
    }

    fn destinations_of(
        &mut self,
        entry: &ServiceEntry,
        sorted: bool,
    ) -> Result<Vec<crate::ipvs::DestinationEntry>, Trouble> {
        let refused = |error| Trouble::Refused(Operation::FindService, error);
        let entries = self.kernel()?.destinations(&entry.service.id).map_err(refused)?;
        Ok(if sorted { sort::destinations(entries) } else { entries })
    }

    fn list_timeouts(&mut self, as_json: bool) -> Result<(), Trouble> {
        let timeouts = self.kernel()?.timeouts().map_err(|_| Trouble::RefusedInSilence)?;
        if as_json {
            return self.write_json(&json::TimeoutsDocument::new(timeouts));
        }
        Ok(self.out.write_all(listing::timeouts_line(&timeouts).as_bytes())?)
    }

    fn list_daemons(&mut self, as_json: bool) -> Result<(), Trouble> {
        let daemons = self.kernel()?.daemons().map_err(|_| Trouble::RefusedInSilence)?;
        if as_json {
            return self.write_json(&json::DaemonsDocument::new(daemons));
        }
        Ok(self.out.write_all(listing::daemon_lines(&daemons).as_bytes())?)
    }

    fn list_connections(&mut self, engines: bool, list: List) -> Result<(), Trouble> {
        let file = self.kernel()?.connections().map_err(|_| Trouble::NoConnections)?;
        // A page or more at a time: the kernel walks its table again for every read.
        let file = BufReader::with_capacity(64 * 1024, file);
        let Session { out, names, .. } = self;
        if list.json {
            let mut separator = "";
            write!(out, "{{\"version\":{},\"connections\":[", json::VERSION)?;
            connections::for_each(file, |connection| {
                out.write_all(std::mem::replace(&mut separator, ",").as_bytes())?;
                serde_json::to_writer(&mut *out, &json::ConnectionObject::new(&connection))?;
                Ok(())
            })?;
            return Ok(out.write_all(b"]}\n")?);
        }
        out.write_all(connections::title(engines).as_bytes())?;
        let names: &mut dyn Names = if list.numeric { &mut Numbers } else { *names };
        Ok(connections::for_each(file, |connection| {
            out.write_all(connection.line(engines, names).as_bytes())
        })?)
    }

    fn write_json(&mut self, document: &impl Serialize) -> Result<(), Trouble> {
        serde_json::to_writer(&mut *self.out, document).map_err(std::io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }
}

fn protocol_of(id: &ServiceId) -> Option<Protocol> {
    match id {
        ServiceId::Address { protocol, .. } => Some(*protocol),
        ServiceId::Mark { .. } => None,
    }
}
