//! The thread that writes recordings, so that no core waits for a disk: where the thread does not
//! keep up, what is recorded is lost, and the core goes on.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use super::gzip::Encoder;
use super::ring::{Ring, SegmentLimits};
use crate::clock::Instant;
use crate::files;

/// So many pieces wait for the writer at most.
const WAITING: usize = 64;

/// How a segment's file name ends.
const SUFFIX: &str = ".jsonl.gz";

/// Part of a segment's text.
pub(super) struct SegmentText {
    core: &'static str,
    number: u64,
    text: Vec<u8>,
    /// Of a segment's beginning: which segment it goes on from, and what is to be set once it cannot
    /// be written.
    begins: Option<(Option<u64>, Arc<AtomicBool>)>,
}

impl SegmentText {
    /// The beginning of a segment.
    pub(super) fn begin(
        core: &'static str,
        number: u64,
        after: Option<u64>,
        text: Vec<u8>,
        is_lost: Arc<AtomicBool>,
    ) -> SegmentText {
        SegmentText { core, number, text, begins: Some((after, is_lost)) }
    }

    /// What follows.
    pub(super) fn more(core: &'static str, number: u64, text: Vec<u8>) -> SegmentText {
        SegmentText { core, number, text, begins: None }
    }
}

enum WriterMessage {
    Text(SegmentText),
    Stop,
}

/// What a core's recording needs of the writer; none of it where no recordings are made.
#[derive(Clone)]
pub struct Recorder(Option<Handle>);

#[derive(Clone)]
struct Handle {
    node: u32,
    numbers: Arc<AtomicU64>,
    limits: SegmentLimits,
    texts: SyncSender<WriterMessage>,
}

impl Recorder {
    /// Nothing is recorded.
    pub fn off() -> Recorder {
        Recorder(None)
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn node(&self) -> u32 {
        self.0.as_ref().map_or(0, |handle| handle.node)
    }

    /// When a segment is followed by another one.
    pub(super) fn limits(&self) -> SegmentLimits {
        self.0.as_ref().map_or_else(SegmentLimits::default, |handle| handle.limits)
    }

    /// One whose texts are given to the queue; its segments count from `number`.
    pub(super) fn queue(
        node: u32,
        number: u64,
        limits: SegmentLimits,
        waiting: usize,
    ) -> (Recorder, SegmentQueue) {
        let (texts, given) = sync_channel(waiting);
        let numbers = Arc::new(AtomicU64::new(number));
        (Recorder(Some(Handle { node, numbers, limits, texts })), SegmentQueue(given))
    }

    /// The number of another segment.
    pub(super) fn next_number(&self) -> u64 {
        self.0.as_ref().map_or(0, |handle| handle.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives text to the writer; false if it does not keep up.
    pub(super) fn give(&self, text: SegmentText) -> bool {
        let handle = self.0.as_ref();
        handle.is_some_and(|handle| handle.texts.try_send(WriterMessage::Text(text)).is_ok())
    }
}

/// The texts that wait for the writer.
pub(super) struct SegmentQueue(Receiver<WriterMessage>);

#[cfg(test)]
impl SegmentQueue {
    /// Those that wait: core, number and text.
    pub(super) fn take(&self) -> Vec<(&'static str, u64, Vec<u8>)> {
        let texts = self.0.try_iter().filter_map(|message| match message {
            WriterMessage::Text(text) => Some((text.core, text.number, text.text)),
            WriterMessage::Stop => None,
        });
        texts.collect()
    }
}

/// The writer's thread.
pub struct Writer {
    thread: JoinHandle<()>,
    recorder: Recorder,
}

impl Writer {
    /// The folder of a node's recordings.
    pub fn folder(run_dir: &Path, node: u32) -> PathBuf {
        run_dir.join(format!("recording-{node}"))
    }

    /// Starts it. Segments that are there stay until the new ones take their place.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(run_dir: &Path, node: u32) -> io::Result<(Writer, Recorder)> {
        let mut folder = Folder::new(Writer::folder(run_dir, node));
        let number = folder.find(Instant::now()).saturating_add(1);
        let (recorder, queue) = Recorder::queue(node, number, SegmentLimits::default(), WAITING);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || write(&mut folder, &queue))?;
        Ok((Writer { thread, recorder: recorder.clone() }, recorder))
    }

    /// Ends it once it has written what it was given before.
    pub fn end(self) {
        let texts = self.recorder.0.map(|handle| handle.texts);
        if texts.is_some_and(|texts| texts.send(WriterMessage::Stop).is_ok()) {
            // A thread that panicked has said so.
            let _ = self.thread.join();
        }
    }
}

fn write(folder: &mut Folder, queue: &SegmentQueue) {
    while let Ok(WriterMessage::Text(text)) = queue.0.recv() {
        folder.write(text, Instant::now());
    }
    folder.finish();
}

/// The files of a node's recordings.
struct Folder {
    path: PathBuf,
    cores: BTreeMap<String, CoreFiles>,
}

/// Those of one core.
#[derive(Default)]
struct CoreFiles {
    ring: Ring,
    /// The segments that are written: more than one where a table is emptied that is no longer this
    /// node's while another is made.
    open: BTreeMap<u64, OpenFile>,
}

impl CoreFiles {
    /// Removes the segments that are over, and those for which there is no room.
    fn make_room(&mut self, folder: &Path, core: &'static str, room: u64, now: Instant) {
        for removed in self.ring.remove(room, now) {
            // Where that is still written, what follows would be without a beginning.
            if let Some(open) = self.open.remove(&removed) {
                open.is_lost.store(true, Ordering::Relaxed);
            }
            // What another program removed is removed.
            let _ = fs::remove_file(folder.join(file_name(removed, core)));
        }
    }
}

/// A segment that is written.
struct OpenFile {
    file: File,
    encoder: Encoder,
    /// Set once it cannot be written any more.
    is_lost: Arc<AtomicBool>,
}

impl OpenFile {
    /// Ends the file as programs for gzip expect it. What cannot be written here is not missed: the text
    /// is whole without it.
    fn finish(self) {
        let OpenFile { mut file, encoder, .. } = self;
        drop(encoder.finish().and_then(|end| file.write_all(&end)));
    }
}

impl Folder {
    fn new(path: PathBuf) -> Folder {
        Folder { path, cores: BTreeMap::new() }
    }

    /// Finds the segments that are there, and gives the highest number of them.
    fn find(&mut self, now: Instant) -> u64 {
        let mut highest = 0;
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some((number, core)) = name.to_str().and_then(segment_of) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            let changed = metadata.modified().unwrap_or_else(|_| SystemTime::now());
            let age = SystemTime::now().duration_since(changed).unwrap_or_default();
            let files = self.cores.entry(core.to_owned()).or_default();
            files.ring.begin(number, now - age);
            files.ring.grow(number, metadata.len());
            highest = highest.max(number);
        }
        highest
    }

    /// Writes part of a segment. What cannot be written is noted, and its core begins anew.
    fn write(&mut self, text: SegmentText, now: Instant) {
        let core = text.core;
        let written = match text.begins {
            Some((after, is_lost)) => {
                self.begin((core, text.number, after), &text.text, is_lost, now)
            }
            None => self.go_on(core, text.number, &text.text, now),
        };
        files::note(&self.path, &written);
        if written.is_err() {
            let open = self.cores.get_mut(core).and_then(|files| files.open.remove(&text.number));
            open.inspect(|open| open.is_lost.store(true, Ordering::Relaxed));
        }
    }

    /// Writes the beginning of a segment that goes on from another one.
    fn begin(
        &mut self,
        (core, number, after): (&'static str, u64, Option<u64>),
        text: &[u8],
        is_lost: Arc<AtomicBool>,
        now: Instant,
    ) -> io::Result<()> {
        let mut encoder = Encoder::new();
        let bytes = encoder.encode(text)?;
        let path = self.path.join(file_name(number, core));
        let files = self.cores.entry(core.to_owned()).or_default();
        files.make_room(&self.path, core, bytes.len() as u64, now);
        files.ring.begin(number, now);
        let former = after.and_then(|after| files.open.remove(&after));
        former.into_iter().for_each(OpenFile::finish);
        match create(&self.path, &path, &bytes) {
            Ok(file) => {
                files.ring.grow(number, bytes.len() as u64);
                files.open.insert(number, OpenFile { file, encoder, is_lost });
                Ok(())
            }
            Err(error) => {
                is_lost.store(true, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Writes what follows in a segment; nothing if that is not written any more.
    fn go_on(
        &mut self,
        core: &'static str,
        number: u64,
        text: &[u8],
        now: Instant,
    ) -> io::Result<()> {
        let files = self.cores.entry(core.to_owned()).or_default();
        let Some(open) = files.open.get_mut(&number) else { return Ok(()) };
        let bytes = open.encoder.encode(text)?;
        files.make_room(&self.path, core, bytes.len() as u64, now);
        // That may have removed it.
        let Some(open) = files.open.get_mut(&number) else { return Ok(()) };
        open.file.write_all(&bytes)?;
        files.ring.grow(number, bytes.len() as u64);
        Ok(())
    }

    /// Ends the files that are written.
    fn finish(&mut self) {
        for files in self.cores.values_mut() {
            std::mem::take(&mut files.open).into_values().for_each(OpenFile::finish);
        }
    }
}

/// A new file with the beginning of a segment, which its owner alone may read. Folders that are
/// missing are made.
fn create(folder: &Path, path: &Path, text: &[u8]) -> io::Result<File> {
    if !folder.is_dir() {
        let above = folder.parent().unwrap_or(Path::new("/"));
        files::make_folders(above)?;
        DirBuilder::new().mode(0o700).create(folder)?;
        files::give(&File::open(folder)?, above)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    files::give(&file, folder)?;
    match file.write_all(text) {
        Ok(()) => Ok(file),
        Err(error) => {
            // Half a state is of no use, and takes room.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// The name of a segment's file: in the order of names, the older come first.
fn file_name(number: u64, core: &str) -> String {
    format!("{number:08}-{core}{SUFFIX}")
}

/// True of a file whose name is that of a segment.
pub fn is_segment(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(segment_of).is_some()
}

/// The number and the core of a segment's file.
fn segment_of(name: &str) -> Option<(u64, &str)> {
    let (number, core) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((number.parse().ok()?, core))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::super::recorded::Recorded;
    use super::super::replay::Replay;
    use super::super::testing::{Counter, replay_text, text_of};
    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn replayed(path: &Path) -> Replay {
        replay_text::<Counter>(text_of(path).as_bytes(), None).unwrap().1
    }

    #[test]
    fn what_is_recorded_stands_in_files_of_the_owner_alone_and_a_restart_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let (writer, recorder) = Writer::start(dir.path(), 3).unwrap();
            let (mut counter, start) =
                (Recorded::new(Counter::default(), &recorder), Instant::now());
            for n in 0..45 {
                counter.call(1, start + n * Duration::from_secs(4));
            }
            drop(counter);
            writer.end();
        }
        let folder = Writer::folder(dir.path(), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let files = files(&folder);
        let calls: Vec<u64> = files.iter().map(|path| replayed(path).calls).collect();
        assert_eq!(calls, [30, 15, 30, 15], "two minutes each");
        assert!(files.iter().all(|path| mode(path) == 0o600 && is_segment(path)), "{files:?}");
        assert_eq!(files[0].file_name().unwrap(), "00000001-counter.jsonl.gz");
    }

    #[test]
    fn files_are_removed_once_ten_minutes_were_recorded_after_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path().to_owned());
        let start = Instant::now();
        for minute in 0..30 {
            let lost = Arc::new(AtomicBool::new(false));
            let text = SegmentText::begin("core", minute, None, b"text".to_vec(), lost);
            folder.write(text, start + Duration::from_secs(60 * minute));
        }
        assert_eq!(files(dir.path()).len(), 11);
        // Another start finds them, and what is no recording stays.
        fs::write(dir.path().join("notes.jsonl.gz"), "").unwrap();
        let mut folder = Folder::new(dir.path().to_owned());
        assert_eq!(folder.find(start), 29);
        let lost = Arc::new(AtomicBool::new(false));
        folder.write(SegmentText::begin("core", 30, None, b"text".to_vec(), lost), start);
        assert_eq!(files(dir.path()).len(), 13);
    }

    #[test]
    fn two_cores_of_one_name_are_written_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, recorder) = Writer::start(dir.path(), 3).unwrap();
        let mut counters = [0, 1].map(|_| Recorded::new(Counter::default(), &recorder));
        let start = Instant::now();
        for n in 0..24 {
            for (step, counter) in counters.iter_mut().enumerate() {
                counter.call(step as u64, start + n * Duration::from_secs(10));
            }
        }
        drop(counters);
        writer.end();
        let files = files(&Writer::folder(dir.path(), 3));
        let calls: Vec<u64> = files.iter().map(|path| replayed(path).calls).collect();
        assert_eq!(calls, [12; 4], "two minutes each");
    }

    #[test]
    fn a_core_goes_on_where_nothing_can_be_written_and_is_recorded_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = Writer::folder(dir.path(), 3);
        fs::write(&in_the_way, "a file where the folder should be").unwrap();
        let (writer, recorder) = Writer::start(dir.path(), 3).unwrap();
        let (mut counter, start) = (Recorded::new(Counter::default(), &recorder), Instant::now());
        let saved =
            || files::unsaved().iter().all(|line| !line.contains(in_the_way.to_str().unwrap()));
        counter.call(1, start);
        let deadline = Instant::now() + Duration::from_secs(10);
        while saved() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!saved(), "`status` says so");
        let later = start + Duration::from_secs(5);
        assert_eq!(counter.call(1, later), [0; 0]);
        fs::remove_file(&in_the_way).unwrap();
        for n in 0..20 {
            counter.call(1, later + Duration::from_secs(n));
        }
        assert_eq!(counter.sum, 22);
        drop(counter);
        writer.end();
        let files = files(&in_the_way);
        assert_eq!(files.len(), 1);
        assert_eq!(replayed(&files[0]).calls, 10, "from ten seconds after it was lost");
        assert!(saved());
    }

    #[test]
    fn a_core_does_not_wait_for_a_writer_that_does_not_keep_up() {
        let limits = SegmentLimits { age: Duration::from_secs(5), bytes: 1 << 20 };
        let (recorder, queue) = Recorder::queue(3, 1, limits, 2);
        let (mut counter, start) = (Recorded::new(Counter::default(), &recorder), Instant::now());
        for n in 0..100 {
            counter.call(1, start + n * Duration::from_secs(1));
        }
        assert_eq!(counter.sum, 100);
        assert_eq!(queue.take().len(), 2, "the rest is lost");
        for n in 100..120 {
            counter.call(1, start + n * Duration::from_secs(1));
        }
        let texts = queue.take();
        assert!(!texts.is_empty(), "it begins anew");
        assert!(texts[0].2.starts_with(b"{\"format\""));
    }
}
