//! Network namespaces: made, named, entered and removed without a process in between, so that what is started in one
//! has the process number that its starter sees.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    file: File,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    pub(crate) fn new(name: &str) -> Result<Self> {
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
        Ok(Self { name: name.to_owned(), file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in this namespace, without a process in between.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let file = self.file.try_clone().context("cannot copy a descriptor")?;
        let mut command = Command::new(program);
        sys::in_network_namespace(&mut command, OwnedFd::from(file));
        Ok(command)
    }

    /// Runs a closure on a thread of its own in this namespace.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| {
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
        let own = self.file.metadata().context("cannot look at a network namespace")?.ino();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut killed = HashSet::new();
        // Again until none is left: one of them may have started another in the meantime. One that dies leaves its
        // namespace a moment before it is dead.
        loop {
            let inside = processes(own)?;
            killed.extend(inside.iter().copied());
            if inside.is_empty() && killed.iter().all(|pid| is_dead(*pid)) {
                return Ok(());
            }
            for pid in &inside {
                let _ = kill(*pid, Signal::SIGKILL);
            }
            if Instant::now() > deadline {
                bail!("processes in {} do not die: {inside:?}", self.name);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
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

/// Whether a process is gone, or waits for its parent only. See proc(5): the state comes after the name in parentheses.
fn is_dead(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}
