//! Texts that are part of the program, read back from a recording.
//!
//! What decides names settings and reasons by texts of the program, which live as long as it does.
//! One that is read back is kept as long: each text once, so that a recording takes no more room
//! than its own length.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer};

/// A text that is part of the program. The name keeps serde from borrowing it from what is read.
pub(crate) type ProgramText = &'static str;

static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn kept(text: String) -> &'static str {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    match texts.get(&*text) {
        Some(kept) => kept,
        None => {
            let kept: &'static str = Box::leak(text.into_boxed_str());
            texts.insert(kept);
            kept
        }
    }
}

/// Reads a text.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProgramText, D::Error> {
    String::deserialize(deserializer).map(kept)
}

/// Reads a text, or none.
pub(crate) fn option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ProgramText>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(kept))
}

/// Reads a list of texts.
pub(crate) fn list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<&'static [ProgramText], D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?.into_iter().map(kept);
    Ok(texts.collect::<Vec<_>>().leak())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_read_twice_is_kept_once() {
        let read = || text(&mut serde_json::Deserializer::from_str("\"of a test\"")).unwrap();
        let (one, other) = (read(), read());
        assert_eq!((one, one.as_ptr()), ("of a test", other.as_ptr()));
    }
}
