//! Measuring: the same work done by Potstill's kernels and by Burn's own operations, in turns, on one device.
//!
//! Why in turns: a device's clock, its temperature and its other users change over a run; two paths that alternate see the
//! same of each. A time is that of one piece of work with a wait for the device at its end; what is said of it is the
//! median of the repeats and the distance between their quartiles.
//!
//! What is counted beside time, each in a pass of its own that is not timed
//! * dispatches: launches of compute kernels, ours and Burn's, as the runtime reports them before it sends them off.
//!   Copies between buffers are none. The CPU launches nothing.
//! * kept bytes: device memory in use after the forward pass, less what was in use before: output, graph and all that
//!   the backward pass will read. Only a runtime of wgpu tells.
//! * peak bytes: memory the runtime has reserved after the work, having given back before what it did not use. It
//!   reserves in pages, so this is what the device must have and not the sum of the tensors.

mod attention;
mod distillation_loss;
mod inference;
mod loader;
mod saf;
mod step;
mod stock;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Context, Result};
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

/// Whose operations do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
}

/// One path's way to do a piece of work.
struct Workload<'a> {
    path: Path,
    /// Does the whole work and returns what came of it, which is kept until the device is done: a lazy stream does not
    /// write what nobody holds.
    run: Box<dyn FnMut() -> Box<dyn Any> + 'a>,
    /// Does the forward pass and returns what holds its graph; none where there is no backward pass.
    hold: Option<Box<dyn FnMut() -> Box<dyn Any> + 'a>>,
}

/// What a piece of work amounts to, by its definition.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: Option<f64>,
    bytes: Option<f64>,
    samples: Option<usize>,
}

#[derive(Default)]
struct Launches(AtomicUsize);

impl LaunchObserver for Launches {
    fn launched(&self, _kernel: &'static str) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn wait(device: &Device) -> Result<()> {
    device.sync().context("the device failed")
}

/// Does a piece of work to its end.
fn done(run: &mut dyn FnMut() -> Box<dyn Any>, device: &Device) -> Result<()> {
    let held = run();
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

/// Measures `workloads` in turns.
fn measure(
    bench: &'static str,
    case: &Value,
    work: Work,
    device: &Device,
    repeats: Repeats,
    mut workloads: Vec<Workload>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for workload in &mut workloads {
        for _ in 0..repeats.warmup.max(1) {
            done(&mut workload.run, device)?;
        }
        let launches = Arc::new(Launches::default());
        let watching = LaunchObservation::new(launches.clone());
        done(&mut workload.run, device)?;
        drop(watching);
        let used = || device.memory_pool_usage().map(|usage| usage.bytes_in_use);
        let kept_bytes = match &mut workload.hold {
            Some(hold) => {
                let before = used();
                let held = hold();
                wait(device)?;
                let after = used();
                drop(held);
                before.zip(after).map(|(before, after)| after.saturating_sub(before))
            }
            None => None,
        };
        device.memory_cleanup();
        done(&mut workload.run, device)?;
        let usage = device.memory_pool_usage();
        rows.push(Row {
            bench,
            case: case.clone(),
            path: workload.path,
            median_ms: 0.0,
            spread_ms: 0.0,
            dispatches: usage.is_some().then(|| launches.0.load(Ordering::Relaxed)),
            kept_bytes,
            peak_bytes: usage.map(|usage| usage.bytes_reserved),
            gflop_per_s: None,
            gbyte_per_s: None,
            per_s: None,
        });
        device.memory_cleanup();
    }
    let mut times = vec![Vec::with_capacity(repeats.timed); workloads.len()];
    for _ in 0..repeats.timed.max(1) {
        for (workload, times) in workloads.iter_mut().zip(&mut times) {
            wait(device)?;
            let start = Instant::now();
            done(&mut workload.run, device)?;
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

/// Measures the ceiling of `device`; `large` for real hardware, not for a CPU or a software adapter.
///
/// # Errors
/// If the device fails.
pub fn ceiling(device: &Device, large: bool, repeats: Repeats) -> Result<Ceiling> {
    let device = &device.clone().inner();
    let side = if large { 4096 } else { 256 };
    let elements = if large { 1 << 27 } else { 1 << 22 };
    let time = |mut work: Box<dyn FnMut() -> Box<dyn Any>>| -> Result<f64> {
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
