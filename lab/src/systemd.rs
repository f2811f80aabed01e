//! A machine with systemd: the lab's own root file system with /etc, /var and /run of its own, and systemd as the first
//! process of a process namespace.
//!
//! Units that are the lab's machine's own, and those that are for hardware, are left out; what a package installs below
//! /etc and /usr is the caller's to name in [`Machine::start`].

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;

use crate::cluster::Host;
use crate::process::{self, Process};
use crate::wait::{PATIENCE, wait_until};

/// The Debian packages that it needs.
pub const PACKAGES: &[&str] = &["systemd"];

/// Units of a distribution that a machine of the lab does not need, or that would change the lab's kernel.
pub const MASKED: &[&str] = &[
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "kmod-static-nodes.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// What is the machine's own, below a folder of memory: every other folder is the lab's.
const BUILD: &str = r#"
mount --make-rprivate /
hostname "$1"
stage=/mnt
mount -t tmpfs -o mode=755 own "$stage"
cp -a /etc "$stage/etc"
cd "$stage"
rm -rf etc/systemd/system etc/modules etc/modules-load.d etc/init.d etc/rc?.d
mkdir -p var/lib var/log var/cache var/tmp root
# Without a number it would be its first boot, at which every unit is enabled.
tr -d - </proc/sys/kernel/random/uuid > etc/machine-id
echo "$1" > etc/hostname
cd /
for folder in /etc /var/lib /var/log /var/cache /var/tmp /root; do mount --bind "$stage$folder" "$folder"; done
cp -a --remove-destination "$2"/* /
systemd-sysusers
mount -t tmpfs -o mode=1777 own /tmp
mount -t tmpfs -o mode=755 own /run
mkdir -p /run/lock
mount -t proc proc /proc
mount --bind /dev/null /dev/console
# A cgroup of its own below the root of the hierarchy: the whole of it stays in sight, as on a machine.
mkdir -p "/sys/fs/cgroup/$1"
echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"
# As systemd itself does where it is the machine's: units with mounts of their own take those of others from it.
mount --make-rshared /
umask 022
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no --log-target=journal
"#;

/// A machine that runs systemd; it ends, with all that runs on it, when this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// unshare(1), whose child is the machine's first process.
    outer: Process,
    /// The number of systemd's process, as the lab sees it.
    first: Pid,
    group: PathBuf,
    log: PathBuf,
}

impl Machine {
    /// Starts a machine on a host's network, with these files copied over its root, and waits until it is up.
    ///
    /// # Errors
    /// It does not come up; the error has what it wrote.
    pub fn start(host: &Host, files: &Path) -> Result<Machine> {
        ensure!(
            Path::new("/lib/systemd/systemd").exists(),
            "there is no systemd in the lab: it comes with the package systemd"
        );
        let units = files.join("etc/systemd/system");
        fs::create_dir_all(&units)?;
        for unit in MASKED {
            symlink("/dev/null", units.join(unit))
                .with_context(|| format!("cannot mask {unit}"))?;
        }
        let name = host.name().to_owned();
        let log = std::env::temp_dir().join(format!("{name}.systemd"));
        let said = File::create(&log)?;
        let mut command = host.command("unshare");
        command.args(["--mount", "--pid", "--uts", "--fork", "--kill-child", "/bin/sh"]);
        command.args(["-euc", BUILD, "sh", &name]).arg(files);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let outer = Process::spawn(command)?;
        let group = Path::new("/sys/fs/cgroup").join(&name);
        let children = format!("/proc/{0}/task/{0}/children", outer.pid());
        let first = wait_until(PATIENCE, || {
            let text = fs::read_to_string(&children).ok()?;
            Some(Pid::from_raw(text.split_whitespace().next()?.parse().ok()?))
        });
        let Some(first) = first else {
            bail!("{name} did not start: {}", fs::read_to_string(&log).unwrap_or_default());
        };
        let machine = Machine { name, outer, first, group, log };
        machine.await_up()?;
        Ok(machine)
    }

    fn await_up(&self) -> Result<()> {
        let mut last = String::new();
        let up = wait_until(2 * PATIENCE, || {
            let output = self.command("systemctl").args(["is-system-running"]).output().ok()?;
            last = process::text(&output.stdout).trim().to_owned();
            matches!(last.as_str(), "running" | "degraded").then_some(())
        });
        up.with_context(|| format!("{} is not up ({last}): {}", self.name, self.report()))
    }

    /// A command on the machine, as root.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first));
        command.args(["--mount", "--pid", "--uts", "--net", "--root", "--wd", "--", program]);
        command.env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0").stdin(Stdio::null());
        command
    }

    /// Runs a command line of plain words on the machine to its end, whatever its status.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn try_line(&self, line: &str) -> Result<Output> {
        let mut words = line.split_whitespace();
        let program = words.next().context("no command")?;
        Ok(self.command(program).args(words).output()?)
    }

    /// The same; what it wrote to its standard output.
    ///
    /// # Errors
    /// It cannot be run or fails; the error has what it wrote.
    pub fn line(&self, line: &str) -> Result<String> {
        let output = self.try_line(line)?;
        let (out, err) = process::shown(&output);
        ensure!(
            output.status.success(),
            "{line} on {}: {}\n{out}{err}\n{}",
            self.name,
            output.status,
            self.report()
        );
        Ok(out)
    }

    /// The path in the lab of a file on the machine.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// The number in the lab of a process of the machine.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn process(&self, number: u32) -> Result<Pid> {
        let mut inside = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
            let outer: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            let of_machine = numbers.len() == 2 && numbers[1] == number.to_string();
            (of_machine && self.has(outer)).then(|| Pid::from_raw(outer))
        });
        inside.next().with_context(|| format!("{} has no process {number}", self.name))
    }

    /// Whether a process is in the machine's process namespace.
    fn has(&self, process: i32) -> bool {
        let namespace = |of: i32| fs::read_link(format!("/proc/{of}/ns/pid")).ok();
        namespace(process).is_some_and(|of| Some(of) == namespace(self.first.as_raw()))
    }

    /// What failed on it, for people.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = fs::read_to_string(&self.log).unwrap_or_default();
        for line in [
            "systemctl --failed --no-legend",
            "systemctl list-jobs",
            "journalctl -b --no-pager -n 60",
        ] {
            if let Ok(output) = self.try_line(line) {
                let _ = writeln!(report, "--- {line}\n{}", process::text(&output.stdout));
            }
        }
        report
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process takes all others along.
        let _ = nix::sys::signal::kill(self.first, nix::sys::signal::Signal::SIGKILL);
        let _ = self.outer.wait(PATIENCE);
        let _ = fs::remove_file(&self.log);
        let _ = Command::new("find")
            .arg(&self.group)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .stderr(Stdio::null())
            .status();
    }
}
