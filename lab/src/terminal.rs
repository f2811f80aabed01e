//! The caller's terminal, when the command is to have one: `cargo xtask lab -- bash`.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::frame::Terminal;
use crate::sys;

/// Whether all three of the caller's streams are terminals: a command whose output goes to a file should see a file.
pub(crate) fn is_complete() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The terminal's size, or a customary one.
pub(crate) fn size() -> Terminal {
    match sys::window_size(io::stdin().as_fd()) {
        Ok((rows, columns)) if rows > 0 && columns > 0 => Terminal { rows, columns },
        _ => Terminal { rows: 24, columns: 80 },
    }
}

/// The caller's terminal, passing every key on as it is; restored when this goes.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Prepares the caller's terminal for a command that is to have it.
    pub(crate) fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).context("cannot set the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
