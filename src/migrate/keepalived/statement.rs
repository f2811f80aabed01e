//! The syntax of keepalived.conf: statements of words, and blocks of them between braces.
//!
//! A statement ends with its line. Comments begin with `#` or `!` outside quotes. `$NAME=VALUE`
//! defines what `$NAME` and `${NAME}` stand for from there on.

use std::collections::BTreeMap;

use crate::migrate::error::MigrationError;
use crate::migrate::ledger::{Ledger, StatementId};

/// How deep blocks may stand in one another.
const MOST_DEPTH: usize = 16;

/// How many bytes definitions may add to a text.
const MOST_EXPANDED: usize = 1024 * 1024;

/// A statement: its words, and the block behind it.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) id: StatementId,
    /// Its words; never none.
    pub(super) words: Vec<String>,
    /// The statements of its block; none where it has no block.
    pub(super) block: Vec<Statement>,
}

impl Statement {
    /// Its first word.
    pub(super) fn keyword(&self) -> &str {
        &self.words[0]
    }

    /// Whether it begins with this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.keyword() == keyword
    }

    /// The word behind the keyword, or nothing.
    pub(super) fn value(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The words behind the keyword.
    pub(super) fn values(&self) -> &[String] {
        &self.words[1..]
    }

    /// Itself and everything in its block, in the order of the text.
    pub(super) fn all(&self) -> Vec<StatementId> {
        let mut ids = vec![self.id];
        for own in &self.block {
            ids.extend(own.all());
        }
        ids
    }
}

/// A sign of the text, with its place.
struct Sign {
    what: SignKind,
    line: usize,
    column: usize,
}

enum SignKind {
    Word(String),
    Open,
    Close,
    LineEnd,
}

/// The statements of a text; each is entered in the ledger.
///
/// # Errors
/// The braces do not balance, or stand too deep.
pub(super) fn parse(text: &str, ledger: &mut Ledger) -> Result<Vec<Statement>, MigrationError> {
    let mut definitions = Definitions { values: BTreeMap::new(), left: MOST_EXPANDED };
    // The blocks that are open, the whole text being the first.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    let mut opened: Vec<(usize, usize)> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut begins = (1, 1);
    let broken = |(line, column), message| MigrationError::Broken { line, column, message };
    for (number, line) in text.lines().enumerate() {
        let signs = signs(line, number + 1);
        for sign in signs {
            let place = (sign.line, sign.column);
            match sign.what {
                SignKind::Word(word) => {
                    if words.is_empty() {
                        begins = place;
                    }
                    words.push(definitions.expanded(&word));
                }
                SignKind::LineEnd => {
                    finish(&mut words, begins, &mut open, &mut definitions, ledger);
                }
                SignKind::Open => {
                    finish(&mut words, begins, &mut open, &mut definitions, ledger);
                    let has_owner = open.last().is_some_and(|block| !block.is_empty());
                    if !has_owner {
                        return Err(broken(place, "a block without a keyword before it"));
                    }
                    if open.len() > MOST_DEPTH {
                        return Err(broken(place, "blocks stand too deep in one another"));
                    }
                    open.push(Vec::new());
                    opened.push(place);
                }
                SignKind::Close => {
                    finish(&mut words, begins, &mut open, &mut definitions, ledger);
                    let (Some(block), Some(_)) = (open.pop(), opened.pop()) else {
                        return Err(broken(place, "a `}` that closes no block"));
                    };
                    if let Some(owner) = open.last_mut().and_then(|outer| outer.last_mut()) {
                        owner.block.extend(block);
                    }
                }
            }
        }
    }
    match (opened.last(), open.pop()) {
        (Some(place), _) => Err(broken(*place, "a block that is never closed")),
        (None, block) => Ok(block.unwrap_or_default()),
    }
}

/// Ends the statement that is being read, if there is one.
fn finish(
    words: &mut Vec<String>,
    begins: (usize, usize),
    open: &mut [Vec<Statement>],
    definitions: &mut Definitions,
    ledger: &mut Ledger,
) {
    let words = std::mem::take(words);
    let Some(first) = words.first() else { return };
    let id = ledger.enter(begins, first, &words.join(" "));
    if let Some((name, value)) = definition(first) {
        let more: Vec<&str> =
            std::iter::once(value).chain(words[1..].iter().map(String::as_str)).collect();
        definitions.values.insert(name.to_owned(), more.join(" "));
        // What it stands for is judged where it is used.
        ledger.carried(id);
        return;
    }
    if let Some(block) = open.last_mut() {
        block.push(Statement { id, words, block: Vec::new() });
    }
}

/// What names stand for.
struct Definitions {
    values: BTreeMap<String, String>,
    /// How many bytes they may still add.
    left: usize,
}

impl Definitions {
    /// A word with what its names stand for in their place.
    fn expanded(&mut self, word: &str) -> String {
        if self.values.is_empty() || !word.contains('$') {
            return word.to_owned();
        }
        let (head, mut rest) = match definition(word) {
            Some((_, value)) => word.split_at(word.len() - value.len()),
            None => ("", word),
        };
        let mut text = head.to_owned();
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let (name, behind) = braced.unwrap_or_else(|| {
                after.split_at(after.bytes().take_while(|b| is_of_name(*b)).count())
            });
            match self.values.get(name).filter(|value| value.len() <= self.left) {
                Some(value) => {
                    text.push_str(value);
                    self.left -= value.len();
                    rest = behind;
                }
                None => {
                    text.push('$');
                    rest = after;
                }
            }
        }
        text + rest
    }
}

/// The name and the value of `$NAME=VALUE`.
fn definition(word: &str) -> Option<(&str, &str)> {
    word.strip_prefix('$')?.split_once('=').filter(|(name, _)| is_name(name))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_of_name)
}

/// The signs of a line, the line's end among them.
fn signs(line: &str, number: usize) -> Vec<Sign> {
    let mut signs = Vec::new();
    let mut chars = line.chars().enumerate().peekable();
    let sign = |what, column| Sign { what, line: number, column: column + 1 };
    while let Some((column, c)) = chars.next() {
        match c {
            '#' | '!' => break,
            '{' => signs.push(sign(SignKind::Open, column)),
            '}' => signs.push(sign(SignKind::Close, column)),
            '"' | '\'' => {
                let quoted = chars.by_ref().map(|(_, c)| c).take_while(|own| *own != c).collect();
                signs.push(sign(SignKind::Word(quoted), column));
            }
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                let mut in_name = false;
                while let Some((_, next)) = chars.peek().copied() {
                    let braces = next == '{' && word.ends_with('$') || next == '}' && in_name;
                    // A brace within a word, such as a regular expression's, is of the word.
                    if next.is_whitespace() || matches!(next, '#' | '!') {
                        break;
                    }
                    if matches!(next, '{' | '}') && !braces {
                        let mut ahead = chars.clone();
                        ahead.next();
                        let ends = ahead.peek().is_none_or(|(_, c)| c.is_whitespace());
                        if ends || next == '{' && is_name(&word) {
                            break;
                        }
                    }
                    in_name = next != '}' && (in_name || next == '{' && word.ends_with('$'));
                    word.push(next);
                    chars.next();
                }
                signs.push(sign(SignKind::Word(word), column));
            }
        }
    }
    let end = line.chars().count();
    signs.push(sign(SignKind::LineEnd, end));
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statements as words between dots, blocks in brackets.
    fn shown(text: &str) -> Result<String, String> {
        fn show(statements: &[Statement]) -> String {
            let one = |own: &Statement| match own.block.is_empty() {
                true => own.words.join("."),
                false => format!("{}[{}]", own.words.join("."), show(&own.block)),
            };
            statements.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        let mut ledger = Ledger::default();
        parse(text, &mut ledger).map(|all| show(&all)).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_may_open_on_the_next_line_and_close_on_the_same() {
        let text = "a 1 {\n b 2 # c\n}\nd\n{\n e{ f 'x y' }\n}\n! g\nh \"#1\"";
        assert_eq!(shown(text).unwrap(), "a.1[b.2] d[e[f.x y]] h.#1");
    }

    #[test]
    fn braces_within_a_word_belong_to_it() {
        assert_eq!(shown("u {\n regex ^a{2}b$\n}").unwrap(), "u[regex.^a{2}b$]");
    }

    #[test]
    fn definitions_are_put_in_place_of_their_names() {
        let text = "$VIP=10.0.0.1\n$NET=${VIP}/24\nvirtual_server $VIP 80 {\n a ${NET} $NO\n}";
        assert_eq!(shown(text).unwrap(), "virtual_server.10.0.0.1.80[a.10.0.0.1/24.$NO]");
        let mut bomb = String::from("$A=xxxxxxxxxxxxxxxx\n");
        for _ in 0..60 {
            bomb.push_str("$A=$A$A$A$A\n");
        }
        assert!(shown(&(bomb + "a $A\n")).is_ok_and(|text| text.len() <= MOST_EXPANDED + 4096));
    }

    #[test]
    fn braces_that_do_not_balance_are_said_with_their_place() {
        let error = |text: &str| shown(text).unwrap_err();
        assert_eq!(error("a {\n b\n"), "line 1, column 3: a block that is never closed");
        assert_eq!(error("a\n}\n"), "line 2, column 1: a `}` that closes no block");
        assert_eq!(error("{\n"), "line 1, column 1: a block without a keyword before it");
        assert!(error(&"a {\n".repeat(40)).contains("too deep"));
    }
}
