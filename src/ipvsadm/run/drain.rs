//! `--drain`: carries out what [`Drain`] decides, and says what became of it.

use std::time::Duration;

use super::super::change::service_option;
use super::super::documents::DrainDocument;
use super::super::drain::{ConnectionCounts, Drain, DrainEnd, DrainStep, ProgressLines};
use super::super::errors::{self, FailedOperation};
use super::super::invocation::DrainRequest;
use super::super::table::{Table, TableError};
use super::edit::EntryError;
use super::{ToolSession, base_name};
use crate::ipvs::{Change, Destination, DestinationEntry};
use crate::json;
use crate::protocol::Protocol;

/// The setting that lets clients of a deleted real server go to another one at once.
const EXPIRE: &str = "expire_nodest_conn";

/// What there is to say of a drain that has ended.
struct DrainReport {
    end: DrainEnd,
    /// The weight and the connections, when it was last looked at.
    weight: u32,
    counts: ConnectionCounts,
    lasted: Duration,
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    /// Drains a real server and deletes it; the status.
    pub(super) fn drain(&mut self, request: &DrainRequest) -> u8 {
        let before = match self.real_server(&request.service, request.server) {
            Ok(entry) => entry,
            // Scripts repeat themselves; a real server at another port is a slip.
            Err(EntryError::NoRealServer(_)) => return self.report_absent(request),
            Err(error) => return self.refuse(error).0,
        };
        // Before the weight is 0: an interruption from then on has to be answered.
        if let Err(error) = self.clock.hold_interrupts() {
            let why = errors::io_text(&error);
            self.complain(&format!("signals cannot be held back: {why}; nothing was changed"));
            return 2;
        }
        let destination = before.destination;
        if destination.weight > 0 {
            let quiesced = Destination { weight: 0, ..destination };
            let (status, _) = self.apply(&[Change::EditDestination(request.service, quiesced)]);
            if status != 0 {
                return status;
            }
        }
        self.hint_at_expiry(request, &before);
        match self.wait_and_delete(request) {
            Ok(report) => self.report_drain(request, &destination, &report),
            Err(error) => {
                let (status, _) = self.refuse(error);
                let DrainRequest { service, server, .. } = request;
                self.complain(&format!("{server} stays in {service} with weight 0"));
                status
            }
        }
    }

    fn wait_and_delete(&mut self, request: &DrainRequest) -> Result<DrainReport, EntryError> {
        let DrainRequest { service, server, deadline, .. } = *request;
        let mut drain = Drain::new(&service, deadline, self.clock.now());
        let mut lines = ProgressLines::default();
        let mut interrupted = false;
        let (mut weight, mut counts) = (0, ConnectionCounts::default());
        loop {
            let entries = self.kernel()?.destinations(&service).map_err(EntryError::Refused)?;
            let seen = entries.iter().find(|entry| entry.destination.id == server);
            if let Some(entry) = seen {
                (weight, counts) = (entry.destination.weight, ConnectionCounts::of(entry));
            }
            let now = self.clock.now();
            let lasted = drain.lasted(now);
            let report = |end| DrainReport { end, weight, counts, lasted };
            match drain.step(seen, interrupted, now) {
                DrainStep::Leave(end) => return Ok(report(end)),
                DrainStep::Delete(end) => {
                    let end = if self.delete_drained(request)? { end } else { DrainEnd::Gone };
                    return Ok(report(end));
                }
                DrainStep::Wait(until) => {
                    if (request.progress || self.err_is_terminal) && lines.show(counts, now) {
                        self.complain(&progress_line(request, counts, drain.left(now)));
                    }
                    let time = until.saturating_duration_since(now);
                    interrupted = self.clock.sleep_or_interrupt(time);
                }
            }
        }
    }

    /// Deletes the real server; `false` if another program did.
    fn delete_drained(&mut self, request: &DrainRequest) -> Result<bool, EntryError> {
        let change = Change::DeleteDestination(request.service, request.server);
        let operation = FailedOperation::of(&change);
        let refused = self.kernel()?.apply(&[change]).map_err(EntryError::Refused)?;
        match refused.first() {
            None => Ok(true),
            Some((_, nix::libc::ENOENT | nix::libc::ESRCH)) => Ok(false),
            Some((_, errno)) => Err(EntryError::Absent(errors::text(operation, *errno))),
        }
    }

    /// Says that the real server is out already, and gives the status.
    fn report_absent(&mut self, request: &DrainRequest) -> u8 {
        let DrainRequest { service, server, .. } = request;
        if request.json {
            // What fails is noted.
            let _ = json::write_line(self.out, DrainDocument::absent(service, *server));
        }
        self.complain(&format!("{server} is not in {service}: nothing to drain"));
        0
    }

    /// Says how it ended, and gives the status. The deletion of a drained real server is told to a
    /// terminal or with `--progress` alone.
    fn report_drain(
        &mut self,
        request: &DrainRequest,
        before: &Destination,
        report: &DrainReport,
    ) -> u8 {
        let DrainRequest { service, server, .. } = request;
        let DrainReport { end, weight, counts, lasted } = *report;
        if request.json {
            let last = (weight, counts);
            let document = DrainDocument::new(service, before, end, last, lasted);
            // What fails is noted.
            let _ = json::write_line(self.out, document);
        }
        let connections = connections(counts);
        let told = match end {
            DrainEnd::Out if !request.progress && !self.err_is_terminal => None,
            DrainEnd::Out => {
                let s = lasted.as_secs();
                Some(format!("{server} is out of {service} after {s} s, with {connections} left"))
            }
            DrainEnd::Cut => Some(format!(
                "the deadline is over: {server} is out of {service}, with {connections} left"
            )),
            DrainEnd::Gone => {
                Some(format!("another program has taken {server} out of {service} meanwhile"))
            }
            DrainEnd::Reweighted => Some(format!(
                "another program has given {server} of {service} the weight {weight} meanwhile: it \
                 stays so"
            )),
            DrainEnd::Interrupted => {
                Some(self.interrupted_message(request, before.weight, &connections))
            }
        };
        if let Some(told) = told {
            self.complain(&told);
        }
        if end.is_out() { 0 } else { 1 }
    }

    /// What an interrupted drain leaves behind, and how to go on or go back.
    fn interrupted_message(
        &self,
        request: &DrainRequest,
        weight: u32,
        connections: &str,
    ) -> String {
        let DrainRequest { service, server, .. } = request;
        let program = base_name(self.setting.program);
        let option = service_option(service);
        let back = match weight {
            0 => String::new(),
            weight => format!(
                ", `{program} -e {option} -r {server} --keep -w {weight}' gives it its weight back"
            ),
        };
        format!(
            "interrupted: {server} stays in {service} with weight 0 and {connections}; `{program} \
             --drain {option} -r {server}' goes on{back}"
        )
    }

    /// Tells a person what awaits the clients of a UDP real server that have a connection with it.
    fn hint_at_expiry(&mut self, request: &DrainRequest, before: &DestinationEntry) {
        let udp = request.service.protocol() == Some(Protocol::Udp);
        let connections = before.active > 0 || before.inactive > 0;
        if !self.err_is_terminal || !udp || !connections {
            return;
        }
        let Ok(table) = self.kernel() else { return };
        // Where the setting cannot be read, nothing is known.
        if table.setting(EXPIRE).ok().as_deref() != Some("0") {
            return;
        }
        let time = match table.timeouts() {
            Ok(timeouts) => format!(" ({} s)", timeouts.udp),
            Err(_) => String::new(),
        };
        let server = request.server;
        self.complain(&format!(
            "hint: a UDP client that keeps sending from one port keeps {server}, and once that is \
             deleted, the kernel drops its datagrams until the UDP time-out{time} is over; with \
             `sysctl -w net.ipv4.vs.{EXPIRE}=1' the next datagram goes to another real server"
        ));
    }
}

/// `3 active and 2 inactive connections`.
fn connections(counts: ConnectionCounts) -> String {
    match (counts.active, counts.inactive) {
        (0, 0) => "no connections".to_owned(),
        (active, inactive) => format!("{active} active and {inactive} inactive connections"),
    }
}

fn progress_line(
    request: &DrainRequest,
    counts: ConnectionCounts,
    left: Option<Duration>,
) -> String {
    let DrainRequest { service, server, .. } = request;
    let clients = match counts.persistent {
        0 => String::new(),
        clients => format!(", {clients} persistent clients"),
    };
    let deadline = match left {
        None => String::new(),
        Some(left) => format!("; deadline in {} s", left.as_secs()),
    };
    let connections = connections(counts);
    format!("draining {server} from {service}: {connections}{clients}{deadline}")
}
