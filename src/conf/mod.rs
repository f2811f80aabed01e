//! cvip.conf and clustertab.

mod model;

pub use model::*;
