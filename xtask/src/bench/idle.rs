//! What an idle cvipd costs: processor time and resident memory, alone and beside many
//! established connections.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip_lab::{Cluster, Deployment, KernelChoice, Lab, Plan};
use nix::sys::resource::{Resource, setrlimit};

use super::native::{Node, in_namespace};
use crate::build;

/// How long cvipd is watched.
const WATCH: Duration = Duration::from_secs(30);

/// Ticks of /proc/PID/stat per second (`sysconf(_SC_CLK_TCK)`, 100 on Linux).
const TICKS_PER_SECOND: f64 = 100.0;

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
        cvip_lab::wait_until(Duration::from_secs(10), || {
            let rules = site.run(director, &["ipvsadm-rs", "-Sn"]).ok()?;
            rules.contains(":80 ").then_some(())
        })
        .context("the server did not join")?;
        watch(&mut site, &format!("{what}, no connections"))?;
        let held = site.host(1).enter(|| connect(connections))?;
        watch(&mut site, &format!("{what}, {} established connections", held.len() / 2))?;
        drop(held);
        for number in site.numbers() {
            site.kill_daemon(number);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A node without director, on this machine's own kernel.
fn natively(programs: &Path, connections: u32) -> Result<()> {
    in_namespace(|| {
        for (what, options) in [("socket events", &[][..]), ("polling", &["--poll"])] {
            let mut node = Node::start(programs, options, None)?;
            let _listener = TcpListener::bind(("0.0.0.0", 80))?;
            node.until_registered(true)?;
            watch_pids(&[("node", node.pid())], &format!("{what}, no connections"))?;
            let held = connect(connections)?;
            let text = format!("{what}, {} established connections", held.len() / 2);
            watch_pids(&[("node", node.pid())], &text)?;
        }
        Ok(())
    })
}

fn watch(site: &mut Deployment, what: &str) -> Result<()> {
    let mut pids = Vec::new();
    for number in site.numbers() {
        let role = if number == site.director() { "director" } else { "node" };
        pids.push((role, site.daemon(number).context("cvipd runs")?.pid().as_raw()));
    }
    watch_pids(&pids, what)
}

fn watch_pids(pids: &[(&str, i32)], what: &str) -> Result<()> {
    let before: Vec<u64> = pids.iter().map(|(_, pid)| ticks(*pid)).collect::<Result<_>>()?;
    let start = Instant::now();
    thread::sleep(WATCH);
    let seconds = start.elapsed().as_secs_f64();
    for ((role, pid), before) in pids.iter().zip(before) {
        let used = (ticks(*pid)? - before) as f64 / TICKS_PER_SECOND;
        println!(
            "  {what}: {role}: {:.3} % of a core over {seconds:.0} s, {:.1} MB resident",
            100.0 * used / seconds,
            resident(*pid)? as f64 / 1024.0
        );
    }
    Ok(())
}

/// Processor time in ticks, user and system (proc_pid_stat(5), fields 14 and 15).
fn ticks(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after) = stat.rsplit_once(')').context("no command in stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |at: usize| -> Result<u64> { Ok(fields.get(at).context("short stat")?.parse()?) };
    Ok(number(11)? + number(12)?)
}

/// Resident memory in KiB (`VmRSS`, proc_pid_status(5)).
pub(super) fn resident(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// Both ends of that many established connections, over several loopback addresses.
fn connect(wanted: u32) -> Result<Vec<TcpStream>> {
    // Two descriptors for each, and some.
    let limit = u64::from(wanted) * 2 + 1000;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).context("cannot raise the open files")?;
    let mut held = Vec::with_capacity(2 * wanted as usize);
    for first in (0..wanted).step_by(20_000) {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let at = listener.local_addr()?;
        for _ in first..wanted.min(first + 20_000) {
            let client = TcpStream::connect(at).context("cannot connect")?;
            held.push(client);
            held.push(listener.accept()?.0);
        }
    }
    ensure!(held.len() == 2 * wanted as usize);
    Ok(held)
}
