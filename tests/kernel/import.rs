//! `cvipctl import`: services made by hand become static ones of cvip.conf, and the table stays
//! as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cvip_lab::Plan;

use super::support::{Site, listen, shown};

/// Makes services by hand: two that cvip.conf can say, and four that it cannot.
fn by_hand(site: &Site) {
    let (cvip, cvip6) = (site.cvip(false), site.cvip(true));
    let make = |line: String| drop(site.direct(&format!("ipvsadm-rs {line}")));
    make(format!("-A -u {cvip}:177 -s rr -p 300 -M 255.255.255.0"));
    make(format!("-A -t [{cvip6}]:443 -s sh -b sh-fallback,sh-port"));
    for number in site.numbers() {
        let host = site.host(number);
        let weight = if number == 1 { 7 } else { 2 };
        make(format!("-a -u {cvip}:177 -r {}:177 -g -w 1", host.v4()));
        make(format!("-a -t [{cvip6}]:443 -r [{}]:443 -g -w {weight} -x 90 -y 9", host.v6()));
    }
    make("-A -f 9 -s wlc".to_owned());
    make("-A -t 192.0.2.1:80 -s wlc".to_owned());
    make(format!("-A -t {cvip}:444 -s wlc"));
    make(format!("-a -t {cvip}:444 -r {}:444 -i", site.host(1).v4()));
    make(format!("-A -t {cvip}:445 -s wlc"));
    make(format!("-a -t {cvip}:445 -r {}:445 -g", site.host(1).v4()));
}

#[test]
fn services_made_by_hand_become_static_ones_and_the_table_stays_as_it_is() {
    let flagged = "<service><port>8080</port></service><!-- mine -->";
    let plan = Plan { routing: "DR", ipv4: true, ipv6: true, services: flagged };
    let site = Site::start(2, &plan);
    let director = site.director();
    let _one = listen(site.host(1), "[::]:8080");
    site.await_pool(site.v4(cvip::protocol::Protocol::Tcp, 8080), Some(&[(1, 1)]));
    site.await_pool(site.v6(cvip::protocol::Protocol::Tcp, 8080), Some(&[(1, 1)]));
    by_hand(&site);
    let path = site.dir.join("cvip.conf");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    nix::unistd::chown(&path, Some(1.into()), Some(2.into())).unwrap();
    let (before, rules) = (fs::read_to_string(&path).unwrap(), site.all_rules());

    let dry = site.try_run(director, "cvipctl import --dry-run");
    let (diff, left) = shown(&dry);
    assert!(dry.status.success(), "{diff}{left}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    let is_content = |line: &&str| !line.starts_with("+++") && !line.starts_with("---");
    let added = diff.lines().filter(is_content).filter(|line| line.starts_with('+')).count();
    assert!(!diff.lines().filter(is_content).any(|line| line.starts_with('-')), "{diff}");
    for (service, why) in [
        ("mark 9 IPv4", "firewall mark"),
        ("tcp 192.0.2.1:80", "no CVIP"),
        (&format!("tcp {}", site.at(444)), "is reached by Tunnel, and the routing is DR"),
        (&format!("tcp {}", site.at(445)), "is not among its destinations"),
    ] {
        let line = left.lines().find(|line| line.contains(service));
        assert!(line.is_some_and(|line| line.contains(why)), "{service}: {left}");
    }
    assert_eq!(left.lines().count(), 4, "{left}");

    let imported = site.direct("cvipctl import");
    let expected = format!(
        "tcp {} is in {path} now\nudp {} is in {path} now\n",
        site.at6(443),
        site.at(177),
        path = path.display()
    );
    let mut lines: Vec<&str> = imported.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    let after = fs::read_to_string(&path).unwrap();
    assert_eq!(after.lines().count(), before.lines().count() + added);
    let kept: Vec<&str> =
        after.lines().filter(|line| before.lines().any(|old| old == *line)).collect();
    assert_eq!(kept, before.lines().collect::<Vec<_>>(), "all else stays, in its order");
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 1, 2));
    assert_eq!(site.direct("cvipctl import"), "nothing to import\n");

    site.reload_everywhere();
    site.until("cvipd has adopted them", |site| {
        let status = site.direct("cvipctl status");
        (status.matches("(not cvipd's)").count() == 4).then_some(())
    });
    site.assert_right();
    assert_eq!(site.all_rules(), rules);
}

#[test]
fn a_service_by_hash_without_a_fallback_gets_it_and_that_is_said() {
    let site = Site::start(1, &Plan::default());
    let director = site.director();
    site.direct(&format!("ipvsadm-rs -A -t {} -s mh", site.at(80)));
    for number in site.numbers() {
        let server = format!("{}:80", site.host(number).v4());
        site.direct(&format!("ipvsadm-rs -a -t {} -r {server} -g", site.at(80)));
    }
    let (out, said) = shown(&site.try_run(director, "cvipctl import"));
    assert!(out.contains("is in"), "{out}{said}");
    let line = format!("tcp {} gets the flag mh-fallback", site.at(80));
    assert!(said.contains(&line), "{said}");
    site.reload_everywhere();
    site.until("it has the flag", |site| {
        site.all_rules().contains("-s mh -b mh-fallback").then_some(())
    });
}

#[test]
fn a_node_that_is_no_director_is_told_where_to_import() {
    let site = Site::start(1, &Plan::default());
    let output = site.try_run(1, "cvipctl import");
    assert_eq!(output.status.code(), Some(1));
    let err = shown(&output).1;
    assert!(err.contains(&format!("the directors are {}:", site.director())), "{err}");
    assert_eq!(site.direct("cvipctl import"), "nothing to import\n");
}
