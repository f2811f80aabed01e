//! `cvipctl doctor`: what is wrong with a running cluster, and how to fix it.

use serde::Serialize;

use super::super::{FAILED, KnownNode, NodeOption, OK, Site, Streams, harmless};
use crate::conf::{Diagnostic, DiagnosticSeverity};
use crate::daemon;
use crate::doctor::collect::Subject;
use crate::doctor::{self, Finding, ServerFault, Severity, Unexamined};
use crate::json;
use crate::net::AddressRole;
use crate::settings::{Engine, Settings};
use crate::store::{self, Access, Interest, StoreError};

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
    let mut report = examine(args, site)?;
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

fn examine(args: &Args, site: &Site) -> anyhow::Result<DoctorReport> {
    let known = site.known();
    let node = site.node(&args.node);
    if let Some(node) = args.node.node {
        known.node(node, daemon::answering(&site.run_dir))?;
    }
    let errors = known.diagnostics.iter().filter(|d| d.severity == DiagnosticSeverity::Error);
    let misconfigured: Vec<Finding> = errors.map(misconfigured).collect();
    let KnownNode { conf: Some(conf), clustertab, problem, .. } = known else {
        return Ok(DoctorReport {
            node: node.ok(),
            role: None,
            findings: misconfigured,
            unexamined: vec![Unexamined {
                what: "the cluster".to_owned(),
                why: "there is no configuration to compare it with".to_owned(),
            }],
        });
    };
    let settings = site.settings()?;
    let mut store = match store::open(&settings, &site.run_dir, Access::Read, Interest::All) {
        Ok(store) => store,
        Err(error) => return Ok(unopened(&error, node.ok(), site, &settings, misconfigured)),
    };
    let subject = Subject {
        conf,
        clustertab,
        node: node.map_err(|error| format!("{error:#}")),
        // An administrator who chose it knows network namespaces.
        embedded: settings.engine == Engine::Local && !settings.engine_was_chosen,
        run_dir: &site.run_dir,
        settings: &settings,
        store_servers: servers(&settings),
    };
    let seen = doctor::collect(subject, &mut *store);
    let member = seen.node.filter(|node| seen.conf.nodes().contains(node));
    let role = member.map(|node| match seen.roles.of(&seen.conf, node) {
        AddressRole::RealServer => "real server",
        AddressRole::ActiveDirector | AddressRole::Yielding => "director",
        AddressRole::Standby => "standby",
    });
    let mut findings = misconfigured;
    let is_faulty = problem.is_some();
    findings.extend(doctor::examine(&seen).into_iter().filter(|finding| {
        // What cvipd says of the same file is said already.
        !(is_faulty && finding.what.starts_with(doctor::LAST_GOOD))
    }));
    let mut unexamined = seen.unexamined;
    if let Some(why) = problem {
        unexamined.insert(0, Unexamined { what: "what cvip.conf says now".to_owned(), why });
    }
    Ok(DoctorReport { node: seen.node, role, findings, unexamined })
}

/// A store that cannot even be opened, such as one whose folder is a file: nothing is examined
/// without it but what keeps cvipd from starting.
fn unopened(
    error: &StoreError,
    node: Option<u32>,
    site: &Site,
    settings: &Settings,
    mut findings: Vec<Finding>,
) -> DoctorReport {
    let start_fault = node.and_then(|node| doctor::start_fault(settings, &site.run_dir, node));
    let fix = "cvipd makes the run folder and what stands in it: move away what is in its place, and \
               let root write there";
    findings.push(Finding {
        severity: Severity::Fault,
        subject: "store".to_owned(),
        what: start_fault.unwrap_or_else(|| error.to_string()),
        fix: fix.to_owned(),
        commands: Vec::new(),
    });
    let why = "the store cannot be opened".to_owned();
    let unexamined = vec![Unexamined { what: "the cluster".to_owned(), why }];
    DoctorReport { node, role: None, findings, unexamined }
}

/// What is wrong with the servers of etcd.
#[cfg(feature = "etcd")]
fn servers(settings: &Settings) -> Vec<ServerFault> {
    let found = match settings.engine {
        Engine::Local => Vec::new(),
        Engine::Etcd => store::etcd::server_faults(&settings.etcd),
    };
    let fault = |finding: store::etcd::ServerFinding| ServerFault {
        ends_writes: finding.is_error,
        what: finding.message,
        fix: finding.help.unwrap_or_default(),
    };
    found.into_iter().map(fault).collect()
}

#[cfg(not(feature = "etcd"))]
fn servers(_settings: &Settings) -> Vec<ServerFault> {
    Vec::new()
}

/// A configuration that is refused.
fn misconfigured(error: &Diagnostic) -> Finding {
    let mut subject = error.path.clone();
    if let Some(place) = &error.place {
        subject += &format!(":{}:{}", place.line, place.column);
    }
    let help = error.help.as_deref().unwrap_or("correct it");
    Finding {
        severity: Severity::Fault,
        subject,
        what: error.message.clone(),
        fix: format!("{help} (`cvipctl check` shows the place)"),
        commands: Vec::new(),
    }
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
    for Unexamined { what, why } in &report.unexamined {
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
