//! Packets that pass a member, one line of text each, as tcpdump writes them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait::wait_until;

/// How long tcpdump must have read nothing for there to be nothing to read.
const QUIET: Duration = Duration::from_millis(500);

/// A capture that is running. A line begins with the time in seconds since 1970 and the hardware addresses:
/// `1700000000.123456 02:77:... > 02:77:..., ethertype IPv4 (0x0800), length 98: 10.77.1.101 > 10.77.1.21: ICMP ...`
#[derive(Debug)]
pub struct Capture {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// What tcpdump says of itself.
    remarks: Mutex<Receiver<String>>,
}

impl Capture {
    pub(super) fn start(host: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let mut command = host.command("tcpdump");
        command.args(["-i", device, "-n", "-l", "-tt", "-e", "--immediate-mode", "-Z", "root"]);
        if !filter.is_empty() {
            command.arg(filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let stdout = process.child().stdout.take().context("tcpdump without an output")?;
        let stderr = process.child().stderr.take().context("tcpdump without an output")?;

        let (said, remarks) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        // It says that it listens once the kernel has begun to keep packets for it.
        let mut complaint = String::new();
        loop {
            match remarks.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.starts_with("listening on") => break,
                Ok(line) => complaint = complaint + &line + "\n",
                Err(_) => bail!(
                    "{}: tcpdump does not capture on {device}: {}",
                    host.name(),
                    complaint.trim()
                ),
            }
        }
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // It ends its output with an empty line.
                if line.is_empty() {
                    continue;
                }
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { process, lines, reader: Some(reader), remarks: Mutex::new(remarks) })
    }

    /// The packets so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there is a packet whose line contains this text.
    ///
    /// # Errors
    /// If there is none within that time.
    pub fn wait_for(&self, limit: Duration, text: &str) -> Result<String> {
        wait_until(limit, || self.lines().into_iter().find(|line| line.contains(text)))
            .with_context(|| {
                format!(
                    "no packet with {text:?} within {limit:?}, but\n{}",
                    self.lines().join("\n")
                )
            })
    }

    /// Ends the capture; its packets. Those that passed before the call are among them.
    ///
    /// # Errors
    /// If tcpdump does not end.
    pub fn stop(mut self) -> Result<Vec<String>> {
        // What the kernel has kept for it is lost if tcpdump ends before it has read that. It tells, on SIGUSR1, how many
        // packets it has read of how many there were. It never reads those that passed before it had set its filter, so
        // that it reads no more for a while has to do as well.
        let mut last = (0, Instant::now());
        let told = wait_until(Duration::from_secs(20), || {
            let (read, passed) = self.counts()?;
            if read != last.0 {
                last = (read, Instant::now());
            }
            (read >= passed || last.1.elapsed() > QUIET).then_some(())
        });
        told.with_context(|| {
            format!("tcpdump does not say what it has read: {}", self.lines().join("\n"))
        })?;
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(10))?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(self.lines())
    }

    /// How many packets tcpdump has read, and how many have passed for it to read.
    fn counts(&self) -> Option<(u64, u64)> {
        let remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.signal(Signal::SIGUSR1).ok()?;
        loop {
            let line = remarks.recv_timeout(Duration::from_secs(5)).ok()?;
            if let Some(counts) = parse_counts(&line) {
                return Some(counts);
            }
        }
    }
}

/// How many packets tcpdump has read, and how many have passed for it to read, from
/// `tcpdump: 3 packets captured, 4 packets received by filter, 1 packet dropped by kernel`.
fn parse_counts(line: &str) -> Option<(u64, u64)> {
    let mut counts = line
        .strip_prefix("tcpdump: ")?
        .split(", ")
        .map(|part| part.split(' ').next()?.parse::<u64>().ok());
    let (read, received, dropped) = (counts.next()??, counts.next()??, counts.next()??);
    Some((read, received.saturating_sub(dropped)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_not_waited_for() {
        let line =
            "tcpdump: 3 packets captured, 4 packets received by filter, 1 packet dropped by kernel";
        assert_eq!(parse_counts(line), Some((3, 3)));
        assert_eq!(
            parse_counts(
                "tcpdump: verbose output suppressed, use -v[v]... for full protocol decode"
            ),
            None
        );
    }
}
