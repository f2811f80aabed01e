//! cvip.conf and clustertab.
