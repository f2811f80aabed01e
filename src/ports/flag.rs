//! One flag: a range of ports with a weight.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// One flagged range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawFlag")]
pub struct PortFlag {
    /// Transport protocol.
    pub protocol: Protocol,
    /// First port, 1 to `end`.
    pub start: u16,
    /// Last port, inclusive.
    pub end: u16,
    /// Weight of a destination on these ports, 0 (quiesced) to 65535.
    pub weight: u16,
}

/// What a file or a record says, before it is checked.
#[derive(Deserialize)]
struct RawFlag {
    protocol: Protocol,
    start: u16,
    end: u16,
    weight: u16,
}

impl TryFrom<RawFlag> for PortFlag {
    type Error = FlagError;

    fn try_from(raw: RawFlag) -> Result<PortFlag, FlagError> {
        PortFlag::new(raw.protocol, raw.start.into(), raw.end.into(), raw.weight.into())
    }
}

/// Why a flag cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// A port outside 1 to 65535.
    #[error("port {0} is outside 1 to 65535")]
    Port(i64),
    /// A weight outside 0 to 65535.
    #[error("weight {0} is outside 0 to 65535")]
    Weight(i64),
    /// Start above end.
    #[error("start port {start} is above end port {end}")]
    Order {
        /// The start that was given.
        start: u16,
        /// The end that was given.
        end: u16,
    },
}

impl PortFlag {
    /// A flag from numbers as a user gives them.
    ///
    /// # Errors
    /// A port outside 1 to 65535, a weight outside 0 to 65535, or start above end.
    pub fn new(
        protocol: Protocol,
        start: i64,
        end: i64,
        weight: i64,
    ) -> Result<PortFlag, FlagError> {
        let (start, end) = port_range(start, end)?;
        let weight = u16::try_from(weight).map_err(|_| FlagError::Weight(weight))?;
        Ok(PortFlag { protocol, start, end, weight })
    }

    /// True if the flag covers this port.
    pub fn covers(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.start..=self.end).contains(&port)
    }

    /// True if it flags one port only.
    pub fn is_single(&self) -> bool {
        self.start == self.end
    }
}

/// A range of ports from numbers as a user gives them.
///
/// # Errors
/// A port outside 1 to 65535, or start above end.
pub fn port_range(start: i64, end: i64) -> Result<(u16, u16), FlagError> {
    let port = |number: i64| match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(FlagError::Port(number)),
    };
    let (start, end) = (port(start)?, port(end)?);
    if start > end {
        return Err(FlagError::Order { start, end });
    }
    Ok((start, end))
}

impl fmt::Display for PortFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.start)?;
        if !self.is_single() {
            write!(f, "-{}", self.end)?;
        }
        write!(f, " weight {}", self.weight)
    }
}
