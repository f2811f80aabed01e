//! ipvsadm-rs beside the original, and beside the least that its work costs.
//!
//! Whole processes in one boot, in turns: the two programs see the same kernel, the same
//! table and the same load. Every restore has a network namespace of its own, since the
//! kernel keeps deleted destinations for minutes and looks through them whenever one is added
//! (`ip_vs_trash_get_dest`). Each target is printed with whether it is met; nothing fails.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvip_lab::floor::{Floor, as_file};
use cvip_lab::{KernelChoice, Lab, enter_own_etc};

use super::fresh::in_a_fresh_namespace;
use super::spread::Spread;
use crate::build;

/// The original: Debian's.
const ORIGINAL: &str = "ipvsadm";

/// Since this kernel a long `/proc/net/ip_vs_conn` is read in linear time (178883fd039d).
const FAST_CONNECTIONS: (u32, u32) = (6, 14);

pub(crate) fn run(kernel: KernelChoice, rounds: u32, large: bool) -> Result<ExitCode> {
    let programs = build::programs(build::Profile::Release)?;
    let me = std::env::current_exe()?;
    let floor = build::floor()?;
    let words =
        [me.into_os_string(), "inside".into(), "ipvsadm".into(), programs.into(), floor.into()];
    let status = Lab::new(kernel)?
        .timeout(Duration::from_secs(60 * 60))
        .env("CVIP_BENCH_ROUNDS", rounds.to_string())
        .env("CVIP_BENCH_LARGE", u8::from(large).to_string())
        .run(&words)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

pub(crate) fn inside(programs: &Path, floor: &Path) -> Result<ExitCode> {
    cvip_lab::require();
    let rounds: u32 = std::env::var("CVIP_BENCH_ROUNDS")?.parse()?;
    let large = std::env::var("CVIP_BENCH_LARGE")? == "1";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("ipvsadm-rs and ipvsadm, whole processes, Linux {}:", release.trim());
    let dir = tempfile::tempdir()?;
    let (ours, folder) = (programs.join("ipvsadm-rs"), dir.path().to_owned());
    let bench = Bench { ours, floor: floor.to_owned(), folder, rounds };
    bench.tables(Size { services: 1000, destinations: 10 })?;
    if large {
        bench.tables(Size { services: 10_000, destinations: 5 })?;
    }
    bench.one_change()?;
    bench.connections(if version(&release)? < FAST_CONNECTIONS { 20_000 } else { 100_000 })?;
    bench.names()?;
    bench.memory(Size { services: 1000, destinations: 100 })?;
    Ok(ExitCode::SUCCESS)
}

/// `6.1.55-cloud` is (6, 1).
fn version(release: &str) -> Result<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("no kernel's version: {release}"),
    }
}

#[derive(Clone, Copy)]
struct Size {
    services: u16,
    destinations: u8,
}

impl Size {
    /// The table that [`Floor`] fills, as lines of a restore.
    fn rules(self) -> String {
        let mut rules = String::new();
        for port in 1..=self.services {
            let _ = writeln!(rules, "-A -t 192.0.2.1:{port} -s wlc");
            for n in 1..=self.destinations {
                let _ = writeln!(rules, "-a -t 192.0.2.1:{port} -r 198.51.100.{n}:80 -m -w 1");
            }
        }
        rules
    }
}

/// One measurement of both programs.
#[derive(Default)]
struct Contest {
    ours: Spread,
    theirs: Spread,
}

impl Contest {
    /// Prints both, and whether ours is as many times as fast as it ought to be.
    fn print(&self, what: &str, target: f64) {
        println!("  {what}: ours    {}", self.ours);
        println!("  {what}: ipvsadm {}", self.theirs);
        let ratio = self.theirs.median().as_secs_f64() / self.ours.median().as_secs_f64();
        let met = if ratio >= target { "met" } else { "NOT met" };
        println!("  {what}: {ratio:.1} times as fast; target {target}: {met}");
    }
}

struct Bench {
    ours: PathBuf,
    /// The least process that fills a table.
    floor: PathBuf,
    folder: PathBuf,
    rounds: u32,
}

impl Bench {
    /// Each measurement once more than it counts: the first warms up.
    fn rounds(&self) -> impl Iterator<Item = bool> {
        (0..=self.rounds).map(|round| round > 0)
    }

    fn timed(&self, program: &Path, words: &[&str], rules: Option<&Path>) -> Result<Duration> {
        let input = match rules {
            Some(rules) => fs::File::open(rules)?.into(),
            None => Stdio::null(),
        };
        let mut command = Command::new(program);
        command.args(words).stdin(input).stdout(Stdio::null()).stderr(Stdio::piped());
        let start = Instant::now();
        let output = command.output().with_context(|| format!("cannot run {program:?}"))?;
        let took = start.elapsed();
        ensure!(
            output.status.success() && output.stderr.is_empty(),
            "{program:?} {words:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(took)
    }

    /// The same words to both, in turns.
    fn contest(&self, words: &[&str], what: &str, target: f64) -> Result<()> {
        let mut contest = Contest::default();
        for counted in self.rounds() {
            let ours = self.timed(&self.ours, words, None)?;
            let theirs = self.timed(ORIGINAL.as_ref(), words, None)?;
            if counted {
                contest.ours.add(ours);
                contest.theirs.add(theirs);
            }
        }
        contest.print(what, target);
        Ok(())
    }

    fn tables(&self, size: Size) -> Result<()> {
        let Size { services, destinations } = size;
        println!("{services} services x {destinations} destinations:");
        let rules = self.folder.join("rules");
        fs::write(&rules, size.rules())?;
        let mut restore = Contest::default();
        // The kernel's part of it: the same messages from a process that runs already, and from
        // one that is started for it.
        let (mut floor, mut process) = (Spread::default(), Spread::default());
        let mut floor_list = Spread::default();
        let messages = self.folder.join("messages");
        fs::write(&messages, as_file(&Floor::open().restore_writes(services, destinations)))?;
        let words = [messages.to_str().context("a path")?];
        for counted in self.rounds() {
            let ours = in_a_fresh_namespace(|| self.timed(&self.ours, &["-R"], Some(&rules)))?;
            let least_process = in_a_fresh_namespace(|| self.timed(&self.floor, &words, None))?;
            let theirs =
                in_a_fresh_namespace(|| self.timed(ORIGINAL.as_ref(), &["-R"], Some(&rules)))?;
            let (least, least_list) = in_a_fresh_namespace(|| {
                let floor = Floor::open();
                let writes = floor.restore_writes(services, destinations);
                let start = Instant::now();
                floor.restore(&writes);
                let restored = start.elapsed();
                let start = Instant::now();
                floor.list(services);
                Ok((restored, start.elapsed()))
            })?;
            if counted {
                restore.ours.add(ours);
                restore.theirs.add(theirs);
                process.add(least_process);
                floor.add(least);
                floor_list.add(least_list);
            }
        }
        restore.print("restore", 20.0);
        let ours = restore.ours.median().as_secs_f64();
        println!("  restore: floor, a whole process  {process}");
        let ratio = ours / process.median().as_secs_f64();
        let met = if ratio <= 2.0 { "met" } else { "NOT met" };
        println!("  restore: {ratio:.1} times that floor; target 2: {met}");
        println!("  restore: floor, a running one    {floor}");
        let ratio = ours / floor.median().as_secs_f64();
        println!("  restore: {ratio:.1} times that floor");
        in_a_fresh_namespace(|| {
            self.timed(&self.ours, &["-R"], Some(&rules))?;
            self.contest(&["-Ln"], "-Ln", 6.0)?;
            self.contest(&["-Sn"], "-Sn", 4.0)?;
            self.contest(&["-L", "--stats", "-n"], "-L --stats -n", 4.0)?;
            self.contest(&["-L", "--rate", "-n"], "-L --rate -n", 4.0)
        })?;
        println!("  any listing: floor {floor_list}");
        Ok(())
    }

    fn one_change(&self) -> Result<()> {
        println!("one change:");
        let mut contest = Contest::default();
        in_a_fresh_namespace(|| {
            for port in 1..=10 * self.rounds {
                let (ours, theirs) = (format!("192.0.2.1:{port}"), format!("192.0.2.2:{port}"));
                let ours = self.timed(&self.ours, &["-A", "-t", &ours], None)?;
                let theirs = self.timed(ORIGINAL.as_ref(), &["-A", "-t", &theirs], None)?;
                // The first warms up.
                if port > 1 {
                    contest.ours.add(ours);
                    contest.theirs.add(theirs);
                }
            }
            Ok(())
        })?;
        contest.print("-A", 1.0);
        Ok(())
    }

    /// A connection for each packet: UDP to a service on this very host, each packet from a
    /// port of its own.
    fn connections(&self, wanted: usize) -> Result<()> {
        println!("connections:");
        in_a_fresh_namespace(|| {
            let rules = self.folder.join("udp");
            fs::write(
                &rules,
                "--set 0 0 3600\n-A -u 127.0.0.2:9 -s rr\n-a -u 127.0.0.2:9 -r 127.0.0.3:9 -m\n",
            )?;
            self.timed(&self.ours, &["-R"], Some(&rules))?;
            let clients =
                (1..=250u8).flat_map(|last| (10_000..60_000).map(move |port| (last, port)));
            for (last, port) in clients.take(wanted) {
                UdpSocket::bind((Ipv4Addr::new(127, 1, 0, last), port))?
                    .send_to(b".", "127.0.0.2:9")?;
            }
            let listing = Command::new(&self.ours).args(["-Lnc"]).output()?.stdout;
            let there = listing.iter().filter(|byte| **byte == b'\n').count();
            println!("  {} connections", there.saturating_sub(2));
            self.contest(&["-Lnc"], "-Lnc", 2.0)
        })
    }

    /// What is asked of a name server, by a listing with names.
    fn names(&self) -> Result<()> {
        println!("names:");
        in_a_fresh_namespace(|| {
            self.with_a_name_server(|asked| {
                let rules = self.folder.join("names");
                fs::write(&rules, Size { services: 100, destinations: 10 }.rules())?;
                self.timed(&self.ours, &["-R"], Some(&rules))?;
                let ours = self.timed(&self.ours, &["-L"], None)?;
                let by_ours = asked.swap(0, Ordering::SeqCst);
                let theirs = self.timed(ORIGINAL.as_ref(), &["-L"], None)?;
                let by_theirs = asked.swap(0, Ordering::SeqCst);
                println!(
                    "  -L of 100 services and 1000 destinations with 11 addresses: \
                     {by_ours} questions in {:.0} ms; ipvsadm {by_theirs} in {:.0} ms",
                    ours.as_secs_f64() * 1000.0,
                    theirs.as_secs_f64() * 1000.0
                );
                let met = if by_ours <= 11 { "met" } else { "NOT met" };
                println!("  each address asked once: {met}");
                Ok(())
            })
        })
    }

    /// Goes into a mount namespace whose only name server answers that it knows no name.
    fn with_a_name_server(&self, work: impl FnOnce(&AtomicUsize) -> Result<()>) -> Result<()> {
        enter_own_etc()?;
        fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\n")?;
        fs::write("/etc/nsswitch.conf", "hosts: dns\nservices: files\n")?;
        let socket = UdpSocket::bind("127.0.0.1:53")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (asked, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut packet = [0; 512];
                while !over.load(Ordering::SeqCst) {
                    if let Ok((length, client)) = socket.recv_from(&mut packet)
                        && length > 3
                    {
                        asked.fetch_add(1, Ordering::SeqCst);
                        // RFC 1035, 4.1.1: a response, recursion available, NXDOMAIN.
                        packet[2] |= 0x80;
                        packet[3] = 0x83;
                        let _ = socket.send_to(&packet[..length], client);
                    }
                }
            });
            let result = work(&asked);
            over.store(true, Ordering::SeqCst);
            result
        })
    }

    /// The most memory that a listing takes.
    fn memory(&self, size: Size) -> Result<()> {
        let whole = u32::from(size.services) * u32::from(size.destinations);
        println!("memory, -Ln of {whole} destinations:");
        let rules = self.folder.join("memory");
        fs::write(&rules, size.rules())?;
        in_a_fresh_namespace(|| {
            self.timed(&self.ours, &["-R"], Some(&rules))?;
            for program in [&*self.ours, ORIGINAL.as_ref()] {
                let most = peak(program, &["-Ln"])?;
                println!("  {}: VmHWM {:.1} MB", program.display(), most as f64 / 1024.0);
            }
            Ok(())
        })
    }
}

/// `VmHWM` (proc_pid_status(5)) in KiB of a program, as it was when its last piece of output
/// was still in the pipe. What wait4(2) tells would have this process's own memory in it.
fn peak(program: &Path, words: &[&str]) -> Result<u64> {
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program:?}"))?;
    let mut output = child.stdout.take().context("piped")?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    let mut piece = vec![0; 16 * 1024];
    while output.read(&mut piece)? > 0 {
        let text = fs::read_to_string(&status)?;
        // A process that has ended has no memory, and no such line.
        if let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) {
            most = line.split_whitespace().nth(1).context("no number")?.parse()?;
        }
    }
    ensure!(child.wait()?.success(), "{program:?} {words:?} failed");
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_version_is_its_first_two_numbers() {
        assert_eq!(version("6.1.55\n").unwrap(), (6, 1));
        assert_eq!(version("6.14-rc3").unwrap(), (6, 14));
        assert!(version("linux").is_err());
    }

    #[test]
    fn the_rules_are_as_many_as_the_floor_has_messages() {
        let rules = Size { services: 3, destinations: 2 }.rules();
        assert_eq!(rules.lines().count(), 3 + 3 * 2);
    }
}
