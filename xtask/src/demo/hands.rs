//! What the demo's administrator and its client do.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cvip::listeners::{Dumper, Ranges};
use cvip::protocol::Protocol;
use cvip_lab::{Deployment, Process};

use super::{LOOK_EVERY, PATIENCE};

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
    println!("    {} # {}", name(site, number), words.join(" "));
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
    let deadline = Instant::now() + PATIENCE;
    while !site.host(director).has_on("eth0", site.cvip(false)) {
        if Instant::now() > deadline {
            eprintln!("{}", fs::read_to_string(site.log(director)).unwrap_or_default());
            bail!("the {} does not carry the CVIP", name(site, director));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until every node has put its record into the store.
pub(super) fn await_status(site: &Deployment, director: u32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let json = site.run(director, &["cvipctl", "status", "--json"])?;
        if !json.contains("\"socket events\": null") {
            return Ok(());
        }
        if Instant::now() > deadline {
            for number in site.numbers() {
                let log = fs::read_to_string(site.log(number)).unwrap_or_default();
                eprintln!("cvipd on {}:\n{log}", name(site, number));
            }
            bail!("not every cvipd wrote a record");
        }
        sleep(Duration::from_millis(50));
    }
}

/// Starts nginx on a node, in a process group of its own, and says since when it listens.
pub(super) fn start_nginx(site: &Deployment, number: u32) -> Result<(Process, Instant)> {
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
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let mut command = site.cluster.client().command("curl");
        command.args(["--silent", "--fail", "--max-time", "0.3"]);
        if command.arg(format!("http://{cvip}/")).output()?.status.success() {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < deadline, "no fetch succeeded within {:?}", 2 * PATIENCE);
    }
}

/// The release of the kernel.
pub(super) fn kernel_release() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}
