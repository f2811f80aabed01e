//! `cvipctl`: turns cvip.conf into services, and shows what the cluster does.

use clap::{Parser, Subcommand};

use super::{Site, Streams};

mod apply;
mod check;
mod complete;
mod convert;
mod doctor;
mod drain;
mod etcd_roles;
mod events;
mod examination;
mod graph;
mod import;
mod import_file;
mod leave;
mod metrics;
mod overview;
mod replay;
mod status;
mod takeover;
mod top;

#[cfg(feature = "internal")]
pub use status::STATUS_TITLES;

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
      cvipctl status --json\n  \
      cvipctl doctor"
)]
pub struct Args {
    #[command(subcommand)]
    command: CvipctlCommand,

    #[command(flatten)]
    site: Site,
}

#[derive(Subcommand, Clone, Debug)]
enum CvipctlCommand {
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
    /// Put services that were made by hand into cvip.conf, or draft one from another system's file
    ///
    /// Services that stand in the kernel's table on a CVIP of this director, and that neither
    /// cvipd nor a port flag knows, exist on one director only, and a takeover loses them. Here
    /// they become `service` elements with `static` registration; nothing else in the file
    /// changes. What cvip.conf cannot say is named with the reason, and left alone.
    ///
    /// With FILE, a keepalived.conf, an ldirectord.cf or the rules that `ipvsadm -Sn` prints
    /// become the draft of a cvip.conf, on standard output or in the folder of --output. Nothing
    /// in force changes. Each statement that the draft says differently or not at all is named
    /// on standard error with its line, the reason, and what to do; --all names the others too.
    /// Host names are looked up here and now. Machines that clustertab does not have get the
    /// lowest free numbers.
    ///
    /// Exit status 0 if there is a draft, whatever it had to leave out, 1 if there is none.
    #[command(after_help = "Examples:\n  \
        cvipctl import --dry-run\n  \
        cvipctl import && cvipctl apply\n  \
        cvipctl import /etc/keepalived/keepalived.conf --director=10.0.0.1 --director=10.0.0.2 \
        --output=draft\n  \
        cvipctl check --conf=draft/cvip.conf --clustertab=draft/clustertab --offline\n  \
        ipvsadm -Sn | cvipctl import - --director=10.0.0.1 --interface=eth0")]
    Import(import::Args),
    /// Show in one line how the cluster is; then nodes, and each service with its real servers
    ///
    /// The first line is `OK` or the worst that `cvipctl doctor` finds, with what to run next.
    #[command(after_help = "Examples:\n  cvipctl status\n  cvipctl status --watch=5s\n  \
        cvipctl status --json | jq -r .headline.text")]
    Status(status::Args),
    /// Draw the cluster: directors, services and real servers, and who sends connections where
    ///
    /// As an image (SVG), readable on light and dark pages, or in the language of Graphviz (DOT).
    #[command(after_help = "Examples:\n  cvipctl graph --output=cluster.svg\n  \
        cvipctl graph --format=dot | dot -Tpng > cluster.png")]
    Graph(graph::Args),
    /// Print what this node's cvipd and the kernel's table count, for Prometheus
    ///
    /// In Prometheus' text format, as its node exporter reads it from a file. cvipd gives the same
    /// over HTTP where cvip.toml has a `metrics_address`.
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
    /// It serves and directs nothing any more, static services neither: an active director hands
    /// over, the directors send it no new connections, those that are left are waited for, what
    /// cvipd made in this kernel is undone, and cvipd ends. Starting cvipd brings the node back.
    ///
    /// Exit status 0 once all of that is done. It is 1 if cvipd ended before, which is said with
    /// what is left here, and if this command is interrupted: the node then goes on leaving.
    #[command(after_help = "Example:\n  cvipctl leave --within=30m && systemctl disable cvipd")]
    Leave(leave::Args),
    /// Take a node, or a port of it, out of the pools: no new connections, the old ones go on
    ///
    /// Its weight becomes 0 at once; it is out when its connections have ended, or are cut at the
    /// deadline. UDP, which has no connections, is out at once. The order stands in the store: it
    /// survives restarts and takeovers, and holds until `cvipctl undrain`. A second order changes
    /// what it names and keeps the rest: `drain 3 --now` cuts what `drain 3` waits for.
    ///
    /// With --wait, exit status 0 once it is out; interrupting the wait does not end the
    /// drain.
    #[command(after_help = "Examples:\n  \
      cvipctl drain 3 --reason='new disk' --deadline=5m --wait && ssh node3 poweroff\n  \
      cvipctl drain 3:80\n  \
      cvipctl drain 3:53/udp --now")]
    Drain(drain::Args),
    /// Put a drained node, or a port of it, back into the pools
    ///
    /// What listens there gets its weight back, also where its connections are not over yet. A
    /// whole node is put back with all of its ports.
    #[command(after_help = "Examples:\n  cvipctl undrain 3\n  cvipctl undrain 3:80")]
    Undrain(drain::UndrainArgs),
    /// Show what happened: which servers and nodes came and went, which director is active, and why
    ///
    /// Each node records it on its own host, in the folder of --run-dir: a director what it sees of
    /// all, a real server what was repaired of its own addresses. Times are by that host's clock,
    /// in UTC.
    #[command(after_help = "Examples:\n  \
      cvipctl events --since=1h\n  \
      cvipctl events --since=2026-03-01T22:00:00Z --node=3\n  \
      cvipctl events --follow --json | jq -r 'select(.event == \"left\")'")]
    Events(events::Args),
    /// Print the users and roles that a cluster on etcd needs, as etcdctl's commands
    ///
    /// With them, a node's credentials write the node's own keys and nothing else, directors'
    /// also the election, operators' the cluster's flags and drains; all of them read all.
    #[command(after_help = "Examples:\n  cvipctl etcd-roles | sh -e\n  cvipctl etcd-roles --json")]
    EtcdRoles(etcd_roles::Args),
    /// Examine this running cluster, and say how to fix each fault
    ///
    /// This host's kernel is compared with what its role in cvip.conf needs: addresses, ARP and
    /// other settings, routes, connection synchronisation, the IPVS table, listeners. What is known
    /// of other nodes comes from the store. Nothing is changed; a director asks its neighbours who
    /// else has the CVIPs. Faults keep clients from being served, now or at the next change; warnings are
    /// probably not what is meant; notes are good to know, such as what cvipd has set on this
    /// host. As root it sees everything.
    ///
    /// Exit status 0 if there is no fault (warnings and notes are shown all the same), 1
    /// otherwise.
    #[command(
        after_help = "Examples:\n  cvipctl doctor\n  cvipctl doctor --quiet || mail root\n  \
        cvipctl doctor --json | jq -r '.findings[].commands[]'"
    )]
    Doctor(doctor::Args),
    /// Decide again what cvipd decided, by its recording, and show each decision with its reason
    ///
    /// cvipd records what reaches the monitor (liveness, elections, address conflicts), the address
    /// manager, the supervisor (role, reload, leave), a director's table (services, weights, drains,
    /// repairs) and the node (listeners, registrations, its record), and what they decided, for ten
    /// minutes, in the folder of --run-dir. The recording can be replayed on any machine: nothing is
    /// asked, sent or changed. An output that differs from the recorded one is a fault of the
    /// program (or of another version of it): please report it with the recording.
    ///
    /// A recording has cvip.conf, node records, addresses and user names in it, and no secret:
    /// neither the cluster key nor etcd's password or keys.
    ///
    /// Exit status 0 if all outputs are those that were recorded, 1 otherwise.
    #[command(after_help = "Examples:\n  \
      cvipctl replay --since=2m\n  \
      cvipctl replay --json recording-1 | jq -r '.decisions[]'")]
    Replay(replay::Args),
    /// Watch services, real servers, nodes, drains and events live, on a whole terminal
    ///
    /// The keys are shown at the bottom. Rows are sorted (s) and filtered (/); Enter shows the real
    /// servers of a service or node. What is under the cursor is drained (d) or put back (u) once
    /// that is confirmed, which root may do.
    #[command(
        after_help = "Examples:\n  cvipctl top\n  ssh -t root@node1 cvipctl top --interval=5s"
    )]
    Top(top::Args),
    /// Print the words that a shell offers where a node or a port of it is typed
    #[command(hide = true, after_help = "Example:\n  cvipctl complete targets")]
    Complete(complete::Args),
}

impl CvipctlCommand {
    /// What a terminal shows while it takes more than a second; none where the command shows by
    /// itself how far it is, or is to show nothing.
    fn task(&self) -> Option<&'static str> {
        match self {
            CvipctlCommand::Check(_) => Some("checking the configuration and the store"),
            CvipctlCommand::Convert(_) => Some("reading the configuration"),
            CvipctlCommand::Diff(_) => Some("comparing the kernel's table"),
            CvipctlCommand::Apply(_) => Some("applying cvip.conf to the kernel's table"),
            CvipctlCommand::Import(_) => Some("importing"),
            CvipctlCommand::Status(_) | CvipctlCommand::Graph(_) => Some("looking at the cluster"),
            CvipctlCommand::Metrics(_) => Some("reading the metrics"),
            CvipctlCommand::Takeover(_) => Some("waiting for the takeover"),
            CvipctlCommand::Leave(_) => Some("waiting for the node to leave"),
            CvipctlCommand::Drain(_) | CvipctlCommand::Undrain(_) => Some("writing to the store"),
            CvipctlCommand::Events(_) => Some("reading the events"),
            CvipctlCommand::EtcdRoles(_) => Some("reading the configuration"),
            CvipctlCommand::Doctor(own) if own.is_quiet() => None,
            CvipctlCommand::Doctor(_) => Some("examining the cluster"),
            CvipctlCommand::Replay(_) => Some("replaying the recording"),
            CvipctlCommand::Top(_) | CvipctlCommand::Complete(_) => None,
        }
    }
}

/// Runs the program.
///
/// # Errors
/// What the command was to do failed; the text says what to do next.
pub fn run(args: Args, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    if let Some(task) = args.command.task() {
        streams.progress.begin(format!("cvipctl: {task}"));
    }
    match args.command {
        CvipctlCommand::Check(own) => check::run(&own, &args.site, streams),
        CvipctlCommand::Convert(own) => convert::run(&own, &args.site, streams),
        CvipctlCommand::Diff(own) => apply::diff(&own, &args.site, streams),
        CvipctlCommand::Apply(own) => apply::apply(&own, &args.site, streams),
        CvipctlCommand::Import(own) => import::run(&own, &args.site, streams),
        CvipctlCommand::Status(own) => status::run(&own, &args.site, streams),
        CvipctlCommand::Graph(own) => graph::run(&own, &args.site, streams),
        CvipctlCommand::Metrics(own) => metrics::run(&own, &args.site, streams),
        CvipctlCommand::Takeover(own) => takeover::run(&own, &args.site, streams),
        CvipctlCommand::Leave(own) => leave::run(&own, &args.site, streams),
        CvipctlCommand::Drain(own) => drain::run(&own, &args.site, streams),
        CvipctlCommand::Undrain(own) => drain::undrain(&own, &args.site, streams),
        CvipctlCommand::Events(own) => events::run(&own, &args.site, streams),
        CvipctlCommand::EtcdRoles(own) => etcd_roles::run(&own, &args.site, streams),
        CvipctlCommand::Doctor(own) => doctor::run(&own, &args.site, streams),
        CvipctlCommand::Replay(own) => replay::run(&own, &args.site, streams),
        CvipctlCommand::Top(own) => top::run(&own, &args.site, streams),
        CvipctlCommand::Complete(own) => complete::run(&own, &args.site, streams),
    }
}
