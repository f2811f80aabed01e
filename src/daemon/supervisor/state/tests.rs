//! Sequences of inputs, each with the actions that it leads to.

use super::*;
use crate::conf::{Cvip, DirectorNode, Loaded, RealServer, Routing};
use crate::daemon::messages::TableMessage;
use crate::director::election::ElectionRole;
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;

/// The node under test.
const ME: u32 = 1;

/// How long the hooks of one event may take.
const HOOKS_WITHIN: Duration = Duration::from_secs(5);

/// Nodes 1 to 3 are real servers, and these of them directors.
fn conf(directors: &[u32], servers: &[u32]) -> Conf {
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
fn both() -> Conf {
    conf(&[1, 2], &[1, 2, 3])
}

/// Node 1 is a real server only.
fn server() -> Conf {
    conf(&[2], &[1, 2, 3])
}

fn read(conf: Option<Conf>) -> SupervisorInput {
    let (clustertab, diagnostics, sources) = (None, Vec::new(), Sources::default());
    SupervisorInput::Read(Box::new(Loaded { conf, clustertab, diagnostics, sources }.into()))
}

fn read_conf(conf: Conf) -> ReadConf {
    ReadConf { conf: Arc::new(conf), sources: Arc::default() }
}

fn tried(conf: Conf, outcome: Result<(), String>) -> SupervisorInput {
    SupervisorInput::Tried(read_conf(conf), outcome)
}

fn swapped(conf: Conf, outcome: Result<(), String>) -> SupervisorInput {
    SupervisorInput::Swapped(read_conf(conf), outcome)
}

fn elected(term: u64) -> SupervisorInput {
    SupervisorInput::Elected(ElectionRole::Active { term })
}

fn standby() -> SupervisorInput {
    SupervisorInput::Elected(ElectionRole::Standby)
}

fn made(active: bool, forwarding: bool) -> SupervisorInput {
    SupervisorInput::TableMade(SyncRole { active, forwarding })
}

fn stand(number: u64) -> SupervisorInput {
    SupervisorInput::Addresses(AddressNotice::Stand(number))
}

/// The address manager announces so many addresses.
fn announced(count: u8) -> SupervisorInput {
    let at = |last| Reachable { addr: [192, 0, 2, last].into(), device: "lo".to_owned() };
    SupervisorInput::Addresses(AddressNotice::Announced((100..100 + count).map(at).collect()))
}

fn hooks_ended(number: u64) -> SupervisorInput {
    SupervisorInput::HooksEnded(number)
}

fn successor(number: u64, successor: Option<u32>) -> SupervisorInput {
    SupervisorInput::HandOver { number, answer: Ok(successor) }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An action in a few words.
fn words(action: SupervisorAction) -> String {
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
struct Run {
    start: Instant,
    supervisor: Recorded<Supervisor>,
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
    fn new(conf: Conf, expected: &str) -> Run {
        let start = Instant::now();
        let path = "cvip.conf".to_owned();
        let supervisor = Supervisor::new(ME, path, read_conf(conf), false, HOOKS_WITHIN, start);
        let mut run = Run::of(supervisor, start);
        assert_eq!(run.actions(), expected);
        run
    }

    fn of(supervisor: Supervisor, start: Instant) -> Run {
        let (recorder, tape) = Tape::new();
        Run { start, supervisor: Recorded::new(supervisor, &recorder), tape }
    }

    fn actions(&mut self) -> String {
        let actions = std::iter::from_fn(|| self.supervisor.next_action(self.start)).map(words);
        actions.collect::<Vec<_>>().join(", ")
    }

    /// Inputs, each with its time in milliseconds since the start and the actions that follow.
    #[track_caller]
    fn steps<const N: usize>(&mut self, steps: [(u64, SupervisorInput, &str); N]) {
        for (number, (ms, input, expected)) in steps.into_iter().enumerate() {
            self.supervisor.handle(input, self.start + Duration::from_millis(ms));
            assert_eq!(self.actions(), expected, "step {number} at {ms} ms");
        }
    }

    /// Goes on with another state, and another recording.
    fn change(&mut self, change: impl FnOnce(&mut Supervisor)) {
        let text = serde_json::to_string(&*self.supervisor).unwrap();
        let mut supervisor = serde_json::from_str(&text).unwrap();
        change(&mut supervisor);
        let (recorder, tape) = Tape::new();
        (self.supervisor, self.tape) = (Recorded::new(supervisor, &recorder), tape);
    }

    fn due(&self, ms: u64) -> Option<u128> {
        let due = self.supervisor.due(self.start + Duration::from_millis(ms))?;
        Some(due.duration_since(self.start).as_millis())
    }
}

/// One of two directors, active in term 1 since the first millisecond; its addresses were ordered
/// once.
fn active() -> Run {
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
fn passive() -> Run {
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
fn real_server() -> Run {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, stand(1), "start node"),
        (0, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {}, ready"),
    ]);
    run
}

#[test]
fn a_real_server_registers_once_its_addresses_stand_and_is_ready_then() {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, SupervisorInput::Time, ""),
        (0, SupervisorInput::Vouch(1), ""),
        (9000, stand(1), "start node"),
        (9000, stand(1), ""),
        (9000, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {}, ready"),
        (9001, SupervisorInput::Addresses(AddressNotice::Carries(false)), ""),
    ]);
    assert_eq!(run.supervisor.roles(), ["real server"]);
}

#[test]
fn a_director_takes_over_with_its_table_made_and_yields_with_its_address_given_back() {
    let mut run = passive();
    assert_eq!(run.supervisor.roles(), ["standby", "real server"]);
    run.steps([
        (10, elected(1), "table: active"),
        (10, SupervisorInput::TableTold(Ok(())), ""),
        // Of the role before.
        (11, made(false, false), ""),
        (12, made(true, false), "addresses: ActiveDirector 2"),
        (12, SupervisorInput::Vouch(7), "node: vouch 7"),
        (13, stand(2), "node: direct true, node: obey {}"),
        (13, announced(1), "monitor: announced 1, hooks: active 2"),
        (20, standby(), "addresses: Yielding 3"),
        (21, stand(3), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (21, SupervisorInput::TableTold(Ok(())), ""),
        (22, made(false, true), ""),
        (2019, SupervisorInput::Time, ""),
        (2020, SupervisorInput::Time, "addresses: Standby 4"),
        (2021, stand(4), "table: standby, node: direct false, node: obey {}"),
    ]);
}

#[test]
fn an_elected_director_carries_the_address_though_its_table_is_not_made_in_time() {
    let mut run = passive();
    run.steps([(10, elected(1), "table: active"), (10, SupervisorInput::TableTold(Ok(())), "")]);
    assert_eq!(run.due(10), Some(510));
    run.steps([
        (509, SupervisorInput::Time, ""),
        (510, SupervisorInput::Time, "addresses: ActiveDirector 2"),
        // It is made after all.
        (800, made(true, false), ""),
    ]);
}

#[test]
fn a_director_that_did_not_run_while_its_table_was_made_is_confirmed_before_it_carries_anything() {
    // What comes first when it runs again: time, the table, or something else.
    let late: [(SupervisorInput, &str); 3] = [
        (SupervisorInput::Time, "monitor: confirm"),
        (made(true, false), "monitor: confirm"),
        (SupervisorInput::Vouch(1), "monitor: confirm, node: vouch 1"),
    ];
    for (input, expected) in late {
        let mut run = passive();
        run.steps([
            (10, elected(1), "table: active"),
            (10, SupervisorInput::TableTold(Ok(())), ""),
            (1010, input, expected),
            (1011, SupervisorInput::Time, ""),
            (1020, standby(), "addresses: Standby 2"),
        ]);
    }
    // It is elected still.
    let mut run = passive();
    run.steps([
        (10, elected(1), "table: active"),
        (10, SupervisorInput::TableTold(Ok(())), ""),
        (1010, made(true, false), "monitor: confirm"),
        (1020, elected(1), "table: active"),
        (1020, SupervisorInput::TableTold(Ok(())), ""),
        (1021, made(true, false), "addresses: ActiveDirector 2"),
    ]);
}

#[test]
fn a_director_whose_table_is_never_made_is_ready_and_carries_the_address() {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, elected(1), "table: active"),
        (0, SupervisorInput::TableTold(Ok(())), ""),
        (500, SupervisorInput::Time, "addresses: ActiveDirector 1"),
        (501, stand(1), "start node"),
        (501, SupervisorInput::NodeStarted(Ok(())), "node: direct true, node: obey {}"),
    ]);
    assert_eq!(run.supervisor.roles(), ["director", "real server"]);
}

#[test]
fn a_worker_that_cannot_be_started_or_ends_ends_cvipd() {
    let died = "exit: the table's thread has ended unexpectedly, or cannot be started; the table \
                stays as it is: start cvipd again";
    active().steps([(10, SupervisorInput::WorkerEnded("table"), died)]);
    let failed = || Err(RunError::System("no thread", std::io::ErrorKind::OutOfMemory.into()));
    let mut run = Run::new(both(), "ready");
    run.steps([
        (0, elected(1), "table: active"),
        (0, SupervisorInput::TableTold(failed()), "exit: no thread: out of memory"),
    ]);
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (0, stand(1), "start node"),
        (0, SupervisorInput::NodeStarted(failed()), "exit: no thread: out of memory"),
    ]);
}

#[test]
fn a_node_whose_addresses_are_never_reported_serves_nothing_and_ends_when_told() {
    let mut run = Run::new(server(), "addresses: RealServer 1");
    run.steps([
        (60_000, SupervisorInput::Time, ""),
        (
            60_000,
            SupervisorInput::Leave(seconds(1)),
            "answer: it was just started, and does not know this node's role yet: try again",
        ),
        (60_000, SupervisorInput::Terminate, "exit"),
    ]);
}

#[test]
fn an_active_director_that_was_away_is_confirmed_before_it_takes_its_role_again() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Doubt), "monitor: confirm"),
        // A second question finds a role that is not known, and that has no addresses to ask for.
        (11, SupervisorInput::Addresses(AddressNotice::Doubt), ""),
        (20, elected(1), "table: active"),
        (20, SupervisorInput::TableTold(Ok(())), ""),
        (21, made(true, false), "addresses: ActiveDirector 2"),
    ]);
    // Another was elected while this one was frozen.
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Doubt), "monitor: confirm"),
        (20, standby(), "addresses: Standby 2"),
        (20, stand(2), "table: standby, node: direct false, node: obey {}, hooks: standby 2"),
    ]);
    // A standby has nothing to be confirmed.
    passive().steps([(
        10,
        SupervisorInput::Addresses(AddressNotice::Doubt),
        "addresses: Standby 2",
    )]);
}

#[test]
fn what_the_addresses_and_the_table_tell_reaches_every_monitor_and_the_node() {
    let mut run = active();
    let announced = || {
        let at = Reachable { addr: [192, 0, 2, 100].into(), device: "lo".to_owned() };
        SupervisorInput::Addresses(AddressNotice::Announced(vec![at]))
    };
    let applied = || AppliedOrders { released: [3].into(), ..AppliedOrders::default() };
    run.steps([
        (10, SupervisorInput::Addresses(AddressNotice::Carries(false)), "monitor: can carry false"),
        (10, announced(), "monitor: announced 1"),
        (10, SupervisorInput::Applied(applied()), "node: obey {3}"),
        (10, SupervisorInput::Addresses(AddressNotice::Faults(vec!["no carrier".to_owned()])), ""),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(conf(&[1, 2, 3], &[1, 2, 3]))), "try"),
        (20, tried(conf(&[1, 2, 3], &[1, 2, 3]), Ok(())), "swap"),
        (
            20,
            swapped(conf(&[1, 2, 3], &[1, 2, 3]), Ok(())),
            "addresses: ActiveDirector 2, monitor: can carry false, monitor: announced 1, \
             table: reload",
        ),
        // The role did not change: nothing follows from it.
        (30, stand(2), ""),
    ]);
    assert_eq!(run.supervisor.address_faults(), ["no carrier"]);
}

#[test]
fn drains_that_were_applied_before_the_node_s_worker_runs_are_told_when_it_does() {
    let mut run = Run::new(both(), "ready");
    let applied = AppliedOrders { released: [3].into(), ..AppliedOrders::default() };
    run.steps([
        (0, standby(), "addresses: Standby 1"),
        (0, SupervisorInput::Applied(applied), ""),
        (0, stand(1), "table: standby, start node, hooks: standby 1"),
        (0, SupervisorInput::NodeStarted(Ok(())), "node: direct false, node: obey {3}"),
    ]);
}

#[test]
fn a_reload_that_fails_on_the_way_leaves_everything_as_it_is() {
    let refused = || Err("there is no interface eth9 here".to_owned());
    let mut run = active();
    let before = Arc::clone(run.supervisor.conf());
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(None), ""),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), refused()), ""),
        (30, SupervisorInput::Apply, "read"),
        (30, read(Some(server())), "try"),
        // What cannot be taken hands nothing over.
        (30, tried(server(), refused()), "answer: there is no interface eth9 here"),
        (40, SupervisorInput::Reload, "read"),
        (40, read(Some(both())), "try"),
        (40, tried(both(), Ok(())), "swap"),
        (40, swapped(both(), refused()), ""),
        (9000, SupervisorInput::Time, ""),
    ]);
    assert!(Arc::ptr_eq(run.supervisor.conf(), &before));
    assert_eq!(run.supervisor.faults(), ["there is no interface eth9 here"]);
    assert_eq!(run.supervisor.roles(), ["director", "real server"]);
    run.steps([
        (9000, SupervisorInput::Apply, "read"),
        (9000, read(Some(both())), "try"),
        (9000, tried(both(), Ok(())), "swap"),
        (
            9000,
            swapped(both(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, resync, answer: done",
        ),
    ]);
    assert_eq!(run.supervisor.faults(), [""; 0]);
}

#[test]
fn a_real_server_that_the_file_no_longer_names_goes_on() {
    let mut run = real_server();
    run.steps([(10, SupervisorInput::Reload, "read"), (10, read(Some(conf(&[2], &[2, 3]))), "")]);
    let [fault] = run.supervisor.faults() else { panic!("{:?}", run.supervisor.faults()) };
    assert!(
        fault.starts_with("node 1 is neither a director nor a real server in cvip.conf")
            && fault.contains("`cvipctl leave` takes it out"),
        "{fault}"
    );
}

#[test]
fn a_reload_while_a_director_yields_changes_nothing_of_that() {
    let mut run = active();
    run.steps([
        (10, standby(), "addresses: Yielding 2"),
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), Ok(())), "swap"),
        (20, swapped(both(), Ok(())), "addresses: Yielding 3, monitor: announced 1, table: reload"),
        // The first role is overtaken; what waits for it waits for the second.
        (21, stand(2), ""),
        (22, stand(3), "table: forwarding, node: direct true, node: obey {}, hooks: standby 2"),
        (2010, SupervisorInput::Time, "addresses: Standby 4"),
    ]);
}

#[test]
fn an_active_director_that_the_file_no_longer_names_hands_over_before_it_retires() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(server())), "try"),
        (10, tried(server(), Ok(())), "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
        // It goes on meanwhile.
        (20, SupervisorInput::Vouch(3), "node: vouch 3"),
        (30, successor(1, Some(2)), ""),
        (40, standby(), "addresses: Yielding 2"),
        (41, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (41, SupervisorInput::TableTold(Ok(())), ""),
        (42, made(false, true), ""),
        (2040, SupervisorInput::Time, "addresses: Standby 3"),
        (2041, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2041, SupervisorInput::TableTold(Ok(())), ""),
        // It is a standby: the files are read again.
        (2042, made(false, false), "read"),
        (2042, read(Some(server())), "try"),
        (2042, tried(server(), Ok(())), "swap"),
        (2042, swapped(server(), Ok(())), "addresses: reload"),
        // The old monitor's last words.
        (2043, standby(), ""),
    ]);
    assert_eq!(run.due(2043), Some(4042));
    run.steps([
        (2050, SupervisorInput::TableEmptied(Err("no memory".to_owned())), ""),
        (2100, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 4"),
        (2101, stand(4), "node: direct false, node: obey {}"),
        (2102, elected(9), ""),
    ]);
    assert_eq!(run.supervisor.roles(), ["real server"]);
}

#[test]
fn a_node_that_was_a_director_when_its_cvipd_last_ran_serves_once_that_table_is_empty() {
    let start = Instant::now();
    let path = "cvip.conf".to_owned();
    let supervisor = Supervisor::new(ME, path, read_conf(server()), true, HOOKS_WITHIN, start);
    let mut run = Run::of(supervisor, start);
    assert_eq!(run.actions(), "");
    assert_eq!(run.supervisor.roles(), ["former director"]);
    run.steps([
        (100, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 1"),
        (101, stand(1), "start node, hooks: standby 1"),
    ]);
}

#[test]
fn a_director_that_is_struck_before_it_knows_its_role_waits_for_the_table_of_an_earlier_start() {
    let mut run = Run::new(both(), "ready");
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(server())), "try"),
        (10, tried(server(), Ok(())), "swap"),
        (10, swapped(server(), Ok(())), "addresses: reload"),
        (60, SupervisorInput::TableEmptied(Ok(())), "end former table, addresses: RealServer 1"),
        (61, stand(1), "start node"),
    ]);
}

#[test]
fn a_former_director_waits_for_neither_a_silent_monitor_nor_a_silent_table_for_ever() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Apply, "read"),
        (10, read(Some(server())), "try"),
        (
            10,
            tried(server(), Ok(())),
            "hooks: giving-up 2, answer: node 1 is no director, or does not know its role yet",
        ),
        (10, hooks_ended(2), "monitor: hand over 1"),
        (3009, SupervisorInput::Time, ""),
        (3010, SupervisorInput::Time, "read"),
        (3010, read(Some(server())), "try"),
        (3010, tried(server(), Ok(())), "swap"),
        (3010, swapped(server(), Ok(())), "addresses: reload"),
        (5009, SupervisorInput::Time, ""),
        (5010, SupervisorInput::Time, "addresses: RealServer 2"),
        (9000, SupervisorInput::TableEmptied(Ok(())), "end former table"),
    ]);
}

/// An active director that hands over, since cvip.conf does not name it any more.
fn handing_over() -> Run {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(server())), "try"),
        (10, tried(server(), Ok(())), "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
    ]);
    run
}

#[test]
fn a_second_reload_during_a_hand_over_waits_for_the_same_hand_over() {
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(server())), "try"),
        (20, tried(server(), Ok(())), ""),
        (30, successor(1, Some(2)), ""),
        (40, standby(), "addresses: Yielding 2"),
        (41, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (42, made(false, true), ""),
        // It forwards still.
        (50, SupervisorInput::Apply, "read"),
        (50, read(Some(server())), "try"),
        (
            50,
            tried(server(), Ok(())),
            "answer: node 1 is no director, or does not know its role yet",
        ),
        (2040, SupervisorInput::Time, "addresses: Standby 3"),
        (2041, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2042, made(false, false), "read"),
        (2042, read(Some(server())), "try"),
        (2042, tried(server(), Ok(())), "swap"),
        (2042, swapped(server(), Ok(())), "addresses: reload"),
        // It is a director again before its table is empty.
        (2050, SupervisorInput::Reload, "read"),
        (2050, read(Some(both())), "try"),
        (2050, tried(both(), Ok(())), "swap"),
        (2050, swapped(both(), Ok(())), "addresses: reload, monitor: announced 1"),
        (2060, SupervisorInput::TableEmptied(Ok(())), "end former table"),
        (2070, standby(), "addresses: Standby 4"),
    ]);
}

#[test]
fn a_reload_that_names_a_director_again_ends_its_hand_over() {
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(Some(both())), "try"),
        (20, tried(both(), Ok(())), "swap"),
        (
            20,
            swapped(both(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, table: reload",
        ),
        (21, stand(2), "hooks: active 3"),
        (9000, SupervisorInput::Time, ""),
    ]);
    // What cannot be taken leaves it a director, too.
    let mut run = handing_over();
    run.steps([
        (20, SupervisorInput::Reload, "read"),
        (20, read(None), "monitor: reload, hooks: active 3"),
        (9000, SupervisorInput::Time, ""),
    ]);
}

#[test]
fn a_real_server_becomes_a_director_by_a_reload() {
    let mut run = real_server();
    run.steps([
        (10, SupervisorInput::Apply, "read"),
        (10, read(Some(both())), "try"),
        (10, tried(both(), Ok(())), "swap"),
        (
            10,
            swapped(both(), Ok(())),
            "addresses: reload, monitor: announced 0, answer: node 1 is no director, or does not \
             know its role yet",
        ),
        (20, elected(1), "table: active"),
    ]);
    assert_eq!(run.supervisor.roles(), ["director, taking over", "real server"]);
}

#[test]
fn an_active_director_that_is_told_to_end_hands_over_first() {
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
        (20, successor(1, Some(2)), ""),
        (
            25,
            SupervisorInput::Leave(seconds(0)),
            "answer: it is ending already, and the node does not leave",
        ),
        (30, standby(), "addresses: Yielding 2"),
        (31, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (31, SupervisorInput::TableTold(Ok(())), ""),
        (32, made(false, true), ""),
        (2030, SupervisorInput::Time, "addresses: Standby 3"),
        (2031, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2031, SupervisorInput::TableTold(Ok(())), ""),
        (2032, made(false, false), "exit"),
    ]);
}

#[test]
fn an_end_waits_for_no_successor_that_cannot_be_and_no_answer_that_never_comes() {
    active().steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
        // What it carries stays.
        (20, successor(1, None), "hooks: active 3, exit"),
    ]);
    active().steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
        (3009, SupervisorInput::Time, ""),
        (3010, SupervisorInput::Time, "hooks: active 3, exit"),
    ]);
    active().steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (10, hooks_ended(2), "monitor: hand over 1"),
        (20, SupervisorInput::Terminate, "exit"),
    ]);
    passive().steps([(10, SupervisorInput::Terminate, "exit")]);
    real_server().steps([(10, SupervisorInput::Terminate, "exit")]);
    // The only director of its set.
    let mut run = active();
    run.change(|supervisor| supervisor.conf = Arc::new(conf(&[1], &[1, 2, 3])));
    run.steps([(10, SupervisorInput::Terminate, "exit")]);
}

#[test]
fn a_node_leaves_once_store_connections_and_directors_let_it_and_undoes_what_it_made() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, SupervisorInput::Leave(seconds(60)), "answer: done"),
        (100, successor(1, Some(2)), ""),
        (200, SupervisorInput::Connections(2), ""),
        (300, standby(), "addresses: Yielding 2"),
        (301, stand(2), "table: forwarding, node: direct true, node: obey {}, hooks: standby 3"),
        (302, made(false, true), ""),
        (2300, SupervisorInput::Time, "addresses: Standby 3"),
        (2301, stand(3), "table: standby, node: direct false, node: obey {}"),
        (2302, made(false, false), ""),
        (2400, SupervisorInput::Time, ""),
        (2500, SupervisorInput::Connections(0), ""),
        (2600, SupervisorInput::Time, "read holders"),
        (2600, SupervisorInput::Holders(Some([2].into())), ""),
        (2700, SupervisorInput::Time, "read holders"),
        (2700, SupervisorInput::Holders(Some([].into())), "say farewell, table: leave"),
        // Nothing else is ordered any more.
        (2800, elected(4), ""),
        (2800, SupervisorInput::Reload, ""),
        (2800, SupervisorInput::Apply, "answer: the node leaves the cluster, and cvipd is ending"),
        (2850, SupervisorInput::TableEmptied(Err("no memory".to_owned())), ""),
        (2900, SupervisorInput::TableEmptied(Ok(())), "addresses: undo"),
        (2950, stand(3), ""),
        (3000, SupervisorInput::Addresses(AddressNotice::Undone), "exit"),
    ]);
    assert_eq!(run.supervisor.leaving(), Some(0));
}

#[test]
fn a_node_leaves_without_another_director_and_without_answers() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, successor(1, None), "hooks: active 3"),
        (500, SupervisorInput::Connections(3), ""),
        (900, SupervisorInput::Time, ""),
        (1000, SupervisorInput::Time, ""),
        (1100, SupervisorInput::Time, "read holders"),
        (10_999, SupervisorInput::Time, "read holders"),
        (11_000, SupervisorInput::Time, "read holders, hooks: giving-up 4"),
        (11_900, SupervisorInput::Time, ""),
        (12_000, hooks_ended(4), "say farewell, table: leave"),
        (31_999, SupervisorInput::Time, ""),
        (32_000, SupervisorInput::Time, "addresses: undo"),
        (41_999, SupervisorInput::Time, ""),
        (42_000, SupervisorInput::Time, "hooks: standby 5, exit"),
    ]);
    // A real server has no table, and one that cannot read the records waits for no director.
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, answer: done, tell leaving"),
        (0, SupervisorInput::Connections(0), ""),
        (100, SupervisorInput::Time, "read holders"),
        (100, SupervisorInput::Holders(None), "say farewell, addresses: undo"),
        (200, SupervisorInput::Addresses(AddressNotice::Undone), "exit"),
    ]);
}

#[test]
fn a_role_that_would_end_while_a_node_undoes_what_it_made_keeps_no_thread_busy() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, hooks: giving-up 2, answer: done"),
        (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
        (0, successor(1, Some(2)), ""),
        (0, SupervisorInput::Connections(0), ""),
        // The successor takes its time.
        (2500, standby(), "addresses: Yielding 2"),
        (3000, SupervisorInput::Time, ""),
        (3100, SupervisorInput::Time, "read holders"),
        (3100, SupervisorInput::Holders(None), "say farewell, table: leave"),
        (5000, SupervisorInput::Time, ""),
    ]);
    assert_eq!(run.due(5000), Some(5100));
}

#[test]
fn a_node_that_undoes_what_it_made_ends_at_once_when_told_or_when_a_worker_ends() {
    for input in [|| SupervisorInput::Terminate, || SupervisorInput::WorkerEnded("table")] {
        let mut run = active();
        run.steps([
            (
                0,
                SupervisorInput::Leave(seconds(0)),
                "start leave, hooks: giving-up 2, answer: done",
            ),
            (0, hooks_ended(2), "monitor: hand over 1, tell leaving"),
            (0, successor(1, None), "hooks: active 3"),
            (0, SupervisorInput::Connections(0), ""),
            (0, SupervisorInput::Time, "read holders"),
            (0, SupervisorInput::Holders(None), "hooks: giving-up 4"),
            (0, hooks_ended(4), "say farewell, table: leave"),
            (100, input(), "addresses: undo, hooks: standby 5, exit"),
        ]);
        let mut run = real_server();
        run.steps([
            (0, SupervisorInput::Leave(seconds(0)), "start leave, answer: done, tell leaving"),
            (0, SupervisorInput::Connections(0), ""),
            (0, SupervisorInput::Time, "read holders"),
            (0, SupervisorInput::Holders(None), "say farewell, addresses: undo"),
            (100, input(), "exit"),
        ]);
    }
}

#[test]
fn a_node_whose_leave_the_store_is_never_told_undoes_nothing() {
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(1)), "start leave, answer: done, tell leaving"),
        (9999, SupervisorInput::Time, ""),
        (10_000, SupervisorInput::Time, "exit"),
    ]);
    // Told to end meanwhile, it undoes nothing either.
    let mut run = real_server();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, answer: done, tell leaving"),
        (100, SupervisorInput::Terminate, "exit"),
    ]);
}

#[test]
fn hooks_that_hang_delay_a_leave_by_their_time_alone_and_another_director_is_not_kept_waiting() {
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (100, SupervisorInput::Connections(0), ""),
        (4999, SupervisorInput::Time, ""),
        (5000, SupervisorInput::Time, "monitor: hand over 1, tell leaving"),
        // They are killed, too late.
        (5001, hooks_ended(2), ""),
        (5100, successor(1, Some(2)), ""),
    ]);
    let mut run = active();
    run.steps([
        (0, SupervisorInput::Leave(seconds(60)), "start leave, hooks: giving-up 2, answer: done"),
        (100, standby(), "addresses: Yielding 2"),
        (
            101,
            stand(2),
            "table: forwarding, node: direct true, node: obey {}, hooks: standby 3, tell leaving",
        ),
        (102, hooks_ended(2), ""),
        (103, made(false, true), ""),
        (2100, SupervisorInput::Time, "addresses: Standby 3"),
    ]);
    // One that is told to end meanwhile ends.
    active().steps([
        (10, SupervisorInput::Terminate, "hooks: giving-up 2"),
        (20, SupervisorInput::Terminate, "exit"),
    ]);
}

#[test]
fn hooks_are_told_that_a_director_is_active_once_its_addresses_are_made_and_announced() {
    let mut run = passive();
    run.steps([
        (10, elected(1), "table: active"),
        (11, made(true, false), "addresses: ActiveDirector 2"),
        // Another director was active by then, and its address was not made.
        (12, stand(2), "node: direct true, node: obey {}"),
        (13, standby(), "addresses: Yielding 3"),
        (14, stand(3), "table: forwarding, node: direct true, node: obey {}"),
        (20, elected(2), "table: active"),
        (21, made(true, false), "addresses: ActiveDirector 4"),
        (22, announced(1), "monitor: announced 1"),
        (23, stand(4), "node: direct true, node: obey {}, hooks: active 2"),
        (24, elected(3), "addresses: ActiveDirector 5"),
        (25, stand(5), "node: direct true, node: obey {}"),
    ]);
}

#[test]
fn hooks_are_told_again_when_an_active_director_carries_other_cvips() {
    let mut other = both();
    other.cvips[0].addr = [192, 0, 2, 101].into();
    let other = || other.clone();
    let mut run = active();
    run.steps([
        (10, SupervisorInput::Reload, "read"),
        (10, read(Some(other())), "try"),
        (10, tried(other(), Ok(())), "swap"),
        (
            10,
            swapped(other(), Ok(())),
            "addresses: ActiveDirector 2, monitor: announced 1, table: reload",
        ),
        (20, stand(2), "hooks: active 2"),
    ]);
}
