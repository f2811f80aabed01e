//! The programs' command lines without a kernel: what they say of files, and with which status.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "cli/leave.rs"]
mod leave;
#[path = "cli/orders.rs"]
mod orders;
#[path = "cli/progress.rs"]
mod progress;
#[path = "cli/takeover.rs"]
mod takeover;

const CLUSTERTAB: &str = "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.3\n";

const GOOD: &str = "<?xml version=\"1.0\"?>
<cvips>
    <routing>DR</routing>
    <cvip>
        <ip_addr>10.0.0.100</ip_addr>
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
        <real_server_node><node_num>2</node_num></real_server_node>
        <service><port>80</port></service>
    </cvip>
</cvips>
";

/// Runs `cvipctl check` on a cvip.conf and a clustertab.
fn check(folder: &Path, conf: &[u8], clustertab: &[u8], options: &[&str]) -> Output {
    fs::write(folder.join("cvip.conf"), conf).unwrap();
    fs::write(folder.join("clustertab"), clustertab).unwrap();
    cvipctl(folder, &["check"], options)
}

/// Runs cvipctl on the folder's files.
fn cvipctl(folder: &Path, command: &[&str], options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cvipctl"))
        .args(command)
        .args(options)
        .env("CVIP_CONF", folder.join("cvip.conf"))
        .env("CVIP_CLUSTERTAB", folder.join("clustertab"))
        .env("CVIP_RUN_DIR", folder.join("run"))
        .env("CVIP_SETTINGS", settings(folder))
        .output()
        .unwrap()
}

/// cvip.toml, which says nothing unless a test wrote it.
fn settings(folder: &Path) -> PathBuf {
    let path = folder.join("cvip.toml");
    if !path.exists() {
        fs::write(&path, "store = \"local\"\n").unwrap();
    }
    path
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("what it prints is UTF-8")
}

#[test]
fn an_empty_or_cut_configuration_is_never_applied() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    let cut = &GOOD[..GOOD.len() / 2];
    let no_cvip = "<cvips><routing>DR</routing></cvips>\n";
    for conf in ["", "\n", "<cvips></cvips>\n", "<!-- nothing -->\n", no_cvip, cut] {
        fs::write(folder.path().join("cvip.conf"), conf).unwrap();
        let output = cvipctl(folder.path(), &["apply", "--node", "1"], &[]);
        assert_eq!((text(&output.stdout), output.status.code()), (String::new(), Some(1)));
        assert!(text(&output.stderr).contains("error: "), "{}", text(&output.stderr));
    }
}

#[test]
fn every_program_says_that_its_output_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    let (ipvsadm, cvipctl) = (env!("CARGO_BIN_EXE_ipvsadm-rs"), env!("CARGO_BIN_EXE_cvipctl"));
    let run = |program: &str, words: &[&str], out: Stdio| {
        Command::new(program)
            .args(words)
            .env("CVIP_CONF", folder.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
            .env("CVIP_RUN_DIR", folder.path().join("run"))
            .env("CVIP_SETTINGS", settings(folder.path()))
            .stdin(Stdio::null())
            .stdout(out)
            .output()
            .unwrap()
    };
    for (program, words) in [
        (ipvsadm, &["--help"][..]),
        (ipvsadm, &["--version"]),
        (cvipctl, &["--help"]),
        (cvipctl, &["check", "--help"]),
        (cvipctl, &["--version"]),
        (cvipctl, &["check"]),
        (env!("CARGO_BIN_EXE_cvipd"), &["--help"]),
        (env!("CARGO_BIN_EXE_setport_weight"), &["--help"]),
    ] {
        // A full disk, and a descriptor that is open, though not for writing.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        for out in [full, fs::File::open("/dev/null").unwrap()] {
            let output = run(program, words, out.into());
            let said = text(&output.stderr);
            assert!(said.contains("cannot write to standard output: "), "{program}: {said:?}");
            assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)), "{said}");
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(program, words, writer.into());
        assert_eq!((text(&output.stderr), output.status.code()), (String::new(), Some(0)));
        // None at all; what is printed nowhere needs none.
        let without = |words: &[&str]| {
            let shell = ["-c", "exec \"$0\" \"$@\" >&-", program];
            run("sh", &[&shell, words].concat(), Stdio::piped())
        };
        let output = without(words);
        let said = text(&output.stderr);
        assert!(said.contains("cannot write to standard output: Bad file"), "{program}: {said:?}");
        assert_eq!((said.lines().count(), output.status.code()), (1, Some(1)), "{said}");
        let said = text(&without(&["--no-such-option"]).stderr);
        assert!(!said.is_empty() && !said.contains("standard output"), "{program}: {said}");
    }
}

#[test]
fn a_good_file_is_one_line_and_status_0() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(folder.path(), GOOD.as_bytes(), CLUSTERTAB.as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).ends_with("cvip.conf: DR, 1 CVIP, 2 nodes, 1 service\n"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn every_fault_of_both_files_is_shown_in_one_run_each_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let conf = GOOD
        .replace("<routing>DR", "<routing>FLY")
        .replace("<node_num>2", "<node_num>two")
        .replace("<port>80", "<port>eighty")
        .replace("10.0.0.100", "10.0.0.400");
    let clustertab = format!("{CLUSTERTAB}1 10.0.0.9\n4 nowhere\n");
    let output = check(folder.path(), conf.as_bytes(), clustertab.as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    for place in [
        "cvip.conf:3:",
        "cvip.conf:5:",
        "cvip.conf:7:",
        "cvip.conf:8:",
        "clustertab:4:",
        "clustertab:5:",
    ] {
        assert!(err.contains(place), "nothing about {place}\n{err}");
    }
    for word in ["FLY", "eighty", "10.0.0.400", "nowhere", "^~~"] {
        assert!(err.contains(word), "nothing about {word}\n{err}");
    }
    let json = check(folder.path(), conf.as_bytes(), clustertab.as_bytes(), &["--json"]);
    assert_eq!(json.status.code(), Some(1));
    let faults: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let errors = err.matches("error: ").count();
    assert_eq!(faults["diagnostics"].as_array().unwrap().len(), errors, "{faults:#}\n{err}");
}

#[test]
fn whatever_stands_in_the_file_is_a_fault_with_a_place_and_never_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "<cvips>".repeat(100_000);
    let bomb =
        "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><cvips>&b;</cvips>";
    let long = format!("<cvips><routing>{}</routing></cvips>", "D".repeat(2 << 20));
    let cut = &GOOD[..GOOD.len() / 2];
    let nul = GOOD.replace("DR", "D\0R");
    let files: [&[u8]; 12] = [
        b"",
        b"\n\n\n",
        b"not XML at all",
        b"<cvips/>",
        b"<cvips></cvip>",
        b"\xff\xfe<\x00c\x00v\x00",
        b"\x7fELF\x02\x01\x01\x00\x00",
        deep.as_bytes(),
        bomb.as_bytes(),
        long.as_bytes(),
        cut.as_bytes(),
        nul.as_bytes(),
    ];
    for file in files {
        let shown = String::from_utf8_lossy(&file[..file.len().min(40)]).into_owned();
        let output = check(folder.path(), file, CLUSTERTAB.as_bytes(), &[]);
        assert_eq!(output.status.code(), Some(1), "{shown:?}: {}", text(&output.stderr));
        let err = text(&output.stderr);
        assert!(err.contains("cvip.conf:"), "{shown:?}: no place in {err}");
        assert!(!err.contains("panicked"), "{shown:?}: {err}");
        assert!(err.len() < 10_000, "{shown:?}: {} bytes", err.len());
    }
    for file in [&b"\xff\xfe"[..], b"1 10.0.0.1\n1", b"\x00\x00\x00"] {
        let output = check(folder.path(), GOOD.as_bytes(), file, &[]);
        assert_eq!(output.status.code(), Some(1), "{file:?}");
        assert!(text(&output.stderr).contains("clustertab"), "{output:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_said_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cvipctl"))
        .args(["check", "--conf=/nonexistent/cvip.conf"])
        .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(err.contains("/nonexistent/cvip.conf: error: there is no such file"), "{err}");
}

#[test]
fn nodes_on_several_hosts_are_warned_of_the_embedded_store_unless_it_was_chosen() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.toml"), "").unwrap();
    let output = check(folder.path(), GOOD.as_bytes(), CLUSTERTAB.as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(0), "a warning is no error");
    let err = text(&output.stderr);
    assert!(err.contains("warning") && err.contains("node 1 (10.0.0.1)"), "{err}");
    assert!(err.contains("node 2") && !err.contains("node 3"), "node 3 has no part: {err}");
    assert!(err.contains("cvip.toml(5)"), "{err}");
    let alone = GOOD.replace("<real_server_node><node_num>2</node_num></real_server_node>", "");
    for (conf, options) in
        [(GOOD, &["--store=local"][..]), (GOOD, &["--offline"]), (alone.as_str(), &[])]
    {
        let output = check(folder.path(), conf.as_bytes(), CLUSTERTAB.as_bytes(), options);
        let err = text(&output.stderr);
        assert!(!err.contains("embedded store"), "{conf} {options:?}: {err}");
    }
}

#[test]
fn a_fault_of_cvip_toml_is_shown_at_its_place_by_every_program() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.toml"), "[etcd]\nendpoint = \"a:2379\"\n").unwrap();
    let output = check(folder.path(), GOOD.as_bytes(), CLUSTERTAB.as_bytes(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(err.contains("cvip.toml:2:1: error: ") && err.contains("^~~~"), "{err}");
    for (program, arguments) in [
        (env!("CARGO_BIN_EXE_cvipctl"), &["status"][..]),
        (env!("CARGO_BIN_EXE_setport_weight"), &["--list", "--node=1"]),
        (env!("CARGO_BIN_EXE_cvipd"), &["--node=1"]),
    ] {
        let output = Command::new(program)
            .args(arguments)
            .env("CVIP_CONF", folder.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
            .env("CVIP_RUN_DIR", folder.path().join("run"))
            .env("CVIP_SETTINGS", folder.path().join("cvip.toml"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{program}");
        assert!(text(&output.stderr).contains("cvip.toml:2:1: error: "), "{program}: {output:?}");
    }
}

#[test]
fn a_cluster_key_that_cvipd_refuses_is_a_fault_of_check_with_its_path() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("cluster.key");
    let shown = key.display().to_string();
    fs::write(folder.path().join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    for (content, fault) in [
        (vec![b'k'; 64], "the same byte again and again"),
        (vec![b'k'; 9], "has 9 bytes, and needs 32"),
        (b"key".repeat(30_000), "larger than 65536 bytes"),
        (vec![0xff; 64], "no text in UTF-8"),
    ] {
        fs::write(&key, content).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let option = format!("--cluster-key-file={shown}");
        let checked = cvipctl(folder.path(), &["check"], &[&option]);
        let started = Command::new(env!("CARGO_BIN_EXE_cvipd"))
            .args(["--node=2", &option])
            .env("CVIP_CONF", folder.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
            .env("CVIP_RUN_DIR", folder.path().join("run"))
            .env("CVIP_SETTINGS", settings(folder.path()))
            .output()
            .unwrap();
        for output in [checked, started] {
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{err}");
            assert!(err.contains(&shown) && err.contains(fault), "{err}");
        }
    }
}

#[test]
fn status_knows_no_node_that_stands_nowhere_and_shows_a_faulty_file_as_faulty() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), GOOD.as_bytes(), CLUSTERTAB.as_bytes(), &[]);
    let output = cvipctl(folder.path(), &["status"], &["--node=2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("FAULT: "), "no cvipd runs: {shown}");
    assert!(shown.contains("\nCVIP 10.0.0.100 by DR\n"), "{shown}");
    let output = cvipctl(folder.path(), &["status"], &["--node=77"]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(err.contains("no node 77: cvip.conf and the store know 1, 2"), "{err}");

    check(folder.path(), b"<cvips>", CLUSTERTAB.as_bytes(), &[]);
    let output = cvipctl(folder.path(), &["status"], &["--node=77"]);
    // What else there is to see is shown, and the status says that half of it is missing.
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("FAULT: cvip.conf:1:"), "{shown}");
    assert!(shown.contains("Run: cvipctl check\n") && shown.contains("\nCVIP unknown"), "{shown}");
}

#[test]
fn an_output_that_nobody_reads_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    // The reading end is closed before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_cvipctl"))
        .args(["convert", "--all"])
        .env("CVIP_CONF", folder.path().join("cvip.conf"))
        .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn every_example_is_a_good_file_and_is_converted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders = fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> =
        folders.filter(|path| path.is_dir()).chain(std::iter::once(examples.clone())).collect();
    assert!(folders.len() >= 7, "{folders:?}");
    for folder in folders {
        for words in [&["check"][..], &["convert", "--all"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_cvipctl"))
                .args(words)
                .env("CVIP_CONF", folder.join("cvip.conf"))
                .env("CVIP_CLUSTERTAB", folder.join("clustertab"))
                // Said, so that nobody warns of nodes on other hosts.
                .env("CVIP_STORE", "local")
                .output()
                .unwrap();
            let shown = format!("{}: {words:?}: {output:?}", folder.display());
            assert!(output.status.success() && output.stderr.is_empty(), "{shown}");
            assert!(!output.stdout.is_empty(), "{shown}");
        }
    }
}

#[test]
fn the_ltsp_examples_line_flags_xdmcp_over_udp() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ltsp");
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_setport_weight")).parent().unwrap();
    let run = |program: &Path, words: &[&str]| {
        let output = Command::new(program)
            .args(words)
            .env("PATH", programs)
            .env("CVIP_CONF", examples.join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", examples.join("clustertab"))
            .env("CVIP_RUN_DIR", folder.path())
            .env("CVIP_NODE", "3")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    assert_eq!(run(&examples.join("flag-xdmcp"), &[]), "");
    let list = run(&programs.join("setport_weight"), &["--list", "--json"]);
    let flags: serde_json::Value = serde_json::from_str(&list).unwrap();
    let flag = flags["flags"].as_array().unwrap().iter().find(|flag| flag["level"] == "node");
    let flag = flag.unwrap_or_else(|| panic!("{list}"));
    assert_eq!(
        (&flag["protocol"], &flag["start"], &flag["end"]),
        (&"udp".into(), &177.into(), &177.into(),)
    );
}

#[test]
fn what_journald_reads_has_priorities_and_what_a_file_gets_has_not() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.conf"), "<cvips>\n<routing>FLY</routing></cvips>").unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    let log = folder.path().join("log");
    let start = |is_journal: bool| {
        let file = fs::File::create(&log).unwrap();
        let meta = file.metadata().unwrap();
        let named = match is_journal {
            true => format!("{}:{}", meta.dev(), meta.ino()),
            // Inherited from a service, while the output goes elsewhere.
            false => "1:1".to_owned(),
        };
        let status = Command::new(env!("CARGO_BIN_EXE_cvipd"))
            .arg("--node=1")
            .env("CVIP_CONF", folder.path().join("cvip.conf"))
            .env("CVIP_CLUSTERTAB", folder.path().join("clustertab"))
            .env("CVIP_RUN_DIR", folder.path().join("run"))
            .env("CVIP_SETTINGS", settings(folder.path()))
            .env("JOURNAL_STREAM", named)
            .stderr(file)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(1));
        fs::read_to_string(&log).unwrap()
    };
    let journal = start(true);
    assert!(journal.contains("unknown routing method `FLY`"), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with("<3>")), "{journal}");
    let file = start(false);
    assert!(!file.contains("<3>") && file.contains("`FLY`"), "{file}");
}

#[test]
fn a_slip_of_the_pen_in_cvip_conf_is_refused_and_a_misspelt_owner_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let slip = GOOD.replace("service>", "servcie>");
    let output = check(folder.path(), slip.as_bytes(), CLUSTERTAB.as_bytes(), &["--offline"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `service`?"), "{output:?}");
    let owner = GOOD.replace("<port>80</port>", "<port>80</port><owner>rooot</owner>");
    let output = check(folder.path(), owner.as_bytes(), CLUSTERTAB.as_bytes(), &["--offline"]);
    let err = text(&output.stderr);
    assert!(err.contains("no user rooot here") && err.contains("did you mean `root`?"), "{err}");
}
