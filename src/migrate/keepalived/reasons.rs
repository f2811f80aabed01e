//! Why statements of keepalived.conf that cvip.conf has no element for are not carried, and what
//! takes their place.

use super::statement::Statement;
use crate::migrate::ledger::Ledger;

const EVENTS: &str = "cvipd runs no program for it: `cvipctl events --follow --json` tells it as \
                      it happens";
const MAIL: &str = "cvipd sends no mail: `cvipctl events --follow` tells what happens, and `cvipctl \
                    metrics` counts it";
const LOG: &str = "cvipd logs to standard error, for journald: see cvipd(8)";
const VRRP: &str =
    "directors do not use VRRP: they watch one another by signed heartbeats, see cvipd(8)";
const PROCESS: &str = "how a process runs is its unit's part: see systemd.exec(5)";
const HOST: &str = "the host's own addresses and routes are set where its network is configured";
const FIREWALL: &str = "cvipd changes no firewall";

/// What is said of keywords wherever they stand. A `*` at the end is for any rest.
const REASONS: &[(&str, &str)] = &[
    // Of virtual and real servers.
    ("alpha", "a server is in until a check of it has failed: the first result counts by itself"),
    ("omega", "services stay in the kernel when cvipd ends; `cvipctl leave` takes a node out"),
    ("quorum_up", EVENTS),
    ("quorum_down", EVENTS),
    ("notify*", EVENTS),
    (
        "ha_suspend",
        "every director checks the real servers of static services, so that a takeover \
                    knows their health at once",
    ),
    ("warmup", "the first check is run at once"),
    (
        "digest",
        "a page is compared by a regular expression in cvip.conf: give the check a `pattern`",
    ),
    ("helo_name", "SMTP is not spoken: an exec check can run a program that does"),
    ("connect_ip", "a server is asked at its own address"),
    ("bindto", "a check is sent from the address that the kernel chooses"),
    ("bind_port", "a check is sent from a port that the kernel chooses"),
    ("bind_if", "a check is sent from the interface that the kernel chooses"),
    ("fwmark", "a check's packets carry no mark"),
    ("misc_dynamic", "a check does not change a weight: it takes a server out, or lets it in"),
    (
        "sorry_server_inhibit",
        "a sorry server leaves as it is drained, once a real server takes connections",
    ),
    ("sorry_server_lvs_method", "sorry servers are reached by the file's own method"),
    ("nat_mask", "the kernel has no such setting"),
    ("net_mask", "the kernel has no such setting"),
    ("ip_family", "the family is that of the address"),
    ("version", "it is for VRRP, and directors do not use VRRP"),
    ("est_timeout", "the kernel's time-outs are the host's: `ipvsadm --set`"),
    ("lvs_timeouts", "the kernel's time-outs are the host's: `ipvsadm --set`, at boot"),
    ("lvs_flush*", "services that others made stay: cvipd changes only what it owns"),
    ("log_all_failures", LOG),
    ("smtp_alert*", MAIL),
    ("snmp*", "`cvipctl metrics` has the counters, for Prometheus"),
    ("enable_snmp*", "`cvipctl metrics` has the counters, for Prometheus"),
    ("enable_traps", "`cvipctl metrics` has the counters, for Prometheus"),
    ("enable_dbus*", "`cvipctl status --json` shows the state"),
    ("dbus*", "`cvipctl status --json` shows the state"),
    ("fast_recovery", "a server is in again after `rise` successes in a row"),
    ("tls_compliant", "TLS is spoken as its RFC has it"),
    ("service_type", "it is keepalived's own"),
    ("dscp", "it is keepalived's own"),
    ("checker_log_all_failures", LOG),
    // Of the whole.
    ("global_defs", "its statements are keepalived's own, but for those that the notes name"),
    ("notification_email*", MAIL),
    ("smtp_*", MAIL),
    ("email_faults", MAIL),
    ("router_id", "a node is named by its number in clustertab"),
    ("lvs_id", "a node is named by its number in clustertab"),
    ("script_user", "an exec check runs as nobody unless it names a user"),
    ("enable_script_security", "an exec check never runs as root"),
    ("max_auto_priority", PROCESS),
    ("min_auto_priority*", PROCESS),
    ("bfd_*", PROCESS),
    ("checker_*", PROCESS),
    ("process_names", PROCESS),
    ("vrrp_startup_delay", VRRP),
    ("umask", PROCESS),
    ("child_wait_time", PROCESS),
    ("*_no_swap", PROCESS),
    ("net_namespace*", PROCESS),
    ("namespace_with_ipsets", PROCESS),
    ("instance", PROCESS),
    ("use_pid_dir", PROCESS),
    ("linkbeat*", "a director whose interface has no carrier hands over by itself"),
    ("default_interface", "the interface of each director is in its `garp_interface`"),
    ("nftables*", FIREWALL),
    ("iptables", FIREWALL),
    ("vrrp_iptables", FIREWALL),
    ("vrrp_ipsets", FIREWALL),
    ("static_*", HOST),
    (
        "include*",
        "the file that it names was not read: import it by itself, or put its text in this place",
    ),
    // Of VRRP.
    ("vrrp_sync_group", "CVIPs with the same directors are carried together"),
    ("group", "CVIPs with the same directors are carried together"),
    (
        "vrrp_script",
        "a director does not run scripts for the election: it hands over when it cannot \
                     carry its CVIPs, see cvipd(8)",
    ),
    ("vrrp_track_*", "a director hands over when it cannot carry its CVIPs, see cvipd(8)"),
    (
        "track_script",
        "a director does not run scripts for the election: it hands over when it cannot \
                      carry its CVIPs, see cvipd(8)",
    ),
    ("track_process", "a director hands over when it cannot carry its CVIPs, see cvipd(8)"),
    ("track_file", "a director hands over when it cannot carry its CVIPs, see cvipd(8)"),
    ("track_bfd", "a director hands over when it cannot carry its CVIPs, see cvipd(8)"),
    (
        "track_interface",
        "a director whose garp_interface has no carrier hands over by itself; other \
                         interfaces are not watched",
    ),
    ("track_src_ip", VRRP),
    ("state", "which director is active first is the order of `director_node` elements"),
    ("priority", "which director is active first is the order of `director_node` elements"),
    ("virtual_router_id", VRRP),
    ("advert_int", VRRP),
    (
        "authentication",
        "heartbeats are signed with the cluster's key: see cluster_key_file in cvip.toml(5)",
    ),
    (
        "auth_type",
        "heartbeats are signed with the cluster's key: see cluster_key_file in cvip.toml(5)",
    ),
    (
        "auth_pass",
        "heartbeats are signed with the cluster's key: see cluster_key_file in cvip.toml(5)",
    ),
    ("preempt*", "a director that returns takes no CVIP back by itself: `cvipctl takeover` does"),
    ("garp_*", "cvipd announces an address by its own times: see cvipd(8)"),
    ("vrrp_*", VRRP),
    ("use_vmac*", VRRP),
    ("vmac_*", VRRP),
    ("dont_track_primary", VRRP),
    ("native_ipv6", VRRP),
    ("strict_mode", VRRP),
    ("accept", VRRP),
    ("no_accept", VRRP),
    ("skip_check_adv_addr", VRRP),
    ("higher_prio_send_advert", VRRP),
    ("old_unicast_checksum", VRRP),
    ("check_unicast_src", VRRP),
    ("mcast_src_ip*", VRRP),
    ("unicast_src_ip", VRRP),
    ("unicast_peer", VRRP),
    ("promote_secondaries", HOST),
    ("virtual_routes", HOST),
    ("virtual_rules", HOST),
    ("debug", LOG),
    ("lvs_sync_daemon*", "it is not in a place where keepalived reads it"),
    ("interface", "it is not in a place where keepalived reads it"),
    ("SSL", "checks over TLS show no certificate of their own"),
    ("ssl", "checks over TLS show no certificate of their own"),
    ("bfd_instance", "a director hands over when it cannot carry its CVIPs, see cvipd(8)"),
];

/// What holds of statements that are said by the defaults of cvipd, and so are carried.
const ALWAYS: &[(&str, &str)] = &[
    (
        "inhibit_on_failure",
        "a server that fails its check always keeps its place with weight 0, and its connections",
    ),
    ("nopreempt", "a director that returns never takes a CVIP back by itself"),
];

/// Gives a reason to the statements that no reader took, and to those within blocks that are not
/// carried.
pub(super) fn explain(statements: &[Statement], ledger: &mut Ledger) {
    for own in statements {
        let first = own.keyword();
        if first.starts_with('@') {
            let why =
                "it is for one configuration of several: import the file without the others' lines";
            ledger.withdraw_unjudged(own.all(), why);
        }
        if let Some((_, how)) = ALWAYS.iter().find(|(keyword, _)| *keyword == first)
            && ledger.is_unjudged(own.id)
        {
            ledger.changed(own.id, *how);
        }
        let Some(why) = reason(first) else {
            explain(&own.block, ledger);
            continue;
        };
        ledger.withdraw_unjudged([own.id], why);
        explain(&own.block, ledger);
        // Lines of lists have no keywords of their own.
        ledger.withdraw_unjudged(own.all(), why);
    }
}

/// What is said of a keyword.
fn reason(keyword: &str) -> Option<&'static str> {
    let matches = |pattern: &str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => keyword.starts_with(start),
        (None, Some(end)) => keyword.ends_with(end),
        (None, None) => keyword == pattern,
    };
    REASONS.iter().find(|(pattern, _)| matches(pattern)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_found_by_its_name_or_by_how_it_begins() {
        assert!(reason("notify_down").is_some_and(|why| why.contains("cvipctl events")));
        assert!(reason("checker_no_swap").is_some());
        assert_eq!(reason("frobnicate"), None);
    }

    #[test]
    fn no_reason_hides_behind_another_and_all_are_sentences_without_an_end() {
        for (index, (pattern, why)) in REASONS.iter().enumerate() {
            let name = pattern.trim_matches('*');
            let found = reason(name);
            assert!(found.is_some() && !why.ends_with('.') && !why.is_empty(), "{pattern}");
            let twice = REASONS[..index].iter().any(|(other, _)| other == pattern);
            assert!(!twice, "{pattern} stands twice");
        }
    }
}
