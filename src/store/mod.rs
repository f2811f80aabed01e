//! The registration store.
