//! `cvipctl import`: services that were made by hand become `service` elements of cvip.conf. Of a
//! file of another system, [`import_file`] makes a draft.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use similar::TextDiff;

use super::super::{NodeOption, OK, Site, Streams};
use super::apply::director_node;
use super::import_file::{self, FileArgs};
use crate::clock::Instant;
use crate::conf::{Clustertab, Conf, Diagnostic, DiagnosticSeverity, ServiceConf, with_services};
use crate::director::import::{as_static, differences};
use crate::director::reconcile::is_flagged;
use crate::director::settings::{fallback, service_key};
use crate::ipvs::{Change, Client, Destination, Service, ServiceId};
use crate::json;
use crate::replace::Replacement;
use crate::store::StoreState;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Change nothing; show how the file would change
    #[arg(long, conflicts_with = "file")]
    dry_run: bool,

    #[command(flatten)]
    file: FileArgs,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    if let Some(path) = &args.file.file {
        return import_file::run(path, &args.file, site, streams);
    }
    let conf = site.conf()?;
    let me = director_node(&args.node, site, &conf)?;
    let (state, faults) = site.state()?;
    for fault in faults {
        writeln!(streams.err, "cvipctl: {fault}")?;
    }
    let mut table = Vec::new();
    let mut client = Client::open()?;
    for entry in client.services()? {
        if is_by_hand(entry.service.id, &conf, me, &state) {
            let destinations = client.destinations(&entry.service.id)?;
            table.push((entry.service, destinations.into_iter().map(|d| d.destination).collect()));
        }
    }
    table.sort_by_key(|(service, _)| service.id);
    let clustertab = site.load().clustertab.unwrap_or_default();
    let place = Place { path: &site.conf, clustertab: &clustertab, me };
    let options = ImportOptions { dry_run: args.dry_run, json: args.file.json };
    write(options, table, place, streams)
}

/// What is asked for beside the import.
#[derive(Clone, Copy)]
struct ImportOptions {
    dry_run: bool,
    json: bool,
}

/// Where services are imported to.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    clustertab: &'a Clustertab,
    /// The node whose table they stand in.
    me: u32,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ImportReport {
    changed: bool,
    imported: Vec<String>,
    left: Vec<LeftService>,
    /// What changes in the table when the file is applied.
    changes: Vec<String>,
    /// With --dry-run alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// A service that is left alone.
#[derive(Debug, Serialize)]
struct LeftService {
    service: String,
    reason: String,
}

/// True if a service was made by hand, and is no director's.
fn is_by_hand(id: ServiceId, conf: &Conf, me: u32, state: &StoreState) -> bool {
    let Some(key) = service_key(id) else { return true };
    let owned = state.owned.values().any(|owned| owned.contains(&key));
    !owned && !is_flagged(key, conf, me, state)
}

/// Puts what can be said of a table made by hand into the file, or shows what would be put there.
fn write(
    ImportOptions { dry_run, json: in_json }: ImportOptions,
    table: Vec<(Service, Vec<Destination>)>,
    Place { path, clustertab, me }: Place<'_>,
    streams: &mut Streams<'_>,
) -> anyhow::Result<u8> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let file = Conffile { text: &text, name: &path.to_string_lossy(), clustertab };
    let falls_back = |service: &Service| {
        let flag = fallback(&service.scheduler);
        service.flags & flag == flag
    };
    let hashed = table.iter().map(|(service, _)| service).filter(|service| !falls_back(service));
    let hashed: Vec<(ServiceId, String)> =
        hashed.map(|service| (service.id, service.scheduler.clone())).collect();
    let ImportOutcome { new, imported, changes, left } = file.with(table, me)?;
    for (id, why) in &left {
        writeln!(streams.err, "cvipctl: {id} is left alone: {why}")?;
    }
    for (id, scheduler) in hashed.iter().filter(|(id, _)| imported.contains(id)) {
        writeln!(
            streams.err,
            "cvipctl: {id} gets the flag {scheduler}-fallback when it is applied: without it, \
             clients of a destination with weight 0 are refused"
        )?;
    }
    for change in &changes {
        writeln!(streams.err, "cvipctl: when it is applied: {change}")?;
    }
    let diff = (dry_run && !imported.is_empty()).then(|| {
        let name = path.display().to_string();
        let diff = TextDiff::from_lines(&text, &new);
        diff.unified_diff().header(&name, &name).to_string()
    });
    let changed = !dry_run && !imported.is_empty();
    if changed {
        replace(path, &text, &new).with_context(|| format!("{} stays as it is", path.display()))?;
    }
    if in_json {
        let left = left.into_iter();
        let report = ImportReport {
            changed,
            imported: imported.iter().map(ToString::to_string).collect(),
            left: left
                .map(|(id, reason)| LeftService { service: id.to_string(), reason })
                .collect(),
            changes: changes.iter().map(ToString::to_string).collect(),
            diff,
        };
        json::write(streams.out, report)?;
    } else if let Some(diff) = diff {
        write!(streams.out, "{diff}")?;
    } else if imported.is_empty() {
        writeln!(streams.out, "nothing to import")?;
    } else {
        for id in imported {
            writeln!(streams.out, "{id} is in {} now", path.display())?;
        }
    }
    if !changed {
        return Ok(OK);
    }
    writeln!(
        streams.err,
        "cvipctl: copy the file to every node, then run `cvipctl apply` on the directors"
    )?;
    Ok(OK)
}

/// cvip.conf as it stands.
struct Conffile<'a> {
    text: &'a str,
    name: &'a str,
    clustertab: &'a Clustertab,
}

/// What becomes of it.
#[derive(Debug)]
struct ImportOutcome {
    new: String,
    imported: Vec<ServiceId>,
    /// What changes in the table when it is applied, beside the flag of [`fallback`].
    changes: Vec<Change>,
    /// What cannot be said, and why.
    left: Vec<(ServiceId, String)>,
}

impl Conffile<'_> {
    fn with(
        &self,
        table: Vec<(Service, Vec<Destination>)>,
        me: u32,
    ) -> anyhow::Result<ImportOutcome> {
        let (conf, faults) = crate::conf::parse(self.text, self.name, self.clustertab);
        let Some(conf) = conf else { bail!("{}", shown(&faults)) };
        let mut said: Vec<(ServiceId, (IpAddr, ServiceConf))> = Vec::new();
        let (mut left, mut changes) = (Vec::new(), Vec::new());
        for (mut service, destinations) in table {
            match as_static(&service, &destinations, &conf, me) {
                Ok(element) => {
                    service.flags |= fallback(&service.scheduler);
                    let table = (&service, &destinations[..]);
                    let differing = differences(table, &element.1, &conf, me, Instant::now());
                    changes.extend(differing.into_iter().map(|change| (service.id, change)));
                    said.push((service.id, element));
                }
                Err(why) => left.push((service.id, why)),
            }
        }
        let elements = |said: &[(ServiceId, (IpAddr, ServiceConf))]| -> Vec<_> {
            said.iter().map(|(_, element)| element.clone()).collect()
        };
        let mut new = self.insert(&elements(&said));
        if new.is_err() {
            // One of them is refused: whatever is allowed by itself is taken.
            let mut taken = Vec::new();
            for (id, element) in said {
                taken.push((id, element));
                if let Err(faults) = self.insert(&elements(&taken)) {
                    let fault = faults
                        .into_iter()
                        .find(|fault| fault.severity == DiagnosticSeverity::Error);
                    let why = fault.map_or_else(String::new, |fault| fault.message);
                    left.push((id, why));
                    taken.pop();
                }
            }
            said = taken;
            new = self.insert(&elements(&said));
        }
        let new = new.map_err(|faults| anyhow::anyhow!("{}", shown(&faults)))?;
        left.sort_by_key(|(id, _)| *id);
        let imported: Vec<ServiceId> = said.into_iter().map(|(id, _)| id).collect();
        changes.retain(|(id, _)| imported.contains(id));
        let changes = changes.into_iter().map(|(_, change)| change).collect();
        Ok(ImportOutcome { new, imported, changes, left })
    }

    fn insert(&self, elements: &[(IpAddr, ServiceConf)]) -> Result<String, Vec<Diagnostic>> {
        with_services(self.text, self.name, self.clustertab, elements)
    }
}

fn shown(faults: &[Diagnostic]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

/// Replaces a file that still has the text `old`, as one: a reader finds the old text or
/// the new. Owner and mode stay; where the path is a link, it is its target that is replaced.
fn replace(path: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let mut replacement = Replacement::of(path)?;
    replacement.file().write_all(new.as_bytes())?;
    let present = fs::read_to_string(replacement.target())?;
    ensure!(present == old, "another program changed it meanwhile: try again");
    Ok(replacement.put()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Forwarding, service_flags};
    use crate::protocol::Protocol;

    const CONF: &str = "<cvips>
  <routing>DR</routing>
  <cvip>
    <!-- the only one -->
    <ip_addr>192.168.200.10</ip_addr>
    <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
  </cvip>
</cvips>
";

    fn clustertab() -> Clustertab {
        Clustertab::parse("1 192.168.200.1\n2 192.168.200.2\n", "clustertab").0.unwrap()
    }

    fn by_hand(addr: &str, port: u16, scheduler: &str) -> (Service, Vec<Destination>) {
        let id = ServiceId::Address { protocol: Protocol::Udp, addr: addr.parse().unwrap(), port };
        let server = Destination::new("192.168.200.1".parse().unwrap(), port, Forwarding::Route, 1);
        (Service::new(id, scheduler), vec![server])
    }

    /// Imports into a file in a folder of its own; what was printed, and the file.
    fn import(dry_run: bool, table: Vec<(Service, Vec<Destination>)>) -> (String, String, String) {
        import_into(CONF, dry_run, table)
    }

    fn import_into(
        conf: &str,
        dry_run: bool,
        table: Vec<(Service, Vec<Destination>)>,
    ) -> (String, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cvip.conf");
        fs::write(&path, conf).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams::plain(&mut out, &mut err);
        let place = Place { path: &path, clustertab: &clustertab(), me: 1 };
        let options = ImportOptions { dry_run, json: false };
        let status = write(options, table, place, &mut streams).unwrap();
        assert_eq!(status, OK);
        let folder = dir.path().display().to_string();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "DIR");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left behind");
        (text(out), text(err), fs::read_to_string(path).unwrap())
    }

    #[test]
    fn what_was_imported_is_told_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cvip.conf");
        fs::write(&path, CONF).unwrap();
        let import = |dry_run| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut streams = Streams::plain(&mut out, &mut err);
            let table =
                vec![by_hand("192.168.200.10", 177, "rr"), by_hand("192.168.200.99", 177, "rr")];
            let place = Place { path: &path, clustertab: &clustertab(), me: 1 };
            write(ImportOptions { dry_run, json: true }, table, place, &mut streams).unwrap();
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        };
        let would = import(true);
        assert_eq!(
            (&would["changed"], &would["imported"][0]),
            (&false.into(), &"udp 192.168.200.10:177".into())
        );
        assert!(would["diff"].as_str().unwrap().contains("<port>177</port>"), "{would}");
        assert_eq!(would["left"][0]["service"], "udp 192.168.200.99:177");
        let imported = import(false);
        assert_eq!((&imported["changed"], imported.get("diff")), (&true.into(), None));
        // What stands in the file is no more a service by hand: the caller leaves it out.
        assert!(fs::read_to_string(&path).unwrap().contains("<port>177</port>"));
    }

    #[test]
    fn a_service_that_can_be_said_is_put_into_the_file() {
        let (out, err, text) = import(false, vec![by_hand("192.168.200.10", 177, "rr")]);
        assert_eq!(out, "udp 192.168.200.10:177 is in DIR/cvip.conf now\n");
        assert!(err.contains("cvipctl apply"), "{err}");
        assert!(text.contains("<!-- the only one -->"), "{text}");
        let (conf, faults) = crate::conf::parse(&text, "c", &clustertab());
        assert_eq!(faults, []);
        let service = &conf.unwrap().cvips[0].services[0];
        assert_eq!((service.scheduler.as_str(), service.always_exists()), ("rr", true));
    }

    #[test]
    fn what_applying_it_changes_is_said() {
        let (mut service, servers) = by_hand("192.168.200.10", 177, "wlc");
        // Without persistence an engine means nothing, and cvip.conf cannot say it.
        service.pe = Some("sip".to_owned());
        for dry_run in [true, false] {
            let table = vec![(service.clone(), servers.clone())];
            let (out, err, _) = import_into(CONF, dry_run, table);
            assert!(out.contains("177"), "{out}{err}");
            let first = err.lines().next().unwrap_or_default();
            assert!(first.starts_with("cvipctl: when it is applied: "), "{err}");
        }
    }

    #[test]
    fn a_director_of_weight_0_that_is_no_destination_changes_nothing() {
        let director =
            "<real_server_node><node_num>1</node_num><weight>0</weight></real_server_node>
    <real_server_node><node_num>2</node_num></real_server_node>
  </cvip>";
        let conf = CONF.replace("</cvip>\n</cvips>", &format!("{director}\n</cvips>"));
        let (service, _) = by_hand("192.168.200.10", 177, "wlc");
        let server = |node: u8, weight| {
            Destination::new([192, 168, 200, node].into(), 177, Forwarding::Route, weight)
        };
        for servers in [vec![server(2, 1)], vec![server(1, 0), server(2, 1)]] {
            let (out, err, _) = import_into(&conf, true, vec![(service.clone(), servers)]);
            assert!(out.contains("177"), "{out}{err}");
            assert_eq!(err, "");
        }
    }

    #[test]
    fn a_dry_run_shows_the_difference_and_changes_nothing() {
        let (out, err, text) = import(true, vec![by_hand("192.168.200.10", 177, "wlc")]);
        snapbox::assert_data_eq!(
            out,
            snapbox::str![[r#"
--- DIR/cvip.conf
+++ DIR/cvip.conf
@@ -4,5 +4,10 @@
     <!-- the only one -->
     <ip_addr>192.168.200.10</ip_addr>
     <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface></director_node>
+    <service>
+      <protocol>udp</protocol>
+      <port>177</port>
+      <registration>static</registration>
+    </service>
   </cvip>
 </cvips>

"#]]
        );
        assert_eq!((err.as_str(), text.as_str()), ("", CONF));
    }

    #[test]
    fn what_cannot_be_said_is_named_with_the_reason_and_the_rest_is_imported() {
        let (mut sip, servers) = by_hand("192.168.200.10", 5060, "a scheduler");
        sip.flags = service_flags::SCHED1;
        let table = vec![
            by_hand("192.168.200.11", 177, "wlc"),
            (sip, servers),
            by_hand("192.168.200.10", 177, "wlc"),
        ];
        let (out, err, text) = import(false, table);
        assert_eq!(out.lines().count(), 1, "{out}");
        snapbox::assert_data_eq!(
            err,
            snapbox::str![[r#"
cvipctl: udp 192.168.200.10:5060 is left alone: `a scheduler` is not a scheduler: its name has letters, digits, `-` and `_` only
cvipctl: udp 192.168.200.11:177 is left alone: 192.168.200.11 is no CVIP of cvip.conf
cvipctl: copy the file to every node, then run `cvipctl apply` on the directors

"#]]
        );
        assert_eq!(text.matches("<service>").count(), 1);
        let (out, _, text) = import(false, vec![by_hand("192.168.200.11", 177, "wlc")]);
        assert_eq!((out.as_str(), text.as_str()), ("nothing to import\n", CONF));
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cvip.conf");
        fs::write(&path, "another's").unwrap();
        let error = replace(&path, "old", "new").unwrap_err().to_string();
        assert!(error.contains("meanwhile"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
