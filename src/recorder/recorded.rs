//! A state, each call of which is recorded.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::core::Core;
use super::ring::{OpenSegment, STATE_BYTES};
use super::wire::{self, FORMAT, PROGRAM, SegmentHeader};
use super::writer::{Recorder, SegmentText};
use crate::clock::Instant;

/// What is recorded is given to the writer after this at the latest, if another call comes.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What is recorded is given to the writer once it has so many bytes.
const FLUSH_BYTES: usize = 32 << 10;

/// A recording that ended, since what it says could not be written, begins again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// A state, each call of which is recorded if recordings are made.
pub struct Recorded<C: Core> {
    state: C,
    track: Option<Track>,
}

impl<C: Core> Recorded<C> {
    /// A state; the first call is recorded together with it.
    pub fn new(state: C, recorder: &Recorder) -> Recorded<C> {
        let track = recorder.is_on().then(|| Track::new(recorder.clone()));
        Recorded { state, track }
    }

    /// Makes one call.
    pub fn call(&mut self, call: C::Call, now: Instant) -> Vec<C::Output> {
        let Some(track) = &mut self.track else { return self.state.call(call, now) };
        let begun = track.call(&self.state, &call, now);
        let outputs = self.state.call(call, now);
        if begun {
            track.outputs(C::NAME, &outputs, now);
        }
        outputs
    }
}

/// One core's recording.
struct Track {
    recorder: Recorder,
    segment: Option<TrackSegment>,
    /// A recording that could not go on begins again then.
    again: Option<Instant>,
    /// Why a call or state could not be recorded, as it was logged.
    fault: Option<String>,
}

struct TrackSegment {
    number: u64,
    open: OpenSegment,
    /// What the writer was not given yet.
    text: Vec<u8>,
    flushed: Instant,
    /// The writer could not write it.
    is_lost: Arc<AtomicBool>,
}

impl Track {
    fn new(recorder: Recorder) -> Track {
        Track { recorder, segment: None, again: None, fault: None }
    }

    /// Records a call, before it is made; false if it is not recorded.
    fn call<C: Core>(&mut self, state: &C, call: &C::Call, now: Instant) -> bool {
        if self.segment.as_ref().is_some_and(|segment| segment.is_lost.load(Ordering::Relaxed)) {
            self.lose(now);
        }
        let limits = self.recorder.limits();
        if self.segment.as_ref().is_none_or(|segment| segment.open.is_over(limits, now))
            && self.again.is_none_or(|again| now >= again)
        {
            self.begin(state, now);
        }
        let Some(segment) = &mut self.segment else { return false };
        let before = segment.text.len();
        if let Err(error) = wire::write_call(&mut segment.text, call, now) {
            segment.text.truncate(before);
            self.end(C::NAME, &error.to_string(), now);
            return false;
        }
        segment.open.grow(segment.text.len() - before);
        true
    }

    /// Records what a call gave.
    fn outputs<O: serde::Serialize>(&mut self, core: &'static str, outputs: &[O], now: Instant) {
        let Some(segment) = &mut self.segment else { return };
        let before = segment.text.len();
        if let Err(error) = wire::write_outputs(&mut segment.text, outputs) {
            // Its call stands there without an end: the file is read up to it.
            segment.text.truncate(before);
            return self.end(core, &error.to_string(), now);
        }
        segment.open.grow(segment.text.len() - before);
        let is_due = !outputs.is_empty()
            || segment.text.len() >= FLUSH_BYTES
            || now.duration_since(segment.flushed) >= FLUSH_EVERY;
        if segment.text.len() as u64 > STATE_BYTES {
            self.end(core, "a call of it is too large", now);
        } else if is_due {
            self.flush(core, now);
        }
    }

    /// Begins a segment.
    fn begin<C: Core>(&mut self, state: &C, now: Instant) {
        self.flush(C::NAME, now);
        let after = self.segment.take().map(|segment| segment.number);
        let number = self.recorder.next_number();
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let header = SegmentHeader {
            format: FORMAT,
            program: PROGRAM.to_owned(),
            node: self.recorder.node(),
            core: C::NAME.to_owned(),
            number,
            after,
            at: now,
            unix_ms: since_1970
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        };
        let text = match wire::write_beginning(&header, state) {
            Ok(text) if text.len() as u64 <= STATE_BYTES => text,
            Ok(_) => return self.end(C::NAME, "its state is too large", now),
            Err(error) => return self.end(C::NAME, &error.to_string(), now),
        };
        let is_lost = Arc::new(AtomicBool::new(false));
        let begun = SegmentText::begin(C::NAME, number, after, text, Arc::clone(&is_lost));
        if !self.recorder.give(begun) {
            return self.lose(now);
        }
        let (open, text) = (OpenSegment::new(now), Vec::new());
        self.segment = Some(TrackSegment { number, open, text, flushed: now, is_lost });
        self.again = None;
    }

    /// Gives the writer what it was not given yet.
    fn flush(&mut self, core: &'static str, now: Instant) {
        let Some(segment) = &mut self.segment else { return };
        segment.flushed = now;
        if segment.text.is_empty() {
            return;
        }
        let (text, number) = (std::mem::take(&mut segment.text), segment.number);
        if !self.recorder.give(SegmentText::more(core, number, text)) {
            self.lose(now);
        }
    }

    /// The writer does not keep up, or cannot write.
    fn lose(&mut self, now: Instant) {
        self.segment = None;
        self.again = Some(now + AGAIN);
    }

    /// Something cannot be recorded: that is logged once.
    fn end(&mut self, core: &'static str, fault: &str, now: Instant) {
        self.flush(core, now);
        self.lose(now);
        if self.fault.as_deref() != Some(fault) {
            warn!("the {core} is not recorded for a while: {fault}");
            self.fault = Some(fault.to_owned());
        }
    }
}

impl<C: Core> Recorded<C> {
    /// Gives the writer what it was not given yet.
    pub(super) fn flush(&mut self) {
        if let Some(track) = &mut self.track {
            track.flush(C::NAME, Instant::now());
        }
    }
}

/// The state can be asked, and is changed by calls alone.
impl<C: Core> Deref for Recorded<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.state
    }
}

impl<C: Core> Drop for Recorded<C> {
    fn drop(&mut self) {
        self.flush();
    }
}
