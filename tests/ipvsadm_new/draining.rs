//! `--drain`.

use super::*;
use std::cell::RefCell;
use std::rc::Rc;

const VIP: &str = "-t 10.0.0.1:80";
const TABLE: &str = "\
-A -t 10.0.0.1:80 -s wrr
-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 5 -x 100 -y 50
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 1
";

/// How a test drains: what happens in each wait, and what a person would see.
struct Drained<F> {
    memory: Memory,
    terminal: bool,
    /// Called with the number of the wait, from 1 on; `true` interrupts.
    waiting: F,
}

/// A clock whose waits are the test's.
struct Waits<'a, F>(Instant, usize, &'a mut F);

impl<F: FnMut(usize) -> bool> Clock for Waits<'_, F> {
    fn now(&mut self) -> Instant {
        self.0
    }

    fn sleep(&mut self, _: Duration) {
        unreachable!("a drain can be interrupted whenever it waits");
    }

    fn sleep_or_interrupt(&mut self, time: Duration) -> bool {
        assert!(time > Duration::ZERO && time <= Duration::from_secs(1), "{time:?}");
        self.0 += time;
        self.1 += 1;
        assert!(self.1 < 1000, "no end");
        (self.2)(self.1)
    }
}

impl<F: FnMut(usize) -> bool> Drained<F> {
    fn run(&mut self, words: &str) -> Ran {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run(
            Call { program: OsStr::new("/usr/sbin/ipvsadm-rs"), words: &words, posix: false },
            ToolStreams {
                stdin: &mut std::io::empty(),
                out: &mut out,
                err: &mut err,
                err_is_terminal: self.terminal,
            },
            &mut RecordedNames::new(),
            &mut Waits(Instant::now(), 0, &mut self.waiting),
            || Ok(self.memory.clone()),
        );
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { out: text(out), err: text(err), status }
    }
}

/// Gives the first real server that has this address so many connections.
fn connect(memory: &Memory, addr: &str, active: u32, inactive: u32) {
    let mut state = memory.0.borrow_mut();
    let mut entries = state.services.iter_mut().flat_map(|(_, entries)| entries);
    let addr: std::net::IpAddr = addr.parse().unwrap();
    let entry = entries.find(|entry| entry.destination.id.addr == addr).expect("it is there");
    (entry.active, entry.inactive) = (active, inactive);
}

#[test]
fn a_drain_sets_the_weight_waits_for_the_connections_and_deletes() {
    let memory = table(TABLE);
    connect(&memory, "10.0.1.1", 2, 1);
    let quiesced = saved(&memory).replace("-m -w 5 -x 100 -y 50", "-m -w 0 -x 100 -y 50");
    let waits = Rc::new(RefCell::new(0));
    let (seen, there) = (Rc::clone(&waits), memory.clone());
    let mut drained = Drained {
        memory: memory.clone(),
        terminal: false,
        waiting: move |wait| {
            *seen.borrow_mut() = wait;
            // Weight 0, and nothing else.
            assert_eq!(saved(&there), quiesced);
            if wait == 3 {
                connect(&there, "10.0.1.1", 0, 0);
            }
            false
        },
    };
    let ran = drained.run(&format!("--drain {VIP} -r 10.0.1.1:8080"));
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", "", 0));
    assert_eq!(*waits.borrow(), 3);
    assert_eq!(saved(&memory).matches("-a ").count(), 1);
    assert!(saved(&memory).contains("-r 10.0.1.2:80 -m -w 1\n"));
}

#[test]
fn a_terminal_and_progress_show_what_is_left_and_how_it_ended() {
    for (terminal, progress) in [(true, ""), (false, " --progress")] {
        let memory = table(TABLE);
        connect(&memory, "10.0.1.1", 2, 1);
        memory.0.borrow_mut().services[0].1[1].persistent = 4;
        let there = memory.clone();
        let waiting = move |wait: usize| {
            connect(&there, "10.0.1.1", [2, 1, 1, 0][wait.min(3)], 0);
            false
        };
        let mut drained = Drained { memory, terminal, waiting };
        let ran = drained.run(&format!("--drain {VIP} -r 10.0.1.1:8080 --deadline 60{progress}"));
        assert_eq!(
            ran.err,
            "draining 10.0.1.1:8080 from tcp 10.0.0.1:80: 2 active and 1 inactive connections, 4 \
             persistent clients; deadline in 60 s\n\
             draining 10.0.1.1:8080 from tcp 10.0.0.1:80: 1 active and 0 inactive connections, 4 \
             persistent clients; deadline in 58 s\n\
             10.0.1.1:8080 is out of tcp 10.0.0.1:80 after 2 s, with no connections left\n"
        );
        assert_eq!((ran.out.as_str(), ran.status), ("", 0));
    }
}

#[test]
fn a_deadline_deletes_what_has_connections_and_says_so() {
    for (deadline, most) in [(0, 0), (3, 4)] {
        let memory = table(TABLE);
        connect(&memory, "10.0.1.1", 2, 1);
        let waiting = |wait| {
            assert!(wait <= most);
            false
        };
        let mut drained = Drained { memory: memory.clone(), terminal: false, waiting };
        let line = format!("--drain {VIP} -r 10.0.1.1:8080 --deadline {deadline}");
        let ran = drained.run(&line);
        assert_eq!(
            ran.err,
            "the deadline is over: 10.0.1.1:8080 is out of tcp 10.0.0.1:80, with 2 active and 1 \
             inactive connections left\n"
        );
        assert_eq!((ran.out.as_str(), ran.status), ("", 0));
        assert!(!saved(&memory).contains("10.0.1.1"));
    }
}

#[test]
fn an_interrupted_drain_says_what_it_leaves_and_how_to_go_back() {
    let memory = table(TABLE);
    connect(&memory, "10.0.1.1", 2, 1);
    let before = saved(&memory);
    let mut drained =
        Drained { memory: memory.clone(), terminal: false, waiting: |wait| wait == 2 };
    let ran = drained.run(&format!("--drain {VIP} -r 10.0.1.1:8080"));
    assert_eq!(
        ran.err,
        "interrupted: 10.0.1.1:8080 stays in tcp 10.0.0.1:80 with weight 0 and 2 active and 1 \
         inactive connections; `ipvsadm-rs --drain -t 10.0.0.1:80 -r 10.0.1.1:8080' goes on, \
         `ipvsadm-rs -e -t 10.0.0.1:80 -r 10.0.1.1:8080 --keep -w 5' gives it its weight back\n"
    );
    assert_eq!((ran.out.as_str(), ran.status), ("", 1));
    // What it says is so.
    let back = "-e -t 10.0.0.1:80 -r 10.0.1.1:8080 --keep -w 5";
    assert_eq!(ipvsadm(&memory, &back.split(' ').collect::<Vec<_>>(), "").status, 0);
    assert_eq!(saved(&memory), before);
}

#[test]
fn what_other_programs_do_meanwhile_stays_as_it_is() {
    let memory = table(TABLE);
    connect(&memory, "10.0.1.1", 2, 1);
    let before = saved(&memory);
    let other = memory.clone();
    let waiting = move |_| {
        let back = "-e -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 5 -x 100 -y 50";
        let ran = ipvsadm(&other, &back.split(' ').collect::<Vec<_>>(), "");
        assert_eq!(ran.status, 0);
        false
    };
    let mut drained = Drained { memory: memory.clone(), terminal: false, waiting };
    let ran = drained.run(&format!("--drain {VIP} -r 10.0.1.1:8080"));
    assert!(ran.err.contains("has given 10.0.1.1:8080 of tcp 10.0.0.1:80 the weight 5"));
    assert_eq!((ran.status, saved(&memory)), (1, before));

    let other = memory.clone();
    let waiting = move |_| {
        assert_eq!(ipvsadm(&other, &["-C"], "").status, 0);
        false
    };
    let mut drained = Drained { memory: memory.clone(), terminal: false, waiting };
    let ran = drained.run(&format!("--drain {VIP} -r 10.0.1.1:8080"));
    assert!(ran.err.contains("has taken 10.0.1.1:8080 out of tcp 10.0.0.1:80"), "{}", ran.err);
    assert_eq!(ran.status, 0);
}

#[test]
fn what_is_not_there_is_not_drained() {
    let memory = table(TABLE);
    let before = saved(&memory);
    let waiting = |_| unreachable!("there is nothing to wait for");
    let mut drained = Drained { memory: memory.clone(), terminal: true, waiting };
    for (words, text) in [
        ("--drain -t 10.0.0.9:80 -r 10.0.1.1", "No such service: tcp 10.0.0.9:80\n"),
        (
            "--drain --json -t 10.0.0.1:80 -r 10.0.1.1",
            "No such destination: 10.0.1.1:80 is none of tcp 10.0.0.1:80, 10.0.1.1:8080 is one\n",
        ),
    ] {
        let ran = drained.run(words);
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.status), ("", text, 255));
    }
    assert_eq!(saved(&memory), before);
}

#[test]
fn a_real_server_that_is_out_already_is_said_to_be_and_no_failure() {
    let memory = table(TABLE);
    let before = saved(&memory);
    let waiting = |_| unreachable!("there is nothing to wait for");
    let mut drained = Drained { memory: memory.clone(), terminal: false, waiting };
    let ran = drained.run("--drain --json -t 10.0.0.1:80 -r 10.0.1.99:8080");
    let told = "10.0.1.99:8080 is not in tcp 10.0.0.1:80: nothing to drain\n";
    assert_eq!((ran.err.as_str(), ran.status), (told, 0));
    assert!(ran.out.contains(r#""ended":"absent""#), "{}", ran.out);
    assert_eq!(saved(&memory), before);
}

#[test]
fn marks_and_ipv6_are_drained_until_nothing_is_counted() {
    let memory = table(
        "-A -f 7 -6 -s rr\n-a -f 7 -6 -r fd00::1 -g\n\
         -A -t [fd00::9]:80 -s rr\n-a -t [fd00::9]:80 -r [fd00::2]:8080 -m\n",
    );
    for (words, addr, out) in [
        ("--drain -f 7 -6 -r fd00::1", "fd00::1", "[fd00::1]:0 is out of mark 7 IPv6"),
        (
            "--drain -t [fd00::9]:80 -r [fd00::2]:8080",
            "fd00::2",
            "[fd00::2]:8080 is out of tcp [fd00::9]:80",
        ),
    ] {
        connect(&memory, addr, 0, 3);
        let there = memory.clone();
        let waiting = move |wait: usize| {
            if wait == 4 {
                connect(&there, addr, 0, 0);
            }
            false
        };
        let mut drained = Drained { memory: memory.clone(), terminal: true, waiting };
        let ran = drained.run(words);
        assert!(ran.err.lines().last().unwrap_or_default().starts_with(out), "{}", ran.err);
        assert_eq!(ran.status, 0);
    }
    assert!(!saved(&memory).contains("-a "));
}

#[test]
fn a_person_is_told_once_what_awaits_udp_clients_and_a_script_is_not() {
    let udp = "-A -u 10.0.0.1:53 -s rr\n-a -u 10.0.0.1:53 -r 10.0.1.1 -m\n";
    let tcp = "-A -t 10.0.0.1:53 -s rr\n-a -t 10.0.0.1:53 -r 10.0.1.1 -m\n";
    let hinted = |rules: &str, terminal, setting, connections, words: &str| {
        let memory = table(rules);
        memory.0.borrow_mut().expire_nodest_conn = setting;
        connect(&memory, "10.0.1.1", 0, connections);
        let mut drained = Drained { memory, terminal, waiting: |_| false };
        let ran = drained.run(words);
        assert_eq!((ran.out.as_str(), ran.status), ("", 0), "{}", ran.err);
        ran.err.lines().filter(|line| line.contains("net.ipv4.vs.expire_nodest_conn=1")).count()
    };
    let drain = "--drain -u 10.0.0.1:53 -r 10.0.1.1 --deadline 3";
    assert_eq!(hinted(udp, true, Some(false), 2, drain), 1);
    assert_eq!(hinted(udp, false, Some(false), 2, drain), 0);
    assert_eq!(hinted(udp, false, Some(false), 2, &format!("{drain} --progress")), 0);
    assert_eq!(hinted(udp, true, Some(true), 2, drain), 0);
    assert_eq!(hinted(udp, true, None, 2, drain), 0);
    assert_eq!(hinted(udp, true, Some(false), 0, drain), 0);
    assert_eq!(hinted(tcp, true, Some(false), 2, &drain.replace("-u", "-t")), 0);
    // The original's commands say what they ever said.
    assert_eq!(hinted(udp, true, Some(false), 2, "-d -u 10.0.0.1:53 -r 10.0.1.1"), 0);
}

#[test]
fn a_drain_is_no_line_of_a_restore_and_its_options_are_its_own() {
    let ran = ipvsadm(&table(TABLE), &["-R"], "--drain -t 10.0.0.1:80 -r 10.0.1.2\n");
    assert!(ran.err.starts_with("Try `ipvsadm -h'") && ran.status == 255, "{}", ran.err);
    for (words, text) in [
        (
            "--drain -t 10.0.0.1:80",
            "You need to supply the 'real-server' option for the 'drain' command",
        ),
        (
            "--drain -t 10.0.0.1:80 -r 10.0.1.1 -w 3",
            "Illegal 'weight' option with the 'drain' command",
        ),
        ("--drain -t 10.0.0.1:80 -r 10.0.1.1 --deadline 5m", "illegal deadline specified"),
        (
            "-d -t 10.0.0.1:80 -r 10.0.1.1 --deadline 5",
            "Illegal 'deadline' option with the 'delete-server' command",
        ),
    ] {
        let ran = without_a_kernel(&words.split(' ').collect::<Vec<_>>(), "");
        assert_eq!((ran.err, ran.status), (format!("{text}\n"), 2));
    }
}
