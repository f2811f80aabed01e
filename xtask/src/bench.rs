//! `cargo xtask bench`: figures, each with what it is measured against.

use std::process::ExitCode;

use anyhow::Result;
use cvip_lab::KernelChoice;

pub(crate) mod cluster;
pub(crate) mod director;
mod etcd;
mod fresh;
pub(crate) mod idle;
pub(crate) mod ipvsadm;
pub(crate) mod join_leave;
mod native;
pub(crate) mod scale;
mod spread;

/// Measure, and print figures
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// How long from listen() to the kernel's table, and from close or SIGKILL out of it
    JoinLeave {
        /// The lab's kernel: auto, host, uml, qemu
        #[arg(long, default_value = "auto")]
        kernel: KernelChoice,
        /// Joins, and as many leaves
        #[arg(long, default_value_t = 200)]
        rounds: u32,
    },
    /// What an idle cvipd costs, alone and beside established connections: a node on this
    /// machine, a node and a director in the lab
    Idle {
        /// The lab's kernel: auto, host, uml, qemu
        #[arg(long, default_value = "auto")]
        kernel: KernelChoice,
        /// Established connections
        #[arg(long, default_value_t = 50_000)]
        connections: u32,
    },
    /// What one change costs a director with 80,000 destinations in its memory, and what a full
    /// pass over 10,000 services costs beside reading them
    Director {
        /// The lab's kernel: auto, host, uml, qemu
        #[arg(long, default_value = "auto")]
        kernel: KernelChoice,
        /// Measurements of each kind
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// How fast a cluster of machines gets over each fault, and what its clients see of it, with
    /// keepalived beside it
    Cluster {
        /// The lab's kernel: auto, host, uml, qemu
        #[arg(long, default_value = "auto")]
        kernel: KernelChoice,
        /// How often each fault happens
        #[arg(long, default_value_t = 20)]
        rounds: u32,
        /// Only this fault; may be given several times
        #[arg(long = "row", value_name = "NAME")]
        rows: Vec<cluster::Row>,
        /// Where chance begins: the same seed chooses the same nodes and moments
        #[arg(long)]
        seed: Option<u64>,
    },
    /// A director's view of 1,000 nodes that join within 10 s on a native etcd, and its restart
    /// beside them
    Scale {
        /// How many nodes
        #[arg(long, default_value_t = 1000)]
        nodes: u32,
        /// How often the director's view starts anew
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// ipvsadm-rs beside ipvsadm, and beside what the kernel alone needs
    Ipvsadm {
        /// The lab's kernel: auto, host, uml, qemu
        #[arg(long, default_value = "auto")]
        kernel: KernelChoice,
        /// Measurements of each kind
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// A table of 10,000 services with 5 destinations each too
        #[arg(long)]
        large: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments.bench {
        Bench::Cluster { kernel, rounds, ref rows, seed } => {
            cluster::run(kernel, rounds, rows, seed)
        }
        Bench::Scale { nodes, rounds } => scale::run(nodes, rounds),
        Bench::JoinLeave { kernel, rounds } => join_leave::run(kernel, rounds),
        Bench::Director { kernel, rounds } => director::run(kernel, rounds.max(1)),
        Bench::Idle { kernel, connections } => idle::run(kernel, connections),
        Bench::Ipvsadm { kernel, rounds, large } => ipvsadm::run(kernel, rounds.max(1), large),
    }
}
