//! One thing that was found, with its fix.

use std::fmt;

use serde::Serialize;

named! {
    /// How bad it is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
    #[serde(rename_all = "lowercase")]
    pub(crate) enum Severity {
        /// Clients are not served as they should be, now or at the next change.
        Fault = "fault",
        /// Probably not what is meant, or a fault for some clients only.
        Warning = "warning",
        /// Good to know.
        Note = "note",
    }
}

/// One thing that was found. A fault or a warning has a fix, commands, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, such as `node 3`, `CVIP 192.0.2.10` or `tcp 192.0.2.10:80`.
    pub subject: String,
    /// What is wrong, and what goes wrong because of it.
    pub what: String,
    /// What to do, for people; empty where the commands say it.
    pub fix: String,
    /// Commands that fix it, to be run on this host as root, in this order.
    pub commands: Vec<String>,
}

impl Finding {
    fn new(severity: Severity, subject: impl ToString, what: impl Into<String>) -> Finding {
        Finding {
            severity,
            subject: subject.to_string(),
            what: what.into(),
            fix: String::new(),
            commands: Vec::new(),
        }
    }

    pub(super) fn fault(subject: impl ToString, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Fault, subject, what)
    }

    pub(super) fn warning(subject: impl ToString, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, subject, what)
    }

    pub(super) fn note(subject: impl ToString, what: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, subject, what)
    }

    /// With what to do, in words.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Finding {
        self.fix = fix.into();
        self
    }

    /// With a command to run.
    pub(super) fn run(mut self, command: impl Into<String>) -> Finding {
        self.commands.push(command.into());
        self
    }
}

impl fmt::Display for Finding {
    /// A line for what it is, and one below it for each thing to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.subject, self.what)?;
        if !self.fix.is_empty() {
            write!(f, "\n    fix: {}", self.fix)?;
        }
        for command in &self.commands {
            write!(f, "\n    run: {command}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_fix_stands_below_it() {
        let bare = Finding::note("node 3", "polls");
        assert_eq!(bare.to_string(), "note: node 3: polls");
        let full = Finding::fault("node 3", "is down").fix("plug it in, or").run("a").run("b");
        assert_eq!(
            full.to_string(),
            "fault: node 3: is down\n    fix: plug it in, or\n    run: a\n    run: b"
        );
    }

    #[test]
    fn faults_come_before_warnings_and_notes() {
        assert!(Severity::Fault < Severity::Warning && Severity::Warning < Severity::Note);
    }
}
