//! Text in the language of man(7).
//!
//! Help is plain text; a page shows what is typed in bold and what stands for something else in
//! italics. Lines of the source are at most [`WIDTH`] long, each sentence begins on a line of its
//! own, and no line is taken for a macro.

/// The longest line of a page's source, in bytes, as `mandoc -Tlint` asks for.
const WIDTH: usize = 78;

/// Text that roff shows as it is, with hyphens that can be copied as minus signs.
pub(super) fn literal(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\\' => shown.push_str("\\e"),
            '-' => shown.push_str("\\-"),
            '\'' => shown.push_str("\\(aq"),
            '`' => shown.push_str("\\(ga"),
            '~' => shown.push_str("\\(ti"),
            '^' => shown.push_str("\\(ha"),
            c => shown.push(c),
        }
    }
    shown
}

/// A line of literal text, as between `.EX` and `.EE`.
pub(super) fn literal_line(text: &str) -> String {
    guarded(&literal(text))
}

/// What is typed as it stands.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", literal(text))
}

/// The name of a value: words in capitals stand for something, the rest is typed as it stands.
pub(super) fn value(name: &str) -> String {
    let mut shown = String::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_uppercase();
        let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        match is_word(first) {
            true => shown.push_str(&format!("\\fI{}\\fR", literal(&rest[..end]))),
            false => shown.push_str(&literal(&rest[..end])),
        }
        rest = &rest[end..];
    }
    shown
}

/// A paragraph of plain text: what stands in grave accents, options and pages become bold; each
/// sentence begins a line.
pub(super) fn paragraph(text: &str) -> String {
    filled(&marked(text))
}

/// The line of the section NAME, from which whatis(1) is made.
pub(super) fn name_line(page: &str, about: &str) -> String {
    filled(&format!("{} \\- {}", literal(page), marked(about)))
}

/// The words of a text in their fonts.
fn marked(text: &str) -> String {
    let mut shown = String::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            shown.push_str(&bold(part));
            continue;
        }
        for (at, word) in part.split(' ').enumerate() {
            if at > 0 {
                shown.push(' ');
            }
            shown.push_str(&marked_word(word));
        }
    }
    shown
}

/// A word in its font, with the punctuation around it.
fn marked_word(word: &str) -> String {
    let start = word.find(|c| c != '(').unwrap_or(word.len());
    let (before, rest) = word.split_at(start);
    if rest.starts_with('-') && rest.len() > 1 {
        let is_end = |c: char| ".,;:)".contains(c);
        let end = rest.trim_end_matches(is_end).len();
        let (option, after) = rest.split_at(end);
        return format!("{}{}{}", before, bold(option), after);
    }
    if let Some((name, rest)) = rest.split_once('(') {
        let section = rest.starts_with(|c: char| c.is_ascii_digit()) && rest[1..].starts_with(')');
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if section && !name.is_empty() && name.chars().all(is_name) {
            return format!("{before}{}({rest}", bold(name));
        }
    }
    word.replace('\\', "\\e").replace('~', "\\(ti").replace('^', "\\(ha")
}

/// Lines that are no longer than [`WIDTH`], a new one for each sentence.
fn filled(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    let mut ends = false;
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && (ends || line.len() + 1 + word.len() > WIDTH) {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        ends = word.trim_end_matches(')').ends_with('.');
    }
    let lines: Vec<String> = lines.iter().map(|line| guarded(line)).collect();
    lines.join("\n")
}

/// A line that is not taken for a macro.
fn guarded(line: &str) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    }
}

/// A sentence with its full stop.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim();
    match text.ends_with(['.', '?', '!', ':']) || text.is_empty() {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_bold_and_punctuation_is_not() {
        assert_eq!(
            paragraph("See `cvipctl undrain`, (--wait), cvip.conf(5). It is -n."),
            "See \\fBcvipctl undrain\\fR, (\\fB\\-\\-wait\\fR), \\fBcvip.conf\\fR(5).\n\
             It is \\fB\\-n\\fR."
        );
        assert_eq!(paragraph("a start-up (once)"), "a start-up (once)");
    }

    #[test]
    fn no_line_is_long_or_a_macro() {
        let text = "word ".repeat(40) + "`.conf` .TH";
        for line in paragraph(&text).lines() {
            assert!(line.len() <= WIDTH && !line.starts_with('.'), "{line}");
        }
        assert_eq!(literal_line("'x'"), "\\(aqx\\(aq");
        assert_eq!(literal_line(".TH"), "\\&.TH");
    }

    #[test]
    fn a_value_s_words_are_italic() {
        assert_eq!(value("NODE[:PORT]"), "\\fINODE\\fR[:\\fIPORT\\fR]");
    }
}
