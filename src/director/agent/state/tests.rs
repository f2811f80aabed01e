//! Sequences of what happens to an agent, each with what it asks for and tells.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::super::desired::testing::conf;
use super::super::super::drains::DrainState;
use super::super::super::reconcile::plans;
use super::super::super::restrictions::Restrictions;
use super::super::super::settings::service_id;
use super::super::super::sync::SyncRole;
use super::super::recording::AgentCall;
use super::world::{Input, World, tcp};
use crate::conf::{Conf, DirectorNode, RegistrationMode, ServiceConf};
use crate::ipvs::{
    Change, DaemonRole, Destination, DestinationId, Forwarding, Service, SyncDaemon,
};
use crate::ports::{FlagSet, PortFlag};
use crate::protocol::Protocol;
use crate::store::{DrainTarget, Scope};

const ADD_SERVICE: &str = "-A -t 10.0.0.100:80 -s wlc";
const ADD_2: &str = "-a -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 4";
const ADD_3: &str = "-a -t 10.0.0.100:80 -r 10.0.0.3:80 -g -w 6";
const QUIESCE_2: &str = "-e -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 0";
const WEIGH_2: &str = "-e -t 10.0.0.100:80 -r 10.0.0.2:80 -g -w 4";
const DELETE_2: &str = "-d -t 10.0.0.100:80 -r 10.0.0.2:80";
const DELETE_3: &str = "-d -t 10.0.0.100:80 -r 10.0.0.3:80";
const DELETE_SERVICE: &str = "-D -t 10.0.0.100:80";

const UNAVAILABLE: &str = "failed: the store cannot be reached, and nothing changes until it can";

/// A director of nodes 2 and 3, of which node 2 leaves while connections stand on it.
fn draining() -> World {
    let mut world = served();
    world.play(&[
        (100, Input::Connections(2, 7), &[]),
        (200, Input::Serves(2, &[]), &[QUIESCE_2, "event left"]),
    ]);
    world
}

/// A director whose table has nodes 2 and 3, which serve port 80.
fn served() -> World {
    let mut world = World::new(conf(vec![]), true);
    world.play(&[
        (0, Input::Time, &["full"]),
        (10, Input::Serves(2, &[80]), &["own 80", ADD_SERVICE, ADD_2, "event joined"]),
        (20, Input::Serves(3, &[80]), &[ADD_3, "event joined"]),
    ]);
    world
}

fn drained(world: &World) -> Vec<DestinationId> {
    world.agent.passes.drains.keys().map(|(_, at)| *at).collect()
}

fn at(node: u8) -> DestinationId {
    DestinationId { addr: IpAddr::from([10, 0, 0, node]), port: 80 }
}

#[test]
fn a_refused_deletion_is_asked_for_again_and_its_drain_is_over_when_the_kernel_agrees() {
    let mut world = draining();
    world.play(&[
        (300, Input::Refuses("-d"), &[]),
        (800, Input::Connections(2, 0), &["refused: -d -t 10.0.0.100:80 -r 10.0.0.2:80"]),
    ]);
    assert_eq!(drained(&world), [at(2)], "the deletion was refused");
    assert!(!world.agent.passes.is_settled());
    world.play(&[
        // The full pass that ends it comes by itself, and waits longer each time.
        (900, Input::Time, &[]),
        (1300, Input::Time, &["full", "refused: -d -t 10.0.0.100:80 -r 10.0.0.2:80"]),
        (1700, Input::Time, &[]),
        (1800, Input::Time, &["full", "refused: -d -t 10.0.0.100:80 -r 10.0.0.2:80"]),
        (2700, Input::Refuses(""), &[]),
        (2800, Input::Time, &["full", DELETE_2, "event out"]),
    ]);
    assert!(drained(&world).is_empty() && world.agent.passes.is_settled());
}

#[test]
fn a_pass_that_fails_half_way_is_made_again_from_what_the_kernel_shows() {
    let mut world = World::new(conf(vec![]), true);
    world.play(&[
        (0, Input::Time, &["full"]),
        (10, Input::LosesAnswers(2), &[]),
        (
            20,
            Input::Serves(2, &[80]),
            &[
                "own 80",
                ADD_SERVICE,
                ADD_2,
                "event joined",
                "failed: replies of the kernel were lost",
            ],
        ),
        (30, Input::Serves(3, &[80]), &[ADD_3, "event joined"]),
    ]);
    assert!(!world.agent.passes.is_settled(), "only a full pass ends it");
    world.play(&[
        (400, Input::LosesAnswers(1), &[]),
        (
            520,
            Input::Drained(2, true),
            &[
                "full",
                "-d -t 10.0.0.100:80 -r 10.0.0.2:80",
                "event drain_ordered",
                "failed: replies of the kernel were lost",
            ],
        ),
    ]);
    assert_eq!(world.agent.obeys(), None, "it is not known whether the table obeys");
    world.play(&[(1020, Input::Time, &["full"])]);
    let obeyed = world.agent.obeys().unwrap();
    assert_eq!(obeyed.drains, [DrainTarget { node: 2, port: None }].into());
}

#[test]
fn a_table_that_cannot_be_read_is_left_alone_and_read_again() {
    let mut world = served();
    world.play(&[
        (100, Input::Unreadable(true), &[]),
        (
            200,
            Input::Serves(3, &[]),
            &["event left", "failed: the IPVS table kept changing while it was read"],
        ),
        (700, Input::Time, &["full", "failed: the IPVS table kept changing while it was read"]),
        (800, Input::Unreadable(false), &[]),
        (1200, Input::Time, &["full", DELETE_3, "event out"]),
    ]);
}

#[test]
fn what_cannot_be_written_as_owned_is_not_made_until_the_store_knows_it() {
    let mut world = World::new(conf(vec![]), true);
    world.play(&[
        (0, Input::Time, &["full"]),
        (10, Input::Unwritable(true), &[]),
        (20, Input::Serves(2, &[80]), &["own 80", "event joined", "failed: cannot write owned"]),
    ]);
    assert!(world.kernel.is_empty());
    // The store has it, and writes it when it can.
    world.play(&[(520, Input::Time, &["full", ADD_SERVICE, ADD_2])]);
    // The service goes, and that cannot be written: it is tried again.
    world.play(&[
        (
            600,
            Input::Serves(2, &[]),
            &[
                DELETE_2,
                DELETE_SERVICE,
                "own",
                "event left",
                "event out",
                "failed: cannot write owned",
            ],
        ),
        (700, Input::Unwritable(false), &[]),
        (1100, Input::Time, &["full"]),
    ]);
    assert!(world.agent.passes.is_settled());
    assert_eq!(world.view.owned[&1], [].into());
}

#[test]
fn before_the_store_was_read_once_nothing_is_touched() {
    let mut world = World::new(conf(vec![]), false);
    let http = service_id(tcp(80));
    world.play(&[
        (0, Input::Foreign(Change::AddService(Service::new(http, "rr"))), &["full", UNAVAILABLE]),
        (100, Input::Serves(2, &[80]), &[]),
        (500, Input::Time, &["full", UNAVAILABLE]),
        (1000, Input::Time, &[]),
        (1500, Input::Time, &["full", UNAVAILABLE]),
        (
            1600,
            Input::Unavailable(false),
            &["full", "own 80", ADD_2, "-E -t 10.0.0.100:80 -s wlc", "event joined"],
        ),
    ]);
    assert!(world.agent.passes.is_settled());
}

#[test]
fn before_the_store_was_read_once_services_that_are_touched_wait() {
    let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
    service.registration = RegistrationMode::Static;
    let mut world = World::new(conf(vec![service]), false);
    world.play(&[(0, Input::Time, &["full", UNAVAILABLE])]);
    let suspected = Restrictions { suspected: [2].into(), ..Restrictions::default() };
    assert_eq!(world.call(AgentCall::Restrict(suspected)), None);
    assert!(world.agent.due(world.now) > Some(world.now), "it would step without a pause");
}

#[test]
fn while_the_store_is_unavailable_the_table_stays_and_is_repaired_and_then_it_catches_up() {
    let mut world = served();
    world.play(&[
        (100, Input::Unavailable(true), &[]),
        (200, Input::Serves(3, &[]), &[]),
        (1200, Input::Flushed, &[ADD_SERVICE, ADD_2, ADD_3, "event table_repaired"]),
        (60_100, Input::Time, &["full"]),
        (60_200, Input::Unavailable(false), &[DELETE_3, "event left", "event out"]),
    ]);
}

#[test]
fn a_reload_in_the_middle_of_a_drain_makes_it_shorter_and_never_longer() {
    let with = |drain_timeout| {
        let mut service = ServiceConf::new(Protocol::Tcp, 80, 80);
        service.drain_timeout = drain_timeout;
        conf(vec![service])
    };
    let mut world = draining();
    world.play(&[
        (1000, Input::Reload(with(300)), &["full"]),
        (2000, Input::Reload(with(5)), &["full"]),
        (3000, Input::Reload(with(60)), &["full"]),
        (5100, Input::Time, &[]),
        (5700, Input::Time, &[DELETE_2, "event out"]),
    ]);
    // One that is back in time gets its weight again.
    let mut world = draining();
    world.play(&[
        (1000, Input::Reload(with(300)), &["full"]),
        (2000, Input::Serves(2, &[80]), &[WEIGH_2, "event joined"]),
    ]);
    assert!(drained(&world).is_empty());
}

#[test]
fn a_foreign_service_is_adopted_on_a_flagged_port_and_on_no_other() {
    let mut world = served();
    let (ftp, dns) = (service_id(tcp(21)), service_id(tcp(53)));
    let server = Destination::new([10, 0, 0, 2].into(), 21, Forwarding::Route, 1);
    world.play(&[
        (100, Input::Foreign(Change::AddService(Service::new(ftp, "rr"))), &[]),
        (200, Input::Foreign(Change::AddDestination(ftp, server)), &[]),
        (300, Input::Foreign(Change::AddService(Service::new(dns, "rr"))), &[]),
        (400, Input::FullPass, &["full"]),
    ]);
    let mut flags = FlagSet::default();
    flags.set(PortFlag::new(Protocol::Tcp, 21, 21, 1).unwrap());
    world.set_flags(Scope::Cluster, flags);
    world.play(&[(
        500,
        Input::FullPass,
        &["full", "-d -t 10.0.0.100:21 -r 10.0.0.2:21", "-D -t 10.0.0.100:21", "event out"],
    )]);
    assert!(world.kernel.contains_key(&tcp(53)));
}

#[test]
fn what_another_program_changes_is_put_back_and_told_once() {
    let mut world = served();
    let http = service_id(tcp(80));
    let heavy = Destination::new([10, 0, 0, 2].into(), 80, Forwarding::Route, 99);
    world.play(&[
        (500, Input::Foreign(Change::EditDestination(http, heavy)), &[]),
        (1100, Input::Time, &[WEIGH_2, "event table_repaired"]),
        (1600, Input::Flushed, &[]),
        (2200, Input::Time, &[ADD_SERVICE, ADD_2, ADD_3, "event table_repaired"]),
        (3300, Input::Time, &[]),
    ]);
}

const STANDBY: SyncRole = SyncRole { active: false, forwarding: false };
const ACTIVE: SyncRole = SyncRole { active: true, forwarding: false };

/// Nodes 1 and 2 direct, and synchronise over eth1.
fn pair() -> Conf {
    let director = |node| DirectorNode {
        node,
        garp_interface: "eth0".to_owned(),
        sync_interface: Some("eth1".to_owned()),
    };
    let mut conf = conf(vec![]);
    conf.cvips[0].directors = [1, 2].map(director).into();
    conf
}

const START_BACKUP: &str = "--start-daemon backup --mcast-interface eth1 --syncid 1";
const START_MASTER: &str = "--start-daemon master --mcast-interface eth1 --syncid 1";
const STOP_BACKUP: &str = "--stop-daemon backup --syncid 1";

#[test]
fn a_standby_whose_place_for_the_sync_daemon_is_taken_has_no_table_until_it_is_free() {
    let other = SyncDaemon {
        role: DaemonRole::Backup,
        interface: "eth0".to_owned(),
        sync_id: 77,
        max_len: None,
        group: None,
        port: None,
        ttl: None,
    };
    let mut world = World::new(pair(), true);
    world.play(&[
        (0, Input::Serves(2, &[80]), &["full", "own 80", ADD_SERVICE, ADD_2, "event joined"]),
        (100, Input::Daemon(Some(other)), &[]),
        (
            200,
            Input::Role(STANDBY),
            &[
                "event sync_missing",
                "event table_passive",
                "full",
                DELETE_2,
                DELETE_SERVICE,
                "own",
                "event out",
            ],
        ),
        (1300, Input::Time, &[]),
        (
            2400,
            Input::Daemon(None),
            &[
                START_BACKUP,
                "full",
                "own 80",
                ADD_SERVICE,
                ADD_2,
                "event sync_runs",
                "event table_ready",
            ],
        ),
    ]);
    assert!(!world.agent.owes_table());
}

#[test]
fn a_role_that_changes_while_a_pass_is_owed_is_owed_until_a_full_pass_has_made_its_table() {
    let mut world = World::new(pair(), true);
    world.play(&[
        (0, Input::Serves(2, &[80]), &["full", "own 80", ADD_SERVICE, ADD_2, "event joined"]),
        (100, Input::Refuses("--start-daemon backup"), &[]),
        (200, Input::Unreadable(true), &[]),
        (
            300,
            Input::Role(STANDBY),
            &[
                "refused: --start-daemon backup --mcast-interface eth1 --syncid 1",
                "event sync_missing",
                "event table_passive",
                "full",
                "event table_failed",
                "failed: the IPVS table kept changing while it was read",
            ],
        ),
    ]);
    assert!(world.agent.owes_table(), "the table is not empty yet");
    world.play(&[
        // Elected before that: the table stays, and is owed all the same.
        (
            400,
            Input::Role(ACTIVE),
            &[START_MASTER, "full", "failed: the IPVS table kept changing while it was read"],
        ),
    ]);
    assert!(world.agent.owes_table());
    world.play(&[
        (500, Input::Unreadable(false), &[]),
        (1400, Input::Time, &["full", "event table_ready"]),
    ]);
    assert!(!world.agent.owes_table());
    // A standby's refused deletion keeps the table owed.
    world.play(&[
        (1500, Input::Refuses("-d"), &[]),
        (2000, Input::Role(STANDBY), &[START_BACKUP, "--stop-daemon master --syncid 1"]),
    ]);
    assert!(!world.agent.owes_table(), "its daemon runs: the table stays");
    world.play(&[(2500, Input::Role(ACTIVE), &[START_MASTER, STOP_BACKUP])]);
}

#[test]
fn a_standby_that_cannot_empty_its_table_is_not_done() {
    let mut world = World::new(conf(vec![]), true);
    world.play(&[
        (0, Input::Serves(2, &[80]), &["full", "own 80", ADD_SERVICE, ADD_2, "event joined"]),
        (100, Input::Refuses("-d"), &[]),
        (
            200,
            Input::Role(STANDBY),
            &["full", "refused: -d -t 10.0.0.100:80 -r 10.0.0.2:80", DELETE_SERVICE],
        ),
    ]);
    assert!(world.agent.owes_table(), "a deletion was refused");
    world.play(&[(300, Input::Refuses(""), &[]), (800, Input::Time, &["full", "own"])]);
    assert!(!world.agent.owes_table());
}

#[test]
fn a_node_that_leaves_is_released_once_a_full_pass_has_met_that() {
    let mut world = served();
    world.play(&[(100, Input::Leaves(2, &[80]), &[DELETE_2, "event out"])]);
    assert_eq!(world.agent.obeys().unwrap().released, [].into());
    world.play(&[(200, Input::Time, &["full"])]);
    assert_eq!(world.agent.obeys().unwrap().released, [2].into());
}

#[test]
fn a_director_that_leaves_deletes_what_it_owns_and_is_then_done() {
    let mut world = served();
    world.play(&[
        (200, Input::Leave, &[DELETE_SERVICE, "own", "left"]),
        (70_000, Input::Serves(3, &[]), &[]),
    ]);
    assert_eq!(world.agent.due(world.now), None, "no step makes any of it again");
}

#[test]
fn a_director_that_leaves_owns_what_the_kernel_did_not_delete_and_tries_again() {
    let refused = "refused: -D -t 10.0.0.100:80";
    let mut world = served();
    world.play(&[
        (100, Input::Refuses("-D"), &[]),
        (
            200,
            Input::Leave,
            &[
                refused,
                "not left: change 0: the kernel refused to delete a virtual service: Out of memory",
            ],
        ),
        (600, Input::Time, &[]),
        // It is told once.
        (700, Input::Time, &[refused]),
    ]);
    assert_eq!(world.view.owned[&1], [tcp(80)].into());
    world.play(&[
        (900, Input::Refuses(""), &[]),
        (
            1200,
            Input::Unreadable(true),
            &["not left: the IPVS table kept changing while it was read: try again"],
        ),
        (1700, Input::Unreadable(false), &[DELETE_SERVICE, "own", "left"]),
    ]);
    assert_eq!(world.view.owned[&1], [].into());
    assert_eq!(world.agent.due(world.now), None);
}

#[test]
fn a_director_that_leaves_before_the_store_was_read_knows_not_what_it_owns() {
    let mut world = World::new(conf(vec![]), false);
    world.play(&[
        (
            0,
            Input::Leave,
            &["not left: the store cannot be reached, and nothing changes until it can: no route"],
        ),
        (500, Input::Unavailable(false), &["left"]),
    ]);
}

#[test]
fn a_director_that_cannot_read_its_daemons_leaves_its_services_all_the_same() {
    let mut world = World::new(pair(), true);
    world.play(&[
        (0, Input::Serves(2, &[80]), &["full", "own 80", ADD_SERVICE, ADD_2, "event joined"]),
        (100, Input::Role(ACTIVE), &[START_MASTER]),
        (200, Input::DaemonsUnreadable(true), &[]),
        (300, Input::Leave, &[DELETE_SERVICE, "not left: replies of the kernel were lost: read the IPVS table again before changing it"]),
        (800, Input::DaemonsUnreadable(false), &["--stop-daemon master --syncid 1", "own", "left"]),
    ]);
}

#[test]
fn a_table_that_cannot_be_made_at_first_is_owed_and_told_until_a_full_pass_has_made_it() {
    let failed = "failed: the IPVS table kept changing while it was read";
    // A standby without a synchronisation daemon has an empty table, which is another.
    let of_standby = ["full", "event table_failed", failed];
    for (role, asked) in [(ACTIVE, &of_standby[..0]), (STANDBY, &of_standby[..])] {
        let mut world = World::new(conf(vec![]), true);
        world.play(&[
            (0, Input::Unreadable(true), &["full", "event table_failed", failed]),
            (100, Input::Role(role), asked),
        ]);
        assert!(world.agent.owes_table(), "{role:?}");
        world.settle();
        assert!(!world.agent.owes_table(), "{role:?}");
    }
    let mut world = World::new(conf(vec![]), true);
    world.play(&[
        (0, Input::Unreadable(true), &["full", "event table_failed", failed]),
        (500, Input::Role(ACTIVE), &["full", failed]),
        (1500, Input::Unreadable(false), &["full", "event table_ready"]),
    ]);
    // Before the store was read, nothing is known to fail.
    let mut world = World::new(conf(vec![]), false);
    world.play(&[(0, Input::Role(ACTIVE), &["full", UNAVAILABLE])]);
    assert!(world.agent.owes_table());
    world.play(&[(500, Input::Unavailable(false), &["full"])]);
    assert!(!world.agent.owes_table());
}

/// What a node may serve.
const PORTS: [&[u16]; 4] = [&[], &[80], &[81], &[80, 81]];

fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
    let node = || 2..4u32;
    let ports = || prop::sample::select(&PORTS[..]);
    let refused = prop::sample::select(vec!["", "", "-A", "-a", "-e", "-d", "-D"]);
    let role = prop::sample::select(vec![STANDBY, ACTIVE]);
    let input = prop_oneof![
        3 => Just(Input::Time),
        4 => (node(), ports()).prop_map(|(node, ports)| Input::Serves(node, ports)),
        1 => (node(), ports()).prop_map(|(node, ports)| Input::Leaves(node, ports)),
        2 => (node(), any::<bool>()).prop_map(|(node, drained)| Input::Drained(node, drained)),
        2 => (node(), 0..3u32).prop_map(|(node, count)| Input::Connections(node, count)),
        2 => refused.prop_map(Input::Refuses),
        1 => (0..4usize).prop_map(Input::LosesAnswers),
        1 => any::<bool>().prop_map(Input::Unreadable),
        1 => any::<bool>().prop_map(Input::Unavailable),
        1 => any::<bool>().prop_map(Input::Unwritable),
        1 => Just(Input::Flushed),
        1 => role.prop_map(Input::Role),
        1 => Just(Input::FullPass),
    ];
    prop::collection::vec((0..2000u64, input), 1..40)
}

proptest! {
    #[test]
    fn whatever_fails_on_the_way_the_table_is_as_desired_in_the_end_and_nothing_stands_unowned(
        is_known in any::<bool>(), inputs in inputs(),
    ) {
        let mut world = World::new(conf(vec![]), is_known);
        for (ms, input) in &inputs {
            world.pass_time(*ms, input);
        }
        world.settle();
        prop_assert!(world.agent.passes.is_settled() && !world.agent.owes_table());
        prop_assert_eq!(&world.agent.passes.drains, &DrainState::new());
        let services = [80, 81].map(tcp).into();
        let inputs = world.agent.inputs(world.now);
        let left = plans(&services, &world.kernel, inputs, &mut DrainState::new());
        prop_assert_eq!(left.changes, []);
        let owned: Vec<_> = world.view.owned.values().flatten().collect();
        prop_assert_eq!(owned, world.kernel.keys().collect::<Vec<_>>());
    }
}
