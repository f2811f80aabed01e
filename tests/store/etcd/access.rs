//! Who may do what: the roles that `cvipctl etcd-roles` prints, passwords, certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cvip::settings::EtcdSettings;
use cvip::store::etcd::probe;
use cvip::store::{Key, Scope, Store, StoreError, TermClaim};
use tempfile::TempDir;

use super::super::support::certificates::{Authority, Certificate, write_secret};
use super::super::support::server::{Etcd, etcdctl};
use super::super::support::{flag, opened, record, until};

const CONF: &str = "<cvips>
    <routing>DR</routing>
    <cvip>
        <ip_addr>10.0.0.100</ip_addr>
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
        <real_server_node><node_num>2</node_num></real_server_node>
        <real_server_node><node_num>3</node_num></real_server_node>
    </cvip>
</cvips>
";

/// A folder with the files of a cluster, on an etcd.
struct Site {
    dir: TempDir,
    /// Options of etcdctl as variables.
    ctl: Vec<(&'static str, String)>,
    /// Options of cvipctl as variables.
    cvip: Vec<(&'static str, String)>,
}

impl Site {
    fn new(etcd: &Etcd) -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cvip.conf"), CONF).unwrap();
        fs::write(dir.path().join("clustertab"), "1 10.0.0.1\n2 10.0.0.2\n3 10.0.0.3\n").unwrap();
        write_secret(&dir.path().join("cluster.key"), "a cluster key of the tests, long enough");
        let endpoints = etcd.settings.endpoints.join(",");
        Site {
            dir,
            ctl: vec![("ETCDCTL_API", "3".to_owned()), ("ETCDCTL_ENDPOINTS", endpoints.clone())],
            cvip: vec![("CVIP_ETCD_ENDPOINTS", endpoints)],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs cvipctl here.
    fn cvipctl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cvipctl"))
            .args(arguments)
            .env("CVIP_CONF", self.path("cvip.conf"))
            .env("CVIP_CLUSTERTAB", self.path("clustertab"))
            .env("CVIP_RUN_DIR", self.path("run"))
            .env("CVIP_CLUSTER_KEY_FILE", self.path("cluster.key"))
            .envs(self.cvip.iter().cloned())
            .output()
            .unwrap()
    }

    /// The same as one of etcd's users.
    fn cvipctl_as(&self, user: &str, arguments: &[&str]) -> Output {
        let file = self.path(&format!("{user}.password")).display().to_string();
        let (user, file) = (format!("--etcd-user={user}"), format!("--etcd-password-file={file}"));
        self.cvipctl(&[&[user.as_str(), &file], arguments].concat())
    }

    /// Runs a shell script here, with etcdctl on its path.
    #[track_caller]
    fn shell(&self, script: &str) {
        let path = std::env::var("PATH").unwrap();
        let bin = etcdctl().parent().unwrap().display();
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.dir.path())
            .env("PATH", format!("{bin}:{path}"))
            .envs(self.ctl.iter().cloned())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}\n{}", text(&output));
    }

    /// The settings of one of etcd's users.
    fn settings(&self, etcd: &Etcd, user: &str) -> EtcdSettings {
        EtcdSettings {
            user: Some(user.to_owned()),
            password_file: Some(self.path(&format!("{user}.password"))),
            ..etcd.settings.clone()
        }
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Makes users and roles as the printed commands do, and turns authentication on.
fn secured(etcd: &Etcd) -> Site {
    let mut site = Site::new(etcd);
    let script = site.cvipctl(&["etcd-roles"]);
    assert!(script.status.success(), "{}", text(&script));
    let script = String::from_utf8(script.stdout).unwrap();
    site.shell(&script);
    // What stands behind the last comment sign, without the questions.
    assert!(script.ends_with(
        "# etcdctl user add root && etcdctl user grant-role root root && etcdctl auth enable\n"
    ));
    site.shell(
        "echo root-password | etcdctl user add root --interactive=false\n\
         etcdctl user grant-role root root && etcdctl auth enable",
    );
    site.ctl.push(("ETCDCTL_USER", "root:root-password".to_owned()));
    // A second time, as root: nothing is there twice, and nothing is in its way.
    site.shell(&script);
    site
}

#[track_caller]
fn denied<T: std::fmt::Debug>(outcome: Result<T, StoreError>, path: &str) {
    match outcome {
        Err(StoreError::Denied { key }) => assert_eq!(key, path),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn by_the_printed_roles_a_node_writes_its_own_record_and_nothing_else() {
    let etcd = Etcd::new();
    let site = secured(&etcd);
    let open = |user: &str, host| {
        let mut store = etcd.open_with(&site.settings(&etcd, user), host);
        until(&mut *store, "everyone may read", |_| true);
        store
    };
    let (mut one, mut two) = (open("cvip-node-1", 1), open("cvip-node-2", 2));
    let mut operator = open("cvip-operator", 4);

    let lease = one.lease(1, 7).unwrap();
    one.put_node(&record(1, (7, 1), &[80])).unwrap();
    two.put_node(&record(2, (7, 1), &[80])).unwrap();
    denied(one.put_node(&record(2, (9, 9), &[443])), "/cvip/nodes/2/record");
    denied(two.put_node(&record(1, (9, 9), &[443])), "/cvip/nodes/1/record");
    let claimed = one.claim(1, None, 1, 7).unwrap();
    assert!(matches!(claimed, TermClaim::Won(_)), "node 1 is a director");
    denied(two.claim(1, Some(1), 2, 7), "/cvip/directors/1");
    let set = |store: &mut dyn Store| {
        store.update_flags(Scope::Cluster, &mut |flags| flags.set(flag(80)))
    };
    for store in [&mut one, &mut two] {
        denied(set(&mut **store), "/cvip/flags");
        denied(store.update_drains(&mut |_| {}), "/cvip/drains");
    }
    assert_eq!(set(&mut *operator).unwrap(), None);
    operator.update_drains(&mut |drains| drains.clear()).unwrap();
    denied(operator.put_node(&record(1, (9, 9), &[443])), "/cvip/nodes/1/record");
    denied(operator.claim(1, Some(1), 1, 7), "/cvip/directors/1");
    until(&mut *two, "everybody sees all", |state| {
        state.alive.get(&1) == Some(&7)
            && state.nodes.len() == 2
            && !state.flags.is_empty()
            && state.directors.len() == 1
    });
    assert_eq!(two.state().nodes[&1], record(1, (7, 1), &[80]));
    // Past the store too, with etcdctl itself.
    let forged = Command::new(etcdctl())
        .envs(site.ctl.iter().filter(|(name, _)| *name != "ETCDCTL_USER").cloned())
        .args(["put", "/cvip/nodes/2/record", "forged", "--user"])
        .arg(format!("cvip-node-1:{}", password(&site, "cvip-node-1")))
        .output()
        .unwrap();
    assert!(text(&forged).contains("permission denied"), "{}", text(&forged));
    drop(lease);
    until(&mut *two, "the lease is given back", |state| state.alive.is_empty());
}

fn password(site: &Site, user: &str) -> String {
    fs::read_to_string(site.path(&format!("{user}.password"))).unwrap().trim().to_owned()
}

#[test]
fn a_token_that_etcd_forgot_and_a_password_that_was_changed_are_made_up_for() {
    let mut etcd = Etcd::new();
    let site = secured(&etcd);
    let settings = site.settings(&etcd, "cvip-node-2");
    let mut store = etcd.open_with(&settings, 2);
    let lease = store.lease(2, 7).unwrap();
    store.put_node(&record(2, (7, 1), &[80])).unwrap();
    // Tokens live in the server's memory.
    etcd.server().kill();
    etcd.server().start().unwrap();
    let put = |store: &mut dyn Store, sequence| {
        let written = cvip_lab::wait_until(cvip_lab::PATIENCE, || {
            match store.put_node(&record(2, (7, sequence), &[80])) {
                Ok(()) => Some(()),
                Err(error) if error.is_unavailable() => None,
                Err(error) => panic!("{error}"),
            }
        });
        assert!(written.is_some());
    };
    put(&mut *store, 2);
    // The file is read again for each connection.
    site.shell(
        "head -c 24 /dev/urandom | base64 > new\n\
         etcdctl user passwd cvip-node-2 --interactive=false < new\n\
         cat new > cvip-node-2.password",
    );
    etcd.server().kill();
    etcd.server().start().unwrap();
    put(&mut *store, 3);
    until(&mut *store, "the lease is held all the time", |state| {
        state.alive.get(&2) == Some(&7) && state.nodes[&2].sequence == 3
    });
    drop(lease);
}

#[test]
fn check_says_what_is_wrong_and_never_a_secret() {
    let mut etcd = Etcd::new();
    let open = Site::new(&etcd);
    let output = open.cvipctl(&["check", "--node=2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("etcd 3."), "{}", text(&output));
    assert!(text(&output).contains("admits every client"), "{}", text(&output));

    let site = secured(&etcd);
    let check = |user: &str, node: &str| {
        let output = site.cvipctl_as(user, &["check", node]);
        (output.status.code(), text(&output))
    };
    for (user, node) in [("cvip-node-1", "--node=1"), ("cvip-node-2", "--node=2")] {
        let (status, said) = check(user, node);
        assert_eq!(status, Some(0), "{said}");
        assert!(!said.contains("error"), "{said}");
    }
    let (status, said) = check("cvip-node-2", "--node=1");
    assert_eq!(status, Some(1));
    for key in ["/cvip/nodes/1/record", "/cvip/nodes/1/alive", "/cvip/directors/1"] {
        assert!(said.contains(&format!("may not write {key}")), "{said}");
    }
    let output = site.cvipctl(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("may not read the keys under /cvip/"), "{}", text(&output));

    write_secret(&site.path("wrong.password"), "wrong-password");
    let (status, said) = check("wrong", "--node=2");
    assert_eq!(status, Some(1));
    assert!(said.contains("knows no user wrong, or not with this password"), "{said}");
    assert!(!said.contains("wrong-password"), "{said}");
    site.shell("cp cvip-node-2.password open.password && chmod 644 open.password");
    let (status, said) = check("open", "--node=2");
    assert_eq!(status, Some(1));
    assert!(said.contains("chmod 600") && said.contains("open.password"), "{said}");
    let status = site.cvipctl_as("open", &["status"]);
    assert!(text(&status).contains("chmod 600"), "{}", text(&status));

    fs::write(site.path("cluster.key"), "short").unwrap();
    let (status, said) = check("cvip-node-2", "--node=2");
    assert_eq!(status, Some(1));
    assert!(said.contains("5 bytes"), "{said}");
    let json = site.cvipctl_as("cvip-node-2", &["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["diagnostics"][0]["severity"], "error");

    etcd.server().kill();
    let (status, said) = check("cvip-node-2", "--node=2");
    assert_eq!(status, Some(1));
    let endpoint = &etcd.settings.endpoints[0];
    assert!(said.contains(&format!("{endpoint} cannot be reached")), "{said}");
    assert!(said.contains("refused"), "{said}");
    let offline = site.cvipctl_as("cvip-node-2", &["check", "--offline"]);
    assert_eq!(offline.status.code(), Some(0), "{}", text(&offline));
    let status = site.cvipctl_as("cvip-node-2", &["status", "--json"]);
    assert!(text(&status).contains("the store cannot be reached"), "{}", text(&status));
}

#[test]
fn check_says_that_there_is_no_quorum() {
    let mut etcd = Etcd::three();
    etcd.servers[0].kill();
    etcd.servers[1].kill();
    let site = Site::new(&etcd);
    let said = cvip_lab::wait_until(cvip_lab::PATIENCE, || {
        let output = site.cvipctl(&["check"]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output);
        said.contains("there is no quorum").then_some(said)
    });
    let said = said.expect("the survivor notices that it is alone");
    assert!(said.contains("cannot be reached"), "{said}");
}

/// An etcd that speaks TLS alone and wants a certificate of everybody, and its authority.
fn with_tls(dir: &Path) -> (Etcd, Authority) {
    let authority = Authority::new(dir, "authority");
    let Certificate { cert, key } = authority.issue("server");
    let options = [
        ("--cert-file", cert),
        ("--key-file", key),
        ("--trusted-ca-file", dir.join("authority.pem")),
    ];
    let mut options: Vec<String> = options
        .iter()
        .flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()])
        .collect();
    options.push("--client-cert-auth".to_owned());
    let mut etcd = Etcd::stopped(1, "https", &options);
    etcd.servers[0].start().unwrap();
    etcd.settings.ca = Some(dir.join("authority.pem"));
    (etcd, authority)
}

#[test]
fn a_certificate_lets_in_and_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut etcd, authority) = with_tls(dir.path());
    let root = authority.issue("root");
    let mut site = Site::new(&etcd);
    let show = |path: &Path| path.display().to_string();
    site.ctl.extend([
        ("ETCDCTL_CACERT", show(&dir.path().join("authority.pem"))),
        ("ETCDCTL_CERT", show(&root.cert)),
        ("ETCDCTL_KEY", show(&root.key)),
    ]);
    site.cvip.push(("CVIP_ETCD_CA", show(&dir.path().join("authority.pem"))));
    let script = site.cvipctl(&["etcd-roles", "--certificates"]);
    assert!(script.status.success(), "{}", text(&script));
    site.shell(&String::from_utf8(script.stdout).unwrap());
    site.shell(
        "etcdctl user add root --no-password && etcdctl user grant-role root root\n\
         etcdctl auth enable",
    );
    let two = authority.issue("cvip-node-2");
    etcd.settings.cert = Some(two.cert.clone());
    etcd.settings.key = Some(two.key.clone());
    let mut store = opened(&etcd);
    let lease = store.lease(2, 7).unwrap();
    store.put_node(&record(2, (7, 1), &[80])).unwrap();
    denied(store.put_node(&record(1, (7, 1), &[80])), "/cvip/nodes/1/record");
    until(&mut *store, "its own", |state| {
        state.nodes.contains_key(&2) && state.alive.contains_key(&2)
    });
    drop(lease);
    let (_, mut findings) = probe(&etcd.settings, &[Key::Node(2), Key::Alive(2)]);
    // The lab's own etcd may be an old one.
    findings.retain(|finding| finding.is_error || !finding.message.contains("CVE-2026-33343"));
    assert_eq!(findings, [], "all is well");

    // Another authority's certificate, on either side; and none at all.
    let stranger = Authority::new(dir.path(), "stranger");
    let forged = stranger.issue("forged");
    let strange = [
        EtcdSettings { ca: Some(dir.path().join("stranger.pem")), ..etcd.settings.clone() },
        EtcdSettings { cert: Some(forged.cert), key: Some(forged.key), ..etcd.settings.clone() },
        EtcdSettings { cert: None, key: None, ..etcd.settings.clone() },
    ];
    for settings in strange {
        let error = etcd.open_with(&settings, 3).refresh().unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        let (_, findings) = probe(&settings, &[]);
        assert!(findings.iter().any(|f| f.is_error), "{settings:?}");
        println!("{}", findings[0].message);
    }
    // A key that others may read is not used.
    let settings = etcd.settings.clone();
    std::process::Command::new("chmod").arg("640").arg(&two.key).status().unwrap();
    let error = etcd.open_with(&settings, 4).refresh().unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}
