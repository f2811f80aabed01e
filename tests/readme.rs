//! README's walk-through and the tutorial, run as a newcomer would: every line of them, in the lab.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cvip_lab::Process;

/// A document of the project.
fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The shell blocks of a text, after the first one, which builds the programs.
fn blocks(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh\n").skip(1);
    let mut blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default());
    let build = blocks.next().expect("there are shell blocks");
    assert!(build.contains("cargo xtask build"), "the first block builds: {build}");
    blocks.collect()
}

/// Types the blocks into one shell, which has to succeed within `seconds`, and gives what it wrote.
fn type_in(blocks: &[&str], seconds: u64) -> String {
    cvip_lab::require();
    let programs = cvip_lab::built_programs();
    let script = format!("set -e\nPATH={}:$PATH\n{}", programs.display(), blocks.concat());
    let dir = tempfile::tempdir().unwrap();
    // Files, not pipes: the daemons that the script starts keep what they inherit open.
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut command = Command::new("timeout");
    let within = seconds.to_string();
    command.args([within.as_str(), "bash", "-c", &script]).stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut shell = Process::spawn_group(command).unwrap();
    let status = shell.wait(Duration::from_secs(seconds + 30));
    // The group, with everything that the script left running.
    drop(shell);
    let (out, err) = (fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap());
    assert!(status.as_ref().is_ok_and(|s| s.success()), "{status:?}\n{out}\n{err}");
    out
}

#[test]
fn a_newcomer_puts_two_namespaces_behind_a_cvip_with_the_readme_alone() {
    let readme = document("README.md");
    let heading = "Two network namespaces of your own";
    let section = readme.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the README has no section `{heading}`"));
    let out = type_in(&blocks(section), 60);
    for expected in ["this is node1", "this is node2", "192.168.200.2:80", "cgroup BPF"] {
        assert!(out.contains(expected), "no `{expected}` in:\n{out}");
    }
}

/// In a kernel of its own: the names of the namespaces are README's too.
mod tutorial {
    use super::{blocks, document, type_in};

    #[test]
    fn a_newcomer_s_cluster_survives_a_kill_a_drain_and_the_death_of_its_director() {
        let out = type_in(&blocks(&document("docs/tutorial.md")), 180);
        // In this order: all of eight requests by the other node after the kill, and after the drain;
        // the takeover, and the one by order.
        let mut rest = out.as_str();
        for expected in [
            "8 this is node4",
            "node 4 is drained: a new disk",
            "8 this is node3",
            "took over from node 1",
            "node 1 is the active director",
        ] {
            let at = rest.find(expected).unwrap_or_else(|| panic!("no `{expected}` in:\n{rest}"));
            rest = &rest[at + expected.len()..];
        }
    }
}
