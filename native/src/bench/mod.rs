//! Measurements: Potstill's kernels and Burn's own operations do the same work, in turns, on one device.
//!
//! Why in turns: the clock of a device, its temperature and its other users change during a run. Two paths that alternate are
//! affected equally. A time is that of one piece of work, including the wait for the device at its end. The report has the median
//! of the repeats and the distance between their quartiles.
//!
//! Other counts, from passes that are not timed, with only one path's tensors on the device:
//! * dispatches: launches of compute kernels, Potstill's and Burn's, as the runtime reports them before it submits them. Copies
//!   between buffers do not count. The CPU launches nothing.
//! * kept bytes: device memory in use after the forward pass, minus the memory in use before. This is the output, the graph, and
//!   everything that the backward pass will read. Only wgpu's runtime reports it.
//! * peak bytes: memory that the runtime has reserved after the work. Before the work it gave back what it did not use. It
//!   reserves whole pages, so this is the memory that the device must have, and not the sum of the tensors.
//!
//! A case that does not fit is refused before anything is allocated: [`Setting::admit`].

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
    /// Repeats before the measurement, for compilation, tuning and allocation.
    pub warmup: usize,
    /// Repeats that are timed.
    pub timed: usize,
}

/// The settings of every benchmark.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The device, without gradients.
    pub device: Device,
    /// The number of repeats.
    pub repeats: Repeats,
    /// The only path to measure; `None` for both.
    pub only: Option<Path>,
    /// Whether to name the launched kernels.
    pub kernels: bool,
    /// The largest number of bytes that a case may take.
    pub memory: u64,
}

impl Setting {
    /// Refuses a case with about `numbers` `f32` numbers if it does not fit.
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

/// The operations that do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// Potstill's.
    Potstill,
    /// Burn's own.
    Stock,
}

/// The figures of one path for one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The benchmark.
    pub bench: &'static str,
    /// Its sizes.
    pub case: Value,
    /// The path.
    pub path: Path,
    /// The median time of one piece of work.
    pub median_ms: f64,
    /// The distance between the quartiles of the times.
    pub spread_ms: f64,
    /// Kernel launches; `None` if the device launches nothing.
    pub dispatches: Option<usize>,
    /// The launches of the forward pass, if there is also a backward pass.
    pub forward_dispatches: Option<usize>,
    /// Memory that is kept from the forward to the backward pass.
    pub kept_bytes: Option<u64>,
    /// Reserved memory.
    pub peak_bytes: Option<u64>,
    /// Floating-point operations of the definition per second. Operations that a path repeats do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gflop_per_s: Option<f64>,
    /// Bytes per second that the definition must read and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gbyte_per_s: Option<f64>,
    /// Samples per second, if the work has samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_s: Option<f64>,
    /// The number of launches of each kernel, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
}

/// A piece of work. It returns its results, which are kept until the device has finished. A lazy stream does not compute results
/// that nothing holds.
type Pass<'a> = Box<dyn FnMut() -> Box<dyn Any> + 'a>;

/// One path, ready to run.
struct Passes<'a> {
    /// The whole work.
    run: Pass<'a>,
    /// The forward pass, whose result holds its graph; `None` if there is no backward pass.
    hold: Option<Pass<'a>>,
}

/// A piece of work on one path.
struct Workload<'a> {
    path: Path,
    /// Makes its tensors. They are dropped with the passes, so that the memory of each path is counted alone.
    start: Box<dyn Fn() -> Result<Passes<'a>> + 'a>,
}

/// The amount of work, by the definition.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: Option<f64>,
    bytes: Option<f64>,
    samples: Option<usize>,
}

/// The number of launches of each kernel, by its name without parameters.
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

/// Runs a piece of work and waits for its end.
fn done(pass: &mut Pass, device: &Device) -> Result<()> {
    let held = pass();
    wait(device)?;
    drop(held);
    Ok(())
}

/// The median, and the distance between the quartiles.
fn median_and_spread(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.75) - at(0.25))
}

/// The result of `pass`, and the kernels that were launched for it. If it has run before, tuning is finished.
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

/// All figures of a row except the times. Leaves nothing on the device.
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

/// Measures `workloads`: their launches and memory one by one, and their times in turns.
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

/// The highest speed that the device reaches: floating-point operations per second in a large matrix product, and bytes per
/// second in a large copy. Both are in `f32` and use Burn's own kernels. Large means that it takes tens of milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceiling {
    /// Side of the square matrices.
    pub side: usize,
    /// The speed of the product, in 10⁹ floating-point operations per second.
    pub gflop_per_s: f64,
    /// Bytes in the copied tensor.
    pub copied_bytes: usize,
    /// The speed of the copy, in 10⁹ bytes per second, read and written.
    pub gbyte_per_s: f64,
}

/// Measures the ceiling of a device. `large` is for real GPUs, not for a CPU or a software adapter.
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

/// Numbers from a normal distribution, with gradients if `tracked`.
fn random<const D: usize>(shape: [usize; D], device: &Device, tracked: bool) -> Tensor<D> {
    let x = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
    if tracked { x.require_grad() } else { x }
}
