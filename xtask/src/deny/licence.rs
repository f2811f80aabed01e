//! A licence as a crate declares it: an SPDX expression, or the older form with a slash for OR.

use anyhow::{Result, bail, ensure};

/// Whether the crate can be had under licences that are all allowed.
pub(super) fn allowed(expression: &str, allow: &[String]) -> Result<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = Words { words: spaced.split_whitespace().collect(), at: 0, allow };
    let allowed = words.any()?;
    ensure!(words.peek().is_none(), "cannot be understood from `{}` on", words.rest());
    Ok(allowed)
}

struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
    allow: &'a [String],
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn rest(&self) -> String {
        self.words[self.at.min(self.words.len())..].join(" ")
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        self.at += usize::from(is);
        is
    }

    fn any(&mut self) -> Result<bool> {
        let mut allowed = self.all()?;
        while self.take("OR") {
            allowed |= self.all()?;
        }
        Ok(allowed)
    }

    fn all(&mut self) -> Result<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Ok(allowed)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let allowed = self.any()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(allowed);
        }
        let Some(name) = self.peek() else { bail!("ends too early") };
        ensure!(!["AND", "OR", "WITH", ")"].contains(&name), "has `{name}` for a licence");
        self.at += 1;
        let mut name = name.to_owned();
        if self.take("WITH") {
            let Some(exception) = self.peek() else { bail!("ends too early") };
            self.at += 1;
            name = format!("{name} WITH {exception}");
        }
        Ok(self.allow.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_spdx_says() {
        let allow = ["MIT", "ISC", "Unicode-3.0"].map(str::to_owned);
        for (expression, is) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT AND ISC", true),
            // AND binds before OR.
            ("MIT OR GPL-3.0 AND ISC", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(MIT OR ISC) AND GPL-3.0", false),
            ("MIT WITH Some-exception", false),
        ] {
            assert_eq!(allowed(expression, &allow).unwrap(), is, "{expression}");
        }
        for broken in ["", "MIT OR", "MIT MIT", "(MIT", "OR MIT", "MIT WITH", ")"] {
            assert!(allowed(broken, &allow).is_err(), "{broken}");
        }
    }
}
