//! From the text of a cvip.conf to a [`Conf`] and everything that is wrong with it. Pure.

use super::clustertab::Clustertab;
use super::diagnostic::Diagnostic;
use super::model::Conf;
use super::report::ConfReport;
use super::{draft, validate, xml};

/// Parses a cvip.conf; `path` is for messages.
///
/// All faults come in one run, in the order of the file; only malformed XML ends it at its
/// first fault. The first part is `None` if any of the diagnostics is an error.
pub fn parse(text: &str, path: &str, clustertab: &Clustertab) -> (Option<Conf>, Vec<Diagnostic>) {
    parse_with(text, path, Some(clustertab))
}

/// [`parse`], where clustertab may be missing or wrong: then all that can be judged without
/// it is, and there is no `Conf`.
pub(super) fn parse_with(
    text: &str,
    path: &str,
    clustertab: Option<&Clustertab>,
) -> (Option<Conf>, Vec<Diagnostic>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = ConfReport::new(path, text);
    let conf = xml::document(&mut report).and_then(|document| {
        let draft = draft::read(&mut report, document.root_element());
        validate::validate(draft, clustertab, &mut report)
    });
    (conf, report.finish())
}
