//! Network namespaces for tests, and a keeper's record.

#![allow(dead_code)] // each test program uses its part

use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cvip::net::{DesiredSettings, Difference, Done, NetworkSettings, Report};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// No kernel needs longer for anything that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that lives in it and does what it is told.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: i32,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, opened) = mpsc::channel();
        std::thread::spawn(move || {
            let thread = nix::unistd::gettid().as_raw();
            ready.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| thread)).expect("a listener");
            inbox.into_iter().for_each(|job| job());
        });
        let thread = opened.recv().expect("the namespace's thread").unwrap_or_else(|errno| {
            panic!("no network namespace: {errno}; run this test as root (CAP_SYS_ADMIN)")
        });
        let namespace = Namespace { jobs, thread };
        namespace.ip("link set lo up");
        namespace
    }

    /// Does a job in the namespace; its panic is the test's.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = std::panic::AssertUnwindSafe(job);
        self.jobs
            .send(Box::new(move || {
                let _ = done.send(std::panic::catch_unwind(job));
            }))
            .expect("the namespace's thread");
        match result.recv().expect("the namespace's thread") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs ip(8) with these words; its output.
    pub(crate) fn ip(&self, words: &str) -> String {
        let words = words.to_owned();
        self.run(move || {
            let output = Command::new("ip")
                .args(words.split(' '))
                .output()
                .unwrap_or_else(|error| panic!("this test needs iproute2: ip: {error}"));
            assert!(
                output.status.success(),
                "ip {words}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).expect("text")
        })
    }

    pub(crate) fn json(&self, words: &str) -> Vec<Value> {
        let text = self.ip(&format!("-j {words}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        serde_json::from_str(&text).expect("ip -j speaks JSON")
    }

    /// What ip(8) says of an address on an interface.
    pub(crate) fn shown(&self, addr: &str, device: &str) -> Option<Value> {
        self.json(&format!("addr show dev {device}"))
            .iter()
            .flat_map(|link| link["addr_info"].as_array().cloned().unwrap_or_default())
            .find(|info| info["local"] == addr)
    }

    pub(crate) fn setting(&self, path: &str) -> String {
        let path = format!("/proc/sys/{path}");
        self.run(move || std::fs::read_to_string(&path).expect(&path).trim().to_owned())
    }

    pub(crate) fn set(&self, path: &str, value: &'static str) {
        let path = format!("/proc/sys/{path}");
        self.run(move || std::fs::write(&path, value).expect(&path));
    }

    /// A pair of interfaces, one here and one there, both up.
    pub(crate) fn wire(&self, here: &str, there: &Namespace, its: &str) {
        self.ip(&format!("link add {here} type veth peer name {its} netns {}", there.thread));
        self.ip(&format!("link set {here} up"));
        there.ip(&format!("link set {its} up"));
        // The kernel drops what is sent before it has noticed the carrier.
        for (namespace, device) in [(self, here), (there, its)] {
            let state =
                || namespace.json(&format!("link show dev {device}"))[0]["operstate"].clone();
            wait_until("a carrier", || state() == "UP");
        }
    }
}

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A keeper's record in a folder of its own.
pub(crate) struct Record(tempfile::TempDir);

impl Record {
    pub(crate) fn new() -> Record {
        Record(tempfile::tempdir().expect("a folder for a record"))
    }

    pub(crate) fn settings(&self) -> NetworkSettings {
        NetworkSettings::open(&self.0.path().join("net.json")).expect("a record that can be read")
    }

    /// Applies desired settings in a namespace, with a keeper that knows what the record says and nothing
    /// else: each call is a cvipd that was killed and started again.
    pub(crate) fn apply(&self, namespace: &Namespace, desired: &DesiredSettings) -> Report {
        let (mut settings, desired) = (self.settings(), desired.clone());
        namespace.run(move || settings.apply(&desired))
    }

    pub(crate) fn apply_well(
        &self,
        namespace: &Namespace,
        desired: &DesiredSettings,
    ) -> Vec<String> {
        let report = self.apply(namespace, desired);
        assert_eq!(report.failures, []);
        report.done.iter().map(Done::to_string).collect()
    }

    pub(crate) fn undo(&self, namespace: &Namespace) -> Vec<String> {
        self.apply_well(namespace, &DesiredSettings::default())
    }

    pub(crate) fn check(
        &self,
        namespace: &Namespace,
        desired: &DesiredSettings,
    ) -> Vec<Difference> {
        let (settings, desired) = (self.settings(), desired.clone());
        namespace.run(move || settings.check(&desired)).expect("lists of the kernel")
    }
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
