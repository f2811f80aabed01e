//! The start of cvipd: configuration, identity, store, workers and control socket.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use sd_notify::NotifyState;
use tracing::warn;

use super::driver::{Driver, notify, warn_of_lacks};
use super::messages::ReadConf;
use super::settings::DaemonSettings;
use super::signals::HeldSignals;
use super::state::Supervisor;
use super::takeover::TakeoverTimer;
use super::watchdog::Watchdog;
use crate::clock::Instant;
use crate::conf;
use crate::daemon::address_manager::AddressManager;
use crate::daemon::control::{ControlServer, socket_address, socket_path};
use crate::daemon::error::RunError;
use crate::daemon::event_log::EventLog;
use crate::daemon::hooks::HookRunner;
use crate::daemon::messages::MainMessage;
use crate::daemon::metrics::MetricsServer;
use crate::daemon::worker::{self, Worker};
use crate::daemon::workers::{WorkerContext, Workers};
use crate::heartbeat::{self, Nonce};
use crate::histogram::Histogram;
use crate::net;
use crate::node::identify;
use crate::recorder::{Recorded, Recorder, Writer};
use crate::settings::Settings;
use crate::store::{self, Access, Interest};
use crate::wake::{Inbox, channel};

/// Runs until SIGTERM or SIGINT: an active director then hands over, if another lives, and
/// nothing else changes in the kernel; the next start takes over what it finds. SIGHUP reads the
/// configuration again.
///
/// # Errors
/// It could not start, or a thread of it ended.
pub fn run(settings: DaemonSettings, signals: &HeldSignals) -> Result<(), RunError> {
    let (mut driver, inbox, writer) = start(settings)?;
    let outcome = driver.serve(signals, &inbox);
    notify(&[NotifyState::Stopping]);
    driver.end();
    // After all that is recorded.
    writer.into_iter().for_each(Writer::end);
    outcome
}

/// Looks whether a cvipd could start here, and changes nothing: what can be seen beforehand of its
/// own files. What [`run`] needs beyond that, such as IPVS, is asked of the kernel.
///
/// # Errors
/// Why it could not.
pub fn check_start(settings: &Settings, run_dir: &Path, node: u32) -> Result<(), RunError> {
    let socket = socket_path(run_dir, node);
    let cannot = |path: &Path, reason: &str| {
        Err(RunError::RunDir { path: path.to_owned(), reason: reason.to_owned() })
    };
    if let Err(error) = socket_address(&socket) {
        return cannot(&socket, &error.to_string());
    }
    // A folder that is not there is made.
    let Some(there) = run_dir.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(settings.check_cluster_key(run_dir)?);
    };
    if !there.is_dir() {
        return cannot(there, "it is no folder; move it away");
    }
    if let Err(errno) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        return match errno {
            Errno::EACCES => cannot(there, "Permission denied (you must be root)"),
            errno => cannot(there, errno.desc()),
        };
    }
    Ok(settings.check_cluster_key(run_dir)?)
}

type Started = (Driver, Inbox<MainMessage>, Option<Writer>);

fn start(settings: DaemonSettings) -> Result<Started, RunError> {
    let loaded = conf::load(&settings.conf, &settings.clustertab);
    let Some(conf) = loaded.conf else { return Err(RunError::Conf(loaded.diagnostics)) };
    for warning in loaded.diagnostics {
        warn!("{warning}");
    }
    let node = match settings.node {
        Some(node) => node,
        None => {
            let local = net::local_addresses().unwrap_or_default();
            identify(&loaded.clustertab.unwrap_or_default(), Some(&conf), &local)?
        }
    };
    let path = settings.conf.display().to_string();
    if !conf.nodes().contains(&node) {
        return Err(RunError::NoRole(node, path));
    }
    warn_of_lacks(&conf, node);
    check_start(&settings.store, &settings.run_dir, node)?;
    let cluster_key = settings.store.cluster_key(&settings.run_dir)?;
    let interest = Interest::Node(node);
    let mut store = store::open(&settings.store, &settings.run_dir, Access::Write, interest)?;
    match store.refresh() {
        Ok(_) => {}
        Err(error) if error.is_unavailable() => warn!("{error}"),
        Err(error) => return Err(error.into()),
    }
    let unix_time =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let last = store::last_incarnation(&settings.run_dir, node);
    let incarnation = store.state().next_incarnation(node, last, unix_time);
    let lease = store.lease(node, incarnation)?;
    let nonce = Nonce::random().map_err(|e| RunError::System("no random numbers", e))?;
    let no_inbox = system("no descriptor for messages");
    let (main, inbox) = channel().map_err(no_inbox)?;
    let now = Instant::now();
    let conf = Arc::new(conf);
    let no_thread = |e| RunError::System("no thread", e);
    let (writer, recorder) = match settings.store.record.unwrap_or(true) {
        true => Writer::start(&settings.run_dir, node)
            .map(|(writer, recorder)| (Some(writer), recorder))
            .map_err(no_thread)?,
        false => (None, Recorder::off()),
    };
    let manager = AddressManager::open(
        &settings.run_dir,
        node,
        Arc::clone(&conf),
        main.clone(),
        &recorder,
        now,
    );
    let addresses = Worker::start("address manager", manager, worker::inbox().map_err(no_inbox)?)
        .map_err(no_thread)?;
    let context = WorkerContext {
        node,
        incarnation,
        nonce,
        started: now,
        key: cluster_key.key().clone(),
        port: settings.store.heartbeat_port.unwrap_or(heartbeat::PORT),
        store,
        main: main.clone(),
        addresses: addresses.inbox.clone(),
        polling: settings.polling.clone(),
        recorder,
    };
    let runner = HookRunner::new(node, settings.store.hooks.clone(), main.clone());
    let hooks =
        Worker::start("hooks", runner, worker::inbox().map_err(no_inbox)?).map_err(no_thread)?;
    let events = EventLog::open(&settings.run_dir, node);
    let mut workers = Workers::default();
    workers.swap(&context, &conf, &settings.run_dir)?;
    let server = ControlServer::open(&settings.run_dir, node, main.clone())
        .map_err(|e| RunError::System("cannot open the control socket", e))?;
    let (address, labels) = (settings.store.metrics_address, &settings.store.metrics_labels);
    let metrics = MetricsServer::open(address, labels.as_deref(), main);
    let read = ReadConf { conf, sources: Arc::new(loaded.sources) };
    let (is_former, hooks_within) = (workers.has_former_table(), settings.store.hooks.timeout);
    let state = Supervisor::new(node, path, read, is_former, hooks_within, now);
    let state = Recorded::new(state, &context.recorder);
    let driver = Driver {
        settings,
        cluster_key,
        context,
        state,
        workers,
        addresses,
        hooks,
        events,
        asked: None,
        report: None,
        leaving: None,
        exit: None,
        lease,
        server,
        metrics,
        takeover: TakeoverTimer::default(),
        takeovers: Histogram::default(),
        watchdog: Watchdog::new(sd_notify::watchdog_enabled(), now),
        told: String::new(),
    };
    Ok((driver, inbox, writer))
}

fn system(what: &'static str) -> impl Fn(nix::errno::Errno) -> RunError + Copy {
    move |errno| RunError::System(what, errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_that_cannot_be_used_is_seen_before_a_start_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            Settings { cluster_key_file: Some(dir.path().join("key")), ..Settings::default() };
        let said = |run_dir: &Path| check_start(&settings, run_dir, 3).unwrap_err().to_string();
        let run_dir = dir.path().join("a/run");
        assert!(said(&run_dir).contains("every node needs the same cluster key"), "it is made");
        assert!(!run_dir.exists());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for below in [file.clone(), file.join("run")] {
            assert!(said(&below).starts_with(&format!("{}: ", file.display())), "{}", said(&below));
            assert!(said(&below).contains("it is no folder"));
        }
        assert!(said(&dir.path().join("x".repeat(100))).contains("at most 107 bytes"));
        // No process may write there, root's neither.
        assert!(
            said(Path::new("/proc/self")).contains("cvipd writes its own files there, and cannot")
        );
    }
}
