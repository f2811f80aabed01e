//! Prometheus on a host, with what it scrapes and the alerts that it evaluates: the reader that metrics are made for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::wait::{PATIENCE, wait_until};

/// What [`Lab::packages`](crate::Lab::packages) has to be told for it.
pub const PACKAGES: &[&str] = &["prometheus", "prometheus-node-exporter"];

/// Where its interface is, on the loopback of its host.
const ADDRESS: &str = "127.0.0.1:9090";

/// One thing that it scrapes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job.
    pub job: &'static str,
    /// The address and port.
    pub address: String,
    /// The label `host`, which the series of one host have in common.
    pub host: String,
}

/// A Prometheus that runs; it is killed (SIGKILL) when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    log: PathBuf,
}

impl Prometheus {
    /// Starts Prometheus on a host; its files go to a folder of its own. It scrapes, and evaluates the rules of a
    /// file, once a second.
    ///
    /// # Errors
    /// If it cannot be run, or is not ready in time.
    pub fn start(
        on: &Namespace,
        dir: &Path,
        targets: &[Target],
        rules: &Path,
    ) -> Result<Prometheus> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let conf = dir.join("prometheus.yml");
        let mut jobs: Vec<&str> = targets.iter().map(|target| target.job).collect();
        jobs.dedup();
        let mut text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\nscrape_configs:\n",
            rules.display()
        );
        for job in jobs {
            text += &format!("  - job_name: {job}\n    static_configs:\n");
            for Target { address, host, .. } in targets.iter().filter(|target| target.job == job) {
                text +=
                    &format!("      - {{targets: ['{address}'], labels: {{host: '{host}'}}}}\n");
            }
        }
        fs::write(&conf, text)?;
        let log = dir.join("prometheus.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = on.command("prometheus");
        command.arg(format!("--config.file={}", conf.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut prometheus = Prometheus { process: Process::spawn(command)?, log };
        let ready = wait_until(PATIENCE, || {
            if !prometheus.process.is_running() {
                return Some(false);
            }
            on.stdout(&["curl", "-sf", &format!("http://{ADDRESS}/-/ready")]).ok().map(|_| true)
        });
        match ready {
            Some(true) => Ok(prometheus),
            _ => bail!("prometheus does not start: {}", prometheus.log()),
        }
    }

    /// The samples that a query gives now: of each, the labels and the value.
    ///
    /// # Errors
    /// If it does not answer, or the query makes no sense.
    pub fn query(&self, on: &Namespace, query: &str) -> Result<Vec<(Value, f64)>> {
        let url = format!("http://{ADDRESS}/api/v1/query");
        let query = format!("query={query}");
        let answer = on.stdout(&["curl", "-s", "--data-urlencode", &query, &url])?;
        let answer: Value = serde_json::from_str(&answer).context(answer)?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let samples = answer["data"]["result"].as_array().context("no vector")?;
        let sample = |sample: &Value| {
            let value = sample["value"][1].as_str().and_then(|value| value.parse().ok());
            Ok((sample["metric"].clone(), value.context("no value")?))
        };
        samples.iter().map(sample).collect()
    }

    /// The names of the alerts that fire.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn firing(&self, on: &Namespace) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .query(on, "ALERTS{alertstate=\"firing\"}")?
            .into_iter()
            .filter_map(|(labels, _)| Some(labels["alertname"].as_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// What `promtool` finds wrong with a text of metrics; empty if it finds nothing.
///
/// # Errors
/// If it cannot be run.
pub fn faults_of_metrics(on: &Namespace, text: &str) -> Result<String> {
    let mut command = on.command("promtool");
    let output = process::run_with_input(command.args(["check", "metrics"]), text.as_bytes())?;
    let (out, err) = process::shown(&output);
    match output.status.success() {
        true => Ok(out + &err),
        false => Ok(format!("{}: {out}{err}", output.status)),
    }
}
