//! What the kernel has of the services of a pass.

use std::collections::BTreeMap;

use crate::ipvs::DestinationEntry;
use crate::ipvs::plan::ServicePool;
use crate::store::ServiceKey;

/// One service as the kernel has it.
pub type Actual = ServicePool<DestinationEntry>;

/// What the kernel has of the services of a pass; those that are absent it does not have.
pub type KernelTable = BTreeMap<ServiceKey, Actual>;
