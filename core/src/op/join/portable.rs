//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Slice, TensorMetadata};

/// Vectors of one dispatch: with the result, as many storage buffers as every device has.
pub(super) const VECTORS: usize = 6;

/// Where the vectors of one dispatch begin, and how many of them count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub starts: [usize; VECTORS],
    pub count: usize,
}

/// `joined` with those of `pieces` that count in their places.
pub(super) fn join<B: Backend>(
    joined: FloatTensor<B>,
    pieces: [FloatTensor<B>; VECTORS],
    places: Places,
) -> FloatTensor<B> {
    pieces.into_iter().zip(places.starts).take(places.count).fold(joined, |joined, (piece, start)| {
        let end = start + piece.shape().num_elements();
        B::float_slice_assign(joined, &[Slice::from(start..end)], piece)
    })
}
