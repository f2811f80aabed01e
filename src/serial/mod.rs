//! How values are written to JSON and read back that have no form of their own there.

pub(crate) mod errno;
pub(crate) mod interned;
pub(crate) mod pairs;
