//! LTSP: terminals, which are real X servers, ask the CVIP for a login by XDMCP (UDP 177), and a
//! real display manager on one of the nodes opens its window on them.
//!
//! A terminal is Xvfb with `-query`, and an address of its own; it has no screen but is a whole X
//! server, and speaks XDMCP with the code that every server of X.Org has. The display manager is
//! xdm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use cvip::ipvs::ServiceId;
use cvip::protocol::Protocol::Udp;
use cvip_lab::{Host, Plan, Process, wait_until};

use super::support::{PATIENCE, Site, behind_nat, inner};

/// xdm on a node, open to every terminal.
fn display_manager(site: &Site, number: u32) -> Process {
    let dir = site.dir.join(format!("xdm-{number}"));
    fs::create_dir_all(dir.join("auth")).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    for name in ["Xservers", "Xaccess"] {
        fs::write(file(name), example(&format!("server/{name}"))).unwrap();
    }
    // The example's, with its own files and no commands of Debian's.
    let own: BTreeMap<&str, String> = [
        ("DisplayManager.servers", file("Xservers")),
        ("DisplayManager.accessFile", file("Xaccess")),
        ("DisplayManager.errorLogFile", file("log")),
        ("DisplayManager.pidFile", String::new()),
        ("DisplayManager.authDir", file("auth")),
        ("DisplayManager.willing", format!("echo node {number}")),
        ("DisplayManager*setup", String::new()),
    ]
    .into();
    let lines = example("server/xdm-config");
    let lines = lines.lines().map(|line| match line.split_once(':') {
        Some((key, _)) if own.contains_key(key) => format!("{key}: {}\n", own[key]),
        _ => format!("{line}\n"),
    });
    fs::write(file("config"), lines.collect::<String>()).unwrap();
    let output = fs::File::create(file("output")).unwrap();
    let mut command = site.host(number).command("xdm");
    command.args(["-nodaemon", "-config", &file("config")]);
    // It looks up its terminals' names, and no name server can be reached from here.
    command.env("RES_OPTIONS", "timeout:1 attempts:1");
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let process = Process::spawn_group(command).unwrap();
    let listens = || {
        let sockets = site.host(number).stdout(&["ss", "-Hlun", "sport", "=", ":177"]).ok()?;
        (!sockets.is_empty()).then_some(())
    };
    assert!(
        wait_until(PATIENCE, listens).is_some(),
        "no xdm: {}{}",
        read(&file("output")),
        read(&file("log"))
    );
    process
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A file of the example.
fn example(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ltsp");
    fs::read_to_string(dir.join(name)).unwrap()
}

/// The options of the X server in the example's unit for terminals, behind display and screen.
fn terminal_options(cvip: IpAddr) -> Vec<String> {
    let unit = example("terminal/xterminal.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/X :0 vt7 "));
    let words = line.expect("a command").split(' ');
    let options: Vec<String> =
        words.map(|word| word.replace("192.168.0.10", &cvip.to_string())).collect();
    assert!(options.contains(&cvip.to_string()), "{options:?}");
    options
}

/// An X server in the client's place that has asked for a login.
struct Terminal {
    server: Process,
    addr: IpAddr,
    port: u16,
    log: PathBuf,
}

impl Terminal {
    /// Switches a terminal on: it asks this address from that one.
    #[track_caller]
    fn start(site: &Site, addr: IpAddr, cvip: IpAddr) -> Terminal {
        // Each has a display of its own among all tests.
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let display = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = site.dir.join(format!("display-{display}.log"));
        let output = fs::File::create(&log).unwrap();
        let mut command = site.cluster.client().command("Xvfb");
        command.arg(format!(":{display}")).args(terminal_options(cvip));
        command.args(["-from", &addr.to_string(), "-nolisten", "unix", "-nolock"]);
        command.args(["-screen", "0", "640x480x8"]);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let server = Process::spawn_group(command).unwrap();
        Terminal { server, addr, port: 6000 + display, log }
    }

    /// The address of the display manager that has connected to it.
    fn login(&self, site: &Site) -> Option<IpAddr> {
        let filter = format!("sport = :{}", self.port);
        let line = ["ss", "-Htn", "state", "established", &filter];
        let sockets = site.cluster.client().stdout(&line).ok()?;
        let peer = sockets.lines().next()?.split_whitespace().last()?;
        let addr = peer.rsplit_once(':')?.0.trim_matches(['[', ']']);
        addr.trim_start_matches("::ffff:").parse().ok()
    }

    /// Waits until a display manager has connected to it; that one's address.
    #[track_caller]
    fn await_login(&self, site: &Site) -> IpAddr {
        wait_until(PATIENCE, || self.login(site)).unwrap_or_else(|| {
            panic!("no login on {}: {}", self.addr, read(&self.log.display().to_string()))
        })
    }
}

/// One frame of XDMCP.
#[derive(Debug)]
struct Frame {
    from: String,
    to: String,
    source: IpAddr,
    destination: IpAddr,
}

/// Reads tcpdump's lines: `TIME MAC > MAC, ethertype ..., length N: A.PORT > B.PORT: UDP, ...`
fn frames(lines: &[String]) -> Vec<Frame> {
    let read = |line: &String| -> Option<Frame> {
        let mut words = line.split(' ');
        let (from, to) = (words.nth(1)?.to_owned(), words.nth(1)?.trim_end_matches(',').to_owned());
        let (_, packet) = line.split_once(": ")?;
        let (source, rest) = packet.split_once(" > ")?;
        let addr = |text: &str| text.rsplit_once('.')?.0.parse().ok();
        let (source, destination) = (addr(source)?, addr(rest.split(": ").next()?)?);
        Some(Frame { from, to, source, destination })
    };
    lines.iter().map(|line| read(line).unwrap_or_else(|| panic!("an odd line: {line}"))).collect()
}

/// The example's files with this cluster's addresses in place of its own.
struct Example {
    conf: String,
    clustertab: String,
    /// What is typed on every node.
    flag: String,
    directors: u8,
    nodes: u8,
    addresses: Vec<IpAddr>,
    cvip: IpAddr,
}

impl Example {
    fn read() -> Example {
        let (conf, clustertab, script) =
            (example("cvip.conf"), example("clustertab"), example("flag-xdmcp"));
        let flag = script.lines().find_map(|line| line.strip_prefix("exec "));
        let element = |name: &str| {
            let (start, end) = (format!("<{name}>"), format!("</{name}>"));
            let parts = conf.split(start.as_str()).skip(1);
            let values = parts.filter_map(|part| part.split(end.as_str()).next());
            values.map(|value| value.trim().to_owned()).collect::<Vec<String>>()
        };
        let lines = clustertab.lines().filter(|line| !line.trim_start().starts_with('#'));
        let nodes: BTreeMap<u32, IpAddr> = lines
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            })
            .collect();
        let number = |part: &String| -> u32 {
            let text = part.split("<node_num>").nth(1).and_then(|rest| rest.split('<').next());
            text.and_then(|text| text.trim().parse().ok()).expect("a director has a number")
        };
        let directors: Vec<u32> = element("director_node").iter().map(number).collect();
        // In the lab's order: the nodes, then the directors.
        let others = nodes.keys().copied().filter(|node| !directors.contains(node));
        let order: Vec<u32> = others.chain(directors.iter().copied()).collect();
        Example {
            cvip: element("ip_addr")[0].parse().unwrap(),
            directors: directors.len() as u8,
            nodes: (nodes.len() - directors.len()) as u8,
            addresses: order.iter().map(|node| nodes[node]).collect(),
            flag: flag.expect("a command").to_owned(),
            conf,
            clustertab,
        }
    }

    fn install(&self, site: &Site) {
        let hosts = site.numbers().map(|number| IpAddr::from(site.host(number).v4()));
        let mut places: Vec<(String, IpAddr)> =
            self.addresses.iter().map(ToString::to_string).zip(hosts).collect();
        places.push((self.cvip.to_string(), site.cvip(false)));
        // One may be the beginning of another.
        places.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        for (name, text) in [("cvip.conf", &self.conf), ("clustertab", &self.clustertab)] {
            let mut text = text.clone();
            for (n, (from, _)) in places.iter().enumerate() {
                text = text.replace(from, &format!("@{n}@"));
            }
            for (n, (_, to)) in places.iter().enumerate() {
                text = text.replace(&format!("@{n}@"), &to.to_string());
            }
            fs::write(site.dir.join(name), text).unwrap();
        }
    }
}

/// Waits until every node is in the pool.
#[track_caller]
fn await_everybody(site: &Site, id: ServiceId, nodes: usize) {
    site.until("every node is in the pool", |site| {
        let pool = site.pool(id)?;
        (pool.len() == nodes && pool.iter().all(|(_, weight)| *weight > 0)).then_some(())
    });
}

fn macs<'a>(frames: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    frames.cloned().collect()
}

#[test]
fn an_ltsp_cluster_logs_every_terminal_in_on_one_node() {
    let example = Example::read();
    let built = (example.directors, example.nodes);
    let mut site = Site::built(|b| b.directors(built.0).nodes(built.1), &Plan::default());
    example.install(&site);
    site.start_everywhere(&[]);
    let numbers: Vec<u32> = site.numbers().collect();
    for number in &numbers {
        site.run(*number, &example.flag);
    }
    let _managers: Vec<Process> = numbers.iter().map(|n| display_manager(&site, *n)).collect();
    let xdmcp = site.v4(Udp, 177);
    await_everybody(&site, xdmcp, numbers.len());

    let (client, director) = (site.cluster.client(), site.cluster.director());
    let seen = client.capture("udp port 177").unwrap();
    let forwarded = director.capture("udp port 177").unwrap();
    let terminals: Vec<Terminal> = (0..numbers.len() as u8)
        .map(|n| {
            let mut addr = client.v4().octets();
            addr[3] += 1 + n;
            client.line(&format!("ip addr add {}/24 dev eth0", std::net::Ipv4Addr::from(addr)));
            Terminal::start(&site, addr.into(), site.cvip(false))
        })
        .collect();
    let served: Vec<&Host> = terminals
        .iter()
        .map(|terminal| {
            let from = terminal.await_login(&site);
            let host = site.cluster.members().find(|host| IpAddr::from(host.v4()) == from);
            host.unwrap_or_else(|| panic!("{} was called by {from}", terminal.addr))
        })
        .collect();
    let (seen, forwarded) = (frames(&seen.stop().unwrap()), frames(&forwarded.stop().unwrap()));
    for (terminal, server) in terminals.iter().zip(&served) {
        let (mine, server) = (terminal.addr, server.mac());
        let of = |frames: &'_ [Frame], wanted: &dyn Fn(&Frame) -> bool| -> Vec<(String, String)> {
            let kept = frames.iter().filter(|frame| wanted(frame));
            kept.map(|frame| (frame.from.clone(), frame.to.clone())).collect()
        };
        // Everything that it was answered came from the node that has its session now.
        let answers = of(&seen, &|frame| frame.destination == mine);
        assert!(answers.len() >= 2, "Willing and Accept: {seen:#?}");
        assert_eq!(macs(answers.iter().map(|(from, _)| from)), [server.clone()].into());
        // And everything that it sent went there, past the director or straight.
        let questions = of(&seen, &|frame| frame.source == mine);
        assert!(questions.len() >= 3, "Query, Request and Manage: {seen:#?}");
        let straight = questions.iter().map(|(_, to)| to).filter(|to| **to != director.mac());
        let passed = of(&forwarded, &|f| f.source == mine && f.from == director.mac());
        let arrived = macs(straight.chain(passed.iter().map(|(_, to)| to)));
        let elsewhere = arrived.iter().find(|mac| **mac != server);
        assert!(elsewhere.is_none(), "{mine} is {server}'s: {seen:#?}\n{forwarded:#?}");
        assert!(server == director.mac() || !passed.is_empty(), "{forwarded:#?}");
    }
    let nodes: BTreeSet<&str> = served.iter().map(|host| host.name()).collect();
    assert!(nodes.len() > 1, "all terminals are one node's: {nodes:?}");
}

#[test]
fn a_terminal_that_is_switched_on_before_any_display_manager_comes_to_its_login() {
    let services =
        "<service><protocol>udp</protocol><port>177</port><persistence>300</persistence></service>";
    let site = Site::start(1, &Plan { services, ..Plan::default() });
    let (client, cvip) = (site.cluster.client(), site.cvip(false));
    let seen = client.capture("udp port 177").unwrap();
    let mut terminal = Terminal::start(&site, client.v4().into(), cvip);
    // It has asked, and nobody has answered.
    seen.wait_for(PATIENCE, ".177: ").unwrap();
    let _manager = display_manager(&site, 1);
    let login = wait_until(PATIENCE, || {
        if !terminal.server.is_running() {
            // As its unit does.
            terminal = Terminal::start(&site, client.v4().into(), cvip);
        }
        terminal.login(&site)
    });
    assert_eq!(login, Some(site.host(1).v4().into()));
}

#[test]
fn by_nat_a_terminal_is_one_nodes_until_that_has_no_display_manager_any_more() {
    let service =
        "<service><protocol>udp</protocol><port>177</port><persistence>300</persistence></service>";
    let site = behind_nat(service);
    let (client, director) = (site.cluster.client(), site.cluster.director());
    // The nodes call the terminals back, from the inner network.
    for node in site.cluster.nodes() {
        client.line(&format!("ip route add {} via {}", inner(node, false), director.v4()));
        client.line(&format!("ip route add {} via {}", inner(node, true), director.v6()));
    }
    let mut managers: BTreeMap<u32, Process> =
        [1, 2].map(|number| (number, display_manager(&site, number))).into();
    for (id, addr, cvip) in [
        (site.v4(Udp, 177), IpAddr::from(client.v4()), site.cvip(false)),
        (site.v6(Udp, 177), client.v6().into(), site.cvip(true)),
    ] {
        await_everybody(&site, id, 2);
        let seen = client.capture("udp port 177").unwrap();
        let passed = director.capture_on("eth1", "udp port 177").unwrap();
        // It is switched on twice: the second time it asks from another port.
        let mut servers = Vec::new();
        for _ in 0..2 {
            let terminal = Terminal::start(&site, addr, cvip);
            servers.push(terminal.await_login(&site));
        }
        assert_eq!(servers[0], servers[1], "{addr} is one node's");
        let has_it = |number: &u32| inner(site.host(*number), addr.is_ipv6()) == servers[0];
        let number = [1, 2].into_iter().find(has_it).expect("a node's address");
        let (seen, passed) = (frames(&seen.stop().unwrap()), frames(&passed.stop().unwrap()));
        for frame in &seen {
            let both = [&frame.from, &frame.to];
            assert!(both.contains(&&director.mac()), "{frame:?}");
            assert!([frame.source, frame.destination].contains(&cvip), "{frame:?}");
        }
        assert!(seen.len() >= 10, "two logins are Query to Manage, twice: {seen:#?}");
        assert_eq!(passed.len(), seen.len(), "{passed:#?}");
        for frame in &passed {
            assert!([frame.source, frame.destination].contains(&servers[0]), "{frame:?}");
        }
        // Its node has no display manager any more: the terminal is the other's.
        managers.remove(&number).expect("it has one").stop().unwrap();
        let other = 3 - number;
        site.await_pool(id, Some(&[(other, 1)]));
        let terminal = Terminal::start(&site, addr, cvip);
        assert_eq!(terminal.await_login(&site), inner(site.host(other), addr.is_ipv6()));
        managers.insert(number, display_manager(&site, number));
    }
}
