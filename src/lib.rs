//! cvip
