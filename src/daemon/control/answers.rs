//! Which thread knows the answer to which request: the main thread says at once what it is; monitor
//! and table are asked directly, so that a full pass or a takeover keeps no other request waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use super::wire::{ControlRequest, Response, Status};
use crate::clock::Instant;
use crate::conf::{Conf, Sources};
use crate::daemon::hooks::HookMessage;
use crate::daemon::messages::{
    Base, MainMessage, MonitorMessage, NodeMessage, Question, SenderMessage, TableMessage, What,
    no_director,
};
use crate::daemon::worker::WorkerInbox;
use crate::director::monitor::MonitorCommand;
use crate::ipvsadm::change_line;
use crate::store::ServiceKey;
use crate::wake::Outbox;

/// How long the main thread may take.
const MAIN_WITHIN: Duration = Duration::from_secs(60);

/// How long the director may take for a full pass that an operator asked for.
const APPLY_WITHIN: Duration = Duration::from_secs(50);

/// How long a takeover may take: a claim, the new table, and a few messages.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(10);

/// How long a director that was just started may look for its role.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Asks the threads that know the answer to a request.
pub(super) fn respond(
    request: ControlRequest,
    main: &Outbox<MainMessage>,
) -> Result<Response, String> {
    match request {
        ControlRequest::Status => {
            let status = gather(main, APPLY_WITHIN)?.status;
            Ok(Response::Status(Box::new(status)))
        }
        ControlRequest::Configuration => {
            let sources = ask_main(What::State, main)?.sources;
            Ok(Response::Configuration(Box::new(Sources::clone(&sources))))
        }
        ControlRequest::Apply => {
            table_of(main)?;
            let (reply, report) = mpsc::channel();
            ask_main(What::Apply(reply), main)?;
            let report = take(&report, APPLY_WITHIN)??;
            Ok(Response::Applied {
                applied: report.applied.iter().map(ToString::to_string).collect(),
                refused: report.refused.iter().map(ToString::to_string).collect(),
            })
        }
        ControlRequest::Differences => {
            let changes = ask_inbox(&table_of(main)?, TableMessage::Differences)??;
            let lines = changes.iter().map(change_line).collect();
            Ok(Response::Differences(lines))
        }
        ControlRequest::TakeOver => take_over(main),
        ControlRequest::Leave { within_s } => {
            let within = Duration::from_secs(within_s.into());
            ask_main(What::Leave(within), main).map(|_| Response::Done)
        }
    }
}

/// What cvipd's threads know.
pub(in crate::daemon) struct Gathered {
    pub(in crate::daemon) status: Status,
    /// The configuration in force.
    pub(in crate::daemon) conf: Arc<Conf>,
    /// The services that this node's director owns.
    pub(in crate::daemon) owned: BTreeSet<ServiceKey>,
}

/// Asks every thread what it knows. What one of them does not say within a time is left out, but for
/// what the main thread says.
pub(in crate::daemon) fn gather(
    main: &Outbox<MainMessage>,
    within: Duration,
) -> Result<Gathered, String> {
    let Base { mut status, conf, owned, node, heartbeat_sender, monitor, table, hooks, .. } =
        ask_main_within(What::State, main, within.min(MAIN_WITHIN))?;
    status.monitor = monitor.and_then(|inbox| ask_within(&inbox, MonitorMessage::View, within));
    if let Some(monitor) = &mut status.monitor {
        status.addresses.append(&mut monitor.conflicts);
    }
    status.pools = table.and_then(|inbox| ask_within(&inbox, TableMessage::View, within));
    status.serving = node.and_then(|inbox| ask_within(&inbox, NodeMessage::View, within));
    status.heartbeats =
        heartbeat_sender.and_then(|inbox| ask_within(&inbox, SenderMessage::View, within));
    status.hooks = ask_within(&hooks, HookMessage::View, within);
    let unavailable = status.monitor.as_ref().and_then(|monitor| monitor.store_unavailable_s);
    status.store_unavailable_s = status.store_unavailable_s.or(unavailable);
    Ok(Gathered { status, conf, owned })
}

/// The table's inbox. A director that was just started may not know its role yet.
fn table_of(main: &Outbox<MainMessage>) -> Result<WorkerInbox<TableMessage>, String> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let Base { status, directs, table, .. } = ask_main(What::State, main)?;
        match table {
            Some(table) => return Ok(table),
            None if !directs || Instant::now() >= deadline => return Err(no_director(status.node)),
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Asks for a takeover, and waits for it.
fn take_over(main: &Outbox<MainMessage>) -> Result<Response, String> {
    let Base { status, monitor, .. } = ask_main(What::State, main)?;
    let monitor = monitor.ok_or_else(|| no_director(status.node))?;
    let deadline = Instant::now() + TAKE_OVER_WITHIN;
    monitor.send(MonitorMessage::Told(MonitorCommand::TakeOver));
    loop {
        let view = ask_inbox(&monitor, MonitorMessage::View)?;
        let Base { status, .. } = ask_main(What::State, main)?;
        if view.active && status.is_active() {
            return Ok(Response::Done);
        }
        if Instant::now() >= deadline {
            return Err(match view.store_unavailable_s {
                Some(_) => "no director can be elected while the store is unavailable".to_owned(),
                None => "it was not elected in time: see cvipd's log".to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask_main(what: What, main: &Outbox<MainMessage>) -> Result<Base, String> {
    ask_main_within(what, main, MAIN_WITHIN)
}

fn ask_main_within(
    what: What,
    main: &Outbox<MainMessage>,
    within: Duration,
) -> Result<Base, String> {
    let (answer, said) = mpsc::channel();
    main.send(MainMessage::Question(Question { what, answer }));
    take(&said, within)?
}

fn ask_inbox<O, T>(
    inbox: &WorkerInbox<O>,
    message: impl FnOnce(Sender<T>) -> O,
) -> Result<T, String> {
    ask_within(inbox, message, APPLY_WITHIN).ok_or_else(busy)
}

/// The answer of a worker, if it comes in time.
fn ask_within<O, T>(
    inbox: &WorkerInbox<O>,
    message: impl FnOnce(Sender<T>) -> O,
    within: Duration,
) -> Option<T> {
    let (reply, said) = mpsc::channel();
    inbox.send(message(reply));
    said.recv_timeout(within).ok()
}

fn take<T>(said: &Receiver<T>, within: Duration) -> Result<T, String> {
    said.recv_timeout(within).map_err(|_| busy())
}

fn busy() -> String {
    "cvipd is too busy, or ends: see its log".to_owned()
}
