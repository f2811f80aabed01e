//! One run of a check: a target is asked, within a time that covers everything.
//!
//! Each kind of probe blocks its thread, and no longer than the deadline: it holds for names,
//! connects, handshakes and every single read, so that a server which sends a byte now and then
//! gains nothing by it. What servers send is hostile: sizes are capped, and of their words no
//! more is shown than a short line of what can be printed.

use super::CheckTarget;
use super::health::CheckOutcome;
use super::settings::Kind;
use deadline::Deadline;

mod child;
mod deadline;
mod dns;
mod exec;
mod http;
mod message;
mod stream;
mod tls;

/// Characters of an outcome that are kept.
const SHOWN_CHARS: usize = 200;

/// Asks a target, and blocks until it has answered or its check's timeout is over.
pub fn probe(target: &CheckTarget) -> CheckOutcome {
    let deadline = Deadline::after(target.check.timeout.get());
    let outcome = match &target.check.kind {
        Kind::Tcp => stream::probe(target, deadline),
        Kind::Http(http) => http::probe(target, http, deadline),
        Kind::Dns(dns) => dns::probe(target, dns, deadline),
        Kind::Exec(exec) => exec::probe(target, exec, deadline),
    };
    match outcome {
        Ok(seen) => Ok(printable(&seen)),
        Err(reason) => Err(printable(&reason)),
    }
}

/// A short line without anything that a terminal would obey, whatever a server sent.
fn printable(text: &str) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut chars = text.chars();
    let mut shown: String =
        chars.by_ref().take(SHOWN_CHARS).map(|c| if obeyed(c) { '?' } else { c }).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
pub(super) mod test_support;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_shown_short_and_harmless() {
        assert_eq!(printable("HTTP 200"), "HTTP 200");
        assert_eq!(printable("a\r\nb\u{1b}[2J\u{202e}ü"), "a??b?[2J?ü");
        assert_eq!(printable(&"ü".repeat(201)), format!("{}...", "ü".repeat(200)));
    }
}
