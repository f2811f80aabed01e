//! What the original never had of reading commands: a report, a check, and convergence.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use super::super::change::change_line;
use super::super::errors::{self, FailedOperation};
use super::super::from_json;
use super::super::invocation::{Failing, Invocation, Source};
use super::super::restore::{Comments, LONGEST_LINE, Lines};
use super::super::rules::{RuleError, Rules};
use super::super::table::{Table, TableError};
use super::{BATCH, Next, ToolError, ToolSession};
use crate::ipvs::Change;
use crate::ipvs::plan::takes_away;
use crate::output::harmless;

/// How a restore that reports is going.
#[derive(Default)]
struct RestoreCounters {
    applied: u64,
    failed: u64,
    /// The status of the first line that failed.
    status: u8,
}

/// How an input ended.
#[derive(Clone, Copy)]
enum InputEnd {
    /// After a whole line.
    Whole,
    /// In the middle of a line.
    Truncated,
}

/// A line, for the messages.
struct LinePlace {
    number: u64,
    text: String,
}

impl LinePlace {
    fn of<R: Read>(lines: &Lines<R>) -> LinePlace {
        LinePlace { number: lines.number(), text: shortened(&lines.text()).into_owned() }
    }
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    /// `-R --report`, `--keep-going` and `--stop-on-error`.
    pub(super) fn restore_reporting(&mut self, stdin: &mut dyn Read, failing: Failing) -> u8 {
        self.setting.restoring = true;
        let mut lines = Lines::new(stdin, Comments::Indented);
        let mut counters = RestoreCounters::default();
        let stopped = self.report_lines(&mut lines, failing, &mut counters);
        let end = if stopped {
            format!("; ended at line {}, what follows was not carried out", lines.number())
        } else {
            String::new()
        };
        let RestoreCounters { applied, failed, status } = counters;
        self.complain(&format!(
            "{applied} of {} carried out, {failed} failed{end}",
            counted(applied + failed, "line", "lines")
        ));
        status
    }

    /// Carries out all lines; `true` if it ended before the last one.
    fn report_lines<R: Read>(
        &mut self,
        lines: &mut Lines<R>,
        failing: Failing,
        counters: &mut RestoreCounters,
    ) -> bool {
        let most = if failing == Failing::Stop { 1 } else { BATCH };
        let (mut changes, mut places) = (Vec::new(), Vec::new());
        loop {
            let next = match self.next_of(lines) {
                Next::Change(change) => {
                    changes.push(change);
                    places.push(LinePlace::of(lines));
                    if changes.len() < most {
                        continue;
                    }
                    None
                }
                other => Some(other),
            };
            let failed = counters.failed;
            let over = self.apply_reporting(&mut changes, &mut places, counters);
            if over || (failing == Failing::Stop && counters.failed > failed) {
                return true;
            }
            match next {
                None | Some(Next::Change(_)) => {}
                Some(Next::Other(invocation)) => {
                    let (status, over) = self.answer(invocation);
                    match status {
                        0 => counters.applied += 1,
                        _ => self.failed(&LinePlace::of(lines), "see above", status, counters),
                    }
                    if over && (status == 0 || failing != Failing::GoOn)
                        || status != 0 && failing == Failing::Stop
                    {
                        return true;
                    }
                }
                Some(Next::Wrong(error)) => {
                    let place = LinePlace::of(lines);
                    self.failed(&place, error.to_string().trim_end(), error.status(), counters);
                    let ends = match failing {
                        Failing::AsEver => error.ends_a_restore(),
                        Failing::GoOn => false,
                        Failing::Stop => true,
                    };
                    if ends {
                        return true;
                    }
                }
                Some(Next::TooLong) => {
                    counters.status = self.too_long();
                    return true;
                }
                Some(Next::Wait) => {
                    let _ = self.out.flush();
                    if let Err(error) = lines.fill() {
                        counters.status = self.unreadable("standard input", &error);
                        return true;
                    }
                }
                Some(Next::End) => return false,
            }
        }
    }

    /// Carries out what is under way; `true` if the kernel cannot be asked.
    fn apply_reporting(
        &mut self,
        changes: &mut Vec<Change>,
        places: &mut Vec<LinePlace>,
        counters: &mut RestoreCounters,
    ) -> bool {
        if changes.is_empty() {
            return false;
        }
        let (changes, places) = (std::mem::take(changes), std::mem::take(places));
        let refused = match self.refusals(&changes) {
            Ok(refused) => refused,
            Err(status) => {
                counters.status = status;
                counters.failed += changes.len() as u64;
                return true;
            }
        };
        counters.applied += (changes.len() - refused.len()) as u64;
        for (index, errno) in refused {
            if let (Some(change), Some(place)) = (changes.get(index), places.get(index)) {
                self.failed(
                    place,
                    &errors::text(FailedOperation::of(change), errno),
                    255,
                    counters,
                );
            }
        }
        false
    }

    /// Makes the changes: those refused, or the status if the kernel cannot be asked.
    fn refusals(&mut self, changes: &[Change]) -> Result<Vec<(usize, i32)>, u8> {
        let applied = match self.kernel() {
            Ok(table) => table.apply(changes),
            Err(error) => return Err(self.report(Err(error)).0),
        };
        applied.map_err(|error| {
            self.complain(&error.to_string());
            255
        })
    }

    fn failed(&mut self, place: &LinePlace, why: &str, status: u8, counters: &mut RestoreCounters) {
        let text = format!("line {}: {}: {}", place.number, place.text, shortened(why));
        self.complain(&harmless(&text));
        counters.failed += 1;
        if counters.status == 0 {
            counters.status = status;
        }
    }

    /// `-R --check`: reads every line and does nothing. A line is wrong if the restore that it
    /// is read for would refuse it for its words.
    pub(super) fn check(&mut self, stdin: &mut dyn Read, comments: Comments) -> u8 {
        let mut counters = RestoreCounters::default();
        let lines = Lines::new(Box::new(stdin) as Box<dyn Read>, comments);
        let result = self.read_lines(lines, "standard input", &mut counters, |_| Ok(()));
        let RestoreCounters { applied, failed, .. } = counters;
        self.complain(&format!(
            "{} read, {failed} wrong",
            counted(applied + failed, "line", "lines")
        ));
        match result {
            Ok(_) if failed == 0 => 0,
            Ok(_) => 2,
            Err(status) => status,
        }
    }

    /// Reads every line and hands on what it asks for; complains of each that is wrong, or
    /// that `each` does not want. The error is the exit status if it cannot be read on.
    fn read_lines(
        &mut self,
        mut lines: Lines<Box<dyn Read + '_>>,
        what: &str,
        counters: &mut RestoreCounters,
        mut each: impl FnMut(Invocation) -> Result<(), String>,
    ) -> Result<InputEnd, u8> {
        self.setting.restoring = true;
        loop {
            let read = match self.next_of(&mut lines) {
                Next::Change(change) => Ok(Invocation::Change(change)),
                Next::Other(invocation) => Ok(invocation),
                Next::Wrong(error) => Err((error.to_string(), error.status())),
                Next::Wait => {
                    lines.fill().map_err(|error| self.unreadable(what, &error))?;
                    continue;
                }
                Next::TooLong => return Err(self.too_long()),
                Next::End if lines.is_cut() => return Ok(InputEnd::Truncated),
                Next::End => return Ok(InputEnd::Whole),
            };
            // These end a restore, whatever follows.
            let ends = matches!(read, Ok(Invocation::Help | Invocation::Version));
            let taken = read.and_then(|invocation| each(invocation).map_err(|why| (why, 2)));
            match taken {
                Ok(()) if ends => {
                    counters.applied += 1;
                    return Ok(InputEnd::Whole);
                }
                Ok(()) => counters.applied += 1,
                Err((why, status)) => {
                    self.failed(&LinePlace::of(&lines), why.trim_end(), status, counters);
                }
            }
        }
    }

    /// The table that a file describes; complains and gives the status if it describes none.
    fn rules(&mut self, from: &Source, stdin: &mut dyn Read) -> Result<Rules, u8> {
        let (input, what) = self.open_source(from, stdin)?;
        let (first, input) = peek(input).map_err(|error| self.unreadable(&what, &error))?;
        if first == Some(b'{') {
            return self.rules_in_json(input, &what);
        }
        let mut rules = Rules::default();
        let mut counters = RestoreCounters::default();
        let lines = Lines::new(input, Comments::Indented);
        let end = self.read_lines(lines, &what, &mut counters, |invocation| match invocation {
            Invocation::Change(change) => enter(&mut rules, &change),
            _ => Err(NO_RULE.to_owned()),
        })?;
        let refusal = match (counters.failed, end) {
            (1.., _) => {
                let wrong = counted(counters.failed, "line is", "lines are");
                format!("{wrong} wrong: nothing was changed")
            }
            (0, _) if counters.applied == 0 => format!(
                "{what}: no commands; nothing was changed (-C as its only line empties the table)"
            ),
            (0, InputEnd::Truncated) => format!(
                "{what}: the last line has no newline, so what followed it may be lost; nothing \
                 was changed"
            ),
            (0, InputEnd::Whole) => return Ok(rules),
        };
        self.complain(&refusal);
        Err(2)
    }

    /// The same of a listing in JSON. One of time-outs or daemons says nothing of services.
    fn rules_in_json(&mut self, input: impl Read, what: &str) -> Result<Rules, u8> {
        let mut rules = Rules::default();
        let refusal = match from_json::listing(input) {
            Err(error) => error.to_string(),
            Ok(listing) if listing.one_service => {
                "this lists one service (-L with -t or its like) \
                and describes no table; nothing was changed (--restore-json adds it)"
                    .to_owned()
            }
            Ok(from_json::Listing { changes, .. }) => {
                let refused = changes.iter().find_map(|change| {
                    let why = enter(&mut rules, change).err()?;
                    Some(format!("{}: {why}", change_line(change)))
                });
                match refused {
                    Some(refused) => format!("{refused}; nothing was changed"),
                    None => {
                        rules.keeps_services = !rules.of_services;
                        return Ok(rules);
                    }
                }
            }
        };
        self.complain(&format!("{what}: {refusal}"));
        Err(2)
    }

    /// Opens what is to be read, and says what it is called.
    fn open_source<'r>(
        &mut self,
        from: &Source,
        stdin: &'r mut dyn Read,
    ) -> Result<(Box<dyn Read + 'r>, String), u8> {
        match from {
            Source::Stdin => Ok((Box::new(stdin), "standard input".to_owned())),
            Source::File(name) => {
                let shown = name.to_string_lossy().into_owned();
                match File::open(name) {
                    Ok(file) => Ok((Box::new(file), shown)),
                    Err(error) => Err(self.unreadable(&shown, &error)),
                }
            }
        }
    }

    /// What leads from the kernel's table to that of a file.
    fn changes_to(&mut self, from: &Source, stdin: &mut dyn Read) -> Result<Vec<Change>, u8> {
        let mut wanted = self.rules(from, stdin)?;
        let current = self.kernel().and_then(|table| {
            Rules::of(table)
                .map_err(|error| ToolError::Refused(FailedOperation::FindService, error))
        });
        match current {
            Ok(current) if wanted.keeps_services => {
                wanted.services.clone_from(&current.services);
                Ok(current.plan(&wanted))
            }
            Ok(current) if !wanted.of_services && !current.services.is_empty() => {
                let count = current.services.len();
                self.complain(&format!(
                    "no service is described, and the table has {count}; nothing was changed (a \
                     line -C says that they are to go)"
                ));
                Err(2)
            }
            Ok(current) => Ok(current.plan(&wanted)),
            Err(error) => Err(self.report(Err(error)).0),
        }
    }

    /// Prints changes; `true` if all of them, or as many as are read.
    fn print_changes(&mut self, changes: &[Change]) -> bool {
        let mut lines = changes.iter();
        let _ = lines.try_for_each(|change| writeln!(self.out, "{}", change_line(change)));
        let _ = self.out.flush();
        self.out.lost().is_none()
    }

    /// `--diff`: 0 for no difference, 1 for some, 2 for trouble, as diff(1) has it.
    pub(super) fn diff(&mut self, from: &Source, stdin: &mut dyn Read) -> u8 {
        match self.changes_to(from, stdin) {
            Ok(changes) => match self.print_changes(&changes) {
                true => u8::from(!changes.is_empty()),
                false => 2,
            },
            Err(_) => 2,
        }
    }

    /// `--apply`.
    pub(super) fn converge(&mut self, from: &Source, stdin: &mut dyn Read, dry_run: bool) -> u8 {
        match self.changes_to(from, stdin) {
            Ok(changes) if dry_run => {
                self.print_changes(&changes);
                0
            }
            Ok(changes) => self.apply_plan(&changes),
            Err(status) => status,
        }
    }

    /// Makes the changes of a plan. What is there serves on if the kernel refuses what was to
    /// replace it: then nothing is taken away.
    fn apply_plan(&mut self, changes: &[Change]) -> u8 {
        let additions = changes.iter().position(takes_away).unwrap_or(changes.len());
        let (first, rest) = changes.split_at(additions);
        match self.refused_by_name(first) {
            Ok(false) => return self.apply_naming(rest),
            Ok(true) => {}
            Err(status) => return status,
        }
        // Time-outs, and daemons that have been stopped to be started anew.
        let (kept, others): (Vec<Change>, Vec<Change>) = rest.iter().cloned().partition(takes_away);
        if !kept.is_empty() {
            let count = kept.len();
            let changes = counted(count as u64, "change that takes", "changes that take");
            self.complain(&format!("left undone: {changes} something away"));
        }
        match self.refused_by_name(&others) {
            Ok(_) => 255,
            Err(status) => status,
        }
    }

    /// `--restore-json`, and `--restore-json --check`.
    pub(super) fn restore_json(&mut self, from: &Source, stdin: &mut dyn Read, check: bool) -> u8 {
        let (input, what) = match self.open_source(from, stdin) {
            Ok(opened) => opened,
            Err(status) => return status,
        };
        match from_json::listing(BufReader::new(input)) {
            Ok(listing) if check => {
                let read = counted(listing.changes.len() as u64, "entry", "entries");
                self.complain(&format!("{read} read, 0 wrong"));
                0
            }
            Ok(listing) => self.apply_naming(&listing.changes),
            Err(error) => {
                self.complain(&harmless(&format!("{what}: {error}")));
                2
            }
        }
    }

    /// Makes changes that stand on no line; names those refused by the commands they are.
    fn apply_naming(&mut self, changes: &[Change]) -> u8 {
        match self.refused_by_name(changes) {
            Ok(false) => 0,
            Ok(true) => 255,
            Err(status) => status,
        }
    }

    /// The same: whether any was refused, or the status if the kernel cannot be asked.
    fn refused_by_name(&mut self, changes: &[Change]) -> Result<bool, u8> {
        let mut failed = false;
        for part in changes.chunks(BATCH) {
            for (index, errno) in self.refusals(part)? {
                if let Some(change) = part.get(index) {
                    let why = errors::text(FailedOperation::of(change), errno);
                    self.complain(&format!("{}: {why}", change_line(change)));
                    failed = true;
                }
            }
        }
        Ok(failed)
    }
}

/// Has a change made in a table that is described; the error says why it cannot be.
fn enter(rules: &mut Rules, change: &Change) -> Result<(), String> {
    rules.change(change).map_err(|error| match error {
        RuleError::Refused(errno) => errors::text(FailedOperation::of(change), errno),
        RuleError::NoRule => NO_RULE.to_owned(),
    })
}

/// The first byte of an input that is no blank, among the first [`LONGEST_LINE`]; and the whole
/// input.
fn peek<'r>(input: Box<dyn Read + 'r>) -> io::Result<(Option<u8>, Box<dyn Read + 'r>)> {
    let mut input = BufReader::new(input);
    let mut seen = Vec::new();
    let first = loop {
        let [byte] = match input.fill_buf() {
            Ok([]) => break None,
            Ok([byte, ..]) => [*byte],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        input.consume(1);
        seen.push(byte);
        if !byte.is_ascii_whitespace() || seen.len() > LONGEST_LINE {
            break Some(byte);
        }
    };
    Ok((first, Box::new(io::Cursor::new(seen).chain(input))))
}

/// The most of a line, and of what is wrong with it, that a message repeats, in characters.
const SHOWN: usize = 200;

/// A text that may be long, as a message repeats it.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// What a line is told that has no place in a file that describes a table.
const NO_RULE: &str = "this command describes no part of a table";

/// A number of things, in words.
fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}
