//! `cvipctl doctor`: what is wrong with a running cluster, and how to fix it.

use serde::Serialize;

use super::super::{FAILED, NodeOption, OK, Site, Streams, harmless};
use super::examination::{Examination, examine};
use crate::daemon;
use crate::doctor::collect::Extent;
use crate::doctor::{Finding, Severity, Unexamined};
use crate::json;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Print the findings as JSON
    #[arg(long)]
    json: bool,

    /// Print faults only
    #[arg(long, short)]
    quiet: bool,
}

impl Args {
    /// Nothing but faults is to be shown.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// The whole of it, as `--json` prints it.
#[derive(Debug, Serialize)]
struct DoctorReport {
    /// This host's node; null if it is none.
    node: Option<u32>,
    /// Its role at the moment; null if cvip.conf gives it none.
    role: Option<&'static str>,
    /// Faults first.
    findings: Vec<Finding>,
    /// What could not be examined, and why.
    unexamined: Vec<Unexamined>,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let known = site.known();
    if let Some(node) = args.node.node {
        known.node(node, daemon::answering(&site.run_dir))?;
    }
    let Examination { node, role, findings, unexamined, .. } =
        examine(&args.node, site, &known, Extent::Full)?;
    let mut report = DoctorReport { node, role, findings, unexamined };
    let faults = count(&report, Severity::Fault);
    if args.quiet {
        report.findings.retain(|finding| finding.severity == Severity::Fault);
        report.unexamined.clear();
    }
    if args.json {
        json::write(streams.out, &report)?;
    } else {
        print(&report, args.quiet, streams)?;
    }
    Ok(if faults == 0 { OK } else { FAILED })
}

fn count(report: &DoctorReport, severity: Severity) -> usize {
    report.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn print(report: &DoctorReport, quiet: bool, streams: &mut Streams<'_>) -> anyhow::Result<()> {
    let out = &mut *streams.out;
    for finding in &report.findings {
        writeln!(out, "{}", harmless(&finding.to_string()))?;
    }
    if quiet {
        return Ok(());
    }
    for Unexamined { what, why, .. } in &report.unexamined {
        writeln!(out, "not examined: {what}: {why}")?;
    }
    let say = |severity, one: &str| match count(report, severity) {
        0 => format!("no {one}s"),
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    writeln!(
        out,
        "{}, {}, {}",
        say(Severity::Fault, "fault"),
        say(Severity::Warning, "warning"),
        say(Severity::Note, "note")
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::run_with;

    const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>198.18.77.10</ip_addr>\
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
        </director_node><real_server_node><node_num>2</node_num></real_server_node></cvip></cvips>";

    /// Runs it on files with a store that holds nothing yet.
    fn doctor(conf: &str, more: &[&str]) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("cvip.conf"), conf).unwrap();
        std::fs::write(path("clustertab"), "1 198.18.77.1\n2 198.18.77.2\n").unwrap();
        std::fs::write(path("cvip.toml"), "").unwrap();
        let (conf, tab, run) = (path("cvip.conf"), path("clustertab"), path("run"));
        let settings = path("cvip.toml");
        let mut args = vec!["cvipctl", "doctor", "--conf", &conf, "--clustertab", &tab];
        args.extend(["--settings", &settings]);
        if !more.contains(&"--run-dir") {
            args.extend(["--run-dir", &run]);
        }
        args.extend(more);
        run_with(&args, super::super::run)
    }

    #[test]
    fn from_a_host_that_is_no_node_the_store_is_examined_and_the_rest_is_said() {
        let (status, out, err) = doctor(CONF, &[]);
        assert_eq!((status, err.as_str()), (1, ""));
        assert!(out.contains("fault: node 1: it has no record"), "{out}");
        assert!(out.contains("not examined: this host's own kernel: cannot tell which"), "{out}");
        assert!(out.contains("not examined: the kernels of nodes 1, 2: "), "{out}");
        assert!(out.ends_with("2 faults, 2 warnings, no notes\n"), "{out}");
    }

    #[test]
    fn a_run_folder_that_is_a_file_is_a_finding() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let run_dir = file.path().display().to_string();
        let (status, out, err) = doctor(CONF, &["--run-dir", &run_dir, "--node=2"]);
        assert_eq!((status, err.as_str()), (1, ""), "{out}");
        assert!(out.starts_with("fault: store: ") && out.contains(&run_dir), "{out}");
        assert!(
            out.contains("it is no folder") && out.contains("not examined: the cluster"),
            "{out}"
        );
    }

    #[test]
    fn a_cvipd_that_cannot_start_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("cluster.key");
        std::fs::write(&key, "k".repeat(64)).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, private).unwrap();
        let key = key.display().to_string();
        let (_, out, _) = doctor(CONF, &["--node=2", "--cluster-key-file", &key]);
        let fault = out.lines().find(|line| line.starts_with("fault: node 2: ")).unwrap();
        assert!(
            fault.contains(&format!("it cannot start: {key}: the cluster key is the same byte")),
            "{out}"
        );
    }

    #[test]
    fn quiet_prints_faults_only() {
        let (status, out, _) = doctor(CONF, &["--quiet"]);
        assert_eq!(status, 1);
        let lines = out.lines().filter(|line| !line.starts_with("    "));
        assert!(lines.clone().count() == 2 && lines.clone().all(|l| l.starts_with("fault: ")));
    }

    #[test]
    fn json_has_everything_under_a_schema() {
        let (status, out, _) = doctor(CONF, &["--json"]);
        assert_eq!(status, 1);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&report["schema"], &report["node"]), (&1.into(), &serde_json::Value::Null));
        let first = &report["findings"][0];
        assert_eq!((&first["severity"], &first["subject"]), (&"fault".into(), &"node 1".into()));
        assert!(first["what"].is_string() && first["fix"].is_string());
        assert!(first["commands"].is_array());
        assert!(report["unexamined"][0]["why"].is_string());
    }

    #[test]
    fn a_configuration_with_faults_is_the_fault() {
        let (status, out, _) = doctor(&CONF.replace("DR", "RD"), &[]);
        assert_eq!(status, 1);
        assert!(
            out.starts_with("fault: /") && out.contains("unknown routing method `RD`"),
            "{out}"
        );
        assert!(out.contains("fix: it is one of DR, NAT or TUN (`cvipctl check`"), "{out}");
    }
}
