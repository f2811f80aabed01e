//! Colours of the demo, where it runs at a terminal or its picture is made.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

static IN_COLOUR: AtomicBool = AtomicBool::new(false);

/// A step's title, and a command.
pub(super) const BOLD: &str = "1";
/// What was checked and holds.
pub(super) const GREEN: &str = "32";
/// What was checked and does not hold.
pub(super) const RED: &str = "31";
/// How long something took.
pub(super) const CYAN: &str = "36";

/// From now on there are colours if they were asked for, or at a terminal that has them.
pub(super) fn begin(asked: bool) {
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let at_terminal = std::io::stdout().is_terminal() && !is_dumb && !declined;
    IN_COLOUR.store(asked || at_terminal, Ordering::Relaxed);
}

/// A text in a colour.
pub(super) fn painted(colour: &str, text: &str) -> String {
    match IN_COLOUR.load(Ordering::Relaxed) {
        true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}
