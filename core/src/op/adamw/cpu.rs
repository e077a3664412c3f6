//! The CPU's loops. They read each vector once. If the norm is bounded, they read the gradient once more.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};

use super::AdamW;
use super::portable::{self, AdamWNumbers, NORM_EPSILON, Three};
use crate::op::cpu::{self, Level, PARALLEL_ELEMENTS, Task, fma, fold2};

/// Numbers in one task.
const CHUNK: usize = 8 * 1024;

/// Overwrites parameters and moments.
struct Update<'a> {
    parameters: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: &'a [f32],
    decayed: &'a [f32],
    /// Factor for the gradient.
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

/// The factor that scales the gradient to a norm of at most `limit`.
fn factor(gradient: &[f32], limit: f32) -> f32 {
    if limit == f32::INFINITY {
        return 1.0;
    }
    let mut sums = vec![0.0; gradient.len().div_ceil(CHUNK)];
    let parts = gradient.chunks(CHUNK).zip(&mut sums);
    cpu::for_each(parts, gradient.len() >= PARALLEL_ELEMENTS, |(part, sum)| *sum = cpu::run(Squares(part)));
    let norm = sums.iter().sum::<f32>().sqrt() + NORM_EPSILON;
    // A comparison keeps a NaN; `min` would not.
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

impl AdamW for Flex {
    fn adamw(
        parameters: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        decayed: FloatTensor<Self>,
        numbers: AdamWNumbers,
    ) -> Three<Self> {
        let [parameters, first, second, gradient, decayed] =
            [parameters, first, second, gradient, decayed].map(cpu::contiguous);
        let real = [&parameters, &first, &second].iter().all(|tensor| cpu::numbers(tensor).is_some());
        let (true, Some(g), Some(d)) = (real, cpu::numbers(&gradient), cpu::numbers(&decayed)) else {
            return portable::update::<Self>(parameters, first, second, gradient, decayed, numbers);
        };
        // Copied if another tensor shares the memory, such as the network's views of the parameters.
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
}
