//! The registration store: what every node says of itself, and what operators said of all.
//!
//! One record per node, the whole snapshot, replaced as one: never a difference, since a
//! difference that arrives late brings a dead service back. A record stays when its node's lease
//! ends: it is *stale* then, not gone, and what that means is for the directors to decide.
//! Beside the records stand the leases, the port flags that were set at run time, operators'
//! drains, which director each set of directors has elected and, for each director, the services
//! it owns.
//!
//! There are two engines. [`LocalStore`] is a folder, for one host and its network namespaces.
//! `EtcdStore` is etcd, for a cluster of machines; what a reboot makes untrue (a node's own
//! flags, owned services) stays in the host's folder even then. [`open`] takes the one that the
//! settings name.
//!
//! A store keeps a view ([`StoreState`]) that [`Store::refresh`] brings up to date; its descriptor
//! becomes readable when a refresh may find something. The descriptor only wakes: what is true
//! is always what a refresh reads. A store that cannot be reached takes nothing from the view.
//!
//! ```
//! use cvip::store::{Access, LocalStore, NodeRecord, Store};
//!
//! let dir = tempfile::tempdir()?;
//! let mut writer = LocalStore::open(dir.path(), Access::Write)?;
//! let mut reader = LocalStore::open(dir.path(), Access::Read)?;
//! reader.refresh()?;
//! assert!(reader.state().nodes.is_empty());
//!
//! writer.put_node(&NodeRecord::empty(7, 1, 1))?;
//! reader.refresh()?;
//! assert!(reader.state().nodes.contains_key(&7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

mod compact;
#[cfg(feature = "etcd")]
pub mod etcd;
mod interface;
pub mod layout;
mod local;
mod orders;
mod record;
mod service;
pub(crate) mod value;
mod values;

pub use compact::{MOST_REFUSED, shortened};
pub use interface::{
    Access, Fault, Holding, Interest, Key, Lease, Refreshed, Scope, Store, StoreError,
    StoreFailure, StoreState,
};
pub use local::{LocalStore, last_incarnation};
pub use orders::{DrainOrder, DrainTarget, Drains, Elected, TermClaim, drain_of};
pub use record::{AppliedOrders, Lingering, NodeRecord, RefusedListener, Registration};
pub use service::{PortRanges, ServiceKey};
pub use values::StoreValues;

pub use crate::histogram::Histogram;
pub use crate::settings::{
    DestinationLabel, Engine, EtcdSettings, HookSettings, Overrides, Settings, SettingsError,
};

/// Opens the store that the settings name. `run_dir` is the embedded store's folder; with etcd,
/// the folder of what only this host needs to know.
///
/// etcd is not waited for: the first request waits.
///
/// ```no_run
/// use std::path::Path;
///
/// use cvip::store::{Access, Interest, Overrides, Settings, open};
///
/// // cvip.toml, as the programs read it.
/// let settings = Settings::load(&Overrides::default())?;
/// let mut store = open(&settings, Path::new("/run/cvip"), Access::Read, Interest::All)?;
/// store.refresh()?;
/// for record in store.state().nodes.values() {
///     println!("node {}: {} registrations", record.node, record.registrations.len());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The folder cannot be made or watched, or the system refuses a thread or a descriptor.
pub fn open(
    settings: &Settings,
    run_dir: &Path,
    access: Access,
    interest: Interest,
) -> Result<Box<dyn Store>, StoreError> {
    match settings.engine {
        Engine::Local => Ok(Box::new(LocalStore::open(run_dir, access)?)),
        #[cfg(feature = "etcd")]
        Engine::Etcd => {
            Ok(Box::new(etcd::EtcdStore::open(&settings.etcd, run_dir, access, interest)?))
        }
        #[cfg(not(feature = "etcd"))]
        Engine::Etcd => {
            let _ = interest;
            Err(StoreError::NotBuilt)
        }
    }
}
