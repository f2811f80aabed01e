//! What a director does.
