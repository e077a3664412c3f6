//! Copies many vectors into one, six in each dispatch.
//!
//! Why: the optimiser treats the gradients of a whole network as one vector. Burn's concatenation launches a copy for each of the
//! hundreds of tensors, which was more than a quarter of all launches of a training step of DeiT-Ti.
//!
//! Invariants: the numbers are only copied, so every path gives the same result.

pub(super) mod cases;
mod cpu;
mod portable;
pub(super) mod wgsl;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor};
use portable::{Places, VECTORS};

/// A vector of `length` numbers. Each of `pieces` is copied to its place. All other numbers are zero.
///
/// No gradients flow through it.
///
/// # Panics
/// If a piece does not end within `length`.
pub fn join(length: usize, pieces: Vec<(usize, Tensor<1>)>, device: &Device) -> Tensor<1> {
    for (start, piece) in &pieces {
        let [count] = piece.dims();
        assert!(start + count <= length, "join: {count} numbers at {start} do not fit {length}");
    }
    let mut joined = Tensor::<1>::zeros([length], device).into_dispatch();
    for some in pieces.chunks(VECTORS) {
        // Vectors past the last are not copied.
        let piece = |index: usize| some.get(index).unwrap_or(&some[0]).1.clone().into_dispatch();
        let starts = std::array::from_fn(|index| some.get(index).map_or(0, |(start, _)| *start));
        let [a, b, c, d, e, f] = std::array::from_fn(piece);
        joined = Dispatch::join_six(joined, a, b, c, d, e, f, Places { starts, count: some.len() });
    }
    Tensor::from_dispatch(joined)
}

/// No gradients flow through it.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"))]
pub(crate) trait Join: Backend {
    /// Copies vectors into `joined`, each to its start.
    #[fusion(dtype = joined, shape = joined)]
    #[allow(clippy::too_many_arguments)]
    fn join_six(
        joined: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        places: Places,
    ) -> FloatTensor<Self> {
        portable::join::<Self>(joined, [a, b, c, d, e, f], places)
    }
}
