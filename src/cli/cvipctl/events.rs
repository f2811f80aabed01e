//! `cvipctl events`: what the nodes of this host recorded, in the order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::super::{FAILED, OK, Site, Streams, harmless, node_number};
use crate::conf::{Clustertab, Conf};
use crate::daemon::{EventReader, LoggedEvent, recorders};
use crate::director::DirectorEvent;
use crate::json;

/// How often `--follow` looks for new events.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Only what happened since: a time ago, such as 90s or 1h, or a moment, such as
    /// 2026-03-01T22:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// Go on with what happens from now, until interrupted
    #[arg(long)]
    follow: bool,

    /// Only what is about this node: what it serves, how it is, its drains, and what it did as a
    /// director
    #[arg(long, value_name = "N", value_parser = node_number)]
    node: Option<u32>,

    /// Print a line of JSON for each event
    #[arg(long)]
    json: bool,
}

/// From when on events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Ago(Duration),
    At(SystemTime),
}

pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    humantime::parse_rfc3339_weak(text).map(Since::At).map_err(|_| {
        "it is a time ago such as 90s or 1h, or a moment such as 2026-03-01T22:00:00Z".to_owned()
    })
}

impl Since {
    /// The moment as events have it. Those are of one length and in UTC: their order as texts is
    /// that of time.
    fn version(self, now: SystemTime) -> String {
        let at = match self {
            Since::At(at) => at,
            Since::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        json::rfc3339_millis(at)
    }
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let mut outcome = OK;
    let about = match args.node {
        None => None,
        Some(node) => {
            let known = site.known();
            if let Some(problem) = &known.problem {
                writeln!(streams.err, "cvipctl: {problem}")?;
            }
            // Events that call it by its address are not found without a configuration.
            outcome = if known.conf.is_some() { OK } else { FAILED };
            // A node that was struck from the files may still be what is asked for.
            let recorded = recorders(&site.run_dir).unwrap_or_default();
            known.node(node, recorded.into_iter().chain(named(&site.run_dir)))?;
            Some(About::of(node, known.conf.as_ref(), &known.clustertab))
        }
    };
    let filter =
        EventFilter { since: args.since.map(|since| since.version(SystemTime::now())), about };
    let mut readers = Readers::default();
    let mut echoes = Echoes::default();
    let mut first = true;
    loop {
        let events = readers
            .read(&site.run_dir)
            .with_context(|| format!("no events can be read in {}", site.run_dir.display()))?;
        if first && readers.0.is_empty() {
            let dir = site.run_dir.display();
            writeln!(
                streams.err,
                "cvipctl: no node has recorded anything in {dir}: each does so on its own host"
            )?;
        }
        first = false;
        let events: Vec<LoggedEvent> =
            events.into_iter().filter(|event| echoes.is_news(event)).collect();
        for fault in readers.faults() {
            outcome = FAILED;
            writeln!(streams.err, "cvipctl: events are not shown: {fault}")?;
        }
        for event in events.iter().filter(|event| filter.takes(event)) {
            match args.json {
                true => json::write_line(streams.out, event)?,
                false => writeln!(streams.out, "{}", line(event))?,
            }
        }
        streams.out.flush()?;
        if !args.follow {
            return Ok(outcome);
        }
        streams.progress.end();
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Time, director, sentence.
fn line(event: &LoggedEvent) -> String {
    let text = format!("{}  node {}: {}", event.at, event.director, event.what);
    // Reasons are anybody's words, and this goes to a terminal.
    harmless(&text.replace('\n', "\u{fffd}"))
}

/// A reader for each director, and the faults that were told.
#[derive(Default)]
pub(super) struct Readers(BTreeMap<u32, EventReader>, BTreeSet<String>);

impl Readers {
    /// What is new since the last time, the older first.
    pub(super) fn read(&mut self, run_dir: &Path) -> std::io::Result<Vec<LoggedEvent>> {
        let mut events = Vec::new();
        for node in recorders(run_dir)? {
            self.0.entry(node).or_insert_with(|| {
                let (reader, older) = EventReader::open(run_dir, node);
                events.extend(older);
                reader
            });
        }
        events.extend(self.0.values_mut().flat_map(EventReader::read));
        // One director's stay in their order within a millisecond.
        events.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(events)
    }
}

impl Readers {
    /// Files that cannot be read, each told once.
    fn faults(&mut self) -> Vec<String> {
        let faults = self.0.values_mut().filter_map(EventReader::take_fault);
        faults.filter(|fault| self.1.insert(fault.clone())).collect()
    }
}

/// The nodes that the events of this folder name.
fn named(run_dir: &Path) -> BTreeSet<u32> {
    let events = Readers::default().read(run_dir).unwrap_or_default();
    let node = |event: LoggedEvent| match event.what {
        DirectorEvent::Joined { node, .. }
        | DirectorEvent::Left { node, .. }
        | DirectorEvent::NodeLeft { node }
        | DirectorEvent::Node { node, .. } => Some(node),
        _ => None,
    };
    events.into_iter().filter_map(node).collect()
}

/// How far apart two directors of one host may record the same thing.
const SAME_WITHIN: Duration = Duration::from_secs(2);

/// Directors that share a host each record what they see of the cluster. What another one has
/// recorded a moment ago is not told again.
#[derive(Default)]
struct Echoes {
    recent: Vec<Told>,
}

/// What was told a moment ago, and by which other directors it was recorded too.
struct Told {
    at: SystemTime,
    event: LoggedEvent,
    by: BTreeSet<u32>,
}

impl Echoes {
    /// False for what another director has told already. Events come in the order of time.
    fn is_news(&mut self, event: &LoggedEvent) -> bool {
        let Ok(at) = humantime::parse_rfc3339(&event.at) else { return true };
        let age = |then: SystemTime| at.duration_since(then).unwrap_or_default();
        self.recent.retain(|told| age(told.at) <= SAME_WITHIN);
        if tells_of_itself(&event.what) {
            return true;
        }
        // Each hides one of each other director: a second one is something that happened again.
        let told = self.recent.iter_mut().find(|told| {
            told.event.what == event.what
                && told.event.director != event.director
                && !told.by.contains(&event.director)
        });
        match told {
            Some(told) => {
                told.by.insert(event.director);
                false
            }
            None => {
                self.recent.push(Told { at, event: event.clone(), by: BTreeSet::new() });
                true
            }
        }
    }
}

/// True for what only the director that records it can have done or met with.
fn tells_of_itself(what: &DirectorEvent) -> bool {
    !matches!(
        what,
        DirectorEvent::Joined { .. }
            | DirectorEvent::Left { .. }
            | DirectorEvent::Out { .. }
            | DirectorEvent::Quiesced { .. }
            | DirectorEvent::Spared { .. }
            | DirectorEvent::Restored { .. }
            | DirectorEvent::DrainOrdered { .. }
            | DirectorEvent::DrainEnded { .. }
            | DirectorEvent::Node { .. }
            | DirectorEvent::NodeLeft { .. }
    )
}

/// Which events are wanted.
struct EventFilter {
    since: Option<String>,
    about: Option<About>,
}

impl EventFilter {
    fn takes(&self, event: &LoggedEvent) -> bool {
        self.since.as_ref().is_none_or(|since| event.at >= *since)
            && self.about.as_ref().is_none_or(|about| about.concerns(event))
    }
}

/// A node, and how events call it.
struct About {
    node: u32,
    addrs: BTreeSet<IpAddr>,
}

impl About {
    fn of(node: u32, conf: Option<&Conf>, clustertab: &Clustertab) -> About {
        let cvips = conf.into_iter().flat_map(|conf| &conf.cvips);
        let addrs = cvips.filter_map(|cvip| cvip.real_server(node)).map(|server| server.addr);
        About { node, addrs: addrs.chain(clustertab.addr(node)).collect() }
    }

    fn concerns(&self, event: &LoggedEvent) -> bool {
        match &event.what {
            DirectorEvent::Joined { node, .. }
            | DirectorEvent::Left { node, .. }
            | DirectorEvent::Node { node, .. }
            | DirectorEvent::NodeLeft { node } => *node == self.node,
            DirectorEvent::Out { address, .. }
            | DirectorEvent::Quiesced { address, .. }
            | DirectorEvent::Spared { address, .. }
            | DirectorEvent::Restored { address, .. } => self.addrs.contains(address),
            DirectorEvent::DrainOrdered { target, .. } | DirectorEvent::DrainEnded { target } => {
                let name = format!("node {}", self.node);
                let rest = target.strip_prefix(&name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            }
            DirectorEvent::Took { from, .. } => {
                event.director == self.node || *from == Some(self.node)
            }
            // The rest is how a director fares.
            _ => event.director == self.node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::liveness::Liveness;
    use crate::protocol::Protocol;
    use crate::store::ServiceKey;

    fn event(at: &str, director: u32, what: DirectorEvent) -> LoggedEvent {
        LoggedEvent { at: format!("2026-03-01T{at}Z"), director, what }
    }

    fn took(term: u64) -> DirectorEvent {
        DirectorEvent::Took { term, from: None }
    }

    fn append(dir: &Path, name: &str, events: &[LoggedEvent]) {
        use std::io::Write;
        let path = dir.join(name);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for event in events {
            writeln!(file, "{}", serde_json::to_string(event).unwrap()).unwrap();
        }
    }

    fn terms(events: &[LoggedEvent]) -> Vec<u64> {
        let term = |event: &LoggedEvent| match event.what {
            DirectorEvent::Took { term, .. } => term,
            _ => unreachable!(),
        };
        events.iter().map(term).collect()
    }

    #[test]
    fn events_of_several_directors_come_in_the_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "events-1.jsonl.1", &[event("10:00:00.000", 1, took(1))]);
        let same = [event("10:00:02.000", 1, took(3)), event("10:00:02.000", 1, took(4))];
        append(dir.path(), "events-1.jsonl", &same);
        append(dir.path(), "events-2.jsonl", &[event("10:00:01.000", 2, took(2))]);
        let mut readers = Readers::default();
        assert_eq!(terms(&readers.read(dir.path()).unwrap()), [1, 2, 3, 4]);
        assert!(readers.read(dir.path()).unwrap().is_empty());
        // A director that records for the first time, and one that goes on.
        append(dir.path(), "events-3.jsonl", &[event("10:00:05.000", 3, took(6))]);
        append(dir.path(), "events-2.jsonl", &[event("10:00:04.000", 2, took(5))]);
        assert_eq!(terms(&readers.read(dir.path()).unwrap()), [5, 6]);
    }

    #[test]
    fn since_is_a_time_ago_or_a_version() {
        let now = humantime::parse_rfc3339("2026-03-01T10:00:00Z").unwrap();
        for (text, version) in [
            ("1h", "2026-03-01T09:00:00.000Z"),
            ("90s", "2026-03-01T09:58:30.000Z"),
            ("1h 30m", "2026-03-01T08:30:00.000Z"),
            ("2026-02-28T00:00:00Z", "2026-02-28T00:00:00.000Z"),
            ("2026-02-28 01:02:03", "2026-02-28T01:02:03.000Z"),
            ("1000y", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(
                since(text).map(|since| since.version(now)),
                Ok(version.to_owned()),
                "{text}"
            );
        }
        for text in ["", "yesterday", "12", "2026-02-30T00:00:00Z"] {
            assert!(since(text).is_err_and(|error| error.contains("1h")), "{text}");
        }
    }

    #[test]
    fn what_several_directors_saw_is_told_once_and_what_happened_twice_is_told_twice() {
        let service =
            ServiceKey { cvip: "10.0.0.100".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let joined = || DirectorEvent::Joined { service, node: 3, weight: 1 };
        let left = || DirectorEvent::Left { service, node: 3 };
        let mut echoes = Echoes::default();
        for (at, director, what, is_news) in [
            ("10:00:00.000", 1, joined(), true),
            ("10:00:00.010", 2, joined(), false),
            ("10:00:00.020", 4, joined(), false),
            ("10:00:00.300", 2, left(), true),
            ("10:00:00.310", 1, left(), false),
            // It flaps.
            ("10:00:00.600", 1, joined(), true),
            ("10:00:00.610", 2, joined(), false),
            ("10:00:00.700", 1, DirectorEvent::NodeLeft { node: 3 }, true),
            ("10:00:00.710", 2, DirectorEvent::NodeLeft { node: 3 }, false),
            // What a director did itself, or met with.
            ("10:00:01.000", 1, DirectorEvent::StoreUnavailable, true),
            ("10:00:01.000", 2, DirectorEvent::StoreUnavailable, true),
            // Long after, by another: it happened again.
            ("10:00:09.000", 2, joined(), true),
        ] {
            let event = event(at, director, what);
            assert_eq!(echoes.is_news(&event), is_news, "{event:?}");
        }
    }

    #[test]
    fn what_was_before_the_version_is_left_out() {
        let filter =
            EventFilter { since: Some("2026-03-01T10:00:00.500Z".to_owned()), about: None };
        assert!(!filter.takes(&event("10:00:00.499", 1, took(1))));
        assert!(filter.takes(&event("10:00:00.500", 1, took(1))));
    }

    #[test]
    fn a_nodes_events_are_those_that_name_it_or_its_address_or_that_it_tells_of_itself() {
        let service =
            ServiceKey { cvip: "10.0.0.100".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let address = |text: &str| text.parse().unwrap();
        let drained = |target: &str| DirectorEvent::DrainEnded { target: target.to_owned() };
        let about = About { node: 3, addrs: [address("10.0.0.3")].into() };
        for (director, what, is) in [
            (1, DirectorEvent::Joined { service, node: 3, weight: 1 }, true),
            (3, DirectorEvent::Left { service, node: 2 }, false),
            (1, DirectorEvent::Node { node: 3, liveness: Liveness::AgentDown }, true),
            (1, DirectorEvent::Out { service, address: address("10.0.0.3") }, true),
            (3, DirectorEvent::Restored { service, address: address("10.0.0.2") }, false),
            (1, drained("node 3"), true),
            (1, drained("node 3 tcp 80"), true),
            (1, drained("node 33"), false),
            (1, DirectorEvent::Took { term: 2, from: Some(3) }, true),
            (1, took(3), false),
            (3, took(4), true),
            (3, DirectorEvent::StoreUnavailable, true),
            (1, DirectorEvent::StoreUnavailable, false),
        ] {
            let event = event("10:00:00.000", director, what);
            assert_eq!(about.concerns(&event), is, "{event:?}");
        }
    }

    #[test]
    fn a_line_has_time_director_and_sentence_and_no_control_characters() {
        let ordered = DirectorEvent::DrainOrdered {
            target: "node 3".to_owned(),
            reason: Some("disk\u{1b}[2J\nnew".to_owned()),
            by: "root@node1".to_owned(),
        };
        assert_eq!(
            line(&event("10:00:00.000", 1, ordered)),
            "2026-03-01T10:00:00.000Z  node 1: node 3 is drained, by order of root@node1: \
             disk\u{fffd}[2J\u{fffd}new"
        );
    }
}
