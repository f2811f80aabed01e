//! How long a join and a leave take.
//!
//! Three figures, since an emulated kernel is an order of magnitude slower than a machine: the
//! whole path (listen to IPVS) in the lab; and on this machine's own kernel, which needs no IPVS
//! but root, the node's half (listen to store), and all of it but the kernel's table (listen to
//! the director's decision, over etcd).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol;
use cvip_lab::{Cluster, Deployment, KernelChoice, Lab, Plan, Process};

use super::etcd::Etcd;
use super::native::{Node, in_namespace};
use super::spread::Spread;
use crate::build;
use crate::table::Table;

/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that is gone is out of the pool within this time.
const OUT_WITHIN: Duration = Duration::from_millis(50);

const PORT: u16 = 80;

/// How often the table is looked at. One processor: it is cvipd's most of the time.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(crate) fn run(kernel: KernelChoice, rounds: u32) -> Result<ExitCode> {
    ensure!(rounds > 0, "no rounds, no figures");
    let programs = build::programs(build::Profile::Release)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!(
        "\nthe node's half, listen() to the store's record, on this machine (Linux {}):",
        release.trim()
    );
    match natively(&programs, rounds) {
        Ok(()) => {}
        Err(error) => println!("  not measured: {error:#}"),
    }
    let me = std::env::current_exe()?;
    let words = [me.into_os_string(), "inside".into(), "join-leave".into(), programs.into()];
    let status = Lab::new(kernel)?
        .timeout(Duration::from_secs(900))
        .env("CVIP_BENCH_ROUNDS", rounds.to_string())
        .run(&words)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// The whole path, inside the lab.
pub(crate) fn inside(programs: &Path) -> Result<ExitCode> {
    cvip_lab::require();
    let rounds: u32 = std::env::var("CVIP_BENCH_ROUNDS")?.parse()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!(
        "\nthe whole path, listen() to the kernel's table, in the lab (Linux {}, emulated):",
        release.trim()
    );
    whole_path("socket events", programs, &[], rounds)?;
    whole_path("polling", programs, &["--poll"], rounds)?;
    Ok(ExitCode::SUCCESS)
}

fn whole_path(what: &str, programs: &Path, options: &[&str], rounds: u32) -> Result<()> {
    const NODES: u8 = 2;
    let cluster =
        Cluster::builder(&format!("jl{}", &what[..1])).nodes(NODES).client(false).build()?;
    let mut site = Deployment::new(cluster, programs, &Plan::default())?;
    site.start_all(&[&["--log=warn"], options].concat())?;
    let director = site.director();
    site.await_records()?;
    site.run(
        director,
        &["setport_weight", "--start-port=80", "--end-port=80", "--weight=1", "--cluster"],
    )?;
    let id = ServiceId::Address { protocol: Protocol::Tcp, addr: site.cvip(false), port: PORT };
    let mut table = Table::open(site.host(director), id, PATIENCE, LOOK_EVERY)?;
    let (mut joins, mut closes, mut kills) =
        (Spread::default(), Spread::default(), Spread::default());
    for round in 0..rounds {
        let number = round % u32::from(NODES) + 1;
        let host = site.host(number);
        let server = IpAddr::from(host.v4());
        // Every fourth server is a process that is killed, the others are sockets of this one.
        let (listening, guard) = match round % 4 {
            3 => {
                let (process, at) = listening_process(host.command(&self_path()?))?;
                (at, Guard::Process(process))
            }
            _ => {
                let socket = host.enter(|| TcpListener::bind(("0.0.0.0", PORT)))?;
                (Instant::now(), Guard::Socket(socket))
            }
        };
        let joined = table.until(server, true)?;
        joins.add(joined.saturating_duration_since(listening));
        let (spread, leaving) = match guard {
            Guard::Socket(socket) => {
                drop(socket);
                (&mut closes, Instant::now())
            }
            Guard::Process(process) => {
                let at = Instant::now();
                drop(process);
                (&mut kills, at)
            }
        };
        let left = table.until(server, false)?;
        spread.add(left.saturating_duration_since(leaving));
    }
    println!("  {what:8} listen() to in the table    {joins}");
    println!("  {what:8} close() to out or weight 0  {closes}");
    println!("  {what:8} SIGKILL to out or weight 0  {kills}");
    Ok(())
}

/// What listens.
enum Guard {
    Socket(TcpListener),
    Process(Process),
}

fn self_path() -> Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

/// Starts this program once more as a server, and says when its listen() returned.
fn listening_process(mut command: Command) -> Result<(Process, Instant)> {
    command.args(["inside", "listen"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::spawn(command)?;
    let stdout = process.child().stdout.take().context("a pipe was asked for")?;
    BufReader::new(stdout).read_line(&mut String::new())?;
    Ok((process, Instant::now()))
}

/// The server's side: listens, says so, and waits to be killed.
pub(crate) fn listen() -> Result<ExitCode> {
    let socket = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("listening");
    std::io::stdout().flush()?;
    loop {
        drop(socket.accept());
    }
}

/// The node's half, in a network namespace of this machine.
fn natively(programs: &Path, rounds: u32) -> Result<()> {
    in_namespace(|| {
        for (what, options) in [("socket events", &[][..]), ("polling", &["--poll"])] {
            let mut node = Node::start(programs, options, None)?;
            let (mut joins, mut leaves) = (Spread::default(), Spread::default());
            for _ in 0..rounds {
                let socket = TcpListener::bind(("0.0.0.0", PORT))?;
                let at = Instant::now();
                joins.add(node.until_registered(true)?.saturating_duration_since(at));
                drop(socket);
                let at = Instant::now();
                leaves.add(node.until_registered(false)?.saturating_duration_since(at));
            }
            println!("  {what:8} listen() to in the store    {joins}");
            println!("  {what:8} close() to out of the store {leaves}");
        }
        with_etcd(programs, rounds)
    })
}

/// Three etcd servers, the node's cvipd, and a director's eyes and reckoning, all on this machine.
fn with_etcd(programs: &Path, rounds: u32) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etcd = Etcd::start(dir.path(), 3)?;
    println!(
        "\nlisten() to the director's decision, over three servers of etcd {}, on this machine:",
        etcd.version()?
    );
    {
        let mut node = Node::start(programs, &[], Some(&etcd))?;
        let (mut joins, mut leaves) = (Spread::default(), Spread::default());
        for _ in 0..rounds {
            let table = node.table();
            let socket = TcpListener::bind(("0.0.0.0", PORT))?;
            let at = Instant::now();
            joins.add(node.until_decided(table.as_ref())?.saturating_duration_since(at));
            let table = node.table();
            drop(socket);
            let at = Instant::now();
            leaves.add(node.until_decided(table.as_ref())?.saturating_duration_since(at));
        }
        println!("  socket events    listen() to the decision   {joins}");
        println!("  socket events    close() to the decision    {leaves}");
        let met = if leaves.p99() < OUT_WITHIN { "met" } else { "NOT met" };
        println!("  out within {} ms at the 99th percentile: {met}", OUT_WITHIN.as_millis());
    }
    Ok(())
}
