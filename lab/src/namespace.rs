//! Network namespaces: made, entered, wired and removed without a process in between, so that what is started in one
//! has the process number that its starter sees.
//!
//! Clusters, tests, benchmarks and the demo all make theirs here. [`in_new_network`] and [`enter_new_network`] are for
//! what one thread does alone, [`Namespace`] is for hosts that stay.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::people::Person;
use crate::process::{self, Process};
use crate::sys;
use crate::wait::until;

/// Where `ip netns` keeps names of namespaces.
const NAMES: &str = "/run/netns";

/// Moves the calling thread into a new network namespace with its loopback up. What the thread opens and starts from now
/// on is in it too. `/proc/net` is the wrong one there, `/proc/thread-self/net` the right one.
///
/// # Errors
/// If this is not root.
pub fn enter_new_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace: are you root?")?;
    sys::set_link("lo", true).context("cannot bring up lo")
}

/// Runs a closure on a thread of its own in a new network namespace; see [`enter_new_network`].
///
/// # Errors
/// If this is not root.
pub fn in_new_network<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    on_a_thread(|| enter_new_network().map(|()| act()))
}

/// A network namespace that a thread was in, to go back to.
#[derive(Debug)]
pub struct OwnNetwork(File);

impl OwnNetwork {
    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn here() -> Result<OwnNetwork> {
        let path = "/proc/thread-self/ns/net";
        Ok(OwnNetwork(File::open(path).with_context(|| format!("cannot open {path}"))?))
    }

    /// Moves the calling thread into it.
    ///
    /// # Errors
    /// If this is not root.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET)
            .context("cannot enter a network namespace: are you root?")
    }
}

/// Moves the calling thread into a mount namespace with an empty `/etc`: what is written there concerns nobody else.
///
/// # Errors
/// If this is not root.
pub fn enter_own_etc() -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace: are you root?")?;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    mount(Some("etc"), "/etc", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    Ok(())
}

/// Runs `ip` with these words in the calling thread's network namespace; what it prints.
///
/// # Errors
/// If there is no ip(8), or if it fails.
pub fn ip(words: &str) -> Result<String> {
    let mut command = Command::new("ip");
    process::stdout(command.args(words.split_whitespace()))
}

/// An address that is written down.
///
/// # Panics
/// If it is none.
#[must_use]
#[track_caller]
pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn on_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(act).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A network namespace; when this goes, its processes are killed, and it with them.
#[derive(Debug)]
pub struct Namespace {
    /// What it is called, by `ip netns` too if it is one of those with a name.
    name: String,
    named: bool,
    /// Another one after [`Namespace::renew`].
    file: RwLock<Arc<File>>,
}

impl Namespace {
    /// Makes a namespace with its loopback up that has no name.
    ///
    /// # Panics
    /// If this is not root.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a namespace is no value like another")]
    pub fn new() -> Self {
        let file = make(None).unwrap_or_else(|error| panic!("{error:#}"));
        Self { name: "a network namespace".to_owned(), named: false, file: RwLock::new(file) }
    }

    /// Makes a namespace with its loopback up that `ip netns` knows by this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), named: true, file: RwLock::new(make(Some(name))?) })
    }

    /// Puts a fresh namespace of the same name in its place. What still runs in the old one, or holds a socket of it,
    /// keeps that alive without a name.
    pub(crate) fn renew(&self) -> Result<()> {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        remove(&self.name);
        *file = make(Some(&self.name))?;
        Ok(())
    }

    fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `ip link` takes after `netns`.
    pub(crate) fn reference(&self) -> String {
        match self.named {
            true => self.name.clone(),
            false => format!("/proc/{}/fd/{}", std::process::id(), self.file().as_raw_fd()),
        }
    }

    /// A command that runs in this namespace: a child of this process, with no other process in between. It sees this
    /// namespace's network, but `/sys/class/net` is that of the whole lab.
    ///
    /// # Panics
    /// If this process can open no more files.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let file = self.file().try_clone().expect("this process can open no more files");
        let mut command = Command::new(program);
        sys::in_network_namespace(&mut command, OwnedFd::from(file));
        command
    }

    /// The same, run by another user than root.
    ///
    /// # Panics
    /// As [`Namespace::command`].
    #[must_use]
    pub fn command_as(&self, person: &Person, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("HOME", "/").env("USER", person.name()).env("LOGNAME", person.name());
        // After the namespace has been entered, which is root's to do.
        sys::as_user(&mut command, person.uid(), person.gid());
        command
    }

    fn command_of(&self, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("no command")?;
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end, and keeps what it writes.
    ///
    /// # Errors
    /// If it cannot be run or fails; the error has what it wrote.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        process::run(&mut self.command_of(words)?).with_context(|| self.name.clone())
    }

    /// Runs a command to its end; what it wrote to its standard output.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn stdout(&self, words: &[&str]) -> Result<String> {
        Ok(process::text(&self.run(words)?.stdout))
    }

    /// Starts a command that goes on until its guard is dropped.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn spawn(&self, words: &[&str]) -> Result<Process> {
        Process::spawn(self.command_of(words)?)
    }

    /// Gives `ip` or `tc` several lines at once, up to the first that fails: a process each would take its time.
    pub(crate) fn batch(&self, program: &str, lines: &str) -> Result<()> {
        let mut command = self.command(program);
        let output = process::run_with_input(command.args(["-batch", "-"]), lines.as_bytes())?;
        if !output.status.success() {
            let complaint = process::text(&output.stderr);
            bail!("{program} in {}: {}\n{}", self.name, lines.trim(), complaint.trim());
        }
        Ok(())
    }

    /// Runs a closure on a thread of its own in this network namespace, and gives its value: sockets that it opens
    /// (netlink ones too) stay in that namespace. `/proc/net` is the wrong one there, `/proc/thread-self/net` the right
    /// one.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or with the closure.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            let entered = setns(&*self.file(), CloneFlags::CLONE_NEWNET);
            entered.unwrap_or_else(|errno| panic!("cannot enter {}: {errno}", self.name));
            act()
        })
    }

    /// Runs a command of words without blanks; what it wrote to its standard output.
    ///
    /// # Panics
    /// If it cannot be run or fails.
    #[track_caller]
    pub fn line(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.stdout(&words).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs `ip` with these words; what it prints.
    ///
    /// # Panics
    /// If there is no ip(8), or if it fails.
    #[track_caller]
    pub fn ip(&self, words: &str) -> String {
        self.line(&format!("ip {words}"))
    }

    /// What `ip -j` prints, as the rows that it has.
    ///
    /// # Panics
    /// As [`Namespace::ip`].
    #[track_caller]
    pub fn json(&self, words: &str) -> Vec<Value> {
        let text = self.ip(&format!("-j {words}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        serde_json::from_str(&text).expect("ip -j writes JSON")
    }

    /// What `ip` says of an address on an interface.
    ///
    /// # Panics
    /// As [`Namespace::ip`].
    #[must_use]
    #[track_caller]
    pub fn shown(&self, addr: &str, device: &str) -> Option<Value> {
        self.json(&format!("addr show dev {device}"))
            .iter()
            .flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default())
            .find(|info| info["local"] == addr)
    }

    /// Whether an interface has an address now.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    #[must_use]
    pub fn has_on(&self, device: &str, addr: IpAddr) -> bool {
        let has = |interface: InterfaceAddress| {
            let of = interface.address.as_ref()?;
            let of = match (of.as_sockaddr_in(), of.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::from(v4.ip()),
                (_, Some(v6)) => IpAddr::from(v6.ip()),
                (None, None) => return None,
            };
            Some(interface.interface_name == device && of == addr)
        };
        let find = || getifaddrs().ok().and_then(|mut all| all.find_map(|i| has(i).filter(|h| *h)));
        self.enter(find).is_some()
    }

    /// Sets a kernel parameter, such as `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.7/arp_ignore`.
    ///
    /// # Errors
    /// If there is no such parameter, or not this value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(parameter(key), value))
            .with_context(|| format!("{}: cannot set {key} to {value}", self.name))
    }

    /// The value of a kernel parameter.
    ///
    /// # Panics
    /// If there is no such parameter.
    #[must_use]
    #[track_caller]
    pub fn setting(&self, key: &str) -> String {
        let value = self.enter(|| fs::read_to_string(parameter(key)));
        value.unwrap_or_else(|error| panic!("{key}: {error}")).trim().to_owned()
    }

    /// Makes a pair of interfaces, one here and one there, both up.
    ///
    /// # Panics
    /// As [`Namespace::ip`].
    #[track_caller]
    pub fn wire(&self, here: &str, there: &Namespace, its: &str) {
        self.ip(&format!("link add {here} type veth peer name {its} netns {}", there.reference()));
        self.ip(&format!("link set {here} up"));
        there.ip(&format!("link set {its} up"));
        self.await_carrier(here);
        there.await_carrier(its);
    }

    /// Waits until an interface has noticed its carrier: the kernel drops what is sent before that.
    #[track_caller]
    pub(crate) fn await_carrier(&self, device: &str) {
        let state = || self.json(&format!("link show dev {device}"))[0]["operstate"].clone();
        until("a carrier", || state() == "UP");
    }

    /// Kills every process in this namespace, save this one.
    pub(crate) fn kill_all(&self) -> Result<()> {
        let mut killed = HashSet::new();
        // One that dies leaves its namespace a moment before it is dead.
        self.until_all(Signal::SIGKILL, |inside| {
            killed.extend(inside.iter().copied());
            inside.is_empty() && killed.iter().all(|pid| process::has_state(*pid, "ZX"))
        })
        .map(drop)
    }

    /// Stops every process in this namespace, save this one, where it stands; the processes that are stopped.
    pub(crate) fn stop_all(&self) -> Result<Vec<Pid>> {
        let mut told = HashSet::new();
        self.until_all(Signal::SIGSTOP, |inside| {
            // One that waits inside the kernel stops before it comes back from there: a shell, say, that has made a
            // child by vfork(2), which is stopped itself before it runs its program.
            let stands = |pid: &Pid| {
                process::has_state(*pid, "TZX")
                    || (told.contains(pid) && process::has_state(*pid, "D"))
            };
            let all_stand = inside.iter().all(stands);
            told.extend(inside.iter().copied());
            all_stand
        })
    }

    /// Sends every process in this namespace a signal, again until all is as it should be: one of them may have started
    /// another in the meantime.
    fn until_all(&self, signal: Signal, mut done: impl FnMut(&[Pid]) -> bool) -> Result<Vec<Pid>> {
        let own = self.file().metadata().context("cannot look at a network namespace")?.ino();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let inside = processes(own)?;
            if done(&inside) {
                return Ok(inside);
            }
            for pid in &inside {
                let _ = kill(*pid, signal);
            }
            if Instant::now() > deadline {
                bail!("{signal} has no effect on processes in {}: {inside:?}", self.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.kill_all();
        if self.named {
            remove(&self.name);
        }
    }
}

/// Makes a namespace with its loopback up, perhaps under a name; a descriptor of it.
fn make(name: Option<&str>) -> Result<Arc<File>> {
    let path = name.map(path);
    if let (Some(name), Some(path)) = (name, &path) {
        fs::create_dir_all(NAMES).with_context(|| format!("cannot make {NAMES}"))?;
        File::create_new(path).with_context(|| {
            format!("a network namespace {name} is there already (ip netns del {name})")
        })?;
    }
    let made = on_a_thread(|| -> Result<File> {
        enter_new_network()?;
        let own = Path::new("/proc/thread-self/ns/net");
        if let Some(path) = &path {
            mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cannot name a network namespace {}", path.display()))?;
        }
        File::open(own).context("cannot open a network namespace")
    });
    if let (Err(_), Some(path)) = (&made, &path) {
        let _ = umount2(path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(path);
    }
    made.map(Arc::new)
}

/// Forgets the name of a namespace, which goes with its last process or descriptor.
pub(crate) fn remove(name: &str) {
    let path = path(name);
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(&path);
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

/// The file of a kernel parameter. A key with slashes may have dots in its parts.
fn parameter(key: &str) -> PathBuf {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    Path::new("/proc/sys").join(path)
}

/// The processes in the network namespace with this inode, except this one, and except those that are dead and only
/// wait for their parent (they have no namespace any more).
fn processes(namespace: u64) -> Result<Vec<Pid>> {
    let own = std::process::id() as i32;
    Ok(fs::read_dir("/proc")
        .context("cannot read /proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| meta.ino() == namespace)
        })
        .map(Pid::from_raw)
        .collect())
}
