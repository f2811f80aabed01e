//! What the demo's administrator and its client do.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cvip::listeners::{Dumper, Ranges};
use cvip::protocol::Protocol;
use cvip_lab::{Deployment, Nginx, PATIENCE, since_when, wait_until};

use super::paint::{BOLD, painted};

/// How often nginx is looked at while its listener is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a host is called: the directors by what they do, the nodes by their numbers.
pub(super) fn name(site: &Deployment, number: u32) -> String {
    match number.checked_sub(site.director()) {
        None => format!("node {number}"),
        Some(0) => "director".to_owned(),
        Some(_) => "standby".to_owned(),
    }
}

/// Runs a command of cvip as an administrator on a node would, and shows it.
pub(super) fn admin(site: &Deployment, number: u32, line: &[&str]) -> Result<String> {
    let quoted = |word: &&str| match word.contains(' ') {
        true => format!("'{word}'"),
        false => (*word).to_owned(),
    };
    let words: Vec<String> = line.iter().map(quoted).collect();
    println!("    {} # {}", name(site, number), painted(BOLD, &words.join(" ")));
    site.run(number, line)
}

/// The same, with what it prints.
pub(super) fn show(site: &Deployment, number: u32, line: &[&str]) -> Result<String> {
    let text = admin(site, number, line)?;
    for line in text.lines() {
        println!("      {line}");
    }
    Ok(text)
}

/// Waits until a director carries the CVIP.
pub(super) fn await_carrier(site: &Deployment, director: u32) -> Result<()> {
    let carries = || site.host(director).has_on("eth0", site.cvip(false)).then_some(());
    wait_until(PATIENCE, carries).with_context(|| {
        let log = site.logged(director);
        format!("the {} does not carry the CVIP:\n{log}", name(site, director))
    })
}

/// Starts nginx on a node, and says since when it listens.
pub(super) fn start_nginx(site: &Deployment, number: u32) -> Result<(Nginx, Instant)> {
    let host = site.host(number);
    let mut dumper = host.enter(Dumper::open)?;
    let ranges: Ranges = [(Protocol::Tcp, 80, 80)].into_iter().collect();
    let dir = site.dir.join(format!("nginx-{number}"));
    let nginx = Nginx::with_page(host, &dir, &format!("node {number}"))?;
    let listens = || Ok(!dumper.snapshot(&ranges)?.is_empty());
    let since = since_when(PATIENCE, LOOK_EVERY, listens)
        .with_context(|| format!("nginx does not listen: see {}", dir.display()))?;
    Ok((nginx, since))
}

/// Binds UDP port 177 on a node, as an XDMCP server does.
pub(super) fn bind_udp(site: &Deployment, number: u32) -> Result<(UdpSocket, Instant)> {
    let any: SocketAddr = "0.0.0.0:177".parse()?;
    let socket = site.host(number).enter(move || UdpSocket::bind(any))?;
    Ok((socket, Instant::now()))
}

/// Fetches `times` times through the CVIP and says how often each node answered.
pub(super) fn fetch(site: &Deployment, cvip: IpAddr, times: u32) -> Result<BTreeMap<String, u32>> {
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

/// Fetches until it succeeds; when it did.
pub(super) fn fetch_again(site: &Deployment, cvip: IpAddr) -> Result<Instant> {
    since_when(PATIENCE, Duration::ZERO, || {
        let mut command = site.cluster.client().command("curl");
        command.args(["--silent", "--fail", "--max-time", "0.3"]);
        Ok(command.arg(format!("http://{cvip}/")).output()?.status.success())
    })
    .context("no fetch succeeded")
}

/// The release of the kernel.
pub(super) fn kernel_release() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}
