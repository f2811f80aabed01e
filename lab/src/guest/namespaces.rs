//! The lab on this machine's own kernel: namespaces in place of a machine.
//!
//! Two processes of ours stand between the caller and the command. The outer one makes the namespaces, passes signals on,
//! and ends with the caller, whatever ends that. The inner one is PID 1 of the process namespace: it builds the root and
//! runs the command with the caller's own input and outputs; when it ends, so does every process in there.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::arguments::{ARGUMENT, NAMESPACES, NAMESPACES_INSIDE};
use super::{agent, modules, root};
use crate::frame::Spec;
use crate::signals::Held;
use crate::{packages, sys};

/// A file in the run's folder that is no longer empty once the command has been started.
pub(crate) const STARTED: &str = "started";

/// The file in the run's folder with the [`Spec`].
pub(crate) const SPEC: &str = "spec.json";

/// Devices that every system has, and some that network tools want.
const DEVICES: &[&str] =
    &["null", "zero", "full", "random", "urandom", "tty", "kmsg", "net/tun", "fuse"];

/// File systems that show the kernel and not files: they are mounted anew where they are needed.
const SPECIAL: &[&str] = &[
    "autofs",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "securityfs",
    "sysfs",
    "tracefs",
    "binfmt_misc",
    "rpc_pipefs",
];

/// The outer process: makes the namespaces and stays beside them.
pub(super) fn outside(run: &Path, caller: i32) -> Result<i32> {
    // Kept open, since the inner process takes our root file system along when it moves into the new one.
    let started = File::create(run.join(STARTED)).context("cannot write to the run's folder")?;
    // With sudo in between, the caller is not our parent.
    sys::die_with_this_parent()?;
    let caller = sys::open_process(Pid::from_raw(caller)).context("the caller is gone")?;
    let signals = Held::new(&[
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGCHLD,
    ])?;
    load_modules();
    let group = enter_control_group(run);
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let namespaces = if group { namespaces | CloneFlags::CLONE_NEWCGROUP } else { namespaces };
    unshare(namespaces).context("cannot make namespaces: the lab on this kernel needs root")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut inside = Command::new(own);
    inside.args([OsStr::new(ARGUMENT), OsStr::new(NAMESPACES_INSIDE), run.as_os_str()]);
    let mut child = sys::die_with_parent(sys::with_all_signals(&mut inside))
        .spawn()
        .context("cannot start the lab's first process")?;
    let pid = Pid::from_raw(child.id() as i32);
    loop {
        match signals.wait(Some(&caller))? {
            None => {
                let _ = child.kill();
                return Ok(1);
            }
            Some((Signal::SIGCHLD, _)) => {
                if let Some(status) = child.try_wait()? {
                    return Ok(status.code().unwrap_or(1));
                }
            }
            Some((signal, _)) if started.metadata()?.len() == 0 => {
                let _ = child.kill();
                return Ok(128 + signal as i32);
            }
            // What a terminal sends, it sends to the command as well.
            Some((_, from_kernel)) if from_kernel => {}
            Some((signal, _)) => drop(nix::sys::signal::kill(pid, signal)),
        }
    }
}

/// The inner process: PID 1 of the namespaces.
pub(super) fn inside(run: &Path) -> Result<i32> {
    let json = fs::read(run.join(SPEC)).context("cannot read what to run")?;
    let spec: Spec = serde_json::from_slice(&json).context("cannot read what to run")?;
    // Opened while it is still there to be opened.
    let mut started =
        File::create(run.join(STARTED)).context("cannot write to the run's folder")?;
    let signals = Held::new(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT])?;
    build(run, &spec)?;
    started.write_all(b"1")?;

    let (program, mut command) = agent::prepare(&spec);
    match sys::with_all_signals(&mut command).spawn() {
        Ok(child) => {
            let pid = Pid::from_raw(child.id() as i32);
            std::thread::spawn(move || {
                while let Ok(Some((signal, _))) = signals.wait(None) {
                    let _ = nix::sys::signal::kill(pid, signal);
                }
            });
            Ok(agent::wait_for(pid) as i32)
        }
        Err(error) => {
            let (code, what) = agent::not_started(&error);
            eprintln!("lab: {}: {what}", program.display());
            Ok(code as i32)
        }
    }
}

/// Builds the root of overlays, one for each of the machine's file systems, and moves into it.
fn build(run: &Path, spec: &Spec) -> Result<()> {
    let stage = run.join("stage");
    fs::create_dir_all(&stage)?;
    root::with_data("tmpfs", "tmpfs", &stage, MsFlags::empty(), "mode=0755,size=75%")?;
    let new = stage.join("root");
    fs::create_dir(&new)?;
    // A layer may not lie within another of the same overlay, and the cache is within the root.
    let copies = stage.join("layers");
    let copy = |layers: &[PathBuf], name: &str| -> Result<Vec<PathBuf>> {
        let copied = layers.iter().enumerate().map(|(n, layer)| {
            let to = copies.join(format!("{name}{n}"));
            copy_folder(&spec.layers.join(layer), &to).map(|()| to)
        });
        copied.collect()
    };
    let mut lower = copy(&spec.over, "over")?;
    lower.push("/".into());
    lower.extend(copy(&spec.under, "under")?);

    let mounts =
        fs::read_to_string("/proc/self/mountinfo").context("cannot read the machine's mounts")?;
    overlay(&stage, "root", &lower, &new)?;
    for (n, point) in parse_mounts(&mounts).iter().enumerate() {
        if point.starts_with(&stage) {
            continue;
        }
        let on = new.join(point.strip_prefix("/").unwrap_or(point));
        if point.is_dir() && fs::create_dir_all(&on).is_ok() {
            // What cannot be a layer (another overlay of overlays, say) is at least there to be read.
            if overlay(&stage, &format!("mount{n}"), std::slice::from_ref(point), &on).is_err() {
                let _ = bind(point, &on, true);
            }
        } else if point.is_file() {
            // Single files are mounted into containers: /etc/resolv.conf and its like. The overlay has what is under it.
            let _ = fs::copy(point, &on);
        }
    }

    for name in ["proc", "sys", "dev"] {
        fs::create_dir_all(new.join(name))?;
    }
    root::special("proc", &new.join("proc"))?;
    root::special("sysfs", &new.join("sys"))?;
    root::with_data("tmpfs", "tmpfs", &new.join("dev"), MsFlags::MS_NOSUID, "mode=0755")?;
    fs::create_dir(new.join("dev/net"))?;
    for name in DEVICES {
        let (from, to) = (Path::new("/dev").join(name), new.join("dev").join(name));
        if from.exists() {
            File::create(&to)?;
            bind(&from, &to, false)?;
        }
    }
    root::furnish(&new)?;
    let scratch = new.join(spec.scratch.strip_prefix("/").unwrap_or(&spec.scratch));
    fs::create_dir_all(&scratch)?;
    bind(&spec.scratch, &scratch, false)?;
    root::enter(&new)?;
    root::settle()
}

fn overlay(stage: &Path, name: &str, lower: &[PathBuf], on: &Path) -> Result<()> {
    let [upper, work] = ["upper", "work"].map(|part| stage.join(format!("{name}.{part}")));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // Above, the folder itself comes from the upper layer.
    if let Some(meta) = lower.iter().find_map(|folder| folder.metadata().ok()) {
        fs::set_permissions(&upper, meta.permissions())?;
    }
    root::overlay(lower, &upper, &work, on)
}

fn bind(from: &Path, to: &Path, read_only: bool) -> Result<()> {
    let bound = mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    bound.with_context(|| format!("cannot mount {} in the lab", from.display()))?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, to, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Where file systems with files are mounted, below the root, outermost first.
fn parse_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = unescape(before.split(' ').nth(4)?);
            let kind = after.split(' ').next()?;
            let kernels = ["/proc", "/sys", "/dev", "/run"]
                .iter()
                .any(|parent| Path::new(&point).starts_with(parent));
            (point != "/" && !kernels && !SPECIAL.contains(&kind)).then(|| PathBuf::from(point))
        })
        .collect();
    points.sort();
    points.dedup();
    points
}

/// A path of mountinfo, where a space is `\040`; see proc(5).
fn unescape(path: &str) -> String {
    ["\\040", "\\011", "\\012"]
        .iter()
        .zip([" ", "\t", "\n"])
        .fold(path.to_owned(), |text, (code, is)| text.replace(code, is))
        .replace("\\134", "\\")
}

/// Copies a folder with all that is in it; a program keeps its mode, and a link stays one.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, from.metadata()?.permissions())?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::set_permissions(
                &target,
                Permissions::from_mode(entry.metadata()?.permissions().mode()),
            )?;
        }
    }
    Ok(())
}

/// Loads what the lab needs; a kernel that has it built in, or lacks it, is fine.
fn load_modules() {
    let Some(modprobe) = packages::find_program("modprobe") else {
        return;
    };
    let names: Vec<&str> =
        modules::WANTED.iter().chain(modules::SCHEDULERS).chain(&["overlay"]).copied().collect();
    let mut command = Command::new(modprobe);
    command.args(["-a", "-q"]).args(names);
    let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
}

/// The folder of the control group for a run, if this machine has the second version of them.
pub(crate) fn control_group(run: &Path) -> Option<PathBuf> {
    let name = format!("cvip-lab-{}", run.file_name()?.to_string_lossy());
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .find(|folder| {
            Path::new(folder).join("cgroup.procs").exists()
                && Path::new(folder).join("cgroup.subtree_control").exists()
        })
        .map(|folder| Path::new(folder).join(name))
}

/// Moves into a control group of our own, so that what the command does to its groups concerns no one else.
fn enter_control_group(run: &Path) -> bool {
    let Some(group) = control_group(run) else {
        return false;
    };
    fs::create_dir(&group).is_ok() && fs::write(group.join("cgroup.procs"), "0").is_ok()
}

/// Removes the control group of a run whose processes are gone.
pub(crate) fn remove_control_group(run: &Path) {
    fn remove(group: &Path) {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(group);
    }
    if let Some(group) = control_group(run) {
        remove(&group);
    }
}

/// The arguments of the outer process.
pub(crate) fn arguments(run: &Path) -> [OsString; 4] {
    [ARGUMENT.into(), NAMESPACES.into(), run.into(), std::process::id().to_string().into()]
}

/// Runs one of the two processes, as the arguments after [`NAMESPACES`] or [`NAMESPACES_INSIDE`] say.
pub(super) fn main(
    inner: bool,
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Infallible> {
    let run = PathBuf::from(arguments.next().context("no folder")?);
    let code = if inner {
        inside(&run)?
    } else {
        let caller =
            arguments.next().and_then(|text| text.to_str()?.parse().ok()).context("no caller")?;
        outside(&run, caller)?
    };
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_with_files_are_found_and_the_kernels_own_are_not() {
        let mountinfo = "\
            22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            23 22 0:5 / /proc rw - proc proc rw\n\
            24 22 0:30 / /run rw - tmpfs tmpfs rw\n\
            30 22 254:1 / /home rw,relatime shared:1 - ext4 /dev/vdb rw\n\
            31 30 254:2 / /home/some\\040one rw,relatime - xfs /dev/vdc rw\n\
            32 22 0:40 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            33 22 254:0 /x /etc/resolv.conf rw - ext4 /dev/vda rw\n";
        let points: Vec<_> =
            parse_mounts(mountinfo).into_iter().map(|path| path.display().to_string()).collect();
        assert_eq!(points, ["/etc/resolv.conf", "/home", "/home/some one"]);
    }
}
