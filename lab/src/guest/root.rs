//! Builds the lab's root file system: the host's, with the package layers merged in, and every write kept in memory.
//!
//! It is one overlay: a memory file system above, the host's root and the layers below. The kernel refuses layers that
//! lie within one another in the same file system, so the layers come through a mount of their own. One folder, the
//! scratch folder, is the host's own and written through.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{chdir, pivot_root, sethostname};

use super::modules::Modules;
use crate::frame::Spec;

/// Folders of which one is surely on the host, as a place for the first mounts.
const STAGES: &[&str] = &["/mnt", "/media", "/srv", "/opt", "/tmp"];

/// Mounts a file system of the kernel's own, without options.
pub(crate) fn special(kind: &str, on: &Path) -> Result<()> {
    with_data(kind, kind, on, MsFlags::empty(), "")
}

/// Mounts a file system and says what failed.
pub(crate) fn with_data(
    kind: &str,
    source: &str,
    on: &Path,
    flags: MsFlags,
    data: &str,
) -> Result<()> {
    mount(Some(source), on, Some(kind), flags, Some(data))
        .with_context(|| format!("cannot mount {kind} on {} ({data})", on.display()))
}

/// What is needed before the channel to the host can be opened.
pub(crate) fn early() -> Result<()> {
    special("proc", Path::new("/proc"))?;
    special("sysfs", Path::new("/sys"))?;
    // Most kernels mount it themselves.
    if !Path::new("/dev/null").exists() || !is_mounted("/dev")? {
        special("devtmpfs", Path::new("/dev"))?;
    }
    Ok(())
}

fn is_mounted(on: &str) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    Ok(mounts.lines().any(|line| line.split(' ').nth(1) == Some(on)))
}

/// Builds the root and moves into it.
pub(crate) fn build(spec: &Spec, modules: &mut Modules) -> Result<()> {
    modules.load("overlay");
    let stage = STAGES
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .context("no folder to mount anything on")?;
    special("tmpfs", stage)?;
    mount(None::<&str>, stage, None::<&str>, MsFlags::MS_REMOUNT, Some("size=75%,mode=0755"))?;
    let [upper, work, root, layers] =
        ["upper", "work", "root", "layers"].map(|name| stage.join(name));
    for folder in [&upper, &work, &root, &layers] {
        fs::create_dir(folder)?;
    }
    share(spec, "layers", &spec.layers, &layers, MsFlags::MS_RDONLY)?;

    let over = spec.over.iter().map(|layer| layers.join(layer));
    let under = spec.under.iter().map(|layer| layers.join(layer));
    let lower: Vec<PathBuf> = over.chain([PathBuf::from("/")]).chain(under).collect();
    overlay(&lower, &upper, &work, &root)?;

    for name in ["proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name))?;
        mount(
            Some(&Path::new("/").join(name)),
            &root.join(name),
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )?;
    }
    furnish(&root)?;
    fs::create_dir_all(root.join(spec.scratch.strip_prefix("/").unwrap_or(&spec.scratch)))?;
    let scratch = root.join(spec.scratch.strip_prefix("/").unwrap_or(&spec.scratch));
    share(spec, "scratch", &spec.scratch, &scratch, MsFlags::empty())?;

    enter(&root)?;
    link_modules(modules)?;
    *modules = Modules::open(None)?;
    settle()
}

/// Mounts a folder of the host by whatever means this kernel has.
fn share(spec: &Spec, tag: &str, folder: &Path, on: &Path, flags: MsFlags) -> Result<()> {
    match spec.kernel.as_str() {
        "uml" => {
            let data = folder
                .to_str()
                .context("the cache folder's path is not UTF-8: set CVIP_LAB_CACHE")?;
            with_data("hostfs", "none", on, flags, data)
        }
        _ => with_data("virtiofs", tag, on, flags, ""),
    }
}

/// Mounts an overlay of these folders, uppermost first.
pub(crate) fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, on: &Path) -> Result<()> {
    let mut data = OsString::from("lowerdir=");
    for (n, folder) in lower.iter().enumerate() {
        data.push(if n == 0 { "" } else { ":" });
        data.push(folder);
    }
    data.push(",upperdir=");
    data.push(upper);
    data.push(",workdir=");
    data.push(work);
    mount(Some("lab"), on, Some("overlay"), MsFlags::empty(), Some(data.as_os_str()))
        .with_context(|| format!("cannot mount an overlay ({})", data.display()))
}

/// Mounts what a system needs beside its files; what this kernel lacks is left out.
pub(crate) fn furnish(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("run"))?;
    with_data("tmpfs", "tmpfs", &root.join("run"), MsFlags::MS_NOSUID, "mode=0755")?;
    for folder in ["run/lock", "run/netns", "dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir_all(root.join(folder))?;
    }
    // `ip netns` wants it to be a mount of its own, and would lay one over the names that are there already.
    let names = root.join("run/netns");
    mount(Some(&names), &names, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    mount(None::<&str>, &names, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
    with_data(
        "devpts",
        "devpts",
        &root.join("dev/pts"),
        MsFlags::empty(),
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    let ptmx = root.join("dev/ptmx");
    let _ = fs::remove_file(&ptmx);
    symlink("pts/ptmx", ptmx)?;
    for (link, target) in
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let _ = symlink(target, root.join("dev").join(link));
    }
    with_data("tmpfs", "tmpfs", &root.join("dev/shm"), MsFlags::MS_NOSUID, "mode=1777")?;
    let _ = special("mqueue", &root.join("dev/mqueue"));
    let _ = special("cgroup2", &root.join("sys/fs/cgroup"));
    let _ = special("bpf", &root.join("sys/fs/bpf"));
    let _ = special("debugfs", &root.join("sys/kernel/debug"));
    let _ = special("tracefs", &root.join("sys/kernel/tracing"));
    let _ = special("securityfs", &root.join("sys/kernel/security"));
    Ok(())
}

/// Makes this folder the root file system, and lets go of the old one.
pub(crate) fn enter(root: &Path) -> Result<()> {
    chdir(root)?;
    pivot_root(".", ".").context("cannot change the root file system")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot let go of the old root")?;
    chdir("/")?;
    Ok(())
}

/// Puts the modules where `modprobe` looks, if they are elsewhere.
fn link_modules(modules: &Modules) -> Result<()> {
    let place = Path::new("/usr/lib/modules").join(modules.release());
    if let Some(folder) = modules.folder()
        && !place.exists()
    {
        fs::create_dir_all("/usr/lib/modules")?;
        symlink(folder, place)?;
    }
    Ok(())
}

/// Gives the new system its name, a loopback and limits that no test meets.
pub(crate) fn settle() -> Result<()> {
    let _ = sethostname("lab");
    let _ = fs::write("/etc/hostname", "lab\n");
    if let Ok(mut hosts) = fs::read_to_string("/etc/hosts") {
        hosts.push_str("\n127.0.0.1 lab\n");
        let _ = fs::write("/etc/hosts", hosts);
    }
    crate::sys::set_link("lo", true).context("cannot bring up lo")?;
    // The machine's own limit may be lower, and is not ours to change on its own kernel.
    let most =
        fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let most = most.unwrap_or(65536).min(1_048_576);
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65536), most)
        .context("cannot raise the limit of open files")?;
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, nix::libc::RLIM_INFINITY, nix::libc::RLIM_INFINITY);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, nix::libc::RLIM_INFINITY);
    Ok(())
}
