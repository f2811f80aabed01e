//! What ipvsadm never had, against a table in memory: no kernel, no privilege.
//!
//! `ipvsadm_extras.rs` has what needs a real kernel.

mod draining;
#[path = "../ipvsadm_support/mod.rs"]
mod ipvsadm_support;
mod keeping;
mod the_unit;
mod willing;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use cvip::ipvsadm::table::{Table, TableError};
use cvip::ipvsadm::watch::Clock;
use cvip::ipvsadm::{Call, ToolStreams, run};
use ipvsadm_support::memory::Memory;
use ipvsadm_support::names::RecordedNames;

/// A clock that passes the time at once, and lets something happen meanwhile.
struct Skipping<F>(Instant, F);

impl<F: FnMut()> Clock for Skipping<F> {
    fn now(&mut self) -> Instant {
        self.0
    }

    fn sleep(&mut self, time: Duration) {
        self.0 += time;
        (self.1)();
    }
}

struct Ran {
    out: String,
    err: String,
    status: u8,
}

fn call(
    words: &[&str],
    stdin: &str,
    meanwhile: impl FnMut(),
    open: impl FnOnce() -> Result<Memory, TableError>,
) -> Ran {
    let mut out = Vec::new();
    let (err, status) = call_into(&mut out, ("ipvsadm", words, stdin), meanwhile, open);
    Ran { out: String::from_utf8(out).expect("UTF-8"), err, status }
}

/// Calls a program with words and an input; what it says on standard error, and the status.
fn call_into<T: Table>(
    out: &mut impl Write,
    (program, words, stdin): (&str, &[&str], &str),
    meanwhile: impl FnMut(),
    open: impl FnOnce() -> Result<T, TableError>,
) -> (String, u8) {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut err = Vec::new();
    let status = run(
        Call { program: OsStr::new(program), words: &words, posix: false },
        ToolStreams { stdin: &mut stdin.as_bytes(), out, err: &mut err, err_is_terminal: false },
        &mut RecordedNames::new(),
        &mut Skipping(Instant::now(), meanwhile),
        open,
    );
    (String::from_utf8(err).expect("UTF-8"), status)
}

fn ipvsadm(memory: &Memory, words: &[&str], stdin: &str) -> Ran {
    call(words, stdin, || {}, || Ok(memory.clone()))
}

fn without_a_kernel(words: &[&str], stdin: &str) -> Ran {
    call(words, stdin, || {}, || panic!("the kernel was asked"))
}

fn table(rules: &str) -> Memory {
    let memory = Memory::default();
    let ran = ipvsadm(&memory, &["-R"], rules);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{rules}");
    memory
}

fn saved(memory: &Memory) -> String {
    ipvsadm(memory, &["-Sn", "--full"], "").out
}

const RULES: &str = "\
-A -t 10.0.0.1:80 -s sh -p 60 -b sh-port,flag-3
-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 5 -x 100 -y 50
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-A -f 7 -6 -s rr
--set 600 60 30
--start-daemon master --mcast-interface lo --syncid 5
";

const BROKEN: &str = "\
# a comment
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.9:80 -r 10.0.1.1
  # another
-a -t 10.0.0.1:80 -r 10.0.1.1 -w x
-a -t 10.0.0.1:80 -r 10.0.1.1
";

#[test]
fn a_report_names_the_failing_lines_and_the_status_is_honest() {
    let memory = Memory::default();
    let ran = ipvsadm(&memory, &["-R", "--report"], BROKEN);
    assert_eq!(
        ran.err,
        "line 3: -a -t 10.0.0.9:80 -r 10.0.1.1: Service not defined\n\
         line 5: -a -t 10.0.0.1:80 -r 10.0.1.1 -w x: illegal weight specified\n\
         1 of 3 lines carried out, 2 failed; ended at line 5, what follows was not carried out\n"
    );
    assert_eq!(ran.status, 255);
    assert_eq!(memory.0.borrow().services[0].1.len(), 0);
    let ran = ipvsadm(&Memory::default(), &["-R", "--report"], RULES);
    assert_eq!((ran.err.as_str(), ran.status), ("6 of 6 lines carried out, 0 failed\n", 0));
}

#[test]
fn keep_going_carries_out_what_can_be_and_stop_on_error_nothing_more() {
    let memory = Memory::default();
    let ran = ipvsadm(&memory, &["-R", "--keep-going"], BROKEN);
    assert!(ran.err.ends_with("2 of 4 lines carried out, 2 failed\n"), "{}", ran.err);
    assert_eq!((ran.status, memory.0.borrow().services[0].1.len()), (255, 1));

    let memory = Memory::default();
    let good_behind = "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80\n-A -t 10.0.0.1:81\n";
    let ran = ipvsadm(&memory, &["-R", "--stop-on-error"], good_behind);
    assert_eq!(
        ran.err,
        "line 2: -A -t 10.0.0.1:80: Service already exists\n\
         1 of 2 lines carried out, 1 failed; ended at line 2, what follows was not carried out\n"
    );
    assert_eq!((ran.status, memory.0.borrow().services.len()), (255, 1));
}

#[test]
fn a_restore_without_the_new_options_is_as_it_was() {
    let memory = Memory::default();
    let hidden = "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80\n-A -t 10.0.0.1:81\n";
    let ran = ipvsadm(&memory, &["-R"], hidden);
    assert_eq!((ran.err.as_str(), ran.status), ("Service already exists\n", 0));
    assert_eq!(ipvsadm(&memory, &["-R"], "# x\n").status, 255);
}

#[test]
fn a_check_needs_no_kernel_and_finds_every_line() {
    let ran = without_a_kernel(&["-R", "--check", "--report"], BROKEN);
    assert_eq!(
        ran.err,
        "line 5: -a -t 10.0.0.1:80 -r 10.0.1.1 -w x: illegal weight specified\n\
         4 lines read, 1 wrong\n"
    );
    assert_eq!(ran.status, 2);
    let ran = without_a_kernel(&["-R", "--check"], RULES);
    assert_eq!((ran.err.as_str(), ran.status), ("6 lines read, 0 wrong\n", 0));
}

#[test]
fn a_check_of_a_document_needs_no_kernel_and_says_what_is_wrong() {
    let check = &["--restore-json", "--check"];
    let text = ipvsadm(&table(RULES), &["-L", "--json"], "").out;
    let ran = without_a_kernel(check, &text);
    assert_eq!((ran.err.as_str(), ran.status), ("4 entries read, 0 wrong\n", 0));
    let ran = without_a_kernel(check, &text.replace("\"weight\"", "\"wei\u{9b}ght\""));
    assert!(ran.err.contains("unknown field `wei\u{fffd}ght`"), "{}", ran.err);
    assert_eq!(ran.status, 2);
    assert_eq!(without_a_kernel(check, "{\"schema\":1,\"services\":[]}").status, 2);
}

#[test]
fn a_line_that_is_wrong_cannot_command_a_terminal() {
    for words in [&["-R", "--check", "--report"][..], &["-R", "--report"], &["--diff"]] {
        let ran = without_a_kernel(words, "-A -t 10.0.0.1:80 -s \x1b[2J -w \u{9b}K\n");
        assert!(ran.err.starts_with("line 1: ") && ran.err.contains('\u{fffd}'), "{}", ran.err);
        assert!(ran.err.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", ran.err);
    }
}

#[test]
fn a_table_that_is_saved_in_full_is_restored_in_full() {
    let memory = table(RULES);
    let full = saved(&memory);
    assert!(full.contains("-w 5 -x 100 -y 50\n") && full.contains("-b sh-port,flag-3\n"), "{full}");
    assert!(full.contains("\n--set 600 60 30\n--start-daemon master --mcast-interface lo"));
    assert_eq!(saved(&table(&full)), full);
    assert!(!ipvsadm(&memory, &["-Sn"], "").out.contains("-x 100"));
}

#[test]
fn json_goes_there_and_back() {
    let memory = table(RULES);
    let back = Memory::default();
    for words in
        [&["-L", "--json"][..], &["-L", "--timeout", "--json"], &["-L", "--daemon", "--json"]]
    {
        let text = ipvsadm(&memory, words, "").out;
        let ran = ipvsadm(&back, &["--restore-json"], &text);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{text}");
    }
    assert_eq!(saved(&back), saved(&memory));
    let text = ipvsadm(&memory, &["-L", "--json"], "").out;
    let ran = ipvsadm(&back, &["--restore-json", "-"], &text);
    assert!(
        ran.err.contains("-s sh -p 60 -b sh-port,flag-3: Service already exists\n"),
        "{}",
        ran.err
    );
    assert_eq!(ran.status, 255);
    assert_eq!(without_a_kernel(&["--restore-json"], "[]").status, 2);
    assert_eq!(without_a_kernel(&["--restore-json", "/no/such/file"], "").status, 2);
}

#[test]
fn diff_says_what_apply_does_and_then_says_nothing() {
    let memory = table(RULES);
    let wanted = "# the new table
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 5 -x 100 -y 50
-a -t 10.0.0.1:80 -r 10.0.1.3:80 -m
-A -u 10.0.0.2:53
";
    let changes = "-A -u 10.0.0.2:53 -s wlc
-a -t 10.0.0.1:80 -r 10.0.1.3:80 -m -w 1
-E -t 10.0.0.1:80 -s rr
-d -t 10.0.0.1:80 -r 10.0.1.2:80
-D -f 7 -6
";
    let before = saved(&memory);
    let ran = ipvsadm(&memory, &["--diff"], wanted);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), (changes, "", 1));
    let ran = ipvsadm(&memory, &["--apply", "--dry-run"], wanted);
    assert_eq!((ran.out.as_str(), ran.status), (changes, 0));
    assert_eq!(saved(&memory), before);

    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(wanted.as_bytes()).expect("written");
    let name = file.path().to_str().expect("UTF-8");
    let ran = ipvsadm(&memory, &["--apply", name], "");
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0));
    let ran = ipvsadm(&memory, &["--diff", name], "");
    assert_eq!((ran.out.as_str(), ran.status), ("", 0));
    // Of time-outs and daemons the file says nothing.
    assert!(saved(&memory).ends_with(
        "--set 600 60 30\n--start-daemon master --mcast-interface lo --syncid 5 --sync-maxlen 1472 \
         --mcast-group 224.0.0.81 --mcast-port 8848 --mcast-ttl 1\n"
    ));
    // And what is saved in full is no difference.
    let full = saved(&memory);
    assert_eq!(ipvsadm(&memory, &["--diff"], &full).status, 0);
}

#[test]
fn a_file_with_a_wrong_line_changes_nothing() {
    let memory = table("-A -t 10.0.0.1:80\n");
    for words in [&["--apply"][..], &["--diff"]] {
        let ran = ipvsadm(&memory, words, "-A -t 10.0.0.2:80\n-L\n-A -t 10.0.0.2:80\n-R\n");
        assert_eq!(ran.status, 2);
        assert_eq!(
            ran.err,
            "line 2: -L: this command describes no part of a table\n\
             line 3: -A -t 10.0.0.2:80: Service already exists\n\
             line 4: -R: Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n\
             3 lines are wrong: nothing was changed\n"
        );
    }
    assert_eq!(memory.0.borrow().services.len(), 1);
    assert_eq!(ipvsadm(&memory, &["--diff", "/no/such/file"], "").status, 2);
}

#[test]
fn apply_takes_nothing_away_if_what_replaces_it_is_refused() {
    let memory =
        table("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.1.1:80 -g\n-A -t 10.0.0.2:80\n");
    let before = saved(&memory);
    // No kernel takes a lower threshold above the upper one.
    let wanted = "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -x 1 -y 2\n--set 9 9 9\n";
    let ran = ipvsadm(&memory, &["--apply"], wanted);
    assert_eq!(
        (ran.err.as_str(), ran.status),
        (
            "-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1 -x 1 -y 2: Numerical result out of range\n\
             left undone: 2 changes that take something away\n",
            255
        )
    );
    assert_eq!(saved(&memory), before.replace("--set 900 120 300", "--set 9 9 9"));
}

#[test]
fn an_interval_shows_what_was_counted_in_it() {
    let memory = table("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.1.1\n");
    let meanwhile = || {
        let mut state = memory.0.borrow_mut();
        let (service, destinations) = &mut state.services[0];
        service.stats.connections += 20;
        destinations[0].stats.in_bytes += 4000;
    };
    let words = ["-Ln", "--interval", "2", "--count", "2"];
    let ran = call(&words, "", meanwhile, || Ok(memory.clone()));
    let round = "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.0.0.1:80                        10        0        0        0        0
  -> 10.0.1.1:80                         0        0        0     2000        0
";
    assert_eq!((ran.out, ran.err.as_str(), ran.status), (round.repeat(2), "", 0));
    let words = ["-L", "--json", "--stats", "--interval", "0.5", "--count", "1"];
    let ran = call(&words, "", meanwhile, || Ok(memory.clone()));
    let value: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(value["services"][0]["stats"]["connections"], 20);
    assert_eq!(value["services"][0]["rate_per_s"]["connections"], 40);
}

#[test]
fn connections_are_filtered() {
    let memory = Memory::default();
    memory.0.borrow_mut().connections = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A000001 9C42 C0000201 0050 C0A8010A 1F90 ESTABLISHED     898
TCP 0A000002 9C42 C0000201 0050 C0A8010A 1F90 FIN_WAIT        100
"
    .to_owned();
    let lines = |words: &[&str]| {
        let ran = ipvsadm(&memory, words, "");
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        ran.out.lines().count() - 2
    };
    assert_eq!(lines(&["-Lnc"]), 2);
    let value: serde_json::Value =
        serde_json::from_str(&ipvsadm(&memory, &["-Lnc", "--json"], "").out).expect("JSON");
    assert_eq!(value["connections"][0]["protocol"], "tcp");
    assert_eq!(lines(&["-Lnc", "--client", "10.0.0.2"]), 1);
    assert_eq!(lines(&["-Lnc", "--state", "established", "--client", "10.0.0.2"]), 0);
    assert_eq!(lines(&["-Lnc", "--service", "192.0.2.1:80", "--protocol", "tcp"]), 2);
    assert_eq!(lines(&["-Lnc", "--destination", "192.168.0.0/16:8080"]), 2);
}

#[test]
fn the_kernels_status_is_shown_where_there_is_one() {
    let memory = Memory::default();
    let ran = ipvsadm(&memory, &["-L", "--status"], "");
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("Linux 7.1"), "{}", ran.err);
    let status = "Conns:\t12\nConn buckets:\t256 (8 bits, lfactor -4)\n";
    memory.0.borrow_mut().status = Some(status.to_owned());
    let ran = ipvsadm(&memory, &["-L", "--status"], "");
    let shown = "Conns                             12\n\
                 Conn buckets                      256 (8 bits, lfactor -4)\n";
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (0, shown, ""));
    let ran = ipvsadm(&memory, &["-L", "--status", "--json"], "");
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(value["status"]["Conn buckets"], "256 (8 bits, lfactor -4)");
}

#[test]
fn the_new_options_say_where_they_belong() {
    for (words, text) in [
        (
            &["-L", "--client", "10.0.0.1"][..],
            "The option 'client' needs the 'connection' option in the 'list' command",
        ),
        (
            &["-L", "--count", "2"],
            "The option 'count' needs the 'interval' option in the 'list' command",
        ),
        (
            &["-Lc", "--interval", "2"],
            "The option 'interval' conflicts with the 'connection' option in the 'list' command",
        ),
        (&["-L", "--interval", "0"], "invalid interval `0' specified"),
        (&["-Lc", "--client", "x/"], "illegal client address[/prefix][:port] specified"),
        (
            &["-R", "--check", "--keep-going"],
            "The option 'check' conflicts with the 'keep-going' option in the 'restore' command",
        ),
        (
            &["-A", "-t", "10.0.0.1:80", "--report"],
            "Illegal 'report' option with the 'add-service' command",
        ),
        (&["--diff", "a", "b"], "unexpected argument b"),
    ] {
        let ran = without_a_kernel(words, "");
        assert_eq!((ran.err, ran.status), (format!("{text}\n"), 2));
    }
}

#[test]
fn a_file_that_describes_nothing_changes_nothing() {
    let memory = table(RULES);
    let before = saved(&memory);
    for words in
        [&["--apply"][..], &["--apply", "--dry-run"], &["--diff"], &["--apply", "/dev/null"]]
    {
        for text in ["", "\n \n", "# only\n  # comments\n", "ipvsadm\n"] {
            let ran = ipvsadm(&memory, words, text);
            assert!(ran.err.contains(": no commands; nothing was changed"), "{}", ran.err);
            assert_eq!((ran.out.as_str(), ran.status), ("", 2), "{words:?} of {text:?}");
        }
        if words.len() > 1 && words[1] == "/dev/null" {
            continue;
        }
        // It speaks of no service, or its end is lost.
        for text in ["--set 1 2 3\n", "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:8", "-C"] {
            let ran = ipvsadm(&memory, words, text);
            assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
            assert_eq!((ran.out.as_str(), ran.status), ("", 2), "{words:?} of {text:?}");
        }
    }
    for text in
        ["", " ", "{}", "{\"schema\":1}", "{\"schema\":1,\"services\":[]}", "{\"schema\":1,"]
    {
        let ran = ipvsadm(&memory, &["--restore-json"], text);
        assert_eq!((ran.out.as_str(), ran.status), ("", 2), "{text:?}");
        assert!(ran.err.starts_with("standard input: "), "{}", ran.err);
    }
    assert_eq!(saved(&memory), before);
    let ran = ipvsadm(&memory, &["--apply"], "# all of it\n-C\n");
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    assert!(saved(&memory).starts_with("--set 600 60 30\n"));
    // Where there are no services, a file without any is right.
    assert_eq!(ipvsadm(&memory, &["--diff"], &saved(&memory)).status, 0);
}

/// A standard output that takes some bytes and then fails.
struct Failing {
    room: usize,
    errno: i32,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match bytes.len().min(self.room) {
            0 => Err(std::io::Error::from_raw_os_error(self.errno)),
            fits => {
                self.room -= fits;
                Ok(fits)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    const ENOSPC: i32 = 28;
    const EPIPE: i32 = 32;
    let memory = table(RULES);
    memory.0.borrow_mut().status = Some("Conns:\t12\n".to_owned());
    let run_with = |words: &str, stdin: &str, room, errno| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let call = ("ipvsadm", &words[..], stdin);
        call_into(&mut Failing { room, errno }, call, || {}, || Ok(memory.clone()))
    };
    for (words, stdin, failed, closed) in [
        ("", "", 1, 0),
        ("-Ln", "", 1, 0),
        ("-L", "", 1, 0),
        ("-Ln --stats", "", 1, 0),
        ("-L --json", "", 1, 0),
        ("-L -t 10.0.0.1:80", "", 1, 0),
        ("-Lnc", "", 1, 0),
        ("-Lc --json", "", 1, 0),
        ("-L --timeout", "", 1, 0),
        ("-L --daemon --json", "", 1, 0),
        ("-L --status", "", 1, 0),
        ("-Ln --interval 1", "", 1, 0),
        ("-Sn", "", 1, 0),
        ("-Sn --full", "", 1, 0),
        ("-h", "", 1, 0),
        ("-v", "", 1, 0),
        ("-R", "-L\n", 1, 0),
        ("--diff", "-C\n", 2, 1),
        ("--apply --dry-run", "-C\n", 1, 0),
    ] {
        for room in [0, 5] {
            let message = "cannot write to standard output: No space left on device\n";
            assert_eq!(run_with(words, stdin, room, ENOSPC), (message.to_owned(), failed));
            assert_eq!(run_with(words, stdin, room, EPIPE), (String::new(), closed), "{words}");
        }
    }
    let (_, status) = run_with("-R --check", "-A\n", 0, ENOSPC);
    assert_eq!(status, 2);
}

#[test]
fn a_table_is_saved_to_a_file_as_one() {
    let memory = table(RULES);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("table");
    let name = path.to_str().expect("UTF-8");
    for words in [&["--save", "-n", name][..], &["--save", name, "-n"]] {
        let ran = ipvsadm(&memory, words, "");
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0));
        let text = std::fs::read_to_string(&path).expect("saved");
        assert_eq!(text, ipvsadm(&memory, &["-Sn"], "").out);
    }
    assert_eq!(ipvsadm(&memory, &["--save", "-n", "-"], "").out.lines().count(), 4);
    // No kernel, no folder, no file: what was there stays, and nothing is left beside it.
    let ran = call(&["--save", name], "", || {}, || Err(TableError::Refused(1)));
    assert_eq!(ran.status, 2);
    for wrong in ["/dev/full", "/no/such/folder/table", folder.path().to_str().expect("UTF-8")] {
        let ran = ipvsadm(&memory, &["--save", "-n", wrong], "");
        assert!(ran.err.starts_with(&format!("{wrong} stays as it was: ")), "{}", ran.err);
        assert_eq!((ran.err.lines().count(), ran.status), (1, 1));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    assert_eq!(ipvsadm(&memory, &["-S", "foo"], "").err, "unexpected argument foo\n");
    assert_eq!(ipvsadm(&memory, &["-R"], "--save foo\n").err, "unexpected argument foo\n");
    assert_eq!(ipvsadm(&memory, &["--save", "foo", "bar"], "").err, "unexpected argument bar\n");
}

#[test]
fn one_service_or_one_family_can_be_saved() {
    let memory = table(RULES);
    let ipvsadm = |words: &[&str]| ipvsadm(&memory, words, "");
    let all = ipvsadm(&["-Sn"]).out;
    let lines = |part: &str| -> String {
        all.lines().filter(|line| line.contains(part)).map(|line| format!("{line}\n")).collect()
    };
    for words in [&["-Sn", "-t", "10.0.0.1:80"][..], &["-S", "-4", "-n"]] {
        assert_eq!(ipvsadm(words).out, lines("-t 10.0.0.1:80"), "{words:?}");
    }
    for words in [&["-S", "-6", "-n"][..], &["-Sn", "-f", "7", "-6"], &["-Sn", "--full", "-6"]] {
        assert_eq!(ipvsadm(words).out, lines("-f 7 -6"), "{words:?}");
    }
    let ran = ipvsadm(&["-Sn", "-t", "10.0.0.9:80"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "No such service\n", 1));
    for (words, text) in [
        (&["-S", "-4", "-6"][..], "The option 'ipv6' conflicts with the 'ipv4' option in the"),
        (&["-S", "-6", "-f", "7"], "The option 'ipv6' conflicts with the 'service-address' option"),
        (&["-S", "-4", "-f", "7"], "The option 'ipv4' conflicts with the 'service-address' option"),
        (&["-L", "-6"], "-6 must follow -f"),
        (&["-L", "-4"], "Illegal 'ipv4' option with the 'list' command"),
    ] {
        let ran = ipvsadm(words);
        assert!(ran.err.starts_with(text) && ran.status == 2, "{}", ran.err);
    }
}

#[test]
fn apply_and_diff_read_what_a_listing_prints_in_json() {
    let memory = table(RULES);
    let listed = |words: &[&str]| ipvsadm(&memory, words, "").out;
    let (all, times) = (listed(&["-L", "--json"]), listed(&["-L", "--timeout", "--json"]));
    for text in [&all, &times, &listed(&["-L", "--daemon", "--json"]), &format!("\n \n{all}")] {
        let ran = ipvsadm(&memory, &["--diff"], text);
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0), "{text}");
    }
    let other = table("-A -t 10.0.0.9:80\n");
    let ran = ipvsadm(&other, &["--apply"], &times);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    assert!(saved(&other).contains("-t 10.0.0.9:80") && saved(&other).contains("--set 600 60 30"));
    for text in ["{}", "{\"schema\":1,\"services\":[]}", &all[..all.len() / 2]] {
        let ran = ipvsadm(&other, &["--apply"], text);
        assert_eq!((ran.out.as_str(), ran.status), ("", 2), "{}", ran.err);
    }
    let ran = ipvsadm(&other, &["--apply"], &all);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    assert_eq!(listed(&["-Sn"]), ipvsadm(&other, &["-Sn"], "").out);
}

#[test]
fn a_listing_of_one_service_is_added_and_never_applied_as_a_table() {
    let memory = table(RULES);
    let one = ["-L", "-t", "10.0.0.1:80", "--json"];
    for words in [&one[..], &[&one[..], &["--interval", "1", "--count", "1"]].concat()] {
        let text = ipvsadm(&memory, words, "").out;
        let before = saved(&memory);
        for words in [&["--apply"][..], &["--apply", "--dry-run"], &["--diff"]] {
            let ran = ipvsadm(&memory, words, &text);
            assert_eq!((ran.out.as_str(), ran.status), ("", 2), "{text}");
            assert!(ran.err.contains("lists one service"), "{}", ran.err);
            assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
        }
        assert_eq!(saved(&memory), before);
        let other = table("-A -t 10.0.0.9:80\n");
        let ran = ipvsadm(&other, &["--restore-json"], &text);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        assert_eq!(other.0.borrow().services.len(), 2);
    }
}

#[test]
fn a_mark_that_was_printed_as_a_negative_number_is_read_back() {
    let memory = table("-A -f -559038737\n-A -f -1 -6\n-A -f -2147483648\n");
    assert_eq!(
        ipvsadm(&memory, &["-Sn"], "").out,
        "-A -f 2147483648 -s wlc\n-A -f 3735928559 -s wlc\n-A -f 4294967295 -6 -s wlc\n"
    );
    assert_eq!(ipvsadm(&memory, &["-D", "-f", "-559038737"], "").status, 0);
    for wrong in ["-0", "0", "-2147483649", "-", "-1x", "-1"] {
        let ran = ipvsadm(&memory, &["-D", "-f", wrong], "");
        assert_eq!(ran.err, format!("invalid fwmark value `{wrong}' specified\n"));
    }
}

#[test]
fn a_long_line_is_cut_in_its_message() {
    let long = format!("-A -t 10.0.0.1:80 {}\n", "é".repeat(300_000));
    for words in [&["-R", "--check"][..], &["-R", "--keep-going"], &["--apply"]] {
        let ran = without_a_kernel(words, &long);
        assert!(ran.err.starts_with("line 1: -A -t 10.0.0.1:80 éé"), "{}", ran.err);
        assert!(ran.err.contains("é...: unexpected argument éé") && ran.err.len() < 1000);
    }
}

/// Names that are Latin-1, as some hosts files are, and how many lines were written before each
/// question.
struct Latin(std::rc::Rc<std::cell::RefCell<Vec<usize>>>, std::rc::Rc<std::cell::Cell<usize>>);

impl cvip::ipvsadm::names::Names for Latin {
    fn host_address(&mut self, name: &OsStr) -> Option<std::net::Ipv4Addr> {
        let host = name.as_bytes().strip_prefix(b"caf\xe9-")?;
        Some([10, 0, 0, std::str::from_utf8(host).ok()?.parse().ok()?].into())
    }
    fn service_port(&mut self, _: &OsStr, _: cvip::protocol::Protocol) -> Option<u16> {
        None
    }
    fn host_name(&mut self, addr: std::net::IpAddr) -> Option<OsString> {
        self.0.borrow_mut().push(self.1.get());
        let std::net::IpAddr::V4(addr) = addr else { return None };
        let name = [&b"caf\xe9-"[..], addr.octets()[3].to_string().as_bytes()].concat();
        Some(OsString::from_vec(name))
    }
    fn service_name(&mut self, _: u16, _: cvip::protocol::Protocol) -> Option<OsString> {
        None
    }
}

/// Counts the lines that were written, and keeps them.
struct Counting(Vec<u8>, std::rc::Rc<std::cell::Cell<usize>>);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.set(self.1.get() + bytes.iter().filter(|byte| **byte == b'\n').count());
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn names_are_bytes_and_each_line_is_written_before_the_next_name_is_asked_for() {
    let memory = table(
        "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2 -m\n-a -t 10.0.0.1:80 -r 10.0.0.3 -m\n",
    );
    let ask = |memory: &Memory, words: &[&str], stdin: &[u8]| {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (asked, lines) = (std::rc::Rc::default(), std::rc::Rc::default());
        let mut out = Counting(Vec::new(), std::rc::Rc::clone(&lines));
        let mut err = Vec::new();
        let status = run(
            Call { program: OsStr::new("ipvsadm"), words: &words, posix: false },
            ToolStreams {
                stdin: &mut { stdin },
                out: &mut out,
                err: &mut err,
                err_is_terminal: false,
            },
            &mut Latin(std::rc::Rc::clone(&asked), lines),
            &mut Skipping(Instant::now(), || {}),
            || Ok(memory.clone()),
        );
        assert_eq!((String::from_utf8_lossy(&err).as_ref(), status), ("", 0), "{words:?}");
        let asked: Vec<usize> = asked.borrow().clone();
        (out.0, asked)
    };
    let (listed, asked) = ask(&memory, &["-L"], b"");
    let lines: Vec<&[u8]> = listed.split(|byte| *byte == b'\n').skip(3).collect();
    assert_eq!(lines[0], b"TCP  caf\xe9-1:80 wlc");
    let server =
        [&b"  -> caf\xe9-2:80"[..], &b" ".repeat(20), b"Masq    1      0          0         "];
    assert_eq!(lines[1], server.concat());
    assert_eq!(asked, [3, 4, 5]);
    let (saved, asked) = ask(&memory, &["-S"], b"");
    assert!(saved.starts_with(b"-A -t caf\xe9-1:80 -s wlc\n"));
    // A rule names its service too.
    assert_eq!(asked, [0, 1, 1, 2, 2]);
    let other = Memory::default();
    ask(&other, &["-R"], &saved);
    assert_eq!(ipvsadm(&other, &["-Sn"], "").out, ipvsadm(&memory, &["-Sn"], "").out);
}
