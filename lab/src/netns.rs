//! Network namespaces: made, named, entered and removed without a process in between, so that what is started in one
//! has the process number that its starter sees.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sys;

/// Where `ip netns` keeps names of namespaces.
const NAMES: &str = "/run/netns";

/// A network namespace with a name that `ip netns` knows too; removed when this goes.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    /// Another one after [`Namespace::renew`].
    file: RwLock<Arc<File>>,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), file: RwLock::new(make(name)?) })
    }

    /// Puts a fresh namespace of the same name in its place. What still runs in the old one, or holds a socket of it,
    /// keeps that alive without a name.
    pub(crate) fn renew(&self) -> Result<()> {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        remove(&self.name);
        *file = make(&self.name)?;
        Ok(())
    }

    fn file(&self) -> Arc<File> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in this namespace, without a process in between.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let file = self.file().try_clone().context("cannot copy a descriptor")?;
        let mut command = Command::new(program);
        sys::in_network_namespace(&mut command, OwnedFd::from(file));
        Ok(command)
    }

    /// Runs a closure on a thread of its own in this namespace.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&*self.file(), CloneFlags::CLONE_NEWNET).with_context(|| {
                        format!("cannot enter the network namespace {}", self.name)
                    })?;
                    Ok(act())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Kills every process in this namespace, save this one.
    pub(crate) fn kill_all(&self) -> Result<()> {
        let mut killed = HashSet::new();
        // One that dies leaves its namespace a moment before it is dead.
        self.until_all(Signal::SIGKILL, |inside| {
            killed.extend(inside.iter().copied());
            inside.is_empty() && killed.iter().all(|pid| has_state(*pid, "ZX"))
        })
        .map(drop)
    }

    /// Stops every process in this namespace, save this one, where it stands; the processes that are stopped.
    pub(crate) fn stop_all(&self) -> Result<Vec<Pid>> {
        let mut told = HashSet::new();
        self.until_all(Signal::SIGSTOP, |inside| {
            // One that waits inside the kernel stops before it comes back from there: a shell, say, that has made a
            // child by vfork(2), which is stopped itself before it runs its program.
            let stands =
                |pid: &Pid| has_state(*pid, "TZX") || (told.contains(pid) && has_state(*pid, "D"));
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

/// Makes a namespace with its loopback up, under this name; a descriptor of it.
fn make(name: &str) -> Result<Arc<File>> {
    fs::create_dir_all(NAMES).with_context(|| format!("cannot make {NAMES}"))?;
    let path = path(name);
    File::create_new(&path).with_context(|| {
        format!("a network namespace {name} is there already (ip netns del {name})")
    })?;
    let made = thread::scope(|scope| {
        scope
            .spawn(|| -> Result<()> {
                unshare(CloneFlags::CLONE_NEWNET)
                    .context("cannot make a network namespace: are you root?")?;
                sys::set_link("lo", true).context("cannot bring up lo")?;
                let own = Path::new("/proc/thread-self/ns/net");
                mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .with_context(|| format!("cannot name the network namespace {name}"))
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Err(error) = made {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Arc::new(file))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.kill_all();
        remove(&self.name);
    }
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

/// Whether a process is in one of these states, or gone. See proc(5): the state comes after the name in parentheses.
fn has_state(pid: Pid, states: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| states.contains(state))
}
