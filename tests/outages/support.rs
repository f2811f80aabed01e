//! A cluster of machines with its store, and what a test asks of it.

use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use cvip::daemon::{EventReader, LoggedEvent};
use cvip_lab::{built_programs, unique_name, until_some};

/// A web service whose scheduler finds the same real server for a client on every director.
pub(crate) const SERVICES: &str = "<service><protocol>tcp</protocol><port>80</port>\
     <scheduler>mh</scheduler>\
     <scheduler_flags>mh-port</scheduler_flags></service>";

/// Nodes have the numbers 1 to 4, the directors 5 and 6, and 7 where there are three.
const NODES: u8 = 4;
pub(crate) const FIRST: u32 = 5;
pub(crate) const SECOND: u32 = 6;
pub(crate) const THIRD: u32 = 7;

/// Every node: a pool that is whole.
pub(crate) fn all() -> Vec<u32> {
    (1..=NODES.into()).collect()
}

/// Every node but this one.
pub(crate) fn all_but(node: u32) -> Vec<u32> {
    all().into_iter().filter(|other| *other != node).collect()
}

/// A cluster on which cvipd runs everywhere.
pub(crate) struct Site(cvip_lab::Site);

impl Site {
    /// Three etcd servers, two directors, four nodes that serve port 80, and a client. The first
    /// director is the active one.
    #[track_caller]
    pub(crate) fn start() -> Site {
        Site::start_with(2)
    }

    /// The same with so many directors.
    #[track_caller]
    pub(crate) fn start_with(directors: u8) -> Site {
        Site::start_prepared(directors, |_| {})
    }

    /// The same, with something done before the first cvipd is started.
    #[track_caller]
    pub(crate) fn start_prepared(directors: u8, prepare: impl FnOnce(&mut Site)) -> Site {
        let mut site = Site::stopped(directors);
        prepare(&mut site);
        // Whoever is there first is elected first.
        site.restart(FIRST);
        site.until("the first director carries the CVIP", |site| site.carries(FIRST));
        for number in site.numbers().filter(|number| *number != FIRST) {
            site.restart(number);
        }
        for node in all() {
            site.serve(node);
        }
        site.await_pool(FIRST, &all());
        site
    }

    #[track_caller]
    fn stopped(directors: u8) -> Site {
        cvip_lab::require();
        let (name, machines) = (unique_name("c"), (directors, NODES));
        Site(cvip_lab::Site::new(&name, machines, &built_programs(), SERVICES).unwrap())
    }

    /// Starts a web server for one page, with the node's number on it.
    #[track_caller]
    pub(crate) fn serve(&mut self, node: u32) {
        self.0.serve(node).unwrap();
    }

    /// Ends a node's web server.
    #[track_caller]
    pub(crate) fn stop_serving(&mut self, node: u32) {
        self.0.stop_serving(node).unwrap();
    }

    #[track_caller]
    pub(crate) fn await_pool(&self, director: u32, nodes: &[u32]) {
        let what = format!("director {director} has {nodes:?} in its pool");
        self.until(&what, |site| (site.pool(director) == nodes).then_some(()));
    }

    /// Some if a node's interface to the clients has the CVIP.
    pub(crate) fn carries(&self, node: u32) -> Option<()> {
        self.0.carries(node).then_some(())
    }

    /// Waits for something.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut ask: impl FnMut(&Site) -> Option<T>) -> T {
        until_some(what, || ask(self))
    }

    /// Asserts something again and again, for so long.
    #[track_caller]
    pub(crate) fn throughout(&self, for_so_long: Duration, assert: impl Fn(&Site)) {
        let ends = Instant::now() + for_so_long;
        self.until("time has passed", |site| {
            assert(site);
            (Instant::now() >= ends).then_some(())
        });
    }

    /// Asserts for so long that the first director alone carries the CVIP, with its pool whole.
    #[track_caller]
    pub(crate) fn stays_as_it_is(&self, for_so_long: Duration) {
        self.throughout(for_so_long, |site| {
            assert_eq!((site.carriers(), site.pool(FIRST)), (vec![FIRST], all()));
        });
    }

    /// What a director recorded of the day, oldest first.
    pub(crate) fn events(&self, director: u32) -> Vec<LoggedEvent> {
        let (mut reader, mut events) = EventReader::open(&self.run_dir_of(director), director);
        events.extend(reader.read());
        events
    }

    /// The state as `cvipctl status --json` shows it on a node.
    #[track_caller]
    pub(crate) fn status(&self, node: u32) -> serde_json::Value {
        self.0.status(node).unwrap()
    }

    /// Starts a node's cvipd again.
    pub(crate) fn restart(&mut self, node: u32) {
        self.start(node, &["--log=info"]).unwrap();
    }
}

impl Deref for Site {
    type Target = cvip_lab::Site;
    fn deref(&self) -> &cvip_lab::Site {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut cvip_lab::Site {
        &mut self.0
    }
}

impl Drop for Site {
    /// A test that failed shows what everybody thought.
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.story());
        }
    }
}
