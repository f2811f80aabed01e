//! `cargo xtask simulate --kernel`: the test program `model` in the lab, for as many steps as are
//! asked for, with what it says as it goes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use cvip_lab::{KernelChoice, Lab, etcd};

use crate::build::{self, Profile};
use crate::programs;

/// A step takes no longer than this: a burst of one step that settles at the last moment.
const STEP_WITHIN: Duration = Duration::from_secs(120);

/// Runs it: 0 if the kernel had the model's table after each burst.
pub(super) fn run(kernel: KernelChoice, seed: Option<u64>, steps: u64) -> Result<ExitCode> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = seed.unwrap_or_else(|| clock.map_or(1, |since| since.as_secs()));
    let folder = build::programs(Profile::Quick)?;
    let built = programs::tests(&["--package", "cvip-simulation", "--test", "model"])?;
    let (_, program): &(String, PathBuf) = built.first().context("the test was not built")?;
    println!("seed {seed}, {steps} steps: again with --kernel --seed {seed} --steps {steps}");
    let status = Lab::new(kernel)?
        .packages(etcd::PACKAGES)
        .env("CVIP_TEST_PROGRAMS", folder)
        .env("CVIP_MODEL_SEED", seed.to_string())
        .env("CVIP_MODEL_STEPS", steps.to_string())
        .timeout(STEP_WITHIN.saturating_mul(u32::try_from(steps)?))
        .run(&[program.as_os_str(), "--nocapture".as_ref()])?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
