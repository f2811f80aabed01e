//! `cvipctl top` at a pseudo-terminal of 80 columns and 24 lines.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use cvip::store::{Access, DrainTarget, LocalStore, Store};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

/// For how long the program is waited for, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.100</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
    <real_server_node><node_num>12</node_num></real_server_node>
    <service><protocol>udp</protocol><port>53</port><registration>static</registration></service>
    </cvip></cvips>";

struct Cluster(tempfile::TempDir);

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster(tempfile::tempdir().unwrap());
        fs::write(cluster.path("cvip.conf"), CONF).unwrap();
        fs::write(cluster.path("clustertab"), "1 10.0.0.1\n12 10.0.0.12\n").unwrap();
        fs::write(cluster.path("cvip.toml"), "store = \"local\"\n").unwrap();
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn cvipctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cvipctl"));
        command
            .args(words)
            .env("TERM", "xterm")
            .env("CVIP_CONF", self.path("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.path("clustertab"))
            .env("CVIP_SETTINGS", self.path("cvip.toml"))
            .env("CVIP_RUN_DIR", self.path("run"));
        command
    }

    fn drained(&self) -> Vec<DrainTarget> {
        let run_dir: &Path = &self.path("run");
        let Ok(mut store) = LocalStore::open(run_dir, Access::Read) else { return Vec::new() };
        store.refresh().unwrap();
        store.state().drains.keys().copied().collect()
    }
}

/// The program, and what it has written.
struct Terminal {
    program: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(mut command: Command) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let program = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
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
        Terminal { program, keys, shown, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text, and forgets what stood before its end.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("no `{text}` in {:?}", self.seen),
            }
        }
    }

    /// The terminal takes whole lines and shows what is typed, as a shell leaves it.
    fn is_cooked(&self) -> bool {
        let flags = tcgetattr(&self.keys).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    #[track_caller]
    fn await_end(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.seen);
            // It may wait until what it writes is read.
            if let Ok(bytes) = self.shown.recv_timeout(Duration::from_millis(50)) {
                self.seen += &String::from_utf8_lossy(&bytes);
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn a_node_is_drained_and_put_back_by_keys_and_the_terminal_is_left_as_it_was() {
    let cluster = Cluster::new();
    let mut terminal = Terminal::start(cluster.cvipctl(&["top", "--node=1", "--interval=200ms"]));
    terminal.wait_for("FAULT");
    terminal.wait_for("10.0.0.100:53");
    assert!(!terminal.is_cooked());
    // The nodes, the second of them, drain: a question, which is answered in the negative at first.
    terminal.press("3");
    terminal.wait_for("director");
    terminal.press("jd");
    terminal.wait_for("(y/n)");
    terminal.press("n");
    assert_eq!(cluster.drained(), []);
    terminal.press("d");
    terminal.wait_for("(y/n)");
    terminal.press("y");
    terminal.wait_for("drained");
    assert_eq!(cluster.drained(), [DrainTarget { node: 12, port: None }]);
    terminal.press("u");
    terminal.wait_for("(y/n)");
    terminal.press("y");
    let deadline = Instant::now() + PATIENCE;
    while !cluster.drained().is_empty() {
        assert!(Instant::now() < deadline, "it is not put back");
        thread::yield_now();
    }
    terminal.press("q");
    assert!(terminal.await_end());
    assert!(terminal.is_cooked());
}

#[test]
fn a_signal_ends_it_and_the_terminal_is_left_as_it_was() {
    let cluster = Cluster::new();
    let mut terminal = Terminal::start(cluster.cvipctl(&["top", "--node=1"]));
    terminal.wait_for("10.0.0.100:53");
    let pid = nix::unistd::Pid::from_raw(terminal.program.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(terminal.await_end());
    assert!(terminal.is_cooked());
}

#[test]
fn without_a_terminal_it_says_what_to_run_instead() {
    let output = Cluster::new().cvipctl(&["top"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("top needs a terminal") && err.contains("status --watch"), "{err}");
}
