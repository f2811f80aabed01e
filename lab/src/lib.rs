//! A real IPVS kernel on any machine.
//!
//! cvip is about what the kernel's IPVS does, so its tests need one, and many machines (containers, build servers) have
//! none that they may use. [`Lab`] finds one: this machine's kernel where that has IPVS, else a kernel that it boots,
//! with the machine's own files in it, so that a program that was just built runs there as it is.
//!
//! Outside: [`Lab`], called by `cargo xtask`. Inside: [`require`] at the start of a test, and
//! [`Cluster`], a cluster of network namespaces. Tests that need a network of their own and no IPVS have
//! [`Namespace`] and [`Segment`], also outside.

mod cabling;
mod cluster;
mod deployment;
mod dice;
mod emulator;
pub mod etcd;
pub mod floor;
mod frame;
pub mod guest;
mod host_kernel;
mod inside;
pub mod keepalived;
mod layer;
mod namespace;
mod nginx;
mod outgoing;
mod packages;
mod people;
pub mod process;
pub mod prometheus;
mod qemu;
mod run;
mod segment;
mod session;
mod signals;
mod site;
mod sys;
pub mod systemd;
mod terminal;
mod toolchain;
pub mod traffic;
mod uml;
mod unit;
mod unpack;
mod wait;

pub use cluster::{Builder, Capture, Cluster, Direction, Fault, Host, Impairment, Network};
pub use deployment::{CLUSTER_KEY, Deployment, Plan};
pub use dice::{Dice, seed};
pub use inside::{built_programs, in_lab, require, unique_name};
pub use namespace::{
    Namespace, OwnNetwork, addr, enter_new_network, enter_own_etc, in_new_network, ip,
};
pub use nginx::Nginx;
pub use packages::program;
pub use people::Person;
pub use process::Process;
pub use run::{KernelChoice, Lab, Output};
pub use segment::Segment;
pub use site::Site;
pub use toolchain::is_set_by_cargo;
pub use unit::VARIABLE as UNIT_VARIABLE;
pub use wait::{PATIENCE, since_when, until, until_some, wait_until};
