//! Addresses, announcements and sysctls.
