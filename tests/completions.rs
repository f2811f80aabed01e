//! The completions in the shells themselves: words are typed at a terminal, and the tab key.
//!
//! bash is wherever these tests run. zsh and fish are used where they are installed, and a test
//! says on standard error which was not there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;

/// For how long a shell is waited for, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.100</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
    <real_server_node><node_num>12</node_num></real_server_node>
    <service><protocol>udp</protocol><port>53</port><registration>static</registration></service>
    </cvip></cvips>";

fn completions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions")
}

/// A cluster of nodes 1 and 12, of which 12 is drained on one port; its programs first on the path.
struct Cluster(tempfile::TempDir);

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster(tempfile::tempdir().unwrap());
        fs::write(cluster.path("cvip.conf"), CONF).unwrap();
        fs::write(cluster.path("clustertab"), "1 10.0.0.1\n12 10.0.0.12\n").unwrap();
        fs::write(cluster.path("cvip.toml"), "store = \"local\"\n").unwrap();
        let mut drain = Command::new(env!("CARGO_BIN_EXE_cvipctl"));
        cluster.set(&mut drain);
        let output = drain.args(["drain", "12:53/udp", "--reason=new disk"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn set(&self, command: &mut Command) {
        let programs = Path::new(env!("CARGO_BIN_EXE_cvipctl")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("HOME", self.0.path())
            .env("TERM", "xterm")
            .env("CVIP_CONF", self.path("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.path("clustertab"))
            .env("CVIP_SETTINGS", self.path("cvip.toml"))
            .env("CVIP_RUN_DIR", self.path("run"));
    }
}

/// A shell at a terminal.
struct Terminal {
    shell: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// None where the shell is not installed.
    fn start(cluster: &Cluster, mut command: Command) -> Option<Terminal> {
        let pty = openpty(None, None).unwrap();
        cluster.set(&mut command);
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let shell = match command.stdin(end()).stdout(end()).stderr(end()).spawn() {
            Ok(shell) => shell,
            Err(error) => {
                eprintln!("{}: {error}: not tested", command.get_program().display());
                return None;
            }
        };
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, shown) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Terminal { shell, keys, shown, seen: String::new() })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text, and forgets what stood before its end.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("no `{text}` in {:?}", self.seen),
            }
        }
    }

    /// What a program would have been called with, had the line been sent: each program is a
    /// function that shows its words.
    #[track_caller]
    fn typed(&mut self, line: &str) -> String {
        self.press(line);
        self.press("\n");
        self.wait_for("CALLED<");
        let words = self.wait_for(">CALLED");
        self.wait_for("READY>");
        words.trim_end_matches(">CALLED").to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// What is typed, with tabs, and what the program gets.
const TYPED: [(&str, &str); 16] = [
    ("cvipctl sta\t", "cvipctl status"),
    ("cvipctl etc\t", "cvipctl etcd-roles"),
    ("cvipctl convert --f\tsh\t", "cvipctl convert --format=shell"),
    ("cvipctl convert --format sh\t", "cvipctl convert --format shell"),
    ("cvipctl drain 12:\t --w\t", "cvipctl drain 12:53/udp --wait"),
    ("cvipctl undrain 1\t", "cvipctl undrain 12:53/udp"),
    ("cvipctl check --node=12\t", "cvipctl check --node=12"),
    ("cvipctl events --node 12\t --fo\t", "cvipctl events --node 12 --follow"),
    ("cvipctl --store=lo\t status", "cvipctl --store=local status"),
    ("cvipctl --sto\tet\t status", "cvipctl --store=etcd status"),
    ("cvipctl --run-dir=/no/where undrain 1\t", "cvipctl --run-dir=/no/where undrain 1"),
    ("cvipctl help met\t", "cvipctl help metrics"),
    ("cvipd --log=deb\t", "cvipd --log=debug"),
    ("setport_weight --prot\tsc\t", "setport_weight --protocol=sctp"),
    ("setport_weight --protocol u\t", "setport_weight --protocol udp"),
    ("ipvsadm-rs -A -t 192.0.2.1:80 -s wl\t", "ipvsadm-rs -A -t 192.0.2.1:80 -s wlc"),
];

/// Types everything, and names all that came out otherwise.
#[track_caller]
fn types_all(terminal: &mut Terminal) {
    let mut faults = Vec::new();
    for (line, expected) in TYPED {
        let got = terminal.typed(line);
        if got.trim_end() != expected {
            faults.push(format!("{line:?}: `{got}`, not `{expected}`"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const FUNCTIONS: &str = "for program in cvipctl cvipd setport_weight ipvsadm-rs; do \
    eval \"$program() { printf 'CALLED''<%s>''CALLED\\n' \\\"$program \\$*\\\"; }\"; done";

#[test]
fn bash_offers_commands_values_nodes_and_ports() {
    let cluster = Cluster::new();
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    let mut bash = Terminal::start(&cluster, command).expect("bash is everywhere");
    for program in ["cvipctl", "cvipd", "setport_weight", "ipvsadm-rs"] {
        bash.press(&format!("source {}/{program}.bash\n", completions().display()));
    }
    bash.press(&format!("{FUNCTIONS}\nPS1='READY''> '\n"));
    bash.wait_for("READY>");
    types_all(&mut bash);
}

#[test]
fn zsh_offers_commands_values_nodes_and_ports() {
    let cluster = Cluster::new();
    let mut command = Command::new("zsh");
    command.args(["-f", "-i"]);
    let Some(mut zsh) = Terminal::start(&cluster, command) else { return };
    zsh.press(&format!(
        "fpath=({} $fpath); autoload -U compinit; compinit -u -D; {FUNCTIONS}; PS1='READY''> '\n",
        completions().display()
    ));
    zsh.wait_for("READY>");
    types_all(&mut zsh);
}

/// What fish offers for a line that is being typed.
fn fish(cluster: &Cluster, line: &str) -> Option<Vec<String>> {
    let mut command = Command::new("fish");
    cluster.set(&mut command);
    let scripts = ["cvipctl", "cvipd", "setport_weight", "ipvsadm-rs"]
        .map(|program| format!("source {}/{program}.fish; ", completions().display()));
    let script = format!("{}complete -C '{line}'", scripts.concat());
    let output = match command.args(["--no-config", "-c", &script]).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("fish: {error}: not tested");
            return None;
        }
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    let offered = String::from_utf8(output.stdout).unwrap();
    Some(offered.lines().map(|line| line.replace('\t', " | ")).collect())
}

#[test]
fn fish_offers_commands_values_nodes_and_ports() {
    let cluster = Cluster::new();
    for (line, expected) in [
        ("cvipctl convert --format=sh", &["--format=shell | The same as shell commands"][..]),
        ("cvipctl drain 12:", &["12:53/udp | of 10.0.0.100"]),
        ("cvipctl undrain ", &["12:53/udp | new disk"]),
        ("cvipctl --run-dir=/no/where undrain ", &[]),
        ("cvipctl check --node ", &["1 | 10.0.0.1", "12 | 10.0.0.12"]),
        ("setport_weight --node=1", &["--node=1 | 10.0.0.1", "--node=12 | 10.0.0.12"]),
        ("cvipd --log=deb", &["--log=debug | "]),
        ("setport_weight --protocol sc", &["sctp"]),
        ("ipvsadm-rs -A -t 192.0.2.1:80 --scheduler wl", &["wlc"]),
    ] {
        let Some(mut offered) = fish(&cluster, line) else { return };
        offered.sort();
        let matches = |(offered, expected): (&String, &&str)| offered.starts_with(*expected);
        assert!(
            offered.len() == expected.len() && offered.iter().zip(expected).all(matches),
            "{line}: {offered:?}"
        );
    }
    let offered = fish(&cluster, "cvipctl dr").unwrap_or_default();
    assert!(offered.len() == 1 && offered[0].starts_with("drain | Take a node"), "{offered:?}");
}
