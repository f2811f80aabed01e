//! The command language, declared once.
//!
//! One table holds every command and option: its names, its argument and its sentence of help.
//! The parser ([`super::popt`], [`super::args`]) reads words by it; `--help`, the man page and
//! the completions are generated from it ([`super::help`], `cargo xtask gen`). Which option may
//! go with which command stands here too, as the checks and the documentation must agree on it.

mod entry;
mod table;

pub use entry::{
    Argument, Command, Group, Meaning, Opt, OptionEntry, OptionRules, Rule, Topic, Topics, Values,
};
pub use table::TABLE;

/// Where in the table each short name's entry stands, and `u8::MAX` for what is none.
const SHORT_NAMES: [u8; 128] = {
    let mut places = [u8::MAX; 128];
    let mut at = 0;
    while at < TABLE.len() {
        if let Some(short) = TABLE[at].short {
            places[short as usize] = at as u8;
        }
        at += 1;
    }
    places
};

/// The entry with a short name.
pub fn by_short_name(name: u8) -> Option<&'static OptionEntry> {
    TABLE.get(usize::from(*SHORT_NAMES.get(usize::from(name))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_short_name_stands_for_two_things() {
        let mut shorts: Vec<char> = TABLE.iter().filter_map(|entry| entry.short).collect();
        let all = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), all);
    }

    #[test]
    fn an_entry_is_found_by_its_short_name() {
        for byte in 0..=u8::MAX {
            let walked = TABLE.iter().find(|entry| entry.short == Some(char::from(byte)));
            let found = by_short_name(byte);
            assert_eq!(found.map(|entry| entry.meaning), walked.map(|entry| entry.meaning));
        }
    }

    #[test]
    fn a_long_name_stands_for_one_thing() {
        for a in TABLE {
            for b in TABLE {
                assert!(a.long != b.long || a.meaning == b.meaning, "--{}", a.long);
            }
        }
    }

    #[test]
    fn every_help_is_a_sentence() {
        for entry in TABLE {
            assert!(entry.help.ends_with('.'), "--{}", entry.long);
        }
    }
}
