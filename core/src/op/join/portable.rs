//! The definition in tensor operations.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Slice, TensorMetadata};

/// Vectors in one dispatch. Together with the result they are as many storage buffers as every device supports.
pub(super) const VECTORS: usize = 6;

/// The places of the vectors of one dispatch, and how many of them are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub starts: [usize; VECTORS],
    pub count: usize,
}

/// `joined`, with the used `pieces` in their places.
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
