//! One AdamW update of flat vectors (Loshchilov and Hutter, 2019).
//!
//! Why: it is a dozen element-wise operations on every parameter of the network. A lazy stream merges them; on the CPU each
//! is a pass of memory, and together they cost as much as the products of a small batch.
//!
//! ```text
//! m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²      p ← p - a m / (√(v / c) + ε) - d p
//! ```
//!
//! with the step size `a` (the learning rate over m's correction), `c` v's correction, and `d` the decay of each number.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata};
use burn::tensor::Tensor;

use super::backend::KernelBackend;
use super::cpu::{self, Level, PARALLEL_ELEMENTS, Task, fma};

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
    );
    [parameters, first, second].map(Tensor::from_dispatch)
}

// ---- Portable definition

pub(super) fn portable<B: Backend>(
    parameters: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    gradient: FloatTensor<B>,
    decayed: FloatTensor<B>,
    numbers: AdamWNumbers,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay } = numbers;
    let times = |tensor: FloatTensor<B>, factor: f32| B::float_mul_scalar(tensor, factor.into());
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
    numbers: AdamWNumbers,
}

impl Task for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Level>(self) {
        let AdamWNumbers { beta_1, beta_2, epsilon, step_size, correction_2, decay } = self.numbers;
        let inverse = 1.0 / correction_2;
        let moments = self.first.iter_mut().zip(self.second);
        for (((p, (m, v)), g), decayed) in self.parameters.iter_mut().zip(moments).zip(self.gradient).zip(self.decayed)
        {
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
        let parallel = p.len() >= PARALLEL_ELEMENTS;
        let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
        let parts = p.chunks_mut(CHUNK).zip(moments).zip(g.chunks(CHUNK).zip(d.chunks(CHUNK)));
        cpu::for_each(parts, parallel, |((parameters, (first, second)), (gradient, decayed))| {
            cpu::run(Update { parameters, first, second, gradient, decayed, numbers });
        });
    }
    (parameters, first, second)
}
