//! The cluster key: a machine that has it is of the cluster. It is never shown, and wiped from
//! memory when it is dropped.
//!
//! The file's content is not used itself: each use derives a key of its own from it, so that
//! what one use gives away helps against no other.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A shorter secret could be guessed (RFC 2104, 3: no shorter than the hash).
const LEAST_BYTES: usize = 32;

/// Length of a message authentication code in bytes: HMAC-SHA256, not shortened.
pub(super) const MAC_BYTES: usize = 32;

/// Why a file's content is no cluster key. Says nothing of the content but its length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Fewer bytes than a key needs.
    #[error(
        "the cluster key has {0} bytes, and needs {LEAST_BYTES}: is this the right file, and whole? \
         {NEW_KEY}"
    )]
    TooShort(usize),
    /// One and the same byte again and again, as in a file that was lost in a crash.
    #[error("the cluster key is the same byte again and again, and could be guessed: {NEW_KEY}")]
    Uniform,
}

/// What to do where a file has no key.
const NEW_KEY: &str = "copy the file from a node that has it; `head -c 32 /dev/urandom | base64` \
                       prints a new key, which every node then needs";

/// The cluster's secret.
#[derive(Clone)]
pub struct ClusterKey(Zeroizing<Vec<u8>>);

impl ClusterKey {
    /// Takes a key file's content, without white space at its ends.
    ///
    /// # Errors
    /// It is too short, or plainly no secret.
    pub fn from_bytes(content: &[u8]) -> Result<ClusterKey, KeyError> {
        let secret = content.trim_ascii();
        if secret.len() < LEAST_BYTES {
            return Err(KeyError::TooShort(secret.len()));
        }
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(KeyError::Uniform);
        }
        Ok(ClusterKey(Zeroizing::new(secret.to_vec())))
    }

    /// The key for one use: HMAC-SHA256 with SHA-256 over the label, a zero byte and the secret.
    /// Labels are words of this program, such as `cvip heartbeat`.
    ///
    /// # Panics
    /// If the label contains a zero byte.
    #[must_use]
    pub fn derive(&self, label: &str) -> MacKey {
        assert!(!label.contains('\0'), "a label is a word");
        let hash = Sha256::new().chain_update(label).chain_update([0]).chain_update(&*self.0);
        let key = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        MacKey(Hmac::new_from_slice(&*key).expect("HMAC takes keys of any length"))
    }
}

/// Takes the same time wherever two keys differ.
impl PartialEq for ClusterKey {
    fn eq(&self, other: &ClusterKey) -> bool {
        const LABEL: &str = "cvip key comparison";
        other.derive(LABEL).verifies(b"", &self.derive(LABEL).sign(b""))
    }
}

impl Eq for ClusterKey {}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// A key for message authentication codes (HMAC-SHA256, RFC 2104).
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// The code of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; MAC_BYTES] {
        self.0.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// Whether this is the message's code; takes the same time wherever it differs.
    #[must_use]
    pub fn verifies(&self, message: &[u8], code: &[u8]) -> bool {
        self.0.clone().chain_update(message).verify_slice(code).is_ok()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// Holds at compile time: all that a dropped key leaves behind is zeros. (An HMAC is two hashes.)
const _: () = {
    const fn wiped<T: ZeroizeOnDrop>() {}
    wiped::<Zeroizing<Vec<u8>>>();
    wiped::<Sha256>();
};

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key(content: &[u8]) -> ClusterKey {
        ClusterKey::from_bytes(content).unwrap()
    }

    #[test]
    fn white_space_at_the_ends_of_the_file_is_not_the_keys() {
        assert_eq!(key(SECRET), key(&[b" \n", SECRET, b"\r\n"].concat()));
        assert_ne!(key(SECRET), key(&[SECRET, b"x"].concat()));
        assert_ne!(key(SECRET), key(&SECRET.to_ascii_uppercase()));
    }

    #[test]
    fn what_is_no_secret_is_refused_with_what_to_do() {
        let error = ClusterKey::from_bytes(&SECRET[1..]).unwrap_err();
        assert_eq!(error, KeyError::TooShort(31));
        assert!(error.to_string().contains("/dev/urandom"));
        assert_eq!(ClusterKey::from_bytes(b"").unwrap_err(), KeyError::TooShort(0));
        assert_eq!(ClusterKey::from_bytes(&[b' '; 64]).unwrap_err(), KeyError::TooShort(0));
        assert_eq!(ClusterKey::from_bytes(&[0; 64]).unwrap_err(), KeyError::Uniform);
    }

    #[test]
    fn a_key_is_never_shown() {
        let shown = format!("{:?} {:?}", key(SECRET), key(SECRET).derive("a use"));
        assert_eq!(shown, "ClusterKey(..) MacKey(..)");
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let (one, other) = (key(SECRET).derive("one"), key(SECRET).derive("other"));
        let code = one.sign(b"message");
        assert!(one.verifies(b"message", &code));
        assert!(!one.verifies(b"massage", &code));
        assert!(!one.verifies(b"message", &code[1..]));
        assert!(!other.verifies(b"message", &code));
    }

    /// Computed by another program:
    /// `printf 'cvip heartbeat\0%s' SECRET | sha256sum` for the key, then
    /// `printf message | openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY`.
    #[test]
    fn codes_are_those_of_other_implementations() {
        let code = key(SECRET).derive("cvip heartbeat").sign(b"message");
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e6c02b4715ecb1d6089d19ba33ad74fd5d2cdb3afe2269c75470a2fd1df72a8d");
    }
}
