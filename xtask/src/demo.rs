//! `cargo xtask demo`: the main job on a real IPVS kernel, step by step.
//!
//! Outside the lab it builds the programs and boots a kernel; inside ([`scenario`]) it is an
//! administrator who looks at the table, and a client who fetches.

mod hands;
mod paint;
mod picture;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol;
use cvip_lab::{Cluster, Deployment, KernelChoice, Lab, Nginx, PATIENCE, Plan};

use self::hands::{
    admin, await_carrier, bind_udp, fetch, fetch_again, kernel_release, show, start_nginx,
};
use self::paint::{BOLD, CYAN, GREEN, RED, painted};
use crate::build;
use crate::table::Table;

/// How often the table is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const NODES: u32 = 3;

/// How often the client fetches to see who serves.
const FETCHES: u32 = 30;

/// How long the scenario is, as people are told.
const LASTS: &str = "a minute";

/// Show the main job on a real kernel, step by step
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel to run on: auto, host, uml, qemu
    #[arg(long, default_value = "auto")]
    kernel: KernelChoice,

    /// Draw what is printed into this file, as an SVG for README.md
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// The word by which the scenario is asked for colours that no terminal shows.
const COLOURED: &str = "coloured";

/// Builds, boots, and runs the scenario there.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    println!(
        "The demo takes about {LASTS}. The first time, building the programs and fetching a kernel \
         take another minute or two before it."
    );
    let programs = build::programs_at_once()?;
    let me = std::env::current_exe()?;
    println!("booting a kernel with IPVS ...");
    let lab = Lab::new(arguments.kernel)?.timeout(Duration::from_secs(300));
    let mut words = vec![me.into_os_string(), "inside".into(), "demo".into(), programs.into()];
    let status = match &arguments.picture {
        None => lab.run(&words)?,
        Some(path) => {
            words.push(COLOURED.into());
            let output = lab.output(&words)?;
            let printed = String::from_utf8_lossy(&output.stdout);
            print!("{printed}");
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            if output.status == 0 {
                let drawn = picture::picture(&printed)?;
                std::fs::write(path, drawn).with_context(|| path.display().to_string())?;
            }
            output.status
        }
    };
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// The steps, numbered as they are told.
struct Story {
    step: u32,
    latencies: Vec<(String, Duration)>,
    failures: Vec<String>,
}

impl Story {
    fn tell(&mut self, text: &str) {
        self.step += 1;
        println!("\n{:2}. {}", self.step, painted(BOLD, text));
    }

    fn took(&mut self, what: &str, latency: Duration) {
        Story::time(what, latency);
        self.latencies.push((what.to_owned(), latency));
    }

    /// How long something took that is not the table's own work.
    fn time(what: &str, time: Duration) {
        let time = format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        println!("      {what}: {}", painted(CYAN, &time));
    }

    /// All of these fetches succeeded.
    fn all_served(&mut self, spread: &BTreeMap<String, u32>) {
        println!("      {spread:?}");
        let served = spread.values().sum::<u32>();
        self.check(&format!("{served} of {FETCHES} fetches succeeded"), served == FETCHES);
    }

    fn check(&mut self, what: &str, holds: bool) {
        let outcome = if holds { painted(GREEN, "ok:") } else { painted(RED, "FAILED:") };
        println!("      {outcome} {what}");
        if !holds {
            self.failures.push(what.to_owned());
        }
    }
}

/// The scenario, inside the lab. `programs` is the folder of the built programs, `options` may ask
/// for colours.
pub(crate) fn scenario(programs: &Path, options: &[OsString]) -> Result<ExitCode> {
    cvip_lab::require();
    paint::begin(options.iter().any(|option| option == COLOURED));
    let mut story = Story { step: 0, latencies: Vec::new(), failures: Vec::new() };
    let release = kernel_release()?;
    let cluster = Cluster::builder("demo").directors(2).nodes(NODES as u8).client(true).build()?;
    let mut site = Deployment::new(cluster, programs, &Plan::default())?;
    let director = site.director();
    let standby = director + 1;
    story.tell(&format!(
        "{NODES} nodes, a director (number {director} in cvip.conf) and a standby ({standby}), \
         network namespaces on one bridge; kernel {release}"
    ));
    // Whoever is there first is elected first.
    site.start(director, &["--log=info"])?;
    await_carrier(&site, director)?;
    for number in site.numbers().filter(|number| *number != director) {
        site.start(number, &["--log=info"])?;
    }
    let cvip = site.cvip(false);
    site.await_records()?;
    show(&site, director, &["cvipctl", "status"])?;

    story.tell("every node flags ports 1 to 80, as OpenSSI's wiki has it");
    for number in 1..=NODES {
        admin(&site, number, &["setport_weight", "--start-port=1", "--end-port=80", "--weight=1"])?;
    }
    println!("    no process listens yet, so the table is empty:");
    let table = show(&site, director, &["ipvsadm-rs", "-L"])?;
    story.check("the table is empty", table.lines().count() == 3);

    story.tell("an administrator's own service, on a port without a flag");
    let hand = format!("{cvip}:8443");
    let server = format!("{}:8443", site.host(1).v4());
    admin(&site, director, &["ipvsadm-rs", "-A", "-t", &hand, "-s", "rr"])?;
    admin(&site, director, &["ipvsadm-rs", "-a", "-t", &hand, "-r", &server, "-g", "-w", "7"])?;
    let by_hand = |site: &Deployment| {
        site.run(director, &["ipvsadm-rs", "-Sn"]).map(|rules| {
            rules
                .lines()
                .filter(|line| line.contains(":8443"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    let before = by_hand(&site)?;

    let mut http = watch(&site, director, Protocol::Tcp, 80)?;
    let mut servers: BTreeMap<u32, Nginx> = BTreeMap::new();
    for number in 1..=NODES {
        story.tell(&match number {
            1 => "nginx starts on node 1: the service appears".to_owned(),
            _ => format!("nginx starts on node {number}: it joins"),
        });
        let (process, listens) = start_nginx(&site, number)?;
        servers.insert(number, process);
        let joined = http.until(site.host(number).v4().into(), true)?;
        story.took(
            &format!("node {number} joined tcp port 80"),
            joined.saturating_duration_since(listens),
        );
    }
    show(&site, director, &["ipvsadm-rs", "-L", "-n"])?;

    story.tell(&format!("the client fetches through the CVIP {FETCHES} times"));
    let spread = fetch(&site, cvip, FETCHES)?;
    story.all_served(&spread);
    story.check("every node served", spread.len() == NODES as usize);

    story.tell("node 2's nginx is killed with SIGKILL, all of its processes");
    let killed = Instant::now();
    drop(servers.remove(&2));
    let gone = http.until(site.host(2).v4().into(), false)?;
    story.took("node 2 left tcp port 80", gone.saturating_duration_since(killed));
    let spread = fetch(&site, cvip, FETCHES)?;
    story.all_served(&spread);
    story.check("node 2 served none of them", !spread.contains_key("node 2"));

    drain(&mut story, &site, &mut http)?;

    story.tell("the others stop: the last takes the service with it");
    for number in [1, 3] {
        let stopped = Instant::now();
        drop(servers.remove(&number));
        let gone = http.until(site.host(number).v4().into(), false)?;
        story.took(
            &format!("node {number} left tcp port 80"),
            gone.saturating_duration_since(stopped),
        );
    }
    println!("    finished connections are waited for, then the service goes:");
    http.until_gone()?;
    let text = show(&site, director, &["ipvsadm-rs", "-L", "-n"])?;
    story.check("the service is gone", !text.contains(&format!("{cvip}:80 ")));

    story.tell("UDP 177 (XDMCP), flagged with --protocol=udp");
    for number in 1..=NODES {
        admin(
            &site,
            number,
            &[
                "setport_weight",
                "--start-port=177",
                "--end-port=177",
                "--weight=1",
                "--protocol=udp",
            ],
        )?;
    }
    let mut xdmcp = watch(&site, director, Protocol::Udp, 177)?;
    let (socket, bound) = bind_udp(&site, 3)?;
    let joined = xdmcp.until(site.host(3).v4().into(), true)?;
    story.took("node 3 joined udp port 177", joined.saturating_duration_since(bound));
    show(&site, director, &["ipvsadm-rs", "-L", "-n"])?;
    let closed = Instant::now();
    drop(socket);
    let gone = xdmcp.until(site.host(3).v4().into(), false)?;
    story.took("node 3 left udp port 177", gone.saturating_duration_since(closed));
    xdmcp.until_gone()?;

    story.tell("the administrator's own service");
    let after = by_hand(&site)?;
    for line in &after {
        println!("      {line}");
    }
    story.check("it is as it was made", before == after && before.len() == 2);

    takeover(&mut story, &mut site, standby)?;
    finish(&story)
}

/// A service of the CVIP in a director's kernel.
fn watch(site: &Deployment, director: u32, protocol: Protocol, port: u16) -> Result<Table> {
    let id = ServiceId::Address { protocol, addr: site.cvip(false), port };
    Table::open(site.host(director), id, PATIENCE, LOOK_EVERY)
}

/// Node 3 is taken out of the pools and put back, while its nginx goes on.
fn drain(story: &mut Story, site: &Deployment, http: &mut Table) -> Result<()> {
    let director = site.director();
    let server: IpAddr = site.host(3).v4().into();
    story.tell("an administrator drains node 3, whose nginx goes on");
    let ordered = Instant::now();
    show(site, director, &["cvipctl", "drain", "3", "--reason", "a new disk"])?;
    let out = http.until(server, false)?;
    Story::time(
        "node 3 drained, with the command's own time",
        out.saturating_duration_since(ordered),
    );
    let spread = fetch(site, site.cvip(false), FETCHES)?;
    story.all_served(&spread);
    story.check("node 3 served none of them", !spread.contains_key("node 3"));
    let ordered = Instant::now();
    show(site, director, &["cvipctl", "undrain", "3"])?;
    let back = http.until(server, true)?;
    Story::time("node 3 put back, likewise", back.saturating_duration_since(ordered));
    Ok(())
}

/// The director's machine dies, and the standby goes on in its place.
fn takeover(story: &mut Story, site: &mut Deployment, standby: u32) -> Result<()> {
    let director = site.director();
    story.tell("nginx starts on nodes 1 and 2 again, and the director's machine loses its power");
    let mut servers = Vec::new();
    let mut http = watch(site, standby, Protocol::Tcp, 80)?;
    for number in [1, 2] {
        servers.push(start_nginx(site, number)?);
        http.until(site.host(number).v4().into(), true)?;
    }
    println!("    the standby has the table already, and clients do not come to it:");
    show(site, standby, &["ipvsadm-rs", "-L", "-n"])?;
    let off = Instant::now();
    site.power_off(director)?;
    let served = fetch_again(site, site.cvip(false))?;
    let after = format!("{:.1} s", served.saturating_duration_since(off).as_secs_f64());
    let after = painted(CYAN, &after);
    println!("      the standby took over: the client is served again after {after}");
    let spread = fetch(site, site.cvip(false), FETCHES)?;
    story.all_served(&spread);
    story.check("nodes 1 and 2 served", spread.len() == 2);
    show(site, standby, &["cvipctl", "status"])?;
    Ok(())
}

fn finish(story: &Story) -> Result<ExitCode> {
    let slowest = story.latencies.iter().max_by_key(|(_, latency)| *latency);
    println!();
    if !story.failures.is_empty() {
        println!("demo: FAILED: {}", story.failures.join("; "));
        return Ok(ExitCode::FAILURE);
    }
    let (what, latency) = slowest.context("something joined")?;
    println!(
        "demo: passed: {} joins and leaves, the slowest {:.1} ms ({what}); joins, balances, \
         survives SIGKILL, drains, leaves, takes over; hand-made services untouched",
        story.latencies.len(),
        latency.as_secs_f64() * 1000.0
    );
    Ok(ExitCode::SUCCESS)
}
