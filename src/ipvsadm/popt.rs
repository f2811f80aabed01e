//! Words into options, by the rules of the popt library.
//!
//! Why not lexopt, which the other programs could use: an argument here may be optional *and*
//! stand in the next word (`-p 300`), a required argument takes the next word whatever it looks
//! like (`-w -1`), errors name the whole word of a cluster (`-Lnz: unknown option`), and the
//! word that was consumed last is part of the messages. These are the interface, so they are
//! spelled out here; it is less than what bending a general parser would take.
//!
//! Not copied: popt's substitution of the sequence `!#:+` inside an argument.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::options::{Argument, OptionEntry, TABLE, by_short_name};

/// What can be wrong with a word; popt's own texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such option.
    #[error("unknown option")]
    Unknown,
    /// The line ends where an argument belongs.
    #[error("missing argument")]
    MissingArgument,
    /// `--flag=value` for an option that takes none.
    #[error("option does not take an argument")]
    UnwantedArgument,
}

/// An option as it was given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its entry in the table.
    pub entry: &'static OptionEntry,
    /// Its argument, if it takes one and has one.
    pub argument: Option<&'a OsStr>,
}

/// A walk over the words of a command line (without the program's name).
#[derive(Debug)]
pub struct Popt<'a> {
    words: &'a [&'a OsStr],
    next: usize,
    /// The rest of a cluster such as `-lnc`.
    cluster: &'a [u8],
    /// Every further word is positional.
    rest: bool,
    /// The first positional word ends the options (POSIX), rather than being passed over.
    posix: bool,
    positional: Vec<&'a OsStr>,
}

impl<'a> Popt<'a> {
    /// Starts the walk; `posix` ends the options at the first positional word.
    pub fn new(words: &'a [&'a OsStr], posix: bool) -> Popt<'a> {
        Popt { words, next: 0, cluster: &[], rest: false, posix, positional: Vec::new() }
    }

    /// The word that was consumed last.
    pub fn last_word(&self) -> &'a OsStr {
        self.next.checked_sub(1).map_or(OsStr::new(""), |last| self.words[last])
    }

    /// The positional words, once the walk is over.
    pub fn into_positional(self) -> Vec<&'a OsStr> {
        self.positional
    }

    fn argument(
        &mut self,
        entry: &'static OptionEntry,
        attached: Option<&'a [u8]>,
    ) -> Result<Given<'a>, Problem> {
        let optional = match entry.argument {
            Argument::None => return Ok(Given { entry, argument: None }),
            Argument::Required(..) => false,
            Argument::Optional(..) => true,
        };
        let argument = match (attached, self.words.get(self.next)) {
            (Some(bytes), _) => Some(OsStr::from_bytes(bytes)),
            (None, None) if optional => None,
            (None, None) => return Err(Problem::MissingArgument),
            (None, Some(word)) if optional && word.as_bytes().starts_with(b"-") => None,
            (None, Some(word)) => {
                self.next += 1;
                Some(*word)
            }
        };
        Ok(Given { entry, argument })
    }

    fn short(&mut self) -> Result<Given<'a>, Problem> {
        let (name, after) = self.cluster.split_first().ok_or(Problem::Unknown)?;
        self.cluster = &[];
        let entry = by_short_name(*name).ok_or(Problem::Unknown)?;
        if entry.argument == Argument::None {
            if after.starts_with(b"=") {
                return Err(Problem::UnwantedArgument);
            }
            self.cluster = after;
            return self.argument(entry, None);
        }
        let attached = (!after.is_empty()).then(|| after.strip_prefix(b"=").unwrap_or(after));
        self.argument(entry, attached)
    }

    fn long(&mut self, word: &'a [u8]) -> Result<Given<'a>, Problem> {
        let (name, attached) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let entry =
            TABLE.iter().find(|entry| entry.long.as_bytes() == name).ok_or(Problem::Unknown)?;
        if entry.argument == Argument::None && attached.is_some() {
            return Err(Problem::UnwantedArgument);
        }
        self.argument(entry, attached)
    }
}

impl<'a> Iterator for Popt<'a> {
    type Item = Result<Given<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.cluster.is_empty() {
            return Some(self.short());
        }
        while let Some(&word) = self.words.get(self.next) {
            self.next += 1;
            match word.as_bytes() {
                _ if self.rest => self.positional.push(word),
                b"--" => self.rest = true,
                [b'-', b'-', long @ ..] => return Some(self.long(long)),
                [b'-', cluster @ ..] if !cluster.is_empty() => {
                    self.cluster = cluster;
                    return Some(self.short());
                }
                _ => {
                    self.rest = self.posix;
                    self.positional.push(word);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options as `long=argument`, a problem as its text, then the positional words.
    fn walk(line: &str, posix: bool) -> String {
        let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
        let mut popt = Popt::new(&words, posix);
        let mut seen = Vec::new();
        for given in popt.by_ref() {
            match given {
                Ok(Given { entry, argument: Some(argument) }) => {
                    seen.push(format!("{}={}", entry.long, argument.display()));
                }
                Ok(Given { entry, .. }) => seen.push(entry.long.to_owned()),
                Err(problem) => {
                    seen.push(format!("!{problem}"));
                    break;
                }
            }
        }
        let positional = popt.into_positional();
        seen.extend(positional.iter().map(|word| format!("+{}", word.display())));
        seen.join(" ")
    }

    #[test]
    fn an_argument_is_attached_or_follows() {
        for line in ["-s rr", "-srr", "-s=rr", "--scheduler rr", "--scheduler=rr"] {
            assert_eq!(walk(line, false), "scheduler=rr", "{line}");
        }
        assert_eq!(walk("-w -1", false), "weight=-1");
        assert_eq!(walk("-w==5", false), "weight==5");
        assert_eq!(walk("-w", false), "!missing argument");
        assert_eq!(walk("--weight= -n", false), "weight= numeric");
    }

    #[test]
    fn an_optional_argument_is_never_a_word_with_a_dash() {
        assert_eq!(walk("-p 300", false), "persistent=300");
        assert_eq!(walk("-p -n", false), "persistent numeric");
        assert_eq!(walk("-p", false), "persistent");
        assert_eq!(walk("-p ", false), "persistent=");
    }

    #[test]
    fn a_cluster_ends_at_the_first_option_with_an_argument() {
        assert_eq!(walk("-lnc", false), "list numeric connection");
        assert_eq!(walk("-gw5", false), "gatewaying weight=5");
        assert_eq!(walk("-mw 5", false), "masquerading weight=5");
        assert_eq!(walk("-Lnz", false), "list numeric !unknown option");
        assert_eq!(walk("-o=1", false), "!option does not take an argument");
        assert_eq!(walk("--stats=yes", false), "!option does not take an argument");
    }

    #[test]
    fn positional_words_are_passed_over_unless_posix_says_otherwise() {
        assert_eq!(walk("1 -L 2 - -n", false), "list numeric +1 +2 +-");
        assert_eq!(walk("1 -L 2", true), "+1 +-L +2");
        assert_eq!(walk("-L -- -n", false), "list +-n");
    }

    #[test]
    fn long_names_are_not_abbreviated() {
        assert_eq!(walk("--lis", false), "!unknown option");
        assert_eq!(walk("--", false), "");
        assert_eq!(walk("---list", false), "!unknown option");
        assert_eq!(walk("--=x", false), "!unknown option");
    }
}
