//! What cvipd sets on a machine (addresses, settings) goes again when nothing needs it any more;
//! what the administrator had set is left alone, and stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Host, Plan};

use super::support::{Server, Site, on};

/// Where settings are that cvipd could have a reason to change, below `/proc/sys/net`. Interfaces
/// of tunnels come with a kernel module, whoever has it loaded.
const SETTINGS: [&str; 10] = [
    "ipv4/conf/all",
    "ipv4/conf/default",
    "ipv4/conf/eth0",
    "ipv4/conf/lo",
    "ipv4/ip_forward",
    "ipv4/vs",
    "ipv6/conf/all",
    "ipv6/conf/default",
    "ipv6/conf/eth0",
    "ipv6/conf/lo",
];

/// A machine's addresses with their interfaces, and its settings.
pub(crate) fn kernel_of(host: &Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in host.stdout(&["ip", "-br", "addr"]).unwrap().lines() {
        let mut words = line.split_whitespace();
        let device = words.next().unwrap();
        let addresses = words.filter(|word| word.contains('/'));
        found.extend(addresses.map(|addr| format!("{addr} on {device}")));
    }
    host.enter(|| {
        for place in SETTINGS {
            let path = Path::new("/proc/sys/net").join(place);
            let files = match path.is_dir() {
                true => fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect(),
                false => vec![path],
            };
            for file in files {
                // Some cannot be read as long as nobody has set them.
                if let Ok(value) = fs::read_to_string(&file) {
                    found.insert(format!("{} = {}", file.display(), value.trim()));
                }
            }
        }
    });
    found
}

/// Waits until a machine's kernel is as it was.
#[track_caller]
pub(crate) fn await_kernel(site: &Site, number: u32, wanted: &BTreeSet<String>) {
    let mut now = BTreeSet::new();
    let came = cvip_lab::wait_until(super::support::PATIENCE, || {
        now = kernel_of(site.host(number));
        (now == *wanted).then_some(())
    });
    let more: Vec<_> = now.difference(wanted).collect();
    let less: Vec<_> = wanted.difference(&now).collect();
    assert!(came.is_some(), "node {number} has {more:#?}, and lacks {less:#?}");
}

#[test]
fn what_a_routing_method_needs_goes_with_it_and_what_the_administrator_had_set_stays() {
    let plan = |routing| Plan { routing, ipv4: true, ipv6: true, services: "" };
    let mut site = Site::stopped(2, &plan("DR"));
    let (own, director) = (site.cluster.director(), site.director());
    // One node is set up by hand, in a way of its own that does as well, and so is half of what
    // a NAT director needs.
    let by_hand = site.host(1);
    on(by_hand, &format!("ip addr add {}/24 dev lo", site.cvip(false)));
    on(by_hand, &format!("ip addr add {}/64 dev lo nodad", site.cvip(true)));
    by_hand.sysctl("net.ipv4.conf.all.arp_ignore", "2").unwrap();
    own.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let before = [1, 2].map(|number| kernel_of(site.host(number)));

    site.start_everywhere(&[]);
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _servers = [1, 2].map(|number| Server::tcp(site.host(number), "[::]:8080", number));
    let await_both = |site: &Site| {
        for id in [site.v4(Tcp, 8080), site.v6(Tcp, 8080)] {
            site.await_pool(id, Some(&[(1, 1), (2, 1)]));
        }
    };
    await_both(&site);
    let by_dr = [1, 2, director].map(|number| kernel_of(site.host(number)));
    let added: Vec<_> = by_dr[0].difference(&before[0]).collect();
    assert_eq!(added, ["/proc/sys/net/ipv4/conf/all/arp_announce = 2"]);
    let added = by_dr[1].difference(&before[1]).cloned().collect::<BTreeSet<String>>();
    let (v4, v6) = (site.cvip(false), site.cvip(true));
    let ours = [
        format!("{v4}/32 on lo"),
        format!("{v6}/128 on lo"),
        "/proc/sys/net/ipv4/conf/all/arp_announce = 2".to_owned(),
        "/proc/sys/net/ipv4/conf/all/arp_ignore = 1".to_owned(),
    ];
    assert_eq!(added, ours.into());

    // Nodes behind NAT need nothing.
    site.write_conf(&plan("NAT")).unwrap();
    site.reload_everywhere();
    await_kernel(&site, 1, &before[0]);
    await_kernel(&site, 2, &before[1]);
    let carries = |site: &Site, addr: String| {
        kernel_of(site.cluster.director()).iter().any(|line| line.starts_with(&addr)).then_some(())
    };
    for ipv6 in [false, true] {
        let addr = format!("{}/", site.gateway(ipv6));
        site.until("the director carries the gateway", |site| carries(site, addr.clone()));
    }
    await_both(&site);

    // By tunnel, and back to where it began.
    for routing in ["TUN", "DR"] {
        site.write_conf(&plan(routing)).unwrap();
        site.reload_everywhere();
        await_both(&site);
    }
    for (number, kernel) in [1, 2, director].into_iter().zip(&by_dr) {
        await_kernel(&site, number, kernel);
    }
}
