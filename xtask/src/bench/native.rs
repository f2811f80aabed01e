//! A node of its own on this machine's kernel: cvipd in a network namespace, no IPVS needed.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip::clock;
use cvip::conf::{self, Conf};
use cvip::director::desired::{DesiredService, Inputs, desired};
use cvip::director::drains::DrainState;
use cvip::director::kernel_table::Actual;
use cvip::director::reconcile::plan;
use cvip::director::restrictions::Restrictions;
use cvip::protocol::Protocol;
use cvip::store::{self, Access, Interest, LocalStore, ServiceKey, Store};
use cvip_lab::{CLUSTER_KEY, Process, in_new_network, ip, wait_until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::director::as_desired;
use super::etcd::{Etcd, settings};

/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The service that its port 80 belongs to.
const WEB: ServiceKey = ServiceKey {
    cvip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
    protocol: Protocol::Tcp,
    port: 80,
};

/// Runs a closure on a thread with a network namespace of its own, which has the node's address: it,
/// and what it starts, touches nobody else's network.
pub(super) fn in_namespace(measure: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    in_new_network(|| {
        ip("addr add 192.0.2.2/32 dev lo")?;
        measure()
    })?
}

/// A real server whose port 80 is flagged, and who looks at what it stores as a director does.
pub(super) struct Node {
    store: Box<dyn Store>,
    daemon: Process,
    conf: Conf,
    // Left behind, it would only be litter.
    _dir: TempDir,
}

impl Node {
    /// Starts cvipd, with the embedded store or on etcd, and waits for its first record.
    pub(super) fn start(programs: &Path, options: &[&str], etcd: Option<&Etcd>) -> Result<Node> {
        let dir = tempfile::tempdir()?;
        let [conf, tab, run_dir, view, key] =
            ["cvip.conf", "clustertab", "run", "view", "cluster.key"]
                .map(|name| dir.path().join(name));
        fs::write(&tab, "1 192.0.2.1\n2 192.0.2.2\n")?;
        fs::write(
            &conf,
            "<cvips><routing>DR</routing><cvip><ip_addr>192.0.2.10</ip_addr><director_node>\
             <node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>\
             <real_server_node><node_num>2</node_num></real_server_node>\
             <service><port>80</port></service></cvip></cvips>",
        )?;
        let mut command = Command::new(programs.join("cvipd"));
        command.arg("--conf").arg(&conf).arg("--clustertab").arg(&tab);
        command.arg("--run-dir").arg(&run_dir).arg("--log=warn").args(options);
        if let Some(etcd) = etcd {
            fs::write(&key, CLUSTER_KEY)?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            command.env("CVIP_STORE", "etcd").env("CVIP_CLUSTER_KEY_FILE", &key);
            command.env("CVIP_ETCD_ENDPOINTS", etcd.endpoints().join(","));
        }
        let daemon = Process::spawn({
            command.stdin(Stdio::null());
            command
        })?;
        let open = || -> Result<Box<dyn Store>> {
            Ok(match etcd {
                None => Box::new(LocalStore::open(&run_dir, Access::Read)?),
                Some(etcd) => {
                    let settings = settings(etcd.endpoints());
                    store::open(&settings, &view, Access::Read, Interest::All)?
                }
            })
        };
        let opened = wait_until(PATIENCE, || {
            let mut store = open().ok()?;
            store.refresh().ok()?;
            store.state().nodes.contains_key(&2).then_some(store)
        });
        let store = opened.context("cvipd wrote no record")?;
        let conf = conf::load(&conf, &tab).conf.context("cvip.conf has faults")?;
        Ok(Node { store, daemon, conf, _dir: dir })
    }

    /// The process id of its cvipd.
    pub(super) fn pid(&self) -> Pid {
        self.daemon.pid()
    }

    /// Waits until the record registers something, or nothing, and says since when.
    pub(super) fn until_registered(&mut self, registered: bool) -> Result<Instant> {
        self.until(|node| {
            let record = node.store.state().nodes.get(&2);
            record.is_some_and(|record| record.registrations.is_empty() != registered)
        })
    }

    /// The kernel's service, had a director done what it wants at the moment.
    pub(super) fn table(&self) -> Option<Actual> {
        let desired = self.desired();
        desired.service.is_some().then(|| as_desired(WEB, &desired))
    }

    /// Waits until a director decides to change that, and says since when: what it does next is to
    /// tell the kernel.
    pub(super) fn until_decided(&mut self, table: Option<&Actual>) -> Result<Instant> {
        self.until(|node| {
            !plan(WEB, &node.desired(), table, &mut DrainState::new(), clock::Instant::now())
                .is_empty()
        })
    }

    /// What the director wants of the service.
    fn desired(&self) -> DesiredService {
        let (drains, restrictions) = (store::Drains::default(), Restrictions::default());
        let (conf, nodes, now) = (&self.conf, &self.store.state().nodes, clock::Instant::now());
        let inputs = Inputs {
            conf,
            nodes,
            me: 1,
            drains: &drains,
            restrictions: &restrictions,
            passive: false,
            now,
        };
        desired(WEB, inputs)
    }

    fn until(&mut self, mut is: impl FnMut(&Node) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.store.refresh() {
                Err(error) if !error.is_unavailable() => return Err(error.into()),
                _ => {}
            }
            let is = is(self);
            let now = Instant::now();
            if is {
                return Ok(now);
            }
            ensure!(now < deadline, "nothing changed within {PATIENCE:?}");
            poll(
                &mut [PollFd::new(self.store.wakeup(), PollFlags::POLLIN)],
                PollTimeout::from(1000_u16),
            )?;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Who still writes there would complain.
        let _ = self.daemon.stop();
    }
}
