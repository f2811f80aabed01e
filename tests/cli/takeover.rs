//! `cvipctl takeover` beside a cvipd that answers: what it says the first time, and again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use super::{CLUSTERTAB, GOOD, cvipctl, text};

/// What `takeover` prints where cvipd says that its role was this.
fn takeover(role: &str, options: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cvip.conf"), GOOD).unwrap();
    fs::write(folder.path().join("clustertab"), CLUSTERTAB).unwrap();
    fs::create_dir(folder.path().join("run")).unwrap();
    let listener = UnixListener::bind(folder.path().join("run/cvipd-1.sock")).unwrap();
    let status = format!(
        "{{\"status\":{{\"pid\":1,\"node\":1,\"roles\":[\"{role}\"],\"faults\":[],\
         \"store_requests\":0}}}}"
    );
    let cvipd = std::thread::spawn(move || {
        for answer in [status, "\"done\"".to_owned()] {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            writeln!(stream, "{answer}").unwrap();
        }
    });
    let output = cvipctl(folder.path(), &["takeover", "--node=1"], options);
    cvipd.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    text(&output.stdout)
}

#[test]
fn a_takeover_says_who_is_the_active_director_and_a_second_one_that_it_was() {
    assert_eq!(takeover("standby", &[]), "node 1 is the active director\n");
    let again = "node 1 was the active director already: nothing to do\n";
    assert_eq!(takeover("director", &[]), again);
}

#[test]
fn a_takeover_is_told_as_json() {
    for (role, changed) in [("standby", true), ("director", false)] {
        let told: serde_json::Value = serde_json::from_str(&takeover(role, &["--json"])).unwrap();
        assert_eq!(told, serde_json::json!({ "schema": 1, "changed": changed, "node": 1 }));
    }
}
