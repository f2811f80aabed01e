//! The event log: one line of JSON for each event, beside the store.
//!
//! Each director writes its own file, `events-N.jsonl`; `cvipctl events` reads them all. The log of
//! cvipd says more; events are for scripts, and for the question what happened last night.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::director::DirectorEvent;
use crate::files;
use crate::json::rfc3339_millis;

/// A file that has grown so large, in bytes, is put aside as `.1`, in place of the one before.
const ROTATE_AT: u64 = 4 << 20;

/// So many lines wait while the file cannot be written; the oldest are dropped.
const WAITING: usize = 1000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// When, by the clock of that node's host (RFC 3339, UTC, milliseconds).
    pub at: String,
    /// The node that recorded it: a director, or a real server that tells of its own addresses.
    pub director: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: DirectorEvent,
}

impl LoggedEvent {
    /// The length of every time: their order as texts is that of time.
    const TIME_LENGTH: usize = "2026-03-01T22:00:00.000Z".len();
}

/// The file of one director.
pub(super) struct EventLog {
    node: u32,
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// Lines that are not written yet.
    waiting: VecDeque<Vec<u8>>,
}

fn path_of(run_dir: &Path, node: u32) -> PathBuf {
    run_dir.join(format!("events-{node}.jsonl"))
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

impl EventLog {
    /// Goes on with the file that is there.
    pub(super) fn open(run_dir: &Path, node: u32) -> EventLog {
        let path = path_of(run_dir, node);
        let mut record = EventLog { node, path, file: None, size: 0, waiting: VecDeque::new() };
        record.tend();
        record
    }

    /// Adds a line.
    pub(super) fn add(&mut self, what: DirectorEvent, at: SystemTime) {
        let at = rfc3339_millis(at);
        let event = LoggedEvent { at, director: self.node, what };
        match serde_json::to_vec(&event) {
            Ok(mut line) => {
                line.push(b'\n');
                self.waiting.push_back(line);
            }
            Err(error) => error!("an event is not recorded: {error}"),
        }
        self.tend();
    }

    /// Writes what waits. A file that was deleted is made again.
    pub(super) fn tend(&mut self) {
        let written = self.write();
        files::note(&self.path, &written);
        let surplus = self.waiting.len().saturating_sub(WAITING);
        self.waiting.drain(..surplus);
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.file.as_ref().is_some_and(|file| stands_at(file, &self.path)) {
            self.file = None;
            let (file, size) = open(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        while let Some(line) = self.waiting.front() {
            if let Err(error) = file.write_all(line) {
                // Half a line would make the next unreadable.
                file.set_len(self.size)?;
                return Err(error);
            }
            self.size += line.len() as u64;
            self.waiting.pop_front();
        }
        if self.size >= ROTATE_AT {
            std::fs::rename(&self.path, aside(&self.path))?;
            let (file, size) = open(&self.path)?;
            (self.file, self.size) = (Some(file), size);
        }
        Ok(())
    }
}

/// Goes on with a file, or begins it.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let opened = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), files::make_folders)?;
            options.open(path)
        }
        opened => opened,
    };
    let file = opened?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => {
            path.parent().map_or(Ok(()), |folder| files::give(&file, folder))?;
            Ok((file, metadata.len()))
        }
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// True if the path leads to this file.
fn stands_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// An event from its line; none if it makes no sense.
fn parse(line: &[u8]) -> Option<LoggedEvent> {
    let event: LoggedEvent = serde_json::from_slice(line).ok()?;
    let is_time =
        event.at.len() == LoggedEvent::TIME_LENGTH && humantime::parse_rfc3339(&event.at).is_ok();
    is_time.then_some(event)
}

/// The directors whose events stand in this folder.
///
/// # Errors
/// The folder cannot be read.
pub fn recorders(run_dir: &Path) -> io::Result<Vec<u32>> {
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(run_dir)? {
        let name = entry?.file_name();
        let number: Option<u32> = name
            .to_str()
            .and_then(|name| name.strip_prefix("events-")?.strip_suffix(".jsonl")?.parse().ok());
        nodes.extend(number);
    }
    nodes.sort_unstable();
    Ok(nodes)
}

/// Reads what directors recorded, and then what they add.
#[derive(Debug)]
pub struct EventReader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    part: Vec<u8>,
    /// Why the file could not be read the last time.
    fault: Option<String>,
}

impl EventReader {
    /// Reads one director's events from the oldest that is kept. The second list has the older
    /// ones, which were put aside.
    pub fn open(run_dir: &Path, node: u32) -> (EventReader, Vec<LoggedEvent>) {
        let path = path_of(run_dir, node);
        let mut old = EventReader::at(aside(&path));
        let older = old.read();
        (EventReader { fault: old.fault, ..EventReader::at(path) }, older)
    }

    fn at(path: PathBuf) -> EventReader {
        EventReader { path, file: None, part: Vec::new(), fault: None }
    }

    /// Why a file cannot be read, once for each reason.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// The events that were added since this was last asked. A line that makes no sense is left
    /// out: it is damaged, or of another version.
    pub fn read(&mut self) -> Vec<LoggedEvent> {
        let mut events = Vec::new();
        self.drain(&mut events);
        // Put aside in the meantime: go on with the one in its place.
        if self.moved() {
            self.file = None;
            self.part.clear();
            self.drain(&mut events);
        }
        events
    }

    fn moved(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let (Ok(open), Ok(named)) = (file.get_ref().metadata(), std::fs::metadata(&self.path))
        else {
            return false;
        };
        open.ino() != named.ino()
    }

    fn drain(&mut self, events: &mut Vec<LoggedEvent>) {
        if self.file.is_none() {
            match files::open(&self.path) {
                Ok(file) => self.file = Some(BufReader::new(file)),
                // It was put aside, or nothing was recorded yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fault = Some(format!("{}: {error}", self.path.display())),
            }
        }
        let Some(file) = &mut self.file else { return };
        while let Ok(1..) = file.read_until(b'\n', &mut self.part) {
            if self.part.last() != Some(&b'\n') {
                return;
            }
            events.extend(parse(&self.part));
            self.part.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn terms(events: &[LoggedEvent]) -> Vec<u64> {
        let term = |event: &LoggedEvent| match event.what {
            DirectorEvent::Took { term, .. } => term,
            _ => panic!("{event:?}"),
        };
        events.iter().map(term).collect()
    }

    #[test]
    fn events_are_read_while_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let mut record = EventLog::open(dir.path(), 3);
        record.add(DirectorEvent::Took { term: 1, from: None }, at);
        let (mut reader, older) = EventReader::open(dir.path(), 3);
        assert!(older.is_empty());
        let events = reader.read();
        assert_eq!((events[0].at.as_str(), events[0].director), ("2023-11-14T22:13:20.123Z", 3));
        assert_eq!(terms(&events), [1]);
        assert!(reader.read().is_empty());
        // A restart goes on with the file.
        EventLog::open(dir.path(), 3).add(DirectorEvent::Took { term: 2, from: Some(1) }, at);
        assert_eq!(terms(&reader.read()), [2]);
        assert_eq!(recorders(dir.path()).unwrap(), [3]);
    }

    #[test]
    fn what_happens_while_the_file_cannot_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let took = |term| DirectorEvent::Took { term, from: None };
        let mut record = EventLog::open(&run_dir, 3);
        record.add(took(1), SystemTime::UNIX_EPOCH);
        std::fs::remove_dir_all(&run_dir).unwrap();
        record.add(took(2), SystemTime::UNIX_EPOCH);
        let (mut reader, _) = EventReader::open(&run_dir, 3);
        assert_eq!(terms(&reader.read()), [2], "deleted with its folder, and made again");
        // A folder, or a pipe that no process reads, stands in its place.
        std::fs::remove_file(&record.path).unwrap();
        std::fs::create_dir(&record.path).unwrap();
        for term in 3..WAITING as u64 + 10 {
            record.add(took(term), SystemTime::UNIX_EPOCH);
        }
        std::fs::remove_dir(&record.path).unwrap();
        nix::unistd::mkfifo(&record.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        record.tend();
        std::fs::remove_file(&record.path).unwrap();
        record.tend();
        let (mut reader, _) = EventReader::open(&run_dir, 3);
        let kept = terms(&reader.read());
        assert_eq!((kept.len(), kept[0], kept.last()), (WAITING, 10, Some(&1009)));
    }

    #[test]
    fn a_damaged_line_is_left_out_and_what_is_no_file_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_of(dir.path(), 3);
        let line = |at: &str| {
            format!("{{\"at\":\"{at}\",\"director\":3,\"event\":\"took\",\"term\":1}}\n")
        };
        let good = line("2026-03-01T22:00:00.000Z");
        let lines = [&good, "rubbish\n", &line("2026-03-01T22:00:00Z"), &line("\\u001b[2J"), &good];
        std::fs::write(&path, lines.concat()).unwrap();
        let (mut reader, _) = EventReader::open(dir.path(), 3);
        assert_eq!((terms(&reader.read()), reader.take_fault()), (vec![1, 1], None));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let (mut reader, _) = EventReader::open(dir.path(), 3);
        assert!(reader.read().is_empty());
        assert_eq!(reader.take_fault(), Some(format!("{}: it is a directory", path.display())));
    }

    #[test]
    fn a_large_file_is_put_aside_and_nothing_is_read_twice_or_missed() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = EventLog::open(dir.path(), 3);
        let (mut reader, _) = EventReader::open(dir.path(), 3);
        record.add(DirectorEvent::Took { term: 1, from: None }, SystemTime::UNIX_EPOCH);
        assert_eq!(terms(&reader.read()), [1]);
        record.size = ROTATE_AT;
        record.add(DirectorEvent::Took { term: 2, from: None }, SystemTime::UNIX_EPOCH);
        record.add(DirectorEvent::Took { term: 3, from: None }, SystemTime::UNIX_EPOCH);
        assert_eq!(terms(&reader.read()), [2, 3]);
        let (mut reader, older) = EventReader::open(dir.path(), 3);
        assert_eq!((terms(&older), terms(&reader.read())), (vec![1, 2], vec![3]));
    }
}
