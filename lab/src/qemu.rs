//! Boots a distribution's own kernel in QEMU: slower than user-mode Linux, but it has all that such a kernel has.
//!
//! The guest's root file system is the host's, through virtiofs. The daemon that serves it does so from a mount namespace
//! in which everything is read-only, so that no fault of the guest can change the host. Only the scratch folder, served
//! by a daemon of its own, can be written.
//!
//! Every instruction is emulated, even where the machine offers /dev/kvm: a kernel boot was seen to hang with it on build
//! machines. QEMU's emulation has faults of its own with several threads and with `cmpxchg16b`, so the guest has one
//! processor, of a model without that.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::emulator::{Booted, Emulator, Place};
use crate::guest;
use crate::layer::Layer;
use crate::packages;
use crate::sys;

/// How long the kernel may take until it starts the command.
pub(crate) const BOOT: Duration = Duration::from_secs(240);

/// How many bytes may be under way to the guest; a virtio port holds the host back by itself.
pub(crate) const WINDOW: usize = 64 * 1024;

/// The emulator, and a kernel that has virtiofs built in.
pub(crate) struct Parts {
    emulator: Layer,
    /// The kernel's image and its modules.
    pub(crate) kernel: Layer,
}

/// Fetches what is missing.
pub(crate) fn parts(cache: &Path) -> Result<Parts> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the lab boots QEMU on x86_64 only: use --kernel host on a kernel that has IPVS");
    }
    Ok(Parts { emulator: emulator_layer(cache)?, kernel: kernel_layer(cache)? })
}

fn emulator_layer(cache: &Path) -> Result<Layer> {
    if packages::find_program("qemu-system-x86_64").is_some() && virtiofsd(None).is_some() {
        return packages::empty(cache);
    }
    if let Some(layer) = packages::made(cache, "qemu") {
        return Ok(layer);
    }
    let mut wanted = vec!["qemu-system-x86".to_owned(), "qemu-system-common".to_owned()];
    // A package of its own since Debian 13 and Ubuntu 24.04.
    if packages::known(cache, "virtiofsd")?.iter().any(|name| name == "virtiofsd") {
        wanted.push("virtiofsd".to_owned());
    }
    packages::ensure(cache, "qemu", &wanted, None).context(
        "no QEMU here: on Debian and Ubuntu, apt-get install qemu-system-x86 virtiofsd; on Fedora, dnf install qemu-system-x86 virtiofsd",
    )
}

fn kernel_layer(cache: &Path) -> Result<Layer> {
    if let Some(layer) = packages::made(cache, "kernel") {
        return Ok(layer);
    }
    // Its modules are put in order with the base layer's tools.
    packages::base(cache)?;
    let own = packages::known(cache, "linux-image-")?;
    // The machine's own lists may be older than the kernel that is wanted.
    let name = match newest_kernel(&own) {
        Some(name) => Some(name),
        None => newest_kernel(&packages::known_now(cache, "linux-image-")?),
    };
    let name = name.or_else(|| default_kernel(&own)).context(
        "no package of a kernel with virtiofs built in: --kernel qemu needs Debian's linux-image-cloud-amd64",
    )?;
    // Only the kernel itself: its package depends on tools that would install it.
    packages::ensure(cache, "kernel", &[name], Some("linux-image-"))
}

/// The newest of Debian's kernels for virtual machines that stand beside a release's own, by the name that does not
/// change with each update.
fn newest_kernel(names: &[String]) -> Option<String> {
    let end = "-cloud-amd64";
    let numbered = names
        .iter()
        .filter(|name| name.ends_with(end))
        .map(|name| (packages::numbers(name.trim_end_matches(end)), name))
        .filter(|(numbers, name)| numbers.len() == 2 && !name.contains('+'))
        .max();
    numbered.map(|(_, name)| name.clone())
}

/// The release's own kernel for virtual machines: it has virtiofs built in since Debian 13.
fn default_kernel(names: &[String]) -> Option<String> {
    names.iter().find(|name| *name == "linux-image-cloud-amd64").cloned()
}

/// The daemon that serves folders to the guest: the host's, or the layer's.
fn virtiofsd(layer: Option<&Layer>) -> Option<PathBuf> {
    let places = [
        "usr/libexec/virtiofsd",
        "usr/lib/qemu/virtiofsd",
        "usr/lib/virtiofsd",
        "usr/bin/virtiofsd",
    ];
    match layer {
        Some(layer) => layer.find(&places),
        None => places.iter().map(|place| Path::new("/").join(place)).find(|path| path.exists()),
    }
}

/// Starts the machine with our own program as its first process.
pub(crate) fn boot(parts: &Parts, place: &Place, scratch: &Path) -> Result<Booted> {
    let emulator = &parts.emulator;
    let qemu = emulator
        .find(&["usr/bin/qemu-system-x86_64"])
        .or_else(|| packages::find_program("qemu-system-x86_64"))
        .context("no qemu-system-x86_64 in the package qemu-system-x86")?;
    let kernel = image(&parts.kernel)?;
    let modules = first(&parts.kernel.under().join("usr/lib/modules"), "")
        .context("no modules in the kernel's package")?;
    let (ours, theirs) = UnixStream::pair().context("socketpair")?;
    let console = place.console("qemu")?;

    // The daemons are talkative: what they say is only of interest where they failed.
    let daemons = place.run.join("virtiofsd.log");
    let daemons_log = File::options().create(true).append(true).open(&daemons)?;
    let mut children = Vec::new();
    for (tag, folder, writable) in [
        ("rootfs", Path::new("/"), false),
        ("layers", &place.cache.join("layers"), false),
        ("scratch", scratch, true),
    ] {
        children.push(serve(emulator, place, tag, folder, writable, &daemons_log)?);
    }

    let memory = place.memory_mib;
    let mut command = Command::new(&qemu);
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.args(["-accel", "tcg,thread=single", "-cpu", "Nehalem,cx16=off", "-smp", "1"]);
    command.args(["-machine", "q35,memory-backend=memory"]).arg("-m").arg(format!("{memory}M"));
    command.arg("-object").arg(format!("memory-backend-memfd,id=memory,size={memory}M,share=on"));
    for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        if let Some(folder) = emulator.find(&[folder]) {
            command.arg("-L").arg(folder);
        }
    }
    for tag in ["rootfs", "layers", "scratch"] {
        // The path is relative: that of a socket may have 107 bytes only.
        command.arg("-chardev").arg(format!("socket,id={tag},path={tag}.socket"));
        command
            .arg("-device")
            .arg(format!("vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"));
    }
    let log = console.path.display().to_string().replace(',', ",,");
    command
        .arg("-chardev")
        .arg(format!("file,id=console,path={log},append=on"))
        .args(["-serial", "chardev:console"]);
    // The channel is standard input: a socket in both directions.
    command.args([
        "-device",
        "virtio-rng-pci",
        "-device",
        "virtio-serial-pci",
        "-chardev",
        "socket,id=wire,fd=0",
    ]);
    command.arg("-device").arg(format!("virtserialport,chardev=wire,name={}", guest::PORT));
    command.arg("-kernel").arg(kernel);
    let program = place.program.display();
    command.arg("-append").arg(format!(
        "root=rootfs rootfstype=virtiofs ro console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr {}={} {}={} init={program} -- {}",
        guest::CHANNEL,
        guest::PORT,
        guest::MODULES,
        modules.display(),
        guest::ARGUMENT,
    ));
    command.env("LD_LIBRARY_PATH", emulator.library_path()).current_dir(&place.run);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(console.file.try_clone()?).stderr(console.file.try_clone()?).process_group(0);
    let child = sys::die_with_parent(&mut command)
        .spawn()
        .with_context(|| format!("cannot run {}", qemu.display()))?;
    drop(command);
    children.push(child);
    let emulator = Emulator::new(children, &ours)?;
    Ok(Booted { wire: ours, emulator, logs: vec![console.path, daemons] })
}

/// Starts a daemon that serves a folder to the guest.
fn serve(
    layer: &Layer,
    place: &Place,
    tag: &str,
    folder: &Path,
    writable: bool,
    log: &File,
) -> Result<Child> {
    let program = virtiofsd(Some(layer))
        .context("no virtiofsd in the packages qemu-system-common and virtiofsd")?;
    // Bound through a short name of the folder: that of a socket may have 107 bytes only.
    let run = File::open(&place.run)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{tag}.socket", run.as_raw_fd()))
        .with_context(|| format!("cannot make a socket in {}", place.run.display()))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--");
    if !writable {
        command.arg(&place.program).args([guest::ARGUMENT, guest::READ_ONLY]);
    }
    command.arg(program).arg("--fd=0").arg("-o").arg(format!("source={}", folder.display()));
    command.args([
        "-o",
        if writable { "cache=auto" } else { "cache=always" },
        "-o",
        "sandbox=chroot",
    ]);
    command.env("LD_LIBRARY_PATH", layer.library_path()).current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    command.stdout(log.try_clone()?).stderr(log.try_clone()?).process_group(0);
    sys::die_with_parent(&mut command).spawn().context("cannot run unshare (of util-linux)")
}

/// The kernel's image.
fn image(layer: &Layer) -> Result<PathBuf> {
    first(&layer.under().join("boot"), "vmlinuz")
        .or_else(|| first(&layer.over().join("boot"), "vmlinuz"))
        .context("no vmlinuz in the kernel's package")
}

fn first(folder: &Path, start: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .find(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_taken_by_its_lasting_name() {
        let names = [
            "linux-image-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
            "linux-image-6.9-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64-dbg",
            "linux-image-6.12-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(newest_kernel(&names).as_deref(), Some("linux-image-6.12-cloud-amd64"));
        assert_eq!(newest_kernel(&names[..2]), None);
        assert_eq!(default_kernel(&names[..2]).as_deref(), Some("linux-image-cloud-amd64"));
        assert_eq!(default_kernel(&[]), None);
    }
}
