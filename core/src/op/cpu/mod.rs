//! The shared parts of the CPU paths: vector instructions, matrix products for operands in a cache, threads, and the conversion
//! from and to Flex tensors.
//!
//! Invariants
//! * Only the shapes decide how work is divided, and every sum has one order. So results do not depend on the number of threads.
//! * Tensors that are not contiguous `f32` use the portable definition.

mod lanes;
#[cfg(any(test, target_family = "wasm"))]
mod panels;
mod product;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{DType, Flex, Shape, TensorMetadata};
use burn::tensor::TensorData;

pub(super) use lanes::{LANES, Level, Task, exp, fma, fold2, largest, run, total};
#[cfg(target_family = "wasm")]
pub(super) use panels::by_panels;
pub(super) use product::{Strided, product};

/// Number of elements below which a second thread does not pay off in an element-wise operation.
pub(super) const PARALLEL_ELEMENTS: usize = 32 * 1024;

/// Runs `work` on each of `parts`, on all threads if `parallel`. The parts are independent, so they may run in any order.
pub(in crate::op) fn for_each<T: Send>(parts: impl Iterator<Item = T>, parallel: bool, work: impl Fn(T) + Send + Sync) {
    #[cfg(feature = "native")]
    if parallel {
        use rayon::prelude::*;
        let parts: Vec<T> = parts.collect();
        return parts.into_par_iter().for_each(work);
    }
    let _ = parallel;
    parts.for_each(work);
}

/// The tensor in row-major order, without gaps.
pub(in crate::op) fn contiguous(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a contiguous tensor, or `None` if they are not `f32`.
pub(in crate::op) fn numbers(tensor: &FloatTensor<Flex>) -> Option<&[f32]> {
    tensor.as_slice::<f32>()
}

/// A matrix with its strides, or `None` if it is not `f32` or a stride is negative.
#[cfg(target_family = "wasm")]
pub(in crate::op) fn strided(matrix: &FloatTensor<Flex>) -> Option<Strided<'_>> {
    if matrix.dtype() != DType::F32 {
        return None;
    }
    let layout = matrix.layout();
    let [row, column] = layout.strides().try_into().ok()?;
    let values = matrix.storage::<f32>().get(layout.start_offset()..)?;
    Some(Strided { values, row: isize::try_into(row).ok()?, column: isize::try_into(column).ok()? })
}

/// A tensor of `values`.
pub(in crate::op) fn tensor(values: Vec<f32>, shape: Shape) -> FloatTensor<Flex> {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// The numbers of `tensor`, if no other tensor shares them. A result may then overwrite them.
pub(in crate::op) fn exclusive(tensor: &mut FloatTensor<Flex>) -> Option<&mut [f32]> {
    let elements = tensor.shape().num_elements();
    if tensor.dtype() != DType::F32 || !tensor.is_contiguous() || tensor.layout().start_offset() != 0 {
        return None;
    }
    tensor.try_storage_mut::<f32>()?.get_mut(..elements)
}
