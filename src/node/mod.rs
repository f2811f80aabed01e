//! What a real server does.
