//! What an idle cvipd costs: processor time and resident memory, alone, beside many established
//! connections, and of a director with its recording and without.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cvip_lab::process::{processor_time, resident};
use cvip_lab::traffic::established;
use cvip_lab::{Cluster, Deployment, KernelChoice, Lab, Plan, Site, wait_until};
use nix::unistd::Pid;

use super::native::{Node, in_namespace};
use crate::build;

/// How long cvipd is watched.
const WATCH: Duration = Duration::from_secs(30);

/// How many nodes a director hears whose recording is measured.
const HEARD: u8 = 8;

pub(crate) fn run(kernel: KernelChoice, connections: u32) -> Result<ExitCode> {
    let programs = build::programs(build::Profile::Release)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("\nan idle node on this machine, Linux {}:", release.trim());
    if let Err(error) = natively(&programs, connections) {
        println!("  not measured: {error:#}");
    }
    let me = std::env::current_exe()?;
    let words = [me.into_os_string(), "inside".into(), "idle".into(), programs.into()];
    let status = Lab::new(kernel)?
        .timeout(Duration::from_secs(900))
        .packages(cvip_lab::etcd::PACKAGES)
        .env("CVIP_BENCH_CONNECTIONS", connections.to_string())
        .run(&words)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

pub(crate) fn inside(programs: &Path) -> Result<ExitCode> {
    cvip_lab::require();
    let connections: u32 = std::env::var("CVIP_BENCH_CONNECTIONS")?.parse()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("\nin the lab, Linux {}, emulated:", release.trim());
    let cluster = Cluster::builder("idle").nodes(1).client(false).build()?;
    let mut site = Deployment::new(cluster, programs, &Plan::default())?;
    for (what, options) in
        [("socket events", &["--log=warn"][..]), ("polling", &["--log=warn", "--poll"])]
    {
        site.start_all(options)?;
        let director = site.director();
        let flags = ["--start-port=1", "--end-port=1023", "--weight=1", "--cluster"];
        site.run(director, &[&["setport_weight"], &flags[..]].concat())?;
        let _listener = site.host(1).enter(|| TcpListener::bind(("0.0.0.0", 80)))?;
        wait_until(Duration::from_secs(10), || {
            let rules = site.run(director, &["ipvsadm-rs", "-Sn"]).ok()?;
            rules.contains(":80 ").then_some(())
        })
        .context("the server did not join")?;
        watch(&site, &format!("{what}, no connections"))?;
        let held = site.host(1).enter(|| established(connections as usize))?;
        watch(&site, &format!("{what}, {} established connections", held.len() / 2))?;
        drop(held);
        for number in site.numbers() {
            site.kill_daemon(number);
        }
    }
    drop(site);
    recording(programs)?;
    Ok(ExitCode::SUCCESS)
}

/// What a recording costs: a director that hears [`HEARD`] nodes, with it and without.
fn recording(programs: &Path) -> Result<()> {
    let mut site = Site::new("record", (1, HEARD), programs, "")?;
    let settings = site.dir.join("cvip.toml");
    site.set_env("CVIP_SETTINGS", &settings);
    for records in [true, false, true, false] {
        fs::write(&settings, format!("record = {records}\n"))?;
        for number in site.numbers() {
            site.start(number, &["--log=warn"])?;
        }
        let director = site.director();
        let all_heard = || {
            let shown = site.status(director).ok()?;
            let alive = |node: &&serde_json::Value| node["alive"] == true;
            let heard = shown["nodes"].as_array()?.iter().filter(alive).count();
            (heard > usize::from(HEARD)).then_some(())
        };
        wait_until(Duration::from_secs(60), all_heard).context("nodes are not heard")?;
        let what = format!("{HEARD} nodes, {} recording", if records { "with a" } else { "no" });
        watch_pids(&[("director", site.daemon_pid(director).context("cvipd runs")?)], &what)?;
        for number in site.numbers() {
            site.kill_daemon(number);
        }
    }
    Ok(())
}

/// A node without director, on this machine's own kernel.
fn natively(programs: &Path, connections: u32) -> Result<()> {
    in_namespace(|| {
        for (what, options) in [("socket events", &[][..]), ("polling", &["--poll"])] {
            let mut node = Node::start(programs, options, None)?;
            let _listener = TcpListener::bind(("0.0.0.0", 80))?;
            node.until_registered(true)?;
            watch_pids(&[("node", node.pid())], &format!("{what}, no connections"))?;
            let held = established(connections as usize)?;
            let text = format!("{what}, {} established connections", held.len() / 2);
            watch_pids(&[("node", node.pid())], &text)?;
        }
        Ok(())
    })
}

fn watch(site: &Deployment, what: &str) -> Result<()> {
    let mut pids = Vec::new();
    for number in site.numbers() {
        let role = if number == site.director() { "director" } else { "node" };
        pids.push((role, site.daemon_pid(number).context("cvipd runs")?));
    }
    watch_pids(&pids, what)
}

fn watch_pids(pids: &[(&str, Pid)], what: &str) -> Result<()> {
    let before = pids.iter().map(|(_, pid)| processor_time(*pid)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    thread::sleep(WATCH);
    let seconds = start.elapsed().as_secs_f64();
    for ((role, pid), before) in pids.iter().zip(before) {
        let used = (processor_time(*pid)? - before).as_secs_f64();
        println!(
            "  {what}: {role}: {:.3} % of a core over {seconds:.0} s, {:.1} MB resident",
            100.0 * used / seconds,
            resident(*pid)? as f64 / 1024.0
        );
    }
    Ok(())
}
