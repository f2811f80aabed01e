//! Settings from texts, options and files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const PATH: &str = "/etc/cvip/cvip.toml";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn parse(text: &str) -> Result<Settings, SettingsError> {
    file::parse(text, Path::new(PATH))
}

/// What the file and the overrides say together.
fn together(text: &str, overrides: &Overrides) -> Result<Settings, SettingsError> {
    let mut settings = parse(text)?;
    settings.take(overrides)?;
    settings.check()?;
    Ok(settings)
}

fn complaint(text: &str) -> String {
    together(text, &Overrides::default()).unwrap_err().to_string()
}

const FULL: &str = r#"
store = "etcd"
cluster_key_file = "our.key"
heartbeat_port = 849
record = false
metrics_address = "[::1]:8849"
metrics_labels = ["local_address", "local_port", "proto"]
hooks_dir = "hooks"
hook_user = "bird"
hook_timeout = 9

[etcd]
endpoints = ["https://10.0.0.1:2379", "etcd2:2379", "[fd00::3]:2379"]
ca = "/etc/ssl/etcd-ca.pem"
cert = "node3.pem"
key = "node3.key"
user = "node-3"
password_file = "password"
prefix = "/site/cvip"
lease_ttl = 10
timeout = 3
"#;

#[test]
fn everything_that_the_file_can_say_is_taken() {
    let settings = together(FULL, &Overrides::default()).unwrap();
    let beside = |name: &str| Some(PathBuf::from("/etc/cvip").join(name));
    assert_eq!(
        settings,
        Settings {
            engine: Engine::Etcd,
            engine_was_chosen: true,
            cluster_key_file: beside("our.key"),
            heartbeat_port: Some(849),
            record: Some(false),
            metrics_address: Some("[::1]:8849".parse().unwrap()),
            metrics_labels: Some(vec![
                DestinationLabel::LocalAddress,
                DestinationLabel::LocalPort,
                DestinationLabel::Proto,
            ]),
            hooks: HookSettings {
                dir: "/etc/cvip/hooks".into(),
                user: Some("bird".to_owned()),
                timeout: Duration::from_secs(9),
            },
            etcd: EtcdSettings {
                endpoints: ["10.0.0.1", "etcd2", "[fd00::3]"]
                    .map(|host| format!("https://{host}:2379"))
                    .into(),
                ca: Some("/etc/ssl/etcd-ca.pem".into()),
                cert: beside("node3.pem"),
                key: beside("node3.key"),
                user: Some("node-3".to_owned()),
                password_file: beside("password"),
                prefix: "/site/cvip/".to_owned(),
                lease_ttl: Duration::from_secs(10),
                timeout: Duration::from_secs(3),
            },
        }
    );
}

#[test]
fn the_example_is_a_good_file() {
    let example = include_str!("../../examples/cvip.toml");
    assert_eq!(together(example, &Overrides::default()).unwrap().engine, Engine::Etcd);
}

#[test]
fn nothing_said_is_the_embedded_store_and_servers_named_are_meant() {
    let none = Overrides::default();
    assert_eq!(together("", &none).unwrap(), Settings::default());
    let named = Overrides { etcd_endpoints: Some(vec!["a:2379".into()]), ..none.clone() };
    let settings = together("", &named).unwrap();
    assert_eq!((settings.engine, settings.engine_was_chosen), (Engine::Etcd, true));
    assert_eq!(settings.etcd.endpoints, ["http://a:2379"]);
    let local = together("store = \"local\"", &named).unwrap();
    assert_eq!((local.engine, local.engine_was_chosen), (Engine::Local, true));
}

#[test]
fn what_is_said_nearer_wins() {
    let overrides = Overrides {
        store: Some(Engine::Local),
        etcd_endpoints: Some(vec!["https://other:2379".into()]),
        etcd_user: Some("operator".into()),
        etcd_prefix: Some("/lab".into()),
        cluster_key_file: Some("/root/key".into()),
        ..Overrides::default()
    };
    let settings = together(FULL, &overrides).unwrap();
    assert_eq!(settings.engine, Engine::Local);
    assert_eq!(settings.etcd.endpoints, ["https://other:2379"]);
    assert_eq!(settings.etcd.user.as_deref(), Some("operator"));
    assert_eq!(settings.etcd.prefix, "/lab/");
    assert_eq!(settings.cluster_key_file, Some("/root/key".into()));
    assert_eq!(settings.etcd.cert, Some("/etc/cvip/node3.pem".into()), "the file's");
}

#[test]
fn a_fault_of_the_file_is_shown_at_its_place() {
    for (text, place, says) in [
        ("stor = \"etcd\"\n", "1:1", "stor"),
        ("\nstore = \"zookeeper\"\n", "2:9", "zookeeper"),
        ("[etcd]\nendpoint = 1\n", "2:1", "endpoint"),
        ("[etcd]\nendpoints = [\"a:2379\",\n  \"b\"]\n", "3:3", "HOST:PORT"),
        ("[etcd]\nendpoints = [\"ftp://a:2379\"]\n", "2:14", "http or https"),
        ("[etcd]\nendpoints = [\"a:0\"]\n", "2:14", "HOST:PORT"),
        ("[etcd]\nendpoints = [\"fd00::1:2379\"]\n", "2:14", "brackets"),
        ("[etcd]\nprefix = \"cvip\"\n", "2:10", "/cvip/"),
        ("[etcd]\nprefix = \"/\"\n", "2:10", "/cvip/"),
        ("heartbeat_port = 0\n", "1:18", "1 to 65535"),
        ("metrics_address = \"8849\"\n", "1:19", "127.0.0.1:8849"),
        ("metrics_address = \"127.0.0.1:0\"\n", "1:19", "ADDRESS:PORT"),
        ("metrics_labels = [\"proto\",\n  \"port\"]\n", "2:3", "remote_port"),
        ("[etcd]\nlease_ttl = 1\n", "2:13", "2 to 60 seconds"),
        ("[etcd]\ntimeout = \"2\"\n", "2:11", "string"),
        ("hook_timeout = 61\n", "1:16", "1 to 60 seconds"),
        ("store = \"etcd", "1:", ""),
        ("store = \"etcd\"\nstore = \"etcd\"\n", "2:1", "duplicate"),
        ("\u{e9} = 1\n", "1:1", ""),
    ] {
        let said = complaint(text);
        assert!(said.starts_with(&format!("{PATH}:{place}")), "{text:?}: {said}");
        assert!(said.contains(says) && said.contains("error: "), "{text:?}: {said}");
    }
}

#[test]
fn parts_that_do_not_fit_together_are_said_with_what_to_do() {
    for (text, says) in [
        ("store = \"etcd\"\n", "no server of it is named"),
        ("[etcd]\nendpoints = [\"a:1\"]\ncert = \"c\"\n", "set key"),
        ("[etcd]\nendpoints = [\"a:1\"]\nkey = \"k\"\n", "set cert"),
        ("[etcd]\nendpoints = [\"a:1\"]\nuser = \"u\"\n", "set password_file"),
        ("[etcd]\nendpoints = [\"a:1\"]\npassword_file = \"p\"\n", "set user"),
        ("[etcd]\nendpoints = [\"http://a:1\"]\nca = \"c\"\n", "https://"),
    ] {
        assert!(complaint(text).contains(says), "{text:?}: {}", complaint(text));
    }
}

#[test]
fn a_file_that_was_named_has_to_be_there() {
    let settings = Some(PathBuf::from("/nonexistent/cvip.toml"));
    let named = Overrides { settings, ..Overrides::default() };
    let said = Settings::load(&named).unwrap_err().to_string();
    assert!(said.contains("/nonexistent/cvip.toml: there is no such file"), "{said}");
}

/// A file with a mode.
fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_secret_that_others_may_read_is_refused_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let etcd = EtcdSettings {
        user: Some("node-3".to_owned()),
        password_file: Some(file.clone()),
        ..EtcdSettings::default()
    };
    for mode in [0o640, 0o604, 0o620, 0o666] {
        write(&file, "hunter2\n", mode);
        let said = etcd.password().unwrap_err().to_string();
        assert!(said.contains(&format!("chmod 600 {}", file.display())), "{said}");
        assert!(etcd.check_files().is_err());
    }
    write(&file, "hunter2\n", 0o600);
    let (user, password) = etcd.password().unwrap().unwrap();
    assert_eq!((user.as_str(), password.expose()), ("node-3", "hunter2"));
    assert!(!format!("{password:?}{etcd:?}").contains("hunter2"));
    write(&file, " \n", 0o600);
    assert!(etcd.password().unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn one_host_makes_its_cluster_key_once_and_a_cluster_has_to_be_given_one() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    let local = Settings::default();
    let keys: Vec<KeyFile> = std::thread::scope(|scope| {
        let make = || local.cluster_key(&run_dir).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
    let mode = fs::metadata(run_dir.join("cluster.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{:?}", keys[0]).contains("1"), "it is not shown");

    let file = dir.path().join("given.key");
    let given = Settings { cluster_key_file: Some(file.clone()), ..Settings::default() };
    let said = given.cluster_key(&run_dir).unwrap_err().to_string();
    assert!(said.contains("/dev/urandom"), "{said}");
    write(&file, "too short", 0o600);
    let said = given.cluster_key(&run_dir).unwrap_err().to_string();
    assert!(said.contains("9 bytes") && !said.contains("too short"), "{said}");
    write(&file, &"k".repeat(32), 0o644);
    assert_eq!(given.cluster_key(&run_dir), Err(SettingsError::Exposed(file.clone())));
    write(&file, &"k".repeat(32), 0o600);
    let said = given.cluster_key(&run_dir).unwrap_err().to_string();
    let shown = file.display().to_string();
    assert!(said.starts_with(&shown) && said.contains("same byte again and again"), "{said}");
    assert_eq!(given.check_cluster_key(&run_dir).unwrap_err().to_string(), said);
    write(&file, &"key".repeat(30_000), 0o600);
    let said = given.cluster_key(&run_dir).unwrap_err().to_string();
    assert!(said.starts_with(&shown) && said.contains("larger than 65536 bytes"), "{said}");
    write(&file, SECRET, 0o600);
    let key = crate::heartbeat::ClusterKey::from_bytes(SECRET.as_bytes()).unwrap();
    assert_eq!(*given.cluster_key(&run_dir).unwrap().key(), key);
    // Who opens a pipe waits for a writer that never comes.
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = given.cluster_key(&run_dir).unwrap_err().to_string();
    assert!(said.contains("no regular file"), "{said}");
}

#[test]
fn no_fault_of_the_file_shows_a_secret_wherever_it_was_written() {
    for text in [
        "[etcd]\npassword = \"hunter2\"\n",
        "[etcd]\npassword: hunter2\n",
        "[etcd]\n  pass-word=\"hunter2\" # mine\n",
        "[password = \"hunter2\"\n",
        "[etcd] password = \"hunter2\"\n",
        "[[hunter2\n",
        "hunter2\n",
        "= hunter2\n",
        "\"hunter2\n",
        "[etcd]\nuser = \"u\" password = \"hunter2\"\n",
        "[etcd]\npassword_file = \"hunter2\n",
        "[etcd]\npassword_file = hunter2\n",
        "[etcd]\npassword_file = [\"hunter2\"\n",
        "[etcd]\nuser = \"u\"\nuser = \"hunter2\"\n",
        "[etcd]\nlease_ttl = \"hunter2\"\n",
        "[etcd]\ntimeout = 99 # hunter2\n",
        "[etcd]\nendpoints = \"hunter2\"\n",
        "[etcd]\nendpoints = [\n  \"a:1\", hunter2\n]\n",
        "[etcd]\nendpoints = [\"root:hunter2@a:2379\"]\n",
        "[etcd]\nendpoints = [\"https://root:hunter2@a:2379\"]\n",
        "[etcd]\nendpoints = [\"ftp://root:hunter2@a:2379\"]\n",
        "[etcd]\nendpoints = [\"a:0\", \"https://root:hunter2@a:2379\"]\n",
    ] {
        let said = super::file::parse(text, Path::new(PATH)).unwrap_err();
        let SettingsError::File(fault) = &said else { panic!("{said}") };
        let json = serde_json::to_string(fault).unwrap();
        assert!(!format!("{said} {json}").contains("hunter2"), "{text:?}: {said}\n{json}");
    }
    // What is no secret helps to find the fault.
    let said = complaint("[etcd]\nlease_ttl = 99999\n");
    assert!(said.contains("lease_ttl = 99999"), "{said}");
    let said = complaint("[etcd]\nendpoints = [\"a:2379\", \"b:0\"]\n");
    assert!(said.contains("endpoints = ********** \"b:0\"*"), "{said}");
}

#[test]
fn a_key_is_advised_where_there_is_none_and_never_over_one_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.key");
    let settings = Settings {
        cluster_key_file: Some(file.clone()),
        engine: Engine::Etcd,
        ..Settings::default()
    };
    let said = || settings.cluster_key(dir.path()).unwrap_err().to_string();
    let advice = format!("base64 > {}", file.display());
    assert!(said().contains(&advice) && said().contains("set -C"), "{}", said());
    write(&file, "", 0o600);
    assert!(!said().contains(&advice), "{}", said());
    write(&file, "short", 0o600);
    assert!(!said().contains(&advice), "{}", said());
    write(&file, &"k".repeat(32), 0o644);
    assert!(!said().contains(&advice), "{}", said());
    write(&file, &"k".repeat(32), 0o000);
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(settings.cluster_key(dir.path()), Err(SettingsError::Forbidden(file.clone())));
        assert!(said().contains("run this as root") && !said().contains("urandom"), "{}", said());
        // Nor where the folder alone may not be entered.
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let inside = closed.join("cluster.key");
        write(&inside, &"k".repeat(32), 0o600);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let hidden = Settings { cluster_key_file: Some(inside.clone()), ..settings.clone() };
        assert_eq!(hidden.cluster_key(dir.path()), Err(SettingsError::Forbidden(inside)));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }
    // To look at it makes none.
    let own = Settings::default();
    if !Path::new(CLUSTER_KEY_PATH).exists() {
        let run_dir = dir.path().join("run");
        assert_eq!(own.check_cluster_key(&run_dir), Ok(()));
        assert!(!run_dir.exists());
        let key = own.cluster_key(&run_dir).unwrap();
        fs::remove_dir_all(&run_dir).unwrap();
        own.tend_cluster_key(&run_dir, &key);
        assert_eq!(own.cluster_key(&run_dir), Ok(key), "deleted, and written again");
        assert_eq!(own.check_cluster_key(&run_dir), Ok(()));
        write(&run_dir.join("cluster.key"), "short", 0o600);
        assert!(own.check_cluster_key(&run_dir).is_err());
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, says) in [
        (pipe.as_path(), "it is no regular file"),
        (Path::new("/dev/zero"), "it is no regular file"),
        (dir.path(), "it is a directory"),
    ] {
        let named = Overrides { settings: Some(path.to_owned()), ..Overrides::default() };
        let said = Settings::load(&named).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
        let file = || Some(path.to_owned());
        for etcd in [
            EtcdSettings { ca: file(), ..EtcdSettings::default() },
            EtcdSettings { cert: file(), key: file(), ..EtcdSettings::default() },
            EtcdSettings { key: file(), ..EtcdSettings::default() },
            EtcdSettings { user: Some("u".into()), password_file: file(), ..Default::default() },
        ] {
            let said = etcd.check_files().unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }
}
