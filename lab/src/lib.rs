//! A real IPVS kernel on any machine.
//!
//! cvip is about what the kernel's IPVS does, so its tests need one, and many machines (containers, build servers) have
//! none that they may use. [`Lab`] finds one: this machine's kernel where that has IPVS, else a kernel that it boots,
//! with the machine's own files in it, so that a program that was just built runs there as it is.
//!
//! Outside: [`Lab`], called by `cargo xtask`. Inside: [`require`] at the start of a test, and
//! [`Cluster`], a cluster of network namespaces.

mod cluster;
mod deployment;
mod dice;
mod emulator;
pub mod etcd;
pub mod floor;
mod frame;
pub mod guest;
mod host_kernel;
pub mod keepalived;
mod netns;
mod outgoing;
mod packages;
mod people;
mod qemu;
mod run;
mod session;
mod signals;
mod site;
mod sys;
mod terminal;
mod toolchain;
pub mod traffic;
mod uml;
mod unpack;
mod wait;

pub use cluster::{
    Builder, Capture, Cluster, Direction, Fault, Host, Impairment, Network, Process,
};
pub use deployment::{CLUSTER_KEY, Deployment, Plan};
pub use dice::{Dice, seed};
pub use packages::program;
pub use people::Person;
pub use run::{KernelChoice, Lab, Output};
pub use site::Site;
pub use toolchain::is_set_by_cargo;
pub use wait::wait_until;

/// Whether this process runs in the lab.
#[must_use]
pub fn in_lab() -> bool {
    std::env::var_os("CVIP_LAB").is_some()
}

/// For the start of a test that needs a kernel with IPVS.
///
/// # Panics
/// Outside the lab, with a word on how to get there.
pub fn require() {
    assert!(in_lab(), "this test needs a kernel with IPVS: run `cargo xtask test`");
}
