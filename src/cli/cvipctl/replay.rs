//! `cvipctl replay`: what cvipd recorded of its decisions, decided again by the same code.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use serde::Serialize;

use super::super::{FAILED, OK, Site, Streams, harmless};
use super::events::{Since, since};
use crate::clock::Instant;
use crate::daemon::address_manager::state::AddressState;
use crate::daemon::supervisor::state::Supervisor;
use crate::director::agent::state::AgentState;
use crate::director::monitor::state::MonitorState;
use crate::node::state::NodeState;
use crate::recorder::{
    Core, Decision, Difference, Replay, ReplayError, SegmentHeader, is_segment, read_header,
    read_text, replay,
};
use crate::{files, json};

/// The cores that are recorded.
const CORES: [&str; 5] =
    [MonitorState::NAME, AddressState::NAME, Supervisor::NAME, AgentState::NAME, NodeState::NAME];

/// The largest file that is read: what cvipd writes is smaller.
const FILE_BYTES: u64 = 64 << 20;

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Recordings: files, or folders with them [default: those below --run-dir]
    #[arg(value_name = "FILE")]
    paths: Vec<PathBuf>,

    /// Only this part of cvipd
    #[arg(long, value_name = "NAME", value_parser = CORES)]
    core: Option<String>,

    /// Only what was decided since: a time before the recording's end, such as 90s or 5m, or a
    /// moment, such as 2026-03-01T22:00:00Z. What is before is replayed all the same
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// Print a line of JSON for each decision
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let paths = match args.paths.is_empty() {
        true => recordings(&site.run_dir)?,
        false => args.paths.clone(),
    };
    let mut outcome = OK;
    let mut segments = Vec::new();
    for path in files_of(&paths)? {
        match open(&path) {
            Ok((header, _)) if args.core.as_ref().is_some_and(|core| *core != header.core) => {}
            Ok((header, reader)) => segments.push(Segment { path, header, reader }),
            Err(error) => {
                outcome = FAILED;
                writeln!(streams.err, "cvipctl: {}: {error}", path.display())?;
            }
        }
    }
    segments.sort_by_key(|s| (s.header.node, s.header.core.clone(), s.header.number));
    let mut shown = Vec::new();
    let mut replayed = Vec::new();
    let mut before: Option<(u32, u64, Replay)> = None;
    for Segment { path, header, mut reader } in segments {
        tell_version(&header, &path, streams)?;
        let after = before
            .take()
            .filter(|(node, number, _)| *node == header.node && Some(*number) == header.after);
        match replay_core(&header, &mut reader, after.as_ref().map(|(_, _, replay)| replay)) {
            Ok(replay) => {
                let decisions = replay.decisions.iter();
                shown.extend(decisions.map(|decision| Shown::new(&header, decision)));
                before = Some((header.node, header.number, replay.clone()));
                replayed.push((path, header, replay));
            }
            Err(error) => {
                outcome = FAILED;
                writeln!(streams.err, "cvipctl: {}: {error}", path.display())?;
            }
        }
    }
    shown.sort_by_key(|shown| shown.at);
    let first = replayed.iter().map(|(_, header, _)| wall(header, header.at)).min();
    let last = replayed.iter().map(|(_, header, replay)| wall(header, replay.until)).max();
    let from = match args.since {
        None => SystemTime::UNIX_EPOCH,
        Some(Since::At(at)) => at,
        Some(Since::Ago(ago)) => {
            last.and_then(|last| last.checked_sub(ago)).unwrap_or(SystemTime::UNIX_EPOCH)
        }
    };
    for decision in shown.iter().filter(|shown| shown.at >= from) {
        let start = first.unwrap_or(decision.at);
        match args.json {
            true => json::write_line(streams.out, decision.document(start))?,
            false => write!(streams.out, "{}", decision.lines(start))?,
        }
    }
    summarize(&replayed, args.json, streams)?;
    let differences = replayed.iter().filter_map(|(path, header, replay)| {
        let difference = replay.difference.as_ref()?;
        Some((wall(header, difference.at), path, header, difference))
    });
    match differences.min_by_key(|(at, ..)| *at) {
        None => Ok(outcome),
        Some((at, path, header, difference)) => {
            write!(streams.err, "{}", told(at, path, header, difference))?;
            Ok(FAILED)
        }
    }
}

/// One file of a recording.
struct Segment {
    path: PathBuf,
    header: SegmentHeader,
    reader: Box<dyn BufRead>,
}

/// Replays a segment by the core that it is of.
fn replay_core(
    header: &SegmentHeader,
    reader: &mut Box<dyn BufRead>,
    before: Option<&Replay>,
) -> Result<Replay, ReplayError> {
    match header.core.as_str() {
        MonitorState::NAME => replay::<MonitorState>(header, reader, before),
        Supervisor::NAME => replay::<Supervisor>(header, reader, before),
        AddressState::NAME => replay::<AddressState>(header, reader, before),
        AgentState::NAME => replay::<AgentState>(header, reader, before),
        NodeState::NAME => replay::<NodeState>(header, reader, before),
        core => {
            let what = format!("this program has no core `{core}'");
            Err(io::Error::new(io::ErrorKind::InvalidData, what).into())
        }
    }
}

/// The folders of recordings below a run folder.
fn recordings(run_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let what = || format!("no recordings can be read in {}", run_dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(run_dir).with_context(what)? {
        let entry = entry.with_context(what)?;
        if entry.file_name().to_string_lossy().starts_with("recording-") {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        bail!(
            "no cvipd has recorded anything in {}: name the files to be replayed",
            run_dir.display()
        );
    }
    found.sort();
    Ok(found)
}

/// The files that are named, and those in the folders that are.
fn files_of(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let what = || path.display().to_string();
        for entry in fs::read_dir(path).with_context(what)? {
            let path = entry.with_context(what)?.path();
            if is_segment(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        bail!("there are no recordings: cvipd has just been started, or does not record");
    }
    Ok(found)
}

fn open(path: &Path) -> io::Result<(SegmentHeader, Box<dyn BufRead>)> {
    let file = files::open(path)?;
    if file.metadata()?.len() > FILE_BYTES {
        let what = format!("it is larger than {FILE_BYTES} bytes, and no recording is");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    let mut reader = read_text(BufReader::new(file))?;
    let header = read_header(&mut reader)?;
    Ok((header, reader))
}

/// Says that another version recorded it.
fn tell_version(
    header: &SegmentHeader,
    path: &Path,
    streams: &mut Streams<'_>,
) -> anyhow::Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    if header.program != own {
        let text = format!(
            "cvipctl: {}: recorded by cvipd {}, and this is {own}: differences may be those of the \
             versions",
            path.display(),
            header.program
        );
        writeln!(streams.err, "{}", harmless(&text))?;
    }
    Ok(())
}

/// A time of the recording by the clock of its host.
fn wall(header: &SegmentHeader, at: Instant) -> SystemTime {
    let began = SystemTime::UNIX_EPOCH + Duration::from_millis(header.unix_ms.min(MOST_UNIX_MS));
    let after = at.saturating_duration_since(header.at);
    began.checked_add(after).filter(|at| *at <= latest()).unwrap_or(began)
}

/// The year 9999 is the last one that RFC 3339 can write.
const MOST_UNIX_MS: u64 = 253_402_300_799_000;

fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(MOST_UNIX_MS)
}

/// A decision with its place in time.
struct Shown {
    at: SystemTime,
    node: u32,
    core: String,
    decision: Decision,
}

/// As JSON has it.
#[derive(Serialize)]
struct ShownDocument<'a> {
    at: String,
    offset_s: f64,
    node: u32,
    core: &'a str,
    inputs: Vec<InputDocument<'a>>,
    decisions: &'a [String],
    reasons: &'a [String],
}

#[derive(Serialize)]
struct InputDocument<'a> {
    what: &'a str,
    times: u32,
}

impl Shown {
    fn new(header: &SegmentHeader, decision: &Decision) -> Shown {
        Shown {
            at: wall(header, decision.at),
            node: header.node,
            core: header.core.clone(),
            decision: decision.clone(),
        }
    }

    fn offset(&self, start: SystemTime) -> Duration {
        self.at.duration_since(start).unwrap_or_default()
    }

    fn document(&self, start: SystemTime) -> ShownDocument<'_> {
        let inputs = self.decision.calls.iter();
        ShownDocument {
            at: json::rfc3339_millis(self.at),
            offset_s: self.offset(start).as_millis() as f64 / 1000.0,
            node: self.node,
            core: &self.core,
            inputs: inputs.map(|(what, times)| InputDocument { what, times: *times }).collect(),
            decisions: &self.decision.outputs,
            reasons: &self.decision.reasons,
        }
    }

    /// For people: when, after what, why, and what.
    fn lines(&self, start: SystemTime) -> String {
        let mut lines = vec![format!(
            "{}  +{:.3}s  {} of node {}",
            json::rfc3339_millis(self.at),
            self.offset(start).as_secs_f64(),
            self.core,
            self.node
        )];
        let calls = self.decision.calls.iter().map(|(what, times)| match times {
            1 => what.clone(),
            times => format!("{what} ({times} times)"),
        });
        lines.extend(calls.map(|call| format!("  input     {call}")));
        lines.extend(self.decision.reasons.iter().map(|why| format!("  reason    {why}")));
        lines.extend(self.decision.outputs.iter().map(|what| format!("  decision  {what}")));
        // Reasons are anybody's words, and this goes to a terminal.
        let lines = lines.iter().map(|line| harmless(&line.replace('\n', "\u{fffd}")));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// What was replayed, and whether it is whole.
fn summarize(
    replayed: &[(PathBuf, SegmentHeader, Replay)],
    is_json: bool,
    streams: &mut Streams<'_>,
) -> anyhow::Result<()> {
    let mut by_core: BTreeMap<(u32, &str), (u64, SystemTime, SystemTime, bool)> = BTreeMap::new();
    for (_, header, replay) in replayed {
        let (from, until) = (wall(header, header.at), wall(header, replay.until));
        let new = (0, from, until, true);
        let (calls, first, last, is_same) =
            by_core.entry((header.node, &header.core)).or_insert(new);
        *calls += replay.calls;
        (*first, *last) = ((*first).min(from), (*last).max(until));
        *is_same &= replay.difference.is_none();
    }
    // Standard output has nothing but documents then.
    let out = if is_json { &mut *streams.err } else { &mut *streams.out };
    for ((node, core), (calls, first, last, is_same)) in by_core {
        let span = last.duration_since(first).unwrap_or_default();
        let span = humantime::format_duration(Duration::from_secs(span.as_secs()));
        let outcome = match is_same {
            true => "each with the outputs that were recorded",
            false => "up to an output that differs",
        };
        let text = format!("{core} of node {node}: {calls} calls within {span}, {outcome}");
        writeln!(out, "{}", harmless(&text))?;
    }
    for (path, _, _) in replayed.iter().filter(|(_, _, replay)| replay.is_cut) {
        writeln!(
            streams.err,
            "cvipctl: {}: its last line is cut off, and is left out",
            path.display()
        )?;
    }
    Ok(())
}

/// A difference, for people.
fn told(at: SystemTime, path: &Path, header: &SegmentHeader, difference: &Difference) -> String {
    let Difference { line, call, recorded, replayed, .. } = difference;
    let lines = [
        format!(
            "cvipctl: {}:{line}: the {} of node {} decides otherwise at {}",
            path.display(),
            header.core,
            header.node,
            json::rfc3339_millis(at)
        ),
        format!("  call      {call}"),
        format!("  recorded  {recorded}"),
        format!("  replayed  {replayed}"),
    ];
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::testing::run_with;
    use super::*;
    use crate::conf::{self, Clustertab};
    use crate::director::monitor::recording::MonitorCall;
    use crate::director::monitor::wire::Terms;
    use crate::director::monitor::{MonitorCommand, MonitorIdentity};
    use crate::heartbeat::Nonce;
    use crate::recorder::testing::text_of;
    use crate::recorder::{Recorded, Writer};

    /// A run folder in which the monitor of a lone director was recorded: it is elected, and told
    /// that its node leaves three seconds later.
    fn recorded() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let tab = Clustertab::parse("1 10.0.0.1\n2 10.0.0.2\n", "clustertab").0.unwrap();
        let conf = "<cvips><routing>DR</routing><cvip><ip_addr>10.0.0.9</ip_addr>\
             <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
             </director_node><real_server_node><node_num>2</node_num></real_server_node>\
             <service><port>80</port></service></cvip></cvips>";
        let conf = Arc::new(conf::parse(conf, "cvip.conf", &tab).0.unwrap());
        let me = MonitorIdentity { node: 1, incarnation: 1, nonce: Nonce([1; 16]) };
        let (writer, recorder) = Writer::start(dir.path(), 1).unwrap();
        let start = Instant::now();
        let state = MonitorState::new(me, conf, Terms::default(), start);
        let mut monitor = Recorded::new(state, &recorder);
        monitor.call(MonitorCall::Step, start);
        let later = start + Duration::from_secs(3);
        let leave = crate::director::monitor::messages::MonitorInput::Told(MonitorCommand::Leave);
        monitor.call(MonitorCall::Handle(leave), later);
        monitor.call(MonitorCall::Step, later);
        drop(monitor);
        writer.end();
        dir
    }

    fn replayed(dir: &Path, options: &[&str]) -> (u8, String, String) {
        let run_dir = format!("--run-dir={}", dir.display());
        run_with(&[&["cvipctl", "replay", &run_dir], options].concat(), super::super::run)
    }

    fn file(dir: &Path) -> PathBuf {
        files_of(&recordings(dir).unwrap()).unwrap().pop().unwrap()
    }

    #[test]
    fn each_decision_is_shown_with_what_led_to_it() {
        let dir = recorded();
        let (status, out, err) = replayed(dir.path(), &[]);
        assert_eq!((status, err.as_str()), (0, ""));
        for part in [
            "+0.000s  monitor of node 1\n",
            "  decision  tells its role: active in term 0\n",
            "+3.000s  monitor of node 1\n  input     the node leaves\n",
            "monitor of node 1: 3 calls within 3s, each with the outputs that were recorded\n",
        ] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (status, late, _) = replayed(dir.path(), &["--since=1s"]);
        assert!(status == 0 && !late.contains("+0.000s") && late.contains("+3.000s"), "{late}");
        let (status, json, _) = replayed(dir.path(), &["--json", "--core=monitor"]);
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((status, lines.len()), (0, 2), "{json}");
        assert_eq!(
            lines[1]["inputs"],
            serde_json::json!([{"what": "the node leaves", "times": 1}])
        );
        assert_eq!((&lines[1]["offset_s"], &lines[1]["schema"]), (&3.0.into(), &1.into()));
    }

    #[test]
    fn a_recorded_output_that_was_changed_is_a_difference() {
        let dir = recorded();
        let file = file(dir.path());
        let text = text_of(&file);
        fs::write(&file, text.replacen("\"term\":0", "\"term\":7", 1)).unwrap();
        let (status, _, err) = replayed(dir.path(), &[]);
        assert_eq!(status, 1);
        let begin =
            format!("cvipctl: {}:5: the monitor of node 1 decides otherwise at 2", file.display());
        assert!(err.starts_with(&begin), "{err}");
        assert!(err.contains("\n  call      \"step\"\n  recorded  ["), "{err}");
    }

    #[test]
    fn what_cannot_be_replayed_is_named_and_the_rest_is_replayed() {
        let dir = recorded();
        let file = file(dir.path());
        let text = text_of(&file);
        fs::write(&file, &text[..text.len() - 5]).unwrap();
        let (status, out, err) = replayed(dir.path(), &[]);
        assert!(status == 0 && err.contains("its last line is cut off"), "{err}");
        assert!(out.contains("2 calls"), "{out}");
        let other = text.replacen(env!("CARGO_PKG_VERSION"), "77.0", 1);
        fs::write(&file, other).unwrap();
        let (status, _, err) = replayed(dir.path(), &[]);
        assert!(status == 0 && err.contains("recorded by cvipd 77.0"), "{err}");
        fs::write(file.with_file_name("00000099-monitor.jsonl.gz"), "{}\n").unwrap();
        let (status, out, err) = replayed(dir.path(), &[]);
        assert!(status == 1 && err.contains("it is no recording of cvipd"), "{err}");
        assert!(out.contains("3 calls"), "{out}");
        let (status, _, err) = replayed(&dir.path().join("recording-1"), &[]);
        assert!(status == 1 && err.contains("no cvipd has recorded anything"), "{err}");
        let nowhere = dir.path().join("nowhere");
        let (status, _, err) = replayed(dir.path(), &[nowhere.to_str().unwrap()]);
        assert!(status == 1 && err.contains("No such file"), "{err}");
    }
}
