//! `cvipctl`: turns cvip.conf into services, and shows what the cluster does.

use clap::{Parser, Subcommand};

use super::{Site, Streams};

mod apply;
mod check;
mod convert;
mod etcd_roles;
mod import;
mod leave;
mod metrics;
mod status;
mod takeover;
mod view;

/// Check cvip.conf, turn it into virtual services, and see what the cluster does.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cvipctl",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
      cvipctl check\n  \
      cvipctl convert --conf=new.conf | ipvsadm -R\n  \
      cvipctl diff && echo the table is right\n  \
      cvipctl apply\n  \
      cvipctl status --json"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    site: Site,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Validate cvip.conf and clustertab: every fault in one run, each with its place
    ///
    /// The store is looked at too: whether it can be reached, whether it is well, and whether
    /// this host may write there what it has to.
    ///
    /// Exit status 0 if there is no error (warnings are shown all the same), 1 otherwise.
    #[command(after_help = "Example:\n  cvipctl check --conf=new.conf --clustertab=new.tab")]
    Check(check::Args),
    /// Print the virtual services of cvip.conf as input for `ipvsadm -R`, or as JSON
    ///
    /// Services with `static` registration are there whatever listens. Automatic ones have no
    /// entry until a process listens: --all prints them as if every real server listened.
    #[command(after_help = "Example:\n  cvipctl convert --format=shell > set-up-by-hand.sh")]
    Convert(convert::Args),
    /// Show what `apply` would change in the kernel's table, as ipvsadm's commands
    ///
    /// Exit status 0 if the table is right, 1 if there are differences, as diff(1) does.
    #[command(after_help = "Example:\n  cvipctl diff")]
    Diff(apply::DiffArgs),
    /// Make the kernel's table what cvip.conf and the registrations say
    ///
    /// Goes through the running cvipd, which reads cvip.conf again; where none runs, the table
    /// is made right once.
    #[command(after_help = "Example:\n  cvipctl apply && cvipctl status")]
    Apply(apply::ApplyArgs),
    /// Put services that were made by hand into cvip.conf, as static ones
    ///
    /// Services that stand in the kernel's table on a CVIP of this director, and that neither
    /// cvipd nor a port flag knows, exist on one director only, and a takeover loses them. Here
    /// they become `service` elements with `static` registration; nothing else in the file
    /// changes. What cvip.conf cannot say is named with the reason, and left alone.
    #[command(
        after_help = "Example:\n  cvipctl import --dry-run\n  cvipctl import && cvipctl apply"
    )]
    Import(import::Args),
    /// Show nodes, flags, registrations and the kernel's table
    #[command(after_help = "Examples:\n  cvipctl status\n  cvipctl status --json | jq .services")]
    Status(status::Args),
    /// Print what this node's cvipd and the kernel's table count, for Prometheus
    ///
    /// In Prometheus' text format, as its node exporter reads it from a file.
    #[command(
        after_help = "Example:\n  cvipctl metrics > /var/lib/prometheus/node-exporter/cvip.prom"
    )]
    Metrics(metrics::Args),
    /// Make this director the active one of its set, in good order
    ///
    /// Connections go on: those that the directors synchronise, and new ones with the scheduler
    /// `mh`. Returns once this director carries the CVIPs.
    #[command(
        after_help = "Example:\n  cvipctl takeover   # on the standby, before the other is upgraded"
    )]
    Takeover(takeover::Args),
    /// Take this node out for good, in good order
    ///
    /// It serves and directs nothing any more: an active director hands over, connections that are
    /// left are waited for, what cvipd made in this kernel is undone, and cvipd ends. Starting
    /// cvipd brings the node back.
    #[command(after_help = "Example:\n  cvipctl leave --within=30m && systemctl disable cvipd")]
    Leave(leave::Args),
    /// Print the users and roles that a cluster on etcd needs, as etcdctl's commands
    ///
    /// With them, a node's credentials write the node's own keys and nothing else, directors'
    /// also the election, operators' the cluster's flags and drains; all of them read all.
    #[command(after_help = "Examples:\n  cvipctl etcd-roles | sh -e\n  cvipctl etcd-roles --json")]
    EtcdRoles(etcd_roles::Args),
}

/// Runs the program.
///
/// # Errors
/// What the command was to do failed; the text says what to do next.
pub fn run(args: Args, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    match args.command {
        Command::Check(own) => check::run(&own, &args.site, streams),
        Command::Convert(own) => convert::run(&own, &args.site, streams),
        Command::Diff(own) => apply::diff(&own, &args.site, streams),
        Command::Apply(own) => apply::apply(&own, &args.site, streams),
        Command::Import(own) => import::run(&own, &args.site, streams),
        Command::Status(own) => status::run(&own, &args.site, streams),
        Command::Metrics(own) => metrics::run(&own, &args.site, streams),
        Command::Takeover(own) => takeover::run(&own, &args.site, streams),
        Command::Leave(own) => leave::run(&own, &args.site, streams),
        Command::EtcdRoles(own) => etcd_roles::run(&own, &args.site, streams),
    }
}
