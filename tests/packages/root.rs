//! A fresh Debian root file system, with the packages in it at /mnt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use cvip_lab::process::{run, text};
use cvip_lab::{built_programs, require, unique_name};

/// Of this version are the packages under `older/`.
pub(crate) const OLDER: &str = "0.0.9-1";

/// This version of the packages.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// Where all of them are; the lab's memory.
const FOLDER: &str = "/run/packages";

/// The folder of the packages.
pub(crate) fn packages() -> PathBuf {
    built_programs().parent().unwrap().to_owned()
}

/// The .deb files of a folder.
pub(crate) fn debs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut debs: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect();
    debs.sort();
    assert_eq!(debs.len(), 2, "{debs:?}");
    debs
}

/// A root file system of a test alone.
pub(crate) struct Root {
    /// Its folder in the lab.
    pub(crate) folder: PathBuf,
}

impl Root {
    /// As the release's installation leaves it.
    pub(crate) fn fresh(release: u8) -> Root {
        require();
        let base = base(release);
        let own = Path::new(FOLDER).join(unique_name("r"));
        let [upper, work, folder] = ["upper", "work", "root"].map(|name| own.join(name));
        for folder in [&upper, &work, &folder] {
            fs::create_dir_all(folder).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            upper.display(),
            work.display()
        );
        mount(&["-t", "overlay", "-o", &layers, "root"], &folder);
        mount(&["--bind", packages().to_str().unwrap()], &folder.join("mnt"));
        Root { folder }
    }

    /// Mounts what programs expect, for commands that are run without a service manager.
    pub(crate) fn furnished(self) -> Root {
        mount(&["-t", "proc", "proc"], &self.folder.join("proc"));
        mount(&["--rbind", "/dev"], &self.folder.join("dev"));
        self
    }

    /// What a shell says in it to a script, which has to succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let mut command = Command::new("chroot");
        command.arg(&self.folder);
        said(&mut shell(command, script), script)
    }
}

/// Adds a shell, that is given a script, to a command that says where.
pub(crate) fn shell(mut command: Command, script: &str) -> Command {
    command.args(["sh", "-ec", script]).env_clear().stdin(Stdio::null());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command
}

/// What a script wrote, both its outputs. It has to succeed.
#[track_caller]
pub(crate) fn said(command: &mut Command, script: &str) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = text(&stdout) + &text(&stderr);
    assert!(status.success(), "{script}: {status}\n{said}");
    said
}

fn mount(words: &[&str], on: &Path) {
    run(Command::new("mount").args(words).arg(on)).unwrap();
}

/// The unpacked root, which is the lowest layer of all.
fn base(release: u8) -> PathBuf {
    static UNPACKED: Mutex<BTreeMap<u8, PathBuf>> = Mutex::new(BTreeMap::new());
    let unpack = || {
        let folder = Path::new(FOLDER).join(format!("debian-{release}"));
        fs::create_dir_all(&folder).unwrap();
        let archive = packages().join(format!("roots/debian-{release}.tar"));
        run(Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(archive)).unwrap();
        folder
    };
    UNPACKED.lock().unwrap().entry(release).or_insert_with(unpack).clone()
}
