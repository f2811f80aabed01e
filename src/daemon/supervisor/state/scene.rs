//! A supervisor that is given inputs, and its actions in a few words.

use super::*;
use crate::conf::{Cvip, DirectorNode, Loaded, RealServer, Routing};
use crate::daemon::messages::TableMessage;
use crate::director::election::ElectionRole;
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;

/// The node under test.
pub(super) const ME: u32 = 1;

/// How long the hooks of one event may take.
pub(super) const HOOKS_WITHIN: Duration = Duration::from_secs(5);

/// Nodes 1 to 3 are real servers, and these of them directors.
pub(super) fn conf(directors: &[u32], servers: &[u32]) -> Conf {
    let director = |node: &u32| DirectorNode {
        node: *node,
        garp_interface: "lo".to_owned(),
        sync_interface: None,
    };
    let server =
        |node: &u32| RealServer { node: *node, addr: [192, 0, 2, *node as u8].into(), weight: 1 };
    let cvip = Cvip {
        addr: [192, 0, 2, 100].into(),
        gateway: None,
        directors: directors.iter().map(director).collect(),
        real_servers: servers.iter().map(server).collect(),
        services: Vec::new(),
    };
    Conf { routing: Routing::Dr, cvips: vec![cvip] }
}

/// Both directors of the set.
pub(super) fn both() -> Conf {
    conf(&[1, 2], &[1, 2, 3])
}

/// Node 1 is a real server only.
pub(super) fn server() -> Conf {
    conf(&[2], &[1, 2, 3])
}

pub(super) fn read(conf: Option<Conf>) -> SupervisorInput {
    let (clustertab, diagnostics, sources) = (None, Vec::new(), Sources::default());
    SupervisorInput::Read(Box::new(Loaded { conf, clustertab, diagnostics, sources }.into()))
}

pub(super) fn read_conf(conf: Conf) -> ReadConf {
    ReadConf { conf: Arc::new(conf), sources: Arc::default() }
}

pub(super) fn tried(conf: Conf, outcome: Result<(), String>) -> SupervisorInput {
    SupervisorInput::Tried(read_conf(conf), outcome)
}

pub(super) fn swapped(conf: Conf, outcome: Result<(), String>) -> SupervisorInput {
    SupervisorInput::Swapped(read_conf(conf), outcome)
}

pub(super) fn elected(term: u64) -> SupervisorInput {
    SupervisorInput::Elected(ElectionRole::Active { term })
}

pub(super) fn standby() -> SupervisorInput {
    SupervisorInput::Elected(ElectionRole::Standby)
}

pub(super) fn made(active: bool, forwarding: bool) -> SupervisorInput {
    SupervisorInput::TableMade(SyncRole { active, forwarding })
}

pub(super) fn stand(number: u64) -> SupervisorInput {
    SupervisorInput::Addresses(AddressNotice::Stand(number))
}

/// The address manager announces so many addresses.
pub(super) fn announced(count: u8) -> SupervisorInput {
    let at = |last| Reachable { addr: [192, 0, 2, last].into(), device: "lo".to_owned() };
    SupervisorInput::Addresses(AddressNotice::Announced((100..100 + count).map(at).collect()))
}

pub(super) fn hooks_ended(number: u64) -> SupervisorInput {
    SupervisorInput::HooksEnded(number)
}

pub(super) fn successor(number: u64, successor: Option<u32>) -> SupervisorInput {
    SupervisorInput::HandOver { number, answer: Ok(successor) }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An action in a few words.
pub(super) fn words(action: SupervisorAction) -> String {
    match action {
        SupervisorAction::Addresses(message) => match message {
            AddressMessage::Take { role, number, .. } => format!("addresses: {role:?} {number}"),
            AddressMessage::Reload(_) => "addresses: reload".to_owned(),
            AddressMessage::Yield => "addresses: yield".to_owned(),
            AddressMessage::Elected => "addresses: elected".to_owned(),
            AddressMessage::Announce => "addresses: announce".to_owned(),
            AddressMessage::Undo => "addresses: undo".to_owned(),
        },
        SupervisorAction::Node(message) => match message {
            NodeMessage::Direct(directing) => format!("node: direct {directing}"),
            NodeMessage::Obey(applied) => format!("node: obey {:?}", applied.released),
            NodeMessage::Vouch(number) => format!("node: vouch {number}"),
            NodeMessage::Reload(_) | NodeMessage::Leave(_) | NodeMessage::View(_) => {
                unreachable!()
            }
        },
        SupervisorAction::Monitor(message) => match message {
            MonitorMessage::HandOver(number) => format!("monitor: hand over {number}"),
            MonitorMessage::Told(MonitorCommand::Reload(_)) => "monitor: reload".to_owned(),
            MonitorMessage::Told(MonitorCommand::Confirm) => "monitor: confirm".to_owned(),
            MonitorMessage::Told(MonitorCommand::Announced(announced)) => {
                format!("monitor: announced {}", announced.len())
            }
            MonitorMessage::Told(MonitorCommand::Carries(can_carry)) => {
                format!("monitor: can carry {can_carry}")
            }
            _ => unreachable!(),
        },
        SupervisorAction::Table(TableMessage::Leave) => "table: leave".to_owned(),
        SupervisorAction::Table(TableMessage::Reload(_)) => "table: reload".to_owned(),
        SupervisorAction::Table(_) => unreachable!(),
        SupervisorAction::TakeTableRole(role) => match (role.active, role.forwarding) {
            (true, _) => "table: active".to_owned(),
            (false, true) => "table: forwarding".to_owned(),
            (false, false) => "table: standby".to_owned(),
        },
        SupervisorAction::RunHooks(change) => format!("hooks: {} {}", change.event, change.number),
        SupervisorAction::StartNode => "start node".to_owned(),
        SupervisorAction::StartLeave => "start leave".to_owned(),
        SupervisorAction::TellLeaving => "tell leaving".to_owned(),
        SupervisorAction::SayFarewell => "say farewell".to_owned(),
        SupervisorAction::ReadHolders => "read holders".to_owned(),
        SupervisorAction::ReadConf => "read".to_owned(),
        SupervisorAction::TryConf(_) => "try".to_owned(),
        SupervisorAction::SwapWorkers(_) => "swap".to_owned(),
        SupervisorAction::EndFormerTable => "end former table".to_owned(),
        SupervisorAction::Resync(_) => "resync".to_owned(),
        SupervisorAction::Ready => "ready".to_owned(),
        SupervisorAction::Answer(Ok(())) => "answer: done".to_owned(),
        SupervisorAction::Answer(Err(error)) => format!("answer: {error}"),
        SupervisorAction::Exit(Ok(())) => "exit".to_owned(),
        SupervisorAction::Exit(Err(error)) => format!("exit: {error}"),
    }
}

/// A supervisor, and when it was started.
pub(super) struct Run {
    start: Instant,
    pub(super) supervisor: Recorded<Supervisor>,
    tape: Tape,
}

/// Each run is replayed once it has been played, and decides as it did.
impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tape.check(&mut self.supervisor);
        }
    }
}

impl Run {
    pub(super) fn new(conf: Conf, expected: &str) -> Run {
        let start = Instant::now();
        let path = "cvip.conf".to_owned();
        let supervisor = Supervisor::new(ME, path, read_conf(conf), false, HOOKS_WITHIN, start);
        let mut run = Run::of(supervisor, start);
        assert_eq!(run.actions(), expected);
        run
    }

    pub(super) fn of(supervisor: Supervisor, start: Instant) -> Run {
        let (recorder, tape) = Tape::new();
        Run { start, supervisor: Recorded::new(supervisor, &recorder), tape }
    }

    pub(super) fn actions(&mut self) -> String {
        let actions = std::iter::from_fn(|| self.supervisor.next_action(self.start)).map(words);
        actions.collect::<Vec<_>>().join(", ")
    }

    /// Inputs, each with its time in milliseconds since the start and the actions that follow.
    #[track_caller]
    pub(super) fn steps<const N: usize>(&mut self, steps: [(u64, SupervisorInput, &str); N]) {
        for (number, (ms, input, expected)) in steps.into_iter().enumerate() {
            self.supervisor.handle(input, self.start + Duration::from_millis(ms));
            assert_eq!(self.actions(), expected, "step {number} at {ms} ms");
        }
    }

    /// Goes on with another state, and another recording.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Supervisor)) {
        let text = serde_json::to_string(&*self.supervisor).unwrap();
        let mut supervisor = serde_json::from_str(&text).unwrap();
        change(&mut supervisor);
        let (recorder, tape) = Tape::new();
        (self.supervisor, self.tape) = (Recorded::new(supervisor, &recorder), tape);
    }

    pub(super) fn due(&self, ms: u64) -> Option<u128> {
        let due = self.supervisor.due(self.start + Duration::from_millis(ms))?;
        Some(due.duration_since(self.start).as_millis())
    }
}

/// One of two directors, active in term 1 since the first millisecond; its addresses were ordered
/// once.
pub(super) fn active() -> Run {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, elected(1), "table: active"),
        (0, SupervisorInput::TableTold(Ok(())), ""),
        (1, made(true, false), "addresses: ActiveDirector 1"),
        (1, stand(1), "start node"),
        (1, SupervisorInput::NodeStarted(Ok(())), "node: direct true, node: obey {}"),
        (1, announced(1), "monitor: announced 1, hooks: active 1"),
    ]);
    run
}

/// A standby of two directors; its addresses were ordered once.
pub(super) fn passive() -> Run {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, standby(), "addresses: Standby 1"),
        (0, stand(1), "table: standby, start node, hooks: standby 1"),
        (0, SupervisorInput::TableTold(Ok(())), ""),
        (0, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {}"),
        (0, made(false, false), ""),
    ]);
    run
}

/// A real server; its addresses were ordered once.
pub(super) fn real_server() -> Run {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, stand(1), "start node"),
        (0, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {}, ready"),
    ]);
    run
}
