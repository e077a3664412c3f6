//! `potstill bench`: how long the kernels take on this machine's device, beside Burn's own operations.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use serde_json::json;

use crate::bench::{self, Path, Repeats, Row, Setting, Transformer, written};
use crate::cli::{Bench, BenchNetwork, BenchWhat};
use crate::device::{self, Chosen, DeviceChoice};
use crate::error::{Failure, Result};
use crate::memory;
use crate::progress::say;

/// Bytes that no GPU has; none says how much it has.
const NO_GPU: u64 = 1 << 40;

/// Runs what was asked for and prints each case: Potstill's path, Burn's own, and the one by the other.
///
/// # Errors
/// Exit code 2 if the sizes make no sense or do not fit, 1 if the device fails.
pub fn run(options: &Bench, choice: &DeviceChoice) -> Result<()> {
    let chosen = device::choose(choice)?;
    let setting = Setting {
        device: chosen.device.clone(),
        repeats: Repeats { warmup: options.warmup.get(), timed: options.repeats.get() },
        only: options.only,
        kernels: options.kernels,
        memory: memory::free().filter(|_| !chosen.info.kind.is_gpu()).unwrap_or(NO_GPU),
    };
    // Burn panics in the operation for which a device has no memory left: a line says so, and not the place in Burn.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| measure(options, &chosen, &setting)));
    panic::set_hook(hook);
    outcome.unwrap_or_else(|reason| Err(Failure::work(format!("the device failed: {}", said(reason.as_ref())))))
}

/// What a panic said.
fn said(reason: &(dyn Any + Send)) -> &str {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}

fn measure(options: &Bench, chosen: &Chosen, setting: &Setting) -> Result<()> {
    let print = |rows: Vec<Row>| match options.json {
        true => rows.iter().try_for_each(|row| {
            say(serde_json::to_string(row).map_err(Failure::work)?);
            Ok(())
        }),
        false => {
            print_case(&rows);
            Ok(())
        }
    };
    if !options.json {
        say(format_args!("device   {chosen}"));
    }
    if !matches!(options.what, BenchWhat::Loader { .. }) {
        print_ceiling(options, chosen, setting)?;
    }
    match &options.what {
        BenchWhat::Attention { cases } => {
            cases.iter().try_for_each(|case| bench::attention(setting, case.0).and_then(print))
        }
        BenchWhat::DistillationLoss { cases } => {
            cases.iter().try_for_each(|case| bench::distillation_loss(setting, case.0).and_then(print))
        }
        BenchWhat::Saf { cases } => cases.iter().try_for_each(|case| bench::saf(setting, case.0).and_then(print)),
        BenchWhat::Step { batches, objectives, network, teacher_width, teacher_depth, teacher_heads } => {
            let student = transformer(network);
            let (width, depth, heads) = (*teacher_width, *teacher_depth, *teacher_heads);
            let teacher = Transformer { width, depth, heads, ..student };
            batches.iter().try_for_each(|batch| {
                let one = |name: &String| bench::step(setting, student, teacher, batch.get(), name).and_then(print);
                objectives.iter().try_for_each(one)
            })
        }
        BenchWhat::Inference { batches, network } => batches
            .iter()
            .try_for_each(|batch| bench::inference(setting, transformer(network), batch.get()).and_then(print)),
        BenchWhat::Loader { batches, augment } => {
            batches.iter().try_for_each(|batch| bench::loader(setting, batch.get(), *augment).and_then(print))
        }
    }
}

/// What the device reaches at its best, to hold the rows against.
fn print_ceiling(options: &Bench, chosen: &Chosen, setting: &Setting) -> Result<()> {
    let ceiling = bench::ceiling(setting, chosen.info.kind.is_gpu())?;
    match options.json {
        true => say(json!({ "bench": "ceiling", "device": chosen.info, "ceiling": ceiling })),
        false => say(format_args!(
            "ceiling  {} GFLOP/s (matrix product of side {}), {} GB/s (copy of {} MiB)",
            short(ceiling.gflop_per_s),
            ceiling.side,
            short(ceiling.gbyte_per_s),
            ceiling.copied_bytes >> 20
        )),
    }
    Ok(())
}

fn transformer(network: &BenchNetwork) -> Transformer {
    let BenchNetwork { image, patch, channels, classes, width, depth, heads, mean_pool } = *network;
    Transformer { image, patch, channels, classes, width, depth, heads, mean_pool }
}

/// A number with three figures that count.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    format!("{value:.*}", (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize)
}

/// The case, a line a path, and what ours takes of what Burn's own takes.
fn print_case(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    say(format_args!("\n{}  {}", first.bench, written(&first.case)));
    for row in rows {
        say(line(row));
        row.kernels.iter().flatten().for_each(|(kernel, count)| say(format_args!("  {count:>15}  {kernel}")));
    }
    if let [ours, stock] = rows {
        say(format_args!("  ratio     {}", ratios(ours, stock)));
    }
}

fn line(row: &Row) -> String {
    let name = match row.path {
        Path::Potstill => "potstill",
        Path::Stock => "stock",
    };
    let mut line = format!("  {name:8}  {:>8} ms ± {:<7}", short(row.median_ms), short(row.spread_ms));
    if let Some(dispatches) = row.dispatches {
        line += &format!("  dispatches {dispatches:>5}");
    }
    if let Some(forward) = row.forward_dispatches {
        line += &format!(" ({forward} forward)");
    }
    for (what, bytes) in [("kept", row.kept_bytes), ("peak", row.peak_bytes)] {
        if let Some(bytes) = bytes {
            line += &format!("  {what} {} MiB", short(bytes as f64 / f64::from(1 << 20)));
        }
    }
    for (rate, unit) in [(row.gflop_per_s, "GFLOP/s"), (row.gbyte_per_s, "GB/s"), (row.per_s, "samples/s")] {
        if let Some(rate) = rate {
            line += &format!("  {} {unit}", short(rate));
        }
    }
    line
}

fn ratios(ours: &Row, stock: &Row) -> String {
    let counts = |row: &Row| [row.dispatches.map(|count| count as u64), row.kept_bytes, row.peak_bytes];
    let mut text = format!("{:.2} of the time", ours.median_ms / stock.median_ms);
    for ((ours, stock), what) in counts(ours).into_iter().zip(counts(stock)).zip(["dispatches", "kept", "peak"]) {
        if let (Some(ours), Some(stock @ 1..)) = (ours, stock) {
            text += &format!(", {:.2} of the {what}", ours as f64 / stock as f64);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_figures() {
        for (value, text) in [(1234.5, "1234"), (87.66, "87.7"), (1.0, "1.00"), (0.0312, "0.0312"), (0.0, "0")] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let reason = panic::catch_unwind(|| panic!("no memory for {}", 3)).expect_err("it panics");
        assert_eq!(said(reason.as_ref()), "no memory for 3");
    }
}
