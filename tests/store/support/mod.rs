//! What the tests of the store share: waiting by wake-ups alone, and values to store.

use std::time::Instant;

use cvip::ports::{FlagSet, PortFlag};
use cvip::protocol::Protocol;
use cvip::store::{
    Fault, Interest, Key, NodeRecord, Refreshed, Registration, ServiceKey, Store, StoreState,
};
use cvip_lab::PATIENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

#[cfg(feature = "etcd")]
pub(crate) mod certificates;
#[cfg(feature = "etcd")]
pub(crate) mod proxy;
#[cfg(feature = "etcd")]
pub(crate) mod server;

/// An engine under test: how its store is opened, and what stands behind it.
pub(crate) trait Engine: Sync {
    /// The store as a process on a host opens it. The embedded store is of one host alone.
    fn open_on(&self, host: u32, interest: Interest) -> Box<dyn Store>;

    /// Puts bytes where a key's value stands, past the store.
    fn spoil(&self, key: Key, bytes: &[u8]);

    /// Removes a key past the store.
    fn remove(&self, key: Key);

    /// The folder of the first host.
    fn run_dir(&self) -> std::path::PathBuf;

    /// Nothing answers any more, or it does again. The embedded store always answers.
    fn hold_up(&self, held_up: bool);

    /// What a process needs to be told to open the store on a host: variables.
    fn environment(&self, host: u32) -> Vec<(&'static str, String)>;

    /// The store on the first host, with everything in view.
    fn open(&self) -> Box<dyn Store> {
        self.open_on(1, Interest::All)
    }
}

/// A store that was read once.
#[track_caller]
pub(crate) fn opened(engine: &dyn Engine) -> Box<dyn Store> {
    let mut store = engine.open();
    until(&mut *store, "everything is read", |_| true);
    store
}

/// Refreshes whenever the store wakes, and only then, until the view is as it should be. What
/// changed on the way, and the faults, come back.
#[track_caller]
pub(crate) fn until(
    store: &mut dyn Store,
    what: &str,
    mut is: impl FnMut(&StoreState) -> bool,
) -> Refreshed {
    until_store(store, what, |store| is(store.state()))
}

/// The same, for what the store says beside the view. A store that was never read is not asked.
#[track_caller]
pub(crate) fn until_store(
    store: &mut dyn Store,
    what: &str,
    mut is: impl FnMut(&dyn Store) -> bool,
) -> Refreshed {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Refreshed::default();
    loop {
        match store.refresh() {
            Ok(refreshed) => {
                all.changed.extend(refreshed.changed);
                all.faults.extend(refreshed.faults);
                if is(store) {
                    return all;
                }
            }
            Err(error) => assert!(error.is_unavailable(), "{what}: {error}"),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(store.wakeup(), PollFlags::POLLIN)];
        let woken = poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
        assert!(woken > 0, "{what}: no wake-up within {PATIENCE:?}: {:#?}", store.state());
    }
}

/// True if the store asks for a refresh now.
pub(crate) fn rings(store: &dyn Store) -> bool {
    let mut fds = [PollFd::new(store.wakeup(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

/// What changed, where nothing was corrupt.
#[track_caller]
pub(crate) fn keys(refreshed: Refreshed) -> Vec<Key> {
    assert_eq!(refreshed.faults, []);
    refreshed.changed.into_iter().collect()
}

/// The one fault there is.
#[track_caller]
pub(crate) fn only(refreshed: Refreshed) -> Fault {
    let [fault] = <[Fault; 1]>::try_from(refreshed.faults).unwrap();
    fault
}

pub(crate) fn service(port: u16) -> ServiceKey {
    ServiceKey { cvip: "192.168.200.10".parse().unwrap(), protocol: Protocol::Tcp, port }
}

/// A record that registers ports.
pub(crate) fn record(node: u32, version: (u64, u64), ports: &[u16]) -> NodeRecord {
    let registration = |port: &u16| Registration::new(service(*port), 1);
    NodeRecord {
        registrations: ports.iter().map(registration).collect(),
        event_source: "none".to_owned(),
        ..NodeRecord::empty(node, version.0, version.1)
    }
}

pub(crate) fn flag(port: u16) -> PortFlag {
    PortFlag { protocol: Protocol::Tcp, start: port, end: port, weight: 1 }
}

pub(crate) fn flags(ports: &[u16]) -> FlagSet {
    ports.iter().map(|port| flag(*port)).collect()
}
