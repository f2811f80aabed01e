//! A process that holds a lease, to be killed by the tests: this test program itself, started
//! again with one test.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cvip::settings::{Overrides, Settings};
use cvip::store::{self, Access, Holding, Interest};
use cvip_lab::Process;

use super::support::{Engine, until};

/// Variables that tell the process what to hold.
const NODE: &str = "CVIP_TEST_NODE";
const INCARNATION: &str = "CVIP_TEST_INCARNATION";
pub(crate) const RUN_DIR: &str = "CVIP_RUN_DIR";

/// A running holder; killed, not asked, when it goes out of use.
pub(crate) struct Holder(Process);

impl Holder {
    /// Starts a process that holds a node's lease, and waits until it does.
    #[track_caller]
    pub(crate) fn start(engine: &dyn Engine, host: u32, node: u32, incarnation: u64) -> Holder {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "--nocapture", "holder::the_process_that_holds_a_lease"])
            .env(NODE, node.to_string())
            .env(INCARNATION, incarnation.to_string())
            .envs(engine.environment(host))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(command).unwrap();
        let mut lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        let held = lines.any(|line| line.unwrap().contains("the lease is held"));
        assert!(held, "the holder ended without a lease");
        Holder(process)
    }

    /// Kills it, as kill -9 does, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self.0);
    }

    #[cfg(feature = "etcd")]
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        self.0.pid()
    }
}

#[test]
#[ignore = "the process that other tests start and kill"]
fn the_process_that_holds_a_lease() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    #[derive(clap::Parser)]
    struct Options {
        #[command(flatten)]
        store: Overrides,
    }
    // As every program does, by its environment.
    let options = <Options as clap::Parser>::try_parse_from(["holder"]).unwrap();
    let settings = Settings::load(&options.store).unwrap();
    let node = variable(NODE).parse().unwrap();
    let run_dir = PathBuf::from(variable(RUN_DIR));
    let mut store = store::open(&settings, &run_dir, Access::Write, Interest::Node(node)).unwrap();
    let lease = store.lease(node, variable(INCARNATION).parse().unwrap()).unwrap();
    until(&mut *store, "the lease is in the view", |state| state.alive.contains_key(&node));
    assert_eq!(lease.holding(), Holding::Held);
    println!("the lease is held");
    // Until it is killed, or whoever started it is gone.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    drop(lease);
}
