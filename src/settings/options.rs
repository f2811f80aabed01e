//! Which store: the options and variables that override cvip.toml, the same for all programs.

use std::path::PathBuf;

use clap::Args;

use super::model::Engine;

/// What options and the environment say; none leaves it to cvip.toml. No option takes a secret
/// itself: `ps` shows every option.
#[derive(Args, Clone, Debug, PartialEq, Eq, Default)]
#[command(next_help_heading = "Store")]
pub struct Overrides {
    /// Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_SETTINGS",
        hide_env_values = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub settings: Option<PathBuf>,

    /// The store: local (one host) or etcd
    #[arg(
        long,
        global = true,
        value_name = "STORE",
        env = "CVIP_STORE",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub store: Option<Engine>,

    /// etcd's servers, HOST:PORT or https://HOST:PORT, separated by commas
    #[arg(
        long,
        global = true,
        value_name = "LIST",
        env = "CVIP_ETCD_ENDPOINTS",
        hide_env_values = true,
        hide_short_help = true,
        value_delimiter = ','
    )]
    pub etcd_endpoints: Option<Vec<String>>,

    /// Whose certificates etcd's servers have, a PEM file [default: the system's authorities]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_ETCD_CA",
        hide_env_values = true,
        hide_short_help = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub etcd_ca: Option<PathBuf>,

    /// This host's certificate for etcd, a PEM file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_ETCD_CERT",
        hide_env_values = true,
        hide_short_help = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub etcd_cert: Option<PathBuf>,

    /// The certificate's private key, a PEM file that others may not read
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_ETCD_KEY",
        hide_env_values = true,
        hide_short_help = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub etcd_key: Option<PathBuf>,

    /// The user to log in to etcd as
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "CVIP_ETCD_USER",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub etcd_user: Option<String>,

    /// The file with the user's password, which others may not read
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_ETCD_PASSWORD_FILE",
        hide_env_values = true,
        hide_short_help = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub etcd_password_file: Option<PathBuf>,

    /// What cvip's keys in etcd begin with [default: /cvip/]
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        env = "CVIP_ETCD_PREFIX",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub etcd_prefix: Option<String>,

    /// The file of the key by which the cluster's members know one another, which others may
    /// not read [default: /etc/cvip/cluster.key]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_CLUSTER_KEY_FILE",
        hide_env_values = true,
        hide_short_help = true,
        value_hint = clap::ValueHint::FilePath
    )]
    pub cluster_key_file: Option<PathBuf>,
}
