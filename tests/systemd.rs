//! cvipd under systemd: the unit, and the files beside it, as a package installs them, on a Debian
//! root that systemd boots.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use cvip_lab::process::{HeldThread, shown};
use cvip_lab::systemd::Machine;
use cvip_lab::{Cluster, Nginx, built_programs, unique_name, until, until_some};
use serde_json::Value;

/// Where a package puts what stands in this repository: the folder, the file here, and its mode.
const INSTALLED: [(&str, &str, u32); 6] = [
    ("usr/lib/systemd/system", "packaging/cvipd.service", 0o644),
    ("usr/lib/sysusers.d", "packaging/sysusers.d/cvip.conf", 0o644),
    ("usr/lib/tmpfiles.d", "packaging/tmpfiles.d/cvip.conf", 0o644),
    ("usr/lib/modules-load.d", "packaging/modules-load.d/cvip.conf", 0o644),
    ("etc/default", "packaging/default/cvipd", 0o644),
    ("etc/init.d", "packaging/init.d/ha-lvs", 0o755),
];

/// The cluster key, which only root may read.
const KEY: &str = "a key of this test's own, which is long enough";

/// The most that `systemd-analyze security` may say of the unit, in tenths.
const EXPOSURE: u32 = 25;

/// Files to be copied over a machine's root.
struct Files(tempfile::TempDir);

impl Files {
    /// The programs and what a package has beside them.
    fn installed() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        for program in ["cvipd", "cvipctl", "setport_weight", "ipvsadm-rs"] {
            let path = files.folder("usr/sbin").join(program);
            fs::copy(built_programs().join(program), path).unwrap();
        }
        for (folder, file, mode) in INSTALLED {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let to = files.folder(folder).join(from.file_name().unwrap());
            fs::copy(from, &to).unwrap();
            fs::set_permissions(to, Permissions::from_mode(mode)).unwrap();
        }
        files
    }

    fn folder(&self, path: &str) -> std::path::PathBuf {
        let folder = self.0.path().join(path);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(&self, path: &str, text: &str, mode: u32) {
        let path = Path::new(path);
        let to = self.folder(path.parent().unwrap().to_str().unwrap());
        let to = to.join(path.file_name().unwrap());
        fs::write(&to, text).unwrap();
        fs::set_permissions(to, Permissions::from_mode(mode)).unwrap();
    }
}

/// One machine, which is the director and the only real server, and a client.
struct Site {
    machine: Machine,
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Site {
    /// Boots the machine with cvipd's configuration and these services, and what `more` adds.
    fn boot(services: &str, more: impl FnOnce(&Files)) -> Site {
        cvip_lab::require();
        let cluster = Cluster::builder(&unique_name("s")).nodes(0).build().unwrap();
        let files = Files::installed();
        files.write("etc/clustertab", &format!("1 {}\n", cluster.director().v4()), 0o644);
        files.write("etc/cvip.conf", &conf(&cluster, services), 0o644);
        files.write("etc/cvip/cluster.key", KEY, 0o600);
        more(&files);
        let machine = Machine::start(cluster.director(), files.0.path()).unwrap();
        Site { machine, cluster, folder: tempfile::tempdir().unwrap() }
    }

    /// Runs a command line of plain words; its standard output.
    #[track_caller]
    fn line(&self, line: &str) -> String {
        self.machine.line(line).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[track_caller]
    fn start(&self) {
        self.line("systemctl start cvipd");
    }

    /// A property of a unit.
    #[track_caller]
    fn property(&self, unit: &str, name: &str) -> String {
        self.line(&format!("systemctl show --value --property={name} {unit}")).trim().to_owned()
    }

    /// A property that is a number.
    #[track_caller]
    fn number(&self, unit: &str, name: &str) -> u64 {
        let value = self.property(unit, name);
        value.parse().unwrap_or_else(|_| panic!("{unit}: {name} is {value}"))
    }

    /// cvipd's entries in the journal of this priority and the more urgent ones.
    #[track_caller]
    fn journal(&self, priority: &str) -> Vec<(String, String)> {
        let entries =
            self.line(&format!("journalctl -o json --no-pager -t cvipd -t cvipctl -p {priority}"));
        let entry = |line: &str| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            (field("PRIORITY"), field("MESSAGE"))
        };
        entries.lines().map(entry).collect()
    }

    #[track_caller]
    fn assert_no_errors(&self) {
        let errors = self.journal("err");
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// `cvipctl status` of the machine.
    #[track_caller]
    fn status(&self) -> Value {
        serde_json::from_str(&self.line("cvipctl status --json")).unwrap()
    }

    /// The kernel's table.
    #[track_caller]
    fn table(&self) -> String {
        self.line("ipvsadm-rs -Sn")
    }

    /// cvipd's process, as the lab numbers it.
    #[track_caller]
    fn cvipd(&self) -> nix::unistd::Pid {
        let number = self.number("cvipd", "MainPID");
        self.machine.process(u32::try_from(number).unwrap()).unwrap()
    }

    /// A web server on port 80 of the machine.
    fn web_server(&self) -> Nginx {
        Nginx::with_page(self.cluster.director(), &self.folder.path().join("web"), "here").unwrap()
    }

    /// Waits until a client is served at the CVIP.
    #[track_caller]
    fn await_service(&self) {
        let url = format!("http://{}/", self.cluster.vip4(1));
        until("a client is served at the CVIP", || {
            let got = self.cluster.client().stdout(&["curl", "-s", "-m2", &url]);
            got.is_ok_and(|page| page == "here\n")
        });
    }
}

/// A director that is a real server too.
fn conf(cluster: &Cluster, services: &str) -> String {
    format!(
        "<cvips><routing>DR</routing><cvip><ip_addr>{}</ip_addr><director_node>\
         <node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>{services}\
         </cvip></cvips>\n",
        cluster.vip4(1)
    )
}

/// The fields of /proc/PID/status.
fn process_status(pid: nix::unistd::Pid) -> BTreeMap<String, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn failed(output: &Output) -> String {
    let (out, err) = shown(output);
    assert!(!output.status.success(), "{out}{err}");
    out + &err
}

/// A service that takes a second to start and to stop.
fn slow(what: &str, more: &str) -> String {
    format!(
        "[Unit]\nDescription={what}\n{more}\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sleep 1\nExecStop=/bin/sleep 1\n"
    )
}

/// cvipd, a slow network and a slow etcd, all of them enabled; etcd's leaves a run folder behind that
/// a cvipd of root has made.
fn enabled(files: &Files) {
    let system = "etc/systemd/system";
    files.write(&format!("{system}/etcd.service"), &slow("a slow etcd", ""), 0o644);
    let network = slow("a slow network", "Before=network-online.target");
    files.write(&format!("{system}/slow.service"), &network, 0o644);
    for (target, name, service) in [
        ("network-online", "slow", format!("/{system}/slow.service")),
        ("multi-user", "etcd", format!("/{system}/etcd.service")),
        ("multi-user", "cvipd", "/usr/lib/systemd/system/cvipd.service".to_owned()),
    ] {
        let wants = files.folder(&format!("{system}/{target}.target.wants"));
        std::os::unix::fs::symlink(service, wants.join(format!("{name}.service"))).unwrap();
    }
    let before = "mkdir -p /run/cvip/locks; touch /run/cvip/locks/store\n";
    files.write("usr/local/bin/before", before, 0o755);
    let run = "[Service]\nExecStart=/bin/sh /usr/local/bin/before\n";
    files.write(&format!("{system}/etcd.service.d/before.conf"), run, 0o644);
}

#[test]
fn a_boot_starts_cvipd_when_it_can_a_restart_leaves_the_table_alone_and_a_leave_ends_it_for_good() {
    let site = Site::boot("", enabled);
    site.line("systemctl is-active systemd-modules-load.service");
    let started = until_some("cvipd is up", || {
        let is_up = site.property("cvipd", "ActiveState") == "active";
        is_up.then(|| site.number("cvipd", "ExecMainStartTimestampMonotonic"))
    });
    for earlier in ["network-online.target", "etcd.service", "slow.service"] {
        let active = site.number(earlier, "ActiveEnterTimestampMonotonic");
        assert!(0 < active && active <= started, "{earlier}: {active}, {started}");
    }
    let status = process_status(site.cvipd());
    assert!(!status["Uid"].starts_with("0\t"), "it runs as {}", status["Uid"]);
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["CapEff"], status["CapBnd"], "what it has is all that it can get");
    assert!(site.property("cvipd", "StatusText").contains("director"));

    // Root's command writes into the run folder of cvipd's user.
    site.line("setport_weight --start-port=80 --end-port=80 --weight=3");
    let server = site.web_server();
    site.await_service();
    let table = site.table();
    assert!(table.contains(":80 ") && table.contains("-w 3"), "{table}");
    let owner = site.machine.path("/run/cvip").metadata().unwrap().uid();
    assert_eq!(owner.to_string(), status["Uid"].split('\t').next().unwrap());
    for made in ["flags/1.json", "locks/store", "locks"] {
        let path = site.machine.path("/run/cvip").join(made);
        assert_eq!(path.metadata().unwrap().uid(), owner, "{made}");
    }

    let before = site.number("cvipd", "MainPID");
    site.line("systemctl restart cvipd");
    assert_ne!(site.number("cvipd", "MainPID"), before);
    until("cvipd directs again", || {
        site.property("cvipd", "StatusText") == "director and real server"
    });
    assert_eq!(site.table(), table);
    site.await_service();
    // One that crashes is started again.
    nix::sys::signal::kill(site.cvipd(), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("systemd starts it again", || site.number("cvipd", "NRestarts") == 1);
    until("cvipd is up", || site.property("cvipd", "ActiveState") == "active");
    assert_eq!(site.table(), table);

    drop(server);
    until("the server has left", || site.table().is_empty());
    site.line("cvipctl leave");
    until("the unit has ended", || site.property("cvipd", "ActiveState") == "inactive");
    assert_eq!(site.property("cvipd", "Result"), "success");
    let cvip = site.cluster.vip4(1).to_string();
    assert!(!site.line("ip -o address show").contains(&cvip), "the CVIP is undone");
    site.assert_no_errors();
    assert_eq!(site.number("cvipd", "NRestarts"), 1, "a leave is no failure");

    site.start();
    site.line("systemctl stop cvipd etcd");
    let ended = site.number("cvipd", "InactiveEnterTimestampMonotonic");
    let etcd_ends = site.number("etcd", "ActiveExitTimestampMonotonic");
    assert!(0 < ended && ended <= etcd_ends, "cvipd ends before etcd: {ended}, {etcd_ends}");
}

#[test]
fn the_unit_gives_little_away_and_a_check_s_program_has_none_of_it() {
    // What a check that fails printed is shown.
    let service = "<service><port>80</port></service><service><port>81</port>\
                   <registration>static</registration><check><type>exec</type>\
                   <command>/usr/local/bin/who</command><timeout>30</timeout>\
                   </check></service>";
    let site = Site::boot(service, |files| {
        let who = "#!/bin/sh\necho \"$(id -un) $(id -G) $(awk '/^Cap(Prm|Eff|Amb)/ { printf \"%s.\", $2 }' \
                   /proc/self/status)\"\nexit 1\n";
        files.write("usr/local/bin/who", who, 0o755);
    });
    let analysed = format!("systemd-analyze security --no-pager --threshold={EXPOSURE} cvipd");
    println!("{}", site.line(&analysed).lines().last().unwrap_or_default());

    // OpenSSI's name for it.
    assert!(
        failed(&site.machine.try_line("/etc/init.d/ha-lvs status").unwrap()).contains("not run")
    );
    site.line("/etc/init.d/ha-lvs start");
    assert!(site.line("/etc/init.d/ha-lvs status").contains("cvipd runs as process"));

    // Neither its user nor another one may read the key, and yet it is the one in force.
    let key = site.machine.path("/etc/cvip/cluster.key").metadata().unwrap();
    assert_eq!((key.uid(), key.mode() & 0o777), (0, 0o600));
    let own = site.machine.path("/run/cvip/cluster.key");
    assert!(!own.exists(), "no other key was made");
    let read =
        site.machine.try_line("setpriv --reuid=cvip --clear-groups cat /etc/cvip/cluster.key");
    failed(&read.unwrap());

    let server = site.web_server();
    site.await_service();
    let nobody = format!("nobody 65534 {}", "0000000000000000.".repeat(3));
    until("the program says that it is nobody, who can do nothing", || {
        site.line("cvipctl events").contains(&nobody)
    });
    drop(server);
    let pid = site.number("cvipd", "MainPID");
    let mounts = site.line(&format!("cat /proc/{pid}/mountinfo"));
    let is_read_only = |path: &str| {
        let mut at = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(path));
        at.next_back().map(|line| line.split(' ').nth(5).unwrap().starts_with("ro"))
    };
    assert_eq!(is_read_only("/proc/sys"), Some(true), "{mounts}");
    assert_eq!(is_read_only("/proc/sys/net"), Some(false), "{mounts}");
    assert_eq!(is_read_only("/"), Some(true), "{mounts}");
    site.line("/etc/init.d/ha-lvs stop");
    assert_eq!(site.property("cvipd", "ActiveState"), "inactive");
}

#[test]
fn faulty_files_fail_a_reload_a_hanging_thread_fails_the_watchdog_and_errors_have_their_priority() {
    let site = Site::boot("", |files| {
        let quick = "[Service]\nWatchdogSec=8\n";
        files.write("etc/systemd/system/cvipd.service.d/quick.conf", quick, 0o644);
    });
    site.start();
    let conf_file = site.machine.path("/etc/cvip.conf");
    let good = fs::read_to_string(&conf_file).unwrap();
    let pid = site.number("cvipd", "MainPID");

    fs::write(&conf_file, good.replace("DR", "nowhere")).unwrap();
    failed(&site.machine.try_line("systemctl reload cvipd").unwrap());
    assert_eq!(site.property("cvipd", "ActiveState"), "active");
    assert_eq!(site.number("cvipd", "MainPID"), pid, "cvipd goes on");
    let said = site.journal("info");
    assert!(said.iter().any(|(_, message)| message.contains("nowhere")), "{said:?}");
    let problems = site.status()["problems"].to_string();
    assert!(!problems.contains("former cvip.conf is in force"), "cvipd was not told: {problems}");

    fs::write(&conf_file, &good).unwrap();
    site.line("systemctl reload cvipd");
    until("the file is taken", || !site.property("cvipd", "StatusText").contains("former"));
    assert_eq!(site.number("cvipd", "MainPID"), pid);

    site.line("setport_weight --start-port=80 --end-port=80 --weight=1");
    let _server = site.web_server();
    site.await_service();
    let table = site.table();
    let fed = site.number("cvipd", "WatchdogTimestampMonotonic");
    until("the watchdog is fed", || site.number("cvipd", "WatchdogTimestampMonotonic") > fed);
    let held = HeldThread::hold(site.cvipd(), "table").unwrap();
    until("systemd starts cvipd again", || {
        site.number("cvipd", "NRestarts") == 1 && site.property("cvipd", "ActiveState") == "active"
    });
    drop(held);
    let errors = site.journal("err");
    let named = "from the threads: table;";
    assert!(errors.iter().any(|(_, message)| message.contains(named)), "{errors:?}");
    assert_eq!(site.table(), table, "the kernel goes on");
    let said = site.line("journalctl --no-pager -u cvipd");
    assert!(said.contains("Watchdog timeout"), "{said}");
    site.await_service();

    // A start that fails.
    site.line("systemctl stop cvipd");
    fs::write(&conf_file, "<cvips>").unwrap();
    failed(&site.machine.try_line("systemctl start cvipd").unwrap());
    site.line("systemctl stop cvipd");
    let all = site.journal("debug");
    let errors = site.journal("err");
    assert!(errors.iter().any(|(_, message)| message.contains("cvip.conf")), "{errors:?}");
    assert!(errors.len() < all.len(), "not all are errors");
    assert!(all.iter().any(|(priority, _)| priority == "6"), "{all:?}");
    for (_, message) in all {
        let year = message.split_once('-').map_or("", |(year, _)| year);
        let is_dated = year.len() == 4 && year.bytes().all(|digit| digit.is_ascii_digit());
        let is_stamped = is_dated || (0..8).any(|n| message.starts_with(&format!("<{n}>")));
        assert!(!is_stamped, "neither a time nor a priority: {message}");
    }
}

/// On a distribution's own kernel, which filters system calls and tells of sockets.
mod on_stock {
    use super::*;

    #[test]
    fn the_confined_cvipd_hears_of_sockets_serves_reloads_and_leaves() {
        let site = Site::boot("", |_| {});
        site.line("systemctl is-active systemd-modules-load.service");
        site.start();
        let status = process_status(site.cvipd());
        assert_eq!(status["Seccomp"], "2", "system calls are filtered");
        let source = || site.status()["nodes"][0]["event_source"].as_str().map(str::to_owned);
        let source = until_some("the node's record", source);
        if std::env::var("CVIP_LAB").is_ok_and(|kernel| kernel == "qemu") {
            assert!(!source.starts_with("polling"), "{source}");
        }
        site.line("setport_weight --start-port=80 --end-port=80 --weight=1");
        let server = site.web_server();
        site.await_service();
        site.line("systemctl reload cvipd");
        drop(server);
        until("the server has left", || site.table().is_empty());
        site.line("cvipctl leave");
        until("the unit has ended", || site.property("cvipd", "ActiveState") == "inactive");
        site.assert_no_errors();
    }
}
