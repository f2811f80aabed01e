//! The monitor's sockets, its view of the store and its file of terms: what they bring goes into
//! [`MonitorState`], and what that asks for is carried out here.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::conflict_watches::ConflictWatches;
use super::messages::{
    ClaimRequest, MonitorCommand, MonitorIdentity, MonitorInput, MonitorNotice, MonitorOutput,
    MonitorView,
};
use super::receiver::HeartbeatReceiver;
use super::recording::MonitorCall;
use super::state::{MonitorState, set_of};
use super::store_view::{StoreChanges, StoreReading};
use super::wire::{self, Terms};
use crate::clock::Instant;
use crate::conf::Conf;
use crate::director::election::ElectionRole;
use crate::files;
use crate::heartbeat::{ConnectProber, EchoProber, HeartbeatSocket, Leadership};
use crate::recorder::{Recorded, Recorder};
use crate::store::Store;

/// How long a server may take to answer a connect.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an output brought may lead to other outputs, so often in one step at most: a reading, a
/// claim, what was won by it and the file of that.
const ROUNDS: u32 = 8;

/// One director's monitor.
pub struct Monitor {
    state: Recorded<MonitorState>,
    store: Box<dyn Store>,
    receiver: HeartbeatReceiver,
    /// None where the system allows neither kind of socket.
    echo: Option<EchoProber>,
    connects: ConnectProber,
    watches: ConflictWatches,
    terms: TermsFile,
    notices: Vec<MonitorNotice>,
    handed_over: Option<Result<Option<u32>, String>>,
    roles: RoleCounts,
}

/// How often the role changed.
#[derive(Default)]
struct RoleCounts {
    is_active: bool,
    became_active: u64,
    became_standby: u64,
}

impl RoleCounts {
    fn take(&mut self, role: ElectionRole) {
        let is_active = matches!(role, ElectionRole::Active { .. });
        match (std::mem::replace(&mut self.is_active, is_active), is_active) {
            (false, true) => self.became_active += 1,
            (true, false) => self.became_standby += 1,
            _ => {}
        }
    }
}

impl Monitor {
    /// A monitor that has heard nothing yet. `run_dir` keeps its file of terms.
    ///
    /// # Errors
    /// The system refuses a descriptor.
    pub fn new(
        me: MonitorIdentity,
        conf: Arc<Conf>,
        store: Box<dyn Store>,
        socket: HeartbeatSocket,
        run_dir: &Path,
        recorder: &Recorder,
        now: Instant,
    ) -> std::io::Result<Monitor> {
        let terms = TermsFile::new(run_dir, me.node);
        let set = set_of(&conf, me.node);
        let state = MonitorState::new(me, conf, terms.read(set), now);
        let echo = EchoProber::open();
        if let Err(error) = &echo {
            warn!("{error}");
        }
        let mut monitor = Monitor {
            state: Recorded::new(state, recorder),
            store,
            receiver: HeartbeatReceiver::new(socket),
            echo: echo.ok(),
            connects: ConnectProber::new(PATIENCE)?,
            watches: ConflictWatches::default(),
            terms,
            notices: Vec::new(),
            handed_over: None,
            roles: RoleCounts::default(),
        };
        monitor.read_store(false, now);
        Ok(monitor)
    }

    /// The descriptors whose readability asks for a step.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![self.store.wakeup(), self.connects.fd()];
        fds.extend(self.receiver.fds());
        fds.extend(self.echo.iter().flat_map(EchoProber::fds));
        fds.extend(self.watches.fds());
        fds
    }

    /// How long a step may wait.
    pub fn timeout(&self, now: Instant) -> Duration {
        let others = self.connects.timeout(now).into_iter().chain(self.watches.timeout(now));
        others.fold(self.state.timeout(now), Duration::min)
    }

    /// Tells it something; what follows from it is done in the next step.
    pub fn tell(&mut self, command: MonitorCommand, now: Instant) {
        self.handle(MonitorInput::Told(command), now);
    }

    /// Has another director elected in place of this one, which ends; gives its number, none if no
    /// other lives. This one yields once it sees the new term.
    ///
    /// # Errors
    /// The store does not answer: nothing is handed over, as far as is known.
    pub fn hand_over(&mut self, now: Instant) -> Result<Option<u32>, String> {
        self.handle(MonitorInput::HandOver, now);
        self.run(now);
        let is_missing = || Err("another claim is under way".to_owned());
        self.handed_over.take().unwrap_or_else(is_missing)
    }

    /// Hears, asks, decides; what came of it.
    pub fn step(&mut self, now: Instant) -> Vec<MonitorNotice> {
        self.read_store(false, now);
        for heartbeat in self.receiver.receive(now) {
            let call = MonitorCall::heard(&self.state, heartbeat);
            self.state.call(call, now);
        }
        for addr in self.echo.as_mut().map(EchoProber::receive).unwrap_or_default() {
            if let Some(asked) = self.echo.as_ref().and_then(|echo| echo.answered(addr)) {
                self.handle(MonitorInput::EchoAnswered { addr, asked }, now);
            }
        }
        for (target, outcome) in self.connects.step(now) {
            self.handle(MonitorInput::Connected { target, outcome }, now);
        }
        for claim in self.watches.step(now) {
            self.handle(MonitorInput::Claimed(claim), now);
        }
        let proved = self.watches.proved();
        if proved != *self.state.proved() {
            self.handle(MonitorInput::Proved(proved), now);
        }
        self.run(now);
        std::mem::take(&mut self.notices)
    }

    /// What heartbeats say of its set.
    pub fn leaderships(&self) -> Vec<Leadership> {
        self.state.leaderships()
    }

    /// What it knows.
    pub fn view(&self, now: Instant) -> MonitorView {
        MonitorView {
            heartbeats_refused: self.receiver.refused(),
            ports_taken: self.receiver.taken().to_vec(),
            became_active: self.roles.became_active,
            became_standby: self.roles.became_standby,
            ..self.state.view(now)
        }
    }

    /// Decides, and carries out what was decided, until nothing more follows from it.
    fn run(&mut self, now: Instant) {
        for _ in 0..ROUNDS {
            let mut is_answered = false;
            for output in self.state.call(MonitorCall::Step, now) {
                is_answered |= self.carry_out(output, now);
            }
            if !is_answered {
                break;
            }
        }
    }

    /// Carries one output out; true if what came of it was handled.
    fn carry_out(&mut self, output: MonitorOutput, now: Instant) -> bool {
        match output {
            MonitorOutput::Notice(notice) => {
                if let MonitorNotice::ElectionRole(role) = &notice {
                    self.roles.take(*role);
                }
                self.notices.push(notice);
            }
            MonitorOutput::HandedOver(successor) => self.handed_over = Some(successor),
            MonitorOutput::Claim(ClaimRequest { set, above, expected, node, incarnation }) => {
                self.store.surpass(set, above);
                let claimed = self.store.claim(set, expected, node, incarnation);
                self.read_store(false, now);
                let claimed = claimed.map_err(|error| error.to_string());
                self.handle(MonitorInput::ClaimEnded(claimed), now);
                return true;
            }
            MonitorOutput::ReadStore => {
                self.store.invalidate();
                self.read_store(true, now);
                return true;
            }
            MonitorOutput::Echo(addr) => {
                // What could not be sent is a request without an answer.
                let _ = self.echo.as_mut().map(|echo| echo.probe(addr, now));
            }
            MonitorOutput::ForgetEcho(addr) => {
                self.echo.iter_mut().for_each(|echo| echo.forget(addr));
            }
            MonitorOutput::Connect(target) => self.connects.probe(target),
            MonitorOutput::WatchAddresses(addrs) => self.watches.watch(addrs, now),
            MonitorOutput::AskForAddresses(addrs) => self.watches.ask(&addrs, now),
            MonitorOutput::WriteTerms(terms) => {
                let is_written = self.terms.write(&terms);
                self.handle(MonitorInput::TermsWritten(is_written), now);
                return true;
            }
            // It could not be written either, and that is noted.
            MonitorOutput::RemoveTerms => drop(std::fs::remove_file(&self.terms.path)),
            MonitorOutput::Tend => {
                self.receiver.tend();
                if !self.terms.path.exists() {
                    self.handle(MonitorInput::TermsMissing, now);
                    return true;
                }
            }
        }
        false
    }

    fn read_store(&mut self, anew: bool, now: Instant) {
        // Those who write to it log why it could not be read.
        let refreshed = self.store.refresh().ok();
        let changes =
            refreshed.map(|refreshed| StoreChanges::of(&refreshed.changed, self.store.state()));
        let unavailable_since = self.store.unavailable_since();
        let reading = StoreReading { changes, unavailable_since, anew };
        if self.state.is_news(&reading) {
            self.handle(MonitorInput::StoreRead(reading), now);
        }
    }

    fn handle(&mut self, input: MonitorInput, now: Instant) {
        // It decides in a step.
        self.state.call(MonitorCall::Handle(input), now);
    }
}

/// The file of terms. Its folder is emptied by a reboot, as is the interface that carried the CVIP.
struct TermsFile {
    path: PathBuf,
    run_dir: PathBuf,
}

impl TermsFile {
    fn new(run_dir: &Path, node: u32) -> TermsFile {
        TermsFile { path: run_dir.join(format!("elected-{node}")), run_dir: run_dir.to_owned() }
    }

    fn read(&self, set: u32) -> Terms {
        let text = match files::read_text(&self.path, wire::CAP) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Terms::default(),
            Err(error) => {
                warn!("{}: {error}: this director goes on as if it was none", self.path.display());
                return Terms::default();
            }
        };
        let terms = Terms::parse(&text, set);
        if terms.is_partly_of(&text) {
            warn!("{}: not all of it can be read as terms: the rest counts", self.path.display());
        }
        terms
    }

    fn write(&self, terms: &Terms) -> bool {
        let text = terms.encode();
        let written = files::replace(&self.path, &self.run_dir, text.as_bytes(), false);
        files::note(&self.path, &written);
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_role_that_is_told_again_is_no_election() {
        let mut roles = RoleCounts::default();
        let active = |term| ElectionRole::Active { term };
        for role in [ElectionRole::Standby, active(1), active(1), active(2), ElectionRole::Standby]
        {
            roles.take(role);
        }
        assert_eq!((roles.became_active, roles.became_standby), (1, 1));
    }

    #[test]
    fn the_file_of_terms_is_read_by_its_own_node_and_a_folder_that_is_missing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (TermsFile::new(dir.path(), 3), TermsFile::new(dir.path(), 4));
        assert_eq!(own.read(1), Terms::default());
        let terms = Terms { active: Some((1, 7)), given_up: BTreeMap::from([(2, 1)]) };
        assert!(own.write(&terms));
        assert_eq!((own.read(1), other.read(1)), (terms.clone(), Terms::default()));
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(own.write(&terms) && own.read(1) == terms);
        // A file stands where the folder was.
        std::fs::remove_dir_all(dir.path()).unwrap();
        std::fs::write(dir.path(), "").unwrap();
        assert!(!own.write(&terms));
        std::fs::remove_file(dir.path()).unwrap();
    }
}
