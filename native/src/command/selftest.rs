//! `potstill selftest`: every operation on this machine's device, forward and backward, against its portable definition.

use burn::cubecl::future::block_on;
use potstill_core::op::{Check, cases, runs_wgsl, selftest};
use serde_json::json;

use crate::cli::Selftest;
use crate::device::{self, DeviceChoice};
use crate::error::{Failure, Result};
use crate::progress::say;

/// Runs the checks and prints each.
///
/// # Errors
/// Exit code 1 if a check failed.
pub fn run(options: &Selftest, choice: &DeviceChoice) -> Result<()> {
    let chosen = device::choose(choice)?;
    if !options.json {
        say(format_args!("device   {chosen}"));
    }
    let wgsl = block_on(runs_wgsl(&chosen.device));
    let checks = block_on(selftest(&chosen.device, cases()));
    let failed = checks.iter().filter(|check| !check.passed).count();
    let passed = checks.len() - failed;
    if options.json {
        say(json!({ "device": chosen.info, "wgsl": wgsl, "checks": checks, "passed": passed, "failed": failed }));
    } else {
        say(format_args!("kernels  {}", if wgsl { "as WGSL" } else { "as their definitions or CPU loops" }));
        checks.iter().for_each(|check| say(line(check)));
        say(format_args!("{passed} passed, {failed} failed"));
    }
    match failed {
        0 => Ok(()),
        _ => {
            let count = checks.len();
            Err(Failure::work(format!("{failed} of {count} checks failed on {}; use --device cpu", chosen.info.name)))
        }
    }
}

fn line(check: &Check) -> String {
    let Check { kernel, case, forward_error, gradient_error, passed, detail } = check;
    let verdict = if *passed { "ok  " } else { "FAIL" };
    let errors = format!("forward {forward_error:8.1e}, gradient {gradient_error:8.1e}");
    let detail = if detail.is_empty() { String::new() } else { format!("; {detail}") };
    format!("{verdict}  {kernel:18}  {errors}  {case}{detail}")
}
