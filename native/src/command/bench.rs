//! `potstill bench`: how long the kernels take on this machine's device, beside Burn's own operations.

use burn::tensor::Device;
use serde_json::json;

use crate::bench::{self, Repeats, Row, Transformer};
use crate::cli::{Bench, BenchNetwork, BenchWhat};
use crate::device::{self, DeviceChoice};
use crate::error::Result;
use crate::progress::say;

/// Runs what was asked for and prints two rows a case: first Potstill's, then Burn's own.
///
/// # Errors
/// Exit code 2 if the sizes make no sense, 1 if the device fails.
pub fn run(options: &Bench, choice: &DeviceChoice) -> Result<()> {
    let chosen = device::choose(choice)?;
    let device = &chosen.device;
    let repeats = Repeats { warmup: options.warmup, timed: options.repeats };
    let print = |rows: Vec<Row>| {
        for row in rows {
            match options.json {
                true => say(json!(row)),
                false => say(line(&row)),
            }
        }
    };
    if !options.json {
        say(format_args!("device   {chosen}"));
    }
    match &options.what {
        BenchWhat::Loader { batches, augment } => {
            for batch in batches {
                print(bench::loader(repeats, *batch, *augment)?);
            }
            return Ok(());
        }
        _ => print_ceiling(options, device, chosen.info.kind.is_gpu(), repeats)?,
    }
    match &options.what {
        BenchWhat::Attention { cases } => {
            cases.iter().try_for_each(|case| bench::attention(device, repeats, case.0).map(print))
        }
        BenchWhat::DistillationLoss { cases } => {
            cases.iter().try_for_each(|case| bench::distillation_loss(device, repeats, case.0).map(print))
        }
        BenchWhat::Saf { cases } => cases.iter().try_for_each(|case| bench::saf(device, repeats, case.0).map(print)),
        BenchWhat::Step { batches, objectives, network, teacher_width, teacher_depth, teacher_heads } => {
            let student = transformer(network);
            let (width, depth, heads) = (*teacher_width, *teacher_depth, *teacher_heads);
            let teacher = Transformer { width, depth, heads, ..student };
            for batch in batches {
                for objective in objectives {
                    print(bench::step(device, repeats, student, teacher, *batch, objective)?);
                }
            }
            Ok(())
        }
        BenchWhat::Inference { batches, network } => {
            batches.iter().try_for_each(|b| bench::inference(device, repeats, transformer(network), *b).map(print))
        }
        BenchWhat::Loader { .. } => Ok(()),
    }
}

/// What the device reaches at its best, to hold the rows against.
fn print_ceiling(options: &Bench, device: &Device, real_gpu: bool, repeats: Repeats) -> Result<()> {
    let ceiling = bench::ceiling(device, real_gpu, repeats)?;
    match options.json {
        true => say(json!({ "bench": "ceiling", "ceiling": ceiling })),
        false => say(format_args!(
            "ceiling  {:.1} GFLOP/s (matrix product of side {}), {:.1} GB/s (copy of {} MiB)",
            ceiling.gflop_per_s,
            ceiling.side,
            ceiling.gbyte_per_s,
            ceiling.copied_bytes >> 20
        )),
    }
    Ok(())
}

fn transformer(network: &BenchNetwork) -> Transformer {
    let BenchNetwork { image, patch, channels, classes, width, depth, heads, mean_pool } = *network;
    Transformer { image, patch, channels, classes, width, depth, heads, mean_pool }
}

fn line(row: &Row) -> String {
    let number = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mebibytes = |bytes: Option<u64>| number(bytes.map(|bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))));
    let mut line = format!(
        "{:17} {:8} {:10.3} ms ± {:7.3}  dispatches {:>5}  kept {:>8} MiB  peak {:>8} MiB",
        row.bench,
        json!(row.path).as_str().unwrap_or_default(),
        row.median_ms,
        row.spread_ms,
        number(row.dispatches.map(|count| count.to_string())),
        mebibytes(row.kept_bytes),
        mebibytes(row.peak_bytes),
    );
    for (rate, unit) in [(row.gflop_per_s, "GFLOP/s"), (row.gbyte_per_s, "GB/s"), (row.per_s, "samples/s")] {
        if let Some(rate) = rate {
            line += &format!("  {rate:.1} {unit}");
        }
    }
    format!("{line}  {}", row.case)
}
