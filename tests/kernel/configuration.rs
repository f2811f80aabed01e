//! cvip.conf while cvipd runs: a broken one is not taken, a good one is, and `cvipctl` shows
//! what it changes.

use std::fs;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use nix::sys::signal::Signal;

use super::support::{Patron, Server, Site, fetch, listen, shown};

/// A plan with services in cvip.conf.
fn plan(services: &str) -> Plan<'_> {
    Plan { services, ..Plan::default() }
}

const HTTP: &str = "<service><port>8080</port><weight>2</weight></service>";

#[test]
fn a_broken_configuration_is_not_taken_and_status_shows_its_fault() {
    let site = Site::start(2, &plan(HTTP));
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2)]));
    let (before, director) = (site.rules(), site.director());

    let path = site.dir.join("cvip.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("<weight>2</weight>", "<weight>heavy</weight>")).unwrap();
    site.reload_everywhere();
    for number in site.numbers() {
        site.await_log(number, "heavy");
    }
    let status = site.try_run(director, "cvipctl status");
    let (out, err) = shown(&status);
    assert!(status.status.success(), "{out}{err}");
    assert_eq!(err, "");
    let headline = out.lines().next().unwrap_or_default();
    assert!(headline.starts_with("FAULT: cvip.conf:"), "no place of the fault: {out}");
    assert!(headline.contains("heavy") && headline.ends_with("Run: cvipctl check"), "{out}");
    let words: Vec<&str> = out.split_whitespace().collect();
    assert!(words.join(" ").contains("runs the former configuration"), "{out}");
    assert!(out.contains(&format!("\nCVIP {}", site.cvip(false))), "it hides nothing: {out}");
    assert!(out.contains(&format!("{} ", site.v4(Tcp, 8080))), "it hides nothing: {out}");
    assert_eq!(site.rules(), before);
    // So do the others that only look.
    for (line, shows, code) in [
        ("setport_weight --list --cluster", "8080", 0),
        ("setport_weight --list", "8080", 0),
        ("cvipctl status --json", "\"configuration\": \"cvipd\"", 0),
        ("cvipctl doctor", "weight `heavy`", 1),
        ("cvipctl events --node=1", "", 0),
        ("cvipctl metrics", "cvip_up 1", 0),
        ("cvipctl diff", "", 1),
    ] {
        let seen = site.try_run(director, line);
        let (out, err) = shown(&seen);
        assert_eq!(seen.status.code(), Some(code), "{line}: {out}{err}");
        assert!(out.contains(shows), "{line}: {out}{err}");
    }
    // cvipd goes on with what it had.
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2), (2, 2)]));
    // The file is fixed, but nobody was told: what cvipd runs with is still shown.
    let refused = site.try_run(director, "cvipctl apply");
    assert_eq!(refused.status.code(), Some(1));
    assert!(shown(&refused).1.contains("heavy"), "{refused:?}");

    fs::write(&path, good.replace("<weight>2</weight>", "<weight>5</weight>")).unwrap();
    let status = shown(&site.try_run(director, "cvipctl status")).0;
    assert!(status.contains("cvipd goes on with its last good configuration"), "{status}");
    site.reload_everywhere();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 5), (2, 5)]));
    let status = shown(&site.try_run(director, "cvipctl status")).0;
    assert!(!status.contains("last good configuration") && !status.contains("heavy"), "{status}");
}

#[test]
fn a_start_with_a_broken_configuration_says_every_fault_and_changes_nothing() {
    let mut site = Site::start(1, &plan(HTTP));
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2)]));
    let (before, director) = (site.rules(), site.director());
    site.end_everywhere(Signal::SIGTERM);
    let path = site.dir.join("cvip.conf");
    let good = fs::read_to_string(&path).unwrap();
    let bad = good.replace("<weight>2</weight>", "<weight>heavy</weight><scheduler>?</scheduler>");
    fs::write(&path, bad).unwrap();
    let ended = site.try_run(director, "cvipd");
    assert_eq!(ended.status.code(), Some(1));
    let err = shown(&ended).1;
    assert!(err.contains("heavy") && err.contains("`?` is not a scheduler"), "{err}");
    assert_eq!(site.rules(), before);
}

#[test]
fn apply_takes_a_new_configuration_and_shows_what_changed() {
    let site = Site::start(1, &plan(HTTP));
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2)]));
    site.write_conf(&plan(
        "<service><port>8080</port><scheduler>rr</scheduler><persistence>60</persistence></service>",
    ))
    .unwrap();
    let shown = site.direct("cvipctl apply");
    let service = format!("service tcp {}, scheduler rr, persistent 60 s", site.at(8080));
    assert!(shown.lines().any(|line| line == service), "{shown}");
    assert!(site.rules().contains(&format!("-A -t {} -s rr -p 60", site.at(8080))));
    // The node that serves still goes by the old file: its weight is its own to say.
    assert_eq!(site.pool(site.v4(Tcp, 8080)), Some(vec![(1, 2)]));
    site.reload_everywhere();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
}

#[test]
fn diff_shows_what_apply_would_do_and_its_status_says_whether_there_is_anything() {
    let mut site = Site::start(1, &plan(HTTP));
    let (director, at) = (site.director(), site.at(8080));
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2)]));
    let right = site.rules();
    assert_eq!(site.direct("cvipctl diff"), "");
    let edit = format!("ipvsadm-rs -e -t {at} -r {}:8080 -g -w 7", site.host(1).v4());
    // cvipd repairs the edit within a second: on a slow machine before diff has seen it.
    let line = site.until("diff shows the edit and changes nothing", |site| {
        site.direct(&edit);
        let wrong = site.rules();
        let diff = site.try_run(director, "cvipctl diff");
        (diff.status.code() == Some(1) && site.rules() == wrong).then(|| shown(&diff).0)
    });
    assert_eq!(line.lines().count(), 1, "{line}");
    // Without a cvipd the two do the same.
    site.end_everywhere(Signal::SIGTERM);
    site.direct(&edit);
    assert_eq!(shown(&site.try_run(director, "cvipctl diff")).0, line);
    let applied = site.direct("cvipctl apply");
    assert!(applied.contains("weight 2"), "{applied}");
    assert_eq!(site.rules(), right);
    assert_eq!(site.direct("cvipctl diff"), "");
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
    // What diff prints is what ipvsadm takes.
    site.direct(&format!("ipvsadm-rs -e -t {at} -r {}:8080 -g -w 7", site.host(1).v4()));
    let script = shown(&site.try_run(director, "cvipctl diff")).0;
    let rules = site.dir.join("rules");
    fs::write(&rules, script).unwrap();
    let mut restore = site.command(director, "ipvsadm-rs");
    let restored = restore.arg("-R").stdin(fs::File::open(rules).unwrap()).status().unwrap();
    assert!(restored.success());
    assert_eq!(site.rules(), right);
}

#[test]
fn a_static_service_has_every_real_server_whoever_listens() {
    let service = "<service><port>8080</port><registration>static</registration></service>";
    let site = Site::start(2, &plan(service));
    let director = site.director();
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1), (2, 1), (director, 1)]));
    let listener = listen(site.host(1), "0.0.0.0:8080");
    drop(listener);
    site.direct("cvipctl apply");
    assert_eq!(site.pool(site.v4(Tcp, 8080)), Some(vec![(1, 1), (2, 1), (director, 1)]));
    site.write_conf(&plan("")).unwrap();
    site.direct("cvipctl apply");
    site.await_pool(site.v4(Tcp, 8080), None);
}

#[test]
fn a_service_that_is_struck_from_the_file_is_drained() {
    let site = Site::start(1, &plan(HTTP));
    let http = site.v4(Tcp, 8080);
    let _one = Server::tcp(site.host(1), "0.0.0.0:8080", "one");
    site.await_pool(http, Some(&[(1, 2)]));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    patron.ask().unwrap();
    site.write_conf(&plan("")).unwrap();
    site.reload_everywhere();
    site.await_pool(http, Some(&[(1, 0)]));
    assert_eq!(patron.ask().unwrap(), "one");
    drop(patron);
    site.await_pool(http, None);
}

#[test]
fn a_real_server_that_is_struck_from_the_file_is_drained_and_its_own_cvipd_says_so() {
    // Nobody counts the connections of a server that the file does not name: it is the deadline
    // that ends its drain.
    let service =
        "<service><port>8080</port><weight>2</weight><drain_timeout>3</drain_timeout></service>";
    let site = Site::start(2, &plan(service));
    let http = site.v4(Tcp, 8080);
    let two = Server::tcp(site.host(2), "0.0.0.0:8080", "two");
    site.await_pool(http, Some(&[(2, 2)]));
    let mut patron = Patron::new(site.cluster.client(), site.at(8080));
    patron.ask().unwrap();
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let struck = conf.replace("<real_server_node><node_num>2</node_num></real_server_node>", "");
    assert_ne!(struck, conf);
    fs::write(&path, struck).unwrap();
    site.reload_everywhere();
    site.await_pool(http, Some(&[(1, 2), (2, 0)]));
    assert_eq!(patron.ask().unwrap(), "two");
    site.await_log(2, "node 2 is neither a director nor a real server");
    drop((patron, two));
    site.await_pool(http, Some(&[(1, 2)]));
    fs::write(&path, conf).unwrap();
    site.reload_everywhere();
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(1, 2), (2, 2)]));
}

#[test]
fn a_cvip_that_is_struck_from_the_file_goes_with_its_services_and_its_address() {
    let both = Plan { ipv6: true, services: HTTP, ..Plan::default() };
    let site = Site::start(1, &both);
    let (director, cvip6) = (site.cluster.director(), site.cvip(true).to_string());
    let _one = Server::tcp(site.host(1), "[::]:8080", "one");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 2)]));
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 2)]));
    assert!(director.stdout(&["ip", "addr"]).unwrap().contains(&cvip6));
    site.write_conf(&Plan { ipv6: false, ..both.clone() }).unwrap();
    site.reload_everywhere();
    site.await_pool(site.v6(Tcp, 8080), None);
    for host in [director, site.host(1)] {
        site.until("the address goes", |_| {
            (!host.stdout(&["ip", "addr"]).unwrap().contains(&cvip6)).then_some(())
        });
    }
    assert_eq!(site.pool(site.v4(Tcp, 8080)), Some(vec![(1, 2)]));
    site.write_conf(&both).unwrap();
    site.reload_everywhere();
    site.await_pool(site.v6(Tcp, 8080), Some(&[(1, 2)]));
    assert_eq!(fetch(site.cluster.client(), site.at6(8080)).unwrap(), "one");
}

#[test]
fn a_director_that_is_struck_from_the_file_while_no_cvipd_runs_empties_its_table_at_the_next_start()
{
    let mut site = Site::start(2, &plan(HTTP));
    let http = site.v4(Tcp, 8080);
    let _two = listen(site.host(2), "0.0.0.0:8080");
    site.await_pool(http, Some(&[(2, 2)]));
    let former = site.director();
    site.direct(&format!("ipvsadm-rs -A -t {} -s rr", site.at(9000)));
    site.end_everywhere(Signal::SIGTERM);
    assert_eq!(site.pool(http), Some(vec![(2, 2)]));
    let path = site.dir.join("cvip.conf");
    let conf = fs::read_to_string(&path).unwrap();
    let directs = |node: u32| format!("<director_node><node_num>{node}</node_num>");
    let serves = |node| format!("<real_server_node><node_num>{node}</node_num></real_server_node>");
    let other = conf.replace(&directs(former), &directs(1));
    assert!(other.contains(&directs(1)) && other.contains(&serves(former)), "{other}");
    fs::write(&path, other).unwrap();
    site.start_everywhere(&[]);
    site.until("the former director's table is empty", |_| site.pool(http).is_none().then_some(()));
    assert!(site.rules().contains(":9000"), "what is not cvipd's stays: {}", site.rules());
    site.until("the new director sends to node 2", |_| {
        site.run(1, "ipvsadm-rs -Sn")
            .contains(&format!("-r {}:8080", site.host(2).v4()))
            .then_some(())
    });
}

#[test]
fn a_command_for_a_director_says_on_another_node_where_to_run_it() {
    let site = Site::start(1, &Plan::default());
    for line in ["cvipctl apply", "cvipctl diff"] {
        let output = site.try_run(1, line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let err = shown(&output).1;
        assert!(err.contains(&format!("the directors are {}:", site.director())), "{err}");
    }
}
