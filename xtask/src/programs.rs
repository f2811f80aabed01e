//! The test programs of the workspace, built.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::build;

/// Builds the test programs that these words of cargo's choose; each name and file.
pub(crate) fn tests(which: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let output = build::cargo()
        .args(["test", "--no-run", "--message-format=json"])
        .args(which)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut programs = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line)?;
        let target = &message["target"];
        let is_test = target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"test".into()));
        let name = target["name"].as_str().unwrap_or_default();
        if is_test && let Some(executable) = message["executable"].as_str() {
            programs.push((name.to_owned(), executable.into()));
        }
    }
    programs.sort();
    ensure!(!programs.is_empty(), "no test programs were built");
    Ok(programs)
}
