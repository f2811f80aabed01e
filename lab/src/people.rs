//! Users of the lab's machine beside root: real ones, whom /etc/passwd names.

use std::fs::{self, File};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, User};

use crate::inside::in_lab;

/// A user who may log in, as far as /etc/passwd is concerned; see [`Namespace::command_as`](crate::Namespace::command_as).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    name: String,
    id: u32,
}

impl Person {
    /// A user of this name and number, with a group of the same, who is added to the lab's /etc/passwd and /etc/group if
    /// he is not there yet. Nothing of that reaches the machine that the lab runs on.
    ///
    /// # Errors
    /// If this is not the lab, if the name or the number is another user's, or if the files cannot be written.
    pub fn new(name: &str, id: u32) -> Result<Person> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(in_lab(), "users are added to the lab only");
        let person = Person { name: name.to_owned(), id };
        let named = User::from_name(name).context("cannot look up a user")?;
        let numbered = User::from_uid(Uid::from_raw(id)).context("cannot look up a user")?;
        match (named, numbered) {
            (Some(a), Some(b)) if a == b => return Ok(person),
            (None, None) => {}
            (Some(other), _) | (None, Some(other)) => {
                anyhow::bail!("user {name}, {id}, would be {}, {}", other.name, other.uid);
            }
        }
        append("/etc/group", &format!("{name}:x:{id}:\n"))?;
        append("/etc/passwd", &format!("{name}:x:{id}:{id}::/:/bin/sh\n"))?;
        Ok(person)
    }

    /// His name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// His number.
    #[must_use]
    pub fn uid(&self) -> Uid {
        Uid::from_raw(self.id)
    }

    /// The number of his group.
    #[must_use]
    pub fn gid(&self) -> Gid {
        Gid::from_raw(self.id)
    }
}

/// Adds a line to a file whose last one may lack its end.
fn append(path: &str, line: &str) -> Result<()> {
    let ends = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    let mut file = File::options().append(true).open(path)?;
    let start = if ends.last().is_none_or(|byte| *byte == b'\n') { "" } else { "\n" };
    file.write_all(format!("{start}{line}").as_bytes())
        .with_context(|| format!("cannot write {path}"))
}
