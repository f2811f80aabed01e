//! Hooks that are run: shell scripts in a directory of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;

use tempfile::TempDir;

use super::super::messages::{HookResult, RoleChange, RoleEvent};
use super::*;
use crate::daemon::worker::{Worker, inbox};
use crate::wake::{Inbox, channel};

const LONG: Duration = Duration::from_secs(20);

struct Scene {
    dir: TempDir,
    main: Inbox<MainMessage>,
    worker: Worker<HookMessage>,
}

fn write(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Scene {
    /// Hooks of these names and scripts, in which `$DIR` is a folder into which they may write.
    fn start(hooks: &[(&str, &str)], timeout: Duration) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        // Where this test is root, hooks run as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (hooks_dir, written) = (dir.path().join("hooks.d"), dir.path().join("written"));
        for folder in [&hooks_dir, &written] {
            fs::create_dir(folder).unwrap();
        }
        fs::set_permissions(&hooks_dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&written, fs::Permissions::from_mode(0o777)).unwrap();
        for (name, script) in hooks {
            write(&hooks_dir.join(name), &format!("DIR={}\n{script}", written.display()));
        }
        let (outbox, main) = channel().unwrap();
        let settings = HookSettings { dir: hooks_dir, user: None, timeout };
        let runner = HookRunner::new(2, settings, outbox);
        let worker = Worker::start("hooks", runner, inbox().unwrap()).unwrap();
        Scene { dir, main, worker }
    }

    fn tell(&self, number: u64, event: RoleEvent) {
        let (set, term, cvips) = (1, Some(3), Vec::new());
        let change = RoleChange { number, event, set, term, cvips };
        self.worker.inbox.send(HookMessage::Role(change));
    }

    /// Waits until everything that was told is over.
    fn finish(&self) {
        let (done, is_done) = mpsc::channel();
        self.worker.inbox.send(HookMessage::Finish(done));
        is_done.recv_timeout(LONG).unwrap();
    }

    fn view(&self) -> HooksView {
        let (reply, said) = mpsc::channel();
        self.worker.inbox.send(HookMessage::View(reply));
        said.recv_timeout(LONG).unwrap()
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join("written").join(name)).unwrap()
    }

    /// Waits until the main thread is told that the hooks of the first change have ended.
    fn await_end(&self) {
        let deadline = Instant::now() + LONG;
        while self.ended() != [1] {
            assert!(Instant::now() < deadline, "they have not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ended(&self) -> Vec<u64> {
        let number = |message| match message {
            MainMessage::HooksEnded(number) => Some(number),
            _ => None,
        };
        self.main.take().into_iter().filter_map(number).collect()
    }
}

#[test]
fn hooks_are_run_in_order_with_the_event_as_argument_and_its_document_as_input() {
    let scene = Scene::start(
        &[
            ("20-second", "echo second $1 >> $DIR/order"),
            ("10-first", "cat > $DIR/document; echo first $1 >> $DIR/order; env > $DIR/env"),
            ("30-not.run", "echo wrong >> $DIR/order"),
        ],
        LONG,
    );
    scene.tell(1, RoleEvent::GivingUp);
    scene.await_end();
    scene.tell(2, RoleEvent::Standby);
    scene.finish();
    assert_eq!(
        scene.written("order"),
        "first giving-up\nsecond giving-up\nfirst standby\nsecond standby\n"
    );
    let document: serde_json::Value = serde_json::from_str(&scene.written("document")).unwrap();
    assert_eq!((&document["event"], &document["node"]), (&"standby".into(), &2.into()));
    let environment = scene.written("env");
    let names: Vec<&str> =
        environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let of_a_shell = |name: &&str| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name);
    assert_eq!(names.into_iter().filter(of_a_shell).collect::<Vec<_>>(), ["PATH"]);
}

#[test]
fn a_hook_that_fails_or_hangs_is_told_of_and_the_next_event_goes_on() {
    let hangs = "[ $1 = standby ] || { echo waiting >&2; sleep 1000; }; echo $1 >> $DIR/ran";
    let scene = Scene::start(
        &[("10-fails", "echo first line >&2; exit 3"), ("20-hangs", hangs)],
        Duration::from_secs(1),
    );
    scene.tell(1, RoleEvent::GivingUp);
    scene.await_end();
    let last = |name: &str| {
        let hook = scene.view().hooks.into_iter().find(|hook| hook.name == name).unwrap();
        let last = hook.last.unwrap();
        (last.result, last.reason.unwrap_or_default())
    };
    assert_eq!(last("10-fails"), (HookResult::Failed, "status 3: first line".to_owned()));
    let (result, reason) = last("20-hangs");
    assert_eq!(result, HookResult::Killed);
    assert!(reason.ends_with("have 1 s together: waiting"), "{reason}");
    scene.tell(2, RoleEvent::Standby);
    scene.finish();
    assert_eq!(scene.written("ran"), "standby\n");
    assert_eq!(last("20-hangs").0, HookResult::Done);
}

#[test]
fn a_hook_that_cannot_be_run_has_failed_and_refused_files_are_shown() {
    let scene = Scene::start(&[], LONG);
    let hooks_dir = scene.dir.path().join("hooks.d");
    fs::write(hooks_dir.join("10-no-program"), "#!/no/such/shell\n").unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(hooks_dir.join("10-no-program"), mode).unwrap();
    fs::write(hooks_dir.join("20-plain"), "").unwrap();
    scene.tell(1, RoleEvent::Active);
    scene.finish();
    let view = scene.view();
    let reason = view.hooks[0].last.as_ref().unwrap().reason.clone().unwrap();
    assert!(reason.starts_with("run ") && reason.ends_with("No such file or directory"));
    assert_eq!(view.refused[0].name, "20-plain");
    assert_eq!(view.directory, hooks_dir.display().to_string());
}
