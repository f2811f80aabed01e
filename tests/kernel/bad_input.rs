//! What goes wrong outside the programs: missing privilege, a second daemon. Each says what is
//! missing and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;

use super::support::{Site, listen, shown};

/// A user without any privilege.
const SOMEBODY: u32 = 1234;

/// Runs a command line of cvip on a node as an ordinary user. The programs are copied to where
/// everybody may run them: the folder in which they were built may be private.
fn as_somebody(site: &Site, number: u32, line: &str) -> Output {
    let words: Vec<&str> = line.split_whitespace().collect();
    let built = site.command(number, words[0]);
    let copy = site.dir.join(words[0]);
    fs::copy(built.get_program(), &copy).unwrap();
    let readable = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    readable(&copy, 0o755);
    readable(&site.dir, 0o755);
    let mut command = site.host(number).command("setpriv");
    site.environment(&mut command);
    command.arg(format!("--reuid={SOMEBODY}")).arg(format!("--regid={SOMEBODY}"));
    command.arg("--clear-groups").arg(copy).args(&words[1..]).output().unwrap()
}

#[test]
fn without_privilege_every_program_says_what_is_missing_and_what_to_do() {
    let site = Site::start(1, &Plan::default());
    let director = site.director();
    let at = site.at(8080);
    let flag = "setport_weight --start-port=8080 --end-port=8080 --weight=1";
    for (line, missing) in [
        ("cvipd".to_owned(), "root"),
        ("cvipctl diff".to_owned(), "CAP_NET_ADMIN"),
        ("cvipctl apply".to_owned(), "root"),
        ("ipvsadm-rs -Ln".to_owned(), "root"),
        (format!("ipvsadm-rs -A -t {at}"), "root"),
        (flag.to_owned(), "root"),
        (format!("{flag} --cluster"), "root"),
    ] {
        let output = as_somebody(&site, director, &line);
        let (out, err) = shown(&output);
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 0), "{line}: {code:?}, {out}{err}");
        assert!(err.contains(missing), "{line}: {err}");
        assert!(!err.contains("panicked"), "{line}: {err}");
    }
    assert!(site.state().flags.is_empty());
    assert!(site.pools().is_empty());
}

#[test]
fn what_needs_no_privilege_works_without() {
    let services = "<service><port>8080</port></service>";
    let site = Site::start(1, &Plan { services, ..Plan::default() });
    site.direct("setport_weight --start-port=8081 --end-port=8081 --weight=1 --cluster");
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    for (line, shows) in [
        ("cvipctl check", "1 CVIP"),
        ("cvipctl convert --all", "-A -t"),
        ("cvipctl status", "8080"),
        ("setport_weight --list", "8081"),
    ] {
        let output = as_somebody(&site, site.director(), line);
        let (out, err) = shown(&output);
        assert!(output.status.success(), "{line}: {err}");
        assert!(out.contains(shows), "{line}: {out}{err}");
    }
    // The table itself is root's to see: status says so, and shows the rest.
    let (out, _) = shown(&as_somebody(&site, site.director(), "cvipctl status"));
    assert!(out.contains("not seen: ") && out.contains("CAP_NET_ADMIN"), "{out}");
}

#[test]
fn a_second_cvipd_for_a_node_refuses_and_the_first_goes_on() {
    let site = Site::start(1, &Plan::default());
    for number in site.numbers() {
        let second = site.try_run(number, "cvipd");
        assert_eq!(second.status.code(), Some(1));
        let err = shown(&second).1;
        let says = format!("cvipd already runs for node {number}");
        assert!(err.contains(&says), "{err}");
    }
    site.direct("setport_weight --start-port=8080 --end-port=8080 --weight=1 --cluster");
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    assert_eq!(site.direct("cvipctl apply"), "the table is right: nothing to change\n");
}

#[test]
fn a_host_that_is_no_node_says_how_to_name_one() {
    let site = Site::start(1, &Plan::default());
    // The client has no node's address.
    let client = site.cluster.client();
    let programs = site.command(1, "cvipd");
    let cvipd = programs.get_program().to_string_lossy().into_owned();
    let mut command = client.command(&cvipd);
    site.environment(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(shown(&output).1.contains("--node=N"), "{output:?}");
}
