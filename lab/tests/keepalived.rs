//! keepalived in the lab, as cvip will be measured against it.

use std::time::Duration;

use anyhow::Result;
use cvip_lab::keepalived::Keepalived;
use cvip_lab::{Cluster, Host, require, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn configuration(host: &Host, vip: &str, priority: u32) -> String {
    format!(
        "global_defs {{\n router_id {}\n}}\n\
         vrrp_instance web {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
         priority {priority}\n advert_int 1\n virtual_ipaddress {{\n {vip}/32\n }}\n}}\n",
        host.name()
    )
}

#[test]
fn the_address_moves_to_the_standby_when_the_master_loses_its_power() -> Result<()> {
    require();
    let cluster = Cluster::builder("vrrp").directors(2).nodes(0).build()?;
    let dir = std::env::temp_dir();
    let vip = cluster.vip4(1).to_string();
    let carries = |host: &Host| {
        let addresses = host.stdout(&["ip", "addr"]).unwrap_or_default();
        addresses.contains(&vip).then_some(())
    };
    let (first, second) = (cluster.director(), cluster.standby());
    let master = Keepalived::start(first, &dir, &configuration(first, &vip, 150))?;
    wait_until(SOON, || carries(first)).expect("the first one is master");
    let standby = Keepalived::start(second, &dir, &configuration(second, &vip, 100))?;
    assert!(carries(second).is_none());
    cluster.client().run(&["ping", "-c1", "-W5", &vip])?;
    first.power_off()?;
    wait_until(SOON, || carries(second)).expect("the second one takes over");
    let answers = || cluster.client().run(&["ping", "-c1", "-W1", &vip]).ok();
    wait_until(SOON, answers).expect("the client finds it");
    drop((master, standby));

    let wrong = Keepalived::start(second, &dir, "vrrp_instance {");
    assert!(wrong.is_err() || !wrong?.log().is_empty());
    Ok(())
}
