//! `cvipd`: the daemon on every node.

use anyhow::Context;
use clap::Parser;
use nix::errno::Errno;

use super::{NodeOption, OK, Site, Streams, log};
use crate::daemon::{self, DaemonSettings, HeldSignals};

/// Register what listens on this node with the cluster's virtual services, and, on a director,
/// program the kernel's load balancer.
///
/// What the node is (real server, director, or both) stands in cvip.conf(5). SIGHUP reads the
/// configuration again; one with faults is not taken. SIGTERM ends cvipd: an active director
/// hands over to another one if any lives, and otherwise nothing changes in the kernel. Traffic
/// goes on, and the next start takes over what it finds. To take a node out for good, use
/// `cvipctl leave`.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cvipd",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
      cvipd\n  \
      cvipd --node=3 --log=debug\n  \
      ip netns exec node3 cvipd --run-dir=/run/cvip"
)]
pub struct Args {
    #[command(flatten)]
    node: NodeOption,

    /// Notice listeners by polling alone, as on a kernel that allows no socket events
    #[arg(long)]
    poll: bool,

    /// What is logged on standard error: error, warn, info, debug, trace or off, and more of one
    /// part, as in info,cvip::node=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "CVIP_LOG",
        hide_env_values = true,
        default_value = "info",
        value_parser = log::filter
    )]
    log: String,

    /// Where metrics are given over HTTP, ADDRESS:PORT, whatever cvip.toml(5) says
    #[arg(long, value_name = "ADDRESS:PORT", env = "CVIP_METRICS_ADDRESS", hide_env_values = true)]
    metrics_address: Option<String>,

    #[command(flatten)]
    site: Site,
}

/// Runs the program until it is told to end, by one of these signals or otherwise.
///
/// # Errors
/// It could not start, or a thread of it died.
pub fn run(
    args: Args,
    signals: Result<HeldSignals, Errno>,
    _streams: &mut Streams<'_>,
) -> anyhow::Result<u8> {
    log::begin(&args.log);
    let signals = signals.context("cannot hold signals back")?;
    let mut store = args.site.settings()?;
    if let Some(address) = &args.metrics_address {
        store.give_metrics_at(address)?;
    }
    let settings = DaemonSettings {
        store,
        conf: args.site.conf,
        clustertab: args.site.clustertab,
        run_dir: args.site.run_dir,
        node: args.node.node,
        polling: args.poll.then(|| "as asked by --poll".to_owned()),
    };
    daemon::run(settings, &signals)?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::super::testing::run_with;

    #[test]
    fn a_filter_that_makes_no_sense_is_a_usage_error() {
        for filter in ["--log=a=b=c", "--log=inof"] {
            // It is refused before the signals are looked at.
            let (status, _, err) = run_with(&["cvipd", filter], |args, streams| {
                super::run(args, Err(nix::errno::Errno::EPERM), streams)
            });
            assert_eq!((status, err.lines().count()), (2, 1), "{err}");
            assert!(err.contains("warn, info, debug"), "{err}");
        }
    }
}
