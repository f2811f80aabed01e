//! The README's walk-through, run as a newcomer would: every line of it, in the lab.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use cvip_lab::Process;

/// The shell blocks under a heading of the README.
fn blocks(heading: &str) -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the README has no section `{heading}`"));
    let blocks = section.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_newcomer_puts_two_namespaces_behind_a_cvip_with_the_readme_alone() {
    cvip_lab::require();
    let programs = cvip_lab::built_programs();
    let blocks = blocks("Two network namespaces of your own");
    let (build, rest) = blocks.split_first().expect("the section has shell blocks");
    assert!(build.contains("cargo xtask build"), "the first block builds: {build}");
    let script = format!("set -e\nPATH={}:$PATH\n{}", programs.display(), rest.concat());
    let dir = tempfile::tempdir().unwrap();
    // Files, not pipes: the daemons that the script starts keep what they inherit open.
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", &script]).stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut shell = Process::spawn_group(command).unwrap();
    let status = shell.wait(Duration::from_secs(90));
    // The group, with everything that the script left running.
    drop(shell);
    let (out, err) = (fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap());
    assert!(status.as_ref().is_ok_and(|s| s.success()), "{status:?}\n{out}\n{err}");
    for expected in ["this is node1", "this is node2", "192.168.200.2:80", "cgroup BPF"] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}\n{err}");
    }
}
