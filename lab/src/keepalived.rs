//! keepalived on a member: the measure that a cluster's directors are held to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait::wait_until;

/// What [`Lab::packages`](crate::Lab::packages) has to be told for it.
pub const PACKAGES: &[&str] = &["keepalived"];

/// A keepalived that runs; it and the processes that it started are killed when this is dropped, and then leave addresses
/// and tables as they are.
#[derive(Debug)]
pub struct Keepalived {
    process: Process,
    log: PathBuf,
}

impl Keepalived {
    /// Starts keepalived on a member with this configuration (keepalived.conf(5)); its files go to a folder.
    ///
    /// # Errors
    /// If it cannot be run, or does not take the configuration.
    pub fn start(host: &Namespace, dir: &Path, configuration: &str) -> Result<Keepalived> {
        let file = |end: &str| dir.join(format!("keepalived-{}.{end}", host.name()));
        let (conf, log) = (file("conf"), file("log"));
        fs::write(&conf, configuration)
            .with_context(|| format!("cannot write {}", conf.display()))?;
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = host.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(conf);
        command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp.pid"));
        command.arg("--checkers_pid").arg(file("checkers.pid"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut keepalived = Keepalived { process: Process::spawn_group(command)?, log };
        let started = wait_until(Duration::from_secs(20), || {
            if !keepalived.process.is_running() {
                return Some(false);
            }
            let log = keepalived.log();
            (log.contains("Startup complete") || log.contains("STATE")).then_some(true)
        });
        match started {
            Some(true) => Ok(keepalived),
            _ => anyhow::bail!("{}: keepalived does not start: {}", host.name(), keepalived.log()),
        }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process, which leads a group with those that it started.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
