//! A recording in memory, and its replay, for the tests of cores.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use super::core::Core;
use super::gzip::{Encoder, read_text};
use super::recorded::Recorded;
use super::replay::{Replay, ReplayError, replay};
use super::ring::{CORE_BYTES, SegmentLimits};
use super::wire::read_header;
use super::writer::{Recorder, SegmentQueue};
use crate::clock::Instant;

/// The segments that cores recorded, by number.
pub(crate) struct Tape {
    queue: SegmentQueue,
    segments: BTreeMap<u64, Vec<u8>>,
}

impl Tape {
    /// One whose segments are short, so that a test has several of them.
    pub(crate) fn new() -> (Recorder, Tape) {
        Tape::with(SegmentLimits { age: Duration::from_secs(2), bytes: 20_000 })
    }

    pub(crate) fn with(limits: SegmentLimits) -> (Recorder, Tape) {
        let (recorder, queue) = Recorder::queue(1, 1, limits, 1 << 13);
        (recorder, Tape { queue, segments: BTreeMap::new() })
    }

    /// One whose segments are as long as those of files.
    pub(crate) fn as_in_files() -> (Recorder, Tape) {
        Tape::with(SegmentLimits::default())
    }

    /// How many bytes of files this takes, of all that such a recording may take.
    pub(crate) fn share_of_files<C: Core>(&mut self, recorded: &mut Recorded<C>) -> f64 {
        recorded.flush();
        let mut encoders: BTreeMap<u64, Encoder> = BTreeMap::new();
        let mut bytes = 0;
        for (_, number, text) in self.queue.take() {
            let encoder = encoders.entry(number).or_insert_with(Encoder::new);
            bytes += encoder.encode(&text).unwrap().len();
            self.segments.entry(number).or_default().extend(text);
        }
        bytes as f64 / CORE_BYTES as f64
    }

    /// The text of each segment. What a core has not given away yet is not in it.
    pub(crate) fn segments(&mut self) -> &mut BTreeMap<u64, Vec<u8>> {
        for (_, number, text) in self.queue.take() {
            self.segments.entry(number).or_default().extend(text);
        }
        &mut self.segments
    }

    /// Replays all that was recorded; gives the number of segments and of calls.
    ///
    /// # Panics
    /// An output or a state differs.
    pub(crate) fn check<C: Core>(&mut self, recorded: &mut Recorded<C>) -> (usize, u64) {
        recorded.flush();
        let (mut before, mut calls) = (None::<(u64, Replay)>, 0);
        for (number, text) in self.segments() {
            let (header, replayed) = replay_text::<C>(text, before.as_ref()).unwrap();
            if let Some(difference) = &replayed.difference {
                let mut said = String::new();
                write!(said, "{difference:#?}").unwrap();
                panic!("segment {number} of the {}: {said}", C::NAME);
            }
            assert!(!replayed.is_cut, "segment {number} is not whole");
            assert_eq!(header, before.map(|(number, _)| number), "nothing was lost");
            calls += replayed.calls;
            before = Some((*number, replayed));
        }
        (self.segments.len(), calls)
    }
}

/// The text of a segment's file.
pub(crate) fn text_of(path: &Path) -> String {
    let file = BufReader::new(File::open(path).unwrap());
    io::read_to_string(read_text(file).unwrap()).unwrap()
}

/// Replays a segment's text; gives the segment that it goes on from, too.
pub(crate) fn replay_text<C: Core>(
    mut text: &[u8],
    before: Option<&(u64, Replay)>,
) -> Result<(Option<u64>, Replay), ReplayError> {
    let header = read_header(&mut text)?;
    let before = before.filter(|(number, _)| Some(*number) == header.after);
    let replayed = replay::<C>(&header, &mut text, before.map(|(_, replay)| replay))?;
    Ok((header.after, replayed))
}

/// A core that counts: what it is told is added, and every tenth call says the sum.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Counter {
    pub(super) sum: u64,
    pub(super) calls: u64,
    /// A field that is lost by a replay, if it is set.
    #[serde(skip)]
    pub(super) forgotten: u64,
}

impl Core for Counter {
    const NAME: &'static str = "counter";
    type Call = u64;
    type Output = u64;

    fn call(&mut self, call: u64, _: Instant) -> Vec<u64> {
        assert_ne!(call, 666, "a number that it cannot count");
        self.calls += 1;
        self.sum += call + self.forgotten;
        if call == 7 {
            tracing::info!("seven is worth a word");
        }
        self.calls.is_multiple_of(10).then_some(self.sum).into_iter().collect()
    }

    fn describe_call(call: &u64) -> Vec<String> {
        if *call == 0 { Vec::new() } else { vec![format!("{call} more")] }
    }

    fn describe_output(sum: &u64) -> Option<String> {
        Some(format!("the sum is {sum}"))
    }
}
