//! What a director computes, and what it reads: one change among very many destinations, and a
//! full pass that finds nothing to change.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvip::checks::Checker;
use cvip::conf::{Conf, Cvip, DirectorNode, RealServer, Routing};
use cvip::director::DirectorAgent;
use cvip::director::desired::{DesiredService, Inputs, desired, touched};
use cvip::director::drains::DrainState;
use cvip::director::kernel_table::Actual;
use cvip::director::reconcile::plan;
use cvip::director::restrictions::Restrictions;
use cvip::director::settings::service_id;
use cvip::ipvs::{Client, DestinationEntry, Service, Stats};
use cvip::ports::PortFlag;
use cvip::protocol::Protocol;
use cvip::recorder::Recorder;
use cvip::store::{Access, LocalStore, NodeRecord, Registration, Scope, ServiceKey, Store};
use cvip_lab::floor::Floor;
use cvip_lab::{KernelChoice, Lab};

use super::fresh::in_a_fresh_namespace;
use super::spread::Spread;
use crate::build;
use cvip::clock::Instant;

/// The director of every table here, which serves nothing itself.
const DIRECTOR: u32 = 1;

pub(crate) fn run(kernel: KernelChoice, rounds: u32) -> Result<ExitCode> {
    let me = build::myself()?;
    let words = ["inside", "one-change", &rounds.to_string()];
    let status = Command::new(&me).args(words).status().context("cannot run xtask")?;
    ensure!(status.success(), "{status}");
    let status = Lab::new(kernel)?
        .timeout(Duration::from_secs(60 * 60))
        .env("CVIP_BENCH_ROUNDS", rounds.to_string())
        .run(&[me.into_os_string(), "inside".into(), "director".into()])?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// A cluster of this many nodes, numbered from 2 on.
fn conf(nodes: u32) -> Conf {
    let server = |node: u32, weight| {
        let [_, a, b, c] = node.to_be_bytes();
        RealServer { node, addr: IpAddr::from([10, a, b, c]), weight }
    };
    let director =
        DirectorNode { node: DIRECTOR, garp_interface: "eth0".to_owned(), sync_interface: None };
    let cvip = Cvip {
        addr: [192, 0, 2, 1].into(),
        gateway: None,
        directors: vec![director],
        real_servers: std::iter::once(server(DIRECTOR, 0))
            .chain((2..2 + nodes).map(|node| server(node, 1)))
            .collect(),
        services: Vec::new(),
    };
    Conf { routing: Routing::Nat, cvips: vec![cvip] }
}

fn key(port: u16) -> ServiceKey {
    ServiceKey { cvip: [192, 0, 2, 1].into(), protocol: Protocol::Tcp, port }
}

/// A node that serves the first ports.
fn record(node: u32, ports: u16) -> NodeRecord {
    let registration = |port| Registration::new(key(port), 1);
    NodeRecord {
        registrations: (1..=ports).map(registration).collect(),
        ..NodeRecord::empty(node, 1, 1)
    }
}

/// One listener of one node comes or goes, among 1,000 nodes of 80 ports.
pub(crate) fn one_change(rounds: u32) -> Result<ExitCode> {
    const NODES: u32 = 1000;
    const PORTS: u16 = 80;
    let conf = conf(NODES);
    let mut nodes: BTreeMap<u32, NodeRecord> =
        (2..2 + NODES).map(|node| (node, record(node, PORTS))).collect();
    println!(
        "one change of one node, among {NODES} nodes of {PORTS} ports ({} destinations), on this \
         machine:",
        NODES * u32::from(PORTS)
    );
    let restrictions = Restrictions::default();
    let (mut leave, mut join, mut node) = (Spread::default(), Spread::default(), Spread::default());
    let full = || record(500, PORTS);
    for _ in 0..rounds.max(100) {
        // Before: all serve. After: port 80 of node 500 is gone, then back, then all of it is.
        for (spread, after) in
            [(&mut leave, record(500, PORTS - 1)), (&mut join, full()), (&mut node, record(500, 0))]
        {
            let before = nodes.insert(500, after.clone());
            let has: BTreeMap<ServiceKey, Actual> = touched(before.as_ref(), Some(&after))
                .into_iter()
                .map(|key| {
                    let nodes = with(&nodes, before.clone());
                    (
                        key,
                        as_desired(
                            key,
                            &desired(key, inputs(&conf, &nodes, &restrictions, Instant::now())),
                        ),
                    )
                })
                .collect();
            let start = Instant::now();
            let mut changes = 0;
            for key in touched(before.as_ref(), Some(&after)) {
                let now = start;
                let inputs = inputs(&conf, &nodes, &restrictions, now);
                let desired = desired(key, inputs);
                changes += plan(key, &desired, has.get(&key), &mut DrainState::new(), now).len();
            }
            spread.add(start.elapsed());
            ensure!(changes == has.len(), "{changes} changes of {} services", has.len());
        }
        nodes.insert(500, full());
    }
    println!("  a listener leaves: {leave}");
    println!("  a listener joins:  {join}");
    let met = if leave.median().max(join.median()) < Duration::from_millis(1) {
        "met"
    } else {
        "NOT met"
    };
    println!("  in under 1 ms, one change each: {met}");
    println!("  a node with {PORTS} listeners leaves: {node}");
    Ok(ExitCode::SUCCESS)
}

fn inputs<'a>(
    conf: &'a Conf,
    nodes: &'a BTreeMap<u32, NodeRecord>,
    restrictions: &'a Restrictions,
    now: Instant,
) -> Inputs<'a> {
    let drains = NONE.get_or_init(Default::default);
    Inputs { conf, nodes, me: DIRECTOR, drains, restrictions, passive: false, now }
}

/// Nothing is drained.
static NONE: std::sync::OnceLock<cvip::store::Drains> = std::sync::OnceLock::new();

/// The records as they were.
fn with(
    nodes: &BTreeMap<u32, NodeRecord>,
    before: Option<NodeRecord>,
) -> BTreeMap<u32, NodeRecord> {
    let mut nodes = nodes.clone();
    nodes.extend(before.map(|record| (record.node, record)));
    nodes
}

/// A service as the kernel has it once everything desired was done.
pub(super) fn as_desired(key: ServiceKey, desired: &DesiredService) -> Actual {
    let entry = |destination| DestinationEntry {
        destination,
        // No drain: it is deleted at once.
        active: 0,
        inactive: 0,
        persistent: 0,
        stats: Stats::default(),
    };
    let service = desired.service.clone().unwrap_or_else(|| Service::new(service_id(key), "wlc"));
    let destinations = desired.destinations.iter();
    Actual { service, destinations: destinations.map(|(id, d)| (*id, entry(*d))).collect() }
}

/// A director's full passes over 10,000 services of 5 destinations.
pub(crate) fn inside() -> Result<ExitCode> {
    const NODES: u32 = 5;
    const SERVICES: u16 = 10_000;
    cvip_lab::require();
    let rounds: u32 = std::env::var("CVIP_BENCH_ROUNDS")?.parse()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!(
        "full passes over {SERVICES} services of {NODES} destinations, Linux {}:",
        release.trim()
    );
    let dir = tempfile::tempdir()?;
    let open = || LocalStore::open(dir.path(), Access::Write).context("the store");
    let mut store = open()?;
    for node in 2..2 + NODES {
        store.put_node(&record(node, SERVICES))?;
    }
    store.put_node(&record(DIRECTOR, 0))?;
    store.update_flags(Scope::Cluster, &mut |flags| {
        flags.set(PortFlag { protocol: Protocol::Tcp, start: 1, end: SERVICES, weight: 1 });
    })?;
    let conf = Arc::new(conf(NODES));
    in_a_fresh_namespace(|| {
        let director = || -> Result<DirectorAgent> {
            let (client, now) = (Client::open()?, Instant::now());
            Ok(DirectorAgent::new(
                DIRECTOR,
                Arc::clone(&conf),
                client,
                Box::new(open()?),
                Checker::new(0, now)?,
                &Recorder::off(),
                now,
            )?)
        };
        let start = Instant::now();
        let report = director()?.full_pass(Instant::now())?;
        println!("  from nothing: {} changes in {:.0?}", report.applied.len(), start.elapsed());
        let start = Instant::now();
        let mut agent = director()?;
        let report = agent.full_pass(Instant::now())?;
        ensure!(report.applied.is_empty(), "a restart changed what was right");
        println!("  a restart on that table: no change, in {:.0?}", start.elapsed());
        let (mut pass, mut floor) = (Spread::default(), Spread::default());
        let bare = Floor::open();
        for _ in 0..rounds {
            let start = Instant::now();
            let report = agent.full_pass(start)?;
            pass.add(start.elapsed());
            ensure!(report.applied.is_empty(), "a full pass changed what was right");
            // The same dumps, received and thrown away.
            let start = Instant::now();
            ensure!(bare.list(SERVICES) > 0, "an empty table");
            floor.add(start.elapsed());
        }
        println!("  nothing to change: {pass}");
        println!("  listing floor:     {floor}");
        let ratio = pass.median().as_secs_f64() / floor.median().as_secs_f64();
        let met = if ratio < 1.5 { "met" } else { "NOT met" };
        println!("  {ratio:.2} times the floor; target 1.5: {met}");
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
