//! What is wrong with a command line.

use super::popt::Problem;

/// What is wrong with a command line; `Display` is the whole message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// No command where one must stand.
    #[error("Try `{program} -h' or '{program} --help' for more information.")]
    NoCommand {
        /// The program's name as it was called.
        program: String,
    },
    /// A word after the command is no option, or lacks or should lack its argument.
    #[error("{word}: {problem}")]
    Option {
        /// The word.
        word: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Anything else.
    #[error("{0}")]
    Illegal(String),
}

impl ArgumentError {
    /// The exit status: 255 where no sense could be made of the words, 2 where it could.
    pub fn status(&self) -> u8 {
        match self {
            ArgumentError::NoCommand { .. } | ArgumentError::Option { .. } => 255,
            ArgumentError::Illegal(_) => 2,
        }
    }

    /// Whether it ends a restore; an unknown option only fails its own line.
    pub fn ends_a_restore(&self) -> bool {
        !matches!(self, ArgumentError::Option { .. })
    }
}

/// The error that most of them are.
pub(super) fn error(message: impl Into<String>) -> ArgumentError {
    ArgumentError::Illegal(message.into())
}

/// The same as a result.
pub(super) fn illegal<T>(message: impl Into<String>) -> Result<T, ArgumentError> {
    Err(error(message))
}
