//! The picture of the demo in README.md: what the demo printed, as an SVG of a terminal.
//!
//! It has neither scripts nor fonts of its own: sites that show it allow none. Each piece of a line
//! stands at its column and has its width, whatever font of fixed width there is.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

/// How wide the terminal is, in characters.
const COLUMNS: usize = 80;

/// The steps that are shown, by the beginning of their titles.
const STEPS: [&str; 8] = [
    "every node flags ports",
    "nginx starts on node 1:",
    "nginx starts on node 2:",
    "nginx starts on node 3:",
    "the client fetches through the CVIP",
    "node 2's nginx is killed",
    "an administrator drains node 3",
    "nginx starts on nodes 1 and 2 again",
];

/// The command whose output is left out, which is long.
const LONG: &str = " # cvipctl status";

/// In pixels: a character, a line, the size of the font, and the room around the text.
const CHARACTER: f64 = 8.4;
const LINE: usize = 19;
const FONT: usize = 14;
const MARGIN: usize = 16;

const BACKGROUND: &str = "#161b22";
const TEXT: &str = "#c9d1d9";
const FAINT: &str = "#8b949e";

/// A piece of a line in one style.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    text: String,
    colour: &'static str,
    is_bold: bool,
}

type Line = Vec<Span>;

/// The picture of what the demo printed: the chosen steps as they are.
///
/// # Errors
/// A step that is to be shown was not printed.
pub(super) fn picture(printed: &str) -> Result<String> {
    let mut lines = vec![vec![
        Span { text: "$ ".to_owned(), colour: FAINT, is_bold: false },
        Span { text: "cargo xtask demo".to_owned(), colour: TEXT, is_bold: true },
    ]];
    let mut shown = Vec::new();
    let (mut is_shown, mut is_left_out) = (false, false);
    for line in printed.lines() {
        let line = spans(line);
        let text = plain(&line);
        if let Some(title) = title(&text) {
            let step = STEPS.iter().find(|step| title.starts_with(**step));
            let was_shown = std::mem::replace(&mut is_shown, step.is_some());
            shown.extend(step);
            if !is_shown && was_shown && lines.last() != Some(&left_out()) {
                lines.push(left_out());
            }
            if is_shown {
                lines.push(Vec::new());
            }
        }
        // What a command prints is indented further than the command.
        is_left_out &= text.is_empty() || text.starts_with("      ");
        if is_left_out {
            continue;
        }
        // The last line of the demo stands by itself.
        let is_end = text.starts_with("demo: ");
        if is_end {
            lines.push(Vec::new());
        }
        if (is_shown || is_end) && !text.trim().is_empty() {
            lines.extend(wrapped(&line));
        }
        if is_shown && text.ends_with(LONG) {
            is_left_out = true;
            lines.push(left_out());
        }
    }
    for step in STEPS {
        ensure!(shown.contains(&&step), "the demo printed no step `{step}`");
    }
    Ok(svg(&lines))
}

/// The mark of what is left out.
fn left_out() -> Line {
    vec![Span { text: "      ...".to_owned(), colour: FAINT, is_bold: false }]
}

/// The title of a step: ` 5. nginx starts`.
fn title(text: &str) -> Option<&str> {
    let (number, title) = text.split_once(". ")?;
    number.trim_start().parse::<u32>().is_ok().then_some(title)
}

fn plain(line: &Line) -> String {
    line.iter().map(|span| span.text.as_str()).collect()
}

/// The pieces of a line with their colours, as a terminal shows them (ECMA-48, SGR).
fn spans(text: &str) -> Line {
    let mut line = Line::new();
    let (mut colour, mut is_bold) = (TEXT, false);
    for (at, part) in text.split("\u{1b}[").enumerate() {
        let mut rest = part;
        if at > 0
            && let Some((codes, after)) = part.split_once('m')
        {
            for code in codes.split(';') {
                match code {
                    "" | "0" => (colour, is_bold) = (TEXT, false),
                    "1" => is_bold = true,
                    "31" => colour = "#ff7b72",
                    "32" => colour = "#56d364",
                    "33" => colour = "#e3b341",
                    "36" => colour = "#76e3ea",
                    _ => {}
                }
            }
            rest = after;
        }
        if !rest.is_empty() {
            line.push(Span { text: rest.to_owned(), colour, is_bold });
        }
    }
    line
}

/// A line as a terminal of this width has it, broken between words and indented further.
fn wrapped(line: &Line) -> Vec<Line> {
    let indent = plain(line).chars().take_while(|c| *c == ' ').count() + 4;
    let mut lines = vec![Line::new()];
    let mut column = 0;
    for span in line {
        for word in span.text.split_inclusive(' ') {
            let width = word.trim_end().chars().count();
            if column + width > COLUMNS && column > indent {
                column = indent;
                let blank = Span { text: " ".repeat(indent), colour: TEXT, is_bold: false };
                lines.push(vec![blank]);
            }
            column += word.chars().count();
            let words = Span { text: word.to_owned(), ..span.clone() };
            if let Some(last) = lines.last_mut() {
                match last.last_mut() {
                    Some(before)
                        if (before.colour, before.is_bold) == (span.colour, span.is_bold) =>
                    {
                        before.text.push_str(word);
                    }
                    _ => last.push(words),
                }
            }
        }
    }
    lines
}

fn svg(lines: &[Line]) -> String {
    let width = (COLUMNS as f64 * CHARACTER).ceil() as usize + 2 * MARGIN;
    let height = lines.len() * LINE + 2 * MARGIN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"What cargo xtask demo \
         prints\">\n<!-- Made by cargo xtask demo, with its option for a picture: do not edit. -->\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', \
         'Liberation Mono', monospace\" font-size=\"{FONT}\" fill=\"{TEXT}\">\n"
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + row * LINE + FONT;
        let mut column = 0;
        for span in line {
            let shown = span.text.trim();
            let blank = span.text.len() - span.text.trim_start().len();
            let x = MARGIN as f64 + (column + blank) as f64 * CHARACTER;
            let long = shown.chars().count() as f64 * CHARACTER;
            column += span.text.chars().count();
            if shown.is_empty() {
                continue;
            }
            let colour = match span.colour {
                TEXT => String::new(),
                colour => format!(" fill=\"{colour}\""),
            };
            let bold = if span.is_bold { " font-weight=\"bold\"" } else { "" };
            let _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{y}\" textLength=\"{long:.1}\"{colour}{bold} \
                 xml:space=\"preserve\">{}</text>",
                escaped(shown)
            );
        }
    }
    text.push_str("</g>\n</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::build;

    /// The lines of an SVG's text, without what they begin with.
    fn lines(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).expect("it is well-formed");
        let mut lines: BTreeMap<usize, String> = BTreeMap::new();
        for piece in document.descendants().filter(|node| node.has_tag_name("text")) {
            let number = |name: &str| piece.attribute(name).unwrap().parse::<f64>().unwrap();
            let line = lines.entry(number("y") as usize).or_default();
            let column = ((number("x") - MARGIN as f64) / CHARACTER).round() as usize;
            *line = format!("{line:<column$}{}", piece.text().unwrap());
        }
        lines.into_values().map(|line| line.trim().to_owned()).collect()
    }

    fn printed() -> String {
        let steps = STEPS.iter().enumerate().map(|(at, step)| {
            format!("\n{:2}. \u{1b}[1m{step}\u{1b}[0m\n    node 1 # true\n      \u{1b}[32mok:\u{1b}[0m a<b", at + 1)
        });
        let steps: String = steps.collect();
        let status = "    node 1 # cvipctl status\n      long\n\n      longer\n";
        format!("{steps}\n{status}\n99. something else\n      not shown\n\ndemo: passed")
    }

    #[test]
    fn the_chosen_steps_are_shown_and_what_is_left_out_is_marked() {
        let svg = picture(&printed()).unwrap();
        let lines = lines(&svg);
        assert_eq!(
            lines[..3],
            ["$ cargo xtask demo", "1. every node flags ports", "node 1 # true"]
        );
        assert!(lines.contains(&"ok: a<b".to_owned()) && lines.contains(&"...".to_owned()));
        let is_absent = |text: &str| !lines.iter().any(|line| line.contains(text));
        assert!(is_absent("not shown") && is_absent("long"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "demo: passed");
        assert!(svg.contains(" fill=\"#56d364\" xml:space=\"preserve\">ok:</text>"), "{svg}");
        let error = picture("\n 1. something else\n").unwrap_err();
        assert!(error.to_string().contains("no step `every node flags ports`"), "{error}");
    }

    #[test]
    fn a_line_that_is_too_long_is_broken_between_words() {
        let long = spans(&format!(" 1. {}", "word ".repeat(30)));
        let lines = wrapped(&long);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| plain(line).trim_end().chars().count() <= COLUMNS));
        assert!(plain(&lines[1]).starts_with("     word"), "{lines:?}");
    }

    /// The demo's script, in which every run of blanks is one.
    fn script() -> String {
        let source = include_str!("../demo.rs");
        source.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_picture_in_the_readme_is_of_the_script_as_it_is() {
        let svg = std::fs::read_to_string(build::root().join("docs/demo.svg")).unwrap();
        assert!(!svg.contains("<script") && !svg.contains("href"), "nothing is loaded");
        let lines = lines(&svg);
        let shown = |step: &&str| {
            lines.iter().filter_map(|line| title(line)).any(|title| title.starts_with(*step))
        };
        let missing: Vec<_> = STEPS.iter().filter(|step| !shown(step)).collect();
        assert!(missing.is_empty(), "not in docs/demo.svg: {missing:?}; {AGAIN}");
        let script = script();
        let commands = lines.iter().filter_map(|line| line.split_once(" # "));
        let mut count = 0;
        for (_, command) in commands {
            let words = words(command);
            let literal: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            let literal = literal.join(", ");
            assert!(script.contains(&literal), "not in the demo: `{command}`; {AGAIN}");
            count += 1;
        }
        assert!(count > 4, "{count} commands");
        let readme = std::fs::read_to_string(build::root().join("README.md")).unwrap();
        assert!(readme.contains("](docs/demo.svg)"));
    }

    const AGAIN: &str = "run `cargo xtask demo --picture docs/demo.svg`";

    /// The words of a command as the demo shows it: with blanks in them, they are quoted.
    fn words(command: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for (at, part) in command.split('\'').enumerate() {
            match at % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }
}
