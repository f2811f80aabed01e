//! `cvipctl check`: every fault of the configuration, each with its place, and what is wrong
//! with the store.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::{FAILED, NodeOption, OK, Site, Streams};
use crate::conf::{Conf, Diagnostic, DiagnosticSeverity, Loaded};
use crate::json;
use crate::net;
use crate::node::host;
use crate::settings::{Engine, Settings, SettingsError};
use crate::store::{Access, Interest, Key};

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Check the files alone, and do not look at the store
    #[arg(long)]
    offline: bool,

    /// Print the faults as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let loaded = site.load();
    if let (Some(node), Some(_)) = (args.node.node, &loaded.conf) {
        site.known().node(node, [])?;
    }
    let (stores, mut found) = store(args, site, &loaded);
    match (&loaded.conf, site.node(&args.node)) {
        (Some(conf), Ok(me)) if is_here(me, args, &loaded) => {
            if let Ok(interfaces) = net::interfaces() {
                found.extend(host::lacks(conf, me, &interfaces, host::has_user));
            }
        }
        (Some(conf), _) => found.extend(host::misspelt_owners(conf, &host::users())),
        (None, _) => {}
    }
    let failed =
        loaded.conf.is_none() || found.iter().any(|d| d.severity == DiagnosticSeverity::Error);
    let diagnostics: Vec<&Diagnostic> = loaded.diagnostics.iter().chain(&found).collect();
    if args.json {
        json::write(streams.out, BTreeMap::from([("diagnostics", diagnostics)]))?;
        return Ok(if failed { FAILED } else { OK });
    }
    for diagnostic in diagnostics {
        writeln!(streams.err, "{diagnostic}")?;
    }
    if let Some(conf) = &loaded.conf {
        let services: usize = conf.cvips.iter().map(|cvip| cvip.services.len()).sum();
        writeln!(
            streams.out,
            "{}: {}, {}, {}, {}",
            site.conf.display(),
            conf.routing,
            count(conf.cvips.len(), "CVIP"),
            count(conf.nodes().len(), "node"),
            count(services, "service"),
        )?;
    }
    for store in stores {
        writeln!(streams.out, "{store}")?;
    }
    Ok(if failed { FAILED } else { OK })
}

/// True if a node is this host: it has the node's address, or no other one was named.
fn is_here(me: u32, args: &Args, loaded: &Loaded) -> bool {
    let Some(conf) = &loaded.conf else { return false };
    let here = net::local_addresses().unwrap_or_default();
    let own = addresses(conf, loaded).get(&me).is_none_or(|addr| here.contains_key(addr));
    args.node.node.is_none() || own
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The store's servers that answered, and what is wrong with it.
fn store(args: &Args, site: &Site, loaded: &Loaded) -> (Vec<String>, Vec<Diagnostic>) {
    let settings = match Settings::load(&site.overrides) {
        Ok(settings) => settings,
        Err(SettingsError::File(diagnostic)) => return (vec![], vec![*diagnostic]),
        Err(error) => {
            return (vec![], vec![fault(DiagnosticSeverity::Error, "store", error.to_string())]);
        }
    };
    if args.offline {
        return (vec![], vec![]);
    }
    match settings.engine {
        Engine::Local => (vec![], local(site, &settings, loaded)),
        Engine::Etcd => etcd(args, site, &settings, loaded),
    }
}

fn fault(severity: DiagnosticSeverity, path: &str, message: String) -> Diagnostic {
    Diagnostic { severity, path: path.to_owned(), place: None, message, help: None }
}

/// The embedded store: is one host enough, and can its files be read?
fn local(site: &Site, settings: &Settings, loaded: &Loaded) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // An administrator who chose it knows network namespaces.
    if !settings.engine_was_chosen
        && let Some(conf) = &loaded.conf
    {
        let addresses = addresses(conf, loaded);
        let here = net::local_addresses().unwrap_or_default();
        let unavailable = addresses.iter().filter(|(_, addr)| !here.contains_key(addr));
        let unavailable: Vec<String> =
            unavailable.map(|(node, addr)| format!("node {node} ({addr})")).collect();
        if addresses.len() > 1 && !unavailable.is_empty() {
            found.push(Diagnostic {
                help: Some(
                    "set up etcd and name it in cvip.toml(5); if all nodes are network \
                     namespaces of this host, say so there with store = \"local\""
                        .to_owned(),
                ),
                ..fault(
                    DiagnosticSeverity::Warning,
                    "store",
                    format!(
                        "the embedded store serves one host, and on another are {}",
                        unavailable.join(", ")
                    ),
                )
            });
        }
    }
    found.extend(key(settings, site));
    let state = site.store(Access::Read, Interest::All).and_then(|mut store| Ok(store.refresh()?));
    match state {
        Ok(refreshed) => {
            let faults = refreshed.faults.iter();
            found
                .extend(faults.map(|f| fault(DiagnosticSeverity::Warning, "store", f.to_string())));
        }
        Err(error) => found.push(fault(DiagnosticSeverity::Error, "store", format!("{error:#}"))),
    }
    found
}

/// What is wrong with the cluster key; that this user may not read it is as it should be.
fn key(settings: &Settings, site: &Site) -> Option<Diagnostic> {
    let error = settings.check_cluster_key(&site.run_dir).err()?;
    Some(match error {
        SettingsError::Forbidden(path) => fault(
            DiagnosticSeverity::Warning,
            "store",
            format!("the cluster key was not checked: only root may read {}", path.display()),
        ),
        error => fault(DiagnosticSeverity::Error, "store", error.to_string()),
    })
}

/// The nodes' own addresses, as far as the two files name them.
fn addresses(conf: &Conf, loaded: &Loaded) -> BTreeMap<u32, IpAddr> {
    let mut addresses = BTreeMap::new();
    for cvip in &conf.cvips {
        addresses.extend(cvip.real_servers.iter().map(|server| (server.node, server.addr)));
    }
    if let Some(clustertab) = &loaded.clustertab {
        let part = conf.nodes();
        let listed = clustertab.nodes.iter().filter(|(node, _)| part.contains(node));
        addresses.extend(listed.map(|(node, addr)| (*node, *addr)));
    }
    addresses
}

/// etcd: do its servers answer, and may this host do what it has to?
fn etcd(
    args: &Args,
    site: &Site,
    settings: &Settings,
    loaded: &Loaded,
) -> (Vec<String>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let files = settings.etcd.check_files().err();
    found.extend(files.as_ref().map(|e| fault(DiagnosticSeverity::Error, "store", e.to_string())));
    found.extend(key(settings, site));
    if files.is_some() {
        return (vec![], found);
    }
    let (versions, more) = reach(settings, &writes(args, site, loaded));
    found.extend(more);
    (versions, found)
}

/// What this host's cvipd writes, if it is known which node it is.
fn writes(args: &Args, site: &Site, loaded: &Loaded) -> Vec<Key> {
    let Ok(node) = site.node(&args.node) else { return vec![] };
    let Some(conf) = loaded.conf.as_ref().filter(|conf| conf.nodes().contains(&node)) else {
        return vec![];
    };
    let mut writes = vec![Key::Node(node), Key::Alive(node)];
    for set in conf.director_sets() {
        if set.directors.contains(&node) {
            writes.extend(set.directors.iter().min().map(|lowest| Key::Director(*lowest)));
        }
    }
    writes
}

#[cfg(feature = "etcd")]
fn reach(settings: &Settings, writes: &[Key]) -> (Vec<String>, Vec<Diagnostic>) {
    let (versions, findings) = crate::store::etcd::probe(&settings.etcd, writes);
    let diagnostic = |finding: crate::store::etcd::ServerFinding| Diagnostic {
        help: finding.help,
        ..fault(
            if finding.is_error { DiagnosticSeverity::Error } else { DiagnosticSeverity::Warning },
            "store",
            finding.message,
        )
    };
    (versions, findings.into_iter().map(diagnostic).collect())
}

#[cfg(not(feature = "etcd"))]
fn reach(_settings: &Settings, _writes: &[Key]) -> (Vec<String>, Vec<Diagnostic>) {
    let text = crate::store::StoreError::NotBuilt.to_string();
    (vec![], vec![fault(DiagnosticSeverity::Error, "store", text)])
}
