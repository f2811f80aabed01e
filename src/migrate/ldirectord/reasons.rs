//! Why lines of ldirectord.cf that cvip.conf has no element for are not carried, and what takes
//! their place.

use super::line::{LdirectordLine, unquoted};
use crate::migrate::ledger::Ledger;

const MAIL: &str = "cvipd sends no mail: `cvipctl events --follow` tells what happens, and `cvipctl \
                    metrics` counts it";
const LOG: &str = "cvipd logs to standard error, for journald: see cvipd(8)";
const EVENTS: &str = "cvipd runs no program for it: `cvipctl events --follow --json` tells it as \
                      it happens";
const RELOAD: &str = "cvipd reads cvip.conf again when it is told to: `cvipctl apply`";
const UNIT: &str = "how cvipd runs is its unit's part: see cvipd(8)";

const REASONS: &[(&str, &str)] = &[
    ("autoreload", RELOAD),
    ("callback", RELOAD),
    ("cleanstop", "services stay in the kernel when cvipd ends; `cvipctl leave` takes a node out"),
    ("comment", "write it into cvip.conf as a comment"),
    ("servicename", "write it into cvip.conf as a comment"),
    ("emailalert", MAIL),
    ("emailalertfreq", MAIL),
    ("emailalertfrom", MAIL),
    ("emailalertstatus", MAIL),
    ("smtp", MAIL),
    ("execute", "cvipd starts no other program: give it a unit of its own"),
    ("fallbackcommand", EVENTS),
    ("fork", "checks run beside one another, without processes of their own"),
    ("supervised", UNIT),
    ("logfile", LOG),
    ("monitorfile", LOG),
    ("maintenancedir", "`cvipctl drain` takes a server out, and `cvipctl undrain` puts it back"),
    ("login", "no check logs in: an exec check can run a program that does"),
    ("passwd", "no check logs in: an exec check can run a program that does"),
    ("database", "no check logs in: an exec check can run a program that does"),
    ("secret", "no check logs in: an exec check can run a program that does"),
    ("load", "a check does not change a weight: it takes a server out, or lets it in"),
    ("checkcount", "it counts the echo requests of checktype=ping, which cvip.conf has not"),
];

/// Notes why a line is not carried; one whose key is not known here is left to the ledger.
pub(super) fn explain(line: &LdirectordLine, ledger: &mut Ledger) {
    if let Some((_, why)) = REASONS.iter().find(|(key, _)| *key == line.key) {
        ledger.not_carried(line.id, *why);
    } else if line.key == "quiescent" {
        match unquoted(&line.value) {
            "no" => ledger.changed(
                line.id,
                "a server that fails its check keeps its place with weight 0, and its connections",
            ),
            _ => ledger.carried(line.id),
        }
    } else if matches!(line.key.as_str(), "virtual" | "real") {
        ledger.not_carried(line.id, "it is not in a place where ldirectord reads it");
    }
}
