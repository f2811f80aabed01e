//! Where things stand, and which node this is: the same for all programs.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::StoreOptions;
use crate::conf::{self, Conf};
use crate::settings::Settings;
use crate::store::{self, Access, Interest, State, Store};
use crate::{net, node};

/// Files and folders that every program uses.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Files")]
pub struct Site {
    /// The cluster's configuration, cvip.conf(5)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_CONF",
        hide_env_values = true,
        default_value = conf::CONF_PATH,
        value_hint = clap::ValueHint::FilePath
    )]
    pub conf: PathBuf,

    /// Node numbers and addresses, clustertab(5)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_CLUSTERTAB",
        hide_env_values = true,
        default_value = conf::CLUSTERTAB_PATH,
        value_hint = clap::ValueHint::FilePath
    )]
    pub clustertab: PathBuf,

    /// The folder of the store and of cvipd's control sockets
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CVIP_RUN_DIR",
        hide_env_values = true,
        default_value = "/run/cvip",
        value_hint = clap::ValueHint::DirPath
    )]
    pub run_dir: PathBuf,

    /// Which store, and how to reach it.
    #[command(flatten)]
    pub store_options: StoreOptions,
}

/// Which node a command is about.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct NodeOption {
    /// The node, by its number in clustertab [default: the one whose address this host has]
    #[arg(long, value_name = "N", env = "CVIP_NODE", hide_env_values = true,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub node: Option<u32>,
}

impl Site {
    /// Reads and checks the configuration.
    pub fn load(&self) -> conf::Loaded {
        conf::load(&self.conf, &self.clustertab)
    }

    /// The configuration, or all of its faults as the error.
    pub fn conf(&self) -> anyhow::Result<Conf> {
        let loaded = self.load();
        loaded.conf.ok_or_else(|| {
            let faults: Vec<String> = loaded.diagnostics.iter().map(|d| d.to_string()).collect();
            anyhow::anyhow!("{}\n", faults.join("\n"))
        })
    }

    /// Which store, and how to reach it.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(&self.store_options.overrides())?)
    }

    /// The store, whichever it is.
    pub fn store(&self, access: Access, interest: Interest) -> anyhow::Result<Box<dyn Store>> {
        Ok(store::open(&self.settings()?, &self.run_dir, access, interest)?)
    }

    /// What the store says, and what of it cannot be read.
    pub fn state(&self) -> anyhow::Result<(State, Vec<String>)> {
        let mut store = self.store(Access::Read, Interest::All)?;
        let refreshed = store.refresh()?;
        let faults = refreshed.faults.iter().map(ToString::to_string).collect();
        Ok((store.state().clone(), faults))
    }

    /// The node that is meant: the one that was named, or the one whose address this host has.
    pub fn node(&self, option: &NodeOption) -> anyhow::Result<u32> {
        if let Some(node) = option.node {
            return Ok(node);
        }
        let loaded = self.load();
        let local = net::local_addresses().context("cannot list this host's addresses")?;
        let clustertab = loaded.clustertab.unwrap_or_default();
        Ok(node::identify(&clustertab, loaded.conf.as_ref(), &local)?)
    }
}
