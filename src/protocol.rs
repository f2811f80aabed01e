//! The one word that all modules share: a transport protocol that IPVS can balance.
//!
//! ```
//! use cvip::protocol::Protocol;
//!
//! assert_eq!("udp".parse(), Ok(Protocol::Udp));
//! assert_eq!(Protocol::Sctp.to_string(), "sctp");
//! assert!("icmp".parse::<Protocol>().is_err());
//! ```

use std::str::FromStr;

use serde::{Deserialize, Serialize};

named! {
    /// A transport protocol, as IPVS, cvip.conf and port flags name it.
    #[derive(
        Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
    )]
    #[serde(rename_all = "lowercase")]
    pub enum Protocol {
        /// TCP.
        #[default]
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

impl Protocol {
    /// The IP protocol number (`IPPROTO_*`, linux/in.h).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol of an IP protocol number; `None` for one that IPVS cannot balance.
    pub fn from_number(number: u16) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| u16::from(p.number()) == number)
    }
}

/// The word was none of `tcp`, `udp` and `sctp`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol `{0}`: it is one of tcp, udp, sctp")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(word: &str) -> Result<Self, UnknownProtocol> {
        Protocol::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(word))
            .ok_or_else(|| UnknownProtocol(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_known_by_its_name_in_any_case_and_by_its_number() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.name().to_uppercase().parse(), Ok(protocol));
            assert_eq!(Protocol::from_number(protocol.number().into()), Some(protocol));
        }
        assert!("icmp".parse::<Protocol>().is_err());
        assert_eq!(Protocol::from_number(1), None);
    }
}
