//! Packets that pass a member, one line of text each, as tcpdump writes them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{Host, Process};
use crate::wait_until;

/// A capture that is running. A line begins with the time in seconds since 1970 and the hardware addresses:
/// `1700000000.123456 02:77:... > 02:77:..., ethertype IPv4 (0x0800), length 98: 10.77.1.101 > 10.77.1.21: ICMP ...`
#[derive(Debug)]
pub struct Capture {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    pub(super) fn start(host: &Host, device: &str, filter: &str) -> Result<Self> {
        let mut command = host.command("tcpdump");
        command.args(["-i", device, "-n", "-l", "-tt", "-e", "--immediate-mode", "-Z", "root"]);
        if !filter.is_empty() {
            command.arg(filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(command)?;
        let stdout = process.child().stdout.take().context("tcpdump without an output")?;
        let stderr = process.child().stderr.take().context("tcpdump without an output")?;

        // It says that it listens once the kernel has begun to keep packets for it.
        let (said, listening) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let mut complaint = String::new();
        loop {
            match listening.recv_timeout(Duration::from_secs(30)) {
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
        Ok(Self { process, lines, reader: Some(reader) })
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
        // What the kernel has kept is lost if tcpdump ends before it has read it: wait until no more comes.
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut before = usize::MAX;
        while before != self.lines().len() && Instant::now() < deadline {
            before = self.lines().len();
            thread::sleep(Duration::from_millis(100));
        }
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(10))?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(self.lines())
    }
}
