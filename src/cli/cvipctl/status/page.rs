//! A page of text of so many columns, in colour on a terminal. Pure.

use super::super::super::harmless;

/// How a piece of text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    Plain,
    /// What a column or a block is.
    Title,
    /// All is well.
    Good,
    /// Probably not as it is meant.
    Warning,
    /// Clients are not served as they should be.
    Fault,
    /// What matters less.
    Faint,
}

impl Tone {
    /// The parameters of SGR (ECMA-48, 8.3.117).
    fn sgr(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Title => Some("1"),
            Tone::Good => Some("1;32"),
            Tone::Warning => Some("1;33"),
            Tone::Fault => Some("1;31"),
            Tone::Faint => Some("2"),
        }
    }
}

/// The space between columns.
const GAP: &str = "  ";

/// The text so far.
#[derive(Debug)]
pub(super) struct Page {
    in_colour: bool,
    width: usize,
    text: String,
}

impl Page {
    pub(super) fn new(width: usize, in_colour: bool) -> Page {
        Page { in_colour, width, text: String::new() }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn finish(self) -> String {
        format!("{}\n", self.text.trim_end_matches('\n'))
    }

    fn push(&mut self, tone: Tone, text: &str) {
        // Words of others may not command the terminal.
        let text = harmless(&text.replace('\n', " "));
        match tone.sgr().filter(|_| self.in_colour) {
            Some(sgr) => self.text += &format!("\u{1b}[{sgr}m{text}\u{1b}[0m"),
            None => self.text += &text,
        }
    }

    /// A line.
    pub(super) fn line(&mut self, tone: Tone, text: &str) {
        self.push(tone, text.trim_end());
        self.text.push('\n');
    }

    /// An empty line, unless one stands above it, or nothing.
    pub(super) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A text behind a head, on as many lines as it takes; all but the first begin with `indent`
    /// spaces.
    pub(super) fn wrapped(&mut self, tone: Tone, head: &str, indent: usize, text: &str) {
        let mut at = head.chars().count();
        self.push(tone, head);
        let mut is_first = true;
        for word in text.split_whitespace() {
            let length = word.chars().count();
            let space = usize::from(!is_first);
            if at + space + length > self.width && !is_first {
                self.text.push('\n');
                self.text += &" ".repeat(indent);
                at = indent;
            } else if !is_first {
                self.text.push(' ');
                at += 1;
            }
            self.push(Tone::Plain, word);
            at += length;
            is_first = false;
        }
        self.text.push('\n');
    }

    /// Rows under their titles and below an empty line; nothing without a row. Columns whose title
    /// is in `right` end with their numbers. Rows that are too long for the page go on on a line of
    /// their own, cell by cell.
    pub(super) fn table<const N: usize>(
        &mut self,
        titles: [&str; N],
        right: &[&str],
        rows: &[[String; N]],
    ) {
        if rows.is_empty() {
            return;
        }
        self.gap();
        let length = |text: &str| text.chars().count();
        // A column that says nothing is left out.
        let shown: Vec<usize> =
            (0..N).filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
        let widths: Vec<usize> = (0..N)
            .map(|at| {
                let cells = rows.iter().map(|row| length(&row[at]));
                cells.max().unwrap_or(0).max(length(titles[at]))
            })
            .collect();
        let total: usize = shown.iter().map(|at| widths[*at] + GAP.len()).sum();
        let fits = total.saturating_sub(GAP.len()) <= self.width;
        let line = |cells: [&str; N]| {
            let mut line = String::new();
            for at in &shown {
                let (cell, width) = (cells[*at], widths[*at]);
                line += &match right.contains(&titles[*at]) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                };
                line += GAP;
            }
            line
        };
        if fits {
            self.line(Tone::Title, &line(titles));
            for row in rows {
                self.line(Tone::Plain, &line(row.each_ref().map(String::as_str)));
            }
            return;
        }
        let names: Vec<&str> = shown.iter().map(|at| titles[*at]).collect();
        self.line(Tone::Title, &names.join(GAP));
        for row in rows {
            let mut at = 0;
            for cell in shown.iter().map(|at| &row[*at]).filter(|cell| !cell.is_empty()) {
                let gap = if at == 0 { 0 } else { GAP.len() };
                if at > 0 && at + gap + length(cell) > self.width {
                    self.text += "\n    ";
                    at = 4;
                } else {
                    self.text += &GAP[..gap];
                    at += gap;
                }
                self.push(Tone::Plain, cell);
                at += length(cell);
            }
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize, in_colour: bool, write: impl FnOnce(&mut Page)) -> String {
        let mut page = Page::new(width, in_colour);
        write(&mut page);
        page.finish()
    }

    #[test]
    fn words_of_others_do_not_command_a_terminal_in_colour_either() {
        let text = page(80, true, |page| page.line(Tone::Fault, "disk\u{1b}[2J\nnew"));
        assert_eq!(text, "\u{1b}[1;31mdisk\u{fffd}[2J new\u{1b}[0m\n");
        assert_eq!(page(80, false, |page| page.line(Tone::Fault, "x  ")), "x\n");
    }

    #[test]
    fn a_long_text_goes_on_below_its_head() {
        let text = page(20, false, |page| {
            page.wrapped(Tone::Plain, "fault: ", 4, "a bc def gh ij klm no pqr")
        });
        assert_eq!(text, "fault: a bc def gh\n    ij klm no pqr\n");
    }

    #[test]
    fn a_table_that_is_too_wide_goes_on_cell_by_cell_and_empty_columns_are_left_out() {
        let rows = [["1".to_owned(), String::new(), "abc".to_owned()]];
        let of =
            |width| page(width, false, |page| page.table(["N", "Empty", "Word"], &["N"], &rows));
        assert_eq!(of(20), "N  Word\n1  abc\n");
        assert_eq!(of(5), "N  Word\n1\n    abc\n");
    }
}
