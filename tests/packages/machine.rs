//! A fresh root, booted: Debian's service manager runs in it, on a host's network.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use cvip_lab::systemd::MASKED;
use cvip_lab::{Namespace, Process, until_some};

use crate::root::{Root, said, shell};

/// Mounts what a container has, and starts its first process. The arguments are the root, and a folder of the lab that
/// is to be its /run/cvip.
const INIT: &str = r#"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t tmpfs -o mode=755 run "$1/run"
mount --rbind /dev "$1/dev"
mkdir "$1/run/cvip"
mount --bind "$2" "$1/run/cvip"
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" /lib/systemd/systemd --log-target=console --show-status=false
"#;

/// A booted machine. It is switched off when this is dropped.
pub(crate) struct Machine {
    /// Its root file system.
    pub(crate) root: Root,
    log: PathBuf,
    init: u32,
    _process: Process,
}

impl Machine {
    /// Boots it on a host's network, with a folder that it shares with the other hosts as /run/cvip.
    #[track_caller]
    pub(crate) fn boot(root: Root, host: &Namespace, shared: &Path) -> Machine {
        let units = root.folder.join("etc/systemd/system");
        for unit in MASKED {
            symlink("/dev/null", units.join(unit)).unwrap();
        }
        // Without a number it would be its first boot, at which every unit is enabled.
        let number = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().replace('-', "");
        fs::write(root.folder.join("etc/machine-id"), number).unwrap();
        let log = root.folder.with_file_name("log");
        let output = fs::File::create(&log).unwrap();
        let mut command = host.command("unshare");
        command.args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]);
        command.args(["sh", "-ec", INIT, "init"]).arg(&root.folder).arg(shared);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let process = Process::spawn(command).unwrap();
        let pid = process.pid();
        let init = until_some("the machine's first process runs", || {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        });
        let machine = Machine { root, log, init, _process: process };
        until_some("the machine is up", || {
            let output = machine.shell("systemctl is-system-running").output().unwrap();
            ["running\n", "degraded\n"]
                .iter()
                .any(|up| output.stdout == up.as_bytes())
                .then_some(())
        });
        machine
    }

    /// What a shell on it says to a script, which has to succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        said(&mut self.shell(script), script)
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--root", "--wd"]);
        shell(command, script)
    }
}

impl Drop for Machine {
    /// A test that failed shows what its services thought.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.shell("systemctl list-jobs; systemctl --failed; journalctl --no-pager --lines=60; ip addr").output();
            let journal = journal.map(|output| output.stdout).unwrap_or_default();
            println!("--- journal\n{}", String::from_utf8_lossy(&journal));
            println!("--- log\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
