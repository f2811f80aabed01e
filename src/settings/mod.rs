//! cvip.toml(5): which store holds the cluster together, and where its secrets are.
//!
//! What is said nearer wins: an option, a variable of the environment, the file. Options and
//! variables reach this module as [`Overrides`]; all programs ask here, so all of them use the
//! same store.
//!
//! Secrets stand in files alone, never in an option or a variable that `ps` would show, and
//! never in these structures: they are read where they are used.

use std::path::Path;

mod file;
mod model;
mod options;
mod secret;

pub use model::{
    CLUSTER_KEY_PATH, DestinationLabel, Engine, EtcdSettings, HookSettings, PREFIX, SETTINGS_PATH,
    Settings, SettingsError,
};
pub use options::Overrides;
pub(crate) use secret::KeyFile;
#[cfg(feature = "etcd")]
pub(crate) use secret::Secret;

use model::{endpoint_of, metrics_address_of, prefix_of};

impl Settings {
    /// The settings by the file and what overrides it. A file that was not named need not be
    /// there.
    ///
    /// # Errors
    /// The file cannot be read or understood, or what is said makes no sense.
    pub fn load(overrides: &Overrides) -> Result<Settings, SettingsError> {
        let named = overrides.settings.as_deref();
        let path = named.unwrap_or(Path::new(SETTINGS_PATH));
        let from_file = file::read(path, named.is_some())?;
        let mut settings = from_file;
        settings.take(overrides)?;
        settings.check()?;
        Ok(settings)
    }

    /// Takes the address for metrics that an option or a variable gives: `ADDRESS:PORT`.
    ///
    /// # Errors
    /// It is none.
    pub fn give_metrics_at(&mut self, address: &str) -> Result<(), SettingsError> {
        self.metrics_address = Some(metrics_address_of(address).map_err(SettingsError::Said)?);
        Ok(())
    }

    fn take(&mut self, overrides: &Overrides) -> Result<(), SettingsError> {
        fn set<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        let etcd = &mut self.etcd;
        set(&mut etcd.ca, &overrides.etcd_ca);
        set(&mut etcd.cert, &overrides.etcd_cert);
        set(&mut etcd.key, &overrides.etcd_key);
        set(&mut etcd.user, &overrides.etcd_user);
        set(&mut etcd.password_file, &overrides.etcd_password_file);
        set(&mut self.cluster_key_file, &overrides.cluster_key_file);
        if let Some(prefix) = &overrides.etcd_prefix {
            etcd.prefix = prefix_of(prefix).map_err(SettingsError::Said)?;
        }
        if let Some(endpoints) = &overrides.etcd_endpoints {
            let endpoints: Result<_, _> = endpoints.iter().map(|text| endpoint_of(text)).collect();
            etcd.endpoints = endpoints.map_err(SettingsError::Said)?;
        }
        if let Some(engine) = overrides.store {
            (self.engine, self.engine_was_chosen) = (engine, true);
        } else if !self.engine_was_chosen && !etcd.endpoints.is_empty() {
            // A list of etcd's servers selects etcd.
            (self.engine, self.engine_was_chosen) = (Engine::Etcd, true);
        }
        Ok(())
    }

    /// What the parts say together.
    fn check(&mut self) -> Result<(), SettingsError> {
        let etcd = &mut self.etcd;
        let said = |text: &str| Err(SettingsError::Said(text.to_owned()));
        if self.engine == Engine::Etcd && etcd.endpoints.is_empty() {
            return said(
                "the store is etcd, and no server of it is named: set endpoints under [etcd] in \
                 cvip.toml, or CVIP_ETCD_ENDPOINTS",
            );
        }
        match (&etcd.cert, &etcd.key) {
            (Some(_), None) => return said("etcd's client certificate needs its key: set key"),
            (None, Some(_)) => return said("etcd's client key needs its certificate: set cert"),
            _ => {}
        }
        match (&etcd.user, &etcd.password_file) {
            (Some(_), None) => return said("etcd's user needs a password: set password_file"),
            (None, Some(_)) => return said("etcd's password needs a user: set user"),
            _ => {}
        }
        let tls = etcd.ca.is_some() || etcd.cert.is_some();
        for endpoint in &mut etcd.endpoints {
            if !endpoint.contains("://") {
                *endpoint = format!("{}://{endpoint}", if tls { "https" } else { "http" });
            } else if tls && endpoint.starts_with("http://") {
                return said(&format!(
                    "there are certificates for etcd, and {endpoint} would be spoken to without: \
                     write https://"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
