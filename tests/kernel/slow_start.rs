//! A real server that begins to serve gets a part of its weight first.

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use serde_json::Value;

use super::support::{Site, listen};

#[test]
fn a_server_that_joins_comes_to_its_whole_weight_step_by_step() {
    let services = "<service><port>8080</port><weight>100</weight><drain_timeout>0</drain_timeout>\
         <slow_start><window>8</window></slow_start></service>";
    let site = Site::start(2, &Plan { ipv4: true, ipv6: true, services, ..Plan::default() });
    let both = [site.v4(Tcp, 8080), site.v6(Tcp, 8080)];
    let _first = listen(site.host(1), "[::]:8080");
    for id in both {
        site.await_pool(id, Some(&[(1, 100)]));
    }
    let joined = listen(site.host(2), "[::]:8080");
    let mut weights = Vec::new();
    site.until("it has its whole weight", |site| {
        let pool = site.pool(both[0])?;
        assert!(pool.contains(&(1, 100)), "who serves already is left alone: {pool:?}");
        let (_, weight) = pool.into_iter().find(|(node, _)| *node == 2)?;
        if weights.last() != Some(&weight) {
            weights.push(weight);
        }
        (weight == 100).then_some(())
    });
    assert!(weights.is_sorted() && weights[0] < 100 && weights.len() > 2, "{weights:?}");
    site.await_pool(both[1], Some(&[(1, 100), (2, 100)]));
    site.assert_right();
    // It begins anew when it joins again, and what cvipd makes of it is no fault.
    drop(joined);
    site.await_pool(both[0], Some(&[(1, 100)]));
    let _again = listen(site.host(2), "[::]:8080");
    site.until("it begins again", |site| {
        let pool = site.pool(both[0])?;
        let (_, weight) = pool.into_iter().find(|(node, _)| *node == 2)?;
        (weight < 100).then_some(())
    });
    let status: Value = serde_json::from_str(&site.direct("cvipctl status --json")).unwrap();
    let servers = status["pools"][0]["servers"].as_array().unwrap();
    let grows = servers.iter().find(|server| server["node"] == 2).unwrap();
    assert_eq!(
        (&grows["state"], &grows["slow_start"]["whole_weight"]),
        (&"slow_start".into(), &100.into()),
        "{status:#}"
    );
    let told = site.try_run(site.director(), "cvipctl doctor");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(!told.contains("weight"), "{told}");
    assert_eq!(site.direct("cvipctl diff"), "");
}
