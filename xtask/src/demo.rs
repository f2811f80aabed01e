//! `cargo xtask demo`: the main job on a real IPVS kernel, step by step.
//!
//! Outside the lab it builds the programs and boots a kernel; inside ([`scenario`]) it is an
//! administrator who looks at the table, and a client who fetches.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvip::ipvs::{Client, ServiceId};
use cvip::listeners::{Dumper, Ranges};
use cvip::protocol::Protocol;
use cvip_lab::{Cluster, Deployment, KernelChoice, Lab, Plan, Process};

use crate::build;

/// How long anything may take before the demo calls it a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the table is looked at while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const NODES: u32 = 3;

/// Show the main job on a real kernel, step by step
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel to run on: auto, host, uml, qemu
    #[arg(long, default_value = "auto")]
    kernel: KernelChoice,
}

/// Builds, boots, and runs the scenario there.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let programs = build::programs()?;
    let me = std::env::current_exe()?;
    println!("booting a kernel with IPVS ...");
    let status = Lab::new(arguments.kernel)?.timeout(Duration::from_secs(300)).run(&[
        me.into_os_string(),
        "inside".into(),
        "demo".into(),
        programs.into(),
    ])?;
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
        println!("\n{:2}. {text}", self.step);
    }

    fn took(&mut self, what: &str, latency: Duration) {
        println!("      {what}: {:.1} ms", latency.as_secs_f64() * 1000.0);
        self.latencies.push((what.to_owned(), latency));
    }

    fn check(&mut self, what: &str, holds: bool) {
        println!("      {} {what}", if holds { "ok:" } else { "FAILED:" });
        if !holds {
            self.failures.push(what.to_owned());
        }
    }
}

/// The scenario, inside the lab. `programs` is the folder of the built programs.
pub(crate) fn scenario(programs: &Path) -> Result<ExitCode> {
    cvip_lab::require();
    let mut story = Story { step: 0, latencies: Vec::new(), failures: Vec::new() };
    let release = nix_release()?;
    story.tell(&format!(
        "a director and {NODES} nodes, network namespaces on one bridge; kernel {release}"
    ));
    let cluster = Cluster::builder("demo").directors(1).nodes(NODES as u8).client(true).build()?;
    let mut site = Deployment::new(cluster, programs, &Plan::default())?;
    site.start_all(&["--log=info"])?;
    let director = site.director();
    let cvip = site.cvip(false);
    await_status(&site, director)?;
    show(&site, director, &["cvipctl", "status"])?;

    story.tell("every node flags ports 1 to 80, as OpenSSI's wiki has it");
    for number in 1..=NODES {
        admin(&site, number, &["setport_weight", "--start-port=1", "--end-port=80", "--weight=1"])?;
    }
    println!("    nobody listens yet, so the table is empty:");
    let table = show(&site, director, &["ipvsadm-rs", "-L"])?;
    story.check("the table is empty", table.lines().count() == 3);

    story.tell("an administrator's own service, on a port that nobody flags");
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

    let mut table = Table::open(&site, director)?;
    let http = Watched { protocol: Protocol::Tcp, cvip, port: 80 };
    let mut servers: BTreeMap<u32, Process> = BTreeMap::new();
    for number in 1..=NODES {
        story.tell(&match number {
            1 => "nginx starts on node 1: the service appears".to_owned(),
            _ => format!("nginx starts on node {number}: it joins"),
        });
        let (process, listens) = start_nginx(&site, number)?;
        servers.insert(number, process);
        let joined =
            table.until(&http, site.host(number).v4().into(), |w| w.is_some_and(|w| w > 0))?;
        story.took(
            &format!("node {number} joined tcp port 80"),
            joined.saturating_duration_since(listens),
        );
    }
    show(&site, director, &["ipvsadm-rs", "-L", "-n"])?;

    story.tell("the client fetches through the CVIP 30 times");
    let spread = fetch(&site, cvip, 30)?;
    println!("      {spread:?}");
    story.check("30 of 30 fetches succeeded", spread.values().sum::<u32>() == 30);
    story.check("every node served", spread.len() == NODES as usize);

    story.tell("node 2's nginx is killed with SIGKILL, all of its processes");
    let killed = Instant::now();
    drop(servers.remove(&2));
    let gone = table.until(&http, site.host(2).v4().into(), |w| w.is_none_or(|w| w == 0))?;
    story.took("node 2 left tcp port 80", gone.saturating_duration_since(killed));
    let spread = fetch(&site, cvip, 30)?;
    println!("      {spread:?}");
    story.check("none of the next 30 fetches failed", spread.values().sum::<u32>() == 30);
    story.check("node 2 served none of them", !spread.contains_key("node 2"));

    story.tell("the others stop: the last takes the service with it");
    for number in [1, 3] {
        let stopped = Instant::now();
        drop(servers.remove(&number));
        let gone =
            table.until(&http, site.host(number).v4().into(), |w| w.is_none_or(|w| w == 0))?;
        story.took(
            &format!("node {number} left tcp port 80"),
            gone.saturating_duration_since(stopped),
        );
    }
    println!("    finished connections are waited for, then the service goes:");
    table.until_gone(&http)?;
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
    let xdmcp = Watched { protocol: Protocol::Udp, cvip, port: 177 };
    let (socket, bound) = bind_udp(&site, 3)?;
    let joined = table.until(&xdmcp, site.host(3).v4().into(), |w| w.is_some_and(|w| w > 0))?;
    story.took("node 3 joined udp port 177", joined.saturating_duration_since(bound));
    show(&site, director, &["ipvsadm-rs", "-L", "-n"])?;
    let closed = Instant::now();
    drop(socket);
    let gone = table.until(&xdmcp, site.host(3).v4().into(), |w| w.is_none())?;
    story.took("node 3 left udp port 177", gone.saturating_duration_since(closed));
    table.until_gone(&xdmcp)?;

    story.tell("the administrator's own service");
    let after = by_hand(&site)?;
    for line in &after {
        println!("      {line}");
    }
    story.check("it is as it was made", before == after && before.len() == 2);

    finish(&story)
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
        "demo: passed: {} joins and leaves, the slowest {:.1} ms ({what}); joins, balances, survives SIGKILL, leaves; \
         hand-made services untouched",
        story.latencies.len(),
        latency.as_secs_f64() * 1000.0
    );
    Ok(ExitCode::SUCCESS)
}

/// The kernel's table on the director, as the demo watches it.
struct Table {
    client: Client,
}

/// A virtual service that is awaited.
struct Watched {
    protocol: Protocol,
    cvip: IpAddr,
    port: u16,
}

impl Watched {
    fn id(&self) -> ServiceId {
        ServiceId::Address { protocol: self.protocol, addr: self.cvip, port: self.port }
    }
}

impl Table {
    fn open(site: &Deployment, director: u32) -> Result<Table> {
        Ok(Table { client: site.host(director).enter(Client::open)? })
    }

    /// Waits until a server's weight in a service (`None`: it is not there) is as asked.
    fn until(
        &mut self,
        service: &Watched,
        server: IpAddr,
        holds: impl Fn(Option<u32>) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let destinations = self.client.destinations(&service.id())?;
            let now = Instant::now();
            let found = destinations.iter().find(|d| d.destination.id.addr == server);
            if holds(found.map(|d| d.destination.weight)) {
                return Ok(now);
            }
            ensure!(now < deadline, "the table did not change within {PATIENCE:?}");
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until a service is gone; finished connections hold it for some seconds.
    fn until_gone(&mut self, service: &Watched) -> Result<()> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.client.service(&service.id())?.is_some() {
            ensure!(Instant::now() < deadline, "the service stayed");
            sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// Runs a command of cvip as an administrator on a node would, and shows it.
fn admin(site: &Deployment, number: u32, line: &[&str]) -> Result<String> {
    println!("    node {number} # {}", line.join(" "));
    site.run(number, line)
}

/// The same, with what it prints.
fn show(site: &Deployment, number: u32, line: &[&str]) -> Result<String> {
    let text = admin(site, number, line)?;
    for line in text.lines() {
        println!("      {line}");
    }
    Ok(text)
}

/// Waits until every node has put its record into the store.
fn await_status(site: &Deployment, director: u32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let json = site.run(director, &["cvipctl", "status", "--json"])?;
        if !json.contains("\"bells\": null") {
            return Ok(());
        }
        if Instant::now() > deadline {
            for number in site.numbers() {
                let log = fs::read_to_string(site.log(number)).unwrap_or_default();
                eprintln!("cvipd of node {number}:\n{log}");
            }
            bail!("not every cvipd wrote a record");
        }
        sleep(Duration::from_millis(50));
    }
}

/// Starts nginx on a node, in a process group of its own, and says since when it listens.
fn start_nginx(site: &Deployment, number: u32) -> Result<(Process, Instant)> {
    let dir: PathBuf = site.dir.join(format!("nginx-{number}"));
    fs::create_dir_all(&dir)?;
    let conf = dir.join("nginx.conf");
    let text = format!(
        "daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
         fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 80; listen [::]:80; location / {{ return 200 'node {number}\\n'; }} }} }}\n",
        dir = dir.display()
    );
    fs::write(&conf, text)?;
    let mut dumper = site.host(number).enter(Dumper::open)?;
    let mut ranges = Ranges::new();
    ranges.add(Protocol::Tcp, 80, 80);
    let mut command = site.host(number).command("nginx");
    command.arg("-c").arg(&conf).arg("-e").arg(dir.join("error.log"));
    let process = Process::spawn_group(command)?;
    let deadline = Instant::now() + PATIENCE;
    while dumper.snapshot(&ranges)?.is_empty() {
        ensure!(Instant::now() < deadline, "nginx does not listen: see {}", dir.display());
        sleep(LOOK_EVERY);
    }
    Ok((process, Instant::now()))
}

/// Binds UDP port 177 on a node, as an XDMCP server does.
fn bind_udp(site: &Deployment, number: u32) -> Result<(std::net::UdpSocket, Instant)> {
    let any: SocketAddr = "0.0.0.0:177".parse()?;
    let socket = site.host(number).enter(move || std::net::UdpSocket::bind(any))?;
    Ok((socket, Instant::now()))
}

/// Fetches `times` times through the CVIP and says how often each node answered.
fn fetch(site: &Deployment, cvip: IpAddr, times: u32) -> Result<BTreeMap<String, u32>> {
    let client = site.cluster.client();
    let mut spread = BTreeMap::new();
    for _ in 0..times {
        let output = client
            .command("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "3"])
            .arg(format!("http://{cvip}/"))
            .output()?;
        if output.status.success() {
            let node = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            *spread.entry(node).or_default() += 1;
        } else {
            println!("      {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(spread)
}

fn nix_release() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}
