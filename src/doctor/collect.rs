//! Looks at this host's kernel, its cvipd and the store, and changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::observed::{Host, NeighbourReply, Observed, ObservedTable, ServerFault, Unexamined};
use super::{Roles, conflicts, listeners};
use crate::clock::Instant;
use crate::conf::{Clustertab, Conf, Cvip, Routing};
use crate::daemon::{ControlError, ControlRequest, Response, RunError, ask, check_start};
use crate::director::desired::Inputs;
use crate::director::drains::DrainState;
use crate::director::owned_table::read_services;
use crate::director::restrictions::Restrictions;
use crate::director::table;
use crate::director::view::TableView;
use crate::ipvs::{self, Change, Client};
use crate::listeners::{Dumper, Ranges};
use crate::net::{self, Done, Interface, NetworkSettings, ThisHost};
use crate::node::System;
use crate::settings::{Settings, SettingsError};
use crate::store::{ServiceKey, Store};

/// A difference between table and store that is still there after this is one; before, it may be
/// a change that is under way.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// What is not examined where neighbours are not asked.
pub(super) const NEIGHBOURS: &str = "who else answers for the CVIPs";

/// How far is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What the store and this host's cvipd tell, and nothing of this host's kernel.
    Cluster,
    /// This host's kernel too, as far as that takes no time: neighbours are not asked.
    Quick,
    /// Everything.
    Full,
}

/// What is to be looked at, and what is known beforehand.
pub(crate) struct Subject<'a> {
    /// The configuration.
    pub conf: Conf,
    /// Node numbers and addresses.
    pub clustertab: Clustertab,
    /// This host's node, or why it is not known.
    pub node: Result<u32, String>,
    /// The store is this host's own, and no setting says that this is intended.
    pub embedded: bool,
    /// The folder of cvipd's own files.
    pub run_dir: &'a Path,
    /// Which store, and where the cluster key is.
    pub settings: &'a Settings,
    /// What is wrong with the store's servers.
    pub store_servers: Vec<ServerFault>,
    /// How far is looked.
    pub extent: Extent,
}

/// Looks at everything that can be seen from here, in the calling thread's network namespace.
///
/// A store that cannot be read is a finding, and nothing that only it knows is examined.
pub(crate) fn collect(subject: Subject<'_>, store: &mut dyn Store) -> Observed {
    let Subject { conf, clustertab, node, embedded, run_dir, settings, store_servers, extent } =
        subject;
    let (faults, unavailable) = match store.refresh() {
        Ok(refreshed) => (refreshed.faults, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let state = store.state().clone();
    let roles = Roles::by_store(&conf, &state);
    let mut seen = Observed {
        sync: node.as_ref().ok().and_then(|node| roles.sync(&conf, *node)),
        node: node.as_ref().ok().copied(),
        alive: state.alive.keys().copied().collect(),
        conf,
        clustertab,
        roles,
        state,
        liveness_of: BTreeMap::new(),
        corrupt: faults,
        unavailable,
        embedded,
        own: None,
        complaints: Vec::new(),
        unsaved: Vec::new(),
        ports_taken: Vec::new(),
        store_servers,
        start_fault: None,
        host: None,
        table: None,
        kernel: None,
        unexamined: Vec::new(),
    };
    match node {
        Ok(node) => {
            let view = own_cvipd(&mut seen, node, run_dir);
            if !seen.alive.contains(&node) {
                seen.start_fault = start_fault(settings, run_dir, node);
            }
            if seen.has_left(node) {
                seen.sync = None;
            }
            if extent == Extent::Cluster {
                seen.pass_over("this host's own kernel", "only the cluster was asked for");
            } else {
                seen.host = host(&mut seen, node, run_dir, extent);
                seen.table = table(&mut seen, node, view, store);
            }
        }
        Err(why) => seen.skip("this host's own kernel", why),
    }
    if seen.unavailable.is_some() {
        let why = "the store cannot be read (`cvipctl check` says more)";
        seen.skip("other nodes, flags, listeners and the IPVS table", why.to_owned());
    }
    let others = seen.conf.nodes().into_iter().filter(|node| Some(*node) != seen.node);
    let others: Vec<String> = others.map(|node| node.to_string()).collect();
    if !others.is_empty() {
        let what = match others.len() {
            1 => format!("the kernel of node {}", others[0]),
            _ => format!("the kernels of nodes {}", others.join(", ")),
        };
        seen.pass_over(&what, "each is seen from its own node only: run `cvipctl doctor` there");
    }
    seen
}

/// Why a cvipd could not start here; none where that was not seen.
pub(crate) fn start_fault(settings: &Settings, run_dir: &Path, node: u32) -> Option<String> {
    match check_start(settings, run_dir, node) {
        // Only root may look at the key, and it is root's.
        Ok(()) | Err(RunError::Key(SettingsError::Forbidden(_))) => None,
        Err(error) => Some(error.to_string()),
    }
}

impl Observed {
    fn skip(&mut self, what: &str, why: String) {
        self.unexamined.push(Unexamined { what: what.to_owned(), why, is_expected: false });
    }

    /// What is not examined, as is to be expected.
    fn pass_over(&mut self, what: &str, why: &str) {
        let (what, why) = (what.to_owned(), why.to_owned());
        self.unexamined.push(Unexamined { what, why, is_expected: true });
    }

    /// The value, or a note that it could not be had.
    fn noting<T>(&mut self, what: &str, outcome: Result<T, impl ToString>) -> Option<T> {
        outcome.map_err(|error| self.skip(what, error.to_string())).ok()
    }
}

/// What this node's cvipd says of the configuration and of its pools. That none runs is seen by
/// its lease, if that can be seen.
fn own_cvipd(seen: &mut Observed, node: u32, run_dir: &Path) -> TableView {
    match ask(run_dir, node, ControlRequest::Status) {
        Ok(Response::Status(status)) => {
            seen.complaints = status.faults.clone();
            seen.alive.insert(node);
            seen.unsaved = status.unsaved.clone();
            if let Some(monitor) = &status.monitor {
                seen.liveness_of = monitor.liveness_of.clone();
                seen.ports_taken = monitor.ports_taken.clone();
            }
            let view = status.pools.clone().unwrap_or_default();
            seen.own = Some(status);
            view
        }
        // Only who has the socket's group may ask; or it is frozen.
        Ok(_) | Err(ControlError::Absent(_)) => TableView::default(),
        Err(error) => {
            seen.skip("what this node's cvipd says", error.to_string());
            TableView::default()
        }
    }
}

fn host(seen: &mut Observed, node: u32, run_dir: &Path, extent: Extent) -> Option<Host> {
    let interfaces = net::interfaces();
    let interfaces = seen.noting("this host's addresses and routes", interfaces)?;
    let mut this_host = ThisHost::of_node(run_dir, node);
    let network = NetworkSettings::open(&this_host);
    let network = seen.noting("what cvipd has set here", network);
    let made = network.as_ref().map(NetworkSettings::made);
    let desired = seen.desired();
    // What it made is nothing to what is.
    let network = network.unwrap_or_default();
    let differences = network.check(&mut this_host, &desired);
    let differences = seen.noting("what cvipd should have set here", differences);
    let around = System::read(node, &seen.conf);
    let listeners = match seen.unavailable {
        None => {
            let ranges: Ranges = listeners::ranges(seen, node).into_iter().collect();
            let found = Dumper::open().and_then(|mut dumper| dumper.snapshot(&ranges));
            seen.noting("who listens here", found)
        }
        // What is flagged is unknown.
        Some(_) => None,
    };
    let mut others = BTreeMap::new();
    let places = conflicts::places(seen, &interfaces);
    if extent == Extent::Quick && !places.is_empty() {
        let why = "`cvipctl doctor` asks the neighbours, which takes a second";
        seen.pass_over(NEIGHBOURS, why);
    }
    for (device, addrs) in places.into_iter().filter(|_| extent == Extent::Full) {
        let asked = conflicts::ask(&device, &addrs);
        others.extend(seen.noting(NEIGHBOURS, asked).into_iter().flatten());
    }
    Some(Host {
        settings: settings(&interfaces, made.iter().flatten()),
        differences: differences.unwrap_or_default(),
        made,
        replies: replies(seen, node, &interfaces),
        conflicts: others,
        listeners,
        around: Some(around),
        interfaces,
    })
}

/// The settings that any examination reads.
fn settings<'a>(
    interfaces: &[Interface],
    made: impl Iterator<Item = &'a Done>,
) -> BTreeMap<String, String> {
    let mut paths: Vec<String> = ["conntrack", "drop_entry", "drop_packet", "backup_only"]
        .iter()
        .chain(&["expire_nodest_conn"])
        .map(|name| format!("net/ipv4/vs/{name}"))
        .collect();
    paths.push("net/ipv6/conf/all/forwarding".to_owned());
    let scopes = interfaces.iter().map(|interface| interface.name.as_str()).chain(["all"]);
    for scope in scopes {
        for name in ["rp_filter", "arp_ignore"] {
            paths.push(format!("net/ipv4/conf/{scope}/{name}"));
        }
        for name in ["disable_ipv6", "accept_redirects"] {
            paths.push(format!("net/ipv6/conf/{scope}/{name}"));
        }
    }
    paths.extend(made.filter_map(|done| match done {
        Done::Set { path, .. } => Some(path.clone()),
        _ => None,
    }));
    // One that is not there has no value.
    let value = |path: String| net::setting(&path).ok().map(|value| (path, value));
    paths.into_iter().filter_map(value).collect()
}

/// Where replies to clients beyond the network would leave, for each CVIP that this node serves
/// or directs.
fn replies(
    seen: &mut Observed,
    node: u32,
    interfaces: &[Interface],
) -> BTreeMap<IpAddr, NeighbourReply> {
    let has = |addr: IpAddr| interfaces.iter().flat_map(|i| &i.addresses).any(|a| a.addr == addr);
    let mine = |cvip: &&Cvip| cvip.real_server(node).is_some();
    let asked: Vec<(IpAddr, Option<IpAddr>)> = seen
        .conf
        .cvips
        .iter()
        .filter(mine)
        .map(|cvip| {
            let behind_nat =
                seen.conf.routing == Routing::Nat && seen.roles.active(cvip.addr) != Some(node);
            let from = match cvip.real_server(node) {
                Some(server) if behind_nat => server.addr,
                _ => cvip.addr,
            };
            (cvip.addr, has(from).then_some(from))
        })
        .collect();
    let mut replies = BTreeMap::new();
    for (cvip, from) in asked {
        let route = net::route_abroad(cvip, from);
        if let Some(route) = seen.noting("the way of replies to clients", route) {
            let route = route.map(|route| (route.gateway, route.device));
            replies.insert(cvip, NeighbourReply { route });
        }
    }
    replies
}

fn table(
    seen: &mut Observed,
    node: u32,
    view: TableView,
    store: &mut dyn Store,
) -> Option<ObservedTable> {
    // Asking a kernel that has no IPVS yet would load it.
    if !seen.host.as_ref()?.has_ipvs() {
        return None;
    }
    let table = match seen.unavailable {
        None => read_table(seen, node, view, store).map(Some),
        // Nothing is known of what should stand in it.
        Some(_) => {
            Client::open().and_then(|mut client| read_services(&mut client)).map(|services| {
                seen.kernel = Some(services);
                None
            })
        }
    };
    seen.noting("the kernel's IPVS table", table).flatten()
}

fn read_table(
    seen: &mut Observed,
    node: u32,
    view: TableView,
    store: &mut dyn Store,
) -> Result<ObservedTable, ipvs::IpvsError> {
    let mut client = Client::open()?;
    // Without a value that cannot be read, another table would be desired.
    let is_known = seen.corrupt.is_empty();
    if !is_known {
        let why = "a value of the store cannot be read".to_owned();
        seen.skip("differences of the IPVS table from the store", why);
    }
    let mut table = ObservedTable {
        changes: if is_known { changes(&mut client, seen, node)? } else { Vec::new() },
        daemons: client.daemons()?,
        view,
    };
    if !table.changes.is_empty() {
        sleep(SETTLED_AFTER);
        // What cannot be read now was read before.
        let _ = store.refresh();
        seen.state = store.state().clone();
        let again = changes(&mut client, seen, node)?;
        table.changes.retain(|change| again.contains(change));
    }
    seen.kernel = Some(read_services(&mut client)?);
    Ok(table)
}

/// What the node would have to change as the active director; nothing where it is none.
fn changes(
    client: &mut Client,
    seen: &Observed,
    node: u32,
) -> Result<Vec<(ServiceKey, Change)>, ipvs::IpvsError> {
    if !seen.roles.is_active(node) {
        return Ok(Vec::new());
    }
    let (restrictions, now) = (&Restrictions::default(), Instant::now());
    let (nodes, drains) = (&seen.state.nodes, &seen.state.drains);
    let inputs =
        Inputs { conf: &seen.conf, nodes, me: node, drains, restrictions, passive: false, now };
    Ok(table::plan_all(client, inputs, &seen.state, &mut DrainState::new())?.changes)
}
