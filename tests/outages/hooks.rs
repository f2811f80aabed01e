//! Hooks of directors that take over, are replaced, and leave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::json_support::Schemas;
use super::support::{FIRST, SECOND, Site, all};

/// How long the hooks of one event may take, in seconds: an emulated kernel starts programs slowly.
const TIMEOUT_S: u64 = 15;

/// It writes a line for each run: the event, its user, its capabilities, the addresses of the
/// interface to the clients, and what it was told. Told to, it hangs when a director gives up.
const HOOK: &str = r#"#!/bin/sh
addresses=$(ip -4 -o addr show eth0 | tr '\n' ' ')
capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
printf '%s|%s|%s|%s|%s\n' "$1" "$(id -u)" "$capabilities" "$addresses" "$(cat)" >> DIR/told
if [ "$1" = giving-up ] && [ -e DIR/hang ]; then sleep 1000; fi
"#;

/// What one run of the hook has written.
#[derive(Debug)]
struct Told {
    event: String,
    addresses: String,
    document: Value,
}

/// The folder of a director's hook.
fn folder(site: &Site, director: u32) -> PathBuf {
    site.dir.join(format!("hooks-{director}"))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Gives the directors a hook each.
fn give_hooks(site: &mut Site) {
    for director in [FIRST, SECOND] {
        let dir = folder(site, director);
        fs::create_dir_all(dir.join("hooks.d")).unwrap();
        // It runs as another user.
        set_mode(&dir, 0o777);
        set_mode(&dir.join("hooks.d"), 0o755);
        let hook = dir.join("hooks.d/10-tell");
        fs::write(&hook, HOOK.replace("DIR", &dir.display().to_string())).unwrap();
        set_mode(&hook, 0o755);
        let settings = dir.join("cvip.toml");
        fs::write(&settings, format!("hooks_dir = \"hooks.d\"\nhook_timeout = {TIMEOUT_S}\n"))
            .unwrap();
        site.set_env_of(director, "CVIP_SETTINGS", settings);
    }
}

/// What the hook of a director was told, each document as its schema says.
fn told(site: &Site, schemas: &Schemas, director: u32) -> Vec<Told> {
    let text = fs::read_to_string(folder(site, director).join("told")).unwrap_or_default();
    let line = |line: &str| {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let [event, uid, capabilities, addresses, document] = fields[..] else { panic!("{line}") };
        assert!(uid != "0" && capabilities.chars().all(|c| c == '0'), "{line}");
        let document = schemas.check("hook", document);
        assert_eq!(document["event"], event, "{line}");
        Told { event: event.to_owned(), addresses: addresses.to_owned(), document }
    };
    text.lines().map(line).collect()
}

#[test]
fn hooks_run_in_order_with_the_cvip_there_and_one_that_hangs_delays_a_leave_by_its_time_alone() {
    let schemas = Schemas::read();
    let mut site = Site::start_prepared(2, give_hooks);
    site.await_pool(SECOND, &all());
    let cvip = site.cvip(false).to_string();
    // Waits until a director's hook has been told these events, whatever came before.
    let await_told = |site: &Site, director: u32, events: &[&str]| {
        let what = format!("the hook of {director} is told {events:?}");
        site.until(&what, |site| {
            let told = told(site, &schemas, director);
            let names: Vec<&str> = told.iter().map(|told| &*told.event).collect();
            names.ends_with(events).then_some(())
        });
        let told = told(site, &schemas, director);
        for told in &told {
            let there = told.addresses.contains(&format!(" {cvip}/"));
            assert_eq!(there, told.event != "standby", "{told:?}");
            assert_eq!(told.document["cvips"][0]["address"], *cvip, "{told:?}");
        }
    };
    await_told(&site, FIRST, &["active"]);
    await_told(&site, SECOND, &["standby"]);

    // It is replaced: it yields at once.
    let number = SECOND.to_string();
    site.run(SECOND, &["cvipctl", "takeover", "--node", &number]).unwrap();
    await_told(&site, SECOND, &["standby", "active"]);
    await_told(&site, FIRST, &["active", "standby"]);
    let shown = site.until("the run of the hook is shown", |site| {
        let shown = site.status(SECOND);
        let last = &shown["hooks"]["hooks"][0]["last"];
        (last["event"] == "active" && last["result"] == "done").then_some(shown)
    });
    schemas.check("status", &shown.to_string());

    // It decides itself: first hooks, then the successor.
    site.run(SECOND, &["cvipctl", "leave", "--within=0s", "--node", &number]).unwrap();
    await_told(&site, SECOND, &["standby", "active", "giving-up", "standby"]);
    await_told(&site, FIRST, &["active", "standby", "active"]);
    assert_eq!(site.carriers(), [FIRST]);

    // A hook that hangs.
    site.take_daemon(SECOND);
    site.restart(SECOND);
    await_told(&site, SECOND, &["giving-up", "standby", "standby"]);
    site.await_pool(SECOND, &all());
    fs::write(folder(&site, FIRST).join("hang"), "").unwrap();
    let begun = Instant::now();
    let number = FIRST.to_string();
    let mut leave = site.command(FIRST, "cvipctl");
    leave.args(["leave", "--within=0s", "--node", &number]);
    let mut leave = leave.spawn().unwrap();
    site.until("the second carries the CVIP", |site| site.carries(SECOND));
    let took = begun.elapsed();
    let timeout = Duration::from_secs(TIMEOUT_S);
    assert!(took >= timeout && took < timeout + Duration::from_secs(20), "{took:?}");
    assert!(leave.wait().unwrap().success());
    await_told(&site, FIRST, &["active", "giving-up", "standby"]);
    assert!(site.logged(FIRST).contains("hook 10-tell has failed for giving-up: it was killed"));
}
