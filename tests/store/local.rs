//! The embedded store: the common suite, and what only files can do.

use std::fs;
use std::path::PathBuf;

use cvip::settings::Settings;
use cvip::store::{self, Access, Interest, Key, LocalStore, Scope, Store};
use tempfile::TempDir;

use super::conformance::conformance;
use super::holder::RUN_DIR;
use super::support::{Engine, opened, record, until};

/// A folder.
struct Local(TempDir);

impl Local {
    fn new() -> Local {
        Local(tempfile::tempdir().unwrap())
    }

    fn path(&self, key: Key) -> PathBuf {
        self.0.path().join(match key {
            Key::Node(node) => format!("nodes/{node}.json"),
            Key::Director(set) => format!("directors/{set}.json"),
            Key::Drains => "drains/cluster.json".to_owned(),
            Key::Flags(Scope::Cluster) => "flags/cluster.json".to_owned(),
            key => panic!("no test touches {key:?}"),
        })
    }
}

impl Engine for Local {
    fn open_on(&self, _host: u32, interest: Interest) -> Box<dyn Store> {
        store::open(&Settings::default(), self.0.path(), Access::Write, interest).unwrap()
    }

    fn spoil(&self, key: Key, bytes: &[u8]) {
        fs::write(self.path(key), bytes).unwrap();
    }

    fn remove(&self, key: Key) {
        fs::remove_file(self.path(key)).unwrap();
    }

    fn run_dir(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn hold_up(&self, _held_up: bool) {}

    fn environment(&self, _host: u32) -> Vec<(&'static str, String)> {
        vec![("CVIP_STORE", "local".to_owned()), (RUN_DIR, self.0.path().display().to_string())]
    }
}

conformance!(Local::new());

#[test]
fn a_reader_without_the_right_to_write_makes_nothing_and_sees_everything() {
    let engine = Local::new();
    let nowhere = engine.0.path().join("nowhere");
    let mut reader = LocalStore::open(&nowhere, Access::Read).unwrap();
    assert!(reader.refresh().unwrap().changed.is_empty());
    assert!(!nowhere.exists());
    let mut writer = opened(&engine);
    let lease = writer.lease(1, 7).unwrap();
    writer.put_node(&record(1, (7, 1), &[80])).unwrap();
    fs::write(engine.path(Key::Node(2)), "{").unwrap();
    let mut reader = LocalStore::open(engine.0.path(), Access::Read).unwrap();
    let refreshed = reader.refresh().unwrap();
    assert_eq!(refreshed.faults[0].set_aside, None);
    assert!(engine.path(Key::Node(2)).exists());
    assert_eq!(reader.state().alive.get(&1), Some(&7));
    drop(lease);
    until(&mut reader, "the lease ends", |state| state.alive.is_empty());
}

#[test]
fn a_lease_is_seen_whatever_somebody_wrote_into_its_file() {
    let engine = Local::new();
    let mut store = opened(&engine);
    let lease = store.lease(1, 7).unwrap();
    until(&mut *store, "it", |state| state.alive.get(&1) == Some(&7));
    fs::write(engine.0.path().join("nodes/1.lease"), "rubbish").unwrap();
    store.invalidate();
    store.refresh().unwrap();
    assert_eq!(store.state().alive.get(&1), Some(&7), "the last that could be read");
    let other = opened(&engine);
    assert_eq!(other.state().alive.get(&1), Some(&0), "held, by whom is not known");
    drop(lease);
    until(&mut *store, "it ends", |state| state.alive.is_empty());
}

#[test]
fn the_store_is_never_away_and_counts_what_it_reads() {
    let engine = Local::new();
    let mut store = opened(&engine);
    assert_eq!(store.unavailable_since(), None);
    let before = store.requests();
    store.put_node(&record(1, (7, 1), &[80])).unwrap();
    store.refresh().unwrap();
    assert!(store.requests() > before);
}
