//! A listener that a child process has inherited.
//!
//! A test program of its own: between fork and exec a child holds every descriptor of its
//! parent, so that no other test may count on a close being the last meanwhile.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

#[path = "listeners/support.rs"]
mod support;

use support::*;

#[test]
fn an_inherited_listener_stays_until_the_last_of_its_holders_is_gone() {
    with_and_without_socket_events(tcp(FLAGGED, FLAGGED), |mut seen| {
        let listener = TcpListener::bind("0.0.0.0:8000").unwrap();
        seen.until(&[8000]);
        let inherited = Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
        let mut child = Command::new("sleep").arg("600").stdin(inherited).spawn().unwrap();
        drop(listener);
        let changes = seen.changes_within(TWO_POLLS);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(changes, 0);
        seen.until(&[]);
    });
}
