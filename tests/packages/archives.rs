//! The packages as archives: Debian's policy, and what rpm reads.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cvip_lab::process::{shown, stdout};
use cvip_lab::require;

use crate::root::{debs, packages};

#[test]
fn lintian_finds_no_error() {
    require();
    let mut command = Command::new("lintian");
    command.args([
        "--allow-root",
        "--fail-on=error",
        "--no-tag-display-limit",
        "--tag-display-limit=0",
    ]);
    let output = command.args(debs(&packages())).output().unwrap();
    let (said, complained) = shown(&output);
    println!("{said}{complained}");
    assert!(output.status.success(), "{}\n{said}{complained}", output.status);
}

#[test]
fn both_packages_depend_on_the_c_library_of_debian_11() {
    for deb in debs(&packages()) {
        let asked =
            stdout(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Depends")).unwrap();
        let packages: Vec<&str> = asked.trim().split(", ").collect();
        assert!(packages.contains(&"libc6 (>= 2.31)"), "{asked}");
        // The tool alone needs nothing else.
        let is_alone = deb.file_name().unwrap().to_string_lossy().starts_with("ipvsadm-rs");
        assert_eq!(packages.len() == 1, is_alone, "{asked}");
    }
}

fn rpms() -> Vec<PathBuf> {
    let entries = fs::read_dir(packages()).unwrap().map(|entry| entry.unwrap().path());
    let mut rpms: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "rpm")).collect();
    rpms.sort();
    assert_eq!(rpms.len(), 2, "{rpms:?}");
    rpms
}

#[test]
fn rpm_reads_the_packages_and_installs_their_files() {
    require();
    let [cvip, ipvsadm] = &rpms()[..] else { unreachable!() };
    let rpm = |words: &[&str], package: &PathBuf| {
        stdout(Command::new("rpm").args(words).arg(package)).unwrap()
    };
    for package in [cvip, ipvsadm] {
        rpm(&["--checksig", "--nosignature"], package);
    }
    let files = rpm(&["-qpl"], cvip);
    for file in
        ["/usr/sbin/cvipd", "/usr/share/man/man8/cvipd.8", "/usr/lib/systemd/system/cvipd.service"]
    {
        assert!(files.lines().any(|line| line == file), "{files}");
    }
    assert_eq!(rpm(&["-qpc"], cvip), "/etc/cvip/cvip.toml\n/etc/default/cvipd\n");
    let asked = rpm(&["-qpR"], ipvsadm);
    assert!(asked.contains("glibc >= 2.31\n"), "{asked}");
    assert!(!asked.contains("cvip"), "{asked}");

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for package in [cvip, ipvsadm] {
        rpm(&["--root", root, "-i", "--nodeps", "--noscripts"], package);
    }
    let program = folder.path().join("usr/sbin/cvipctl");
    let said = stdout(Command::new(program).arg("--version")).unwrap();
    assert_eq!(said, format!("cvipctl {}\n", env!("CARGO_PKG_VERSION")));
    let verified =
        stdout(Command::new("rpm").args(["--root", root, "-V", "--nodeps", "cvip"])).unwrap();
    assert_eq!(verified, "");
}
