//! What etcd answers when it does not do as asked, and what that means for the store.
//!
//! etcd says in its message, rather than in gRPC's code, what is wrong; the texts are those of
//! `rpctypes/error.go`, the same from 3.4 to 3.6.

use std::error::Error;

use tonic::{Code, Status};

use crate::store::StoreError;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdFailure {
    /// The connection, or the member behind it, is no good: another one may be.
    Session(String),
    /// No answer came in time. The member may be dead, or only have much to do.
    Late(String),
    /// These credentials may not do that.
    Denied,
    /// The revision that was asked for is gone.
    Compacted,
    /// There is no such lease any more.
    NoLease,
    /// etcd is well, and does not want this.
    Refused(String),
    /// The user's name or password is wrong.
    Password,
    /// A user was named, and etcd knows no users at all.
    NoUsers,
}

impl From<Status> for EtcdFailure {
    fn from(status: Status) -> EtcdFailure {
        let text = status.message();
        let says = |part: &str| text.contains(part);
        match status.code() {
            _ if says("permission denied") => EtcdFailure::Denied,
            _ if says("required revision has been compacted") => EtcdFailure::Compacted,
            _ if says("requested lease not found") => EtcdFailure::NoLease,
            _ if says("authentication failed, invalid user ID or password") => {
                EtcdFailure::Password
            }
            _ if says("authentication is not enabled") => EtcdFailure::NoUsers,
            // Asked without a token while there are users: nothing is allowed.
            _ if says("user name is empty") => EtcdFailure::Denied,
            // A token has an end, and ends when a role is changed: a new one is asked for.
            _ if says("invalid auth token") || says("revision of auth store is old") => {
                EtcdFailure::Session(text.to_owned())
            }
            // The first is etcd's limit, the second that of its transport, a little above.
            _ if says("request is too large") || says("message larger than max") => {
                EtcdFailure::Refused(
                    "the value is larger than etcd's --max-request-bytes (1.5 MiB unless set)"
                        .into(),
                )
            }
            _ if says("database space exceeded") => EtcdFailure::Refused(
                "etcd's database is full (alarm NOSPACE): no node can write. On an etcd server: \
                 `etcdctl compact REVISION`, `etcdctl defrag --cluster`, raise \
                 --quota-backend-bytes if it stays large, then `etcdctl alarm disarm`"
                    .into(),
            ),
            Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound => {
                EtcdFailure::Refused(text.to_owned())
            }
            _ => EtcdFailure::Session(causes(text, status.source())),
        }
    }
}

impl EtcdFailure {
    /// The same, unless its text has the secret that was sent: texts are logged and recorded.
    pub(super) fn without(self, secret: &str) -> EtcdFailure {
        let hidden = || "etcd's answer is not shown, since the password is in it".to_owned();
        let has_it = |text: &str| !secret.is_empty() && text.contains(secret);
        match self {
            EtcdFailure::Session(text) if has_it(&text) => EtcdFailure::Session(hidden()),
            EtcdFailure::Late(text) if has_it(&text) => EtcdFailure::Late(hidden()),
            EtcdFailure::Refused(text) if has_it(&text) => EtcdFailure::Refused(hidden()),
            other => other,
        }
    }

    /// The same, for the caller of the store. `key` is what it was about.
    pub fn into_error(self, key: &str) -> StoreError {
        match self {
            EtcdFailure::Session(reason) | EtcdFailure::Late(reason) => {
                StoreError::Unavailable { reason }
            }
            EtcdFailure::Denied => StoreError::Denied { key: key.to_owned() },
            other => StoreError::Refused { key: key.to_owned(), reason: other.to_string() },
        }
    }
}

impl std::fmt::Display for EtcdFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EtcdFailure::Session(reason)
            | EtcdFailure::Late(reason)
            | EtcdFailure::Refused(reason) => reason,
            EtcdFailure::Denied => "these credentials do not allow it",
            EtcdFailure::Compacted => "the revision that was asked for is gone",
            EtcdFailure::NoLease => "the lease is gone",
            EtcdFailure::Password => "etcd knows no such user, or not with this password",
            EtcdFailure::NoUsers => "etcd knows no users: authentication is not enabled",
        })
    }
}

/// What an error says, and its causes, each said once: tonic's own text alone is
/// "transport error".
pub(super) fn causes(text: &str, mut cause: Option<&dyn std::error::Error>) -> String {
    let mut said = if text == "transport error" { String::new() } else { text.to_owned() };
    while let Some(error) = cause {
        let text = error.to_string();
        said = match said.as_str() {
            "" => text,
            _ if said.contains(&text) => said,
            _ => format!("{said}: {text}"),
        };
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreFailure;

    #[test]
    fn no_text_of_an_error_has_the_password_whatever_a_server_answers() {
        for code in [Code::Unknown, Code::InvalidArgument, Code::Internal, Code::Unavailable] {
            for text in ["user root, password hunter2", "hunter2", "etcdserver: no leader"] {
                let failure = EtcdFailure::from(Status::new(code, text)).without("hunter2");
                let error = StoreFailure::from(failure.into_error("nodes/1"));
                let recorded = serde_json::to_string(&error).unwrap();
                assert!(!recorded.contains("hunter2"), "{recorded}");
                assert_eq!(recorded.contains("no leader"), text.contains("no leader"));
            }
        }
    }

    #[test]
    fn what_etcd_says_decides_what_is_done() {
        let failure = |code, text: &str| EtcdFailure::from(Status::new(code, text));
        for (code, text, means) in [
            (Code::PermissionDenied, "etcdserver: permission denied", EtcdFailure::Denied),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                EtcdFailure::Compacted,
            ),
            (Code::NotFound, "etcdserver: requested lease not found", EtcdFailure::NoLease),
            (Code::InvalidArgument, "etcdserver: user name is empty", EtcdFailure::Denied),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                EtcdFailure::Password,
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                EtcdFailure::NoUsers,
            ),
        ] {
            assert_eq!(failure(code, text), means, "{text}");
        }
        for (code, text) in [
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::Unknown, "etcdserver: invalid auth token"),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
        ] {
            assert!(matches!(failure(code, text), EtcdFailure::Session(_)), "{text}");
        }
        for (code, text) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (Code::ResourceExhausted, "grpc: received message larger than max (3 vs. 2)"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        ] {
            assert!(matches!(failure(code, text), EtcdFailure::Refused(_)), "{text}");
        }
    }
}
