//! `cvipctl doctor`: nothing is wrong with a healthy cluster; each fault that is made by hand is
//! named with its fix; and what it says to run fixes it.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use cvip::protocol::Protocol::{Tcp, Udp};
use cvip_lab::{Host, Plan, built_programs};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use super::support::{Site, bind_udp, listen, shown};

/// What doctor says on one node.
struct Report {
    json: Value,
}

impl Report {
    /// The findings of one severity.
    fn of(&self, severity: &str) -> Vec<&Value> {
        let findings = self.json["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["severity"] == severity).collect()
    }

    /// The finding that says this.
    fn finding(&self, text: &str) -> Option<&Value> {
        let findings = self.json["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["what"].as_str().unwrap().contains(text))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.json)
    }
}

/// A cluster on both families with one port flagged and served by every node.
struct Ward {
    site: Site,
    _servers: Vec<std::net::TcpListener>,
}

impl Deref for Ward {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

fn both<'a>(routing: &'a str) -> Plan<'a> {
    Plan { routing, ipv4: true, ipv6: true, services: "" }
}

impl Ward {
    #[track_caller]
    fn start(routing: &str) -> Ward {
        let site = Site::start(2, &both(routing));
        site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
        let servers = site.numbers().map(|n| listen(site.host(n), "[::]:8080")).collect();
        let pool: Vec<(u32, u32)> = site.numbers().map(|number| (number, 1)).collect();
        site.await_pool(site.v4(Tcp, 8080), Some(&pool));
        site.await_pool(site.v6(Tcp, 8080), Some(&pool));
        let ward = Ward { site, _servers: servers };
        if routing == "NAT" {
            for number in [1, 2] {
                ward.lead_through_the_gateway(number);
            }
        }
        ward
    }

    fn lead_through_the_gateway(&self, number: u32) {
        let host = self.host(number);
        host.line("sysctl -qw net.ipv6.conf.eth0.accept_redirects=0");
        for gateway in [self.gateway(false), self.gateway(true)] {
            let version = if gateway.is_ipv6() { "-6" } else { "-4" };
            host.line(&format!("ip {version} route replace default via {gateway}"));
        }
    }

    /// Asks doctor on a node; its status must agree with what it says.
    #[track_caller]
    fn ask(&self, number: u32) -> Report {
        let output = self.try_run(number, "cvipctl doctor --json");
        let (out, err) = shown(&output);
        let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
        let report = Report { json };
        let expected = i32::from(!report.of("fault").is_empty());
        assert_eq!(output.status.code(), Some(expected), "{report}{err}");
        report
    }

    /// Nothing is wrong on any node, once what this test changed by hand is forgotten.
    #[track_caller]
    fn is_well(&self) {
        for number in self.numbers() {
            let contested = "another program changes the IPVS table again and again";
            let report = self.until("the table is calm", |_| {
                Some(self.ask(number)).filter(|report| report.finding(contested).is_none())
            });
            assert!(report.of("fault").is_empty(), "node {number}: {report}");
        }
    }

    /// Spoils something until doctor on a node names it. cvipd may have repaired it in between:
    /// from the third time on it is stopped while doctor looks. The finding's severity is as
    /// expected.
    #[track_caller]
    fn finds(&self, number: u32, severity: &str, text: &str, spoil: impl Fn(&Site)) -> Value {
        let mut last = None;
        let mut times = 0;
        let found = cvip_lab::wait_until(cvip_lab::PATIENCE, || {
            times += 1;
            let daemon = self.daemon_pid(number).filter(|_| times > 2);
            daemon.into_iter().for_each(|pid| kill(pid, Signal::SIGSTOP).unwrap());
            spoil(self);
            let report = self.ask(number);
            daemon.into_iter().for_each(|pid| kill(pid, Signal::SIGCONT).unwrap());
            let found = report.finding(text).cloned();
            last = Some(report);
            found
        });
        let Some(found) = found else {
            panic!("node {number} does not find {text:?}: {}", last.unwrap());
        };
        assert_eq!(found["severity"], severity, "{found:#}");
        found
    }

    /// Runs what a finding says on its node, and waits until it is gone. cvipd may have been
    /// faster: a command has nothing to do then.
    #[track_caller]
    fn mends(&self, number: u32, finding: &Value) {
        for command in commands(finding) {
            let _ = self.try_shell(number, command);
        }
        self.is_gone(number, finding);
    }

    /// Waits until a finding is gone.
    #[track_caller]
    fn is_gone(&self, number: u32, finding: &Value) {
        let what = finding["what"].as_str().unwrap();
        let same = |f: &&Value| f["what"] == what && f["subject"] == finding["subject"];
        self.until(&format!("node {number} is fixed: {what}"), |_| {
            let report = self.ask(number);
            let gone = !report.json["findings"].as_array().unwrap().iter().any(|f| same(&f));
            gone.then_some(())
        });
    }

    /// Finds a fault that was made by hand, and fixes it as doctor says.
    #[track_caller]
    fn cures(&self, number: u32, text: &str, spoil: impl Fn(&Site)) {
        let found = self.finds(number, "fault", text, &spoil);
        let of_kernel = |line: &&str| line.starts_with("ip ") || line.starts_with("sysctl ");
        if !commands(&found).iter().all(of_kernel) {
            return self.mends(number, &found);
        }
        // What is said to run has to do by itself: cvipd is stopped for that moment.
        let daemon = self.daemon_pid(number).unwrap();
        kill(daemon, Signal::SIGSTOP).unwrap();
        spoil(self);
        let ran = commands(&found).into_iter().map(|command| self.try_shell(number, command));
        let ran: Result<Vec<()>, String> = ran.collect();
        kill(daemon, Signal::SIGCONT).unwrap();
        assert_eq!(ran.err(), None, "{found:#}");
        self.is_gone(number, &found);
    }

    /// Runs a shell command on a node, with cvip's programs on its path.
    #[track_caller]
    fn shell(&self, number: u32, line: &str) {
        self.try_shell(number, line).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same; what it says if it fails.
    fn try_shell(&self, number: u32, line: &str) -> Result<(), String> {
        let (programs, path) = (built_programs(), std::env::var("PATH").unwrap_or_default());
        let path = format!("{}:{path}", programs.display());
        let mut command = self.host(number).command("sh");
        self.environment(&mut command);
        let output = command.args(["-ec", line]).env("PATH", path).output().unwrap();
        let (out, err) = shown(&output);
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{line}: {}: {out}{err}", output.status)),
        }
    }
}

/// What a finding says to run.
#[track_caller]
fn commands(finding: &Value) -> Vec<&str> {
    let commands = finding["commands"].as_array().unwrap();
    assert!(!commands.is_empty(), "nothing to run: {finding:#}");
    commands.iter().map(|command| command.as_str().unwrap()).collect()
}

/// Does it, whatever comes of it: what is to be corrupt may be so already.
fn try_on(host: &Host, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let _ = host.run(&words);
}

/// An address as `ip` takes it, of one host.
fn single(addr: IpAddr) -> String {
    format!("{addr}/{}", if addr.is_ipv4() { 32 } else { 128 })
}

#[test]
fn a_healthy_nat_cluster_has_no_fault_and_a_wrong_default_route_is_mended() {
    let ward = Ward::start("NAT");
    ward.is_well();
    let report = ward.ask(ward.director());
    for note in ["cvipd added", "cvipd set net.ipv4.ip_forward to 1 (it was 0)"] {
        assert!(report.finding(note).is_some(), "{report}");
    }
    for (version, ipv6) in [("-4", false), ("-6", true)] {
        let other = match ipv6 {
            false => IpAddr::from(ward.host(2).v4()),
            true => ward.host(2).v6().into(),
        };
        let wrong = format!("the default route leads over {other}");
        ward.cures(1, &wrong, |site| {
            site.host(1).line(&format!("ip {version} route replace default via {other}"));
        });
        let none =
            format!("there is no default route, and not over the gateway {}", ward.gateway(ipv6));
        ward.cures(1, &none, |site| {
            try_on(site.host(1), &format!("ip {version} route del default"))
        });
    }
    let redirects = ward.finds(1, "warning", "takes ICMPv6 redirects", |site| {
        site.host(1).sysctl("net.ipv6.conf.eth0.accept_redirects", "1").unwrap();
    });
    ward.mends(1, &redirects);
    for setting in ["net.ipv4.ip_forward is 0", "net.ipv6.conf.all.forwarding is 0"] {
        let name = setting.strip_suffix(" is 0").unwrap();
        ward.cures(ward.director(), setting, |site| {
            site.cluster.director().sysctl(name, "0").unwrap();
        });
    }
    ward.cures(ward.director(), "net.ipv4.conf.all.send_redirects is 1", |site| {
        site.cluster.director().sysctl("net.ipv4.conf.all.send_redirects", "1").unwrap();
    });
    // A real server has no part in carrying either.
    for addr in [ward.cvip(false), ward.cvip(true), ward.gateway(false)] {
        let text = format!("{addr} stands on eth0, where it does not belong");
        ward.cures(2, &text, |site| {
            try_on(site.host(2), &format!("ip addr add {} dev eth0 nodad", single(addr)));
        });
    }
    ward.is_well();
}

#[test]
fn a_healthy_tun_cluster_has_no_fault_and_what_a_tunnel_needs_is_mended() {
    let ward = Ward::start("TUN");
    ward.is_well();
    let report = ward.ask(ward.director());
    assert!(report.finding("up to 1480 bytes (20 less than 1500)").is_some(), "{report}");
    ward.cures(1, "net.ipv4.conf.tunl0.rp_filter is 1", |site| {
        site.host(1).sysctl("net.ipv4.conf.tunl0.rp_filter", "1").unwrap();
    });
    // Down, a link loses its IPv6 addresses: two findings.
    for device in ["tunl0", "ip6tnl0"] {
        ward.cures(2, &format!("{device} is down"), |site| {
            try_on(site.host(2), &format!("ip link set {device} down"));
        });
    }
    let report = ward.ask(2);
    for lost in report.of("fault") {
        ward.mends(2, lost);
    }
    let cvip = ward.cvip(false);
    ward.cures(1, &format!("{cvip}/32 is missing on tunl0"), |site| {
        try_on(site.host(1), &format!("ip addr del {cvip}/32 dev tunl0"));
    });
    ward.is_well();
}

#[test]
fn what_direct_routing_needs_of_a_node_is_mended() {
    let ward = Ward::start("DR");
    let report = ward.ask(1);
    assert!(report.finding("cvipd set net.ipv4.conf.all.arp_ignore to 1 (it was 0)").is_some());
    for (setting, corrupt) in [("arp_ignore", "0"), ("arp_announce", "0")] {
        let text = format!("net.ipv4.conf.all.{setting} is {corrupt}");
        ward.cures(1, &text, |site| {
            site.host(1).sysctl(&format!("net.ipv4.conf.all.{setting}"), corrupt).unwrap();
        });
    }
    ward.cures(1, "eth0 answers ARP for the CVIP (arp_ignore 3", |site| {
        site.host(1).sysctl("net.ipv4.conf.eth0.arp_ignore", "3").unwrap();
    });
    for addr in [ward.cvip(false), ward.cvip(true)] {
        let host = single(addr);
        ward.cures(1, &format!("{host} is missing on lo"), |site| {
            try_on(site.host(1), &format!("ip addr del {host} dev lo"));
        });
        ward.cures(2, &format!("{addr} stands on eth0 beside lo"), |site| {
            try_on(site.host(2), &format!("ip addr add {host} dev eth0 nodad"));
        });
        // The whole network on lo: the node would take every neighbour for itself.
        let bits = if addr.is_ipv4() { 24 } else { 64 };
        ward.cures(2, &format!("{addr} stands on lo with {bits} bits of prefix"), |site| {
            try_on(site.host(2), &format!("ip addr del {host} dev lo"));
            try_on(site.host(2), &format!("ip addr add {addr}/{bits} dev lo"));
        });
    }
    // What a node's neighbours see of that, the director asks them.
    for addr in [ward.cvip(false), ward.cvip(true)] {
        let host = single(addr);
        let found = ward.finds(ward.director(), "fault", "another host, ", |site| {
            try_on(site.host(2), &format!("ip addr add {host} dev eth0 nodad"));
        });
        assert_eq!(found["subject"], format!("CVIP {addr}"));
        ward.cures(2, &format!("{addr} stands on eth0 beside lo"), |_| {});
        // What cvipd has heard of it lasts for a while, as a warning: it may have passed.
        let report = ward.ask(ward.director());
        let is_meant = |what: &serde_json::Value| {
            what.as_str().is_some_and(|what| what.contains("another host, "))
        };
        let mut faults = report.of("fault").into_iter();
        assert!(faults.all(|fault| !is_meant(&fault["what"])), "{report}");
    }
    // Both at once: the address is not added before it is hidden.
    let cvip = single(ward.cvip(false));
    let found = ward.finds(1, "fault", &format!("{cvip} is missing on lo"), |site| {
        site.host(1).sysctl("net.ipv4.conf.all.arp_ignore", "0").unwrap();
        try_on(site.host(1), &format!("ip addr del {cvip} dev lo"));
    });
    assert_eq!(found["commands"].as_array().unwrap().len(), 2, "{found:#}");
    ward.mends(1, &found);
    ward.is_well();
}

#[test]
fn a_default_route_of_direct_routing_leads_neither_nowhere_nor_to_the_director() {
    let ward = Ward::start("DR");
    let director = ward.cluster.director();
    for (version, over) in [("-4", IpAddr::from(director.v4())), ("-6", director.v6().into())] {
        let none = match over.is_ipv4() {
            true => "there is no default route for IPv4",
            false => "there is no default route for IPv6",
        };
        let warning = ward.finds(1, "warning", none, |_| {});
        assert!(warning["fix"].as_str().unwrap().contains("via ROUTER"), "{warning:#}");
        let back = format!("the default route leads over {over}, which is the active director's");
        let found = ward.finds(1, "fault", &back, |site| {
            site.host(1).line(&format!("ip {version} route replace default via {over}"));
        });
        let fix = found["fix"].as_str().unwrap();
        assert!(fix.contains("route replace default via ROUTER dev eth0"), "{found:#}");
        // The client is as good a router as any.
        let client = ward.cluster.client();
        let router = match over.is_ipv4() {
            true => client.v4().to_string(),
            false => client.v6().to_string(),
        };
        let command = fix.split('`').nth(1).unwrap();
        ward.shell(1, &command.replace("ROUTER", &router));
        let report = ward.ask(1);
        assert!(report.finding(&back).is_none() && report.finding(none).is_none(), "{report}");
    }
    // A routing rule for the CVIP's own packets is seen, too.
    let cvip = ward.cvip(false);
    ward.host(1).line(&format!("ip rule add from {cvip} lookup 100"));
    ward.host(1).line(&format!("ip route add default via {} table 100", director.v4()));
    ward.finds(1, "fault", "which is the active director's", |_| {});
}

#[test]
fn a_strict_source_check_with_another_way_back_is_mended() {
    let ward = Ward::start("DR");
    let node = ward.host(1);
    node.line("ip link add back0 type dummy");
    node.line("ip addr add 198.18.0.1/24 dev back0");
    node.line("ip link set back0 up");
    node.line("ip route add default via 198.18.0.254");
    ward.cures(1, "eth0 drops what clients beyond the network send", |site| {
        site.host(1).sysctl("net.ipv4.conf.eth0.rp_filter", "1").unwrap();
    });
    assert!(ward.ask(1).of("fault").is_empty());
}

#[test]
fn what_ipvs_needs_of_a_director_is_mended() {
    let ward = Ward::start("DR");
    let director = ward.director();
    for (setting, corrupt) in
        [("expire_nodest_conn", "0"), ("expire_quiescent_template", "0"), ("conn_reuse_mode", "0")]
    {
        let text = format!("net.ipv4.vs.{setting} is {corrupt}");
        ward.cures(director, &text, |site| {
            site.cluster.director().sysctl(&format!("net.ipv4.vs.{setting}"), corrupt).unwrap();
        });
    }
    let found = ward.finds(director, "fault", "another program changed it since", |site| {
        site.cluster.director().sysctl("net.ipv4.vs.expire_nodest_conn", "0").unwrap();
    });
    ward.mends(director, &found);
    let drops = ward.finds(director, "warning", "dropped at all times", |site| {
        site.cluster.director().sysctl("net.ipv4.vs.drop_packet", "3").unwrap();
    });
    ward.mends(director, &drops);
    let cvip = single(ward.cvip(false));
    ward.cures(director, &format!("{cvip} is missing on eth0"), |site| {
        try_on(site.cluster.director(), &format!("ip addr del {cvip} dev eth0"));
    });
    ward.cures(director, "eth0 answers no neighbours (NOARP)", |site| {
        site.cluster.director().line("ip link set eth0 arp off");
    });
    ward.is_well();
}

#[test]
fn a_table_that_is_not_what_the_store_says_is_mended() {
    let ward = Ward::start("DR");
    let (director, at, one) = (ward.director(), ward.at(8080), ward.host(1).v4());
    let table = |line: String| ward.direct(&format!("ipvsadm-rs {line}"));
    let right = ward.rules();
    let gone = format!("node 1 ({one}) serves it, and is not in its pool");
    let delete = || drop(ward.try_run(director, &format!("ipvsadm-rs -d -t {at} -r {one}:8080")));
    ward.cures(director, &gone, |_| delete());
    let quiet = format!("node 1 ({one}) has weight 0, though it serves");
    ward.cures(director, &quiet, |_| {
        table(format!("-e -t {at} -r {one}:8080 -g -w 0"));
    });
    ward.cures(director, "has weight 9, not 1", |_| {
        table(format!("-e -t {at} -r {one}:8080 -g -w 9"));
    });
    ward.cures(director, "is reached by Tunnel, not Route", |_| {
        table(format!("-e -t {at} -r {one}:8080 -i -w 1"));
    });
    ward.cures(director, "its settings in the kernel are not cvip.conf's", |_| {
        table(format!("-E -t {at} -s rr -p 60"));
    });
    let stranger = format!("{}:8080 serves it no longer", ward.cluster.client().v4());
    ward.cures(director, &stranger, |site| {
        let add = format!("ipvsadm-rs -a -t {at} -r {}:8080 -g", site.cluster.client().v4());
        drop(site.try_run(director, &add));
    });
    ward.cures(director, "it is not in the kernel's table", |site| {
        drop(site.try_run(director, &format!("ipvsadm-rs -D -t {at}")));
    });
    assert_eq!(ward.rules(), right);
    ward.is_well();
}

#[test]
fn a_server_that_the_director_damps_is_a_warning_and_no_fault_of_the_table() {
    let ward = Ward::start("DR");
    ward.direct("setport_weight --start-port=8090 --end-port=8090 --weight=1 --cluster");
    let _steady = listen(ward.host(2), "[::]:8090");
    ward.await_pool(ward.v4(Tcp, 8090), Some(&[(2, 1)]));
    let mut flapping = None;
    for _ in 0..6 {
        let server = listen(ward.host(1), "[::]:8090");
        ward.await_pool(ward.v4(Tcp, 8090), Some(&[(1, 1), (2, 1)]));
        drop(server);
        ward.await_pool(ward.v4(Tcp, 8090), Some(&[(2, 1)]));
    }
    let report = ward.until("the director is asked while it holds the server back", |site| {
        flapping.take();
        site.await_pool(site.v4(Tcp, 8090), Some(&[(2, 1)]));
        flapping = Some(listen(site.host(1), "[::]:8090"));
        site.await_pool(site.v4(Tcp, 8090), Some(&[(1, 0), (2, 1)]));
        let report = ward.ask(ward.director());
        report.finding("times within a minute").is_some().then_some(report)
    });
    assert!(report.of("fault").is_empty(), "{report}");
}

#[test]
fn services_that_nobody_keeps_are_told_where_they_stand() {
    let ward = Ward::start("DR");
    let (director, cvip, one) = (ward.director(), ward.cvip(false), ward.host(1).v4());
    ward.direct(&format!("ipvsadm-rs -A -u {cvip}:177 -s wlc"));
    ward.direct(&format!("ipvsadm-rs -a -u {cvip}:177 -r {one}:177 -g -w 1"));
    ward.direct("ipvsadm-rs -A -t 192.0.2.1:80 -s rr");
    ward.direct("ipvsadm-rs -A -f 9 -s rr");
    let report = ward.ask(director);
    assert!(report.of("fault").is_empty(), "{report}");
    let notes: Vec<&Value> = report.of("note").into_iter().map(|note| &note["subject"]).collect();
    assert!(notes.iter().any(|subject| *subject == "tcp 192.0.2.1:80"), "{report}");
    assert!(notes.iter().any(|subject| *subject == "mark 9 IPv4"), "{report}");
    let found = ward.finds(director, "warning", "on a port that is not flagged", |_| {});
    assert_eq!(found["subject"], format!("udp {cvip}:177"));
    let fix = found["fix"].as_str().unwrap();
    assert!(fix.contains("is not among its destinations"), "{found:#}");
    // Flagged, it is cvipd's: nobody listens there, so it goes.
    ward.mends(director, &found);
    ward.await_pool(ward.v4(Udp, 177), None);
    // One with every real server becomes cvip.conf's, and stays.
    ward.direct(&format!("ipvsadm-rs -A -u {cvip}:514 -s rr"));
    let pool: Vec<(u32, u32)> = ward.numbers().map(|number| (number, 1)).collect();
    for number in ward.numbers() {
        let server = match number == director {
            true => ward.cluster.director().v4(),
            false => ward.host(number).v4(),
        };
        ward.direct(&format!("ipvsadm-rs -a -u {cvip}:514 -r {server}:514 -g -w 1"));
    }
    let found = ward.finds(director, "warning", "on a port that is not flagged", |_| {});
    assert_eq!(found["commands"][0], "cvipctl import", "{found:#}");
    ward.mends(director, &found);
    ward.await_pool(ward.v4(Udp, 514), Some(&pool));

    // On a node it is a fault: the node would send on what the director sends.
    ward.cures(1, "is not the active director of", |site| {
        let add = format!("ipvsadm-rs -A -t {} -s rr", site.at(8080));
        drop(site.try_run(1, &add));
    });
    ward.is_well();
}

#[test]
fn flags_and_listeners_that_miss_each_other_are_told() {
    let ward = Ward::start("DR");
    let director = ward.director();
    // sshd's port within a range.
    ward.direct("setport_weight --start-port=20 --end-port=80 --weight=1 --cluster");
    let ssh = ward.finds(director, "warning", "holds sshd's port 22", |_| {});
    assert!(ssh["fix"].as_str().unwrap().contains("flag 20 to 21 and 23 to 80 instead"));
    ward.mends(director, &ssh);

    // The only listener of a flagged port is bound to loopback.
    ward.direct("setport_weight --start-port=8090 --end-port=8090 --weight=1 --cluster");
    let bound = listen(ward.host(1), "127.0.0.1:8090");
    let kept_out = "a listener on 127.0.0.1:8090 does not join";
    let found = ward.finds(1, "fault", kept_out, |_| {});
    assert!(found["fix"].as_str().unwrap().contains("listen on 0.0.0.0:8090 too"), "{found:#}");
    // The director has it from the node's record.
    ward.finds(director, "fault", kept_out, |_| {});
    // Once another serves, it may be meant.
    let two = listen(ward.host(2), "[::]:8090");
    ward.await_pool(ward.v4(Tcp, 8090), Some(&[(2, 1)]));
    ward.finds(1, "warning", kept_out, |_| {});
    drop((bound, two));

    // XDMCP flagged as if it were TCP.
    ward.run(1, "setport_weight --start-port=177 --end-port=177 --weight=1");
    let xdm = bind_udp(ward.host(1), "[::]:177");
    let found =
        ward.finds(1, "fault", "but nothing listens there by tcp; port 177 is open", |_| {});
    assert_eq!(found["subject"], "flags of node 1");
    ward.mends(1, &found);
    ward.await_pool(ward.v4(Udp, 177), Some(&[(1, 1)]));
    drop(xdm);
    ward.is_well();
}

#[test]
fn a_cvipd_that_does_not_run_is_a_fault_on_every_node() {
    let mut ward = Ward::start("DR");
    let director = ward.director();
    ward.site.kill_daemon(2);
    let dead = "its cvipd does not run: listeners that come and go there are not noticed";
    let there = ward.finds(2, "fault", dead, |_| {});
    assert_eq!(there["commands"][0], "systemctl start cvipd");
    let here = ward.finds(director, "fault", dead, |_| {});
    assert_eq!((&here["subject"], &here["commands"]), (&"node 2".into(), &Value::Array(vec![])));
    ward.site.start_on(&[2], &["--poll"]);
    ward.is_well();
    ward.finds(director, "note", "listeners are noticed by polling", |_| {});
    // What it does not take of the configuration, it says itself.
    let path = ward.dir.join("cvip.conf");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("<routing>DR", "<routing>FLY")).unwrap();
    ward.reload_everywhere();
    ward.await_log(1, "FLY");
    let report = ward.ask(1);
    assert!(report.finding("unknown routing method").is_some(), "{report}");
    std::fs::write(&path, good).unwrap();
    ward.finds(1, "fault", "cvipd goes on with its last good configuration", |_| {});
    ward.reload_everywhere();
    ward.until("cvipd has taken the file", |_| {
        ward.ask(1).finding("last good configuration").is_none().then_some(())
    });
    ward.is_well();
}

#[test]
fn a_sync_interface_that_cannot_carry_it_is_a_fault_of_a_director_of_several() {
    let ward = Ward::start("DR");
    let director = ward.director();
    let path = ward.dir.join("cvip.conf");
    let conf = std::fs::read_to_string(&path).unwrap();
    // Node 1 becomes the second director, and the first synchronises on an interface of its own.
    let second = "<director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
                  <sync_interface>eth0</sync_interface></director_node>";
    let conf = conf.replace("<sync_interface>eth0", "<sync_interface>sync0");
    let conf = conf.replace("</director_node>\n", &format!("</director_node>\n{second}\n"));
    std::fs::write(&path, conf).unwrap();
    ward.reload_everywhere();
    ward.finds(director, "fault", "there is no interface sync0 (sync_interface)", |_| {});
    let host = ward.cluster.director();
    host.line("ip link add sync0 type dummy");
    ward.cures(director, "sync0 (sync_interface) is down", |_| {});
    ward.finds(director, "fault", "sync0 (sync_interface) has no IPv4 address", |_| {});
    host.line("ip addr add 198.18.0.1/24 dev sync0");
    ward.cures(director, "no master sync daemon runs on sync0 with syncid 1", |_| {});
    ward.cures(director, "sync0 (sync_interface) is down", |_| {
        drop(host.line("ip link set sync0 down"))
    });
    // The standby synchronises where its clients are.
    let shared = ward.finds(1, "warning", "synchronisation is not authenticated", |_| {});
    assert!(shared["fix"].as_str().unwrap().contains("only the cluster is on"), "{shared:#}");
}

mod on_stock {
    use super::*;

    #[test]
    fn a_healthy_dr_cluster_has_no_fault_and_says_what_it_does_not_see() {
        let ward = Ward::start("DR");
        ward.is_well();
        let director = ward.director();
        let output = ward.try_run(director, "cvipctl doctor");
        let (out, err) = shown(&output);
        assert!(output.status.success(), "{out}{err}");
        assert!(out.contains("not examined: the kernels of nodes 1, 2: "), "{out}");
        assert!(out.lines().last().unwrap().starts_with("no faults, "), "{out}");
        assert_eq!(ward.run(director, "cvipctl doctor --quiet"), "");
        // Two that a stock kernel answers in its own way.
        ward.cures(director, "net.ipv4.vs.conn_reuse_mode is 0", |site| {
            site.cluster.director().sysctl("net.ipv4.vs.conn_reuse_mode", "0").unwrap();
        });
        let cvip = single(ward.cvip(false));
        ward.cures(1, &format!("{cvip} is missing on lo"), |site| {
            try_on(site.host(1), &format!("ip addr del {cvip} dev lo"));
        });
        ward.is_well();
    }
}
