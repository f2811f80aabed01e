//! docs/cluster.md, done as a newcomer would: every block of it, as it stands there.
//!
//! A machine is a network namespace with files of its own where machines write to. Four programs
//! are not the real ones (tests/cluster_page/): apt-get, systemctl, scp and cargo. Everything
//! else is: the unit files and what they start, etcd, nginx, openssl, the programs of cvip.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use cvip_lab::{Cluster, Host, Person, Process, built_programs, wait_until};
use nix::unistd::User;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How long one block may take, or anything that is waited for: emulated kernels are slow.
const PATIENCE: Duration = Duration::from_secs(240);

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Where a block is to be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Workstation,
    Machines,
    Machine(usize),
}

#[derive(Debug)]
struct Block {
    section: String,
    place: Place,
    script: String,
}

/// The page's shell blocks. Before each stands in bold where it is to be typed.
fn blocks(page: &str) -> Vec<Block> {
    let (mut section, mut place, mut blocks) = (String::new(), None, Vec::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        if let Some(said) = line.strip_prefix("**") {
            let said = said.trim_start_matches(|c: char| c.is_ascii_digit() || ". ".contains(c));
            place = if said.starts_with("Workstation") {
                Some(Place::Workstation)
            } else if said.starts_with("All three machines") {
                Some(Place::Machines)
            } else {
                let number = said.strip_prefix("Machine ").and_then(|rest| rest.get(..1));
                number.and_then(|number| number.parse().ok()).map(Place::Machine)
            };
        }
        if line == "```sh" {
            let script: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let place = place.take().unwrap_or_else(|| panic!("where is this typed? {script:?}"));
            blocks.push(Block { section: section.clone(), place, script: script.join("\n") });
        }
    }
    blocks
}

/// A machine: a root shell on it.
struct Machine {
    name: &'static str,
    shell: Process,
    input: ChildStdin,
    answers: Receiver<String>,
    scripts: PathBuf,
    typed: usize,
}

impl Machine {
    fn start(host: &Host, name: &'static str, address: &str, dir: &Path) -> Machine {
        host.run(&["ip", "addr", "flush", "dev", "eth0"]).unwrap();
        host.run(&["ip", "addr", "add", &format!("{address}/24"), "dev", "eth0"]).unwrap();
        let mut command = host.command("unshare");
        command.args(["--mount", "--uts", "bash"]).arg(shims().join("machine")).arg(name);
        // An emulated machine's disk and processor are slow: etcd is to elect for faults alone.
        command.env("ETCD_HEARTBEAT_INTERVAL", "200").env("ETCD_ELECTION_TIMEOUT", "2000");
        command.env("PATH", path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = Process::spawn(command).unwrap();
        let input = shell.child().stdin.take().unwrap();
        let output = BufReader::new(shell.child().stdout.take().unwrap());
        let (said, answers) = mpsc::channel();
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.for_each(|line| drop(said.send(line)));
        });
        fs::write(dir.join("machines-up").join(address), shell.pid().to_string()).unwrap();
        let machine = Machine { name, shell, input, answers, scripts: dir.to_owned(), typed: 0 };
        assert_eq!(machine.answer(), "ready");
        machine
    }

    fn answer(&self) -> String {
        let answer = self.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("machine {} does not answer: {error}", self.name))
    }

    fn script(&self) -> PathBuf {
        self.scripts.join(format!("{}-{}.sh", self.name, self.typed))
    }

    fn begin(&mut self, script: &str) {
        self.typed += 1;
        fs::write(self.script(), script).unwrap();
        writeln!(self.input, "{}", self.script().display()).unwrap();
    }

    /// What the block that was begun wrote. It has to succeed.
    fn end(&self) -> String {
        let status = self.answer();
        let said = fs::read_to_string(self.script().with_extension("sh.out")).unwrap();
        let script = fs::read_to_string(self.script()).unwrap();
        assert_eq!(status, "0", "machine {}:\n{script}\n{said}", self.name);
        said
    }
}

impl Drop for Machine {
    /// A test that failed shows what the daemons thought.
    fn drop(&mut self) {
        if thread::panicking() {
            for unit in ["etcd", "cvipd"] {
                let log = format!("/proc/{}/root/var/log/{unit}.log", self.shell.pid());
                let text = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(30)..];
                println!("--- {unit} of machine {}\n{}", self.name, last.join("\n"));
            }
        }
    }
}

fn shims() -> PathBuf {
    Path::new(ROOT).join("tests/cluster_page")
}

/// The four programs that are not the real ones come first.
fn path() -> String {
    format!("{}:{}", shims().display(), std::env::var("PATH").unwrap())
}

/// Three machines and a workstation on one segment.
struct Site {
    machines: Vec<Machine>,
    dir: PathBuf,
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        cvip_lab::require();
        // As its package does it.
        if User::from_name("etcd").unwrap().is_none() {
            Person::new("etcd", 899).unwrap();
        }
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().to_owned();
        fs::create_dir_all(dir.join("checkout/target")).unwrap();
        fs::create_dir(dir.join("machines-up")).unwrap();
        symlink(built_programs(), dir.join("checkout/target/programs")).unwrap();
        symlink(Path::new(ROOT).join("packaging"), dir.join("checkout/packaging")).unwrap();
        let name = format!("p{}", std::process::id());
        let builder = Cluster::builder(&name).directors(2).nodes(1).ipv6(false);
        let cluster = builder.build().unwrap();
        let client = cluster.client();
        client.run(&["ip", "addr", "add", "192.168.200.100/24", "dev", "eth0"]).unwrap();
        let hosts = cluster.directors().iter().chain(cluster.nodes());
        let machines = hosts.zip(NAMES).zip(1..).map(|((host, name), number)| {
            Machine::start(host, name, &format!("192.168.200.{number}"), &dir)
        });
        Site { machines: machines.collect(), dir, cluster, _dir: temporary }
    }

    /// Types a block where it belongs; what it wrote, one text for each place.
    fn type_in(&mut self, block: &Block) -> Vec<String> {
        let numbers = match block.place {
            Place::Workstation => return vec![self.on_the_workstation(&block.script)],
            Place::Machines => 1..=self.machines.len(),
            Place::Machine(number) => number..=number,
        };
        let machines = &mut self.machines[numbers.start() - 1..*numbers.end()];
        machines.iter_mut().for_each(|machine| machine.begin(&block.script));
        machines.iter().map(Machine::end).collect()
    }

    fn on_the_workstation(&self, script: &str) -> String {
        let mut command: Command = self.cluster.client().command("bash");
        command.args(["-c", script]).current_dir(self.dir.join("checkout"));
        command.env("PATH", path()).env("MACHINES", self.dir.join("machines-up"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // What curl thinks of the last of its questions is for the caller to judge.
        let is_question = script.contains("curl");
        assert!(output.status.success() || is_question, "{script}\n{said}{complained}");
        said.into_owned()
    }

    /// Asks the CVIP until these machines, and no others, have answered one block's questions.
    #[track_caller]
    fn until_answered_by(&mut self, block: &Block, names: &[&str]) {
        assert!(block.script.contains("curl") && block.place == Place::Workstation, "{block:?}");
        let mut last = String::new();
        let answered = wait_until(PATIENCE, || {
            last = self.type_in(block).concat();
            let by: BTreeSet<&str> = last.lines().collect();
            (by == names.iter().copied().collect()).then_some(())
        });
        assert!(answered.is_some(), "{names:?} did not answer, at the end only:\n{last}");
    }

    /// The machines that carry the CVIP, by number.
    fn carriers(&self) -> Vec<usize> {
        let carries = |host: &Host| {
            let shown = host.stdout(&["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).unwrap();
            shown.contains(" 192.168.200.10/")
        };
        let directors = self.cluster.directors().iter().zip(1..);
        directors.filter(|(host, _)| carries(host)).map(|(_, number)| number).collect()
    }
}

#[test]
fn a_newcomer_builds_a_cluster_of_three_machines_with_the_page_alone() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/cluster.md")).unwrap();
    let blocks = blocks(&page);
    let of = |section: &str| -> Vec<&Block> {
        blocks.iter().filter(|block| block.section == section).collect()
    };
    let commands = of("The ten commands");
    assert_eq!(commands.len(), 10);
    let [ask, status] = of("See it work")[..] else { panic!("{blocks:?}") };
    let [takeover] = of("Hand over by hand")[..] else { panic!("{blocks:?}") };
    let [ask_again] = of("When a machine dies")[..] else { panic!("{blocks:?}") };
    assert_eq!(blocks.len(), 14, "every block is typed");

    let mut site = Site::start();
    for command in commands {
        let said = site.type_in(command);
        if command.script.contains("cvipctl check") {
            for said in said {
                for number in 1..=3 {
                    let server = format!("https://192.168.200.{number}:2379 etcd 3.");
                    assert!(said.contains(&server), "{said}");
                }
                // Debian's etcd is older than the ones that keep their users to their roles.
                let others = said.lines().filter(|line| !line.contains("CVE-2026-33343"));
                let faults = others.filter(|l| l.contains("warning") || l.contains("error"));
                assert_eq!(faults.count(), 0, "{said}");
            }
        }
    }

    site.until_answered_by(ask, &NAMES);
    let shown = site.type_in(status).concat();
    assert!(shown.contains("CVIP 192.168.200.10 by DR"), "{shown}");
    assert!(shown.contains("tcp 192.168.200.10:80"), "{shown}");

    assert_eq!(site.type_in(takeover), ["node 2 is the active director\n"]);
    let alone = wait_until(PATIENCE, || (site.carriers() == [2]).then_some(()));
    assert!(alone.is_some(), "the CVIP is on {:?}", site.carriers());
    site.until_answered_by(ask, &NAMES);

    site.cluster.standby().power_off().unwrap();
    site.until_answered_by(ask_again, &["one", "three"]);
    // The other's kernel, which lives on here without a cable, may have it for a while yet.
    assert!(site.carriers().contains(&1), "the CVIP is on {:?}", site.carriers());
}
