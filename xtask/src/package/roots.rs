//! Fresh Debian root file systems, for packages to be installed in.
//!
//! Each is made once, by mmdebstrap, and kept as a tar archive: the tests unpack it in the lab, where they are root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The number of each release, and its name.
const RELEASES: [(u8, &str); 2] = [(12, "bookworm"), (13, "trixie")];

/// What is in them beside what every Debian has: a service manager, and what the tests ask with.
const PACKAGES: &str = "systemd-sysv,kmod,iproute2";

/// Packages that the tests install there: Debian's own ipvsadm, with what it needs, in /srv/packages.
const FETCH: &str = r#"mkdir "$1/srv/packages" && chroot "$1" sh -ec 'cd /srv/packages
apt-get -qq -o APT::Sandbox::User=root -o Dir::Cache::archives=/srv/packages --no-install-recommends --download-only -y install ipvsadm
rm -rf partial lock'"#;

/// Bump when roots made by older code must be made again.
const FORMAT: u32 = 1;

/// Makes the roots that are not there yet.
///
/// # Errors
/// There is no mmdebstrap to be had, or it cannot make a root here.
pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (number, name) in RELEASES {
        let root = folder.join(format!("debian-{number}.tar"));
        let stamp = root.with_extension("stamp");
        let wanted = format!("{FORMAT} {PACKAGES} {FETCH}");
        if root.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
            continue;
        }
        one(name, &root).with_context(|| {
            format!(
                "no fresh root of Debian {number} can be made here, in which the packages are to be tested \
                 (mmdebstrap and Debian's archive are needed)"
            )
        })?;
        fs::write(stamp, wanted)?;
    }
    Ok(())
}

fn one(name: &str, root: &Path) -> Result<()> {
    println!("making a fresh root of Debian {name} (once) ...");
    let mmdebstrap = cvip_lab::program("mmdebstrap", "mmdebstrap")?;
    let folder = std::path::absolute(root.parent().context("a root has a folder")?)?;
    let new: PathBuf = root.with_extension("new");
    let mode = if nix::unistd::geteuid().is_root() { "root" } else { "unshare" };
    let output = Command::new(mmdebstrap)
        .args([&format!("--mode={mode}"), "--variant=minbase", "--format=tar"])
        .args([&format!("--include={PACKAGES}"), &format!("--customize-hook={FETCH}"), name])
        .arg(std::path::absolute(&new)?)
        // It unpacks there, and devices must be allowed.
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run mmdebstrap")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mmdebstrap: {}", complaint.trim());
    Ok(fs::rename(new, root)?)
}
