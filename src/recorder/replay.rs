//! The replay of a segment: its state is restored, called as it was, and what it gives is compared
//! with what was recorded.

use std::io::{self, BufRead};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tracing::Level;
use tracing::dispatcher::{Dispatch, with_default};

use super::core::Core;
use super::wire::{self, Line, ReadLine, SegmentHeader};
use crate::clock::Instant;

/// What a core decided at one time, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Instant,
    /// The calls since the decision before, in a few words each, and how often each came.
    pub calls: Vec<(String, u32)>,
    /// What is to be done, in a few words each.
    pub outputs: Vec<String>,
    /// What the core logs of it.
    pub reasons: Vec<String>,
}

/// What differs between the recording and its replay: a fault of the program, or of another
/// version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// When.
    pub at: Instant,
    /// The line of the file.
    pub line: u64,
    /// What was called.
    pub call: String,
    /// What it gave then.
    pub recorded: String,
    /// What it gives now.
    pub replayed: String,
}

/// What a replay of a segment shows.
#[derive(Clone, Debug)]
pub struct Replay {
    /// How many calls there were.
    pub calls: u64,
    /// When the last one was made.
    pub until: Instant,
    /// What was decided, up to the first difference.
    pub decisions: Vec<Decision>,
    /// The first difference; nothing is replayed after it.
    pub difference: Option<Difference>,
    /// The file ends within a line: cvipd, or its machine, ended while it was written.
    pub is_cut: bool,
    /// The state at the end.
    state: Value,
}

/// Why a segment cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// There is no state, or this program has another one.
    #[error("the state of cvipd {program} cannot be restored by {}: {error}", wire::PROGRAM)]
    State {
        /// The version that recorded it.
        program: String,
        /// What is wrong.
        error: String,
    },
    /// A line is no call.
    #[error("line {line} is no call of the {core} of cvipd {program}: {error}")]
    Line {
        /// The line.
        line: u64,
        /// The core.
        core: &'static str,
        /// The version that recorded it.
        program: String,
        /// What is wrong.
        error: String,
    },
}

/// Replays what follows a segment's header. `before` is the replay of the segment that this one goes
/// on from: this one begins with the state that the other ended with, unless that was cut off.
///
/// # Errors
/// It is no recording of this core, or of another version that this one cannot read.
pub fn replay<C: Core>(
    header: &SegmentHeader,
    reader: &mut impl BufRead,
    before: Option<&Replay>,
) -> Result<Replay, ReplayError> {
    let program = || header.program.clone();
    let no_state = |error| ReplayError::State { program: program(), error };
    let ReadLine::Whole(text) = wire::read_line(reader)? else {
        return Err(no_state("the file ends before it".to_owned()));
    };
    let mut state: C = wire::parse(&text).map_err(|error| no_state(error.to_string()))?;
    let mut replay = Replay {
        calls: 0,
        until: header.at,
        decisions: Vec::new(),
        difference: before.and_then(|before| before.goes_on(header, &state)),
        is_cut: false,
        state: Value::Null,
    };
    let logged = Logged::new();
    let mut calls = Vec::new();
    let mut number = 2;
    while replay.difference.is_none() {
        number += 1;
        let text = match wire::read_line(reader)? {
            ReadLine::Whole(text) => text,
            end => {
                replay.is_cut = end == ReadLine::Cut;
                break;
            }
        };
        let Line { t: now, call, out } = wire::parse::<Line<C::Call>>(&text).map_err(|error| {
            let error = error.to_string();
            ReplayError::Line { line: number, core: C::NAME, program: program(), error }
        })?;
        C::describe_call(&call).into_iter().for_each(|call| count(&mut calls, call));
        let outputs = logged.during(|| catch_unwind(AssertUnwindSafe(|| state.call(call, now))));
        let (outputs, replayed) = match outputs {
            Ok(outputs) => {
                let values = serde_json::to_value(&outputs);
                (outputs, values.map_err(|error| error.to_string()))
            }
            Err(_) => (Vec::new(), Err("the program panics".to_owned())),
        };
        (replay.calls, replay.until) = (replay.calls + 1, now);
        let recorded = Value::Array(out);
        let (described, reasons) =
            (outputs.iter().filter_map(C::describe_output).collect::<Vec<_>>(), logged.take());
        if !described.is_empty() || !reasons.is_empty() {
            let calls = mem::take(&mut calls);
            replay.decisions.push(Decision { at: now, calls, outputs: described, reasons });
        }
        if replayed.as_ref() != Ok(&recorded) {
            let call = wire::parse::<Value>(&text).unwrap_or_default();
            replay.difference = Some(Difference {
                at: now,
                line: number,
                call: call.get("call").unwrap_or(&Value::Null).to_string(),
                recorded: recorded.to_string(),
                replayed: replayed.map_or_else(|error| error, |value| value.to_string()),
            });
        }
    }
    replay.state = serde_json::to_value(&state).map_err(|error| no_state(error.to_string()))?;
    Ok(replay)
}

impl Replay {
    /// What differs between the state at this one's end and that of the segment which goes on.
    fn goes_on<C: Core>(&self, header: &SegmentHeader, state: &C) -> Option<Difference> {
        if self.is_cut || self.difference.is_some() {
            return None;
        }
        let next = serde_json::to_value(state).ok()?;
        (next != self.state).then(|| {
            let (recorded, replayed) = part("", &next, &self.state);
            Difference {
                at: header.at,
                line: 2,
                call: "the state after the segment before".to_owned(),
                recorded,
                replayed,
            }
        })
    }
}

/// The first part in which two values differ, as `place: value`.
fn part(place: &str, one: &Value, other: &Value) -> (String, String) {
    if let (Value::Object(ones), Value::Object(others)) = (one, other) {
        for (key, value) in ones {
            let of_other = others.get(key).unwrap_or(&Value::Null);
            if of_other != value {
                return part(&format!("{place}.{key}"), value, of_other);
            }
        }
    }
    (format!("{place}: {one}"), format!("{place}: {other}"))
}

/// Counts a call that was described.
fn count(calls: &mut Vec<(String, u32)>, call: String) {
    match calls.iter_mut().find(|(known, _)| *known == call) {
        Some((_, times)) => *times += 1,
        None => calls.push((call, 1)),
    }
}

/// What the program logs while a call is made: why it decides as it does.
struct Logged {
    text: LoggedText,
    dispatch: Dispatch,
}

impl Logged {
    fn new() -> Logged {
        let text = LoggedText::default();
        let to = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_max_level(Level::INFO)
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_ansi(false)
            .finish();
        Logged { text, dispatch: Dispatch::new(subscriber) }
    }

    fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        with_default(&self.dispatch, act)
    }

    fn take(&self) -> Vec<String> {
        let text = mem::take(&mut *self.text.0.lock().unwrap_or_else(PoisonError::into_inner));
        let text = String::from_utf8_lossy(&text);
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

#[derive(Clone, Default)]
struct LoggedText(Arc<Mutex<Vec<u8>>>);

impl io::Write for LoggedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::recorded::Recorded;
    use super::super::testing::{Counter, Tape, replay_text};
    use super::*;

    /// A recording of these calls, one each tenth of a second.
    fn recorded(calls: &[u64]) -> (Recorded<Counter>, Tape) {
        let (recorder, tape) = Tape::new();
        let (mut counter, start) = (Recorded::new(Counter::default(), &recorder), Instant::now());
        for (n, call) in (0..).zip(calls) {
            counter.call(*call, start + n * Duration::from_millis(100));
        }
        (counter, tape)
    }

    /// The text of the only segment of a recording.
    fn text(calls: &[u64]) -> String {
        let (counter, mut tape) = recorded(calls);
        drop(counter);
        let segments = tape.segments();
        assert_eq!(segments.len(), 1);
        String::from_utf8(segments.pop_first().unwrap().1).unwrap()
    }

    fn replayed(text: &str) -> Result<Replay, ReplayError> {
        replay_text::<Counter>(text.as_bytes(), None).map(|(_, replay)| replay)
    }

    proptest! {
        #[test]
        fn a_recording_is_replayed_without_a_difference_over_all_of_its_segments(
            calls in proptest::collection::vec(0_u64..100, 0..200),
        ) {
            let (mut counter, mut tape) = recorded(&calls);
            let (segments, replayed) = tape.check(&mut counter);
            prop_assert_eq!(replayed, calls.len() as u64);
            prop_assert_eq!(segments, calls.len().div_ceil(20), "two seconds each");
        }

        #[test]
        fn a_file_that_is_cut_off_anywhere_is_read_up_to_there(at in 0_usize..2000) {
            let text = text(&[1; 15]);
            let at = at.min(text.len());
            let lines = text[..at].matches('\n').count() as u64;
            match replayed(&text[..at]) {
                Ok(replay) => {
                    prop_assert_eq!(replay.calls, lines - 2);
                    prop_assert_eq!(replay.is_cut, !text[..at].ends_with('\n'));
                    prop_assert_eq!(replay.difference, None);
                }
                Err(error) => prop_assert!(lines < 2, "{}", error),
            }
        }

        #[test]
        fn a_damaged_file_is_an_error_or_a_difference_and_no_panic(
            at in 0_usize..900, byte: u8,
        ) {
            let mut text = text(&[1; 15]).into_bytes();
            let at = at.min(text.len() - 1);
            text[at] = byte;
            // What comes of it is anybody's guess, but it ends.
            let _ = replay_text::<Counter>(&text, None);
        }
    }

    #[test]
    fn an_output_that_was_changed_is_found_with_its_place() {
        let text = text(&[3; 12]);
        let changed = text.replace("\"out\":[30]", "\"out\":[31]");
        assert_ne!(changed, text);
        assert_eq!(replayed(&text).unwrap().difference, None);
        let replay = replayed(&changed).unwrap();
        let difference = replay.difference.unwrap();
        assert_eq!((difference.line, difference.call.as_str()), (12, "3"));
        assert_eq!((&*difference.recorded, &*difference.replayed), ("[31]", "[30]"));
        assert_eq!(replay.calls, 10, "nothing is replayed after it");
    }

    #[test]
    fn a_state_that_is_not_whole_when_it_is_restored_is_found() {
        let (recorder, mut tape) = Tape::new();
        let counter = Counter { forgotten: 1, ..Counter::default() };
        let (mut counter, start) = (Recorded::new(counter, &recorder), Instant::now());
        (0..30).for_each(|n| drop(counter.call(1, start + n * Duration::from_millis(100))));
        drop(counter);
        let segments: Vec<(u64, Vec<u8>)> = tape.segments().clone().into_iter().collect();
        let (_, first) = replay_text::<Counter>(&segments[0].1, None).unwrap();
        let difference = first.difference.as_ref().unwrap();
        assert_eq!((&*difference.recorded, &*difference.replayed), ("[20]", "[10]"));
        // The end of a segment is compared with the beginning of the next one.
        let cut: Vec<&str> = str::from_utf8(&segments[0].1).unwrap().lines().take(7).collect();
        let cut = format!("{}\n", cut.join("\n"));
        let before = (segments[0].0, replayed(&cut).unwrap());
        let (_, second) = replay_text::<Counter>(&segments[1].1, Some(&before)).unwrap();
        let difference = second.difference.unwrap();
        assert_eq!(difference.line, 2);
        assert!(difference.recorded.starts_with(".calls: 20"), "{difference:?}");
    }

    #[test]
    fn a_decision_has_the_calls_before_it_and_what_was_logged() {
        let replay = replayed(&text(&[0, 1, 1, 7, 0, 2, 0, 0, 0, 0, 5])).unwrap();
        let said: Vec<_> =
            replay.decisions.iter().map(|d| (&d.calls, &d.outputs, &d.reasons)).collect();
        let calls = |calls: &[(&str, u32)]| -> Vec<(String, u32)> {
            calls.iter().map(|(call, times)| ((*call).to_owned(), *times)).collect()
        };
        let one = calls(&[("1 more", 2), ("7 more", 1)]);
        let two = calls(&[("2 more", 1)]);
        let (nothing, sum) = (Vec::new(), vec!["the sum is 11".to_owned()]);
        let reason = vec!["seven is worth a word".to_owned()];
        assert_eq!(said, [(&one, &nothing, &reason), (&two, &sum, &nothing)]);
    }

    #[test]
    fn a_panic_is_a_difference() {
        let text = text(&[1; 3]).replacen("\"call\":1}", "\"call\":666}", 1);
        let difference = replayed(&text).unwrap().difference.unwrap();
        assert_eq!((difference.line, &*difference.replayed), (3, "the program panics"));
    }

    #[test]
    fn what_is_no_recording_of_this_core_is_refused_with_its_place() {
        let text = text(&[1; 3]);
        let said = |text: String| replayed(&text).unwrap_err().to_string();
        let no_state = text.replacen("\"sum\"", "\"total\"", 1);
        assert!(said(no_state).contains("cannot be restored by"), "a state of another program");
        let no_call = text.replacen("\"call\":1}", "\"call\":\"one\"}", 1);
        assert!(said(no_call).starts_with("line 3 is no call of the counter of cvipd"));
        let header = text.lines().next().unwrap().to_owned() + "\n";
        assert!(said(header).contains("the file ends before it"));
    }
}
