//! Words in messages: how a file's own text is quoted, and what was probably meant by it.

use std::fmt::{self, Write};
use std::str::FromStr;

/// Characters of a value that a message repeats.
const SHOWN_CHARS: usize = 40;

/// Longest word for which a likeness is sought.
const COMPARED_CHARS: usize = 32;

/// True for a character that a terminal does not show but obey: control characters, and
/// the bidirectional overrides, which would show another text than the one that is parsed.
pub(super) fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A value in backquotes, cut, with what a terminal would obey escaped.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::from("`");
    let mut chars = value.chars();
    for c in chars.by_ref().take(SHOWN_CHARS) {
        if is_obeyed(c) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    if chars.next().is_some() {
        text.push_str("...");
    }
    text.push('`');
    text
}

/// The words as a sentence lists them: `a`, `a or b`, `a, b or c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The candidate that was probably meant by a word: case and `-` for `_` count for nothing,
/// and a third of the letters may be wrong, missing, too many or swapped.
pub(crate) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let fold = |word: &str| -> Vec<char> {
        word.chars().flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c }).collect()
    };
    if word.chars().count() > COMPARED_CHARS {
        return None;
    }
    let word = fold(word);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    // One row per prefix of `a`; a swap looks two rows back.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let substituted = rows[i][j] + usize::from(x != y);
            let mut best = substituted.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A number in hundredths, written with two decimals at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hundredths(pub(super) u32);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}"),
            rest if rest % 10 == 0 => write!(f, "{whole}.{}", rest / 10),
            rest => write!(f, "{whole}.{rest:02}"),
        }
    }
}

impl FromStr for Hundredths {
    type Err = ();

    fn from_str(text: &str) -> Result<Hundredths, ()> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return Err(());
        }
        let rest: u32 = format!("{decimals:0<2}").parse().map_err(drop)?;
        let whole: u32 = whole.parse().map_err(drop)?;
        whole.checked_mul(100).and_then(|whole| whole.checked_add(rest)).map(Hundredths).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_hostile_value_is_quoted_short_and_harmless() {
        assert_eq!(quoted("eth0"), "`eth0`");
        assert_eq!(quoted("a\nb\u{1b}\u{202e}"), "`a\\nb\\u{1b}\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(41)), format!("`{}...`", "x".repeat(40)));
    }

    #[test]
    fn a_slip_of_the_keyboard_is_recognised_and_another_word_is_not() {
        let words = ["ip_addr", "gateway", "service", "port"];
        let meant = |word| closest(word, words);
        assert_eq!(meant("ipaddr"), Some("ip_addr"));
        assert_eq!(meant("IP-Addr"), Some("ip_addr"));
        assert_eq!(meant("gatewya"), Some("gateway"));
        assert_eq!(meant("services"), Some("service"));
        assert_eq!(meant("prot"), Some("port"));
        assert_eq!(meant("address"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"p".repeat(10_000)), None);
    }

    #[test]
    fn words_are_listed_as_a_sentence_lists_them() {
        assert_eq!(alternatives(&[]), "");
        assert_eq!(alternatives(&["a"]), "a");
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
    }

    #[test]
    fn hundredths_are_read_as_they_are_written() {
        for (text, hundredths) in [("1", 100), ("0.01", 1), ("1.5", 150), ("12.34", 1234), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(Hundredths(hundredths)));
            assert_eq!(Hundredths(hundredths).to_string(), text);
        }
        assert_eq!("1.50".parse(), Ok(Hundredths(150)));
        for wrong in ["", ".", "1.", ".5", "1.234", "-1", "+1", "1e2", "99999999999", "1.x"] {
            assert_eq!(wrong.parse::<Hundredths>(), Err(()), "{wrong}");
        }
    }
}
