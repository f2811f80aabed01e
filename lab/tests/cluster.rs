//! The cluster helper itself, on a real kernel: without these, a fault of the helper looks like one of cvip.

use std::time::{Duration, Instant};

use anyhow::Result;
use cvip_lab::{Cluster, Network, Person, Process, require, wait_until};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn every_member_reaches_every_other_in_both_families() -> Result<()> {
    require();
    let cluster = Cluster::builder("reach").directors(2).nodes(2).build()?;
    for from in cluster.members() {
        for to in cluster.members() {
            from.run(&["ping", "-c1", "-W2", &to.v4().to_string()])?;
        }
        from.run(&["ping", "-c1", "-W2", &cluster.director().v6().to_string()])?;
    }
    Ok(())
}

#[test]
fn with_an_interconnect_all_but_the_client_have_a_second_network() -> Result<()> {
    require();
    let cluster = Cluster::builder("inter").directors(3).nodes(1).stores(3);
    let cluster = cluster.interconnect(true).build()?;
    assert_eq!(cluster.members().count(), 8);
    let (node, client) = (cluster.node(1), cluster.client());
    for to in cluster.directors().iter().chain(cluster.stores().iter().map(AsRef::as_ref)) {
        for network in [Network::Public, Network::Interconnect] {
            node.run(&["ping", "-c1", "-W2", &to.v4_on(network).to_string()])?;
        }
        node.run(&["ping", "-c1", "-W2", &to.v6_on(Network::Interconnect).to_string()])?;
    }
    let link = node.stdout(&["ip", "-br", "link", "show", "eth1"])?;
    assert!(link.contains(&node.mac_on(Network::Interconnect)), "{link}");
    assert_eq!(client.networks(), [Network::Public]);
    assert!(client.run(&["ip", "link", "show", "eth1"]).is_err());
    assert!(client.unplug(Network::Interconnect).is_err());
    Ok(())
}

#[test]
fn a_capture_has_every_packet_since_it_began() -> Result<()> {
    require();
    let cluster = Cluster::builder("capture").nodes(1).build()?;
    let (client, node) = (cluster.client(), cluster.node(1));
    let capture = node.capture("icmp")?;
    client.run(&["ping", "-c3", "-i0.01", &node.v4().to_string()])?;
    let lines = capture.stop()?;
    assert_eq!(lines.iter().filter(|line| line.contains("echo request")).count(), 3, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("echo reply")).count(), 3, "{lines:#?}");
    assert!(
        lines[0].contains(&client.mac()) && lines[0].contains(&node.v4().to_string()),
        "{lines:#?}"
    );
    Ok(())
}

#[test]
fn a_bad_filter_is_an_error_and_not_an_empty_capture() -> Result<()> {
    require();
    let cluster = Cluster::builder("filter").nodes(0).build()?;
    let error = cluster.client().capture("no such filter").unwrap_err();
    assert!(error.to_string().contains("does not capture"), "{error:#}");
    Ok(())
}

#[test]
fn each_member_has_ipvs_tables_of_its_own() -> Result<()> {
    require();
    let cluster = Cluster::builder("tables").directors(2).nodes(0).build()?;
    let service = format!("{}:80", cluster.vip4(1));
    cluster.director().run(&["ipvsadm", "-A", "-t", &service, "-s", "wlc"])?;
    assert!(cluster.director().stdout(&["ipvsadm", "-Sn"])?.contains(&service));
    assert_eq!(cluster.standby().stdout(&["ipvsadm", "-Sn"])?, "");
    Ok(())
}

#[test]
fn the_director_balances_a_clients_connections() -> Result<()> {
    require();
    let cluster = Cluster::builder("balance").nodes(2).build()?;
    let (client, director, vip) = (cluster.client(), cluster.director(), cluster.vip4(1));
    director.run(&["ip", "addr", "add", &format!("{vip}/32"), "dev", "eth0"])?;
    director.run(&["ipvsadm", "-A", "-t", &format!("{vip}:80"), "-s", "rr"])?;
    let mut servers = Vec::new();
    for node in cluster.nodes() {
        // Direct routing: the node has the virtual address too, but does not answer for it.
        node.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
        node.sysctl("net.ipv4.conf.all.arp_announce", "2")?;
        node.run(&["ip", "addr", "add", &format!("{vip}/32"), "dev", "lo"])?;
        let script = format!("while :; do echo {} | nc -lN -p 80 -s {vip}; done", node.name());
        servers.push(node.spawn(&["sh", "-c", &script])?);
        director.run(&[
            "ipvsadm",
            "-a",
            "-t",
            &format!("{vip}:80"),
            "-r",
            &format!("{}:80", node.v4()),
            "-g",
        ])?;
    }
    let mut seen = std::collections::BTreeSet::new();
    let all = || {
        if let Ok(answer) = client.stdout(&["nc", "-d", "-w1", &vip.to_string(), "80"]) {
            seen.insert(answer.trim().to_owned());
        }
        (seen.contains("balance-n1") && seen.contains("balance-n2")).then_some(())
    };
    wait_until(Duration::from_secs(20), all).expect("both nodes answer");
    Ok(())
}

#[test]
fn a_closure_runs_in_the_members_namespace() -> Result<()> {
    require();
    let cluster = Cluster::builder("enter").nodes(1).build()?;
    let address = cluster.node(1).v4();
    // Only there can that address be bound.
    assert!(std::net::TcpListener::bind((address, 0)).is_err());
    let listener = cluster.node(1).enter(move || std::net::TcpListener::bind((address, 80)))?;
    cluster.client().run(&["nc", "-z", "-w2", &address.to_string(), "80"])?;
    drop(listener);
    Ok(())
}

#[test]
fn a_spawned_process_is_the_commands_own_and_ends_with_its_guard() -> Result<()> {
    require();
    let cluster = Cluster::builder("guard").nodes(1).build()?;
    let process = cluster.node(1).spawn(&["sleep", "1000"])?;
    let folder = format!("/proc/{}", process.pid());
    let name =
        || (std::fs::read_to_string(format!("{folder}/comm")).ok()? == "sleep\n").then_some(());
    assert!(wait_until(SOON, name).is_some());
    drop(process);
    assert!(!std::path::Path::new(&folder).exists());
    Ok(())
}

#[test]
fn another_user_is_one_to_every_program_and_owns_what_he_opens() -> Result<()> {
    require();
    let cluster = Cluster::builder("people").nodes(1).build()?;
    let node = cluster.node(1);
    let person = Person::new("carol", 1101)?;
    assert_eq!(person, Person::new("carol", 1101)?, "once more is the same");
    assert!(Person::new("carol", 1102).is_err() && Person::new("root", 0).is_ok());
    let output = node.command_as(&person, "id").output()?;
    let says = String::from_utf8(output.stdout)?;
    assert_eq!(says.trim(), "uid=1101(carol) gid=1101(carol) groups=1101(carol)");
    assert!(!node.command_as(&person, "cat").arg("/etc/shadow").output()?.status.success());
    let mut server = node.command_as(&person, "nc");
    let server = Process::spawn({
        server.args(["-lk", "7000"]);
        server
    })?;
    let owner = || node.stdout(&["ss", "-Htlne"]).ok()?.contains("uid:1101").then_some(());
    wait_until(SOON, owner).expect("the socket is his");
    drop(server);
    Ok(())
}

#[test]
fn a_dropped_cluster_leaves_nothing_behind() -> Result<()> {
    require();
    let start = Instant::now();
    let cluster = Cluster::builder("gone").directors(2).nodes(3).build()?;
    eprintln!("a cluster of six was built in {:?}", start.elapsed());
    let daemon = cluster.node(1).run(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])?;
    let daemon = String::from_utf8(daemon.stdout)?.trim().to_owned();
    let start = Instant::now();
    drop(cluster);
    eprintln!("and removed in {:?}", start.elapsed());
    let left: Vec<_> = std::fs::read_dir("/run/netns")?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("gone-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let dead = || (!std::path::Path::new("/proc").join(&daemon).join("exe").exists()).then_some(());
    assert!(wait_until(SOON, dead).is_some());
    // The name is free again.
    Cluster::builder("gone").nodes(0).build()?;
    Ok(())
}
