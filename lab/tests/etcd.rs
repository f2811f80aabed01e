//! etcd in the lab: that it works, and that its faults are those of a real one.

use std::time::Duration;

use anyhow::Result;
use cvip_lab::etcd::{Etcd, Settings};
use cvip_lab::{Cluster, Network, require, wait_until};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn three_members_go_on_without_one_of_them_and_take_it_back() -> Result<()> {
    require();
    let cluster = Cluster::builder("etcd3").nodes(0).stores(3).interconnect(true).build()?;
    let mut etcd = Etcd::start(&cluster, Settings::default())?;
    assert!(
        etcd.endpoints().contains(&cluster.stores()[1].v4_on(Network::Interconnect).to_string())
    );
    etcd.ctl(&["put", "/cvip/a", "1"])?;
    let leader = etcd.leader()?;
    etcd.kill(leader);
    assert!(!etcd.is_running(leader));
    let put = |etcd: &Etcd, value: &str| {
        etcd.ctl(&["--command-timeout=1s", "put", "/cvip/a", value]).ok()
    };
    wait_until(SOON, || put(&etcd, "2")).expect("two of three can write");
    assert_ne!(etcd.leader()?, leader);
    let other = etcd.leader()?;
    etcd.stop(other)?;
    let get = ["--command-timeout=1s", "get", "--print-value-only", "/cvip/a"];
    assert!(etcd.ctl(&get).is_err(), "one of three knows nothing for sure");
    etcd.start_member(leader)?;
    etcd.start_member(other)?;
    etcd.wait_healthy()?;
    assert_eq!(etcd.ctl(&["get", "--print-value-only", "/cvip/a"])?.trim(), "2");

    // A machine that loses its power, and comes back with what is on its disk.
    etcd.host(1).power_off()?;
    assert!(!etcd.is_running(1));
    etcd.kill(1);
    wait_until(SOON, || put(&etcd, "4")).expect("two of three can write");
    etcd.host(1).power_on()?;
    etcd.start_member(1)?;
    etcd.wait_healthy()?;
    let own = etcd.ctl_on(1, &etcd.endpoint(1), &["get", "--print-value-only", "/cvip/a"])?;
    assert_eq!(String::from_utf8(own.stdout)?.trim(), "4");
    Ok(())
}

#[test]
fn with_tls_and_users_only_who_shows_both_is_served() -> Result<()> {
    require();
    let cluster = Cluster::builder("etcdtls").nodes(1).stores(1).build()?;
    let settings = Settings { tls: true, ipv6: true, ..Settings::default() };
    let mut etcd = Etcd::start(&cluster, settings)?;
    assert_eq!(etcd.endpoint(1), format!("https://[{}]:2379", cluster.stores()[0].v6()));
    etcd.ctl(&["put", "a", "1"])?;
    let node = cluster.node(1);
    let get = |certificate: Option<&str>| -> Result<bool> {
        let mut command = node.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.endpoint(1)]);
        command.arg("--command-timeout=2s");
        command.arg("--cacert").arg(etcd.authority().expect("it speaks TLS"));
        if let Some(name) = certificate {
            let shown = etcd.certificate(name)?;
            command.arg("--cert").arg(shown.certificate).arg("--key").arg(shown.key);
        }
        Ok(command.args(["get", "a"]).output()?.status.success())
    };
    assert!(get(Some("node1"))?);
    assert!(!get(None)?);
    etcd.enable_auth("secret")?;
    assert_eq!(etcd.ctl(&["get", "--print-value-only", "a"])?.trim(), "1");
    let get_as = |name: &str| -> Result<bool> {
        let shown = etcd.certificate(name)?;
        let mut command = node.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.endpoint(1)]);
        command.arg("--cacert").arg(etcd.authority().expect("it speaks TLS"));
        command.arg("--cert").arg(shown.certificate).arg("--key").arg(shown.key);
        Ok(command.args(["get", "a"]).output()?.status.success())
    };
    assert!(!get_as("node1")?, "a user whom nobody knows");
    etcd.ctl(&["user", "add", "node1:other"])?;
    etcd.ctl(&["role", "add", "reader"])?;
    etcd.ctl(&["role", "grant-permission", "reader", "read", "a"])?;
    etcd.ctl(&["user", "grant-role", "node1", "reader"])?;
    assert!(get_as("node1")?, "known by the name on the certificate");
    Ok(())
}

#[test]
fn a_member_whose_disk_is_full_ends_and_comes_back_when_it_has_room() -> Result<()> {
    require();
    let cluster = Cluster::builder("etcdfull").nodes(0).stores(1).build()?;
    let settings = Settings { disk_mib: Some(160), ..Settings::default() };
    let mut etcd = Etcd::start(&cluster, settings)?;
    etcd.ctl(&["put", "first", "1"])?;
    let full = etcd.fill_disk(1)?;
    // Its database outgrows its file.
    let value = "x".repeat(100_000);
    let ends = wait_until(SOON, || {
        let _ = etcd.ctl(&["--command-timeout=2s", "put", "large", &value]);
        (!etcd.is_running(1)).then_some(())
    });
    assert!(ends.is_some(), "it goes on without room");
    drop(full);
    etcd.start_member(1)?;
    etcd.wait_healthy()?;
    assert_eq!(etcd.ctl(&["get", "--print-value-only", "first"])?.trim(), "1");
    Ok(())
}
