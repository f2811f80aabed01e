//! What is wrong with the cluster, as seen from this host: the same for every command that says
//! so, so that none contradicts another.

use super::super::{KnownNode, NodeOption, Site};
use crate::conf::{Diagnostic, DiagnosticSeverity};
use crate::doctor::collect::{Extent, Subject};
use crate::doctor::{self, Finding, Observed, ServerFault, Severity, Unexamined};
use crate::net::AddressRole;
use crate::settings::{Engine, Settings};
use crate::store::{self, Access, Interest, StoreError};

/// What was found, and what it was found in.
#[derive(Debug)]
pub(super) struct Examination {
    /// This host's node; none if it is no node.
    pub(super) node: Option<u32>,
    /// Its role at the moment; none if cvip.conf gives it none.
    pub(super) role: Option<&'static str>,
    /// Faults first.
    pub(super) findings: Vec<Finding>,
    /// What could not be examined, and why.
    pub(super) unexamined: Vec<Unexamined>,
    /// What was seen; none without a configuration, or if the store cannot be opened.
    pub(super) seen: Option<Box<Observed>>,
}

/// Looks at the cluster by the configuration that is `known`.
///
/// # Errors
/// cvip.toml or the options of the store make no sense.
pub(super) fn examine(
    option: &NodeOption,
    site: &Site,
    known: &KnownNode,
    extent: Extent,
) -> anyhow::Result<Examination> {
    let node = site.node(option);
    let misconfigured: Vec<Finding> = known.diagnostics.iter().map(misconfigured).collect();
    let Some(conf) = known.conf.clone() else {
        return Ok(Examination {
            node: node.ok(),
            role: None,
            findings: sorted(misconfigured),
            unexamined: vec![unexamined(
                "the cluster",
                "there is no configuration to compare it with",
            )],
            seen: None,
        });
    };
    let settings = site.settings()?;
    let mut store = match store::open(&settings, &site.run_dir, Access::Read, Interest::All) {
        Ok(store) => store,
        Err(error) => return Ok(unopened(&error, node.ok(), site, &settings, misconfigured)),
    };
    let subject = Subject {
        conf,
        clustertab: known.clustertab.clone(),
        node: node.map_err(|error| format!("{error:#}")),
        // An administrator who chose it knows network namespaces.
        embedded: settings.engine == Engine::Local && !settings.engine_was_chosen,
        run_dir: &site.run_dir,
        settings: &settings,
        store_servers: servers(&settings),
        extent,
    };
    let mut seen = doctor::collect(subject, &mut *store);
    let member = seen.node.filter(|node| seen.conf.nodes().contains(node));
    let role = member.map(|node| match seen.roles.of(&seen.conf, node) {
        AddressRole::RealServer => "real server",
        AddressRole::ActiveDirector | AddressRole::Yielding => "director",
        AddressRole::Standby => "standby",
    });
    let mut findings = misconfigured;
    let is_faulty = known.problem.is_some();
    findings.extend(doctor::examine(&seen).into_iter().filter(|finding| {
        // What cvipd says of the same file is said already.
        !(is_faulty && finding.what.starts_with(doctor::LAST_GOOD))
    }));
    let mut skipped = std::mem::take(&mut seen.unexamined);
    if let Some(why) = &known.problem {
        skipped.insert(0, unexamined("what cvip.conf says now", why));
    }
    Ok(Examination {
        node: seen.node,
        role,
        findings: sorted(findings),
        unexamined: skipped,
        seen: Some(Box::new(seen)),
    })
}

/// Faults first, else as they were found.
fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn unexamined(what: &str, why: &str) -> Unexamined {
    Unexamined { what: what.to_owned(), why: why.to_owned(), is_expected: false }
}

/// A store that cannot even be opened, such as one whose folder is a file: nothing is examined
/// without it but what keeps cvipd from starting.
fn unopened(
    error: &StoreError,
    node: Option<u32>,
    site: &Site,
    settings: &Settings,
    mut findings: Vec<Finding>,
) -> Examination {
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
    let unexamined = vec![unexamined("the cluster", "the store cannot be opened")];
    Examination { node, role: None, findings: sorted(findings), unexamined, seen: None }
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

/// What is wrong with a file of the configuration, or odd in it.
fn misconfigured(error: &Diagnostic) -> Finding {
    let mut subject = error.path.clone();
    if let Some(place) = &error.place {
        subject += &format!(":{}:{}", place.line, place.column);
    }
    let help = error.help.as_deref().unwrap_or("correct it");
    Finding {
        severity: match error.severity {
            DiagnosticSeverity::Error => Severity::Fault,
            DiagnosticSeverity::Warning => Severity::Warning,
        },
        subject,
        what: error.message.clone(),
        fix: format!("{help} (`cvipctl check` shows the place)"),
        commands: Vec::new(),
    }
}
