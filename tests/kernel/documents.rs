//! What the programs print with `--json`, where a kernel has something to say; `tests/json.rs`
//! does without one.

use std::fs;

use cvip::protocol::Protocol::Tcp;
use cvip_lab::Plan;
use nix::sys::signal::Signal;

use super::json_support::Schemas;
use super::support::{Site, listen, shown};

const SERVICES: &str = "<service><port>8080</port><persistence>300</persistence></service>\
    <service><protocol>udp</protocol><port>5353</port><registration>static</registration>\
    <one_packet>yes</one_packet></service>";

#[test]
fn documents_are_as_their_schemas_say() {
    let schemas = Schemas::read();
    let site = Site::start(2, &Plan { services: SERVICES, ..Plan::default() });
    let _one = listen(site.host(1), "0.0.0.0:8080");
    site.await_pool(site.v4(Tcp, 8080), Some(&[(1, 1)]));
    for (line, name) in [
        ("cvipctl drain 2 --reason disk --json", "drain"),
        ("cvipctl status --json", "status"),
        ("cvipctl doctor --json", "doctor"),
        ("cvipctl diff --json", "diff"),
        ("cvipctl check --json", "check"),
        ("cvipctl apply --json", "apply"),
        ("cvipctl import --json", "import-table"),
        ("cvipctl import --json --dry-run", "import-table"),
        ("cvipctl takeover --json", "takeover"),
        ("cvipctl undrain 2 --json", "undrain"),
        ("setport_weight --list --json", "flags"),
        ("ipvsadm-rs -L --json", "table"),
        ("ipvsadm-rs -L --json --stats --interval 0.5 --count 1", "table"),
        ("ipvsadm-rs -L -c --json", "connections"),
        ("ipvsadm-rs -L --timeout --json", "timeouts"),
        ("ipvsadm-rs -L --daemon --json", "daemons"),
        ("ipvsadm-rs -L --totals --json", "totals"),
    ] {
        let (out, err) = shown(&site.try_run(site.director(), line));
        assert!(!out.is_empty(), "{line}: {err}");
        let document = schemas.check(name, &out);
        if name == "status" {
            assert_eq!(document["services"][0]["owned"], true, "{document:#}");
        }
    }
    for event in site.direct("cvipctl events --json").lines() {
        schemas.check("event", event);
    }
}

#[test]
fn a_converted_configuration_is_restored() {
    let mut site = Site::start(2, &Plan { services: SERVICES, ..Plan::default() });
    site.end_everywhere(Signal::SIGTERM);
    let restored = |options: &str, how: &str| {
        site.direct("ipvsadm-rs -C");
        let file = site.dir.join("converted");
        fs::write(&file, site.direct(&format!("cvipctl convert --all {options}"))).unwrap();
        let mut restore = site.command(site.director(), "ipvsadm-rs");
        let ran = restore.arg(how).stdin(fs::File::open(file).unwrap()).output().unwrap();
        assert!(ran.status.success(), "{how}: {ran:?}");
        site.all_rules()
    };
    let by_lines = restored("", "-R");
    assert!(by_lines.contains(" -p 300\n") && by_lines.contains(" -o\n"), "{by_lines}");
    assert_eq!(restored("--json", "--restore-json"), by_lines);
}
