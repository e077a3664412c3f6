//! One AdamW update of flat vectors (Loshchilov and Hutter, 2019).
//!
//! Why: it is a dozen element-wise operations on every parameter of the network. A lazy stream merges them; on the CPU each
//! is a pass of memory, and together they cost as much as the products of a small batch. In WGSL they are one dispatch, and
//! one before it where the gradient's norm is bounded; the norm is never read back.
//!
//! ```text
//! g ← g min(1, limit / (‖g‖ + 1e-6)) + λ p
//! m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²      p ← p - a m / (√(v / c) + ε) - d p
//! ```
//!
//! with the largest norm `limit`, the decay λ (`pull`) of Adam, the step size `a` (the learning rate over m's correction),
//! `c` v's correction, and `d` the decay of each number.

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, Shape, TensorMetadata};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::cpu::{self, Level, PARALLEL_ELEMENTS, Task, fma, fold2};
use super::launch::{ROW_REDUCE, Scalar, Shader, contiguous, launch, output, runs_wgsl, wgsl};

/// The numbers of one update.
#[derive(Clone, Copy, Debug)]
pub struct AdamWNumbers {
    /// Decay β₁ of the first moment.
    pub beta_1: f32,
    /// Decay β₂ of the second moment.
    pub beta_2: f32,
    /// ε in the denominator.
    pub epsilon: f32,
    /// The learning rate over `1 - β₁ᵗ`.
    pub step_size: f32,
    /// `1 - β₂ᵗ`.
    pub correction_2: f32,
    /// The learning rate times the weight decay.
    pub decay: f32,
    /// Weight decay as a part of the gradient (Kingma and Ba, 2015), after its norm is bounded.
    pub pull: f32,
    /// Largest norm of the gradient; infinity bounds nothing.
    pub limit: f32,
}

/// Parameters and both moments after one update by `gradient`; all are vectors of one length.
///
/// `decayed` is 1 where a parameter decays and 0 elsewhere. No gradients flow through an update.
pub fn adamw(
    [parameters, first, second]: [Tensor<1>; 3],
    gradient: Tensor<1>,
    decayed: Tensor<1>,
    numbers: AdamWNumbers,
) -> [Tensor<1>; 3] {
    let (parameters, first, second) = Dispatch::adamw_update(
        parameters.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        gradient.into_dispatch(),
        decayed.into_dispatch(),
        numbers.beta_1,
        numbers.beta_2,
        numbers.epsilon,
        numbers.step_size,
        numbers.correction_2,
        numbers.decay,
        numbers.pull,
        numbers.limit,
    );
    [parameters, first, second].map(Tensor::from_dispatch)
}

/// Three times the shape of the parameters, for the lazy stream.
#[cfg(feature = "fusion")]
#[expect(clippy::too_many_arguments, reason = "those of the operation")]
pub(super) fn specs(
    parameters: &TensorSpec,
    _first: &TensorSpec,
    _second: &TensorSpec,
    _gradient: &TensorSpec,
    _decayed: &TensorSpec,
    _beta_1: &f32,
    _beta_2: &f32,
    _epsilon: &f32,
    _step_size: &f32,
    _correction_2: &f32,
    _decay: &f32,
    _pull: &f32,
    _limit: &f32,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (parameters.clone(), parameters.clone(), parameters.clone())
}

/// Added to the norm before it divides.
const NORM_EPSILON: f32 = 1e-6;

// ---- Portable definition

/// The gradient with its norm at most `limit`.
fn clip<B: Backend>(gradient: FloatTensor<B>, limit: f32) -> FloatTensor<B> {
    if limit == f32::INFINITY {
        return gradient;
    }
    let square = B::float_sum(B::float_mul(gradient.clone(), gradient.clone()));
    let norm = B::float_add_scalar(B::float_sqrt(square), NORM_EPSILON.into());
    let factor = B::float_mul_scalar(B::float_recip(norm), limit.into());
    B::float_mul(gradient, B::float_clamp_max(factor, 1.0.into()))
}

pub(super) fn portable<B: Backend>(
    parameters: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    gradient: FloatTensor<B>,
    decayed: FloatTensor<B>,
    numbers: AdamWNumbers,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, limit } = numbers;
    let times = |tensor: FloatTensor<B>, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let mut gradient = clip::<B>(gradient, limit);
    if pull != 0.0 {
        gradient = B::float_add(gradient, B::float_mul(times(decayed.clone(), pull), parameters.clone()));
    }
    let square = B::float_mul(gradient.clone(), gradient.clone());
    let first = B::float_add(times(first, beta_1), times(gradient, 1.0 - beta_1));
    let second = B::float_add(times(second, beta_2), times(square, 1.0 - beta_2));
    let root = B::float_sqrt(B::float_div_scalar(second.clone(), correction_2.into()));
    let denominator = B::float_add_scalar(root, epsilon.into());
    let step = times(B::float_div(first.clone(), denominator), step_size);
    let decay = B::float_mul(parameters.clone(), times(decayed, decay));
    (B::float_sub(B::float_sub(parameters, step), decay), first, second)
}

// ---- CPU

/// Numbers of one task.
const CHUNK: usize = 8 * 1024;

/// Overwrites parameters and moments.
struct Update<'a> {
    parameters: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: &'a [f32],
    decayed: &'a [f32],
    /// What the gradient is multiplied by.
    factor: f32,
    numbers: AdamWNumbers,
}

/// The sum of squares.
struct Squares<'a>(&'a [f32]);

impl Task for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Level>(self) -> f32 {
        fold2(self.0, self.0, |x, y, sum| fma::<L>(x, y, sum))
    }
}

/// What scales the gradient to a norm of at most `limit`.
fn factor(gradient: &[f32], limit: f32) -> f32 {
    if limit == f32::INFINITY {
        return 1.0;
    }
    let mut sums = vec![0.0; gradient.len().div_ceil(CHUNK)];
    let parts = gradient.chunks(CHUNK).zip(&mut sums);
    cpu::for_each(parts, gradient.len() >= PARALLEL_ELEMENTS, |(part, sum)| *sum = cpu::run(Squares(part)));
    let norm = sums.iter().sum::<f32>().sqrt() + NORM_EPSILON;
    // A comparison, and not `min`, lets a NaN through.
    if limit / norm >= 1.0 { 1.0 } else { limit / norm }
}

impl Task for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay, pull, .. } = self.numbers;
        let inverse = 1.0 / correction_2;
        let moments = self.first.iter_mut().zip(self.second);
        for (((p, (m, v)), g), decayed) in self.parameters.iter_mut().zip(moments).zip(self.gradient).zip(self.decayed)
        {
            let g = self.factor * g + decayed * pull * *p;
            *m = fma::<L>(beta_1, *m, (1.0 - beta_1) * g);
            *v = fma::<L>(beta_2, *v, (1.0 - beta_2) * g * g);
            let step = step_size * *m / ((*v * inverse).sqrt() + epsilon);
            *p = *p - step - *p * (decayed * decay);
        }
    }
}

pub(super) fn flex(
    parameters: FloatTensor<Flex>,
    first: FloatTensor<Flex>,
    second: FloatTensor<Flex>,
    gradient: FloatTensor<Flex>,
    decayed: FloatTensor<Flex>,
    numbers: AdamWNumbers,
) -> (FloatTensor<Flex>, FloatTensor<Flex>, FloatTensor<Flex>) {
    let [parameters, first, second, gradient, decayed] =
        [parameters, first, second, gradient, decayed].map(cpu::contiguous);
    let real = [&parameters, &first, &second].iter().all(|tensor| cpu::numbers(tensor).is_some());
    let (true, Some(g), Some(d)) = (real, cpu::numbers(&gradient), cpu::numbers(&decayed)) else {
        return portable::<Flex>(parameters, first, second, gradient, decayed, numbers);
    };
    // Copied where another tensor shares the memory, as the network's own views of the parameters do.
    let [mut parameters, mut first, mut second] = [parameters, first, second].map(|mut tensor| {
        if cpu::exclusive(&mut tensor).is_none() {
            let shape = tensor.shape();
            tensor = cpu::tensor(cpu::numbers(&tensor).unwrap_or_default().to_vec(), shape);
        }
        tensor
    });
    if let (Some(p), Some(m), Some(v)) =
        (cpu::exclusive(&mut parameters), cpu::exclusive(&mut first), cpu::exclusive(&mut second))
    {
        let factor = factor(g, numbers.limit);
        let parallel = p.len() >= PARALLEL_ELEMENTS;
        let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
        let parts = p.chunks_mut(CHUNK).zip(moments).zip(g.chunks(CHUNK).zip(d.chunks(CHUNK)));
        cpu::for_each(parts, parallel, |((parameters, (first, second)), (gradient, decayed))| {
            cpu::run(Update { parameters, first, second, gradient, decayed, factor, numbers });
        });
    }
    (parameters, first, second)
}

// ---- WGSL

/// Invocations of a workgroup, and numbers of each.
const THREADS: usize = 256;
const EACH: usize = 16;

/// Workgroups over a vector.
fn groups(elements: usize) -> usize {
    elements.div_ceil(THREADS * EACH)
}

fn squares_shader() -> Shader {
    let texts = &[wgsl!("squares.wgsl"), ROW_REDUCE];
    Shader::new("squares", texts, THREADS).value("each", EACH).over_rows()
}

fn update_shader(clip: bool) -> Shader {
    const TEXT: &str = wgsl!("adamw.wgsl");
    // A function that is not called would still declare its workgroup memory.
    let texts: &[&str] = if clip { &[TEXT, ROW_REDUCE] } else { &[TEXT] };
    let shader = Shader::new("adamw", texts, THREADS).value("each", EACH).flag("clip", clip);
    if clip { shader.over_rows() } else { shader }
}

/// Every instance.
pub(super) fn shaders() -> Vec<Shader> {
    vec![squares_shader(), update_shader(false), update_shader(true)]
}

pub(super) fn wgsl(
    parameters: FloatTensor<CubeBackend>,
    first: FloatTensor<CubeBackend>,
    second: FloatTensor<CubeBackend>,
    gradient: FloatTensor<CubeBackend>,
    decayed: FloatTensor<CubeBackend>,
    numbers: AdamWNumbers,
) -> (FloatTensor<CubeBackend>, FloatTensor<CubeBackend>, FloatTensor<CubeBackend>) {
    if !runs_wgsl(true, &[&parameters, &first, &second, &gradient, &decayed]) {
        return portable::<CubeBackend>(parameters, first, second, gradient, decayed, numbers);
    }
    let [parameters, gradient, decayed] = [parameters, gradient, decayed].map(contiguous);
    // The moments are overwritten; where another tensor shares their memory, as both zeros do at the start, a copy is.
    let [first, second] = [first, second].map(|moment| {
        let moment = contiguous(moment);
        if moment.can_mut() { moment } else { moment.copy() }
    });
    let elements = parameters.meta.num_elements();
    let groups = groups(elements);
    let updated = output(&parameters, Shape::new([elements]));
    let partial = (numbers.limit != f32::INFINITY).then(|| {
        let partial = output(&parameters, [groups]);
        launch(squares_shader(), groups, &[&gradient, &partial], &[Scalar::Count(elements), Scalar::Count(groups)]);
        partial
    });
    let scalars = [
        Scalar::Count(elements),
        Scalar::Count(groups),
        Scalar::Real(numbers.beta_1),
        Scalar::Real(numbers.beta_2),
        Scalar::Real(numbers.epsilon),
        Scalar::Real(numbers.step_size),
        Scalar::Real(numbers.correction_2),
        Scalar::Real(numbers.decay),
        Scalar::Real(numbers.limit),
        Scalar::Real(numbers.pull),
    ];
    let mut buffers = vec![&parameters, &first, &second, &gradient, &decayed, &updated];
    buffers.extend(&partial);
    launch(update_shader(partial.is_some()), groups, &buffers, &scalars);
    (updated, first, second)
}
