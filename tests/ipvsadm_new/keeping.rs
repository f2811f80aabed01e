//! Edits with `--keep`.

use super::*;

#[test]
fn an_edit_that_keeps_changes_what_it_names_and_nothing_else() {
    let memory = table(RULES);
    let before = saved(&memory);
    for (words, from, to) in [
        (
            "-e --keep -t 10.0.0.1:80 -r 10.0.1.1:8080 -w 0",
            "-r 10.0.1.1:8080 -m -w 5 -x 100 -y 50",
            "-r 10.0.1.1:8080 -m -w 0 -x 100 -y 50",
        ),
        (
            "--edit-server -t 10.0.0.1:80 -r 10.0.1.2:80 --tun-port 7000 --keep",
            "--tun-port 6080 --tun-remcsum",
            "--tun-port 7000 --tun-remcsum",
        ),
        (
            "-E -t 10.0.0.1:80 --keep -p 90",
            "-s sh -p 60 -b sh-port,flag-3",
            "-s sh -p 90 -b sh-port,flag-3",
        ),
        ("-E -f 7 -6 --keep -s wlc", "-A -f 7 -6 -s rr", "-A -f 7 -6 -s wlc"),
    ] {
        let memory = table(RULES);
        let words: Vec<&str> = words.split(' ').collect();
        let ran = ipvsadm(&memory, &words, "");
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0), "{words:?}");
        assert!(before.contains(from), "{before}");
        assert_eq!(saved(&memory), before.replace(from, to));
    }
}

#[test]
fn an_edit_that_changes_nothing_sends_nothing() {
    let memory = table(RULES);
    let batches = memory.0.borrow().batches;
    for words in [
        &["-e", "--keep", "-t", "10.0.0.1:80", "-r", "10.0.1.1:8080", "-w", "5"][..],
        &["-E", "--keep", "-f", "7", "-6", "-s", "rr"],
    ] {
        let ran = ipvsadm(&memory, words, "");
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    }
    assert_eq!(memory.0.borrow().batches, batches);
}

#[test]
fn what_is_not_there_cannot_be_edited_and_is_named() {
    let memory = table(RULES);
    let before = saved(&memory);
    for (words, text) in [
        ("-E --keep -t 10.0.0.9:80 -p", "No such service: tcp 10.0.0.9:80"),
        ("-e --keep -t 10.0.0.9:80 -r 10.0.1.1", "No such service: tcp 10.0.0.9:80"),
        (
            "-e --keep -f 7 -6 -r fd00::1 -w 1",
            "No such destination: [fd00::1]:0 is none of mark 7 IPv6",
        ),
        (
            "-e --keep -t 10.0.0.1:80 -r 10.0.1.1 -w 0",
            "No such destination: 10.0.1.1:80 is none of tcp 10.0.0.1:80, 10.0.1.1:8080 is one",
        ),
    ] {
        let ran = ipvsadm(&memory, &words.split(' ').collect::<Vec<_>>(), "");
        assert_eq!((ran.err, ran.status), (format!("{text}\n"), 255));
    }
    let mixed = "-e --keep -t 10.0.0.1:80 -r 10.0.1.1:8080 -x 10";
    let ran = ipvsadm(&memory, &mixed.split(' ').collect::<Vec<_>>(), "");
    assert!(ran.err.starts_with("The lower threshold (50) would be above"), "{}", ran.err);
    assert_eq!((ran.status, saved(&memory)), (2, before));
}

#[test]
fn a_restore_edits_after_the_lines_before_and_goes_on_after_what_is_not_there() {
    let memory = Memory::default();
    let rules = "-A -t 10.0.0.1:80 -s rr\n\
                 -a -t 10.0.0.1:80 -r 10.0.1.1 -m -w 5\n\
                 -e --keep -t 10.0.0.1:80 -r 10.0.1.9 -w 7\n\
                 -e --keep -t 10.0.0.1:80 -r 10.0.1.1 -w 7\n";
    let ran = ipvsadm(&memory, &["-R"], rules);
    assert!(ran.err.starts_with("No such destination: 10.0.1.9:80"), "{}", ran.err);
    assert_eq!(ran.status, 0, "that of the last line");
    assert!(saved(&memory).contains("-r 10.0.1.1:80 -m -w 7\n"));
    // A file that describes a table says what all of it is.
    let ran = ipvsadm(&memory, &["--diff"], "-A -t 10.0.0.1:80\n-E --keep -t 10.0.0.1:80 -p\n");
    assert!(ran.err.contains("describes no part of a table"), "{}", ran.err);
}
