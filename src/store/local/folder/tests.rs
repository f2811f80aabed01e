//! The folder, refreshed when it is woken and only then.

use std::fs::OpenOptions;
use std::io::Write;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::lease::Lock;
use super::*;

/// Refreshes when woken, and only then.
#[track_caller]
fn until(folder: &mut Folder, view: &mut StoreState, is: impl Fn(&StoreState) -> bool) {
    for _ in 0..1000 {
        folder.refresh(view).unwrap();
        if is(view) {
            return;
        }
        let mut fds = [PollFd::new(folder.wakeup(), PollFlags::POLLIN)];
        let woken = poll(&mut fds, PollTimeout::from(60_000_u16)).unwrap();
        assert!(woken > 0, "no wake-up: {view:?}");
    }
    panic!("woken for nothing: {view:?}");
}

#[test]
fn a_lock_that_is_released_after_its_file_was_closed_is_noticed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(dir.path(), Access::Write, KeptKeys::All).unwrap();
    let mut view = StoreState::default();
    let path = folder.path(Key::Alive(1));
    // Only this file is locked, and it stays open.
    let lock = Lock::take(dir.path(), 1, 7).unwrap();
    until(&mut folder, &mut view, |view| view.alive.get(&1) == Some(&7));
    // The kernel tells of the close...
    drop(OpenOptions::new().write(true).open(&path).unwrap());
    folder.refresh(&mut view).unwrap();
    assert_eq!(view.alive.get(&1), Some(&7), "it is held");
    // ...and releases the lock an instant later, without a notification.
    let released = libc::flock {
        l_type: libc::F_UNLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(lock.shown(), FcntlArg::F_OFD_SETLK(&released)).unwrap();
    until(&mut folder, &mut view, |view| view.alive.is_empty());
}

#[test]
fn a_file_that_is_only_begun_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::open(dir.path(), Access::Write, KeptKeys::All).unwrap();
    let mut view = StoreState::default();
    folder.refresh(&mut view).unwrap();
    let mut file = File::create(folder.path(Key::Node(1))).unwrap();
    file.write_all(b"{\"node\": 1,").unwrap();
    let refreshed = folder.refresh(&mut view).unwrap();
    assert_eq!(refreshed.faults, [], "an editor is not done yet");
    drop(file);
    assert_eq!(folder.refresh(&mut view).unwrap().faults.len(), 1, "now it says so");
}

#[test]
fn the_host_s_part_keeps_what_no_other_host_needs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Folder::open(dir.path(), Access::Write, KeptKeys::All).unwrap();
    let flags = Value::Flags(Default::default());
    for key in [Key::Flags(Scope::Cluster), Key::Flags(Scope::Node(1))] {
        all.write(key, &flags).unwrap();
    }
    all.write(Key::Owned(1), &Value::Owned(BTreeSet::new())).unwrap();
    let mut host = Folder::open(dir.path(), Access::Write, KeptKeys::Host).unwrap();
    let mut view = StoreState::default();
    host.refresh(&mut view).unwrap();
    assert_eq!(view.keys(), [Key::Flags(Scope::Node(1)), Key::Owned(1)].into());
    all.write(Key::Flags(Scope::Cluster), &flags).unwrap();
    assert!(host.refresh(&mut view).unwrap().changed.is_empty());
}

/// A view of the folder that was read once.
fn opened(dir: &Path) -> (Folder, StoreState) {
    let (mut folder, mut view) =
        (Folder::open(dir, Access::Write, KeptKeys::All).unwrap(), StoreState::default());
    folder.refresh(&mut view).unwrap();
    (folder, view)
}

#[test]
fn a_folder_that_is_deleted_takes_nothing_away_and_is_made_again() {
    for whole in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let (mut writer, mut written) = opened(&run_dir);
        let lease = Lock::take(&run_dir, 1, 7).unwrap();
        let record = crate::store::NodeRecord::empty(1, 7, 1);
        writer.write(Key::Node(1), &Value::Node(record)).unwrap();
        writer.write(Key::Flags(Scope::Cluster), &Value::Flags(Default::default())).unwrap();
        let owned = Value::Owned(BTreeSet::new());
        writer.keep(Key::Owned(1), owned.clone(), Instant::now());
        until(&mut writer, &mut written, |view| view.keys().len() == 4);
        let (mut reader, mut view) = opened(&run_dir);
        let before = view.clone();
        match whole {
            true => fs::remove_dir_all(&run_dir).unwrap(),
            false => {
                for entry in fs::read_dir(&run_dir).unwrap() {
                    fs::remove_dir_all(entry.unwrap().path()).unwrap();
                }
            }
        }
        // Those who only read keep what they have, and write it again for all.
        let refreshed = reader.refresh(&mut view).unwrap();
        assert_eq!((refreshed.faults, &view), (vec![], &before), "whole: {whole}");
        for key in [Key::Node(1), Key::Flags(Scope::Cluster), Key::Owned(1)] {
            assert_eq!(reader.read(key).unwrap(), before.value(key), "{key:?}");
        }
        lease.tend();
        writer.refresh(&mut written).unwrap();
        reader.refresh(&mut view).unwrap();
        assert_eq!((&view, &written), (&before, &before));
        // And what is written from now on is seen again.
        let later = crate::store::NodeRecord::empty(1, 7, 2);
        writer.write(Key::Node(1), &Value::Node(later)).unwrap();
        until(&mut reader, &mut view, |view| view.nodes[&1].sequence == 2);
        drop(lease);
        until(&mut reader, &mut view, |view| view.alive.is_empty());
        assert_eq!(opened(&run_dir).1.value(Key::Owned(1)), Some(owned));
    }
}

#[test]
fn a_file_that_is_missing_is_waited_for_but_not_by_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut owner, mut owned) = opened(dir.path());
    owner.write(Key::Node(1), &Value::Node(crate::store::NodeRecord::empty(1, 7, 1))).unwrap();
    until(&mut owner, &mut owned, |view| view.nodes.contains_key(&1));
    let (mut other, mut view) = opened(dir.path());
    let path = owner.path(Key::Node(1));
    let remove = || fs::remove_file(&path).unwrap();
    remove();
    other.refresh(&mut view).unwrap();
    assert!(view.nodes.contains_key(&1), "it may come again");
    owner.refresh(&mut owned).unwrap();
    assert!(owned.nodes.is_empty(), "its owner is to write it again");
    owner.write(Key::Node(1), &Value::Node(crate::store::NodeRecord::empty(1, 7, 2))).unwrap();
    until(&mut other, &mut view, |view| view.nodes[&1].sequence == 2);
    assert!(other.missing.is_empty());
    remove();
    other.invalidate();
    other.refresh(&mut view).unwrap();
    assert!(view.nodes.is_empty(), "who asks for a full read wants to know");
}

#[test]
fn what_a_director_owns_is_in_force_before_it_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut folder, mut view) = opened(dir.path());
    // A folder stands where the file should be.
    let path = folder.path(Key::Owned(1));
    fs::create_dir(&path).unwrap();
    let now = Instant::now();
    let owned = Value::Owned(BTreeSet::new());
    folder.keep(Key::Owned(1), owned.clone(), now);
    view.set(Key::Owned(1), Some(owned.clone()));
    folder.invalidate();
    assert_eq!(folder.refresh(&mut view).unwrap().faults, []);
    assert_eq!(view.value(Key::Owned(1)), Some(owned.clone()));
    assert!(files::unsaved().iter().any(|line| line.contains(&path.display().to_string())));
    fs::remove_dir(&path).unwrap();
    until(&mut folder, &mut view, |_| path.is_file());
    assert_eq!(folder.read(Key::Owned(1)).unwrap(), Some(owned));
}

#[test]
fn what_could_not_be_read_is_read_again_though_nothing_tells_when_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let (mut folder, mut view) = opened(dir.path());
    let mut writer = opened(dir.path()).0;
    // As if no descriptor were left: the link leads in a circle, and what fixes that is elsewhere.
    let (elsewhere, path) = (dir.path().join("elsewhere"), folder.path(Key::Node(1)));
    std::os::unix::fs::symlink(&elsewhere, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    folder.invalidate();
    assert_eq!(folder.refresh(&mut view).unwrap().faults.len(), 1);
    fs::remove_file(&elsewhere).unwrap();
    let record = crate::store::NodeRecord::empty(1, 7, 1);
    fs::write(&elsewhere, Value::Node(record).encode()).unwrap();
    until(&mut folder, &mut view, |view| view.nodes.contains_key(&1));
    assert!(folder.unreadable.is_empty());
    // What stays as it is is told once, and looked at ever more rarely.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    folder.invalidate();
    assert_eq!(folder.refresh(&mut view).unwrap().faults.len(), 1);
    let fault = |view: &mut StoreState, folder: &mut Folder| {
        folder.unreadable.get_mut(&Key::Node(1)).unwrap().at = Instant::now();
        let faults = folder.refresh(view).unwrap().faults.len();
        (faults, folder.unreadable[&Key::Node(1)].pause)
    };
    assert_eq!(fault(&mut view, &mut folder), (0, 2 * AGAIN));
    assert_eq!(fault(&mut view, &mut folder), (0, 4 * AGAIN));
    fs::remove_dir(&path).unwrap();
    writer.write(Key::Node(1), &Value::Node(crate::store::NodeRecord::empty(1, 7, 2))).unwrap();
    until(&mut folder, &mut view, |view| view.nodes[&1].sequence == 2);
}

#[test]
fn a_pipe_where_a_record_should_be_is_a_fault_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut folder, mut view) = opened(dir.path());
    for key in [Key::Node(1), Key::Alive(2)] {
        nix::unistd::mkfifo(&folder.path(key), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    folder.invalidate();
    let faults = folder.refresh(&mut view).unwrap().faults;
    let told: Vec<_> = faults.iter().map(|f| (f.key, f.set_aside.is_some())).collect();
    assert_eq!(told, [(Key::Node(1), false), (Key::Alive(2), false)]);
    assert!(faults.iter().all(|fault| fault.reason == "it is no regular file"), "{faults:?}");
    let record = crate::store::NodeRecord::empty(1, 7, 1);
    folder.write(Key::Node(1), &Value::Node(record)).unwrap();
    until(&mut folder, &mut view, |view| view.nodes.contains_key(&1));
}
