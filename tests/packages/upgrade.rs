//! Installation, upgrade, downgrade and removal on a director, where Debian's service manager runs and clients are served.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use cvip_lab::traffic::{Download, Requests, write_pattern};
use cvip_lab::{Cluster, Deployment, Nginx, PATIENCE, Plan, built_programs, unique_name, until};

use crate::machine::Machine;
use crate::root::{OLDER, Root, VERSION};

/// How large the download is: larger than what the kernels' buffers take in.
const LENGTH: u64 = 24 * 1024 * 1024;

/// Requests for as long as the test may take, 20 in a second.
const REQUESTS: u32 = 20 * 600;

/// What a director shows of itself, which no upgrade may change.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    table: String,
    addresses: String,
    flags: String,
}

fn shown(machine: &Machine) -> Shown {
    Shown {
        table: machine.sh("ipvsadm-rs -Sn"),
        addresses: machine.sh("ip -br addr show scope global"),
        flags: machine.sh("setport_weight --list --json"),
    }
}

/// Installs packages, and waits until the new cvipd has looked at everything.
#[track_caller]
fn change_to(machine: &Machine, version: &str, packages: &str) {
    let before = machine.sh("systemctl show --property=MainPID cvipd");
    machine.sh(&format!("apt-get -y --allow-downgrades install {packages}"));
    assert_eq!(machine.sh("dpkg-query -W -f '${Version}' cvip"), version);
    assert_eq!(machine.sh("systemctl is-active cvipd"), "active\n");
    assert_ne!(machine.sh("systemctl show --property=MainPID cvipd"), before, "not restarted");
    assert_eq!(machine.sh("cvipctl apply"), "the table is right: nothing to change\n");
}

/// A director is upgraded and downgraded while clients ask and download: no request, no byte, no service, no address is
/// lost. Then the package is removed, and nothing is left that no program looks after.
pub(crate) fn an_upgrade_and_a_downgrade_lose_nothing_and_a_removed_node_leaves(release: u8) {
    let cluster = Cluster::builder(&unique_name("u")).directors(1).nodes(2).build().unwrap();
    let mut site = Deployment::new(cluster, &built_programs(), &Plan::default()).unwrap();
    let shared = site.run_dir();
    fs::create_dir_all(&shared).unwrap();
    let machine = Machine::boot(Root::fresh(release), site.cluster.director(), &shared);
    let packages = |folder: &str, version: &str| {
        format!("/mnt/{folder}cvip_{version}_*.deb /mnt/{folder}ipvsadm-rs_{version}_*.deb")
    };
    let (older, newer) = (packages("older/", OLDER), packages("", VERSION));

    // A machine that is part of no cluster yet: enabled, not started, and no failure.
    machine.sh(&format!("apt-get -y install {older}"));
    assert_eq!(machine.sh("systemctl is-enabled cvipd"), "enabled\n");
    assert_eq!(machine.sh("systemctl is-active cvipd || true"), "inactive\n");
    assert_eq!(machine.sh("systemctl is-failed cvipd || true"), "inactive\n");

    for file in ["cvip.conf", "clustertab"] {
        fs::copy(site.dir.join(file), machine.root.folder.join("etc").join(file)).unwrap();
    }
    machine.sh("systemctl start cvipd");
    let mut servers = Vec::new();
    for number in [1, 2] {
        site.start(number, &[]).unwrap();
        let folder = site.dir.join(format!("nginx-{number}"));
        fs::create_dir_all(&folder).unwrap();
        write_pattern(&folder.join("file"), LENGTH).unwrap();
        // The download waits while packages are installed, for longer than nginx would.
        let server = format!(
            "server {{ listen 80; send_timeout 1h; root {}; location = / {{ return 200 'node {number}\n'; }} }}",
            folder.display()
        );
        servers.push(Nginx::start(site.host(number), &folder, &server).unwrap());
    }
    machine.sh("setport_weight --start-port=80 --end-port=80 --weight=1 --cluster");
    until("both nodes are in the table", || {
        machine.sh("ipvsadm-rs -Sn").lines().filter(|line| line.starts_with("-a ")).count() == 2
    });
    let before = shown(&machine);

    let cvip: IpAddr = site.cvip(false);
    let at = SocketAddr::new(cvip, 80);
    let client = site.cluster.client();
    let requests = Requests { to: at, number: REQUESTS, per_second: 20.0, patience: PATIENCE };
    let asking = requests.start(client);
    let mut download = Download::start(client, at, "/file", PATIENCE).unwrap();
    assert_eq!(download.length(), LENGTH);
    download.read_to(LENGTH / 4).unwrap();

    change_to(&machine, VERSION, &newer);
    assert_eq!(shown(&machine), before);
    download.read_to(LENGTH / 2).unwrap();

    // An administrator's own settings are kept by all that follows.
    machine.sh("echo '# by hand' >>/etc/default/cvipd");
    change_to(&machine, OLDER, &older);
    assert_eq!(shown(&machine), before);
    change_to(&machine, VERSION, &newer);
    assert_eq!(shown(&machine), before);
    assert!(machine.sh("cat /etc/default/cvipd").ends_with("# by hand\n"));
    assert_eq!(download.finish().unwrap(), LENGTH);
    let asked = asking.ended();
    until("requests are answered after all that", || asking.ended() > asked + 20);
    let report = asking.stop();
    assert!(report.failures().is_empty(), "{report}: {:?}", report.failures());
    assert_eq!(report.by_server().len(), 2, "{report}");
    println!("Debian {release}: {report}");

    // Stopped by hand, it is not started by an upgrade.
    machine.sh("systemctl stop cvipd");
    machine.sh(&format!("apt-get -y --allow-downgrades install {older}"));
    assert_eq!(machine.sh("systemctl is-active cvipd || true"), "inactive\n");
    assert_eq!(shown(&machine).table, before.table);

    machine.sh("systemctl start cvipd");
    machine.sh("apt-get -y remove cvip");
    assert_eq!(machine.sh("ipvsadm-rs -Sn"), "", "no table is left");
    let addresses = machine.sh("ip -br addr show scope global");
    assert!(!addresses.contains(&format!("{cvip}/")), "{addresses}");
    assert_eq!(machine.sh("systemctl is-active cvipd || true"), "inactive\n");
    assert_eq!(machine.sh("systemctl --failed --quiet --no-legend list-units 'cvip*'"), "");
    // The lab's own mount, which no real system has there.
    machine.sh("umount /run/cvip; apt-get -y purge cvip; test ! -e /run/cvip");

    // Back on a system that was once part of a cluster, it starts again.
    machine.sh(&format!("apt-get -y install {newer}"));
    assert_eq!(machine.sh("systemctl is-active cvipd"), "active\n");
}
