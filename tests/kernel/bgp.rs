//! CVIPs announced by BGP, with the files of `examples/bgp` and a BIRD each on two directors and a router.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::{Host, Plan, Process};

use super::support::{Server, Site, fetch};

/// The recipe's files.
const HOOK: &str = include_str!("../../examples/bgp/hooks.d/20-bgp");
const DIRECTOR: &str = include_str!("../../examples/bgp/bird.conf");
const ROUTER: &str = include_str!("../../examples/bgp/router.conf");
const SETTINGS: &str = include_str!("../../examples/bgp/cvip.toml");

/// The node, and the directors.
const NODE: u32 = 1;
const FIRST: u32 = 2;
const SECOND: u32 = 3;

/// A text with each of these replaced, all of which have to be in it: a longer one before those that it begins with.
fn replaced(text: &str, pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} in {text}");
        text.replace(from, to)
    })
}

/// The folder of a director's hook, or of the router.
fn folder(site: &Site, name: &str) -> PathBuf {
    let dir = site.dir.join(format!("bgp-{name}"));
    fs::create_dir_all(dir.join("hooks.d")).unwrap();
    dir
}

/// Starts BIRD on a host. The group of its control socket is that of hooks.
#[track_caller]
fn bird(host: &Host, dir: &Path, configuration: &str) -> Process {
    let conf = dir.join("bird.conf");
    fs::write(&conf, configuration).unwrap();
    let mut command = host.command("bird");
    command.args(["-f", "-g", "nogroup", "-c"]).arg(conf);
    command.arg("-s").arg(dir.join("bird.ctl")).arg("-P").arg(dir.join("bird.pid"));
    Process::spawn(command).unwrap()
}

/// BIRD and the hook on a director, as the recipe's steps have them.
fn announce(site: &mut Site, number: u32) -> Process {
    let dir = folder(site, &number.to_string());
    let (host, router) = (site.host(number), site.cluster.client());
    let configuration = replaced(
        DIRECTOR,
        &[
            ("2001:db8:1::100", site.cvip(true).to_string()),
            ("2001:db8:1::5", host.v6().to_string()),
            ("2001:db8:1::1", router.v6().to_string()),
            ("192.168.1.100", site.cvip(false).to_string()),
            ("192.168.1.5", host.v4().to_string()),
            ("192.168.1.1", router.v4().to_string()),
        ],
    );
    let bird = bird(host, &dir, &configuration);
    let hook = dir.join("hooks.d/20-bgp");
    let socket = dir.join("bird.ctl").display().to_string();
    fs::write(&hook, replaced(HOOK, &[("/run/bird/bird.ctl", socket)])).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    // The lab has no user of BIRD's own.
    let settings = replaced(SETTINGS, &[("\"bird\"", "\"nobody\"".to_owned())]);
    let path = dir.join("cvip.toml");
    fs::write(&path, format!("hooks_dir = \"hooks.d\"\n{settings}")).unwrap();
    site.set_env_of(number, "CVIP_SETTINGS", path);
    bird
}

/// BIRD on the client, which is its own router.
fn route(site: &Site) -> Process {
    let (router, first, second) = (site.cluster.client(), site.host(FIRST), site.host(SECOND));
    let configuration = replaced(
        ROUTER,
        &[
            ("2001:db8:1::5", first.v6().to_string()),
            ("2001:db8:1::6", second.v6().to_string()),
            ("2001:db8:1::1", router.v6().to_string()),
            ("192.168.1.5", first.v4().to_string()),
            ("192.168.1.6", second.v4().to_string()),
            ("192.168.1.1", router.v4().to_string()),
        ],
    );
    bird(router, &folder(site, "router"), &configuration)
}

/// A CVIP, and a director's address in the same family.
fn family(site: &Site, director: u32, ipv6: bool) -> (IpAddr, IpAddr) {
    let host = site.host(director);
    let address = if ipv6 { host.v6().into() } else { host.v4().into() };
    (site.cvip(ipv6), address)
}

/// Waits until the router's kernel sends packets for both CVIPs to this director.
#[track_caller]
fn await_route(site: &Site, director: u32) {
    for ipv6 in [false, true] {
        let (cvip, address) = family(site, director, ipv6);
        let shown =
            if ipv6 { format!("-6 route show {cvip}") } else { format!("route show {cvip}") };
        site.until(&format!("the router reaches {cvip} through {address}"), |site| {
            let route = site.cluster.client().ip(&shown);
            route.contains(&format!("via {address} ")).then_some(())
        });
    }
}

/// What `ip monitor` tells on a host from now on, with times, in a file.
fn monitor(site: &Site, host: &Host, what: &str) -> (Process, PathBuf) {
    let path = site.dir.join(format!("{what}.monitor"));
    let mut command = host.command("ip");
    command.args(["-timestamp", "-tshort", "monitor", what]).stdin(Stdio::null());
    command.stdout(fs::File::create(&path).unwrap());
    (Process::spawn(command).unwrap(), path)
}

/// The time of the first line of a monitor with all these words. Times of one clock compare as texts.
fn first_time(path: &Path, words: &[&str]) -> Option<String> {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)))?;
    Some(line.strip_prefix('[')?.split_once(']')?.0.to_owned())
}

#[test]
fn routers_follow_the_active_director_and_leave_it_before_its_cvip_goes() {
    let service = "<service><protocol>tcp</protocol><port>80</port></service>";
    let plan = Plan { ipv6: true, services: service, ..Plan::default() };
    let mut site = Site::on_etcd(|b| b.directors(2).nodes(1).stores(1), &plan);
    let mut birds: Vec<Process> =
        [FIRST, SECOND].into_iter().map(|director| announce(&mut site, director)).collect();
    birds.push(route(&site));
    site.start_on(&[FIRST], &[]);
    await_route(&site, FIRST);
    site.start_on(&[SECOND, NODE], &[]);
    let _server = Server::tcp(site.host(NODE), "[::]:80", "1");
    site.await_pool(site.v4(Tcp, 80), Some(&[(NODE, 1)]));
    site.await_pool(site.v6(Tcp, 80), Some(&[(NODE, 1)]));
    let served = |site: &Site| {
        for at in [site.at(80), site.at6(80)] {
            let page =
                site.until("the client is served", |site| fetch(site.cluster.client(), at).ok());
            assert_eq!(page, "1");
        }
    };
    served(&site);

    // A director that is replaced: what it does not carry, its BIRD does not announce.
    site.run(SECOND, "cvipctl takeover");
    await_route(&site, SECOND);
    served(&site);
    site.run(FIRST, "cvipctl takeover");
    await_route(&site, FIRST);

    // One that decides itself: no router sends it anything any more when its CVIPs go.
    let (_routes, routes) = monitor(&site, site.cluster.client(), "route");
    let (_addresses, addresses) = monitor(&site, site.host(FIRST), "address");
    site.until("both monitors are there", |site| {
        site.cluster.client().ip("route add 192.0.2.1/32 dev eth0");
        site.host(FIRST).ip("addr add 192.0.2.2/32 dev eth0");
        site.cluster.client().ip("route del 192.0.2.1/32 dev eth0");
        site.host(FIRST).ip("addr del 192.0.2.2/32 dev eth0");
        first_time(&routes, &["192.0.2.1"]).and(first_time(&addresses, &["192.0.2.2"])).map(drop)
    });
    site.run(FIRST, "cvipctl leave --within=0s");
    await_route(&site, SECOND);
    served(&site);
    for ipv6 in [false, true] {
        let (cvip, address) = family(&site, FIRST, ipv6);
        let (cvip, via) = (format!("{cvip}"), format!("via {address} "));
        // The kernel tells of a route that is gone, or of the one that has replaced it.
        let told = fs::read_to_string(&routes).unwrap();
        let (_, successor) = family(&site, SECOND, ipv6);
        let withdrawn = [
            first_time(&routes, &["Deleted", &cvip, &via]),
            first_time(&routes, &[&cvip, &format!("via {successor} ")]),
        ];
        let withdrawn = withdrawn.into_iter().flatten().min();
        let gone = site.until("the CVIP is gone", |_| {
            first_time(&addresses, &["Deleted", "eth0", &format!("{cvip}/")])
        });
        assert!(withdrawn.as_ref().is_some_and(|at| *at < gone), "{withdrawn:?}, {gone}: {told}");
    }
    assert!(birds.iter_mut().all(Process::is_running));
}
