//! Measuring: the same work done by Potstill's kernels and by Burn's own operations, in turns, on one device.
//!
//! Why in turns: a device's clock, its temperature and its other users change over a run; two paths that alternate see the
//! same of each. A time is that of one piece of work with a wait for the device at its end; what is said of it is the
//! median of the repeats and the distance between their quartiles.
//!
//! What is counted beside time, with one path's tensors alone on the device and in passes that are not timed
//! * dispatches: launches of compute kernels, ours and Burn's, as the runtime reports them before it sends them off.
//!   Copies between buffers are none. The CPU launches nothing.
//! * kept bytes: device memory in use after the forward pass, less what was in use before: output, graph and all that
//!   the backward pass will read. Only a runtime of wgpu tells.
//! * peak bytes: memory the runtime has reserved after the work, having given back before what it did not use. It
//!   reserves in pages, so this is what the device must have and not the sum of the tensors.
//!
//! A case that cannot fit is refused before anything is allocated: [`Setting::admit`].

mod attention;
mod distillation_loss;
mod inference;
mod loader;
mod saf;
mod step;
mod stock;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::cubecl::config::{TypeNameFormatLevel, type_name_format};
use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::tensor::{Device, Distribution, Tensor};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Context, Failure, Result};
pub use attention::attention;
pub use distillation_loss::distillation_loss;
pub use inference::inference;
pub use loader::loader;
pub use saf::saf;
pub use step::{Transformer, step};

/// How often each piece of work is done.
#[derive(Clone, Copy, Debug)]
pub struct Repeats {
    /// Before anything is measured: compilation, tuning, allocation.
    pub warmup: usize,
    /// Timed.
    pub timed: usize,
}

/// What every benchmark is run with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it runs on, without gradients.
    pub device: Device,
    /// How often.
    pub repeats: Repeats,
    /// The one path that is measured; both where there is none.
    pub only: Option<Path>,
    /// Whether the kernels that are launched are named.
    pub kernels: bool,
    /// Most bytes that a case may take.
    pub memory: u64,
}

impl Setting {
    /// Refuses a case that would take about `numbers` numbers of `f32` and so does not fit.
    fn admit(&self, case: &Value, numbers: f64) -> Result<()> {
        let bytes = numbers * size_of::<f32>() as f64;
        if bytes <= self.memory as f64 {
            return Ok(());
        }
        let gibibytes = |bytes: f64| bytes / f64::from(1 << 30);
        Err(Failure::usage(format!(
            "{}: this takes about {:.1} GiB, and {:.1} GiB are free; take smaller sizes",
            written(case),
            gibibytes(bytes),
            gibibytes(self.memory as f64)
        )))
    }
}

/// A case in words: `batch 64, classes 10`.
pub fn written(case: &Value) -> String {
    let Some(sizes) = case.as_object() else { return case.to_string() };
    let size = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{} {text}", name.replace('_', " ")),
        Value::Object(_) => format!("{} ({})", name.replace('_', " "), written(value)),
        other => format!("{} {other}", name.replace('_', " ")),
    };
    sizes.iter().map(size).collect::<Vec<_>>().join(", ")
}

/// Whose operations do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// This project's.
    Potstill,
    /// Burn's own, composed.
    Stock,
}

/// What one path took for one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The benchmark.
    pub bench: &'static str,
    /// Its sizes.
    pub case: Value,
    /// Whose operations.
    pub path: Path,
    /// Median time of one piece of work.
    pub median_ms: f64,
    /// Distance between the quartiles of the times.
    pub spread_ms: f64,
    /// Kernel launches; none where the device launches nothing.
    pub dispatches: Option<usize>,
    /// Those of the forward pass, where there is a backward pass too.
    pub forward_dispatches: Option<usize>,
    /// Memory held from the forward to the backward pass.
    pub kept_bytes: Option<u64>,
    /// Memory reserved.
    pub peak_bytes: Option<u64>,
    /// Floating-point operations of the definition, whatever a path computes again, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflop_per_s: Option<f64>,
    /// Bytes that the definition must read and write, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gbyte_per_s: Option<f64>,
    /// Samples a second, where the work has samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_s: Option<f64>,
    /// How often each kernel was launched, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
}

/// A piece of work: it returns what came of it, which is kept until the device is done. A lazy stream does not write what
/// nobody holds.
type Pass<'a> = Box<dyn FnMut() -> Box<dyn Any> + 'a>;

/// One path, ready to work.
struct Passes<'a> {
    /// The whole work.
    run: Pass<'a>,
    /// The forward pass, whose result holds its graph; none where there is no backward pass.
    hold: Option<Pass<'a>>,
}

/// One path's way to do a piece of work.
struct Workload<'a> {
    path: Path,
    /// Makes its tensors. Dropped with the passes, so that each path's memory is counted alone.
    start: Box<dyn Fn() -> Result<Passes<'a>> + 'a>,
}

/// What a piece of work amounts to, by its definition.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: Option<f64>,
    bytes: Option<f64>,
    samples: Option<usize>,
}

/// How often each kernel was launched, by its name without parameters.
pub type Kernels = BTreeMap<String, usize>;

#[derive(Default)]
struct Launches(Mutex<BTreeMap<&'static str, usize>>);

impl LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kernel).or_default() += 1;
    }
}

fn wait(device: &Device) -> Result<()> {
    device.sync().context("the device failed")
}

/// Does a piece of work to its end.
fn done(pass: &mut Pass, device: &Device) -> Result<()> {
    let held = pass();
    wait(device)?;
    drop(held);
    Ok(())
}

/// Median and distance between the quartiles.
fn median_and_spread(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.75) - at(0.25))
}

/// What `pass` returns, and the kernels that were launched for it; tuning is over if it has run before.
fn launches(pass: &mut Pass, device: &Device) -> Result<(Box<dyn Any>, Kernels)> {
    let launches = Arc::new(Launches::default());
    let watching = LaunchObservation::new(launches.clone());
    let held = pass();
    wait(device)?;
    drop(watching);
    let mut kernels = Kernels::new();
    for (name, count) in &*launches.0.lock().unwrap_or_else(PoisonError::into_inner) {
        *kernels.entry(type_name_format(name, TypeNameFormatLevel::Short)).or_default() += count;
    }
    Ok((held, kernels))
}

/// Everything of a row but its times. Leaves nothing on the device.
fn count(bench: &'static str, case: &Value, workload: &Workload, setting: &Setting) -> Result<Row> {
    let device = &setting.device;
    let mut passes = (workload.start)()?;
    for _ in 0..setting.repeats.warmup.max(1) {
        done(&mut passes.run, device)?;
    }
    let used = || device.memory_pool_usage().map(|usage| usage.bytes_in_use);
    let (held, kernels) = launches(&mut passes.run, device)?;
    drop(held);
    let (mut forward_dispatches, mut kept_bytes) = (None, None);
    if let Some(hold) = &mut passes.hold {
        // Frees what the last pass left behind, and compiles what a forward pass alone is merged into.
        done(hold, device)?;
        let before = used();
        let (held, forward) = launches(hold, device)?;
        kept_bytes = before.zip(used()).map(|(before, after)| after.saturating_sub(before));
        forward_dispatches = Some(forward.values().sum());
        drop(held);
    }
    wait(device)?;
    device.memory_cleanup();
    done(&mut passes.run, device)?;
    let usage = device.memory_pool_usage();
    drop(passes);
    wait(device)?;
    device.memory_cleanup();
    Ok(Row {
        bench,
        case: case.clone(),
        path: workload.path,
        median_ms: 0.0,
        spread_ms: 0.0,
        dispatches: usage.is_some().then(|| kernels.values().sum()),
        forward_dispatches: forward_dispatches.filter(|_| usage.is_some()),
        kept_bytes,
        peak_bytes: usage.map(|usage| usage.bytes_reserved),
        gflop_per_s: None,
        gbyte_per_s: None,
        per_s: None,
        kernels: setting.kernels.then_some(kernels),
    })
}

/// Measures `workloads`: what they launch and keep one by one, their times in turns.
fn measure(
    bench: &'static str,
    case: &Value,
    work: Work,
    setting: &Setting,
    mut workloads: Vec<Workload>,
) -> Result<Vec<Row>> {
    let (device, repeats) = (&setting.device, setting.repeats);
    workloads.retain(|workload| setting.only.is_none_or(|only| only == workload.path));
    if workloads.is_empty() {
        return Err(Failure::usage(format!("{bench} has no such path to measure alone; leave out --only")));
    }
    let mut rows =
        workloads.iter().map(|workload| count(bench, case, workload, setting)).collect::<Result<Vec<_>>>()?;
    let mut paths = workloads.iter().map(|workload| (workload.start)()).collect::<Result<Vec<_>>>()?;
    for passes in &mut paths {
        done(&mut passes.run, device)?;
    }
    let mut times = vec![Vec::with_capacity(repeats.timed); paths.len()];
    for _ in 0..repeats.timed.max(1) {
        for (passes, times) in paths.iter_mut().zip(&mut times) {
            wait(device)?;
            let start = Instant::now();
            done(&mut passes.run, device)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    for (row, times) in rows.iter_mut().zip(&mut times) {
        (row.median_ms, row.spread_ms) = median_and_spread(times);
        let per_second = |amount: f64| amount / (row.median_ms / 1e3);
        row.gflop_per_s = work.flops.map(|flops| per_second(flops) / 1e9);
        row.gbyte_per_s = work.bytes.map(|bytes| per_second(bytes) / 1e9);
        row.per_s = work.samples.map(|samples| per_second(samples as f64));
    }
    Ok(rows)
}

/// What the device reaches at its best: floating-point operations a second of a large matrix product and bytes a second
/// of a large copy, both in `f32` and by Burn's own kernels. Large is what takes tens of milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Side of the square matrices.
    pub side: usize,
    /// Of the product, in 10⁹ floating-point operations a second.
    pub gflop_per_s: f64,
    /// Bytes of the tensor that is copied.
    pub copied_bytes: usize,
    /// Of the copy, read and written, in 10⁹ bytes a second.
    pub gbyte_per_s: f64,
}

/// Measures the ceiling of a device; `large` for real hardware, not for a CPU or a software adapter.
///
/// # Errors
/// If the device fails.
pub fn ceiling(setting: &Setting, large: bool) -> Result<Ceiling> {
    let (device, repeats) = (&setting.device, setting.repeats);
    let side = if large { 4096 } else { 256 };
    let elements = if large { 1 << 27 } else { 1 << 22 };
    let time = |mut work: Pass| -> Result<f64> {
        for _ in 0..repeats.warmup.max(1) {
            done(&mut work, device)?;
        }
        let mut times = Vec::new();
        for _ in 0..repeats.timed.max(1) {
            wait(device)?;
            let start = Instant::now();
            done(&mut work, device)?;
            times.push(start.elapsed().as_secs_f64());
        }
        Ok(median_and_spread(&mut times).0)
    };
    let matrix = || Tensor::<2>::random([side, side], Distribution::Default, device);
    let (a, b) = (matrix(), matrix());
    let product = time(Box::new(move || Box::new(a.clone().matmul(b.clone()))))?;
    let vector = Tensor::<1>::random([elements], Distribution::Default, device);
    let copied_bytes = elements * size_of::<f32>();
    // Negation reads and writes each number once, and unlike a clone it does not share the memory.
    let copy = time(Box::new(move || Box::new(vector.clone().neg())))?;
    Ok(Ceiling {
        side,
        gflop_per_s: 2.0 * (side as f64).powi(3) / product / 1e9,
        copied_bytes,
        gbyte_per_s: 2.0 * copied_bytes as f64 / copy / 1e9,
    })
}

/// Numbers of a normal distribution, with gradients if `tracked`.
fn random<const D: usize>(shape: [usize; D], device: &Device, tracked: bool) -> Tensor<D> {
    let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
    if tracked { x.require_grad() } else { x }
}
