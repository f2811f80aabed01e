//! Turns package files into a folder that can lie under another root file system.
//!
//! `dpkg-deb -x` unpacks what is in the archive and runs no script of the package, so the few things that such scripts
//! would do, and that the lab relies on, are done here.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::layer::Layer;

/// Links that a package's script would make: (the link, its target as seen from beside it).
const LINKS: &[(&str, &str)] = &[
    ("usr/bin/nc", "nc.openbsd"),
    ("usr/bin/netcat", "nc.openbsd"),
    ("etc/nginx/sites-enabled/default", "../sites-available/default"),
];

/// Unpacks one package file into a folder.
pub(crate) fn archive(file: &Path, into: &Path) -> Result<()> {
    let output = Command::new("dpkg-deb")
        .arg("-x")
        .arg(file)
        .arg(into)
        .output()
        .context("cannot run dpkg-deb")?;
    if !output.status.success() {
        // Damaged on disk: the next run must not meet the same file again.
        let _ = fs::remove_file(file);
        bail!("dpkg-deb -x {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Moves `bin`, `sbin` and `lib*` of an unpacked package to `usr`, where the root below which it will lie has links in
/// their place. A folder laid under a link would never be seen.
pub(crate) fn merge_usr(layer: &Path, root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let old = layer.join(name);
        let is_folder = old.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        // lib64 may be absent from the host where nothing needs it; merged hosts have at least `bin` as a link.
        let merged = root.join("bin").is_symlink()
            && !root.join(name).symlink_metadata().is_ok_and(|m| m.is_dir());
        if is_folder && merged {
            move_into(&old, &layer.join("usr").join(name))?;
        }
    }
    Ok(())
}

/// Moves everything in one folder into another, which may have some of it already.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && target.is_dir() {
            move_into(&entry.path(), &target)?;
        } else if target.symlink_metadata().is_ok() {
            // The same name in both: what is in usr stays, as dpkg itself would have had one file only.
            fs::remove_file(entry.path())?;
        } else {
            fs::rename(entry.path(), &target)
                .with_context(|| format!("cannot move to {}", target.display()))?;
        }
    }
    fs::remove_dir(from).with_context(|| format!("cannot remove {}", from.display()))
}

/// Does what the packages' own scripts would have done, by means of a layer with kmod.
pub(crate) fn finish(layer: &Layer, tools: &Layer) -> Result<()> {
    for half in [layer.over(), layer.under()] {
        for (link, target) in LINKS {
            let link = half.join(link);
            if link.with_file_name(target).exists() && link.symlink_metadata().is_err() {
                symlink(target, &link)?;
            }
        }
        // User-mode Linux keeps its modules elsewhere; everything looks for them in /lib/modules.
        let uml = half.join("usr/lib/uml/modules");
        for release in folders(&uml) {
            let link = half.join("usr/lib/modules").join(&release);
            fs::create_dir_all(half.join("usr/lib/modules"))?;
            symlink(Path::new("../uml/modules").join(&release), link)?;
        }
        for release in folders(&half.join("usr/lib/modules")) {
            if !half.join("usr/lib/modules").join(&release).join("modules.dep").exists() {
                depmod(tools, &half, &release)?;
            }
        }
    }
    Ok(())
}

fn folders(path: &Path) -> Vec<std::ffi::OsString> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect()
}

/// Writes `modules.dep` and its like for a kernel whose package leaves that to its script.
fn depmod(tools: &Layer, half: &Path, release: &std::ffi::OsStr) -> Result<()> {
    // Its many names are links from the root, which on the host would lead astray: it goes by the name it is called.
    let program = tools
        .find(&["usr/bin/kmod", "bin/kmod"])
        .context("no depmod: install kmod (apt-get install kmod, dnf install kmod)")?;
    // Some versions look in /lib, some in /usr/lib.
    let link = half.join("lib");
    let linked = link.symlink_metadata().is_err() && symlink("usr/lib", &link).is_ok();
    let output = Command::new(&program)
        .arg0("depmod")
        .env("LD_LIBRARY_PATH", tools.library_path())
        .arg("-b")
        .arg(half)
        .arg(release)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if linked {
        fs::remove_file(&link)?;
    }
    if !output.status.success() {
        bail!("depmod for {release:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_links_on_the_host_move_to_usr() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path();
        let (layer, root) = (here.join("layer"), here.join("root"));
        fs::create_dir_all(layer.join("sbin")).unwrap();
        fs::create_dir_all(layer.join("usr/sbin")).unwrap();
        fs::write(layer.join("sbin/ipvsadm"), "a").unwrap();
        fs::write(layer.join("usr/sbin/nginx"), "b").unwrap();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        for name in ["bin", "sbin"] {
            symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        merge_usr(&layer, &root).unwrap();
        assert!(!layer.join("sbin").exists());
        assert_eq!(fs::read_to_string(layer.join("usr/sbin/ipvsadm")).unwrap(), "a");
        assert_eq!(fs::read_to_string(layer.join("usr/sbin/nginx")).unwrap(), "b");
    }

    #[test]
    fn a_host_that_is_not_merged_keeps_its_folders() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path();
        let (layer, root) = (here.join("layer"), here.join("root"));
        fs::create_dir_all(layer.join("sbin")).unwrap();
        for name in ["bin", "sbin", "usr/bin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        merge_usr(&layer, &root).unwrap();
        assert!(layer.join("sbin").is_dir());
    }

    #[test]
    fn a_file_in_both_places_does_not_stop_the_move() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path();
        let (layer, root) = (here.join("layer"), here.join("root"));
        fs::create_dir_all(layer.join("bin/deep")).unwrap();
        fs::create_dir_all(layer.join("usr/bin/deep")).unwrap();
        fs::write(layer.join("bin/deep/x"), "old").unwrap();
        fs::write(layer.join("usr/bin/deep/x"), "new").unwrap();
        fs::create_dir_all(&root).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        merge_usr(&layer, &root).unwrap();
        assert_eq!(fs::read_to_string(layer.join("usr/bin/deep/x")).unwrap(), "new");
    }
}
