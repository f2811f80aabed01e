//! What decides in cvipd, without input and output, for the simulator: it drives these states with
//! a simulated kernel, network, store and clock, where cvipd's drivers have real ones.

pub use crate::daemon::address_manager::messages::{AddressMessage, AddressNotice};
pub use crate::daemon::address_manager::state::{AddressAction, AddressState};
pub use crate::daemon::hooks::messages::RoleEvent;
pub use crate::daemon::messages::{MonitorMessage, NodeMessage, SenderMessage, TableMessage};
pub use crate::daemon::supervisor::messages::{ReadConf, SupervisorAction, SupervisorInput};
pub use crate::daemon::supervisor::state::Supervisor;
pub use crate::daemon::workers::endpoints::Endpoints;
pub use crate::director::agent::messages::{ActionResult, AgentAction};
pub use crate::director::agent::state::AgentState;
pub use crate::director::kernel_table::TableReading;
pub use crate::director::monitor::candidacy::{Candidacy, Circumstances, HeardDirector};
pub use crate::director::monitor::conflicts::WatchedAddresses;
pub use crate::director::monitor::messages::{
    ClaimRequest, MonitorCommand, MonitorInput, MonitorOutput,
};
pub use crate::director::monitor::state::MonitorState;
pub use crate::director::monitor::store_view::{
    RecordSummary, StoreChanges, StoreReading, StoreView,
};
pub use crate::director::monitor::wire::Terms;
pub use crate::director::reconcile::concerned;
pub use crate::director::settings::{service_id, service_key};
pub use crate::director::table::{TableReader, plan_all, read_all, read_some};
pub use crate::heartbeat::SendSchedule;
pub use crate::net::{
    AddressConflicts, Link, NetworkHost, NetworkSettings, SettingsRecord, SettingsSnapshot,
};
pub use crate::node::leaving::holders;
pub use crate::node::messages::{
    ListenersChange, LookOutcome, NodeAction, StoreRead, Surroundings,
};
pub use crate::node::state::NodeState;
#[cfg(feature = "etcd")]
pub use crate::store::etcd::failure::EtcdFailure;
#[cfg(feature = "etcd")]
pub use crate::store::etcd::lease_state::{LeaseKey, LeaseState};
#[cfg(feature = "etcd")]
pub use crate::store::etcd::messages::{
    Item, PendingState, Reading, StoreVersion, StoredText, StoredValue, Swapped, Unavailable,
};
#[cfg(feature = "etcd")]
pub use crate::store::etcd::timing::{
    AGAIN_AFTER, ATTEMPT_WITHIN, LEASE_SLACK, LOOK_AGAIN, OVERTAKEN, PAUSES, PING_EVERY,
    PING_WITHIN, STAGGER,
};
#[cfg(feature = "etcd")]
pub use crate::store::etcd::view::{Corrupt, Decision, EtcdView, EtcdWrite, Taken, Written};
pub use crate::store::value::Value;
